//! The first sector of an image, and the rule by which others may rely on it.
//!
//! ```text
//!  [magic][size: u64][in use: u32][sum of the table: u32]
//! ```
//!
//! An image that is not called in use was closed, and its sum is that of its table. It is called in use, durably, before
//! the first write after it was opened.

pub const BLOCK_BITS: u32 = 10;
/// Bytes of a block.
pub const BLOCK: u64 = 1 << BLOCK_BITS;
/// Where the table begins: one little-endian u32 a guest block, 0 or the block of the file that holds it. It has
/// pages of the file system to itself, so that it may lie in a hole of the file.
pub const TABLE: u64 = 4 * BLOCK;

const MAGIC: &[u8; 8] = b"u32table";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub size: u64,
    pub in_use: bool,
    pub sum: u32,
}

impl Header {
    pub fn parse(head: &[u8]) -> Option<Header> {
        let u32_at = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let size = u64::from(u32_at(8)?) | u64::from(u32_at(12)?) << 32;
        let magic = head.get(..8)? == MAGIC && size <= i64::MAX as u64;
        magic.then_some(Header { size, in_use: u32_at(16)? != 0, sum: u32_at(20)? })
    }

    /// The whole sector.
    pub fn bytes(self) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        head.extend(self.size.to_le_bytes());
        head.extend(u32::from(self.in_use).to_le_bytes());
        head.extend(self.sum.to_le_bytes());
        head.resize(512, 0);
        head
    }

    /// Guest blocks.
    pub fn entries(self) -> u64 {
        self.size.div_ceil(BLOCK)
    }

    /// The first block that is the table's no more.
    pub fn first_block(self) -> u64 {
        (TABLE + self.entries() * 4).next_multiple_of(TABLE) / BLOCK
    }
}

/// What the header says of a table when the image is closed.
pub fn sum(table: &[u8]) -> u32 {
    table.iter().fold(1, |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)))
}
