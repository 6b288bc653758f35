//! Digests of a disk's content: the same for every format, layout and allocation.
//!
//! ```text
//!                    root: the size in bytes, and the top
//!                                  │
//!                     top, height 48 (all of 2^64 bytes)
//!                      ┌───────────┴───────────┐
//!                    node                     node        … height 1
//!                  ┌───┴───┐               ┌───┴───┐
//!                leaf     leaf            leaf    leaf      64 KiB each, from byte 0 on
//! ```
//!
//! - a leaf is BLAKE3 of its 65,536 bytes; what lies behind the end of the disk counts as zeroes;
//! - a node is BLAKE3 of the digests of its two children, the lower one first;
//! - the digest is BLAKE3 of the size in bytes (8 bytes, little-endian) and of the top.
//!
//! Each of the three is BLAKE3's key derivation mode with a context string of its own ([`LEAF_CONTEXT`], [`NODE_CONTEXT`],
//! [`ROOT_CONTEXT`]): a leaf can't be passed off as a node. The tree has the same shape for all disks, and a subtree of zeroes
//! has a known digest at each height: so a run of zeroes of any length costs at most two nodes a height.
//!
//! The specification, with test vectors: docs/hash.md.

mod blkhash;
mod read;

pub use blkhash::Outer;
pub use read::{ReadError, of_image, of_range, spread};

use api::ImageDigestAlgorithm;
use std::fmt;
use std::sync::OnceLock;

/// Bytes of a leaf.
pub const LEAF: u64 = 64 << 10;

/// Height of the top, which stands for 2^64 bytes.
const TOP: u32 = 48;

/// The context of leaves.
const LEAF_CONTEXT: &str = "cairn 2026-11-30 disk digest v1 leaf";
/// The context of nodes.
const NODE_CONTEXT: &str = "cairn 2026-11-30 disk digest v1 node";
/// The context of the root.
const ROOT_CONTEXT: &str = "cairn 2026-11-30 disk digest v1 root";

/// A digest of 256 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Digest> {
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            for digit in pair {
                *byte = *byte << 4 | char::from(*digit).to_digit(16)? as u8;
            }
        }
        Some(Digest(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How a disk's digest is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// The tree of this module.
    #[default]
    Tree,
    /// That of `blksum`, with SHA-256 ([`Outer`]).
    Blkhash,
}

impl Scheme {
    /// What it is in output for scripts.
    pub fn algorithm(self) -> ImageDigestAlgorithm {
        match self {
            Scheme::Tree => ImageDigestAlgorithm::CairnBlake3,
            Scheme::Blkhash => ImageDigestAlgorithm::BlkhashSha256,
        }
    }

    /// The digest of a leaf. The last one of a disk may be shorter.
    fn leaf(self, data: &[u8]) -> Digest {
        match self {
            Scheme::Tree => leaf(data),
            Scheme::Blkhash => blkhash::block(data),
        }
    }
}

/// What is computed once.
struct Known {
    leaf: blake3::Hasher,
    node: blake3::Hasher,
    /// A subtree of zeroes, by its height.
    zeroes: [Digest; TOP as usize + 1],
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let leaf = blake3::Hasher::new_derive_key(LEAF_CONTEXT);
        let node = blake3::Hasher::new_derive_key(NODE_CONTEXT);
        let lowest = finish(leaf.clone().update(&[0; LEAF as usize]));
        let mut zeroes = [lowest; TOP as usize + 1];
        let mut below = lowest;
        for zero in zeroes.iter_mut().skip(1) {
            below = finish(node.clone().update(&below.0).update(&below.0));
            *zero = below;
        }
        Known { leaf, node, zeroes }
    })
}

fn finish(hasher: &blake3::Hasher) -> Digest {
    Digest(*hasher.finalize().as_bytes())
}

/// The digest of a leaf; one that is shorter is filled up with zeroes.
fn leaf(data: &[u8]) -> Digest {
    let known = known();
    if codec::is_zero(data) {
        return known.zeroes[0];
    }
    let mut hasher = known.leaf.clone();
    hasher.update(data);
    fill_up(&mut hasher, data.len());
    finish(&hasher)
}

/// Adds the zeroes that a leaf of which `done` bytes are in lacks.
fn fill_up(hasher: &mut blake3::Hasher, done: usize) {
    const ZEROES: [u8; 4096] = [0; 4096];
    let mut left = (LEAF as usize).saturating_sub(done);
    while left > 0 {
        let (part, _) = ZEROES.split_at(left.min(ZEROES.len()));
        hasher.update(part);
        left -= part.len();
    }
}

/// The tree over the leaves that have come so far, in their order.
#[derive(Debug, Default)]
pub struct Tree {
    /// Leaves so far.
    leaves: u64,
    /// The complete subtrees that they make, the highest first: each lower than the one before.
    subtrees: Vec<(u32, Digest)>,
}

impl Tree {
    /// Adds the next leaf.
    pub fn push(&mut self, leaf: Digest) {
        self.push_subtree(0, leaf);
    }

    /// Adds so many leaves of zeroes.
    pub fn zeroes(&mut self, mut leaves: u64) {
        while let Some(most) = leaves.checked_ilog2() {
            // The highest subtree that may begin here.
            let height = self.leaves.trailing_zeros().min(most).min(TOP);
            let Some(zero) = known().zeroes.get(height as usize) else { return };
            self.push_subtree(height, *zero);
            leaves -= 1 << height;
        }
    }

    fn push_subtree(&mut self, mut height: u32, mut digest: Digest) {
        self.leaves += 1 << height;
        while let Some((_, left)) = self.subtrees.pop_if(|(other, _)| *other == height) {
            digest = finish(known().node.clone().update(&left.0).update(&digest.0));
            height += 1;
        }
        self.subtrees.push((height, digest));
    }

    /// The digest of a disk of `size` bytes with these leaves, and zeroes behind them.
    pub fn finish(mut self, size: u64) -> Digest {
        self.zeroes((1 << TOP) - self.leaves);
        let mut root = blake3::Hasher::new_derive_key(ROOT_CONTEXT);
        root.update(&size.to_le_bytes());
        for (_, top) in &self.subtrees {
            root.update(&top.0);
        }
        finish(&root)
    }
}

/// The digest of bytes that come in their order: what `img hash` tells of a disk that has them.
#[derive(Debug, Default)]
pub struct Running {
    tree: Tree,
    size: u64,
    /// The leaf that is not whole yet, unless it is all zeroes so far.
    begun: Option<Box<blake3::Hasher>>,
}

impl Running {
    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the leaf that is not whole yet.
    fn in_leaf(&self) -> usize {
        (self.size % LEAF) as usize
    }

    /// Adds bytes.
    pub fn data(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let in_leaf = self.in_leaf();
            let (now, rest) = data.split_at(data.len().min(LEAF as usize - in_leaf));
            if now.len() == LEAF as usize {
                self.tree.push(leaf(now));
            } else {
                self.part(in_leaf, now);
            }
            self.size += now.len() as u64;
            self.end_of_leaf();
            data = rest;
        }
    }

    /// Adds a part of a leaf.
    fn part(&mut self, in_leaf: usize, data: &[u8]) {
        if self.begun.is_none() && codec::is_zero(data) {
            return;
        }
        let begun = self.begun.get_or_insert_with(|| {
            let mut hasher = Box::new(known().leaf.clone());
            fill_up(&mut hasher, LEAF as usize - in_leaf);
            hasher
        });
        begun.update(data);
    }

    /// Adds so many zeroes.
    pub fn zeroes(&mut self, mut len: u64) {
        let in_leaf = self.in_leaf();
        if in_leaf > 0 {
            let now = len.min(LEAF - in_leaf as u64);
            if let Some(begun) = &mut self.begun {
                fill_up(begun, LEAF as usize - now as usize);
            }
            self.size += now;
            len -= now;
            self.end_of_leaf();
        }
        self.tree.zeroes(len / LEAF);
        self.size += len;
    }

    fn end_of_leaf(&mut self) {
        if self.in_leaf() > 0 {
            return;
        }
        // A leaf that came at once is in the tree.
        if self.tree.leaves * LEAF < self.size {
            match self.begun.take() {
                Some(whole) => self.tree.push(finish(&whole)),
                None => self.tree.zeroes(1),
            }
        }
    }

    /// The digest of what has come.
    pub fn finish(mut self) -> Digest {
        let in_leaf = self.in_leaf();
        if let Some(mut last) = self.begun.take() {
            fill_up(&mut last, in_leaf);
            self.tree.push(finish(&last));
        }
        self.tree.finish(self.size)
    }
}

#[cfg(test)]
mod tests;
