//! Compressed clusters, as the formats that have them share them: streams in the file, each the content of one cluster.
//!
//! ```text
//!  stream { offset, len } ─ decode ─▶ cluster        clusters ─ encode ─▶ streams, one behind the other ─▶ places ─ store_run
//! ```
//!
//! Coding runs on the computing pool. What is read in small parts is decoded once, as long as it is among the last
//! ([`Decoded`]).
mod decode;
mod encode;

pub(crate) use decode::{Decoded, decode, run_of};
pub(crate) use encode::{Encoded, encode_all, padded, write_run};

/// Bytes that are encoded, or decoded, by one job of the computing pool.
pub(crate) const PIECE: u64 = 512 << 10;

/// Where a compressed cluster's bytes are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    /// Byte offset of the first byte.
    pub offset: u64,
    /// Bytes that the stream may take; it may end earlier.
    pub len: u64,
}
