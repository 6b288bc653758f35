//! A channel as hyper reads and writes it.
//!
//! What comes goes through a place of the socket's own: hyper's buffers may be read into only by code that Rust does not check.

use hyper::rt::{Read, ReadBufCursor, Write};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tls::Channel;

/// Bytes that are received at a time.
pub(super) const PLACE: usize = 128 << 10;

/// A channel, and a place for what comes.
pub(super) struct Socket {
    channel: Arc<Channel>,
    place: Box<[u8]>,
}

impl Socket {
    pub fn new(channel: Arc<Channel>) -> Self {
        Self { channel, place: vec![0; PLACE].into_boxed_slice() }
    }

    /// Tries until it works, or has to wait.
    fn attempt<T>(
        &mut self,
        cx: &mut Context<'_>,
        reads: bool,
        mut attempt: impl FnMut(&Channel, &mut [u8]) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        let Self { channel, place } = self;
        loop {
            match attempt(channel, place) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Whoever asks again waits again: nothing is lost by dropping the wait.
                    let ready = match reads {
                        true => ready!(pin!(channel.readable()).poll(cx)),
                        false => ready!(pin!(channel.writable()).poll(cx)),
                    };
                    if let Err(error) = ready {
                        return Poll::Ready(Err(error));
                    }
                }
                done => return Poll::Ready(done),
            }
        }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buf.remaining().min(PLACE);
        let receive =
            |channel: &Channel, place: &mut [u8]| channel.try_recv(place.get_mut(..room).unwrap_or_default());
        let n = ready!(self.attempt(cx, true, receive))?;
        buf.put_slice(self.place.get(..n).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.attempt(cx, false, |channel, _| channel.try_send(data))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.attempt(cx, false, |channel, _| channel.try_send_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.attempt(cx, false, |channel, _| channel.try_flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The server may be gone: then there is nobody to tell.
        let _ = self.channel.shutdown_write();
        Poll::Ready(Ok(()))
    }
}
