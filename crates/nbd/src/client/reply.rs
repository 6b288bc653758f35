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
//! Specification: "Structured reply types", "Simple reply message".

use super::coverage::Coverage;
use crate::reader::{Reader, message};
use crate::{
    CHUNK_HEADER, ChunkFlags, ChunkType, Command, CommandFlags, ErrorCode, ExtentFlags, Request,
    SIMPLE_REPLY, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, limits,
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
        length: u32,
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
    /// A simple reply where a structured one is due, or the reverse.
    #[error("reply of a kind that was not agreed on")]
    WrongKind,
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
pub enum Header {
    /// A simple reply; a successful read's data follow.
    Simple {
        /// The request.
        cookie: u64,
        /// Its outcome.
        error: ErrorCode,
    },
    /// The end of a successful reply.
    None {
        /// The request.
        cookie: u64,
    },
    /// `length` bytes of data follow.
    Data {
        /// The request.
        cookie: u64,
        /// The last chunk.
        done: bool,
        /// Where in the export.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// Zeroes.
    Hole {
        /// The request.
        cookie: u64,
        /// The last chunk.
        done: bool,
        /// Where in the export.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// `length` bytes of extents follow.
    Status {
        /// The request.
        cookie: u64,
        /// The last chunk.
        done: bool,
        /// Bytes of payload.
        length: u32,
    },
    /// `length` bytes about an error follow.
    Error {
        /// The request.
        cookie: u64,
        /// The last chunk.
        done: bool,
        /// The chunk's type.
        kind: ChunkType,
        /// Bytes of payload.
        length: u32,
    },
}

impl Header {
    /// Parses the header at the front of `bytes`, and says how many bytes it is; `None` while it is incomplete.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, ProtocolError> {
        let mut reader = Reader(bytes);
        match reader.u32() {
            None => Ok(None),
            Some(SIMPLE_REPLY_MAGIC) => Ok(Self::parse_simple(reader).map(|header| (header, SIMPLE_REPLY))),
            Some(STRUCTURED_REPLY_MAGIC) => Self::parse_chunk(reader),
            Some(other) => Err(ProtocolError::NotAReply(other)),
        }
    }

    fn parse_simple(mut reader: Reader<'_>) -> Option<Self> {
        let error = ErrorCode(reader.u32()?);
        Some(Self::Simple { cookie: reader.u64()?, error })
    }

    fn parse_chunk(mut reader: Reader<'_>) -> Result<Option<(Self, usize)>, ProtocolError> {
        let mut fixed = || Some((reader.u16()?, reader.u16()?, reader.u64()?, reader.u32()?));
        let Some((flags, kind, cookie, length)) = fixed() else { return Ok(None) };
        let (done, kind) = (ChunkFlags(flags).contains(ChunkFlags::DONE), ChunkType(kind));
        let bad_length = ProtocolError::BadLength { kind, length };
        Ok(match kind {
            ChunkType::NONE if length == 0 && done => Some((Self::None { cookie }, CHUNK_HEADER)),
            ChunkType::OFFSET_DATA if length > 8 => reader
                .u64()
                .map(|offset| (Self::Data { cookie, done, offset, length: length - 8 }, CHUNK_HEADER + 8)),
            ChunkType::OFFSET_HOLE if length == 12 => {
                let mut hole = || Some((reader.u64()?, reader.u32()?));
                hole()
                    .map(|(offset, length)| (Self::Hole { cookie, done, offset, length }, CHUNK_HEADER + 12))
            }
            ChunkType::BLOCK_STATUS if length >= 12 && length % 8 == 4 => {
                if (length / 8) as usize > limits::EXTENTS {
                    return Err(bad_length);
                }
                Some((Self::Status { cookie, done, length }, CHUNK_HEADER))
            }
            kind if kind.is_error() && (6..=ERROR_PAYLOAD).contains(&length) => {
                Some((Self::Error { cookie, done, kind, length }, CHUNK_HEADER))
            }
            ChunkType::NONE | ChunkType::OFFSET_DATA | ChunkType::OFFSET_HOLE | ChunkType::BLOCK_STATUS => {
                return Err(bad_length);
            }
            kind if kind.is_error() => return Err(bad_length),
            kind => return Err(ProtocolError::UnexpectedChunk(kind)),
        })
    }

    /// The request that is answered.
    pub const fn cookie(&self) -> u64 {
        match *self {
            Self::Simple { cookie, .. }
            | Self::None { cookie }
            | Self::Data { cookie, .. }
            | Self::Hole { cookie, .. }
            | Self::Status { cookie, .. }
            | Self::Error { cookie, .. } => cookie,
        }
    }
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
    structured: bool,
    /// The ID of the one metadata context that is of interest.
    context: u32,
    covered: Coverage,
    extents: Vec<(u32, ExtentFlags)>,
    failure: Option<(ErrorCode, String)>,
    errors: u32,
    expected_payload: Option<ChunkType>,
    done: bool,
}

impl Tracker {
    /// A request about to be sent. `context` is the ID of the metadata context that block status asks for.
    pub fn new(request: Request, structured: bool, context: u32) -> Self {
        Self {
            request,
            structured,
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
        let reads = self.request.command == Command::READ;
        if !self.structured && !matches!(header, Header::Simple { .. }) {
            return Err(ProtocolError::WrongKind);
        }
        match header {
            Header::Simple { error, .. } => self.simple(error),
            Header::None { .. } => {
                self.done = true;
                Ok(Part::Nothing)
            }
            Header::Data { done, offset, length, .. } if reads => {
                let (start, len) = self.cover(offset, length)?;
                self.done = done;
                Ok(Part::Data { start, len })
            }
            Header::Hole { done, offset, length, .. } if reads => {
                let (start, len) = self.cover(offset, length)?;
                self.done = done;
                Ok(Part::Zeroes { start, len })
            }
            Header::Status { done, length, .. } if self.request.command == Command::BLOCK_STATUS => {
                self.done = done;
                self.expected_payload = Some(ChunkType::BLOCK_STATUS);
                Ok(Part::Payload(length as usize))
            }
            Header::Error { done, kind, length, .. } => {
                self.errors += 1;
                if self.errors > ERROR_CHUNKS {
                    return Err(ProtocolError::TooManyErrors);
                }
                self.done = done;
                self.expected_payload = Some(kind);
                Ok(Part::Payload(length as usize))
            }
            Header::Data { .. } => Err(ProtocolError::UnexpectedChunk(ChunkType::OFFSET_DATA)),
            Header::Hole { .. } => Err(ProtocolError::UnexpectedChunk(ChunkType::OFFSET_HOLE)),
            Header::Status { .. } => Err(ProtocolError::UnexpectedChunk(ChunkType::BLOCK_STATUS)),
        }
    }

    fn simple(&mut self, error: ErrorCode) -> Result<Part, ProtocolError> {
        let reads = self.request.command == Command::READ;
        if self.structured && (reads || self.request.command == Command::BLOCK_STATUS && error.is_ok()) {
            return Err(ProtocolError::WrongKind);
        }
        self.done = true;
        if !error.is_ok() {
            self.fail(error, String::new());
        } else if reads && self.request.length > 0 {
            let (start, len) = self.cover(self.request.offset, self.request.length)?;
            return Ok(Part::Data { start, len });
        }
        Ok(Part::Nothing)
    }

    fn cover(&mut self, offset: u64, length: u32) -> Result<(usize, usize), ProtocolError> {
        let bad = ProtocolError::BadRange { offset, length };
        let start = offset.checked_sub(self.request.offset).ok_or(bad)?;
        let end = start + u64::from(length);
        if length == 0 || end > u64::from(self.request.length) || !self.covered.add(start, end) {
            return Err(bad);
        }
        Ok((start as usize, length as usize)) // both at most the request's 32-bit length
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
        let wanted = u64::from(self.request.length);
        let one = self.request.flags.contains(CommandFlags::REQ_ONE);
        let mut covered = 0u64;
        while let (Some(length), Some(flags)) = (reader.u32(), reader.u32()) {
            // Only the last extent may reach beyond the request, and none may follow it.
            if length == 0 || covered >= wanted || one && (covered > 0 || u64::from(length) > wanted) {
                return Err(ProtocolError::BadExtents);
            }
            covered += u64::from(length);
            self.extents.push((length, ExtentFlags(flags)));
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
                Command::READ => self.covered.is(0, u64::from(self.request.length)),
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

/// How a request ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// As asked for; the extents (bytes, status) are those of a block status request.
    Done(Vec<(u32, ExtentFlags)>),
    /// The server refused or failed.
    Failed {
        /// Its error.
        code: ErrorCode,
        /// Its words; may be empty.
        message: String,
    },
}
