//! Sockets: listeners and streams, UNIX, TCP and vsock, and UDP, non-blocking under the worker's epoll set.
//!
//! Laws: a stream belongs to the worker on which it first waited; a UNIX listener never takes the socket file of a
//! live one, replaces a stale one, and removes its own when it is dropped.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::blocking::blocking;
use crate::source::Source;
use crate::{cooperate, sleep};

mod attempts;
mod datagram;
mod dial;
mod socket;
mod stream;
mod vsock;

pub use datagram::Datagrams;
pub use dial::Dial;
pub use socket::abort;
pub(crate) use socket::{receive_descriptor, set_nonblocking};
pub use stream::Stream;

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A UNIX socket.
    Unix(PathBuf),
    /// A TCP port; `host` is a name or an address, empty for all of this machine's.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A port between a virtual machine and its host.
    Vsock {
        /// The machine's number: of its host 2, of this one 1, of any that asks 4294967295.
        cid: u32,
        /// Port.
        port: u32,
    },
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Unix(_) => write!(f, "unix:{}", self.place()),
            Address::Tcp { .. } => write!(f, "{}", self.place()),
            Address::Vsock { .. } => write!(f, "vsock:{}", self.place()),
        }
    }
}

impl Address {
    /// A port between a virtual machine and its host, by its two numbers in decimal.
    ///
    /// # Errors
    /// What is no number, in words.
    pub fn vsock(cid: &str, port: &str) -> Result<Address, String> {
        let number =
            |what: &str, text: &str| text.parse().map_err(|_| format!("Failed to parse {what} '{text}'"));
        Ok(Address::Vsock { cid: number("cid", cid)?, port: number("port", port)? })
    }

    /// Where it is, as text without the kind of address.
    pub fn place(&self) -> String {
        match self {
            Address::Unix(path) => path.display().to_string(),
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Vsock { cid, port } => format!("{cid}:{port}"),
        }
    }
}

/// How long a connect waits for room in a UNIX listener's queue before it looks again.
const QUEUE_FULL: Duration = Duration::from_millis(2);
/// How long a listener waits for descriptors or memory before it looks again.
const SHORTAGE: Duration = Duration::from_millis(200);
/// How often, and at what interval, locking the folder of a socket is tried.
const FOLDER_TRIES: u32 = 100;
const FOLDER_PAUSE: Duration = Duration::from_millis(20);
/// How often a free port that all addresses can share is looked for.
const FREE_PORT_TRIES: u32 = 16;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A socket file that this process made: removed with its listener, if it is still the same.
struct SocketFile {
    path: PathBuf,
    dev: u64,
    ino: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |meta: fs::Metadata| meta.dev() == self.dev && meta.ino() == self.ino;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // It may be gone by now, or not ours to remove any more: either way there is nothing to do.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A listening socket.
pub struct Listener {
    source: Source,
    address: Option<Address>,
    _file: Option<SocketFile>,
}

impl Listener {
    /// Listens on a UNIX socket at `path`.
    ///
    /// # Errors
    /// `AddrInUse` when somebody listens there; `AlreadyExists` when the file is no socket; `InvalidInput` when the
    /// path is too long.
    pub async fn bind_unix(path: &Path) -> io::Result<Listener> {
        let path = crate::fs::path(path);
        let (fd, file) = blocking(move || bind_unix(path)).await?;
        let address = Some(Address::Unix(file.path.clone()));
        Ok(Listener { source: Source::new(fd), address, _file: Some(file) })
    }

    /// Listens on a TCP port, on each address that `host` resolves to and this machine has. Port 0 takes a free one,
    /// the same for all.
    pub async fn bind_tcp(host: &str, port: u16) -> io::Result<Vec<Listener>> {
        let addresses = resolve(host, port).await?;
        let mut tries = if port == 0 { FREE_PORT_TRIES } else { 1 };
        loop {
            tries -= 1;
            match bind_all(&addresses, port) {
                // A port that is free on one address may be taken on the next.
                Err(error) if tries > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
                bound => return bound,
            }
        }
    }

    /// Listens on a vsock port. `Unsupported` where the system has no vsock.
    pub fn bind_vsock(cid: u32, port: u32) -> io::Result<Listener> {
        let fd = vsock::new()?;
        vsock::bind(fd.as_fd(), cid, port)?;
        socket::listen(fd.as_fd(), BACKLOG)?;
        let address = Some(Address::Vsock { cid, port });
        Ok(Listener { source: Source::new(fd), address, _file: None })
    }

    /// Takes over a listening socket, as socket activation passes them.
    pub fn from_raw_fd(fd: OwnedFd) -> io::Result<Listener> {
        if !socket::listens(fd.as_fd())? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
        }
        socket::set_nonblocking(fd.as_fd())?;
        Ok(Listener { address: address_of(fd.as_fd()), source: Source::new(fd), _file: None })
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> io::Result<Stream> {
        // A steady stream of connections must not starve other tasks of the worker.
        cooperate().await;
        loop {
            let mut accepted = None;
            let attempt = || {
                accepted = Some(socket::accept(self.source.as_fd())?);
                Ok(1)
            };
            match self.source.readiness.read.attempt(attempt, |_| true) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.source.readable().await?,
                Err(error) if is_shortage(&error) => {
                    // The connection stays in the queue; the server goes on.
                    tracing::warn!(%error, "a connection has to wait: close others or raise the limit of open files");
                    sleep(SHORTAGE).await;
                }
                // The peer closed the connection while it was in the queue.
                Err(error) if is_peers_fault(&error) => {}
                Err(error) => return Err(error),
            }
            if let Some(fd) = accepted {
                return Ok(Stream::socket(fd));
            }
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> Option<&Address> {
        self.address.as_ref()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }
}

fn is_shortage(error: &io::Error) -> bool {
    let errors = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| errors.contains(&code))
}

fn is_peers_fault(error: &io::Error) -> bool {
    let errors = [
        libc::ECONNABORTED,
        libc::EINTR,
        libc::EPROTO,
        libc::ENETDOWN,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
    ];
    error.raw_os_error().is_some_and(|code| errors.contains(&code))
}

fn address_of(fd: BorrowedFd<'_>) -> Option<Address> {
    let owned = fd.try_clone_to_owned().ok()?;
    if let Ok(address) = UnixListener::from(owned).local_addr()
        && let Some(path) = address.as_pathname()
    {
        return Some(Address::Unix(path.to_owned()));
    }
    let owned = fd.try_clone_to_owned().ok()?;
    let address = TcpListener::from(owned).local_addr().ok()?;
    Some(Address::Tcp { host: address.ip().to_string(), port: address.port() })
}

/// The addresses of a host, by its name or by an address in text; an empty name stands for all of this machine's.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.is_empty() {
        return Ok(vec![SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0u16; 8], port))]);
    }
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    blocking(move || (name.as_str(), port).to_socket_addrs().map(|list| list.collect())).await
}

/// Listens on all of these addresses; on those that the machine has, if it has one at all.
fn bind_all(addresses: &[SocketAddr], mut port: u16) -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    let mut missing = None;
    // Alone, `::` stands for the IPv4 addresses too; else those have a listener of their own.
    let v6_only = addresses.iter().any(SocketAddr::is_ipv4);
    for mut address in addresses.iter().copied() {
        address.set_port(port);
        let listener = match listen_tcp(address, v6_only) {
            // A name may stand for addresses of a family that is switched off here.
            Err(error) if is_missing(&error) => {
                missing = Some(error);
                continue;
            }
            other => other?,
        };
        port = listener.local_addr()?.port();
        let name = Address::Tcp { host: address.ip().to_string(), port };
        let source = Source::new(listener.into());
        listeners.push(Listener { source, address: Some(name), _file: None });
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}

fn listen_tcp(address: SocketAddr, v6_only: bool) -> io::Result<TcpListener> {
    let fd = socket::tcp(address.is_ipv6())?;
    socket::bind_and_listen(fd.as_fd(), &address, v6_only, BACKLOG)?;
    Ok(TcpListener::from(fd))
}

fn bind_unix(path: PathBuf) -> io::Result<(OwnedFd, SocketFile)> {
    // Between the check for a stale file and the bind no other Cairn may interfere: each holds the folder's lock meanwhile.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _locked = lock_folder(parent);
    clear_stale(&path)?;
    let listener = UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    // std listens with a short queue; asking again lengthens it.
    socket::listen(listener.as_fd(), BACKLOG)?;
    let meta = fs::symlink_metadata(&path)?;
    // A process that goes to the background changes its working directory.
    let path = std::path::absolute(&path).unwrap_or(path);
    Ok((listener.into(), SocketFile { path, dev: meta.dev(), ino: meta.ino() }))
}

/// A folder's lock, held as long as the file is open. A starting server holds it briefly: if it stays taken, another
/// program has it, and it is not waited for.
fn lock_folder(path: &Path) -> Option<fs::File> {
    let folder = fs::File::open(path).ok()?;
    for _ in 0..FOLDER_TRIES {
        match folder.try_lock() {
            Ok(()) => return Some(folder),
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(FOLDER_PAUSE),
            Err(fs::TryLockError::Error(_)) => return None,
        }
    }
    None
}

/// Removes a socket file that nobody listens on; refuses one that is in use, and what is no socket.
fn clear_stale(path: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !meta.file_type().is_socket() {
        let text = format!("'{}' exists and is no socket; remove it or choose another path", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match socket::connect_unix(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A full queue (EAGAIN) belongs to a live listener too; any other error may as well.
        _ => {
            let text = format!("a process listens on '{}' already", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

impl Stream {
    /// Connects to a UNIX socket; waits while its listener's queue is full.
    pub async fn connect_unix(path: &Path) -> io::Result<Stream> {
        loop {
            match socket::connect_unix(path) {
                Ok(fd) => return Ok(Stream::socket(fd)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(QUEUE_FULL).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Connects to a TCP port: to the first address of `host` that answers, each tried beside those before it. Small messages are not held back.
    pub async fn connect_tcp(host: &str, port: u16) -> io::Result<Stream> {
        let host = if host.is_empty() { "localhost" } else { host };
        attempts::first(host, port, Stream::connect_to).await
    }

    /// Connects to one address. Small messages are not held back.
    pub async fn connect_to(address: SocketAddr) -> io::Result<Stream> {
        let fd = socket::tcp(address.is_ipv6())?;
        let begun = socket::connect(fd.as_fd(), &address);
        connected(fd, begun).await
    }

    /// Connects to a vsock port. `Unsupported` where the system has no vsock.
    pub async fn connect_vsock(cid: u32, port: u32) -> io::Result<Stream> {
        let fd = vsock::new()?;
        let begun = vsock::connect(fd.as_fd(), cid, port);
        connected(fd, begun).await
    }

    /// Connects to an address of any kind.
    pub async fn connect(address: &Address) -> io::Result<Stream> {
        match address {
            Address::Unix(path) => Stream::connect_unix(path).await,
            Address::Tcp { host, port } => Stream::connect_tcp(host, *port).await,
            Address::Vsock { cid, port } => Stream::connect_vsock(*cid, *port).await,
        }
    }

    /// Two connected UNIX sockets.
    pub fn pair() -> io::Result<(Stream, Stream)> {
        let (a, b) = UnixStream::pair()?;
        Ok((Stream::socket(a.into()), Stream::socket(b.into())))
    }
}

/// Waits for a connect that was begun.
async fn connected(fd: OwnedFd, begun: io::Result<()>) -> io::Result<Stream> {
    let pending = match begun {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => true,
        Err(error) => return Err(error),
    };
    let stream = Stream::socket(fd);
    if pending {
        stream.connected().await?;
    }
    Ok(stream)
}

/// The internet address of the other end, if it has one.
fn peer_address(fd: BorrowedFd<'_>) -> Option<SocketAddr> {
    TcpStream::from(fd.try_clone_to_owned().ok()?).peer_addr().ok()
}

/// A name for the other end, for logs.
fn peer_label(fd: BorrowedFd<'_>) -> String {
    if let Some(address) = peer_address(fd) {
        return address.to_string();
    }
    if let Some((cid, port)) = vsock::peer(fd) {
        return format!("vsock:{cid}:{port}");
    }
    match socket::peer_pid(fd) {
        Some(pid) => format!("unix:pid={pid}"),
        None => format!("fd={}", fd.as_raw_fd()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_the_machine_lacks_are_left_out_unless_it_lacks_all() -> io::Result<()> {
        let address = |ip: [u8; 4]| SocketAddr::from((ip, 0));
        // An address range reserved for documentation: no machine has it.
        let (ours, absent) = (address([127, 0, 0, 1]), address([192, 0, 2, 1]));
        let listeners = bind_all(&[absent, ours], 0)?;
        assert!(matches!(listeners.as_slice(), [one] if one.local_addr().is_some()));
        let error = bind_all(&[absent], 0).err().map(|error| error.kind());
        assert_eq!(error, Some(io::ErrorKind::AddrNotAvailable));
        Ok(())
    }
}
