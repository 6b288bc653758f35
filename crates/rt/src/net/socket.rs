//! Socket system calls. None of them waits.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{MaybeUninit, size_of};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

/// Receives what is there.
pub(super) fn recv(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(fd, buf, RecvFlags::DONTWAIT)?.1)
}

/// Most descriptors taken with one message.
const DESCRIPTORS: usize = 16;

/// As [`recv`], with the descriptors that came along.
pub(super) fn recv_with_descriptors(
    fd: BorrowedFd<'_>,
    buf: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = rustix::net::recvmsg(fd, &mut [IoSliceMut::new(buf)], &mut control, flags)?;
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    Ok(message.bytes)
}

/// The descriptor that a program which has ended has left in a socket.
pub(crate) fn receive_descriptor(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut descriptors = Vec::new();
    recv_with_descriptors(fd, &mut [0; 16], &mut descriptors)?;
    descriptors.pop().ok_or_else(|| io::Error::other("no descriptor has been sent"))
}

const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// Sends what there is room for.
pub(super) fn send(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(fd, data, SEND)?)
}

/// Sends what there is room for of several parts, of which the kernel takes at most 1024 at once.
pub(super) fn send_vectored(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let parts = parts.get(..1024).unwrap_or(parts);
    Ok(rustix::net::sendmsg(fd, parts, &mut SendAncillaryBuffer::default(), SEND)?)
}

/// Whether a descriptor that may block is ready for `events` now.
fn is_ready(fd: BorrowedFd<'_>, events: PollFlags) -> io::Result<()> {
    let now = Timespec::default();
    match rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, events)], Some(&now))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// Reads from a pipe or terminal if something is there.
pub(super) fn read_if_ready(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    is_ready(fd, PollFlags::IN)?;
    read(fd, buf)
}

/// Writes to a pipe or terminal if it has room.
pub(super) fn write_if_ready(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    is_ready(fd, PollFlags::OUT)?;
    write(fd, data)
}

/// `read`.
pub(super) fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(fd, buf)?)
}

/// `write`.
pub(super) fn write(fd: BorrowedFd<'_>, data: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::write(fd, data)?)
}

/// Ends one direction or both.
pub(super) fn shutdown(fd: BorrowedFd<'_>, how: Shutdown) -> io::Result<()> {
    let how = match how {
        Shutdown::Read => rustix::net::Shutdown::Read,
        Shutdown::Write => rustix::net::Shutdown::Write,
        Shutdown::Both => rustix::net::Shutdown::Both,
    };
    Ok(rustix::net::shutdown(fd, how)?)
}

/// Sockets close on exec and never wait.
const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// The next connection of a listener.
pub(super) fn accept(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(rustix::net::accept_with(fd, FLAGS)?)
}

/// Makes calls on this open file never wait.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    crate::sys::set_status_flags(fd, flags | OFlags::NONBLOCK)
}

/// Whether it is a listener.
pub(super) fn listens(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(sockopt::socket_acceptconn(fd)?)
}

/// The error of a connect that was begun.
pub(super) fn take_error(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::socket_error(fd)??)
}

/// Sends small messages at once. Fails for what is not TCP.
pub(super) fn set_nodelay(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(fd, true)?)
}

/// Asks a TCP peer that was silent for `idle` whether it is there, `tries` times, each `interval` after the other.
pub(super) fn set_keepalive(
    fd: BorrowedFd<'_>,
    idle: Duration,
    interval: Duration,
    tries: u32,
) -> io::Result<()> {
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, idle)?;
    sockopt::set_tcp_keepintvl(fd, interval)?;
    Ok(sockopt::set_tcp_keepcnt(fd, tries)?)
}

fn new(family: AddressFamily, kind: SocketType) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(family, kind, FLAGS, None)?)
}

fn internet(v6: bool) -> AddressFamily {
    if v6 { AddressFamily::INET6 } else { AddressFamily::INET }
}

/// A TCP socket.
pub(super) fn tcp(v6: bool) -> io::Result<OwnedFd> {
    new(internet(v6), SocketType::STREAM)
}

/// A UDP socket.
pub(super) fn udp(v6: bool) -> io::Result<OwnedFd> {
    new(internet(v6), SocketType::DGRAM)
}

/// Binds a socket to an address.
pub(super) fn bind(fd: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<()> {
    Ok(rustix::net::bind(fd, address)?)
}

/// The internet address of a socket.
pub(super) fn local_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    Ok(rustix::net::getsockname(fd)?.try_into()?)
}

/// The next packet: its whole length, of which no more is kept than fits, and who sent it.
pub(super) fn recv_from(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    let (_, len, sender) = rustix::net::recvfrom(fd, buf, flags)?;
    let sender = sender.ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((len, sender.try_into()?))
}

/// Sends one packet.
pub(super) fn send_to(fd: BorrowedFd<'_>, packet: &[u8], to: SocketAddr) -> io::Result<usize> {
    Ok(rustix::net::sendto(fd, packet, SEND, &to)?)
}

/// A socket connected to a UNIX listener. `WouldBlock` when the listener's queue is full.
pub(super) fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    let bytes = codec::filename::bytes(path.as_os_str().as_bytes());
    if bytes.is_empty() || bytes.len() > 107 || bytes.contains(&0) {
        let text = format!("'{}' can't be a socket's path: at most 107 bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let address = SocketAddrUnix::new(&*bytes)?;
    let socket = new(AddressFamily::UNIX, SocketType::STREAM)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Begins to connect; EINPROGRESS is the usual answer.
pub(super) fn connect(fd: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<()> {
    Ok(rustix::net::connect(fd, address)?)
}

/// Takes a TCP socket, also one that another runtime has, out of its connection: what waits to be sent is dropped, and the peer is sent
/// a reset.
///
/// # Errors
/// It is no TCP socket.
pub fn abort(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::connect_unspec(socket)?)
}

/// Binds a TCP socket to an address that it connects from, also where an earlier connection from there lingers.
pub(super) fn bind_for_connect(fd: BorrowedFd<'_>, address: &SocketAddr) -> io::Result<()> {
    sockopt::set_socket_reuseaddr(fd, true)?;
    Ok(rustix::net::bind(fd, address)?)
}

/// How often a TCP connection is asked for until it is given up. By hand: `rustix` has no such option.
pub(super) fn set_syn_count(fd: BorrowedFd<'_>, count: u8) -> io::Result<()> {
    let count = libc::c_int::from(count);
    let place = (&count as *const libc::c_int).cast();
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `count` lives during the call, and `len` is its size.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_SYNCNT, place, len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Binds a TCP socket to an address, also where connections of an earlier listener linger, and listens.
pub(super) fn bind_and_listen(
    fd: BorrowedFd<'_>,
    address: &SocketAddr,
    v6_only: bool,
    backlog: i32,
) -> io::Result<()> {
    sockopt::set_socket_reuseaddr(fd, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(fd, v6_only)?;
    }
    bind(fd, address)?;
    listen(fd, backlog)
}

/// Listens, or changes the length of the queue.
pub(super) fn listen(fd: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    Ok(rustix::net::listen(fd, backlog)?)
}

/// Process at the other end of a UNIX socket. By hand: the kernel says 0 of a process that this one can't see, and
/// `rustix` has no place for that.
pub(super) fn peer_pid(fd: BorrowedFd<'_>) -> Option<i32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    let place = (&mut peer as *mut libc::ucred).cast();
    // SAFETY: `peer` and `len` live during the call, and `len` is the size of `peer`.
    let done =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, place, &mut len) };
    (done == 0 && peer.pid > 0).then_some(peer.pid)
}
