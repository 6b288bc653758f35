//! Compressed clusters: a stream somewhere in the file, as an L2 entry describes it, becomes a cluster of data, and the
//! other way round.
//!
//! ```text
//!  L2 entry ──▶ Stream { offset, len }     host clusters   ├───────┼───────┼
//!                                                  stream     └──────────┘░ up to a sector's end
//!                                                   next stream           └────┘
//! ```
//!
//! Streams lie one behind the other, byte by byte, and share host clusters: each takes one reference to every cluster
//! that it touches. What a stream leaves of its last cluster is the *tail*, where the next one goes.
//!
//! Invariants:
//! - only the tail of a cluster that has references is appended to, by whoever has the allocator and has counted a
//!   reference of its own: the bytes of other streams are never written again;
//! - a cluster that loses its last reference is no tail any more, from the moment its hole may be punched;
//! - an entry names no byte that was not stored before.
//!
//! Bounds: a stream takes at most two clusters, its content exactly one; a plan for writing takes at most [`MOST`] bytes or
//! a cluster; coding runs on the computing pool, in pieces of at most [`PIECE`] bytes or a cluster.
//! Specification: qcow2.rst, "Compressed Clusters Descriptor".
mod place;
mod read;
mod write;

use super::header::Compression;

/// Bytes that one plan takes for writing.
const MOST: u64 = 4 << 20;

fn algorithm(compression: Compression) -> codec::Algorithm {
    match compression {
        Compression::Zlib => codec::Algorithm::Deflate,
        Compression::Zstd => codec::Algorithm::Zstd,
    }
}
