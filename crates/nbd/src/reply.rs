//! Replies as a server writes them: headers only, so that data can be read from the disk to right behind.
//!
//! ```text
//! simple:   │magic 4│error 4│cookie 8│ data of a read ..
//! chunk:    │magic 4│flags 2│type 2│cookie 8│length 4│ payload ..
//! extended: │magic 4│flags 2│type 2│cookie 8│offset 8│length 8│ payload ..
//!             data:   payload = │offset 8│ data ..
//!             hole:   payload = │offset 8│size 4│
//!             status: payload = │context 4│ (│length 4│flags 4│)+          extended: │context 4│count 4│ (│8│8│)+
//!             error:  payload = │error 4│message length 2│ message [│offset 8│]
//! ```
//!
//! Specification: "Simple reply message", "Structured reply chunk message", "Extended reply chunk message",
//! "Structured reply types".

use crate::{
    ChunkFlags, ChunkType, EXTENDED_REPLY_MAGIC, ErrorCode, ExtentFlags, Headers, Request,
    SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, limits,
};

/// Bytes of the longest header: an extended hole.
const LONGEST: usize = 44;

/// A header of a length that depends on what was agreed on.
#[derive(Clone, Copy, Debug)]
pub struct HeaderBytes {
    bytes: [u8; LONGEST],
    len: usize,
}

impl HeaderBytes {
    #[inline]
    const fn new() -> Self {
        Self { bytes: [0; LONGEST], len: 0 }
    }

    #[inline]
    fn with<const N: usize>(mut self, field: [u8; N]) -> Self {
        if let Some(to) = self.bytes.get_mut(self.len..self.len + N) {
            to.copy_from_slice(&field);
            self.len += N;
        }
        self
    }
}

impl std::ops::Deref for HeaderBytes {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Writes the replies to one request.
#[derive(Clone, Copy, Debug)]
pub struct ReplyTo {
    headers: Headers,
    cookie: u64,
    offset: u64,
}

impl ReplyTo {
    /// For `request`, on a connection with these headers.
    #[inline]
    pub const fn new(request: &Request, headers: Headers) -> Self {
        Self { headers, cookie: request.cookie, offset: request.offset }
    }

    #[inline]
    fn simple(&self, error: ErrorCode) -> HeaderBytes {
        HeaderBytes::new()
            .with(SIMPLE_REPLY_MAGIC.to_be_bytes())
            .with(error.0.to_be_bytes())
            .with(self.cookie.to_be_bytes())
    }

    #[inline]
    fn chunk(&self, kind: ChunkType, done: bool, payload: u32) -> HeaderBytes {
        let extended = self.headers.extended();
        let magic = if extended { EXTENDED_REPLY_MAGIC } else { STRUCTURED_REPLY_MAGIC };
        let start = HeaderBytes::new()
            .with(magic.to_be_bytes())
            .with(ChunkFlags::when(done, ChunkFlags::DONE).0.to_be_bytes())
            .with(kind.0.to_be_bytes())
            .with(self.cookie.to_be_bytes());
        if extended {
            start.with(self.offset.to_be_bytes()).with(u64::from(payload).to_be_bytes())
        } else {
            start.with(payload.to_be_bytes())
        }
    }

    /// Success of anything but a read that brings data. The shortest that the connection allows: a simple reply
    /// serves also where chunks were agreed on, unless headers are extended.
    #[inline]
    pub fn success(&self) -> HeaderBytes {
        if self.headers.extended() { self.none() } else { self.simple(ErrorCode::OK) }
    }

    /// Success of a read of no bytes: such a reply is never a simple one where chunks were agreed on.
    #[inline]
    pub fn nothing_read(&self) -> HeaderBytes {
        if self.headers.chunked() { self.none() } else { self.simple(ErrorCode::OK) }
    }

    /// A `NONE` chunk: the reply ends, and the request has succeeded.
    #[inline]
    fn none(&self) -> HeaderBytes {
        self.chunk(ChunkType::NONE, true, 0)
    }

    /// The header of data; `length` bytes, at most [`limits::PAYLOAD`] and not 0, follow it. As long as
    /// [`Headers::data_len`] says. A simple reply holds all that was asked for.
    #[inline]
    pub fn data(&self, offset: u64, length: u32, done: bool) -> HeaderBytes {
        if self.headers.chunked() {
            self.chunk(ChunkType::OFFSET_DATA, done, length.saturating_add(8)).with(offset.to_be_bytes())
        } else {
            self.simple(ErrorCode::OK)
        }
    }

    /// An `OFFSET_HOLE` chunk: `length` bytes, not 0, at `offset` read as zeroes.
    #[inline]
    pub fn hole(&self, offset: u64, length: u32, done: bool) -> HeaderBytes {
        self.chunk(ChunkType::OFFSET_HOLE, done, 12).with(offset.to_be_bytes()).with(length.to_be_bytes())
    }

    /// The header of a block status chunk; `extents` times [`ReplyTo::extent`], 1 to [`limits::EXTENTS`], follow it.
    pub fn status(&self, context: u32, extents: u32, done: bool) -> HeaderBytes {
        if self.headers.extended() {
            self.chunk(ChunkType::BLOCK_STATUS_EXT, done, extents.saturating_mul(16).saturating_add(8))
                .with(context.to_be_bytes())
                .with(extents.to_be_bytes())
        } else {
            self.chunk(ChunkType::BLOCK_STATUS, done, extents.saturating_mul(8).saturating_add(4))
                .with(context.to_be_bytes())
        }
    }

    /// One extent of a block status chunk; `length` is not 0, and below 4 GiB unless headers are extended.
    pub fn extent(&self, length: u64, flags: ExtentFlags) -> HeaderBytes {
        if self.headers.extended() {
            HeaderBytes::new().with(length.to_be_bytes()).with(u64::from(flags.0).to_be_bytes())
        } else {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            HeaderBytes::new().with(length.to_be_bytes()).with(flags.0.to_be_bytes())
        }
    }

    /// Appends what ends a reply with `error`. Where there are chunks, `ERROR_OFFSET` if the place is known, else
    /// `ERROR`; a message longer than a string of the protocol is cut at a character.
    pub fn put_error(&self, out: &mut Vec<u8>, error: ErrorCode, message: &str, offset: Option<u64>) {
        if !self.headers.chunked() {
            out.extend_from_slice(&self.simple(error));
            return;
        }
        let mut end = message.len().min(limits::STRING);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let message = message.as_bytes().get(..end).unwrap_or_default();
        let (kind, fixed) = match offset {
            Some(_) => (ChunkType::ERROR_OFFSET, 14),
            None => (ChunkType::ERROR, 6),
        };
        // Both fit: the message is at most 4096 bytes long.
        out.extend_from_slice(&self.chunk(kind, true, fixed + message.len() as u32));
        out.extend_from_slice(&error.0.to_be_bytes());
        out.extend_from_slice(&(message.len() as u16).to_be_bytes());
        out.extend_from_slice(message);
        if let Some(offset) = offset {
            out.extend_from_slice(&offset.to_be_bytes());
        }
    }
}
