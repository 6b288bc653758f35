//! `read`, `write` and their kin: one request after the other, each reported when it has ended.

use super::Session;
use super::arguments::{self, MAX_REQUEST, Refused};
use super::command::Outcome;
use super::report::{self, Style};
use super::witness::{Bytes, Deed, told};
use crate::flags::has_parts;
use crate::getopt::{Flag, Table};
use crate::outln;
use block::{Backend, BlockError, ErrorKind, Flags, Graph, Request};
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Largest piece that a long request is done in, in bytes: memory stays bounded.
pub const PIECE: u64 = 16 << 20;

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// What is written where no pattern is given.
pub const DEFAULT_PATTERN: u8 = 0xcd;

/// What the flags of a reading command say.
#[derive(Debug, Default)]
pub struct ReadFlags {
    pub(super) style: Style,
    pattern: Option<u8>,
    /// Where the comparison with the pattern begins, and how long it is.
    from: Option<u64>,
    count: Option<u64>,
    pub(super) dump: bool,
    state: bool,
    pub(super) invalid: bool,
}

/// What the flags of a writing command say.
#[derive(Debug, Default)]
pub struct WriteFlags {
    pub(super) style: Style,
    pub(super) fua: bool,
    no_fallback: bool,
    unmap: bool,
    pub(super) zero: bool,
    compress: bool,
    pub(super) pattern: Option<u8>,
    file: Option<String>,
    state: bool,
    pub(super) invalid: bool,
}

/// What the flags of `discard` say.
#[derive(Debug, Default)]
pub struct DiscardFlags {
    pub(super) style: Style,
}

has_parts!(ReadFlags { style: Style });
has_parts!(WriteFlags { style: Style });
has_parts!(DiscardFlags { style: Style });

/// What chose between system calls once: what comes of a request does not depend on it.
const WITHOUT_MEANING: &str = "it chose between system calls once";

/// How buffers are handed to the kernel: what comes of a request does not depend on it.
const REGISTERED: &str = "it hints at how buffers are handed to the kernel";

/// `-C`: numbers for scripts.
pub(super) const fn machine<S: AsMut<Style>>() -> Flag<S> {
    Flag::set("-C", "print numbers separated by commas", |s| s.as_mut().machine = true)
}

/// `-q`: nothing about a request that went well.
pub(super) const fn quiet<S: AsMut<Style>>() -> Flag<S> {
    Flag::set("-q", "print nothing about the request", |s| s.as_mut().quiet = true)
}

/// `-r`.
pub(super) const fn registered<S>() -> Flag<S> {
    Flag::ignored("-r", "accepted", REGISTERED)
}

/// `-P` of all reading commands.
pub(super) const fn compared() -> Flag<ReadFlags> {
    Flag::take("-P", "BYTE", "compare what is read with this byte", |s, text| {
        s.pattern = Some(arguments::pattern(text)?);
        Ok(())
    })
}

/// `-v`: show what was read.
pub(super) const fn dump() -> Flag<ReadFlags> {
    Flag::set("-v", "print what was read", |s| s.dump = true)
}

/// `read`.
pub const READ: Table<ReadFlags> = &[&[
    machine(),
    compared(),
    Flag::take("-s", "OFFSET", "begin to compare at this offset into what is read", |s, text| {
        s.from = Some(arguments::number(text)?);
        Ok(())
    }),
    Flag::take("-l", "LENGTH", "compare this many bytes", |s, text| {
        s.count = Some(arguments::number(text)?);
        Ok(())
    }),
    quiet(),
    dump(),
    Flag::ignored("-p", "accepted", WITHOUT_MEANING),
    registered(),
    Flag::set("-b", "read machine state, which lies behind the disk", |s| s.state = true),
]];

/// `-f`: durable when it ends.
pub(super) const fn fua() -> Flag<WriteFlags> {
    Flag::set("-f", "durable before it is reported", |s| s.fua = true)
}

/// `-P` of all writing commands.
pub(super) const fn written() -> Flag<WriteFlags> {
    Flag::take("-P", "BYTE", "write this byte", |s, text| {
        s.pattern = Some(arguments::pattern(text)?);
        Ok(())
    })
}

/// `-u` and `-z`.
pub(super) const fn zeroes() -> [Flag<WriteFlags>; 2] {
    [
        Flag::set("-u", "with -z: space may be given up", |s| s.unmap = true),
        Flag::set("-z", "write zeroes", |s| s.zero = true),
    ]
}

/// `write`.
pub const WRITE: Table<WriteFlags> = &[
    &[
        machine(),
        fua(),
        Flag::set("-n", "with -z: fail rather than write zeroes as data", |s| s.no_fallback = true),
        written(),
        quiet(),
        Flag::take("-s", "FILE", "write the content of this file, over and over", |s, name| {
            s.file = Some(name.to_owned());
            Ok(())
        }),
    ],
    &zeroes(),
    &[
        registered(),
        Flag::ignored("-p", "accepted", WITHOUT_MEANING),
        Flag::set("-b", "write machine state, which lies behind the disk", |s| s.state = true),
        Flag::set("-c", "store compressed", |s| s.compress = true),
    ],
];

/// `readv`.
pub const READV: Table<ReadFlags> = &[&[machine(), compared(), quiet(), dump(), registered()]];

/// `writev`.
pub const WRITEV: Table<WriteFlags> = &[&[machine(), fua(), written(), quiet(), registered()]];

/// `discard`.
pub const DISCARD: Table<DiscardFlags> = &[&[machine(), quiet()]];

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

impl Content {
    /// The request that writes it.
    pub(super) fn deed(&self, offset: u64, length: u64, fua: bool) -> Deed {
        let bytes = match self {
            Content::Zeroes { .. } => return Deed::Zeroes { offset, length, fua },
            Content::Byte(byte) => Bytes::Same(*byte),
            Content::Repeat(bytes) => Bytes::Repeat(bytes.as_slice().into()),
        };
        Deed::Write { offset, length, bytes, fua }
    }
}

/// `read off len`.
pub async fn read(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let (flags, operands) = session.transfer_flags("read", READ, args)?;
    let [offset, length] = operands.as_slice() else { return Err(session.misused("read")) };
    let offset = session.or_refuse(arguments::number(offset))?;
    let length = session.or_refuse(arguments::length(length))?;
    session.read_request("read", &flags, offset, length).await
}

/// `readv off len [len..]`.
pub async fn readv(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let (flags, operands) = session.transfer_flags("readv", READV, args)?;
    let Some((offset, lengths)) = pieces(&operands) else { return Err(session.misused("readv")) };
    let offset = session.or_refuse(arguments::number(offset))?;
    let length = session.or_refuse(arguments::lengths(lengths))?;
    session.read_request("readv", &flags, offset, length).await
}

/// `write off len`.
pub async fn write(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let (flags, operands) = session.transfer_flags("write", WRITE, args)?;
    let [offset, length_text] = operands.as_slice() else { return Err(session.misused("write")) };
    let content = session.content(&flags)?;
    let offset = session.or_refuse(arguments::number(offset))?;
    let length = session.or_refuse(arguments::number(length_text))?;
    if length > MAX_REQUEST && !flags.no_fallback {
        return Err(session
            .refuse(format_args!("length cannot exceed {MAX_REQUEST} without -n, given {length_text}")));
    }
    session.write_request("write", &flags, content, offset, length).await
}

/// `writev off len [len..]`.
pub async fn writev(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let (flags, operands) = session.transfer_flags("writev", WRITEV, args)?;
    let Some((offset, lengths)) = pieces(&operands) else { return Err(session.misused("writev")) };
    let content = session.content(&flags)?;
    let offset = session.or_refuse(arguments::number(offset))?;
    let length = session.or_refuse(arguments::lengths(lengths))?;
    session.write_request("writev", &flags, content, offset, length).await
}

/// The offset and the lengths of a request that is given in pieces: at least one.
pub(super) fn pieces(operands: &[String]) -> Option<(&String, &[String])> {
    operands.split_first().filter(|(_, lengths)| !lengths.is_empty())
}

/// `discard off len`.
pub async fn discard(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let (flags, operands) = session.transfer_flags("discard", DISCARD, args)?;
    let [offset, length] = operands.as_slice() else { return Err(session.misused("discard")) };
    let offset = session.or_refuse(arguments::number(offset))?;
    let length = session.or_refuse(arguments::length(length))?;
    let backend = session.backend()?;
    let started = Instant::now();
    let (witness, deed) = (session.witness.clone(), Deed::Discard { offset, length });
    let result = told(witness, deed, discard_all(&backend, offset, length)).await;
    session.ended("discard", "discard", flags.style, offset, length, started.elapsed(), result)
}

/// `flush`.
pub async fn flush(session: &mut Session<'_>, _: &[String]) -> Result<Outcome, Refused> {
    let backend = session.backend()?;
    match told(session.witness.clone(), Deed::Flush, backend.flush()).await {
        Ok(()) => Ok(Outcome::Done),
        Err(_) if session.scripted => Err(Refused),
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

    /// Reads the arguments of a command that moves data: what its flags say, and the operands.
    pub(super) fn transfer_flags<S: Default>(
        &mut self,
        command: &str,
        table: Table<S>,
        args: &[String],
    ) -> Result<(S, Vec<String>), Refused> {
        let parsed = self.flags(command, table, args)?;
        let mut flags = S::default();
        self.or_refuse(parsed.apply(&mut flags))?;
        Ok((flags, parsed.operands))
    }

    /// What a read of `length` bytes is compared with.
    pub(super) fn expectation(&mut self, flags: &ReadFlags, length: u64) -> Result<Option<Expect>, Refused> {
        let Some(byte) = flags.pattern else {
            if flags.from.is_some() || flags.count.is_some() {
                return Err(self.misused("read"));
            }
            return Ok(None);
        };
        let from = flags.from.unwrap_or(0);
        let len = flags.count.unwrap_or(length.saturating_sub(from));
        if from > length || len > length - from {
            return Err(self.refuse(format_args!("pattern verification range exceeds end of read data")));
        }
        Ok(Some(Expect { byte, from, len }))
    }

    async fn read_request(
        &mut self,
        command: &str,
        flags: &ReadFlags,
        offset: u64,
        length: u64,
    ) -> Result<Outcome, Refused> {
        let expect = self.expectation(flags, length)?;
        let backend = self.backend()?;
        self.whole_sectors(flags.state, offset, length)?;
        let started = Instant::now();
        let from = Place { backend: &backend, state: self.state_of(flags.state), offset, length };
        let outcome = read_all(from, expect, flags.dump, self.shift).await;
        let took = started.elapsed();
        let matched = match &outcome {
            Ok(done) => {
                self.tell_mismatch(offset, expect, done.matched);
                report::dump(self.console, flags.style, offset as i64, &done.kept);
                done.matched
            }
            Err(_) => true,
        };
        self.ended(command, "read", flags.style, offset, length, took, outcome.map(|_| ()))?;
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
    pub(super) fn content(&mut self, flags: &WriteFlags) -> Result<Content, Refused> {
        let WriteFlags { no_fallback, unmap, zero, pattern, file, state, fua, compress, .. } = flags;
        if *state && *zero {
            return Err(self.refuse(format_args!("-b and -z cannot be specified at the same time")));
        }
        if (*state || *compress) && *fua {
            return Err(self.refuse(format_args!("-f and -b or -c cannot be specified at the same time")));
        }
        if *no_fallback && !zero {
            return Err(self.refuse(format_args!("-n requires -z to be specified")));
        }
        if *unmap && !zero {
            return Err(self.refuse(format_args!("-u requires -z to be specified")));
        }
        match (zero, pattern, file) {
            (true, None, None) => Ok(Content::Zeroes { unmap: *unmap, no_fallback: *no_fallback }),
            (false, pattern, None) => Ok(Content::Byte(pattern.unwrap_or(DEFAULT_PATTERN))),
            (false, None, Some(name)) => self.pattern_file(name).map(Content::Repeat),
            _ => {
                Err(self.refuse(format_args!("Only one of -z, -P, and -s can be specified at the same time")))
            }
        }
    }

    /// The content of a pattern file, as far as one request can use it.
    fn pattern_file(&mut self, name: &str) -> Result<Vec<u8>, Refused> {
        use std::io::Read;
        use std::os::unix::fs::FileTypeExt;
        let mut bytes = Vec::new();
        let path = rt::fs::path(name);
        let read = std::fs::metadata(&path).and_then(|meta| {
            // A pipe might never give anything.
            if !meta.is_file() && !meta.file_type().is_char_device() {
                return Err(std::io::Error::other("neither a regular file nor a character device"));
            }
            std::fs::File::open(path)?.take(PIECE).read_to_end(&mut bytes)
        });
        match read {
            Ok(0) => {
                self.console.note(format_args!("{name}: the pattern file is empty"));
                Err(Refused)
            }
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
        flags: &WriteFlags,
        content: Content,
        offset: u64,
        length: u64,
    ) -> Result<Outcome, Refused> {
        let backend = self.backend()?;
        self.whole_sectors(flags.state || flags.compress, offset, length)?;
        let started = Instant::now();
        let to = Place { backend: &backend, state: self.state_of(flags.state), offset, length };
        // Machine state is no part of the disk.
        let (witness, deed) =
            (self.witness.clone().filter(|_| !flags.state), content.deed(offset, length, flags.fua));
        // Machine state is never compressed.
        let compress = flags.compress && !flags.state;
        let request = Request::GUEST.with_if(flags.fua, Flags::FUA).with_if(compress, Flags::COMPRESSED);
        let result = told(witness, deed, write_all(to, &content, request, self.shift)).await;
        self.ended(command, "wrote", flags.style, offset, length, started.elapsed(), result)
    }

    /// Machine state is moved in whole sectors, and so is what is compressed.
    fn whole_sectors(&mut self, must: bool, offset: u64, length: u64) -> Result<(), Refused> {
        for (what, number) in [("offset", offset), ("count", length)] {
            if must && !number.is_multiple_of(SECTOR) {
                return Err(self.refuse(format_args!("{number} is not a sector-aligned value for '{what}'")));
            }
        }
        Ok(())
    }

    /// The graph of the image, where machine state is meant.
    fn state_of(&self, state: bool) -> Option<&Graph> {
        self.image.as_ref().map(|image| &image.graph).filter(|_| state)
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

/// What a request is about: a range of the disk, or of the machine state behind it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub backend: &'a Backend,
    /// The graph, where machine state is meant.
    pub state: Option<&'a Graph>,
    pub offset: u64,
    pub length: u64,
}

impl<'a> Place<'a> {
    /// A range of the disk.
    pub(super) fn disk(backend: &'a Backend, offset: u64, length: u64) -> Place<'a> {
        Place { backend, state: None, offset, length }
    }

    fn check(self) -> Result<(), BlockError> {
        if self.state.is_some() { Ok(()) } else { inside(self.backend, self.offset, self.length) }
    }

    /// Reads into `buf` from `at` bytes into it on.
    async fn read(self, at: u64, buf: BufMut) -> Result<BufMut, BlockError> {
        match self.state {
            Some(graph) => {
                graph.read_state(&self.backend.node().skip_filters(), self.offset + at, buf.len()).await
            }
            None => {
                let (buf, result) = self.backend.read(self.offset + at, buf).await;
                result.map(|()| buf)
            }
        }
    }

    async fn write(self, at: u64, data: Buf, request: Request) -> Result<(), BlockError> {
        match self.state {
            Some(graph) => {
                graph.write_state(&self.backend.node().skip_filters(), self.offset + at, data).await
            }
            None => self.backend.write(self.offset + at, data, request).await,
        }
    }
}

/// A request beyond the end is an I/O error, as it is for a guest.
pub(super) fn inside(backend: &Backend, offset: u64, length: u64) -> Result<(), BlockError> {
    if offset.checked_add(length).is_some_and(|end| end <= backend.length()) {
        return Ok(());
    }
    Err(BlockError::new(ErrorKind::Io, "the request ends beyond the end of the image").at(offset))
}

/// Gives the space of a range back.
pub(super) async fn discard_all(backend: &Backend, offset: u64, length: u64) -> Result<(), BlockError> {
    inside(backend, offset, length)?;
    backend.discard(offset, length, Request::GUEST).await
}

/// Reads with buffers that lie `shift` bytes after an aligned address.
pub(super) async fn read_all(
    from: Place<'_>,
    expect: Option<Expect>,
    keep: bool,
    shift: usize,
) -> Result<ReadDone, BlockError> {
    from.check()?;
    let (place, length) = (from, from.length);
    let mut done = ReadDone { matched: true, kept: Vec::new() };
    let mut at = 0;
    while at < length {
        let piece = PIECE.min(length - at);
        let mut buf = BufMut::with_len(piece as usize + shift);
        buf.split_to(shift);
        let buf = place.read(at, buf).await?;
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
    to: Place<'_>,
    content: &Content,
    request: Request,
    shift: usize,
) -> Result<(), BlockError> {
    to.check()?;
    let length = to.length;
    let (unit, data) = match content {
        Content::Zeroes { unmap, no_fallback } => {
            let zeroes = request
                .without(Flags::COMPRESSED)
                .with_if(*unmap, Flags::MAY_UNMAP)
                .with_if(*no_fallback, Flags::NO_FALLBACK);
            return to.backend.write_zeroes(to.offset, length, zeroes).await;
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
        to.write(at, data.slice(0..piece as usize), request).await?;
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
