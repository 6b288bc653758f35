//! The files of a confined process: opened before it was confined, and found again by the name they were opened by.
//!
//! A file has several descriptors of its own, so that each open gets flags and locks apart from the others'; the last one
//! is copied.
//!
//! Bounds: [`SPARE`] descriptors a file and kind of access.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{OFlags, Stat};

use crate::file::OpenOptions;
use crate::sys;

/// How often a file is opened beforehand, for reading and for writing: for data, for locks, and for both once more while the
/// file of a new image is made.
const SPARE: usize = 4;

/// What a confined process may do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Read and write it. It must be there.
    Write,
    /// Read and write it. It is made where it is not there.
    Make,
}

/// A file of a confined process.
pub(crate) struct Held {
    /// The name by which it is found.
    pub(crate) path: PathBuf,
    readers: Vec<OwnedFd>,
    writers: Vec<OwnedFd>,
    /// It was made by [`Held::open`].
    pub(crate) made: bool,
    /// It was made, and nobody in the confined process has asked for a new file of this name yet.
    is_new: bool,
}

/// The files of this process, where it is confined.
static FILES: Mutex<Option<Vec<Held>>> = Mutex::new(None);

/// From now on opening and looking at files finds these and no others.
pub(crate) fn confine(files: Vec<Held>) {
    *FILES.lock() = Some(files);
}

/// Whether there are such files.
pub(crate) fn is_confined() -> bool {
    FILES.lock().is_some()
}

impl Held {
    /// Opens a file by its name; links are followed. `judge` may refuse what is there by what it is, before it is opened.
    pub(crate) fn open(
        path: &Path,
        access: Access,
        judge: impl FnOnce(&Stat) -> io::Result<()>,
    ) -> io::Result<Held> {
        let flags = |access: OFlags| access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let new = || sys::open(path, flags(OFlags::RDWR) | OFlags::CREATE | OFlags::EXCL, 0o644);
        let mut made = None;
        if access == Access::Make {
            match new() {
                Ok(fd) => made = Some(fd),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        judge(&sys::stat(path)?)?;
        let several = |access| -> io::Result<Vec<OwnedFd>> {
            (0..SPARE).map(|_| sys::open(path, flags(access), 0)).collect()
        };
        let readers = several(OFlags::RDONLY)?;
        let mut writers = if access == Access::Read { Vec::new() } else { several(OFlags::RDWR)? };
        let is_made = made.is_some();
        writers.extend(made);
        let held = Held { path: path.into(), readers, writers, made: is_made, is_new: is_made };
        held.check_same()?;
        Ok(held)
    }

    /// Refuses a name that led to different files while it was opened.
    fn check_same(&self) -> io::Result<()> {
        let mut first = None;
        for fd in self.readers.iter().chain(&self.writers) {
            let stat = sys::fstat(fd.as_fd())?;
            let this = (stat.st_dev, stat.st_ino);
            if *first.get_or_insert(this) != this {
                let text = "the file was replaced by another one while it was opened";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        Ok(())
    }

    /// The numbers of its descriptors.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        self.readers.iter().chain(&self.writers).map(OwnedFd::as_raw_fd)
    }

    /// One of its descriptors.
    pub(crate) fn any(&self) -> io::Result<BorrowedFd<'_>> {
        self.readers.first().map(OwnedFd::as_fd).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// The answer of `ask` about a file of this process; `None` where the process is not confined.
fn with<T>(path: &Path, ask: impl FnOnce(&mut Held) -> io::Result<T>) -> Option<io::Result<T>> {
    let mut files = FILES.lock();
    let files = files.as_mut()?;
    let refused = || {
        let text = "the process is confined to the files that its command line names";
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    };
    // A name that was made absolute meanwhile means the same file.
    let same =
        |held: &&mut Held| held.path == path || std::path::absolute(&held.path).is_ok_and(|p| p == path);
    Some(files.iter_mut().find(same).map_or_else(refused, ask))
}

/// A descriptor for a file of this process; `None` where the process is not confined.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Option<io::Result<OwnedFd>> {
    with(path, |held| {
        if options.create_new && !std::mem::take(&mut held.is_new) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let fds = if options.write { &mut held.writers } else { &mut held.readers };
        // The last one stays, to be asked and copied.
        let fd = match (fds.len(), fds.last()) {
            (_, None) => return Err(io::Error::from_raw_os_error(libc::EACCES)),
            (1, Some(last)) => last.try_clone()?,
            _ => fds.pop().ok_or_else(|| io::Error::from_raw_os_error(libc::EACCES))?,
        };
        if options.truncate {
            sys::ftruncate(fd.as_fd(), 0)?;
        }
        Ok(fd)
    })
}

/// What a file of this process is; `None` where the process is not confined.
pub(crate) fn stat(path: &Path) -> Option<io::Result<Stat>> {
    with(path, |held| sys::fstat(held.any()?))
}

/// Accepts the removal of a file that was made for this process: who confined it removes the file, as the process fails.
/// `None` where the process is not confined.
pub(crate) fn unlink(path: &Path) -> Option<io::Result<()>> {
    with(path, |held| match held.made {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EACCES)),
    })
}
