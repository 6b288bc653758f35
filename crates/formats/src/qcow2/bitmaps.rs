//! The directory of persistent bitmaps: what is listed and what takes clusters. Their bits are not read here.
//!
//! ```text
//!  bitmaps extension ─▶ directory: [24 bytes][extra data][name][padding to 8] …
//!                                     └─▶ bitmap table [u64] ─▶ cluster of bits
//! ```
//!
//! Bounds: 65,535 bitmaps, names of 1,023 bytes, 32 MiB of directory.
//! Specification: qcow2.rst, "Bitmaps".
use super::directory::Directory;
use super::header::field::{be16, be32, be64, until_nul};
use super::header::{AUTOCLEAR_BITMAPS, BitmapsExtension, Header};
use api::{Qcow2BitmapInfo, Qcow2BitmapInfoFlags};
use block::{BlockError, Node, Result};
use std::sync::Arc;

const MAX_BITMAPS: u32 = 65535;
const MAX_NAME: u16 = 1023;
const MAX_DIRECTORY_BYTES: u64 = 32 << 20;
/// Most entries of a bitmap table: what bitmaps of the finest granularity over the largest disk need.
const MAX_TABLE_ENTRIES: u32 = 0x0800_0000;
const FIXED_BYTES: usize = 24;
const FLAG_IN_USE: u32 = 1;
const FLAG_AUTO: u32 = 1 << 1;
const FLAGS_RESERVED: u32 = !7;
const TYPE_DIRTY_TRACKING: u8 = 1;

/// One entry of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bitmap {
    /// Where its table is.
    pub table_offset: u64,
    /// Entries of its table.
    pub table_entries: u32,
    flags: u32,
    granularity_bits: u8,
    name: String,
}

impl Bitmap {
    /// Its name, unique in the image.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What `info` tells of it.
    pub(super) fn describe(&self) -> Qcow2BitmapInfo {
        let known = [(FLAG_IN_USE, Qcow2BitmapInfoFlags::InUse), (FLAG_AUTO, Qcow2BitmapInfoFlags::Auto)];
        Qcow2BitmapInfo {
            flags: known.into_iter().filter(|(bit, _)| self.flags & bit != 0).map(|(_, flag)| flag).collect(),
            name: self.name.clone(),
            granularity: 1 << self.granularity_bits,
        }
    }
}

/// The bitmaps extension, if it says something that holds: its autoclear bit is set.
pub(super) fn consistent(header: &Header) -> Option<BitmapsExtension> {
    header.bitmaps().filter(|_| header.autoclear & AUTOCLEAR_BITMAPS != 0)
}

/// Reads the directory.
pub(super) async fn read(file: &Arc<Node>, header: &Header) -> Result<Vec<Bitmap>> {
    let Some(extension) = consistent(header) else { return Ok(Vec::new()) };
    let offset = extension.directory_offset;
    if extension.count == 0 {
        return Err(wrong(offset, "it has no entries"));
    }
    if extension.count > MAX_BITMAPS || !offset.is_multiple_of(header.cluster_size()) {
        return Err(wrong(offset, "it has too many entries or is not aligned to a cluster"));
    }
    let mut directory =
        Directory::new(file, "bitmap directory", offset, extension.directory_size.min(MAX_DIRECTORY_BYTES));
    let mut bitmaps = Vec::new();
    for _ in 0..extension.count {
        directory.align().await?;
        bitmaps.push(read_one(&mut directory, header, offset).await?);
    }
    if directory.taken() > extension.directory_size || extension.directory_size - directory.taken() >= 8 {
        return Err(wrong(offset, "its size is not that of its entries"));
    }
    Ok(bitmaps)
}

async fn read_one(directory: &mut Directory<'_>, header: &Header, offset: u64) -> Result<Bitmap> {
    let fixed = directory.take(FIXED_BYTES).await?;
    let u32_at = |at| be32(&fixed, at).unwrap_or_default();
    let name_bytes = be16(&fixed, 18).unwrap_or_default();
    let granularity_bits = fixed.get(17).copied().unwrap_or_default();
    let (table_offset, table_entries) = (be64(&fixed, 0).unwrap_or_default(), u32_at(8));
    if name_bytes == 0 || name_bytes > MAX_NAME || !(9..=31).contains(&granularity_bits) {
        return Err(wrong(offset, "an entry has an impossible name or granularity"));
    }
    if fixed.get(16) != Some(&TYPE_DIRTY_TRACKING) || u32_at(12) & FLAGS_RESERVED != 0 {
        return Err(wrong(offset, "an entry has an unknown type or flag"));
    }
    if table_entries > MAX_TABLE_ENTRIES || !table_offset.is_multiple_of(header.cluster_size()) {
        return Err(wrong(offset, "the table of a bitmap is too large or not aligned to a cluster"));
    }
    if u32_at(20) > 0 {
        directory.take(u32_at(20).min(1 << 20) as usize).await?;
    }
    let name = directory.take(usize::from(name_bytes)).await?;
    let name = String::from_utf8_lossy(until_nul(&name)).into_owned();
    Ok(Bitmap { table_offset, table_entries, flags: u32_at(12), granularity_bits, name })
}

fn wrong(offset: u64, why: &str) -> BlockError {
    BlockError::corrupt(format!("bitmap directory at {offset:#x}: {why}")).at(offset)
}
