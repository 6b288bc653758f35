//! The header of a dynamic image, and the names of the parent that a differencing one has.
//!
//! A parent has several names, one a locator: in the forms of several systems, relative to the image and not. A relative name
//! is the best, for images move together; what is absolute on another system leads nowhere here but by its last part, beside
//! the image.
//! Specification: VHD 1.0, "Dynamic Disk Header Format".
use super::footer::{checksum, put, u32_at, u64_at};
use crate::windows;
use block::{BlockError, Node, Result};
use rt::BufMut;
use std::sync::Arc;

/// Bytes of the header.
pub(super) const HEADER: usize = 1024;
/// Most entries of a table.
const MOST_ENTRIES: u32 = 1 << 24;
/// An entry that leads to no block.
pub(super) const UNUSED: u32 = u32::MAX;
/// Bytes of a block of new images.
pub(super) const BLOCK: u32 = 2 << 20;
const COOKIE: &[u8; 8] = b"cxsparse";
const CHECKSUM: usize = 36;
/// Where the first of eight locators begins, and how long each is.
const LOCATORS: usize = 576;
const LOCATOR: usize = 24;
/// Longest name of a parent, in bytes.
const LONGEST_NAME: u32 = 64 << 10;

/// The header of a dynamic image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// Byte offset of the block allocation table.
    pub table: u64,
    /// Its entries.
    pub entries: u32,
    /// Bytes of a block, a power of two.
    pub block: u32,
    pub parent_id: [u8; 16],
    /// The parent's name in UTF-16.
    parent_name: Vec<u16>,
    locators: Vec<Locator>,
}

/// Where a name of the parent is in the file, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Locator {
    code: [u8; 4],
    len: u32,
    offset: u64,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoHeader {
    /// Something else.
    #[error("there is no header of a dynamic disk")]
    Cookie,
    /// The checksum is that of other bytes.
    #[error("the checksum of the dynamic header is {stored:#x} and should be {sum:#x}")]
    Checksum { stored: u32, sum: u32 },
    /// No power of two, or less than a sector.
    #[error("blocks of {0} bytes are no power of two of sectors")]
    Block(u32),
    /// The table would be too long.
    #[error("a block allocation table of {0} entries is too large; at most {MOST_ENTRIES} are read")]
    Entries(u32),
    /// The table lies across the end of all files.
    #[error("the block allocation table can't be at {0:#x}")]
    Table(u64),
    /// The disk has more blocks than entries.
    #[error("the block allocation table has {entries} entries, and the disk {blocks} blocks")]
    Short { entries: u32, blocks: u64 },
}

impl Header {
    /// Reads the header of a disk of so many bytes.
    pub fn parse(bytes: &[u8], size: u64) -> Result<Self, NoHeader> {
        if !bytes.starts_with(COOKIE) {
            return Err(NoHeader::Cookie);
        }
        let (stored, sum) = (u32_at(bytes, CHECKSUM), checksum(bytes, CHECKSUM));
        if stored != sum {
            return Err(NoHeader::Checksum { stored, sum });
        }
        let (table, entries, block) = (u64_at(bytes, 16), u32_at(bytes, 28), u32_at(bytes, 32));
        if !block.is_power_of_two() || block < 512 {
            return Err(NoHeader::Block(block));
        }
        if entries > MOST_ENTRIES {
            return Err(NoHeader::Entries(entries));
        }
        if table < 512 || table > i64::MAX as u64 - 4 * u64::from(MOST_ENTRIES) {
            return Err(NoHeader::Table(table));
        }
        let blocks = size.div_ceil(block.into());
        if u64::from(entries) < blocks {
            return Err(NoHeader::Short { entries, blocks });
        }
        let mut parent_id = [0; 16];
        parent_id.iter_mut().zip(bytes.iter().skip(40)).for_each(|(to, byte)| *to = *byte);
        let name = bytes.get(64..LOCATORS).unwrap_or_default().as_chunks().0.iter();
        let locators = bytes.get(LOCATORS..).unwrap_or_default().chunks_exact(LOCATOR).take(8);
        let locators = locators.filter_map(|bytes| {
            let code = *bytes.first_chunk()?;
            let locator = Locator { code, len: u32_at(bytes, 8), offset: u64_at(bytes, 16) };
            (code != [0; 4] && locator.len <= LONGEST_NAME).then_some(locator)
        });
        Ok(Self {
            table,
            entries,
            block,
            parent_id,
            parent_name: name.map(|unit| u16::from_be_bytes(*unit)).take_while(|unit| *unit != 0).collect(),
            locators: locators.collect(),
        })
    }

    /// The header of a new image with its table at `table`.
    pub fn new_bytes(table: u64, entries: u32) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        put(&mut bytes, 0, COOKIE);
        put(&mut bytes, 8, &u64::MAX.to_be_bytes());
        put(&mut bytes, 16, &table.to_be_bytes());
        put(&mut bytes, 24, &0x1_0000u32.to_be_bytes());
        put(&mut bytes, 28, &entries.to_be_bytes());
        put(&mut bytes, 32, &BLOCK.to_be_bytes());
        let sum = checksum(&bytes, CHECKSUM);
        put(&mut bytes, CHECKSUM, &sum.to_be_bytes());
        bytes
    }

    /// The parent's name as a name of this system, if the image has one that can be read.
    pub async fn parent(&self, file: &Arc<Node>) -> Result<Option<String>> {
        for code in [b"W2ru", b"W2ku", b"MacX"] {
            let Some(locator) = self.locators.iter().find(|locator| locator.code == *code) else { continue };
            let inside =
                locator.offset.checked_add(locator.len.into()).is_some_and(|end| end <= file.length());
            if !inside {
                let text =
                    format!("the name of the parent lies beyond the end of the file ({:#x})", locator.offset);
                return Err(BlockError::corrupt(text).at(locator.offset).about_file(&file.filename()));
            }
            let (bytes, read) = file.read(locator.offset, BufMut::with_len(locator.len as usize)).await;
            read?;
            if let Some(name) = name_of(code, &bytes) {
                return Ok(Some(name));
            }
        }
        Ok(windows::name_here(&String::from_utf16_lossy(&self.parent_name)))
    }
}

/// The name in a locator.
fn name_of(code: &[u8; 4], bytes: &[u8]) -> Option<String> {
    if code == b"MacX" {
        let url = String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
        let path = url.strip_prefix("file://localhost").or(url.strip_prefix("file://"));
        return path.and_then(windows::plain);
    }
    let units = bytes.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit));
    windows::name_here(&String::from_utf16_lossy(&units.take_while(|unit| *unit != 0).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_it_was_made_of() {
        let bytes = Header::new_bytes(1536, 513);
        let header = Header::parse(&bytes, 1 << 30).unwrap();
        assert_eq!((header.table, header.entries, header.block), (1536, 513, BLOCK));
        assert_eq!(Header::parse(&bytes, 2 << 30), Err(NoHeader::Short { entries: 513, blocks: 1024 }));
        let changed = |at, what: &[u8]| {
            let mut bytes = bytes;
            put(&mut bytes, at, what);
            let sum = checksum(&bytes, CHECKSUM);
            put(&mut bytes, CHECKSUM, &sum.to_be_bytes());
            Header::parse(&bytes, 1 << 20)
        };
        assert_eq!(changed(0, b"x"), Err(NoHeader::Cookie));
        assert_eq!(changed(32, &[0, 0, 1, 0]), Err(NoHeader::Block(256)));
        assert_eq!(changed(32, &[0, 0x30, 0, 0]), Err(NoHeader::Block(3 << 20)));
        assert_eq!(changed(28, &[0xff; 4]), Err(NoHeader::Entries(u32::MAX)));
        assert_eq!(changed(16, &[0xff; 8]), Err(NoHeader::Table(u64::MAX)));
        let mut damaged = bytes;
        damaged[1000] = 1;
        assert!(matches!(Header::parse(&damaged, 1), Err(NoHeader::Checksum { .. })));
    }

    #[test]
    fn a_locator_has_a_name_in_the_form_of_its_system() {
        assert_eq!(
            name_of(b"MacX", b"file://localhost/disks/base.vhd\0").as_deref(),
            Some("/disks/base.vhd")
        );
        for protocol in ["file://json:{}", "file://localhostnbd:host:1", "file://", "json:{}"] {
            assert_eq!(name_of(b"MacX", protocol.as_bytes()), None, "{protocol}");
        }
        let units: Vec<u8> = "base.vhd\0x".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(name_of(b"W2ru", &units).as_deref(), Some("base.vhd"));
    }
}
