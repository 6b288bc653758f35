//! A folder of the host and what is below it, for those who show or take the names of others: no path leads out of it.
//!
//! Paths are relative to the folder. Links are not followed, `..` leads nowhere (`openat2` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`, Linux 5.6). A simulated machine has none.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, Stat};

use crate::blocking::blocking;
use crate::file::{File, FileKind, FileStat, OpenOptions};
use crate::osfile;
use crate::worker::expect_current;

/// An open folder; clones share it.
#[derive(Clone, Debug)]
pub struct Folder(Arc<OwnedFd>);

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without a path.
    pub name: OsString,
    /// What it leads to; of a link, what the link is.
    pub stat: FileStat,
    /// When the content was changed last, in seconds since the beginning of 1970.
    pub modified: i64,
}

impl Folder {
    /// Opens a folder by its name, which may lead over links.
    pub async fn open(path: &Path) -> io::Result<Folder> {
        Ok(Folder(Arc::new(expect_current().open_folder(path).await?)))
    }

    /// The names in a folder below, or, with an empty path, in this one, in the order of their bytes. More than `most` are an
    /// error.
    pub async fn list(&self, path: &Path, most: usize) -> io::Result<Vec<Entry>> {
        let (folder, path) = (self.0.clone(), path.to_owned());
        blocking(move || list(&folder, &path, most)).await
    }

    /// Opens a regular file below for reading.
    pub async fn open_file(&self, path: &Path) -> io::Result<File> {
        let (folder, path) = (self.0.clone(), path.to_owned());
        blocking(move || {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let fd = open_below(&folder, &path, flags)?;
            let stat = osfile::file_stat(&crate::sys::fstat(fd.as_fd())?);
            if stat.kind != FileKind::Regular {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
            }
            osfile::of_fd(fd, &OpenOptions::read_only())
        })
        .await
    }
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open_below(folder: &OwnedFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(folder, &path, flags, Mode::empty(), resolve)?)
}

fn list(folder: &OwnedFd, path: &Path, most: usize) -> io::Result<Vec<Entry>> {
    let folder = open_below(folder, path, FOLDER)?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        // What was removed meanwhile is not there.
        let stat: Stat = match rustix::fs::statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => continue,
            stat => stat?,
        };
        if entries.len() == most {
            let text = format!("it holds more than {most} names");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        entries.push(Entry {
            name: OsString::from_vec(name.to_vec()),
            stat: osfile::file_stat(&stat),
            modified: stat.st_mtime,
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_outside_is_shown_or_opened() {
        let root = std::env::temp_dir().join(format!("cairn-folder-{}", std::process::id()));
        std::fs::remove_dir_all(&root).ok();
        std::fs::create_dir_all(root.join("shown/below")).unwrap();
        std::fs::write(root.join("secret"), "s").unwrap();
        std::fs::write(root.join("shown/below/file"), "text").unwrap();
        symlink("../secret", root.join("shown/link")).unwrap();
        symlink("below", root.join("shown/folder-link")).unwrap();
        crate::block_on_control(async {
            let folder = Folder::open(&root.join("shown")).await.unwrap();
            let listed = folder.list(Path::new(""), 9).await.unwrap();
            let kinds: Vec<_> = listed.iter().map(|e| (e.name.to_str().unwrap(), e.stat.kind)).collect();
            assert_eq!(
                kinds,
                [("below", FileKind::Directory), ("folder-link", FileKind::Other), ("link", FileKind::Other)]
            );
            assert!(folder.list(Path::new(""), 2).await.is_err());
            let file = folder.open_file(Path::new("below/file")).await.unwrap();
            assert_eq!(&*file.read_exact(0, 4).await.unwrap(), b"text");
            for path in [
                "link",
                "../secret",
                "below/../../secret",
                "folder-link/file",
                "/etc/passwd",
                "below",
                "none",
            ] {
                assert!(folder.open_file(Path::new(path)).await.is_err(), "{path}");
            }
            for path in ["..", "folder-link", "/", "below/file"] {
                assert!(folder.list(Path::new(path), 9).await.is_err(), "{path}");
            }
        });
        std::fs::remove_dir_all(&root).unwrap();
    }
}
