//! Replies that are to be sent to a client: data are read from the disk to right behind their header, and all that is
//! ready is sent at once.
//!
//! ```text
//! closed: │ reply .. │ large reply │ ─▶ open: │ sent │ reply · reply · reply │ space │
//! ```
//!
//! An empty output holds no block.

use rt::{Buf, BufMut};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use tls::Channel;

/// Bytes of a block: 32 replies of 4 KiB and more, small enough to stay in the second-level cache.
const BLOCK: usize = 256 << 10;
/// Replies that are ready as buffers of their own are copied into the block up to this many bytes.
const COPIED: usize = 16 << 10;
/// Parts of one vectored send.
const PARTS: usize = 16;

#[derive(Default)]
pub(super) struct Output {
    closed: VecDeque<Buf>,
    open: Option<BufMut>,
    /// Bytes of the open block that have been sent (or that an earlier, closed view holds).
    sent: usize,
    used: usize,
    /// Bytes in `closed`.
    closed_bytes: usize,
}

impl Output {
    /// Bytes not yet sent.
    pub fn backlog(&self) -> usize {
        self.closed_bytes + self.used - self.sent
    }

    /// `len` bytes to be filled in and then kept by [`Output::keep`]; until then they don't count.
    pub fn space(&mut self, len: usize) -> &mut [u8] {
        let full = self.open.as_ref().is_none_or(|open| open.len() - self.used < len);
        if full {
            self.close();
            self.open = Some(BufMut::with_len(len.max(BLOCK)));
        }
        self.open.as_mut().and_then(|open| open.get_mut(self.used..self.used + len)).unwrap_or_default()
    }

    /// The first `len` bytes of the last [`Output::space`] are to be sent.
    pub fn keep(&mut self, len: usize) {
        self.used += len;
    }

    /// Appends a copy of `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        self.space(bytes.len()).copy_from_slice(bytes);
        self.keep(bytes.len());
    }

    /// Appends a buffer, without a copy if it is large.
    pub fn push(&mut self, buf: Buf) {
        if buf.len() <= COPIED {
            self.put(&buf);
            return;
        }
        self.close();
        self.closed_bytes += buf.len();
        self.closed.push_back(buf);
    }

    /// Ends the open block: what it holds is sent before whatever comes next.
    fn close(&mut self) {
        let (sent, used) = (self.sent, self.used);
        (self.sent, self.used) = (0, 0);
        if let Some(open) = self.open.take()
            && sent < used
        {
            self.closed_bytes += used - sent;
            self.closed.push_back(open.freeze().slice(sent..used));
        }
    }

    /// Sends what there is room for; true if nothing is left, and all is on its way.
    pub fn send(&mut self, stream: &Channel) -> io::Result<bool> {
        while self.backlog() > 0 {
            let open = self.open.as_ref().and_then(|open| open.get(self.sent..self.used)).unwrap_or_default();
            let result = if self.closed.is_empty() {
                stream.try_send(open)
            } else {
                let mut parts = [IoSlice::new(&[]); PARTS];
                let all = self.closed.iter().map(|buf| &buf[..]).chain([open]);
                let count =
                    parts.iter_mut().zip(all).map(|(part, bytes)| *part = IoSlice::new(bytes)).count();
                stream.try_send_vectored(parts.get(..count).unwrap_or_default())
            };
            match result {
                Ok(n) => self.advance(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match stream.try_flush() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn advance(&mut self, mut n: usize) {
        while n > 0
            && let Some(front) = self.closed.front_mut()
        {
            let taken = n.min(front.len());
            *front = front.slice(taken..);
            if front.is_empty() {
                self.closed.pop_front();
            }
            self.closed_bytes -= taken;
            n -= taken;
        }
        self.sent += n;
        if self.sent == self.used {
            (self.sent, self.used) = (0, 0);
        }
    }

    /// Gives the block back if everything has been sent.
    pub fn rest(&mut self) {
        if self.backlog() == 0 {
            self.open = None;
        }
    }
}
