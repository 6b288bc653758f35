//! A folder of the host and what is below it, for those who show or take the names of others: no path leads out of it.
//!
//! Paths are relative to the folder. Links are not followed, `..` leads nowhere (`openat2` with `RESOLVE_BENEATH` and
//! `RESOLVE_NO_SYMLINKS`, Linux 5.6). A simulated machine has none.
//!
//! Changes of names are durable after [`Folder::sync`] of the folders that hold them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    Access, AtFlags, Dir, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::Errno;

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

    /// Whether names in the folder itself can be changed, as far as its permissions and its file system say.
    pub async fn may_change(&self) -> io::Result<()> {
        let folder = self.0.clone();
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        blocking(move || Ok(rustix::fs::accessat(&folder, ".", wanted, AtFlags::EACCESS)?)).await
    }

    /// What a name below leads to; of a link, what the link is.
    pub async fn stat(&self, path: &Path) -> io::Result<FileStat> {
        self.at(path, |parent, name| {
            Ok(osfile::file_stat(&rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?))
        })
        .await
    }

    /// Makes a file below, which must not be there yet, for reading and writing, with mode 0644 less the umask.
    pub async fn create_file(&self, path: &Path) -> io::Result<File> {
        self.at(path, |parent, name| {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))?;
            osfile::of_fd(fd, &OpenOptions::read_write())
        })
        .await
    }

    /// Makes a folder below, with this mode less the umask.
    pub async fn create_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.at(path, move |parent, name| Ok(rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode))?))
            .await
    }

    /// Gives what is below another name below, which must not be there yet. Where the file system can't promise that (NFS), it is
    /// looked for first.
    pub async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (folder, from, to) = (self.0.clone(), from.to_owned(), to.to_owned());
        blocking(move || {
            let ((old_parent, old), (new_parent, new)) = (parent(&folder, &from)?, parent(&folder, &to)?);
            match rustix::fs::renameat_with(&old_parent, old, &new_parent, new, RenameFlags::NOREPLACE) {
                Err(Errno::INVAL | Errno::NOSYS) => {
                    match rustix::fs::statat(&new_parent, new, AtFlags::SYMLINK_NOFOLLOW) {
                        Err(Errno::NOENT) => {}
                        found => return found.and(Err(Errno::EXIST)).map_err(io::Error::from),
                    }
                    Ok(rustix::fs::renameat(&old_parent, old, &new_parent, new)?)
                }
                result => Ok(result?),
            }
        })
        .await
    }

    /// Removes the name of a file below.
    pub async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.at(path, |parent, name| Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)).await
    }

    /// Removes a folder below, which must be empty.
    pub async fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.at(path, |parent, name| Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)).await
    }

    /// Sets the permission bits of a regular file below.
    pub async fn set_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.on_file(path, move |fd| Ok(rustix::fs::fchmod(fd, Mode::from_raw_mode(mode & 0o7777))?)).await
    }

    /// Sets when the content of a regular file below is told to have been changed last, in ns since 1970.
    pub async fn set_modified(&self, path: &Path, modified_ns: i64) -> io::Result<()> {
        let unchanged = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let (tv_sec, tv_nsec) =
            (modified_ns.div_euclid(1_000_000_000), modified_ns.rem_euclid(1_000_000_000));
        let times = Timestamps {
            last_access: unchanged,
            last_modification: Timespec { tv_sec, tv_nsec: tv_nsec as _ },
        };
        self.on_file(path, move |fd| Ok(rustix::fs::futimens(fd, &times)?)).await
    }

    /// Gives a regular file below the permission bits of another one (not those of set-user-ID and the like: the content is new), and its owner and group where this process may do that.
    pub async fn dress_like(&self, path: &Path, model: &Path) -> io::Result<()> {
        let (folder, model) = (self.0.clone(), model.to_owned());
        self.on_file(path, move |fd| {
            let (parent, name) = parent(&folder, &model)?;
            let like = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let own = rustix::fs::fstat(&fd)?;
            if (own.st_uid, own.st_gid) != (like.st_uid, like.st_gid) {
                let owner = rustix::process::Uid::from_raw(like.st_uid);
                let group = rustix::process::Gid::from_raw(like.st_gid);
                match rustix::fs::fchown(&fd, Some(owner), Some(group)) {
                    Err(Errno::PERM) => {}
                    result => result?,
                }
            }
            Ok(rustix::fs::fchmod(&fd, Mode::from_raw_mode(like.st_mode & 0o777))?)
        })
        .await
    }

    /// Makes the names in a folder below durable. Where a file system can't do that, the sync of the files must suffice.
    pub async fn sync(&self, path: &Path) -> io::Result<()> {
        let (folder, path) = (self.0.clone(), path.to_owned());
        blocking(move || {
            match rustix::fs::fsync(open_below(&folder, &path, FOLDER)?).map_err(io::Error::from) {
                Err(e) if crate::fs::is_no_sync(&e) => Ok(()),
                result => result,
            }
        })
        .await
    }

    /// Makes all that was written to the file system of the folder durable.
    pub async fn sync_all(&self) -> io::Result<()> {
        let folder = self.0.clone();
        blocking(move || Ok(rustix::fs::syncfs(&folder)?)).await
    }

    /// Does something with a name in its folder.
    async fn at<T: Send + 'static>(
        &self,
        path: &Path,
        change: impl FnOnce(&OwnedFd, &OsStr) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (folder, path) = (self.0.clone(), path.to_owned());
        blocking(move || {
            let (parent, name) = parent(&folder, &path)?;
            change(&parent, name)
        })
        .await
    }

    /// Does something with a regular file.
    async fn on_file(
        &self,
        path: &Path,
        change: impl FnOnce(OwnedFd) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let (folder, path) = (self.0.clone(), path.to_owned());
        blocking(move || {
            let fd = open_below(
                &folder,
                &path,
                OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
            )?;
            change(fd)
        })
        .await
    }
}

/// The folder that a name lies in, and the name without a path.
fn parent<'a>(folder: &OwnedFd, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
    let none = || io::Error::new(io::ErrorKind::InvalidInput, "it is no name in a folder");
    let name = path.file_name().ok_or_else(none)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((open_below(folder, path.parent().unwrap_or(Path::new("")), flags)?, name))
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

    #[test]
    fn names_are_changed_inside_only_and_never_replace_others() {
        let root = std::env::temp_dir().join(format!("cairn-folder-changes-{}", std::process::id()));
        std::fs::remove_dir_all(&root).ok();
        std::fs::create_dir_all(root.join("shown/below")).unwrap();
        std::fs::create_dir(root.join("outside")).unwrap();
        std::fs::write(root.join("secret"), "s").unwrap();
        symlink("../outside", root.join("shown/way")).unwrap();
        symlink("../secret", root.join("shown/link")).unwrap();
        crate::block_on_control(async {
            let folder = Folder::open(&root.join("shown")).await.unwrap();
            folder.may_change().await.unwrap();
            let (a, b) = (Path::new("below/a"), Path::new("b"));
            folder.create_file(a).await.unwrap().write_all(0, b"text").await.unwrap();
            assert!(folder.create_file(a).await.is_err());
            folder.create_folder(b, 0o700).await.unwrap();
            assert_eq!(folder.rename(a, b).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(folder.stat(a).await.unwrap().len, 4);
            folder.set_mode(a, 0o400).await.unwrap();
            folder.set_modified(a, 1_500_000_000_000_000_001).await.unwrap();
            folder.create_file(Path::new("c")).await.unwrap();
            folder.dress_like(Path::new("c"), a).await.unwrap();
            let (stat, dressed) = (folder.stat(a).await.unwrap(), folder.stat(Path::new("c")).await.unwrap());
            assert_eq!((stat.mode & 0o7777, stat.modified_ns), (0o400, 1_500_000_000_000_000_001));
            assert_eq!(dressed.mode & 0o7777, 0o400);
            assert!(folder.remove_folder(Path::new("below")).await.is_err());
            folder.rename(a, Path::new("b/a")).await.unwrap();
            folder.remove_folder(Path::new("below")).await.unwrap();
            folder.sync(b).await.unwrap();
            folder.sync(Path::new("")).await.unwrap();
            folder.remove_file(Path::new("b/a")).await.unwrap();
            for path in ["..", "../x", "way/x", "/x", "", ".", "b/.."] {
                let path = Path::new(path);
                assert!(folder.create_file(path).await.is_err(), "{path:?}");
                assert!(folder.create_folder(path, 0o700).await.is_err(), "{path:?}");
                assert!(folder.rename(Path::new("c"), path).await.is_err(), "{path:?}");
                assert!(folder.remove_file(path).await.is_err(), "{path:?}");
            }
            assert!(folder.set_mode(Path::new("link"), 0o777).await.is_err());
            assert_eq!(folder.stat(Path::new("link")).await.unwrap().kind, FileKind::Other);
        });
        assert_eq!(std::fs::read_dir(root.join("outside")).unwrap().count(), 0);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
