//! `/dev/fuse`: the kernel's requests about a regular file that this program serves, mounted over another one.
//!
//! ```text
//!   mount ──▶ Device ──clone──▶ Device    each gets requests of the one mount, and takes replies to any of them
//!   the last Device of a mount is dropped, or the mount is taken away ──▶ whoever still uses the file sees ENOTCONN
//! ```
//!
//! Who may not mount asks `fusermount3` (package fuse3) to do it, as all file systems in user space do.

use std::ffi::CString;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;

use crate::blocking::blocking;
use crate::net::{receive_descriptor, set_nonblocking};
use crate::source::Source;
use crate::sys;

const DEVICE: &str = "/dev/fuse";
const HELPER: &str = "fusermount3";
/// `FUSE_DEV_IOC_CLONE`: makes an open `/dev/fuse` one more device of the mount of another one.
const CLONE: u64 = 0x8004_e500;

/// What may be done through a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// Users other than this process's may use the file, as far as its permissions let them.
    pub allow_other: bool,
    /// Most bytes of one read.
    pub max_read: u32,
}

/// A device of a mount.
pub struct Device {
    source: Source,
}

impl Device {
    /// Mounts a file system that is one regular file over the regular file `path`. Its first request, FUSE_INIT, waits to
    /// be received. `path` is absolute.
    ///
    /// # Errors
    /// The system's, in words that name what failed.
    pub async fn mount(path: &Path, options: MountOptions) -> io::Result<Device> {
        let path = path.to_owned();
        let fd = blocking(move || mount(&path, options)).await?;
        Ok(Device { source: Source::new(fd) })
    }

    /// One more device of the same mount.
    pub fn another(&self) -> io::Result<Device> {
        let fd = open()?;
        // A raw descriptor is never negative.
        sys::ioctl_set(fd.as_fd(), CLONE, &(self.source.as_fd().as_raw_fd() as u32))?;
        Ok(Device { source: Source::new(fd) })
    }

    /// Receives the next request: `head` is filled first, then `rest`. `WouldBlock` when there is none; ENODEV when the file
    /// is mounted no more and nobody has it open.
    pub fn try_receive(&self, head: &mut [u8], rest: &mut [u8]) -> io::Result<usize> {
        let call = || {
            let parts = &mut [IoSliceMut::new(head), IoSliceMut::new(rest)];
            Ok(rustix::io::readv(self.source.as_fd(), parts)?)
        };
        self.source.readiness.read.attempt(call, |_| true)
    }

    /// Waits until [`try_receive`](Device::try_receive) is worth a try.
    pub async fn readable(&self) -> io::Result<()> {
        self.source.readable().await
    }

    /// Sends one reply, in parts. Never waits.
    pub fn reply(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        rustix::io::writev(self.source.as_fd(), parts)?;
        Ok(())
    }

    /// Whether the mount, or somebody who has the file open, is still there.
    pub fn is_connected(&self) -> bool {
        let now = Timespec::default();
        let mut polled = [PollFd::from_borrowed_fd(self.source.as_fd(), PollFlags::empty())];
        let told = rustix::event::poll(&mut polled, Some(&now));
        !told.is_ok_and(|n| n > 0)
    }
}

/// Takes the mount over `path` away; whoever has the file open may still use it.
pub async fn unmount(path: &Path) -> io::Result<()> {
    let path: PathBuf = path.to_owned();
    blocking(move || {
        let name = sys::c_path(&path)?;
        // SAFETY: the name is a C string that outlives the call.
        let done = unsafe { libc::umount2(name.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) };
        match sys::check(done) {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                helper(Command::new(HELPER).args(["-u", "-z", "-q", "--"]).arg(&path))
            }
            done => done.map(drop),
        }
    })
    .await
}

fn open() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    sys::open(Path::new(DEVICE), flags, 0).map_err(|error| named(&error, DEVICE))
}

/// The error with words that name what it is about; it keeps its kind.
fn named(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn mount(path: &Path, options: MountOptions) -> io::Result<OwnedFd> {
    let user = rustix::process::geteuid().as_raw();
    // A user who may not mount may not even be able to open the device: the helper opens it.
    if user != 0 {
        return mount_by_helper(path, options);
    }
    let fd = open()?;
    let group = rustix::process::getegid().as_raw();
    let (number, common) = (fd.as_raw_fd(), options.text());
    let data = format!("fd={number},rootmode=100000,user_id={user},group_id={group},{common}");
    let (source, kind, data) = (c_text(DEVICE)?, c_text("fuse")?, c_text(&data)?);
    let target = sys::c_path(path)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOATIME;
    // SAFETY: all four are C strings that outlive the call.
    let done =
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) };
    match sys::check(done) {
        Ok(_) => Ok(fd),
        // Root of a container that may not mount.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => mount_by_helper(path, options)
            .map_err(|further| io::Error::new(further.kind(), format!("mount: {error}; {further}"))),
        Err(error) => Err(named(&error, "mount")),
    }
}

impl MountOptions {
    fn text(self) -> String {
        let other = if self.allow_other { "allow_other," } else { "" };
        format!("default_permissions,{other}max_read={}", self.max_read)
    }
}

/// The helper opens the device, mounts, and sends the descriptor through the socket whose number it is told.
fn mount_by_helper(path: &Path, options: MountOptions) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    let common = format!("rw,nosuid,nodev,noatime,fsname={DEVICE},{}", options.text());
    let mut command = Command::new(HELPER);
    command.args(["-o", &common, "--"]).arg(std::ffi::OsStr::from_bytes(path.as_os_str().as_bytes()));
    command.env("_FUSE_COMMFD", "0").stdin(Stdio::from(OwnedFd::from(theirs)));
    helper(&mut command)?;
    // It holds the other end: one that ended without sending is seen only when that is closed.
    drop(command);
    let fd = receive_descriptor(ours.as_fd())?;
    set_nonblocking(fd.as_fd())?;
    Ok(fd)
}

/// Runs the helper; what it complains of is the error.
fn helper(command: &mut Command) -> io::Result<()> {
    let ended = command.stdout(Stdio::null()).output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            error.kind(),
            format!("{HELPER} is not installed (package fuse3); install it or run as root"),
        ),
        _ => named(&error, HELPER),
    })?;
    if ended.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&ended.stderr);
    let words = words.trim().trim_start_matches(HELPER).trim_start_matches(": ");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{HELPER}: {words}")))
}

fn c_text(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}
