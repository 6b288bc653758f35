//! The digest of `blksum` (Soffer, Waisbard: An Efficient Hash Function Construction for Sparse Data, SECRYPT 2024), with its
//! defaults: SHA-256 of the SHA-256 digests of all blocks of 64 KiB, and of the size in bytes, 8 bytes, little-endian. The last
//! block has the bytes that are left.
//!
//! A run of zeroes is not read, but costs 32 bytes of SHA-256 a block: the published construction is flat.

use super::{Digest, LEAF};
use sha2::{Digest as _, Sha256};
use std::sync::OnceLock;

/// Digests of zero blocks that are added at a time.
const RUN: u64 = 1024;

/// The digest of a block.
pub(super) fn block(data: &[u8]) -> Digest {
    if data.len() as u64 == LEAF && codec::is_zero(data) {
        return zero();
    }
    Digest(Sha256::digest(data).into())
}

fn zero() -> Digest {
    static ZERO: OnceLock<Digest> = OnceLock::new();
    *ZERO.get_or_init(|| Digest(Sha256::digest([0; LEAF as usize]).into()))
}

/// The digest over those of the blocks that have come so far, in their order.
#[derive(Debug, Default)]
pub struct Outer(Sha256);

impl Outer {
    /// Adds the digest of the next block.
    pub fn push(&mut self, block: Digest) {
        self.0.update(block.0);
    }

    /// Adds so many blocks of zeroes.
    pub fn zeroes(&mut self, blocks: u64) {
        let run = zero().0.repeat(RUN.min(blocks) as usize);
        let mut left = blocks;
        while left > 0 {
            let now = left.min(RUN);
            self.0.update(run.get(..now as usize * 32).unwrap_or_default());
            left -= now;
        }
    }

    /// The digest of a disk of `size` bytes with these blocks.
    pub fn finish(mut self, size: u64) -> Digest {
        self.0.update(size.to_le_bytes());
        Digest(self.0.finalize().into())
    }
}
