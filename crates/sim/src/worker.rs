//! A worker of the simulated machine: the interface through which everything above finds scheduler, clock and disk.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rt::{BoxFuture, Errno, File, FileKind, FileStat, OpenOptions, Pool, Runnable, Target, Worker};

use crate::content::Content;
use crate::effect::Effect;
use crate::fault::OpKind;
use crate::file::{SimFile, file_stat};
use crate::world::{Answer, Body, Shared, Sleep};

fn errno(errno: Errno) -> io::Error {
    errno.into()
}

pub(crate) struct SimWorker {
    pub(crate) shared: Arc<Shared>,
    /// `None` for the control worker.
    pub(crate) index: Option<usize>,
}

impl SimWorker {
    /// Time passes, and a planted fault may hit.
    async fn pause(&self, kind: OpKind, what: &'static str, path: &Path) -> io::Result<()> {
        let id = {
            let mut inner = self.shared.0.lock();
            let ino = inner.disk.find(path)?.unwrap_or(0);
            inner.issue(kind, ino, what, Body::Pause, None)
        };
        Answer { shared: self.shared.clone(), id }.await.1.map(drop)
    }

    fn open_now(&self, path: &Path, options: &OpenOptions) -> io::Result<SimFile> {
        let mut inner = self.shared.0.lock();
        let (create, found) = (options.create || options.create_new, inner.disk.find(path)?);
        let ino = match found {
            Some(_) if options.create_new => return Err(errno(Errno::EXIST)),
            Some(ino) => ino,
            None if inner.disk.is_folder(path) => return Err(errno(Errno::ISDIR)),
            None if create => {
                let id = inner.next_id();
                let ino = inner.disk.create(id, path);
                inner.touched();
                ino
            }
            None => return Err(errno(Errno::NOENT)),
        };
        if options.truncate && found.is_some() {
            inner.change_now(ino, "truncate", Effect::set_len(0));
        }
        let owner = inner.next_id();
        let alignment = if options.direct { inner.config.direct_alignment } else { 1 };
        let readable = options.read || !options.write;
        let shared = self.shared.clone();
        Ok(SimFile { shared, ino, owner, readable, writable: options.write, alignment })
    }
}

impl Worker for SimWorker {
    fn schedule(&self, task: Runnable) {
        self.shared.0.lock().schedule(self.index, task);
    }

    fn place(&self, target: Target) -> (Arc<dyn Worker>, Box<dyn Send>) {
        let mut inner = self.shared.0.lock();
        let workers = inner.config.workers.max(1);
        let index = match target {
            Target::Control => None,
            Target::Worker(n) => Some(n % workers),
            Target::LeastLoaded => Some(inner.rng.index(workers)),
        };
        (Arc::new(SimWorker { shared: self.shared.clone(), index }), Box::new(()))
    }

    fn index(&self) -> Option<usize> {
        self.index
    }

    fn worker_count(&self) -> usize {
        self.shared.0.lock().config.workers.max(1)
    }

    fn engine_name(&self) -> &'static str {
        "sim"
    }

    fn now_ns(&self) -> u64 {
        self.shared.0.lock().now
    }

    fn sleep_until(&self, deadline: u64) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { shared: self.shared.clone(), deadline, timer: None })
    }

    fn random_u64(&self) -> u64 {
        self.shared.0.lock().rng.next_u64()
    }

    fn run_blocking(&self, _pool: Pool, job: Box<dyn FnOnce() + Send>) {
        self.shared.0.lock().start_job(self.index, job);
    }

    fn open<'a>(&'a self, path: &'a Path, options: &'a OpenOptions) -> BoxFuture<'a, io::Result<File>> {
        Box::pin(async move {
            self.pause(OpKind::Open, "open", path).await?;
            self.open_now(path, options).map(File::new)
        })
    }

    fn open_folder<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<OwnedFd>> {
        let text = "the simulated machine has no folders of the host";
        Box::pin(async move { Err(io::Error::new(io::ErrorKind::Unsupported, text)) })
    }

    fn stat<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<FileStat>> {
        Box::pin(async move {
            self.pause(OpKind::Open, "stat", path).await?;
            let mut inner = self.shared.0.lock();
            let ino = inner.disk.find(path)?;
            match ino.and_then(|ino| Some((ino, inner.disk.cache(ino)?))) {
                Some((ino, cache)) => Ok(file_stat(ino, cache, inner.disk.changed(ino))),
                None if inner.disk.is_folder(path) => {
                    let none = file_stat(0, &Content::default(), 0);
                    Ok(FileStat { kind: FileKind::Directory, mode: 0o040_755, ..none })
                }
                None => Err(errno(Errno::NOENT)),
            }
        })
    }

    fn unlink<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.pause(OpKind::Name, "unlink", path).await?;
            let mut inner = self.shared.0.lock();
            let id = inner.next_id();
            let found = inner.disk.unlink(id, path);
            inner.touched();
            if found { Ok(()) } else { Err(errno(Errno::NOENT)) }
        })
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.pause(OpKind::Name, "rename", from).await?;
            let mut inner = self.shared.0.lock();
            let id = inner.next_id();
            let found = inner.disk.rename(id, from, to);
            inner.touched();
            if found { Ok(()) } else { Err(errno(Errno::NOENT)) }
        })
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let id = {
                let mut inner = self.shared.0.lock();
                let covered = inner.disk.covered_names(dir);
                inner.issue(OpKind::Name, 0, "sync_dir", Body::SyncNames(covered), None)
            };
            Answer { shared: self.shared.clone(), id }.await.1.map(drop)
        })
    }
}
