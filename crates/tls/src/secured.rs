//! A stream in TLS: records of both directions over the socket.
//!
//! ```text
//! try_send ─▶ parts ─seal─▶ block of records ─▶ socket          a block is there only while it holds something
//! try_recv ◀─ buffer ◀─open─ block of records ◀─ socket
//! ```
//!
//! A record that fits the reader's buffer as a whole is opened straight into it, and data are sealed from where they lie: being
//! encrypted is their only copy.

use crate::layer::Layer;
use crate::records::{CLOSE_NOTIFY, CONTENT, Content, Fault, HEADER, OVERHEAD, Opened, Opener, Sealer};
use parking_lot::Mutex;
use rt::BufMut;
use rt::net::Stream;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};

/// Records that are sealed before they are sent: what lies between stays in the second-level cache.
const BATCH: usize = 15;
/// Bytes of the block that they are sealed into, with room for a message that exchanges keys and an alert.
const SENT: usize = BATCH * (CONTENT + OVERHEAD) + 128;
/// Bytes that are received at a time.
const RECEIVED: usize = 128 << 10;

/// The records of both directions. Each is used by one task at a time, but for the end, which anybody may send.
pub(crate) struct Secured {
    output: Mutex<Output>,
    input: Mutex<Input>,
    /// The input holds something that can be had without receiving.
    holds_more: AtomicBool,
    /// The peer has asked for other keys from here.
    exchange: AtomicBool,
}

struct Output {
    sealer: Sealer,
    block: Option<BufMut>,
    sent: usize,
    used: usize,
    /// The end was said.
    ended: bool,
}

struct Input {
    opener: Opener,
    block: Option<BufMut>,
    /// What was received and not opened.
    start: usize,
    end: usize,
    /// What was opened in place and not taken; it stands before `start`.
    plain: (usize, usize),
    ended: bool,
    failed: Option<Fault>,
}

impl Secured {
    /// After a handshake; `came` are bytes of TLS that came already.
    pub fn new(sealer: Sealer, opener: Opener, came: &[u8]) -> Self {
        let block = (!came.is_empty()).then(|| {
            let mut block = BufMut::with_len(RECEIVED.max(came.len()));
            block.iter_mut().zip(came).for_each(|(to, from)| *to = *from);
            block
        });
        let input =
            Input { opener, block, start: 0, end: came.len(), plain: (0, 0), ended: false, failed: None };
        Self {
            output: Mutex::new(Output { sealer, block: None, sent: 0, used: 0, ended: false }),
            input: Mutex::new(input),
            holds_more: AtomicBool::new(!came.is_empty()),
            exchange: AtomicBool::new(false),
        }
    }

    /// Tells the peer that nothing more comes, and why; not one that takes nothing: it sees the end all the same.
    pub fn say(&self, stream: &Stream, alert: u8) {
        // It may be gone.
        let _ = self.output.lock().say(stream, alert);
    }
}

impl Layer for Secured {
    fn holds_more(&self) -> bool {
        self.holds_more.load(Ordering::Acquire)
    }

    fn try_flush(&self, stream: &Stream) -> io::Result<()> {
        self.output.lock().flush(stream)
    }

    fn say_the_end(&self, stream: &Stream) {
        self.say(stream, CLOSE_NOTIFY);
    }

    fn try_recv(&self, stream: &Stream, buf: &mut [u8]) -> io::Result<usize> {
        let mut input = self.input.lock();
        let got = input.read(stream, buf, &self.exchange);
        self.holds_more.store(input.holds_more(), Ordering::Release);
        let alert = input.failed.and_then(Fault::to_tell);
        drop(input);
        if let Some(alert) = alert {
            // Once: the end is told with it.
            self.say(stream, alert);
        }
        got
    }

    fn try_send(&self, stream: &Stream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut output = self.output.lock();
        output.flush(stream)?;
        if self.exchange.swap(false, Ordering::AcqRel) || output.sealer.is_worn() {
            output.exchange()?;
        }
        let taken = output.take(parts)?;
        match output.flush(stream) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }
}

impl Output {
    /// What seals, and where to.
    fn place(&mut self) -> (&mut Sealer, &mut [u8]) {
        let block = self.block.get_or_insert_with(|| BufMut::with_len(SENT));
        (&mut self.sealer, block.get_mut(self.used..).unwrap_or_default())
    }

    /// Sends what is sealed.
    fn flush(&mut self, stream: &Stream) -> io::Result<()> {
        while self.sent < self.used {
            let records = self.block.as_ref().and_then(|block| block.get(self.sent..self.used));
            match stream.try_send(records.unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        (self.block, self.sent, self.used) = (None, 0, 0);
        Ok(())
    }

    /// Seals parts of what is to be sent, as much as there is room for; how many bytes of them.
    fn take(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut rest = Rest { parts, at: 0 };
        let mut taken = 0;
        for _ in 0..BATCH {
            let first = rest.first();
            if first.is_empty() {
                break;
            }
            let (sealer, out) = self.place();
            let (len, record) = if first.len() >= CONTENT || rest.parts.len() == 1 {
                let plain = first.get(..CONTENT).unwrap_or(first);
                rest.advance(plain.len());
                (plain.len(), sealer.seal(Content::Data, plain, out)?)
            } else {
                // Small parts share a record: they are copied together first.
                let len = rest.gather(out.get_mut(HEADER..HEADER + CONTENT).unwrap_or_default());
                (len, sealer.seal_in_place(len, out)?)
            };
            self.used += record;
            taken += len;
        }
        Ok(taken)
    }

    /// Exchanges the keys of this direction.
    fn exchange(&mut self) -> Result<(), Fault> {
        let (sealer, out) = self.place();
        self.used += sealer.exchange(out)?;
        Ok(())
    }

    fn say(&mut self, stream: &Stream, alert: u8) -> io::Result<()> {
        if std::mem::replace(&mut self.ended, true) || self.sent < self.used {
            return Ok(());
        }
        let level = if alert == CLOSE_NOTIFY { 1 } else { 2 };
        let (sealer, out) = self.place();
        self.used += sealer.seal(Content::Alert, &[level, alert], out)?;
        self.flush(stream)
    }
}

/// What of several parts is not taken yet.
struct Rest<'a, 'b> {
    parts: &'a [IoSlice<'b>],
    /// Bytes taken of the first one.
    at: usize,
}

impl<'a> Rest<'a, '_> {
    /// What is left of the first part that has something.
    fn first(&mut self) -> &'a [u8] {
        while let Some((first, others)) = self.parts.split_first() {
            let left = first.get(self.at..).unwrap_or_default();
            if !left.is_empty() {
                return left;
            }
            (self.parts, self.at) = (others, 0);
        }
        &[]
    }

    fn advance(&mut self, n: usize) {
        self.at += n;
    }

    /// Copies to `out` what it has room for; how many bytes.
    fn gather(&mut self, out: &mut [u8]) -> usize {
        let mut done = 0;
        loop {
            let first = self.first();
            let to = out.get_mut(done..).unwrap_or_default();
            let n = first.len().min(to.len());
            if n == 0 {
                return done;
            }
            if let (Some(to), Some(from)) = (to.get_mut(..n), first.get(..n)) {
                to.copy_from_slice(from);
            }
            self.advance(n);
            done += n;
        }
    }
}

impl Input {
    /// Something can be had without receiving.
    fn holds_more(&self) -> bool {
        self.plain.0 < self.plain.1
            || self.ended
            || self.failed.is_some()
            // What is wrong is to be told, too.
            || !matches!(self.next(), Ok(None))
    }

    /// The length of the next record, if all of it is there.
    fn next(&self) -> Result<Option<usize>, Fault> {
        let window =
            self.block.as_ref().and_then(|block| block.get(self.start..self.end)).unwrap_or_default();
        Ok(Opener::record_len(window)?.filter(|len| *len <= window.len()))
    }

    fn read(&mut self, stream: &Stream, buf: &mut [u8], exchange: &AtomicBool) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let to = buf.get_mut(done..).unwrap_or_default();
            if self.plain.0 < self.plain.1 {
                done += self.take_plain(to);
                continue;
            }
            if self.ended {
                break;
            }
            let step = match self.failed {
                Some(fault) => Err(fault),
                None => self.next(),
            };
            let record = match step {
                // Some data before what is wrong are data all the same.
                Err(fault) => {
                    self.failed = Some(fault);
                    if done > 0 { break } else { return Err(fault.into()) }
                }
                Ok(record) => record,
            };
            match record {
                Some(len) => match self.open(len, to) {
                    Ok((n, asked)) => {
                        done += n;
                        if asked {
                            exchange.store(true, Ordering::Release);
                        }
                    }
                    Err(fault) => self.failed = Some(fault),
                },
                None if done > 0 => break,
                None => self.receive(stream)?,
            }
        }
        if self.start == self.end && self.plain.0 == self.plain.1 {
            (self.block, self.start, self.end) = (None, 0, 0);
        }
        Ok(done)
    }

    fn take_plain(&mut self, to: &mut [u8]) -> usize {
        let from =
            self.block.as_ref().and_then(|block| block.get(self.plain.0..self.plain.1)).unwrap_or_default();
        let n = from.len().min(to.len());
        if let (Some(to), Some(from)) = (to.get_mut(..n), from.get(..n)) {
            to.copy_from_slice(from);
        }
        self.plain.0 += n;
        n
    }

    /// Opens the next record, of `len` bytes: how many bytes of data went to `to`, and whether the peer asks for other keys. What
    /// `to` has no room for stays here.
    fn open(&mut self, len: usize, to: &mut [u8]) -> Result<(usize, bool), Fault> {
        let record = self.block.as_mut().and_then(|block| block.get_mut(self.start..self.start + len));
        let record = record.ok_or(Fault::NoRecord)?;
        let is_direct = to.len() >= Opener::room(len);
        let opened =
            if is_direct { self.opener.open(record, to)? } else { self.opener.open_in_place(record)? };
        let content = self.start + HEADER;
        self.start += len;
        match opened {
            Opened::Data(n) if is_direct => return Ok((n, false)),
            Opened::Data(n) => self.plain = (content, content + n),
            Opened::Nothing => {}
            Opened::Exchange => return Ok((0, true)),
            Opened::End => self.ended = true,
        }
        Ok((0, false))
    }

    /// Receives behind what is there. A peer that is gone without a word has ended too: what is said in TLS has its own end.
    fn receive(&mut self, stream: &Stream) -> io::Result<()> {
        let block = self.block.get_or_insert_with(|| BufMut::with_len(RECEIVED));
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            // A part of a record.
            block.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = block.get_mut(self.end..).unwrap_or_default();
        match stream.try_recv(room) {
            Ok(0) => self.ended = true,
            Ok(n) => self.end += n,
            Err(error) => {
                if self.end == 0 {
                    self.block = None;
                }
                return Err(error);
            }
        }
        Ok(())
    }
}
