//! `read`, `write` and their kin: one request after the other, each reported when it has ended.

use super::Session;
use super::command::Outcome;
use super::report::{self, Style};
use super::words::{MAX_REQUEST, Refused};
use crate::getopt::{Flag, Parsed};
use crate::outln;
use block::{Backend, BlockError, ErrorKind, WriteFlags, ZeroFlags};
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Largest piece that a long request is done in, in bytes: memory stays bounded.
pub const PIECE: u64 = 16 << 20;

/// What is written where no pattern is given.
pub const DEFAULT_PATTERN: u8 = 0xcd;

/// Help of the reading commands.
pub const READ_MORE: &str = " -C  print numbers separated by commas
 -P  compare what is read with this byte
 -s  begin to compare at this offset into what is read
 -l  compare this many bytes
 -q  print nothing about the request
 -v  print what was read
 -b, -p, -r  accepted; -b is refused later

 Example: read -P 7 512 1k
";

/// Help of the writing commands.
pub const WRITE_MORE: &str = " -C  print numbers separated by commas
 -f  durable before it is reported
 -n  with -z: fail rather than write zeroes as data
 -P  write this byte
 -q  print nothing about the request
 -s  write the content of this file, over and over
 -u  with -z: space may be given up
 -z  write zeroes
 -r  accepted

 Example: write -P 7 512 1k
";

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Id {
    VmState,
    Compressed,
    Machine,
    Fua,
    NoFallback,
    Pattern,
    Quiet,
    Registered,
    Source,
    Unmap,
    Zero,
    Dump,
    Length,
    Old,
    Invalid,
}

const READ: &[Flag<Id>] = &[
    Flag::bare(Id::Old, Some('a'), None, ""),
    Flag::bare(Id::Old, Some('p'), None, ""),
    Flag::bare(Id::VmState, Some('b'), None, ""),
    Flag::bare(Id::Machine, Some('C'), None, ""),
    Flag::bare(Id::Quiet, Some('q'), None, ""),
    Flag::bare(Id::Registered, Some('r'), None, ""),
    Flag::bare(Id::Dump, Some('v'), None, ""),
    Flag::valued(Id::Pattern, Some('P'), None, "BYTE", ""),
    Flag::valued(Id::Source, Some('s'), None, "OFFSET", ""),
    Flag::valued(Id::Length, Some('l'), None, "LENGTH", ""),
];

const WRITE: &[Flag<Id>] = &[
    Flag::bare(Id::VmState, Some('b'), None, ""),
    Flag::bare(Id::Compressed, Some('c'), None, ""),
    Flag::bare(Id::Machine, Some('C'), None, ""),
    Flag::bare(Id::Fua, Some('f'), None, ""),
    Flag::bare(Id::NoFallback, Some('n'), None, ""),
    Flag::bare(Id::Old, Some('p'), None, ""),
    Flag::bare(Id::Quiet, Some('q'), None, ""),
    Flag::bare(Id::Registered, Some('r'), None, ""),
    Flag::bare(Id::Unmap, Some('u'), None, ""),
    Flag::bare(Id::Zero, Some('z'), None, ""),
    Flag::valued(Id::Pattern, Some('P'), None, "BYTE", ""),
    Flag::valued(Id::Source, Some('s'), None, "FILE", ""),
];

const DISCARD: &[Flag<Id>] =
    &[Flag::bare(Id::Machine, Some('C'), None, ""), Flag::bare(Id::Quiet, Some('q'), None, "")];

/// What a read is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expect {
    pub byte: u8,
    /// Offset into what is read, and length.
    pub from: u64,
    pub len: u64,
}

/// What is to be written.
pub(super) enum Content {
    /// Nothing but this byte.
    Byte(u8),
    /// These bytes, over and over.
    Repeat(Vec<u8>),
    /// Zeroes, as the image does them.
    Zeroes { unmap: bool, no_fallback: bool },
}

pub(super) fn style(parsed: &Parsed<Id>) -> Style {
    match (parsed.has(Id::Quiet), parsed.has(Id::Machine)) {
        (true, _) => Style::Quiet,
        (false, true) => Style::Machine,
        (false, false) => Style::Human,
    }
}

pub(super) fn value_of(parsed: &Parsed<Id>, id: Id) -> Option<&str> {
    parsed.flags.iter().rev().find(|(given, _)| *given == id).map(|(_, value)| value.as_str())
}

/// `read off len`.
pub async fn read(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let parsed = session.flags("read", READ, args)?;
    let [offset, length] = parsed.operands.as_slice() else { return Err(session.misused("read")) };
    if parsed.has(Id::VmState) {
        return Err(session.refuse(format_args!("-b: reading the VM state is not supported yet")));
    }
    let offset = session.number(offset)?;
    let length = session.length(length)?;
    session.read_request("read", &parsed, offset, length).await
}

/// `readv off len [len..]`.
pub async fn readv(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let parsed = session.flags("readv", READ, args)?;
    let Some((offset, lengths)) = parsed.operands.split_first().filter(|(_, lengths)| !lengths.is_empty())
    else {
        return Err(session.misused("readv"));
    };
    let offset = session.number(offset)?;
    let length = session.lengths(lengths)?;
    session.read_request("readv", &parsed, offset, length).await
}

/// `write off len`.
pub async fn write(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let parsed = session.flags("write", WRITE, args)?;
    let [offset, length] = parsed.operands.as_slice() else { return Err(session.misused("write")) };
    let content = session.content(&parsed)?;
    let offset = session.number(offset)?;
    let length_text = length;
    let length = session.number(length_text)?;
    if length > MAX_REQUEST && !parsed.has(Id::NoFallback) {
        return Err(session
            .refuse(format_args!("length cannot exceed {MAX_REQUEST} without -n, given {length_text}")));
    }
    session.write_request("write", &parsed, content, offset, length).await
}

/// `writev off len [len..]`.
pub async fn writev(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let parsed = session.flags("writev", WRITE, args)?;
    let Some((offset, lengths)) = parsed.operands.split_first().filter(|(_, lengths)| !lengths.is_empty())
    else {
        return Err(session.misused("writev"));
    };
    let content = session.content(&parsed)?;
    let offset = session.number(offset)?;
    let length = session.lengths(lengths)?;
    session.write_request("writev", &parsed, content, offset, length).await
}

/// `discard off len`.
pub async fn discard(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let parsed = session.flags("discard", DISCARD, args)?;
    let [offset, length] = parsed.operands.as_slice() else { return Err(session.misused("discard")) };
    let offset = session.number(offset)?;
    let length = session.length(length)?;
    let backend = session.backend()?;
    let started = Instant::now();
    let result = match inside(&backend, offset, length) {
        Ok(()) => backend.discard(offset, length).await,
        Err(error) => Err(error),
    };
    session.ended("discard", "discard", style(&parsed), offset, length, started.elapsed(), result)
}

/// `flush`.
pub async fn flush(session: &mut Session<'_>, _: &[String]) -> Result<Outcome, Refused> {
    let backend = session.backend()?;
    match backend.flush().await {
        Ok(()) => Ok(Outcome::Done),
        Err(error) => Err(session.refuse(format_args!("flush failed: {}", error.strerror()))),
    }
}

impl Session<'_> {
    /// The way into the open image.
    pub(super) fn backend(&mut self) -> Result<Arc<Backend>, Refused> {
        match &self.image {
            Some(image) => Ok(image.backend.clone()),
            None => Err(Refused),
        }
    }

    pub(super) fn expectation(
        &mut self,
        parsed: &Parsed<Id>,
        length: u64,
    ) -> Result<Option<Expect>, Refused> {
        let pattern = match value_of(parsed, Id::Pattern) {
            Some(text) => Some(self.pattern(text)?),
            None => None,
        };
        let from = match value_of(parsed, Id::Source) {
            Some(text) => Some(self.number(text)?),
            None => None,
        };
        let count = match value_of(parsed, Id::Length) {
            Some(text) => Some(self.number(text)?),
            None => None,
        };
        let Some(byte) = pattern else {
            if from.is_some() || count.is_some() {
                return Err(self.misused("read"));
            }
            return Ok(None);
        };
        let from = from.unwrap_or(0);
        let len = count.unwrap_or(length.saturating_sub(from));
        if from > length || len > length - from {
            return Err(self.refuse(format_args!("pattern verification range exceeds end of read data")));
        }
        Ok(Some(Expect { byte, from, len }))
    }

    async fn read_request(
        &mut self,
        command: &str,
        parsed: &Parsed<Id>,
        offset: u64,
        length: u64,
    ) -> Result<Outcome, Refused> {
        let expect = self.expectation(parsed, length)?;
        let backend = self.backend()?;
        let started = Instant::now();
        let outcome = read_all(&backend, offset, length, expect, parsed.has(Id::Dump), self.shift).await;
        let took = started.elapsed();
        let matched = match &outcome {
            Ok(done) => {
                self.tell_mismatch(offset, expect, done.matched);
                report::dump(self.console, offset as i64, &done.kept);
                done.matched
            }
            Err(_) => true,
        };
        self.ended(command, "read", style(parsed), offset, length, took, outcome.map(|_| ()))?;
        if matched { Ok(Outcome::Done) } else { Err(Refused) }
    }

    pub(super) fn tell_mismatch(&mut self, offset: u64, expect: Option<Expect>, matched: bool) {
        if let Some(expect) = expect.filter(|_| !matched) {
            outln!(
                self.console,
                "Pattern verification failed at offset {}, {} bytes",
                offset.saturating_add(expect.from),
                expect.len
            );
        }
    }

    /// What the flags say to write.
    pub(super) fn content(&mut self, parsed: &Parsed<Id>) -> Result<Content, Refused> {
        let (pattern, source) = (value_of(parsed, Id::Pattern), value_of(parsed, Id::Source));
        let zero = parsed.has(Id::Zero);
        if parsed.has(Id::VmState) {
            return Err(self.refuse(format_args!("-b: writing the VM state is not supported yet")));
        }
        if parsed.has(Id::Compressed) {
            return Err(self.refuse(format_args!("-c: compressed writes are not supported yet")));
        }
        if parsed.has(Id::NoFallback) && !zero {
            return Err(self.refuse(format_args!("-n requires -z to be specified")));
        }
        if parsed.has(Id::Unmap) && !zero {
            return Err(self.refuse(format_args!("-u requires -z to be specified")));
        }
        if [zero, pattern.is_some(), source.is_some()].into_iter().filter(|given| *given).count() > 1 {
            return Err(
                self.refuse(format_args!("Only one of -z, -P, and -s can be specified at the same time"))
            );
        }
        if zero {
            let (unmap, no_fallback) = (parsed.has(Id::Unmap), parsed.has(Id::NoFallback));
            return Ok(Content::Zeroes { unmap, no_fallback });
        }
        if let Some(text) = pattern {
            return Ok(Content::Byte(self.pattern(text)?));
        }
        match source {
            None => Ok(Content::Byte(DEFAULT_PATTERN)),
            Some(name) => self.pattern_file(name).map(Content::Repeat),
        }
    }

    /// The content of a pattern file, as far as one request can use it.
    fn pattern_file(&mut self, name: &str) -> Result<Vec<u8>, Refused> {
        use std::io::Read;
        let mut bytes = Vec::new();
        let path = rt::fs::path(name);
        let read = std::fs::metadata(&path).and_then(|meta| {
            if !meta.is_file() {
                return Err(std::io::Error::other("not a regular file"));
            }
            std::fs::File::open(path)?.take(PIECE).read_to_end(&mut bytes)
        });
        match read {
            Ok(0) => Err(self.refuse(format_args!("{name}: the pattern file is empty"))),
            Ok(_) => Ok(bytes),
            Err(error) => {
                self.console.note(format_args!("{name}: {}", BlockError::from_io(&error)));
                Err(Refused)
            }
        }
    }

    async fn write_request(
        &mut self,
        command: &str,
        parsed: &Parsed<Id>,
        content: Content,
        offset: u64,
        length: u64,
    ) -> Result<Outcome, Refused> {
        let backend = self.backend()?;
        let started = Instant::now();
        let result = write_all(&backend, offset, length, &content, parsed.has(Id::Fua), self.shift).await;
        self.ended(command, "wrote", style(parsed), offset, length, started.elapsed(), result)
    }

    /// Reports a request that has ended.
    #[expect(clippy::too_many_arguments, reason = "what a report shows is what it is given")]
    pub(super) fn ended(
        &mut self,
        command: &str,
        verb: &str,
        style: Style,
        offset: u64,
        length: u64,
        took: Duration,
        result: Result<(), BlockError>,
    ) -> Result<Outcome, Refused> {
        match result {
            Ok(()) => {
                report::request(self.console, style, verb, offset as i64, length, length, took);
                Ok(Outcome::Done)
            }
            Err(error) if error.kind() == ErrorKind::ReadOnly => {
                self.console.error("Block node is read-only");
                Err(Refused)
            }
            Err(error) => Err(self.refuse(format_args!("{command} failed: {}", error.strerror()))),
        }
    }
}

/// What a read came to.
pub(super) struct ReadDone {
    /// It was what was expected.
    pub matched: bool,
    /// What was read, if it is to be shown.
    pub kept: Vec<u8>,
}

/// A request beyond the end is an I/O error, as it is for a guest.
pub(super) fn inside(backend: &Backend, offset: u64, length: u64) -> Result<(), BlockError> {
    if offset.checked_add(length).is_some_and(|end| end <= backend.length()) {
        return Ok(());
    }
    Err(BlockError::new(ErrorKind::Io, "the request ends beyond the end of the image").at(offset))
}

/// Reads with buffers that lie `shift` bytes after an aligned address.
pub(super) async fn read_all(
    backend: &Backend,
    offset: u64,
    length: u64,
    expect: Option<Expect>,
    keep: bool,
    shift: usize,
) -> Result<ReadDone, BlockError> {
    inside(backend, offset, length)?;
    let mut done = ReadDone { matched: true, kept: Vec::new() };
    let mut at = 0;
    while at < length {
        let piece = PIECE.min(length - at);
        let mut buf = BufMut::with_len(piece as usize + shift);
        buf.split_to(shift);
        let (buf, result) = backend.read(offset + at, buf).await;
        result?;
        if let Some(expect) = expect {
            let from = expect.from.clamp(at, at + piece) - at;
            let to = (expect.from + expect.len).clamp(at, at + piece) - at;
            let compared = buf.get(from as usize..to as usize).unwrap_or_default();
            done.matched &= compared.iter().all(|byte| *byte == expect.byte);
        }
        if keep {
            done.kept.extend_from_slice(&buf);
        }
        at += piece;
    }
    Ok(done)
}

/// Writes from a buffer that lies `shift` bytes after an aligned address.
pub(super) async fn write_all(
    backend: &Backend,
    offset: u64,
    length: u64,
    content: &Content,
    fua: bool,
    shift: usize,
) -> Result<(), BlockError> {
    inside(backend, offset, length)?;
    let (unit, data) = match content {
        Content::Zeroes { unmap, no_fallback } => {
            let flags = ZeroFlags { unmap: *unmap, no_fallback: *no_fallback, fua };
            return backend.write_zeroes(offset, length, flags).await;
        }
        Content::Byte(byte) => (PIECE, repeated(&[*byte], PIECE.min(length), shift)),
        Content::Repeat(bytes) => {
            let unit = (PIECE / bytes.len() as u64).max(1) * bytes.len() as u64;
            (unit, repeated(bytes, unit.min(length), shift))
        }
    };
    let mut at = 0;
    while at < length {
        let piece = unit.min(length - at);
        let flags = WriteFlags { fua, ..WriteFlags::default() };
        backend.write(offset + at, data.slice(0..piece as usize), flags).await?;
        at += piece;
    }
    Ok(())
}

/// A buffer of `len` bytes, `shift` bytes after an aligned address: `bytes` over and over.
fn repeated(bytes: &[u8], len: u64, shift: usize) -> Buf {
    let mut buf = BufMut::with_len(len as usize + shift);
    buf.split_to(shift);
    buf.chunks_mut(bytes.len()).for_each(|chunk| {
        let (front, _) = bytes.split_at(chunk.len());
        chunk.copy_from_slice(front);
    });
    buf.freeze()
}
