//! The table of regions: where the block allocation table and the metadata are.
//!
//! It is there twice. A region that is required and unknown means that the image can't be understood.
//! Specification: MS-VHDX 2.2.3.
use super::MIB;
use super::replay::Seen;
use super::words::{Guid, guid_at, is_sound, put, seal, u32_at, u64_at};
use block::{BlockError, Result};

/// Where the two tables are.
pub(super) const TABLES: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes of one.
pub(super) const TABLE: usize = 64 << 10;
const SIGNATURE: &[u8; 4] = b"regi";
const BAT: Guid = Guid::of(0x2dc2_7766_f623_4200, 0x9d64_115e_9bfd_4a08);
const METADATA: Guid = Guid::of(0x8b7c_a206_4790_4b9a, 0xb8fe_575f_050f_886e);
/// Most entries of a table.
const MOST: u32 = 2047;

/// A part of the file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Part {
    pub offset: u64,
    pub len: u64,
}

impl Part {
    pub fn end(self) -> u64 {
        self.offset + self.len
    }

    /// Whether any byte of the other is in it.
    pub fn meets(self, other: Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }
}

/// The regions of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Regions {
    pub bat: Part,
    pub metadata: Part,
    /// Those that are not known here; they stay as they are.
    pub others: Vec<Part>,
}

impl Regions {
    /// Reads the first table whose checksum is right.
    pub async fn read(seen: Seen<'_>) -> Result<Self> {
        for at in TABLES {
            let bytes = seen.read(at, TABLE).await?;
            if is_sound(&bytes, SIGNATURE) {
                return Self::parse(&bytes).map_err(|e| e.at(at));
            }
        }
        Err(BlockError::corrupt("neither table of regions has the checksum of its bytes").at(TABLES[0]))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let count = u32_at(bytes, 8);
        if count > MOST {
            return Err(BlockError::corrupt(format!(
                "the table of regions has {count} entries; {MOST} are the most"
            )));
        }
        let (mut bat, mut metadata, mut others) = (None, None, Vec::new());
        for entry in bytes.get(16..).unwrap_or_default().chunks_exact(32).take(count as usize) {
            let (guid, required) = (guid_at(entry, 0), u32_at(entry, 28) & 1 == 1);
            let part = Part { offset: u64_at(entry, 16), len: u32_at(entry, 24).into() };
            let aligned = part.offset.is_multiple_of(MIB) && part.len.is_multiple_of(MIB);
            if !aligned || part.offset < MIB || part.offset > i64::MAX as u64 - part.len {
                let text = format!("a region of {:#x} bytes can't be at {:#x}", part.len, part.offset);
                return Err(BlockError::corrupt(text));
            }
            match guid {
                BAT => bat = Some(part),
                METADATA => metadata = Some(part),
                _ if required => {
                    let text = format!(
                        "the image has a region that must be understood and is unknown here ({guid:02x?})"
                    );
                    return Err(BlockError::unsupported(text));
                }
                _ => others.push(part),
            }
        }
        let missing = |what| BlockError::corrupt(format!("there is no region for the {what}"));
        Ok(Self {
            bat: bat.ok_or_else(|| missing("block allocation table"))?,
            metadata: metadata.ok_or_else(|| missing("metadata"))?,
            others,
        })
    }

    /// The table of a new image.
    pub fn new_bytes(bat: Part, metadata: Part) -> Vec<u8> {
        let mut bytes = vec![0; TABLE];
        put(&mut bytes, 0, SIGNATURE);
        put(&mut bytes, 8, &2u32.to_le_bytes());
        for (at, (guid, part)) in [(16, (BAT, bat)), (48, (METADATA, metadata))] {
            put(&mut bytes, at, &guid.0);
            put(&mut bytes, at + 16, &part.offset.to_le_bytes());
            put(&mut bytes, at + 24, &(part.len as u32).to_le_bytes());
            put(&mut bytes, at + 28, &1u32.to_le_bytes());
        }
        seal(&mut bytes);
        bytes
    }
}
