//! Replies as a client reads them: the header first, then checked against the request it answers.
//!
//! ```text
//! bytes ─▶ Header::parse ─▶ cookie ─▶ that request's Tracker ─▶ accept ─▶ Part: where the payload goes
//!                                                               settle ─▶ the request's outcome, once DONE
//! ```
//!
//! Laws: data land only within the request, each byte once; a read that claims success has brought every
//! byte; a reply ends, since each chunk must bring something new and error chunks are counted.
//!
//! Bounds: [`limits::EXTENTS`] extents, [`ERROR_CHUNKS`] error chunks, [`ERROR_PAYLOAD`] bytes of each.
//!
//! Specification: "Structured reply types", "Simple reply message", "Extended reply chunk message".

use super::coverage::Coverage;
use crate::reader::{Reader, message};
use crate::{
    ChunkFlags, ChunkType, Command, CommandFlags, EXTENDED_REPLY_MAGIC, ErrorCode, ExtentFlags, Headers,
    Request, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, limits,
};

/// Most error chunks in one reply.
const ERROR_CHUNKS: u32 = 64;
/// Longest payload of an error chunk, in bytes.
const ERROR_PAYLOAD: u32 = limits::STRING as u32 + 64;

/// A reply that contradicts the specification. The connection cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// No reply begins like this.
    #[error("expected an NBD reply, found magic {0:#010x}")]
    NotAReply(u32),
    /// A chunk of a type that only errors may have unknown.
    #[error("reply chunk of unknown or unexpected type {0}")]
    UnexpectedChunk(ChunkType),
    /// A payload of impossible length.
    #[error("reply chunk {kind} with a payload of {length} bytes")]
    BadLength {
        /// The chunk.
        kind: ChunkType,
        /// Bytes of payload announced.
        length: u64,
    },
    /// Data that were not asked for, or that came before.
    #[error("reply with {length} bytes at {offset:#x}, outside the request or twice")]
    BadRange {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// Success without all data, or without the extents.
    #[error("reply ends as a success without everything that was asked for")]
    Incomplete,
    /// A simple reply where a chunk is due, or the reverse; compact headers where extended ones were agreed on.
    #[error("reply of a kind that was not agreed on")]
    WrongKind,
    /// The request's offset, repeated wrongly.
    #[error("reply to a request at {0:#x}, which was made at another offset")]
    WrongOffset(u64),
    /// Errors without end.
    #[error("reply with more than {ERROR_CHUNKS} error chunks")]
    TooManyErrors,
    /// Extents that make no sense.
    #[error(
        "block status reply with an empty extent, too many of them, or of a context that was not selected"
    )]
    BadExtents,
    /// An error chunk that reports success, or whose message is longer than itself.
    #[error("malformed error chunk")]
    BadError,
}

/// The fixed part of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The request that is answered.
    pub cookie: u64,
    /// The request's offset, which extended replies repeat.
    pub offset: Option<u64>,
    /// None follows for this request.
    pub done: bool,
    /// What it says.
    pub body: Body,
}

/// What one header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Body {
    /// A simple reply with this outcome; a successful read's data follow.
    Simple(ErrorCode),
    /// The end of a successful reply.
    None,
    /// `length` bytes of data follow.
    Data {
        /// Where in the export.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// Zeroes.
    Hole {
        /// Where in the export.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// `length` bytes of extents follow.
    Status {
        /// Bytes of payload.
        length: u32,
    },
    /// `length` bytes about an error follow.
    Error {
        /// The chunk's type.
        kind: ChunkType,
        /// Bytes of payload.
        length: u32,
    },
}

impl Header {
    /// Parses the header at the front of `bytes`, and says how many bytes it is; `None` while it is incomplete.
    pub fn parse(bytes: &[u8], headers: Headers) -> Result<Option<(Self, usize)>, ProtocolError> {
        let mut reader = Reader(bytes);
        let Some(magic) = reader.u32() else { return Ok(None) };
        let parsed = match (magic, headers) {
            (SIMPLE_REPLY_MAGIC, Headers::Simple | Headers::Structured) => {
                Ok(Self::parse_simple(&mut reader))
            }
            (STRUCTURED_REPLY_MAGIC, Headers::Structured) => Self::parse_chunk(&mut reader, false),
            (EXTENDED_REPLY_MAGIC, Headers::Extended) => Self::parse_chunk(&mut reader, true),
            (SIMPLE_REPLY_MAGIC | STRUCTURED_REPLY_MAGIC | EXTENDED_REPLY_MAGIC, _) => {
                Err(ProtocolError::WrongKind)
            }
            (other, _) => Err(ProtocolError::NotAReply(other)),
        };
        Ok(parsed?.map(|header| (header, bytes.len() - reader.0.len())))
    }

    fn parse_simple(reader: &mut Reader<'_>) -> Option<Self> {
        let error = ErrorCode(reader.u32()?);
        Some(Self { cookie: reader.u64()?, offset: None, done: true, body: Body::Simple(error) })
    }

    fn parse_chunk(reader: &mut Reader<'_>, extended: bool) -> Result<Option<Self>, ProtocolError> {
        let mut fixed = || {
            let (flags, kind, cookie) = (reader.u16()?, reader.u16()?, reader.u64()?);
            Some(if extended {
                (flags, kind, cookie, Some(reader.u64()?), reader.u64()?)
            } else {
                (flags, kind, cookie, None, u64::from(reader.u32()?))
            })
        };
        let Some((flags, kind, cookie, offset, length)) = fixed() else { return Ok(None) };
        let (done, kind) = (ChunkFlags(flags).contains(ChunkFlags::DONE), ChunkType(kind));
        let bad_length = ProtocolError::BadLength { kind, length };
        let length = u32::try_from(length).map_err(|_| bad_length)?;
        let body = match kind {
            ChunkType::NONE if length == 0 && done => Some(Body::None),
            ChunkType::OFFSET_DATA if length > 8 => {
                reader.u64().map(|offset| Body::Data { offset, length: length - 8 })
            }
            ChunkType::OFFSET_HOLE if length == 12 => {
                let mut hole = || Some(Body::Hole { offset: reader.u64()?, length: reader.u32()? });
                hole()
            }
            ChunkType::BLOCK_STATUS if extended => return Err(ProtocolError::UnexpectedChunk(kind)),
            ChunkType::BLOCK_STATUS_EXT if !extended => return Err(ProtocolError::UnexpectedChunk(kind)),
            ChunkType::BLOCK_STATUS if status_fits(length, 4, 8) => Some(Body::Status { length }),
            ChunkType::BLOCK_STATUS_EXT if status_fits(length, 8, 16) => Some(Body::Status { length }),
            kind if kind.is_error() && (6..=ERROR_PAYLOAD).contains(&length) => {
                Some(Body::Error { kind, length })
            }
            ChunkType::NONE
            | ChunkType::OFFSET_DATA
            | ChunkType::OFFSET_HOLE
            | ChunkType::BLOCK_STATUS
            | ChunkType::BLOCK_STATUS_EXT => return Err(bad_length),
            kind if kind.is_error() => return Err(bad_length),
            kind => return Err(ProtocolError::UnexpectedChunk(kind)),
        };
        Ok(body.map(|body| Self { cookie, offset, done, body }))
    }
}

/// A block status payload can have this length: a start, and 1 to [`limits::EXTENTS`] extents.
const fn status_fits(length: u32, start: u32, extent: u32) -> bool {
    length > start
        && (length - start).is_multiple_of(extent)
        && (length - start) / extent <= limits::EXTENTS as u32
}

/// What follows a header, and where it belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Nothing follows.
    Nothing,
    /// `len` bytes of data follow; they belong at `start` of the request's buffer.
    Data {
        /// Index into the buffer.
        start: usize,
        /// Bytes.
        len: usize,
    },
    /// Nothing follows; `len` bytes at `start` of the request's buffer are zeroes.
    Zeroes {
        /// Index into the buffer.
        start: usize,
        /// Bytes.
        len: usize,
    },
    /// This many bytes follow; collect them and call [`Tracker::payload`].
    Payload(usize),
}

/// One request in flight.
#[derive(Debug)]
pub struct Tracker {
    request: Request,
    headers: Headers,
    /// The ID of the one metadata context that is of interest.
    context: u32,
    covered: Coverage,
    extents: Vec<(u64, ExtentFlags)>,
    failure: Option<(ErrorCode, String)>,
    errors: u32,
    expected_payload: Option<ChunkType>,
    done: bool,
}

impl Tracker {
    /// A request about to be sent. `context` is the ID of the metadata context that block status asks for.
    pub fn new(request: Request, headers: Headers, context: u32) -> Self {
        Self {
            request,
            headers,
            context,
            covered: Coverage::default(),
            extents: Vec::new(),
            failure: None,
            errors: 0,
            expected_payload: None,
            done: false,
        }
    }

    /// The request.
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// Checks a header against the request and says what follows it.
    pub fn accept(&mut self, header: Header) -> Result<Part, ProtocolError> {
        if self.done {
            return Err(ProtocolError::WrongKind);
        }
        if let Some(offset) = header.offset.filter(|offset| *offset != self.request.offset) {
            return Err(ProtocolError::WrongOffset(offset));
        }
        let part = match (header.body, self.request.command) {
            (Body::Simple(error), _) => self.simple(error)?,
            (Body::None, _) => Part::Nothing,
            (Body::Data { offset, length }, Command::READ) => {
                let (start, len) = self.cover(offset, length)?;
                Part::Data { start, len }
            }
            (Body::Hole { offset, length }, Command::READ) => {
                let (start, len) = self.cover(offset, length)?;
                Part::Zeroes { start, len }
            }
            (Body::Status { length }, Command::BLOCK_STATUS) => {
                self.expected_payload = Some(ChunkType::BLOCK_STATUS);
                Part::Payload(length as usize)
            }
            (Body::Error { kind, length }, _) => {
                self.errors += 1;
                if self.errors > ERROR_CHUNKS {
                    return Err(ProtocolError::TooManyErrors);
                }
                self.expected_payload = Some(kind);
                Part::Payload(length as usize)
            }
            (Body::Data { .. }, _) => return Err(ProtocolError::UnexpectedChunk(ChunkType::OFFSET_DATA)),
            (Body::Hole { .. }, _) => return Err(ProtocolError::UnexpectedChunk(ChunkType::OFFSET_HOLE)),
            (Body::Status { .. }, _) => return Err(ProtocolError::UnexpectedChunk(ChunkType::BLOCK_STATUS)),
        };
        self.done = header.done;
        Ok(part)
    }

    fn simple(&mut self, error: ErrorCode) -> Result<Part, ProtocolError> {
        let reads = self.request.command == Command::READ;
        let status = self.request.command == Command::BLOCK_STATUS;
        if self.headers.chunked() && (reads || status && error.is_ok()) {
            return Err(ProtocolError::WrongKind);
        }
        if !error.is_ok() {
            self.fail(error, String::new());
        } else if reads && self.request.length > 0 {
            // A client asks for no more than it has memory for: below 4 GiB.
            let length = u32::try_from(self.request.length).unwrap_or(u32::MAX);
            let (start, len) = self.cover(self.request.offset, length)?;
            return Ok(Part::Data { start, len });
        }
        Ok(Part::Nothing)
    }

    fn cover(&mut self, offset: u64, length: u32) -> Result<(usize, usize), ProtocolError> {
        let bad = ProtocolError::BadRange { offset, length };
        let start = offset.checked_sub(self.request.offset).ok_or(bad)?;
        let end = start.checked_add(u64::from(length)).ok_or(bad)?;
        if length == 0 || end > self.request.length || !self.covered.add(start, end) {
            return Err(bad);
        }
        Ok((start as usize, length as usize)) // both within the buffer that the request was made for
    }

    /// The payload that [`Part::Payload`] announced.
    pub fn payload(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        match self.expected_payload.take() {
            Some(ChunkType::BLOCK_STATUS) => self.status(bytes),
            Some(kind) => self.error(kind, bytes),
            None => Err(ProtocolError::WrongKind),
        }
    }

    fn error(&mut self, kind: ChunkType, bytes: &[u8]) -> Result<(), ProtocolError> {
        let mut reader = Reader(bytes);
        let mut fields = || Some((reader.u32()?, reader.u16()?));
        let (error, length) = fields().ok_or(ProtocolError::BadError)?;
        let text = reader.bytes(usize::from(length)).ok_or(ProtocolError::BadError)?;
        let left = match kind {
            ChunkType::ERROR => Some(0),
            ChunkType::ERROR_OFFSET => Some(8),
            _ => None,
        };
        if error == 0 || left.is_some_and(|left| left != reader.0.len()) {
            return Err(ProtocolError::BadError);
        }
        self.fail(ErrorCode(error), message(text));
        Ok(())
    }

    fn status(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        let mut reader = Reader(bytes);
        if reader.u32() != Some(self.context) || !self.extents.is_empty() {
            return Err(ProtocolError::BadExtents);
        }
        let extended = self.headers.extended();
        if extended && reader.u32().map(|count| count as usize) != Some(reader.0.len() / 16) {
            return Err(ProtocolError::BadExtents);
        }
        let wanted = self.request.length;
        let one = self.request.flags.contains(CommandFlags::REQ_ONE);
        let mut covered = 0u64;
        while !reader.0.is_empty() {
            let (length, flags) = extent(&mut reader, extended).ok_or(ProtocolError::BadExtents)?;
            // Only the last extent may reach beyond the request, and none may follow it.
            if length == 0 || covered >= wanted || one && (covered > 0 || length > wanted) {
                return Err(ProtocolError::BadExtents);
            }
            covered = covered.saturating_add(length);
            self.extents.push((length, flags));
        }
        Ok(())
    }

    fn fail(&mut self, error: ErrorCode, message: String) {
        self.failure.get_or_insert((error, message));
    }

    /// After a header and what followed it: true when the reply is complete.
    pub const fn is_done(&self) -> bool {
        self.done && self.expected_payload.is_none()
    }

    /// Takes the outcome of a complete reply.
    pub fn settle(&mut self) -> Result<Outcome, ProtocolError> {
        if let Some((code, message)) = self.failure.take() {
            return Ok(Outcome::Failed { code, message });
        }
        let complete = self.done
            && match self.request.command {
                Command::READ => self.covered.is(0, self.request.length),
                Command::BLOCK_STATUS => !self.extents.is_empty(),
                _ => true,
            };
        if complete {
            Ok(Outcome::Done(std::mem::take(&mut self.extents)))
        } else {
            Err(ProtocolError::Incomplete)
        }
    }
}

/// The next extent; `None` if it is cut off, or its status has bits that no context of 32 bits has.
fn extent(reader: &mut Reader<'_>, extended: bool) -> Option<(u64, ExtentFlags)> {
    if extended {
        Some((reader.u64()?, ExtentFlags(u32::try_from(reader.u64()?).ok()?)))
    } else {
        Some((u64::from(reader.u32()?), ExtentFlags(reader.u32()?)))
    }
}

/// How a request ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// As asked for; the extents (bytes, status) are those of a block status request.
    Done(Vec<(u64, ExtentFlags)>),
    /// The server refused or failed.
    Failed {
        /// Its error.
        code: ErrorCode,
        /// Its message; may be empty.
        message: String,
    },
}
