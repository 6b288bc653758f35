//! vsock: sockets between a virtual machine and its host. By hand, through `libc`: `rustix` has no such addresses.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Bytes of an address.
const LEN: libc::socklen_t = size_of::<libc::sockaddr_vm>() as libc::socklen_t;

/// A socket that closes on exec and never waits.
pub(super) fn new() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None).map_err(|error| {
        if error == rustix::io::Errno::AFNOSUPPORT {
            return io::Error::new(io::ErrorKind::Unsupported, "this system has no vsock (AF_VSOCK)");
        }
        error.into()
    })
}

fn address(cid: u32, port: u32) -> libc::sockaddr_vm {
    // SAFETY: the address is made of numbers alone, for which zero is a value.
    let mut address: libc::sockaddr_vm = unsafe { zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = cid;
    address.svm_port = port;
    address
}

/// Binds to a port.
pub(super) fn bind(fd: BorrowedFd<'_>, cid: u32, port: u32) -> io::Result<()> {
    let address = address(cid, port);
    // SAFETY: `address` lives during the call and has the length that is told.
    settle(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), LEN) })
}

/// Begins to connect; EINPROGRESS is the usual answer.
pub(super) fn connect(fd: BorrowedFd<'_>, cid: u32, port: u32) -> io::Result<()> {
    let address = address(cid, port);
    // SAFETY: `address` lives during the call and has the length that is told.
    settle(unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), LEN) })
}

/// Who is at the other end of a vsock.
pub(super) fn peer(fd: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let mut peer = address(0, 0);
    let mut len = LEN;
    // SAFETY: `peer` and `len` live during the call, and `len` is the size of `peer`.
    let done = unsafe { libc::getpeername(fd.as_raw_fd(), (&raw mut peer).cast(), &raw mut len) };
    let is_vsock = i32::from(peer.svm_family) == libc::AF_VSOCK;
    (done == 0 && is_vsock).then_some((peer.svm_cid, peer.svm_port))
}

fn settle(done: i32) -> io::Result<()> {
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
