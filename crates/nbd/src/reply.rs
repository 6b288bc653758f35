//! Replies as a server writes them: headers only, so that data can be read from the disk to right behind.
//!
//! ```text
//! simple:  │magic 4│error 4│cookie 8│ data of a read ..
//! chunk:   │magic 4│flags 2│type 2│cookie 8│length 4│ payload ..
//!            data:   payload = │offset 8│ data ..
//!            hole:   payload = │offset 8│size 4│
//!            status: payload = │context 4│ (│length 4│flags 4│)+
//!            error:  payload = │error 4│message length 2│ message [│offset 8│]
//! ```
//!
//! Specification: "Simple reply message", "Structured reply chunk message", "Structured reply types".

use crate::{
    ChunkFlags, ChunkType, ErrorCode, ExtentFlags, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, limits,
};

/// Bytes of a simple reply without data.
pub const SIMPLE_REPLY: usize = 16;
/// Bytes of a chunk before its payload.
pub const CHUNK_HEADER: usize = 20;
/// Bytes of an `OFFSET_DATA` chunk before its data.
pub const DATA_HEADER: usize = CHUNK_HEADER + 8;
/// Bytes of an `OFFSET_HOLE` chunk.
pub const HOLE_CHUNK: usize = CHUNK_HEADER + 12;
/// Bytes of a `BLOCK_STATUS` chunk before its extents.
pub const STATUS_HEADER: usize = CHUNK_HEADER + 4;

/// A simple reply; the data of a successful read follows it.
#[inline]
pub fn simple_reply(cookie: u64, error: ErrorCode) -> [u8; SIMPLE_REPLY] {
    let mut out = [0; SIMPLE_REPLY];
    out[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    out[4..8].copy_from_slice(&error.0.to_be_bytes());
    out[8..].copy_from_slice(&cookie.to_be_bytes());
    out
}

#[inline]
fn chunk_header(cookie: u64, kind: ChunkType, done: bool, payload: u32) -> [u8; CHUNK_HEADER] {
    let mut out = [0; CHUNK_HEADER];
    out[..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
    out[4..6].copy_from_slice(&ChunkFlags::when(done, ChunkFlags::DONE).0.to_be_bytes());
    out[6..8].copy_from_slice(&kind.0.to_be_bytes());
    out[8..16].copy_from_slice(&cookie.to_be_bytes());
    out[16..].copy_from_slice(&payload.to_be_bytes());
    out
}

/// A `NONE` chunk: the request succeeded.
#[inline]
pub fn none_chunk(cookie: u64) -> [u8; CHUNK_HEADER] {
    chunk_header(cookie, ChunkType::NONE, true, 0)
}

/// An `OFFSET_DATA` header; `length` bytes of data, at most [`limits::PAYLOAD`] and not 0, follow it.
#[inline]
pub fn data_header(cookie: u64, offset: u64, length: u32, done: bool) -> [u8; DATA_HEADER] {
    let mut out = [0; DATA_HEADER];
    let payload = length.saturating_add(8);
    out[..CHUNK_HEADER].copy_from_slice(&chunk_header(cookie, ChunkType::OFFSET_DATA, done, payload));
    out[CHUNK_HEADER..].copy_from_slice(&offset.to_be_bytes());
    out
}

/// An `OFFSET_HOLE` chunk: `length` bytes, not 0, at `offset` read as zeroes.
#[inline]
pub fn hole_chunk(cookie: u64, offset: u64, length: u32, done: bool) -> [u8; HOLE_CHUNK] {
    let mut out = [0; HOLE_CHUNK];
    out[..CHUNK_HEADER].copy_from_slice(&chunk_header(cookie, ChunkType::OFFSET_HOLE, done, 12));
    out[CHUNK_HEADER..CHUNK_HEADER + 8].copy_from_slice(&offset.to_be_bytes());
    out[CHUNK_HEADER + 8..].copy_from_slice(&length.to_be_bytes());
    out
}

/// A `BLOCK_STATUS` header; `extents` times [`status_extent`], 1 to [`limits::EXTENTS`], follow it.
pub fn status_header(cookie: u64, context: u32, extents: u32, done: bool) -> [u8; STATUS_HEADER] {
    let mut out = [0; STATUS_HEADER];
    let payload = extents.saturating_mul(8).saturating_add(4);
    out[..CHUNK_HEADER].copy_from_slice(&chunk_header(cookie, ChunkType::BLOCK_STATUS, done, payload));
    out[CHUNK_HEADER..].copy_from_slice(&context.to_be_bytes());
    out
}

/// One extent of a `BLOCK_STATUS` chunk; `length` is not 0.
pub fn status_extent(length: u32, flags: ExtentFlags) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&length.to_be_bytes());
    out[4..].copy_from_slice(&flags.0.to_be_bytes());
    out
}

/// Appends the chunk that ends a reply with `error`: `ERROR_OFFSET` if the place is known, else `ERROR`.
/// A message longer than a string of the protocol is cut at a character.
pub fn put_error_chunk(out: &mut Vec<u8>, cookie: u64, error: ErrorCode, message: &str, offset: Option<u64>) {
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
    out.extend_from_slice(&chunk_header(cookie, kind, true, fixed + message.len() as u32));
    out.extend_from_slice(&error.0.to_be_bytes());
    out.extend_from_slice(&(message.len() as u16).to_be_bytes());
    out.extend_from_slice(message);
    if let Some(offset) = offset {
        out.extend_from_slice(&offset.to_be_bytes());
    }
}
