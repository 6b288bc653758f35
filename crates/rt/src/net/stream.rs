//! Streams: sockets, and whatever else can be polled and read.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::{peer_address, peer_label, socket};
use rustix::fs::FileType;

use crate::blocking::blocking;
use crate::source::Source;
use crate::{cooperate, sys};

/// How its descriptor is read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A socket: each call says itself that it must not wait.
    Socket,
    /// A pipe or terminal that others use too: it stays as it is, and is polled before each call.
    Polled,
    /// A regular file or a device without events: its calls may wait for the disk, and no event will come.
    File,
}

/// Most bytes that a pipe takes for certain once it says that it has room.
const PIPE_ROOM: usize = 4096;

/// A TCP peer that vanished is noticed after a minute of silence and two of probes: idle time, interval, probes.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(20), 6);

/// A connected socket, or an open pipe, terminal or file used as one.
///
/// One task at a time waits for each direction. It belongs to the worker on which it was first waited for: its events arrive there
/// and wake others across threads. [`Stream::let_go`] takes it to another one.
pub struct Stream {
    source: Source,
    kind: Kind,
}

impl Stream {
    /// A socket that nobody else uses. Errors of the options only cost time.
    pub(super) fn socket(fd: OwnedFd) -> Stream {
        // Fails for UNIX sockets, which don't hold small messages back anyway, and whose peers can't vanish unnoticed.
        if socket::set_nodelay(fd.as_fd()).is_ok() {
            let (idle, interval, tries) = KEEPALIVE;
            let _ = socket::set_keepalive(fd.as_fd(), idle, interval, tries);
        }
        Stream { source: Source::new(fd), kind: Kind::Socket }
    }

    /// Takes over a descriptor: a socket, a pipe, a terminal or a file. Its status flags, which other processes may
    /// share, are left as they are.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Stream> {
        let file_type = FileType::from_raw_mode(sys::fstat(fd.as_fd())?.st_mode);
        let kind = match file_type {
            FileType::Socket => return Ok(Stream::socket(fd)),
            FileType::RegularFile | FileType::BlockDevice | FileType::Directory => Kind::File,
            _ => Kind::Polled,
        };
        Ok(Stream { source: Source::new(fd), kind })
    }

    /// Takes over a connected socket.
    ///
    /// # Errors
    /// `InvalidInput` when it is something else.
    pub fn from_connected(fd: OwnedFd) -> io::Result<Stream> {
        let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        match Stream::from_fd(fd)? {
            Stream { kind: Kind::Polled | Kind::File, .. } => wrong("the descriptor is no socket"),
            stream if !stream.is_open() => wrong("the socket is not connected"),
            stream => Ok(stream),
        }
    }

    /// Receives what is there; 0 is the end. `WouldBlock` when nothing is.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let (fd, want) = (self.source.as_fd(), buf.len());
        let is_socket = self.kind == Kind::Socket;
        let call = || if is_socket { socket::recv(fd, buf) } else { socket::read_if_ready(fd, buf) };
        // A socket that gave less than it was asked for is empty; the end is worth another look.
        self.source.readiness.read.attempt(call, |n| !is_socket || n == 0 || n == want)
    }

    /// Waits until [`try_recv`](Stream::try_recv) is worth a try.
    pub async fn readable(&self) -> io::Result<()> {
        self.source.readable().await
    }

    /// Sends what there is room for. `WouldBlock` when there is none.
    pub fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        let (fd, want) = (self.source.as_fd(), data.len());
        let call = || match self.kind {
            Kind::Socket => socket::send(fd, data),
            Kind::Polled => socket::write_if_ready(fd, data.get(..PIPE_ROOM).unwrap_or(data)),
            Kind::File => socket::write(fd, data),
        };
        self.source.readiness.write.attempt(call, |n| self.kind != Kind::Socket || n == want)
    }

    /// Sends what there is room for of several parts.
    pub fn try_send_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.kind != Kind::Socket {
            let first = parts.iter().find(|part| !part.is_empty());
            return first.map_or(Ok(0), |part| self.try_send(part));
        }
        let want = parts.iter().map(|part| part.len()).fold(0usize, usize::saturating_add);
        let call = || socket::send_vectored(self.source.as_fd(), parts);
        self.source.readiness.write.attempt(call, |n| n == want)
    }

    /// Waits until [`try_send`](Stream::try_send) is worth a try.
    pub async fn writable(&self) -> io::Result<()> {
        self.source.writable().await
    }

    /// Receives something; 0 is the end.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        if self.kind == Kind::File {
            return self.read_file(buf).await;
        }
        // A peer that always has more must not starve other tasks of the worker.
        cooperate().await;
        loop {
            match self.try_recv(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                answer => return answer,
            }
        }
    }

    /// Receives something, with the descriptors that come along on a UNIX socket; 0 is the end.
    pub async fn recv_with_descriptors(
        &self,
        buf: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<usize> {
        if self.kind != Kind::Socket {
            return self.recv(buf).await;
        }
        cooperate().await;
        loop {
            let call = || socket::recv_with_descriptors(self.source.as_fd(), buf, descriptors);
            // The kernel returns data with descriptors separately: a short count does not mean that the socket is empty.
            match self.source.readiness.read.attempt(call, |_| true) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                answer => return answer,
            }
        }
    }

    /// Reads a regular file from its current position, on the blocking pool.
    async fn read_file(&self, buf: &mut [u8]) -> io::Result<usize> {
        let fd = self.source.as_fd().try_clone_to_owned()?;
        let want = buf.len();
        let answer = blocking(move || {
            let mut data = vec![0; want];
            let n = socket::read(fd.as_fd(), &mut data)?;
            data.truncate(n);
            Ok::<_, io::Error>(data)
        })
        .await?;
        if let Some(part) = buf.get_mut(..answer.len()) {
            part.copy_from_slice(&answer);
        }
        Ok(answer.len())
    }

    /// Receives exactly as much as `buf` holds; `UnexpectedEof` where the stream ends before.
    pub async fn recv_exact(&self, buf: &mut [u8]) -> io::Result<()> {
        let mut rest = buf;
        while !rest.is_empty() {
            let n = self.recv(rest).await?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rest = rest.get_mut(n..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends all of `data`.
    pub async fn send_all(&self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            match self.try_send(data) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => data = data.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends all of several parts.
    pub async fn send_all_vectored(&self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut parts = parts;
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.try_send_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => IoSlice::advance_slices(&mut parts, n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Its worker lets it go: it belongs to the worker on which it is waited for next. For a task that takes it over; whoever waits for it
    /// now may not be woken any more.
    pub fn let_go(&self) {
        self.source.let_go();
    }

    /// Whether what is sent can still arrive: neither end has shut this direction, as far as is known here.
    pub fn is_open(&self) -> bool {
        let sent = || socket::send(self.source.as_fd(), &[]);
        // Sending nothing fails only if the socket is known to be shut; a full socket is still open.
        self.kind != Kind::Socket
            || !sent().is_err_and(|error| {
                matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
                )
            })
    }

    /// Ends both directions: whoever waits here or at the other end sees the end. No effect on what is no socket.
    pub fn shutdown(&self) -> io::Result<()> {
        self.end(Shutdown::Both)
    }

    /// Ends both directions, and takes back what was sent and has not arrived: the other end of a TCP connection sees a reset, and
    /// nothing that it has not received yet comes later. What is no TCP connection is only ended.
    pub fn abort(&self) -> io::Result<()> {
        if self.kind == Kind::Socket && socket::abort(self.source.as_fd()).is_ok() {
            Ok(())
        } else {
            self.shutdown()
        }
    }

    /// Ends the sending direction: the other end sees the end of what was sent.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.end(Shutdown::Write)
    }

    fn end(&self, how: Shutdown) -> io::Result<()> {
        if self.kind == Kind::Socket { socket::shutdown(self.source.as_fd(), how) } else { Ok(()) }
    }

    /// The internet address of the other end, if it has one.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        peer_address(self.source.as_fd())
    }

    /// A name for the other end, for logs.
    pub fn peer_label(&self) -> String {
        peer_label(self.source.as_fd())
    }

    /// Waits until a connect that was begun has succeeded or failed.
    pub(super) async fn connected(&self) -> io::Result<()> {
        // A new direction counts as ready; this one is ready when the kernel says so.
        let pending = || Err(io::ErrorKind::WouldBlock.into());
        let _ = self.source.readiness.write.attempt(pending, |_| false);
        self.writable().await?;
        socket::take_error(self.source.as_fd())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}
