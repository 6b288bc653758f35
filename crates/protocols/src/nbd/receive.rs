//! The receiving side: from bytes to replies, and from replies to their requests.
//!
//! ```text
//! socket ─recv─▶ block ─▶ Header ─▶ cookie ─▶ Pending ─▶ data to its buffer · payload to its tracker
//!           └──────────── rest of large data ─────────────▶ straight to its buffer
//! ```

use super::connection::{InFlight, Pending};
use crate::inflight::Term;
use block::{BlockError, ErrorKind};
use nbd::Headers;
use nbd::client::{Header, Outcome, Part, ProtocolError};
use rt::BufMut;
use std::io;
use tls::Channel;

/// Bytes of the block.
const BLOCK: usize = 256 << 10;
/// Data that still lack more than this many bytes are received where they belong.
const DIRECT: usize = 32 << 10;

/// A reply that is being received.
struct Current {
    cookie: u64,
    pending: Pending,
    left: Left,
}

/// What of it is still to come.
enum Left {
    /// Data: index into the request's buffer, bytes.
    Data(usize, usize),
    /// So many bytes of payload in all, and those that are there.
    Payload(usize, Vec<u8>),
}

/// What went wrong with a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    #[error("it was given up on request")]
    Cut,
    #[error("the server closed the connection")]
    Closed,
    #[error("the server answered a request that was never made (cookie {0:#x})")]
    Cookie(u64),
    #[error("the reply's data have no place")]
    NoBuffer,
}

/// Receives for one connection.
pub(super) struct Receiver {
    headers: Headers,
    block: Option<BufMut>,
    start: usize,
    end: usize,
    current: Option<Current>,
}

impl Receiver {
    /// With bytes that came behind the handshake.
    pub fn new(headers: Headers, first: &[u8]) -> Self {
        let mut block = BufMut::with_len(BLOCK.max(first.len()));
        block.iter_mut().zip(first).for_each(|(to, from)| *to = *from);
        Self { headers, block: Some(block), start: 0, end: first.len(), current: None }
    }

    /// The time limit of the request whose reply is being received.
    pub fn term(&self) -> Option<Term> {
        self.current.as_ref().map(|current| current.pending.term)
    }

    /// Receives what is there and hands out what is complete.
    pub fn receive(&mut self, stream: &Channel, requests: &InFlight) -> Result<(), Broken> {
        let n = match stream.try_recv(self.room()?) {
            Ok(0) => return Err(Broken::Closed),
            Ok(n) => n,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        match &mut self.current {
            Some(Current { left: Left::Data(at, len), .. }) if *len > DIRECT => {
                (*at, *len) = (*at + n, *len - n);
            }
            _ => self.end += n,
        }
        requests.alive();
        self.work_off(requests)
    }

    /// Where the next bytes go: behind the window, or where large data belong.
    fn room(&mut self) -> Result<&mut [u8], Broken> {
        if let Some(Current { left: Left::Data(at, len), pending, .. }) = &mut self.current
            && *len > DIRECT
        {
            return pending.buf.as_mut().and_then(|buf| buf.get_mut(*at..*at + *len)).ok_or(Broken::NoBuffer);
        }
        let block = self.block.get_or_insert_with(|| BufMut::with_len(BLOCK));
        if self.start > 0 {
            // What is left is less than a header, or nothing.
            block.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        Ok(block.get_mut(self.end..).unwrap_or_default())
    }

    fn window(&self) -> &[u8] {
        self.block.as_ref().and_then(|block| block.get(self.start..self.end)).unwrap_or_default()
    }

    /// Hands out what is complete in the window.
    pub fn work_off(&mut self, requests: &InFlight) -> Result<(), Broken> {
        loop {
            if let Some(current) = self.current.take() {
                if let Some(incomplete) = self.go_on(current, requests)? {
                    self.current = Some(incomplete);
                    return Ok(());
                }
                continue;
            }
            let Some((header, taken)) = Header::parse(self.window(), self.headers)? else { return Ok(()) };
            self.start += taken;
            let cookie = header.cookie;
            let mut pending = requests.take(cookie).ok_or(Broken::Cookie(cookie))?;
            let part = match pending.about.accept(header) {
                Ok(part) => part,
                Err(error) => {
                    requests.put_back(cookie, pending);
                    return Err(error.into());
                }
            };
            let left = match part {
                Part::Nothing => Left::Data(0, 0),
                Part::Data { start, len } => Left::Data(start, len),
                Part::Payload(len) => Left::Payload(len, Vec::new()),
                Part::Zeroes { start, len } => {
                    let hole = pending.buf.as_mut().and_then(|buf| buf.get_mut(start..start + len));
                    hole.ok_or(Broken::NoBuffer)?.fill(0);
                    Left::Data(0, 0)
                }
            };
            self.current = Some(Current { cookie, pending, left });
        }
    }

    /// Feeds the window to a reply; gives it back if it needs more.
    fn go_on(&mut self, mut current: Current, requests: &InFlight) -> Result<Option<Current>, Broken> {
        let window =
            self.block.as_ref().and_then(|block| block.get(self.start..self.end)).unwrap_or_default();
        match &mut current.left {
            Left::Data(at, len) => {
                let here = (*len).min(window.len());
                if here > 0 {
                    let to = current.pending.buf.as_mut().and_then(|buf| buf.get_mut(*at..*at + here));
                    let from = window.get(..here).unwrap_or_default();
                    to.ok_or(Broken::NoBuffer)?.copy_from_slice(from);
                }
                self.start += here;
                (*at, *len) = (*at + here, *len - here);
                if *len > 0 {
                    return Ok(Some(current));
                }
            }
            Left::Payload(len, bytes) => {
                let here = (*len - bytes.len()).min(window.len());
                bytes.extend_from_slice(window.get(..here).unwrap_or_default());
                self.start += here;
                if bytes.len() < *len {
                    return Ok(Some(current));
                }
                if let Err(error) = current.pending.about.payload(bytes) {
                    requests.put_back(current.cookie, current.pending);
                    return Err(error.into());
                }
            }
        }
        finish(current, requests)?;
        Ok(None)
    }

    /// The connection is lost: so is the reply that was being received.
    pub fn abandon(&mut self, error: &BlockError) {
        if let Some(current) = self.current.take() {
            current.pending.end(Err(error.clone()));
        }
    }

    /// Gives the block back if there is nothing in it.
    pub fn rest(&mut self) {
        if self.start == self.end {
            (self.block, self.start, self.end) = (None, 0, 0);
        }
    }
}

/// A part of a reply is complete: the request's end, or more to come.
fn finish(current: Current, requests: &InFlight) -> Result<(), Broken> {
    let Current { cookie, mut pending, .. } = current;
    if !pending.about.is_done() {
        requests.put_back(cookie, pending);
        return Ok(());
    }
    let request = *pending.about.request();
    match pending.about.settle() {
        Ok(Outcome::Done(extents)) => pending.end(Ok(extents)),
        Ok(Outcome::Failed { code, message }) => {
            pending.end(Err(refused(requests.name(), &request, code, &message)))
        }
        Err(error) => {
            pending.end(Err(BlockError::new(ErrorKind::Io, format!("'{}': {error}", requests.name()))));
            return Err(error.into());
        }
    }
    Ok(())
}

/// The server's error, with its message if it sent one.
fn refused(export: &str, request: &nbd::Request, code: nbd::ErrorCode, message: &str) -> BlockError {
    let error = io::Error::from_raw_os_error(code.to_errno());
    let what = format!("'{export}' refused a {} of {} bytes", request.command, request.length);
    let error = BlockError::os(what, &error).at(request.offset);
    if message.is_empty() { error } else { error.context(message) }
}
