//! FUSE exports: a node as a regular file, mounted over another one.
//!
//! ```text
//! FuseKind ─ mount ─▶ devices of /dev/fuse ─▶ one Channel a worker ─▶ File ─▶ Backend
//!                                                        └ unmounted by others: the export ends
//! ```
//!
//! The file that is mounted over may be the image itself: it stays open below. One file carries one export of this program.
//! The export ends with its file: whoever has it open sees ENOTCONN from then on, and does not keep it from being removed.
//!
//! Modules: [`wire`] what goes over the device; [`file`] what a node is as a file; [`channel`] serves one device; [`room`]
//! bounds what waits.

mod channel;
mod file;
mod room;
mod wire;

use crate::error::ExportError;
use crate::export::{Export, ExportKind, ExportTerms};
use crate::registry::ExportSpec;
use block::{Perms, Share};
use channel::{Channel, End};
use event_listener::Event;
use file::File;
use futures_util::lock::Mutex as Lock;
use parking_lot::Mutex;
use rt::fuse::{Device, MountOptions, unmount};
use rt::{BoxFuture, FileKind, JoinHandle, Target};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// Whether users other than the program's may use the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AllowOther {
    /// They may, if the system lets the program say so.
    #[default]
    Auto,
    /// They may, or there is no export.
    On,
    /// They may not.
    Off,
}

/// Options of FUSE exports, and the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FuseKind {
    /// The regular file that is mounted over.
    pub mountpoint: PathBuf,
    /// What is written beyond the end makes the node longer.
    pub growable: bool,
    /// Who may use it.
    pub allow_other: AllowOther,
}

/// A FUSE export that could not be made.
#[derive(Debug, thiserror::Error)]
enum FuseError {
    #[error("There already is a FUSE export on '{}'", .0.display())]
    Taken(PathBuf),
    #[error("Failed to stat '{}': {}", path.display(), crate::error::words(error))]
    Stat { path: PathBuf, error: io::Error },
    #[error("'{}' is not a regular file", .0.display())]
    NoFile(PathBuf),
    #[error("Failed to mount a FUSE export over '{}': {}", path.display(), crate::error::words(error))]
    Mount { path: PathBuf, error: io::Error },
}

impl From<FuseError> for ExportError {
    fn from(error: FuseError) -> Self {
        Self::of_kind(error)
    }
}

/// Files that exports of this program are mounted over, by their paths without symbolic links.
static TAKEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A file that is mounted over, or about to be, by this export alone.
struct Mountpoint(PathBuf);

impl Mountpoint {
    async fn take(path: &Path) -> Result<Self, FuseError> {
        let given = path.to_owned();
        // Absolute, as a program that goes to the background changes its working directory; and what it names now, even if a
        // symbolic link is changed later.
        let real = rt::blocking(move || given.canonicalize()).await;
        let real = real.map_err(|error| FuseError::Stat { path: path.to_owned(), error })?;
        match TAKEN.lock().insert(real.clone()) {
            true => Ok(Self(real)),
            false => Err(FuseError::Taken(path.to_owned())),
        }
    }
}

impl Drop for Mountpoint {
    fn drop(&mut self) {
        TAKEN.lock().remove(&self.0);
    }
}

impl FuseKind {
    /// Mounts; tells whether others may use the file.
    async fn mount(&self, path: &Path) -> Result<(Device, bool), FuseError> {
        let options = |allow_other| MountOptions { allow_other, max_read: wire::MOST_DATA as u32 };
        let error = |error| FuseError::Mount { path: self.mountpoint.clone(), error };
        let others = self.allow_other != AllowOther::Off;
        match Device::mount(path, options(others)).await {
            Ok(device) => Ok((device, others)),
            Err(_) if self.allow_other == AllowOther::Auto => {
                Ok((Device::mount(path, options(false)).await.map_err(error)?, false))
            }
            Err(refused) => Err(error(refused)),
        }
    }
}

impl ExportKind for FuseKind {
    fn name(&self) -> &'static str {
        "fuse"
    }

    /// Its users see the length as it is, so anybody may change it.
    fn perms(&self, writable: bool) -> Perms {
        let write = if writable { Share::READ.union(Share::WRITE) } else { Share::READ };
        let need = if self.growable { write.union(Share::RESIZE) } else { write };
        Perms { need, share: Share::ALL }
    }

    fn check(&self, _: &ExportSpec) -> Result<(), ExportError> {
        Ok(())
    }

    fn start(
        self: Box<Self>,
        terms: ExportTerms,
    ) -> BoxFuture<'static, Result<Arc<dyn Export>, ExportError>> {
        Box::pin(async move {
            let mountpoint = Mountpoint::take(&self.mountpoint).await?;
            match rt::fs::stat(&mountpoint.0).await {
                Ok(stat) if stat.kind == FileKind::Regular => {}
                Ok(_) => return Err(FuseError::NoFile(self.mountpoint).into()),
                Err(error) => return Err(FuseError::Stat { path: self.mountpoint, error }.into()),
            }
            let (device, others) = self.mount(&mountpoint.0).await?;
            let mut devices = vec![device];
            // One device is enough; more let several workers take requests.
            while devices.len() < rt::worker_count()
                && let Ok(another) = devices[0].another()
            {
                devices.push(another);
            }
            let (ended, gone) = (terms.ended.clone(), Arc::new(AtomicBool::new(false)));
            let file = Arc::new(File::new(terms, self.growable, others));
            let closing = Arc::new(Event::new());
            let devices: Vec<_> = devices.into_iter().map(Arc::new).collect();
            let tasks = devices.iter().enumerate().map(|(worker, device)| {
                let (file, closing) = (file.clone(), closing.clone());
                let channel = Channel { device: device.clone(), file, closing };
                let (gone, ended) = (gone.clone(), ended.clone());
                rt::spawn_on(Target::Worker(worker), async move {
                    if channel.serve().await == End::Gone {
                        gone.store(true, Release);
                        ended.tell();
                    }
                })
            });
            let serving = Serving { tasks: tasks.collect(), devices };
            let serving = Lock::new(Some(serving));
            Ok(Arc::new(FuseExport { mountpoint, file, closing, gone, serving }) as Arc<dyn Export>)
        })
    }
}

/// A file that is served.
struct FuseExport {
    mountpoint: Mountpoint,
    file: Arc<File>,
    closing: Arc<Event>,
    /// The file was unmounted by somebody else.
    gone: Arc<AtomicBool>,
    serving: Lock<Option<Serving>>,
}

/// The devices of the mount, which is broken when the last one is dropped, and what serves them.
struct Serving {
    devices: Vec<Arc<Device>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Export for FuseExport {
    /// Open files are no clients: what is unmounted leaves them behind.
    fn close_if_unused(&self) -> bool {
        true
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut serving = self.serving.lock().await;
            let Some(Serving { devices, tasks }) = serving.take() else { return };
            // While requests are still served: finding the file may need an answer. What others have mounted over the file
            // after they unmounted this is not taken away.
            if devices.iter().all(|device| device.is_connected())
                && let Err(error) = unmount(&self.mountpoint.0).await
            {
                let path = self.mountpoint.0.display();
                tracing::error!(export = self.file.id(), %error, "'{path}' could not be unmounted; use 'umount -l'");
            }
            channel::close(&self.file, &self.closing);
            for task in tasks {
                // Whether or not it panicked, it has ended.
                let _ = task.await;
            }
        })
    }

    fn is_cut_off(&self) -> bool {
        self.gone.load(Acquire)
    }
}
