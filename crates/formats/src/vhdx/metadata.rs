//! The metadata region: what the disk is.
//!
//! Specification: MS-VHDX 2.6.
use super::MIB;
use super::regions::Part;
use super::replay::Seen;
use super::words::{Guid, guid_at, put, u16_at, u32_at, u64_at};
use block::{BlockError, Result};

/// Bytes of the table at its front; items are behind it.
pub(super) const TABLE: usize = 64 << 10;
const SIGNATURE: &[u8; 8] = b"metadata";
const PARAMETERS: Guid = Guid::of(0xcaa1_6737_fa36_4d43, 0xb3b6_33f0_aa44_e76b);
const SIZE: Guid = Guid::of(0x2fa5_4224_cd1b_4876, 0xb211_5dbe_d83b_f4b8);
const PAGE_83: Guid = Guid::of(0xbeca_12ab_b2e6_4523, 0x93ef_c309_e000_c746);
const LOGICAL: Guid = Guid::of(0x8141_bf1d_a96f_4709, 0xba47_f233_a8fa_ab5f);
const PHYSICAL: Guid = Guid::of(0xcda3_48c7_445d_4471, 0x9cc9_e988_5251_c556);
const LOCATOR: Guid = Guid::of(0xa8d3_5f2d_b30b_454d, 0xabf7_d3d8_4834_ab0c);
/// Most entries of the table.
const MOST: u16 = 2047;
/// Longest locator that is read, in bytes.
const LONGEST_LOCATOR: u32 = 64 << 10;
/// The largest disk: 64 TiB.
pub(super) const LARGEST: u64 = 64 << 40;

/// What the disk is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Bytes of a block.
    pub block: u64,
    /// Blocks are not given up: the image is a fixed one.
    pub fixed: bool,
    /// What is not in the image is in a parent; the names of that.
    pub parent: Option<Vec<u8>>,
    /// Virtual size in bytes.
    pub size: u64,
    /// Bytes of a sector.
    pub sector: u32,
}

impl Metadata {
    /// Reads it.
    pub async fn read(seen: Seen<'_>, region: Part) -> Result<Self> {
        let table = seen.read(region.offset, TABLE).await?;
        let corrupt = |text: String| BlockError::corrupt(text).at(region.offset);
        let count = u16_at(&table, 10);
        if !table.starts_with(SIGNATURE) || count > MOST {
            return Err(corrupt("there is no table of metadata".to_owned()));
        }
        let (mut parameters, mut size, mut sector, mut parent) = (None, None, None, None);
        let mut found = [false; 6];
        for entry in table.get(32..).unwrap_or_default().chunks_exact(32).take(count.into()) {
            let (item, offset, len, flags) =
                (guid_at(entry, 0), u32_at(entry, 16), u32_at(entry, 20), u32_at(entry, 24));
            // A user's item has an identifier of its own kind.
            let (user, required) = (flags & 1 == 1, flags & 4 == 4);
            let kinds = [PARAMETERS, SIZE, PAGE_83, LOGICAL, PHYSICAL, LOCATOR];
            let kind = kinds.iter().zip(&mut found).find(|(kind, _)| !user && **kind == item);
            let Some((_, found)) = kind else {
                if required {
                    let text = format!(
                        "the image has metadata that must be understood and are unknown here ({item:02x?})"
                    );
                    return Err(BlockError::unsupported(text).at(region.offset));
                }
                continue;
            };
            if std::mem::replace(found, true) {
                return Err(corrupt(format!(
                    "there are two items of one kind in the metadata ({item:02x?})"
                )));
            }
            let inside = (offset as usize) >= TABLE && u64::from(offset) + u64::from(len) <= region.len;
            let longest = if item == LOCATOR { LONGEST_LOCATOR } else { 16 };
            if !inside || len > longest || len < 4 {
                return Err(corrupt(format!(
                    "metadata of {len} bytes can't be at {offset:#x} of their region"
                )));
            }
            let bytes = seen.read(region.offset + u64::from(offset), len as usize).await?;
            match item {
                PARAMETERS => parameters = Some((u32_at(&bytes, 0), u32_at(&bytes, 4))),
                SIZE => size = Some(u64_at(&bytes, 0)),
                LOGICAL => sector = Some(u32_at(&bytes, 0)),
                LOCATOR => parent = Some(bytes.to_vec()),
                _ => {}
            }
        }
        let missing = |what| corrupt(format!("the image does not tell {what}"));
        let (block, flags) = parameters.ok_or_else(|| missing("how large its blocks are"))?;
        let (size, sector) =
            (size.ok_or_else(|| missing("its size"))?, sector.ok_or_else(|| missing("its sectors"))?);
        if !block.is_power_of_two() || !(1..=256).contains(&(u64::from(block) / MIB)) {
            return Err(corrupt(format!("blocks of {block} bytes are none of 1 to 256 MiB")));
        }
        if sector != 512 && sector != 4096 {
            return Err(corrupt(format!("sectors of {sector} bytes are none of 512 or 4,096")));
        }
        if size > LARGEST || !size.is_multiple_of(sector.into()) {
            return Err(corrupt(format!(
                "a size of {size} bytes is above 64 TiB, or no multiple of a sector"
            )));
        }
        let parent = match (flags & 2 == 2, parent) {
            (true, None) => return Err(missing("what its parent is")),
            (true, parent) => parent,
            (false, _) => None,
        };
        Ok(Self { block: block.into(), fixed: flags & 1 == 1, parent, size, sector })
    }

    /// Table and items of a new image.
    pub fn new_bytes(block: u64, fixed: bool, size: u64) -> Vec<u8> {
        let items: [(Guid, u32, Vec<u8>); 5] = [
            (PARAMETERS, 4, [(block as u32).to_le_bytes(), u32::from(fixed).to_le_bytes()].concat()),
            (SIZE, 6, size.to_le_bytes().to_vec()),
            (PAGE_83, 6, Guid::random().0.to_vec()),
            (LOGICAL, 6, 512u32.to_le_bytes().to_vec()),
            (PHYSICAL, 6, 512u32.to_le_bytes().to_vec()),
        ];
        let mut bytes = vec![0; TABLE];
        put(&mut bytes, 0, SIGNATURE);
        put(&mut bytes, 10, &(items.len() as u16).to_le_bytes());
        for (number, (item, flags, value)) in items.iter().enumerate() {
            let (at, end) = (32 + 32 * number, bytes.len() as u32);
            put(&mut bytes, at, &item.0);
            put(&mut bytes, at + 16, &end.to_le_bytes());
            put(&mut bytes, at + 20, &(value.len() as u32).to_le_bytes());
            put(&mut bytes, at + 24, &flags.to_le_bytes());
            bytes.extend_from_slice(value);
        }
        bytes
    }
}
