//! Persistent dirty bitmaps: their directory here, loading and storing their bits in `load` and `store`.
//!
//! ```text
//!  bitmaps extension ─▶ directory: [24 bytes][extra data][name][padding to 8] …
//!                                     └─▶ bitmap table [u64] ─▶ cluster of bits
//! ```
//!
//! Laws:
//! - a bitmap on disk covers every change since it was stored, or its entry says that it is in use, durably before the first
//!   change: the entries are marked in place, and nothing else of a directory or table is ever overwritten;
//! - bitmaps are stored in new clusters, and one write of the header leads to all of them;
//! - what can't be used here (a bitmap that was in use, of another type, with extra data that must be understood) is kept as
//!   it is, but for that mark where changes would be missing in it.
//!
//! Bounds: 65,535 bitmaps, names of 1,023 bytes; what their bits may take of memory: [`load`].
//! Specification: qcow2.rst, "Bitmaps".
mod load;
mod store;

pub(super) use store::{LOST, Marked};

use super::directory::Directory;
use super::header::{AUTOCLEAR_BITMAPS, BitmapsExtension, Header};
use crate::field::{be16, be32, be64, until_nul};
use api::{Qcow2BitmapInfo, Qcow2BitmapInfoFlags};
use block::{Bitmaps, BlockError, MAX_BITMAP_NAME, Node, Result};
use futures_util::lock::Mutex as AsyncMutex;
use parking_lot::RwLock;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

const MAX_BITMAPS: u32 = 65535;
/// Most bytes of a directory: other programs open no image with more.
const MAX_DIRECTORY_BYTES: u64 = MAX_BITMAPS as u64 * 1024;
/// Most entries of a bitmap table: what bitmaps of the finest granularity over the largest disk need.
const MAX_TABLE_ENTRIES: u32 = 0x0800_0000;
/// Most bytes of extra data that are kept.
const MAX_EXTRA: u32 = 1 << 20;
const FIXED_BYTES: usize = 24;
const FLAG_IN_USE: u32 = 1;
const FLAG_AUTO: u32 = 1 << 1;
const FLAG_EXTRA_DATA_COMPATIBLE: u32 = 1 << 2;
const FLAGS_RESERVED: u32 = !7;
const TYPE_DIRTY_TRACKING: u8 = 1;
/// log2 of the granularities that are known to other programs.
const GRANULARITIES: std::ops::RangeInclusive<u8> = 9..=31;

/// One entry of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bitmap {
    /// Where its table is.
    pub table_offset: u64,
    /// Entries of its table.
    pub table_entries: u32,
    flags: u32,
    kind: u8,
    granularity_bits: u8,
    extra_bytes: u32,
    name: Arc<str>,
    /// Extra data and name as they are stored, where that is more than the name as text.
    stored: Option<Arc<[u8]>>,
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
            name: self.name.to_string(),
            granularity: 1u32.checked_shl(self.granularity_bits.into()).unwrap_or(0),
        }
    }

    fn is_in_use(&self) -> bool {
        self.flags & FLAG_IN_USE != 0
    }

    fn is_auto(&self) -> bool {
        self.flags & FLAG_AUTO != 0
    }

    /// Why it can't be used, whatever its bits are.
    fn unusable(&self) -> Option<&'static str> {
        let reasons = [
            (self.is_in_use(), "it was in use when the image was last closed"),
            (self.kind != TYPE_DIRTY_TRACKING, "its type is unknown"),
            (self.flags & FLAGS_RESERVED != 0, "it has unknown flags"),
            (
                self.extra_bytes > 0 && self.flags & FLAG_EXTRA_DATA_COMPATIBLE == 0,
                "it has extra data that must be understood",
            ),
            (!GRANULARITIES.contains(&self.granularity_bits), "its granularity is not 512 bytes to 2 GiB"),
            (self.name.len() > MAX_BITMAP_NAME, "its name is too long"),
        ];
        reasons.into_iter().find(|(is_so, _)| *is_so).map(|(_, why)| why)
    }

    /// Extra data and name as they are stored.
    fn tail(&self) -> &[u8] {
        self.stored.as_deref().unwrap_or(self.name.as_bytes())
    }

    fn stored_bytes(&self) -> u64 {
        stored_bytes(self.tail().len())
    }
}

/// Bytes of an entry whose extra data and name have `tail` bytes.
fn stored_bytes(tail: usize) -> u64 {
    (FIXED_BYTES + tail).next_multiple_of(8) as u64
}

/// The bytes of a directory.
fn encode(list: &[Bitmap]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(list.iter().map(Bitmap::stored_bytes).sum::<u64>() as usize);
    for bitmap in list {
        let name_bytes = bitmap.tail().len() as u32 - bitmap.extra_bytes;
        bytes.extend(bitmap.table_offset.to_be_bytes());
        bytes.extend(bitmap.table_entries.to_be_bytes());
        bytes.extend(bitmap.flags.to_be_bytes());
        bytes.extend([bitmap.kind, bitmap.granularity_bits]);
        bytes.extend((name_bytes as u16).to_be_bytes());
        bytes.extend(bitmap.extra_bytes.to_be_bytes());
        bytes.extend(bitmap.tail());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

/// Entries of a table of a bitmap over `size` bytes.
fn table_entries(size: u64, granularity_bits: u8, cluster_bits: u32) -> u64 {
    size.div_ceil(1 << granularity_bits).div_ceil(8 << cluster_bits)
}

/// Bytes that the persistent ones of these bitmaps take in an image, all of their bits stored.
pub(super) fn bytes_of(bitmaps: &Bitmaps, cluster: u64) -> u64 {
    let (mut total, mut directory) = (0, 0);
    for bitmap in bitmaps.all().iter().filter(|bitmap| bitmap.is_persistent()) {
        let bits = bitmap.bits();
        let clusters = bits.chunks().div_ceil(8).div_ceil(cluster);
        total += clusters * cluster + (clusters * 8).next_multiple_of(cluster);
        directory += stored_bytes(bitmap.name().len());
    }
    total + directory.next_multiple_of(cluster)
}

/// The bitmaps of an open image.
pub(super) struct Persistent {
    /// What the directory on disk says.
    list: RwLock<Arc<Vec<Bitmap>>>,
    /// Held by who changes the directory.
    turn: AsyncMutex<()>,
    /// Those that are in memory.
    live: Arc<Bitmaps>,
    /// They are brought up to date, or there are none.
    maintained: AtomicBool,
    /// Which of them are marked as in use on disk is not known.
    flags_in_doubt: AtomicBool,
}

impl Persistent {
    /// None yet. `live`: the bitmaps of the image's node.
    pub(super) fn new(live: Arc<Bitmaps>) -> Self {
        let (list, turn) = (RwLock::default(), AsyncMutex::default());
        Self { list, turn, live, maintained: AtomicBool::new(false), flags_in_doubt: AtomicBool::new(false) }
    }

    /// Takes over the directory as it is on disk; `None`: it can't be read.
    pub(super) fn take(&self, directory: Option<Vec<Bitmap>>) {
        self.maintained.store(directory.is_some(), Release);
        self.flags_in_doubt.store(false, Release);
        *self.list.write() = Arc::new(directory.unwrap_or_default());
    }

    /// What the directory on disk says.
    pub(super) fn list(&self) -> Arc<Vec<Bitmap>> {
        self.list.read().clone()
    }

    /// Whether the bitmaps in the image are brought up to date here.
    pub(super) fn are_maintained(&self) -> bool {
        self.maintained.load(Acquire)
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
    let (mut bitmaps, mut text) = (Vec::<Bitmap>::new(), 0);
    for _ in 0..extension.count {
        directory.align().await?;
        let bitmap = read_one(&mut directory, header, offset).await?;
        text += bitmap.name.len() as u64;
        if text > MAX_DIRECTORY_BYTES {
            return Err(wrong(offset, "its names are no UTF-8, and too long as text"));
        }
        bitmaps.push(bitmap);
    }
    if directory.taken() > extension.directory_size || extension.directory_size - directory.taken() >= 8 {
        return Err(wrong(offset, "its size is not that of its entries"));
    }
    let mut names = HashSet::with_capacity(bitmaps.len());
    if !bitmaps.iter().all(|bitmap| names.insert(&bitmap.name)) {
        return Err(wrong(offset, "two entries have the same name"));
    }
    Ok(bitmaps)
}

async fn read_one(directory: &mut Directory<'_>, header: &Header, offset: u64) -> Result<Bitmap> {
    let fixed = directory.take(FIXED_BYTES).await?;
    let u32_at = |at| be32(&fixed, at).unwrap_or_default();
    let name_bytes = be16(&fixed, 18).unwrap_or_default();
    let granularity_bits = fixed.get(17).copied().unwrap_or_default();
    let (table_offset, table_entries) = (be64(&fixed, 0).unwrap_or_default(), u32_at(8));
    if name_bytes == 0 || granularity_bits > 63 {
        return Err(wrong(offset, "an entry has an impossible name or granularity"));
    }
    if table_entries > MAX_TABLE_ENTRIES || !table_offset.is_multiple_of(header.cluster_size()) {
        return Err(wrong(offset, "the table of a bitmap is too large or not aligned to a cluster"));
    }
    let extra_bytes = u32_at(20);
    if extra_bytes > MAX_EXTRA {
        return Err(wrong(offset, "an entry has too much extra data"));
    }
    let tail = directory.take(extra_bytes as usize + usize::from(name_bytes)).await?;
    let name = tail.get(extra_bytes as usize..).unwrap_or_default();
    let name: Arc<str> = String::from_utf8_lossy(until_nul(name)).into();
    let stored = (name.as_bytes() != tail).then(|| tail.into());
    let (flags, kind) = (u32_at(12), fixed.get(16).copied().unwrap_or_default());
    Ok(Bitmap { table_offset, table_entries, flags, kind, granularity_bits, extra_bytes, name, stored })
}

fn wrong(offset: u64, why: &str) -> BlockError {
    BlockError::corrupt(format!("bitmap directory at {offset:#x}: {why}")).at(offset)
}
