//! Names: open, stat, unlink, rename, and durable directories, through the current worker.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::file::{File, FileKind, FileStat, OpenOptions};
use crate::worker::expect_current;
use crate::{held, osfile, sys};

/// The path that a file name given as text means ([`codec::filename`]), for calls that do not pass through here.
pub fn path(name: impl AsRef<Path>) -> PathBuf {
    let bytes = name.as_ref().as_os_str().as_bytes();
    PathBuf::from(OsString::from_vec(codec::filename::bytes(bytes).into_owned()))
}

/// Opens what a file name given as text means, for reading by a thread that may wait: a regular file, and also a pipe or a
/// terminal. It waits for no writer, and reads of what is empty yet are
/// [`WouldBlock`](std::io::ErrorKind::WouldBlock).
pub fn open_source(name: &str) -> io::Result<std::fs::File> {
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path(name))
}

/// The content of a file, which others may replace by anything. It waits for no writer of a pipe.
///
/// # Errors
/// `InvalidData` where there are more than `most` bytes; the system's.
pub fn read_bounded(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    // Room for all of it from the start: where it is a key, no shorter copy stays behind in memory.
    let mut bytes = Vec::with_capacity(file.metadata()?.len().min(most) as usize + 1);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is larger than {most} bytes")));
    }
    Ok(bytes)
}

/// The absolute form of a file name, as text like `name` itself. Links are not followed.
pub fn absolute(name: &str) -> String {
    std::path::absolute(path(name))
        .map_or_else(|_| name.to_owned(), |path| codec::filename::text(path.as_os_str().as_bytes()))
}

/// Makes an empty file that nobody else can read, in `$TMPDIR` or else where files may be large, with a name that ends with
/// `suffix`. The name is answered in any case.
pub fn make_temporary(suffix: &str) -> (PathBuf, io::Result<()>) {
    let folder = std::env::var_os("TMPDIR").filter(|folder| !folder.is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let path = folder.join(format!("cairn-{:016x}{suffix}", crate::random_u64()));
    let made = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
    (path, made.map(drop))
}

/// Makes a file that has no name, in this folder, to be read and written by this process alone: it ends with its last handle.
/// Waits where it must.
pub fn make_unnamed(folder: &Path) -> io::Result<File> {
    let mut options = std::fs::File::options();
    options.read(true).write(true).mode(0o600);
    // `O_EXCL` here: no name can be given to it later.
    let made = options.clone().custom_flags(libc::O_TMPFILE | libc::O_EXCL).open(folder);
    let file = match made {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            // A file system that has none without a name.
            let path = folder.join(format!(".cairn-{:016x}", crate::random_u64()));
            let file = options.create_new(true).open(&path)?;
            std::fs::remove_file(path)?;
            file
        }
        made => made?,
    };
    osfile::of_fd(file.into(), &OpenOptions::read_write())
}

/// Opens a regular file or a device. FIFOs, sockets and directories are refused, never waited on.
///
/// # Panics
/// Outside of a runtime, as all functions of this module.
pub async fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    expect_current().open(path, options).await
}

/// What `path` is, links followed; never opens it, so it never waits on a FIFO.
pub async fn stat(path: &Path) -> io::Result<FileStat> {
    expect_current().stat(path).await
}

/// Removes a name.
pub async fn unlink(path: &Path) -> io::Result<()> {
    expect_current().unlink(path).await
}

/// Renames `from` to `to`, replacing it.
pub async fn rename(from: &Path, to: &Path) -> io::Result<()> {
    expect_current().rename(from, to).await
}

/// The user that this process acts as.
pub fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The group that this process acts as.
pub fn group() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Makes the names in a directory durable: what was created, renamed or removed in it.
pub async fn sync_dir(dir: &Path) -> io::Result<()> {
    expect_current().sync_dir(dir).await
}

/// Makes the name of a new, renamed or removed file durable. A folder that may not be read can't be synced, nor can any in some
/// file systems: there the sync of the file must suffice.
pub async fn sync_name(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match sync_dir(folder.unwrap_or(Path::new("."))).await {
        Err(e) if is_no_sync(&e) => {
            tracing::debug!(path = %path.display(), error = %e, "the folder of a file can't be synced");
            Ok(())
        }
        result => result,
    }
}

/// Whether an error means that a folder can't be synced at all.
pub(crate) fn is_no_sync(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
    )
}

/// What the file of this name is, links followed; waits where it must. It can be asked outside of a runtime, too.
pub fn kind(name: &str) -> io::Result<FileKind> {
    let path = Path::new(name);
    let stat = held::stat(path).unwrap_or_else(|| sys::stat(path))?;
    Ok(osfile::file_stat(&stat).kind)
}

/// Whether a CD drive has this name, with a disc in it or without; waits where it must. It can be asked outside of a runtime, too.
pub fn is_cd_drive(name: &str) -> bool {
    let path = Path::new(name);
    held::stat(path).is_none() && osfile::is_cd_drive(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_name_is_in_no_folder_and_nobody_else_s() {
        let folder = std::env::temp_dir().join(format!("cairn-unnamed-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let file = make_unnamed(&folder).unwrap();
        assert_eq!(file.stat().unwrap().mode & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        std::fs::remove_dir(&folder).unwrap();
        assert!(make_unnamed(&folder).is_err());
    }

    #[test]
    fn an_absolute_name_stands_for_the_same_bytes() {
        let folder = std::env::current_dir().unwrap();
        let name = b"d/n\xff\xc3.raw".as_slice();
        let whole = absolute(&codec::filename::text(name));
        assert_eq!(path(whole).as_os_str().as_bytes(), [folder.as_os_str().as_bytes(), b"/", name].concat());
        assert_eq!(absolute("/a"), "/a");
    }
}
