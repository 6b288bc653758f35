//! Socket system calls, as safe functions. None of them waits.

use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, size_of};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys::{check, check_long, owned};

/// Receives what is there.
pub(super) fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length are those of a live slice.
    let n = unsafe { libc::recv(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), libc::MSG_DONTWAIT) };
    check_long(n as i64).map(|n| n as usize)
}

/// Most descriptors taken with one message.
const DESCRIPTORS: usize = 16;

/// As [`recv`], with the descriptors that came along.
pub(super) fn recv_with_descriptors(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    const PAYLOAD: u32 = (DESCRIPTORS * size_of::<libc::c_int>()) as u32;
    // Words, for a header must be aligned.
    let mut control = [0u64; (PAYLOAD as usize + 64) / 8];
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: all-zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: only computes.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(PAYLOAD) } as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the buffers live during the call, and their lengths are what the message says.
    let n = check_long(unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, flags) } as i64)?;
    // SAFETY: the kernel has filled the control buffer, which lives; the macros stay within its length.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&message) };
    while !header.is_null() {
        // SAFETY: not null, so it is a header within the control buffer.
        let (level, kind, len) =
            unsafe { ((*header).cmsg_level, (*header).cmsg_type, (*header).cmsg_len as usize) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: only computes.
            let payload = len.saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
            for index in 0..payload / size_of::<libc::c_int>() {
                // SAFETY: the kernel has put so many numbers there; each is a new descriptor that is ours alone.
                let number =
                    unsafe { libc::CMSG_DATA(header).cast::<libc::c_int>().add(index).read_unaligned() };
                descriptors.push(owned(number)?);
            }
        }
        // SAFETY: as above.
        header = unsafe { libc::CMSG_NXTHDR(&message, header) };
    }
    Ok(n as usize)
}

/// Sends what there is room for.
pub(super) fn send(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: pointer and length are those of a live slice.
    let n = unsafe { libc::send(fd.as_raw_fd(), data.as_ptr().cast(), data.len(), flags) };
    check_long(n as i64).map(|n| n as usize)
}

/// Sends what there is room for of several parts, of which the kernel takes at most 1024 at once.
pub(super) fn send_vectored(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let parts = parts.get(..1024).unwrap_or(parts);
    // SAFETY: all-zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // `IoSlice` is an `iovec` by its documentation; the kernel only reads the vector.
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len() as _;
    // SAFETY: the vector and the slices it names live during the call.
    let n = unsafe { libc::sendmsg(fd.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    check_long(n as i64).map(|n| n as usize)
}

/// Whether a descriptor that may block is ready for `events` now.
fn is_ready(fd: BorrowedFd<'_>, events: libc::c_short) -> io::Result<()> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one element, which lives during the call.
    match check(unsafe { libc::poll(&mut poll, 1, 0) })? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// Reads from a pipe or terminal if something is there.
pub(super) fn read_if_ready(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    is_ready(fd, libc::POLLIN)?;
    read(fd, buf)
}

/// Writes to a pipe or terminal if it has room.
pub(super) fn write_if_ready(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    is_ready(fd, libc::POLLOUT)?;
    write(fd, data)
}

/// `read`.
pub(super) fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    // SAFETY: pointer and length are those of a live slice.
    let n = unsafe { libc::read(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
    check_long(n as i64).map(|n| n as usize)
}

/// `write`.
pub(super) fn write(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    // SAFETY: pointer and length are those of a live slice.
    let n = unsafe { libc::write(fd.as_raw_fd(), data.as_ptr().cast(), data.len()) };
    check_long(n as i64).map(|n| n as usize)
}

/// Ends one direction or both.
pub(super) fn shutdown(fd: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: no memory is passed.
    check(unsafe { libc::shutdown(fd.as_raw_fd(), how) }).map(drop)
}

/// The next connection of a listener.
pub(super) fn accept(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no place for the peer's address is passed.
    owned(unsafe { libc::accept4(fd.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) })
}

/// Makes calls on this open file never wait.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is passed.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    crate::sys::set_status_flags(fd, flags | libc::O_NONBLOCK)
}

/// A socket option that is a number.
pub(super) fn option(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    let place = (&mut value as *mut libc::c_int).cast();
    // SAFETY: `value` and `len` live during the call, and `len` is the size of `value`.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, place, &mut len) })?;
    Ok(value)
}

/// Sets a socket option that is a number.
pub(super) fn set_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let place = (&value as *const libc::c_int).cast();
    // SAFETY: `value` lives during the call and has that length.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, place, len) }).map(drop)
}

fn new(family: libc::c_int) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is passed.
    owned(unsafe { libc::socket(family, kind, 0) })
}

/// A TCP socket.
pub(super) fn tcp(v6: bool) -> io::Result<OwnedFd> {
    new(if v6 { libc::AF_INET6 } else { libc::AF_INET })
}

/// A socket connected to a UNIX listener. `WouldBlock` when the listener's queue is full.
pub(super) fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    // SAFETY: all-zero is a valid `sockaddr_un`.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = codec::filename::bytes(path.as_os_str().as_bytes());
    if bytes.is_empty() || bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        let text = format!("'{}' can't be a socket's path: at most 107 bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    for (place, &byte) in address.sun_path.iter_mut().zip(bytes.iter()) {
        *place = byte as libc::c_char;
    }
    let socket = new(libc::AF_UNIX)?;
    let len = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    let place = (&address as *const libc::sockaddr_un).cast();
    // SAFETY: the address lives during the call and has that length; its path ends with a zero byte.
    check(unsafe { libc::connect(socket.as_raw_fd(), place, len) })?;
    Ok(socket)
}

/// An Internet address as the kernel wants it, and its length.
fn raw_address(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let len = match address {
        SocketAddr::V4(v4) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is large enough and aligned for every kind of address.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    // SAFETY: all-zero is a valid `sockaddr_storage`, and so is what was written over it.
    (unsafe { storage.assume_init() }, len as libc::socklen_t)
}

/// Begins to connect; EINPROGRESS is the usual answer.
pub(super) fn connect(fd: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<()> {
    let (raw, len) = raw_address(address);
    // SAFETY: the address lives during the call and has that length.
    check(unsafe { libc::connect(fd.as_raw_fd(), (&raw as *const libc::sockaddr_storage).cast(), len) })
        .map(drop)
}

/// Binds to an address and listens.
pub(super) fn bind_and_listen(
    fd: BorrowedFd<'_>,
    address: &SocketAddr,
    backlog: libc::c_int,
) -> io::Result<()> {
    let (raw, len) = raw_address(address);
    // SAFETY: the address lives during the call and has that length.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw as *const libc::sockaddr_storage).cast(), len) })?;
    listen(fd, backlog)
}

/// Listens, or changes the length of the queue.
pub(super) fn listen(fd: BorrowedFd<'_>, backlog: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

/// Process at the other end of a UNIX socket.
pub(super) fn peer_pid(fd: BorrowedFd<'_>) -> Option<i32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let place = (&mut peer as *mut libc::ucred).cast();
    // SAFETY: `peer` and `len` live during the call, and `len` is the size of `peer`.
    let done = unsafe {
        libc::getsockopt(fd.as_fd().as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, place, &mut len)
    };
    (done == 0 && peer.pid > 0).then_some(peer.pid)
}
