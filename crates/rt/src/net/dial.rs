//! TCP connections that are made in a certain way.

use super::{Stream, attempts, connected, socket};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

/// The ports that a connection from a privileged one takes: below them are those of services.
const PRIVILEGED: std::ops::Range<u64> = 665..1024;
/// How many of them are tried: each may be in use, or was a moment ago towards the same place.
const TRIES: u64 = 24;

/// How a TCP connection is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dial {
    /// From a port that only privileged programs are given, where the system gives one: some servers ask for that.
    pub privileged: bool,
    /// How often the system asks for a connection until it gives up, 1 to 255; as it likes if absent.
    pub syn_count: Option<u8>,
}

impl Stream {
    /// Connects to a TCP port: to the first address of `host` that answers, each tried beside those before it. Small messages are not held back.
    pub async fn dial_tcp(host: &str, port: u16, how: Dial) -> io::Result<Stream> {
        attempts::first(host, port, |address| dial(address, how)).await
    }
}

async fn dial(address: SocketAddr, how: Dial) -> io::Result<Stream> {
    let first = crate::random_u64();
    let tries = if how.privileged { TRIES } else { 0 };
    for n in 0..tries {
        let port = PRIVILEGED.start + first.wrapping_add(n) % (PRIVILEGED.end - PRIVILEGED.start);
        let fd = socket::tcp(address.is_ipv6())?;
        match socket::bind_for_connect(fd.as_fd(), &SocketAddr::new(any(&address), port as u16)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            Err(error) if is_taken(&error) => continue,
            bound => bound?,
        }
        match connect(fd, address, how).await {
            Err(error) if is_taken(&error) => {}
            answer => return answer,
        }
    }
    connect(socket::tcp(address.is_ipv6())?, address, how).await
}

async fn connect(fd: std::os::fd::OwnedFd, address: SocketAddr, how: Dial) -> io::Result<Stream> {
    if let Some(count) = how.syn_count {
        socket::set_syn_count(fd.as_fd(), count)?;
    }
    let begun = socket::connect(fd.as_fd(), &address);
    connected(fd, begun).await
}

fn any(like: &SocketAddr) -> IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Address, Listener};
    use crate::{Config, Runtime};
    use std::net::TcpStream;

    #[test]
    fn a_connection_is_made_whether_or_not_a_privileged_port_is_to_be_had() {
        let runtime = Runtime::new(Config { workers: Some(1), ..Config::default() }).unwrap();
        runtime.block_on(async {
            let listeners = Listener::bind_tcp("127.0.0.1", 0).await.unwrap();
            let Some(Address::Tcp { port, .. }) = listeners[0].local_addr() else { panic!("no TCP port") };
            // More than are tried at a time, one after the other, to the same place.
            for _ in 0..40 {
                let how = Dial { privileged: true, syn_count: Some(3) };
                let here = Stream::dial_tcp("127.0.0.1", *port, how).await.unwrap();
                let there = listeners[0].accept().await.unwrap();
                let socket = TcpStream::from(here.as_fd().try_clone_to_owned().unwrap());
                let own = u64::from(socket.local_addr().unwrap().port());
                assert!(PRIVILEGED.contains(&own) || crate::fs::user() != 0 || own > 1024);
                drop((there, here));
            }
        });
    }
}
