//! The header of a VDI image: the first sector, little-endian.
//!
//! ```text
//!  0x00 a line of text │ 0x40 signature, version │ 0x48 header's length, type, flags, comment
//!  0x154 offsets of table and data │ 0x168 sector size │ 0x170 disk size │ 0x178 block size, extra │ 0x180 blocks, in use
//!  0x188 UUIDs: of the image, of its state, of what it follows, of its parent
//! ```
//!
//! Specification: the layout as its users describe it, and as images of VirtualBox and QEMU show it.
use std::ops::Range;

/// Bytes of the header.
pub const LEN: usize = 512;
/// Bytes of a block, in all images that are made.
pub const BLOCK: u64 = 1 << 20;
/// Most blocks of a disk.
pub const MOST_BLOCKS: u32 = 0x1fff_ff80;
/// An entry that leads to nothing.
pub const FREE: u32 = u32::MAX;
/// An entry whose block was discarded.
pub const DISCARDED: u32 = u32::MAX - 1;

/// The signature, at [`SIGNATURE_AT`].
pub const SIGNATURE: [u8; 4] = 0xbeda_107f_u32.to_le_bytes();
pub const SIGNATURE_AT: usize = 0x40;

const VERSION: u32 = 0x0001_0001;
const HEADER_LEN: u32 = 0x180;
const SECTOR: u32 = 512;
/// Where the table of a new image begins.
const TABLE: u32 = 512;

/// Block sizes that are read.
const BLOCK_SIZES: Range<u32> = 512..(64 << 20) + 1;

const TITLE: &[u8] = b"<<< Cairn Virtual Disk Image >>>\n";

/// What an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Blocks have a place when they are written.
    Dynamic,
    /// All blocks have a place.
    Static,
}

/// A header that was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    bytes: [u8; LEN],
    pub kind: Kind,
    /// Byte offset of the table.
    pub table: u64,
    /// Byte offset of block 0.
    pub data: u64,
    /// Virtual size in bytes, whole sectors.
    pub size: u64,
    pub block_size: u64,
    /// Entries of the table.
    pub blocks: u32,
}

/// What is wrong with a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("it has no VDI signature (found {0:#x})")]
    Signature(u32),
    #[error("VDI version {}.{} is not supported; only 1.1 is", .0 >> 16, .0 & 0xffff)]
    Version(u32),
    #[error("images of type {0} are not supported (1 is dynamic, 2 static)")]
    Kind(u32),
    #[error("it depends on another image (its {0} UUID is set), which is not supported")]
    Linked(&'static str),
    #[error("{field} is {value:#x}, and must be {must}")]
    Field { field: &'static str, value: u64, must: &'static str },
    #[error("the disk has {size:#x} bytes, more than its {blocks} blocks of {block_size:#x} bytes hold")]
    Size { size: u64, blocks: u32, block_size: u64 },
}

impl Header {
    pub fn parse(bytes: [u8; LEN]) -> Result<Self, HeaderError> {
        let header = Fields(&bytes);
        let field = |field, value: u32, right: bool, must| match right {
            true => Ok(value),
            false => Err(HeaderError::Field { field, value: value.into(), must }),
        };
        let signature = header.word(SIGNATURE_AT);
        if signature.to_le_bytes() != SIGNATURE {
            return Err(HeaderError::Signature(signature));
        }
        let version = header.word(0x44);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let kind = match header.word(0x4c) {
            1 => Kind::Dynamic,
            2 => Kind::Static,
            other => return Err(HeaderError::Kind(other)),
        };
        let aligned = |name, at| {
            let value = header.word(at);
            field(
                name,
                value,
                value.is_multiple_of(SECTOR) && value >= SECTOR,
                "a multiple of 512 behind the header",
            )
        };
        let (table, data) =
            (aligned("the offset of the table", 0x154)?, aligned("the offset of the data", 0x158)?);
        let sector = header.word(0x168);
        field("the sector size", sector, sector == SECTOR, "512")?;
        let block_size = header.word(0x178);
        let right = block_size.is_power_of_two() && BLOCK_SIZES.contains(&block_size);
        field("the block size", block_size, right, "a power of two from 512 to 64 MiB")?;
        let extra = header.word(0x17c);
        field("the extra size of blocks", extra, extra == 0, "0")?;
        let blocks = header.word(0x180);
        field("the number of blocks", blocks, blocks <= MOST_BLOCKS, "0x1fffff80 at most")?;
        for (name, at) in [("link", 0x1a8), ("parent", 0x1b8)] {
            if bytes.get(at..at + 16).is_some_and(|uuid| uuid.iter().any(|byte| *byte != 0)) {
                return Err(HeaderError::Linked(name));
            }
        }
        let (stated, block_size) = (header.long(0x170), u64::from(block_size));
        let whole = stated.checked_next_multiple_of(u64::from(SECTOR));
        let size = whole.filter(|size| *size <= u64::from(blocks) * block_size);
        let size = size.ok_or(HeaderError::Size { size: stated, blocks, block_size })?;
        let (table, data) = (u64::from(table), u64::from(data));
        Ok(Self { bytes, kind, table, data, size, block_size, blocks })
    }

    /// The header of a new disk of `size` bytes in whole sectors, whose blocks [`MOST_BLOCKS`] allows.
    pub fn new(size: u64, kind: Kind) -> Self {
        let blocks = size.div_ceil(BLOCK) as u32;
        let (table, data) = (u64::from(TABLE), Self::data_behind(blocks));
        let mut header = Self { bytes: [0; LEN], kind, table, data, size, block_size: BLOCK, blocks };
        header.put(0, TITLE);
        header.put(SIGNATURE_AT, &SIGNATURE);
        let kind: u32 = if kind == Kind::Dynamic { 1 } else { 2 };
        let words = [
            (0x44, VERSION),
            (0x48, HEADER_LEN),
            (0x4c, kind),
            (0x154, TABLE),
            (0x158, data as u32),
            (0x168, SECTOR),
            (0x178, BLOCK as u32),
            (0x180, blocks),
            (0x184, if kind == 2 { blocks } else { 0 }),
        ];
        words.into_iter().for_each(|(at, word)| header.put(at, &word.to_le_bytes()));
        header.put(0x170, &size.to_le_bytes());
        header.put(0x188, &random_uuid());
        header.put(0x198, &random_uuid());
        header
    }

    /// Where the data of a new image begins, behind a table of so many entries.
    fn data_behind(blocks: u32) -> u64 {
        (u64::from(TABLE) + u64::from(blocks) * 4).next_multiple_of(u64::from(SECTOR))
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(to) = self.bytes.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }

    /// Blocks in use: no block from this one on is.
    pub fn allocated(&self) -> u32 {
        Fields(&self.bytes).word(0x184)
    }

    /// The whole sector, with so many blocks in use.
    pub fn with_allocated(&self, blocks: u32) -> [u8; LEN] {
        let mut header = self.clone();
        header.put(0x184, &blocks.to_le_bytes());
        header.bytes
    }
}

/// Words of a header, by their offsets.
struct Fields<'a>(&'a [u8; LEN]);

impl Fields<'_> {
    fn word(&self, at: usize) -> u32 {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
    }

    fn long(&self, at: usize) -> u64 {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
    }
}

/// A UUID of version 4.
fn random_uuid() -> [u8; 16] {
    let mut bytes = [0; 16];
    let (high, low) = (rt::random_u64().to_le_bytes(), rt::random_u64().to_le_bytes());
    bytes.iter_mut().zip(high.into_iter().chain(low)).for_each(|(to, byte)| *to = byte);
    // As a Microsoft GUID: the third field, little-endian, begins with the version.
    (bytes[7], bytes[8]) = (bytes[7] & 0x0f | 0x40, bytes[8] & 0x3f | 0x80);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of two blocks and a sector, without UUIDs.
    fn bytes() -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let words: [(usize, u32); 10] = [
            (0x40, 0xbeda_107f),
            (0x44, 0x0001_0001),
            (0x4c, 1),
            (0x154, 512),
            (0x158, 1024),
            (0x168, 512),
            (0x170, (2 << 20) + 1),
            (0x178, 1 << 20),
            (0x180, 3),
            (0x184, 2),
        ];
        for (at, word) in words {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_header_is_read_and_only_the_number_of_blocks_in_use_changes_in_it() {
        let mut given = bytes();
        given[300] = 7;
        let header = Header::parse(given).unwrap();
        assert_eq!((header.kind, header.table, header.data), (Kind::Dynamic, 512, 1024));
        assert_eq!((header.size, header.blocks, header.allocated()), ((2 << 20) + 512, 3, 2));
        let written = header.with_allocated(3);
        assert_eq!(Header::parse(written).unwrap().allocated(), 3);
        let differ = (0..LEN).filter(|at| written[*at] != given[*at]).collect::<Vec<_>>();
        assert_eq!(differ, [0x184]);
    }

    #[test]
    fn what_can_t_be_is_refused() {
        let wrong: [(usize, u32); 13] = [
            (0x40, 1),
            (0x44, 0x0001_0000),
            (0x4c, 3),
            (0x154, 513),
            (0x154, 0),
            (0x158, 1000),
            (0x168, 4096),
            (0x174, 1),
            (0x178, 0x10_0001),
            (0x178, 0),
            (0x17c, 8),
            (0x180, 2),
            (0x1b8, 1),
        ];
        for (at, word) in wrong {
            let mut bytes = bytes();
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            assert!(Header::parse(bytes).is_err(), "{word:#x} at {at:#x}");
        }
        assert!(Header::parse([0xff; LEN]).is_err());
    }
}
