//! A connected stream, plain until a handshake puts it into TLS, with the same calls for both.
//!
//! What was taken to be sent may still be on its way when a call returns: [`Channel::try_flush`] tells, and goes on with it.

use crate::layer::Layer;
use rt::net::Stream;
use std::io::{self, IoSlice};
use std::sync::OnceLock;

/// A connected stream, plain until a handshake puts it into TLS; never plain again. One whose handshake failed is of no use.
pub struct Channel {
    pub(crate) stream: Stream,
    pub(crate) tls: OnceLock<Box<dyn Layer>>,
}

impl From<Stream> for Channel {
    /// A plain one.
    fn from(stream: Stream) -> Self {
        Self { stream, tls: OnceLock::new() }
    }
}

impl Channel {
    /// It is in TLS.
    pub fn is_secured(&self) -> bool {
        self.tls.get().is_some()
    }

    /// Receives what is there; 0 is the end. `WouldBlock` when nothing is.
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self.tls.get() {
            None => self.stream.try_recv(buf),
            Some(tls) => tls.try_recv(&self.stream, buf),
        }
    }

    /// Waits until [`Channel::try_recv`] is worth a try.
    pub async fn readable(&self) -> io::Result<()> {
        match self.tls.get() {
            Some(tls) if tls.holds_more() => Ok(()),
            _ => self.stream.readable().await,
        }
    }

    /// Receives something; 0 is the end.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.is_secured() {
            return self.stream.recv(buf).await;
        }
        // A peer that always has more must not starve other tasks of the worker.
        rt::cooperate().await;
        loop {
            match self.try_recv(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                answer => return answer,
            }
        }
    }

    /// Sends what there is room for. `WouldBlock` when there is none.
    pub fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        match self.tls.get() {
            None => self.stream.try_send(data),
            Some(tls) => tls.try_send(&self.stream, &[IoSlice::new(data)]),
        }
    }

    /// Sends what there is room for of several parts.
    pub fn try_send_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.tls.get() {
            None => self.stream.try_send_vectored(parts),
            Some(tls) => tls.try_send(&self.stream, parts),
        }
    }

    /// Goes on with what was taken and not sent. `WouldBlock` as long as something is left.
    pub fn try_flush(&self) -> io::Result<()> {
        self.tls.get().map_or(Ok(()), |tls| tls.try_flush(&self.stream))
    }

    /// Waits until [`Channel::try_send`] or [`Channel::try_flush`] is worth a try.
    pub async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Sends all of `data`.
    pub async fn send_all(&self, mut data: &[u8]) -> io::Result<()> {
        if !self.is_secured() {
            return self.stream.send_all(data).await;
        }
        loop {
            let step = match data {
                [] => self.try_flush(),
                some => self.try_send(some).map(|n| data = some.get(n..).unwrap_or_default()),
            };
            match step {
                Ok(()) if data.is_empty() && self.try_flush().is_ok() => return Ok(()),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Its worker lets it go, as [`Stream::let_go`].
    pub fn let_go(&self) {
        self.stream.let_go();
    }

    /// Whether what is sent can still arrive, as far as is known here.
    pub fn is_open(&self) -> bool {
        self.stream.is_open()
    }

    /// Ends both directions: whoever waits here or at the other end sees the end.
    pub fn shutdown(&self) -> io::Result<()> {
        self.say_the_end();
        self.stream.shutdown()
    }

    /// Ends both directions, and takes back what was sent and has not arrived, as [`Stream::abort`].
    pub fn abort(&self) -> io::Result<()> {
        self.stream.abort()
    }

    /// Ends the sending direction: the other end sees the end of what was sent.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.say_the_end();
        self.stream.shutdown_write()
    }

    /// A name for the other end, for logs.
    pub fn peer_label(&self) -> String {
        self.stream.peer_label()
    }

    fn say_the_end(&self) {
        if let Some(tls) = self.tls.get() {
            tls.say_the_end(&self.stream);
        }
    }
}
