//! Datagrams: a UDP socket.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use super::socket;
use crate::cooperate;
use crate::source::Source;

/// A UDP socket with a free port of its own, which takes packets from everybody.
///
/// One task at a time waits for each direction. It belongs to the worker on which it first waited.
pub struct Datagrams {
    source: Source,
}

impl Datagrams {
    /// One that can send to `peer`: of the same family of addresses. The system chooses the port, which nobody can foresee.
    pub fn towards(peer: SocketAddr) -> io::Result<Datagrams> {
        let any = match peer {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        Datagrams::bind(any)
    }

    /// One at this address; port 0 takes a free one.
    pub fn bind(address: SocketAddr) -> io::Result<Datagrams> {
        let fd = socket::udp(address.is_ipv6())?;
        socket::bind(fd.as_fd(), &address)?;
        Ok(Datagrams { source: Source::new(fd) })
    }

    /// Where it receives.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::local_addr(self.source.as_fd())
    }

    /// The next packet, and who sent it. What does not fit into `buf` is lost: the length is that of the whole packet.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        // A sender that always has more must not starve other tasks of the worker.
        cooperate().await;
        loop {
            let mut from = None;
            let call = || {
                let (n, sender) = socket::recv_from(self.source.as_fd(), buf)?;
                from = Some(sender);
                Ok(n)
            };
            match (self.source.readiness.read.attempt(call, |_| true), from) {
                (Ok(n), Some(sender)) => return Ok((n, sender)),
                (Ok(_), None) => {}
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.source.readable().await?
                }
                (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => {}
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// Sends one packet.
    pub async fn send_to(&self, packet: &[u8], to: SocketAddr) -> io::Result<()> {
        loop {
            let call = || socket::send_to(self.source.as_fd(), packet, to);
            match self.source.readiness.write.attempt(call, |_| true) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.source.writable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
