//! The receiving side: from bytes to records, and from records to the calls that they answer.
//!
//! ```text
//! socket ─recv─▶ block ─▶ marks ─▶ head ─▶ number ─▶ Pending
//!           │                        └▶ of a read: its bytes ─▶ the caller's buffer
//!           └──────────── rest of many bytes ────────────────────▶ the caller's buffer
//! ```

use super::connection::{InFlight, Pending};
use crate::inflight::Term;
use block::BlockError;
use nfs::record::{Fragments, MARK, RecordError};
use nfs::rpc::ReplyHead;
use nfs::v3::{self, Outcome};
use nfs::{Call, Malformed, Reader, Xdr, limits};
use rt::BufMut;
use rt::net::Stream;
use std::io;

/// Bytes of the block.
const BLOCK: usize = 256 << 10;
/// Data that still lack more than this many bytes are received where they belong.
const DIRECT: usize = 32 << 10;
/// Bytes of a head that are looked at together: that of a read has fewer, mostly.
const STEP: usize = 256;
/// Longest record: a read of the most bytes that are asked for at a time.
const RECORD: usize = super::MOST + MARK + limits::REPLY;

/// What went wrong with a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the server sent {0}")]
    Record(#[from] RecordError),
    #[error("the server sent what is no reply: {0}")]
    Reply(#[from] Malformed),
    #[error("it was given up on request")]
    Cut,
    #[error("the server closed the connection")]
    Closed,
    #[error("the server answered a call that was never made (number {0:#x})")]
    Number(u32),
    #[error("the server answered a read of {1} bytes with {0}")]
    TooMuch(u32, usize),
    #[error("the server says that a read has {0} bytes, and sent {1}")]
    Counts(u32, u32),
    #[error("the server's reply ends before its data")]
    Data,
}

/// The call whose reply is being received.
struct Current {
    pending: Pending,
    left: Left,
}

/// What of the reply is still to come.
#[derive(Clone, Copy)]
enum Left {
    /// More of its head, or all of it.
    Head,
    /// Data: index into the call's buffer, bytes.
    Data(usize, usize),
}

/// Receives for one connection.
#[derive(Default)]
pub(super) struct Receiver {
    block: Option<BufMut>,
    start: usize,
    end: usize,
    fragments: Fragments,
    /// The record as far as it has come, without data and what is behind them.
    head: Vec<u8>,
    current: Option<Current>,
}

impl Receiver {
    /// The time limit of the call whose reply is being received.
    pub fn term(&self) -> Option<Term> {
        self.current.as_ref().map(|current| current.pending.term)
    }

    /// Receives what is there and hands out what is complete.
    pub fn receive(&mut self, stream: &Stream, calls: &InFlight) -> Result<(), Broken> {
        let direct = self.direct();
        let room = match direct {
            Some((at, len)) => {
                let buf = self.current.as_mut().and_then(|current| current.pending.buf.as_mut());
                buf.and_then(|buf| buf.get_mut(at..at + len)).ok_or(Broken::Data)?
            }
            None => self.room(),
        };
        let n = match stream.try_recv(room) {
            Ok(0) => return Err(Broken::Closed),
            Ok(n) => n,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        calls.alive();
        match direct {
            Some(_) => self.took_data(n),
            None => self.end += n,
        }
        self.work_off(calls)
    }

    /// The place and length of data that are received where they belong.
    fn direct(&self) -> Option<(usize, usize)> {
        match self.current.as_ref()?.left {
            Left::Data(at, len) if self.start == self.end => {
                Some((at, len.min(self.fragments.left()))).filter(|(_, len)| *len > DIRECT)
            }
            _ => None,
        }
    }

    /// Where the next bytes go: behind the window.
    fn room(&mut self) -> &mut [u8] {
        let block = self.block.get_or_insert_with(|| BufMut::with_len(BLOCK));
        if self.start > 0 {
            // What is left is less than a mark, or nothing.
            block.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        block.get_mut(self.end..).unwrap_or_default()
    }

    /// Takes bytes of data that are in their place.
    fn took_data(&mut self, n: usize) {
        self.fragments.take(n);
        if let Some(Current { left: Left::Data(at, len), .. }) = &mut self.current {
            (*at, *len) = (*at + n, *len - n);
        }
    }

    /// Hands out what is complete in the window.
    fn work_off(&mut self, calls: &InFlight) -> Result<(), Broken> {
        loop {
            if self.fragments.is_done() {
                self.finish()?;
                continue;
            }
            let window = self.block.as_ref().and_then(|block| block.get(self.start..self.end));
            let window = window.unwrap_or_default();
            if self.fragments.needs_mark() {
                let Some(mark) = window.first_chunk::<MARK>() else { return Ok(()) };
                self.fragments.begin(*mark, RECORD as u64)?;
                self.start += MARK;
                continue;
            }
            let here = window.get(..window.len().min(self.fragments.left())).unwrap_or_default();
            if here.is_empty() {
                return Ok(());
            }
            if let Some(Current { pending, left: Left::Data(at, len) }) = &mut self.current
                && *len > 0
            {
                let n = here.len().min(*len);
                let to = pending.buf.as_mut().and_then(|buf| buf.get_mut(*at..*at + n));
                to.ok_or(Broken::Data)?.copy_from_slice(here.get(..n).unwrap_or_default());
                self.start += n;
                self.took_data(n);
                continue;
            }
            let n = here.len().min(STEP);
            // Behind the data only their padding comes; what a server adds to it means nothing.
            let is_head = !matches!(self.current, Some(Current { left: Left::Data(..), .. }));
            if is_head {
                self.head.extend_from_slice(here.get(..n).unwrap_or_default());
            }
            self.start += n;
            self.fragments.take(n);
            if is_head {
                self.look_at_head(calls)?;
            }
        }
    }

    /// Finds the call of a reply, and of a read its data.
    fn look_at_head(&mut self, calls: &InFlight) -> Result<(), Broken> {
        if self.head.len() > limits::REPLY {
            return Err(Malformed::Long(self.head.len(), limits::REPLY).into());
        }
        if self.current.is_none() {
            let Ok(xid) = u32::take(&mut Reader::new(&self.head)) else { return Ok(()) };
            let pending = calls.take(xid.into()).ok_or(Broken::Number(xid))?;
            self.current = Some(Current { pending, left: Left::Head });
        }
        let Some(Current { pending, left }) = &mut self.current else { return Ok(()) };
        let Some(buf) = &mut pending.buf else { return Ok(()) };
        let mut reader = Reader::new(&self.head);
        let (done, behind) = match read_done(&mut reader) {
            // It goes on, or failed.
            Err(Malformed::Short) | Ok(None) => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(Some(done)) => (done, reader.rest()),
        };
        if done.count != done.len {
            return Err(Broken::Counts(done.count, done.len));
        }
        let len = done.len as usize;
        if len > buf.len() {
            return Err(Broken::TooMuch(done.len, buf.len()));
        }
        // Data that have come with the head.
        let here = behind.len().min(len);
        if let (Some(to), Some(from)) = (buf.get_mut(..here), behind.get(..here)) {
            to.copy_from_slice(from);
        }
        *left = Left::Data(here, len - here);
        let head = self.head.len() - behind.len();
        self.head.truncate(head);
        Ok(())
    }

    /// A record has come to its end.
    fn finish(&mut self) -> Result<(), Broken> {
        self.fragments = Fragments::default();
        let head = std::mem::take(&mut self.head);
        let Some(Current { pending, left }) = self.current.take() else {
            return Err(Malformed::Short.into());
        };
        match left {
            Left::Data(_, 1..) => {
                pending.end(Err(BlockError::of(block::ErrorKind::Io, Broken::Data)));
                Err(Broken::Data)
            }
            Left::Head | Left::Data(_, 0) => {
                pending.end(Ok(head));
                Ok(())
            }
        }
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

/// What a read answers, once it is there as far as its data; nothing if it failed.
fn read_done(reader: &mut Reader<'_>) -> Result<Option<v3::ReadDone>, Malformed> {
    match ReplyHead::take(reader)?.outcome {
        Err(_) => Ok(None),
        Ok(()) => {
            let Outcome(reply) = <v3::Read as Call>::Reply::take(reader)?;
            Ok(reply.ok())
        }
    }
}
