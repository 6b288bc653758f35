//! The extension of a Parallels image, and the dirty bitmaps in it: they are read, and dropped at the first write.
//!
//! ```text
//!  magic, MD5 of the rest │ feature: magic, flags, length, data, to 8 bytes │ … │ end
//!                            └ dirty bitmap: sectors, id, granularity, table of clusters: 0, 1, or the first sector
//! ```
//!
//! Bounds: all bitmaps of an image together take at most [`MOST_MEMORY`]; nothing is read that the file does not hold.
//! Specification: parallels.rst, "Format Extension", "Dirty bitmaps feature".
use super::header::{Header, SECTOR};
use block::{BlockError, DirtyBitmap, NamedBitmap, Node, Result};
use crypto::Hash;
use rt::BufMut;
use std::sync::Arc;

const MAGIC: u64 = 0xab23_4cef_23dc_ea87;
const END: u64 = 0;
const DIRTY_BITMAP: u64 = 0x2038_5fae_252c_b34a;
/// The image may not be written to by who does not know the feature.
const NECESSARY: u64 = 1;
/// The feature is to be left as it is by who does not know it.
const TRANSIT: u64 = 2;

/// Bytes of magic and checksum.
const HEAD: usize = 24;
/// Bytes of a feature before its data.
const FEATURE: usize = 24;
/// Bytes of a dirty bitmap before its table.
const BITMAP: usize = 32;

/// Bytes that the bits of all bitmaps may take.
const MOST_MEMORY: u64 = 256 << 20;
/// Bytes that each bitmap counts for at least.
const LEAST_MEMORY: u64 = 8 << 10;
/// Largest cluster of an image whose extension is read.
const MOST_CLUSTER: u64 = 64 << 20;

/// What an extension holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extension {
    pub bitmaps: Vec<StoredBitmap>,
    /// It has features that are not known here, and can't just be dropped.
    pub must_stay: bool,
}

/// A dirty bitmap as it is stored.
#[derive(Debug, PartialEq, Eq)]
pub struct StoredBitmap {
    name: String,
    /// Bytes of the disk that a bit stands for.
    granularity: u64,
    table: Vec<u64>,
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

fn wrong(what: impl Into<String>) -> BlockError {
    BlockError::corrupt(what)
}

impl Extension {
    /// The extension of an image; none where the header names none.
    pub async fn read(file: &Arc<Node>, header: &Header) -> Result<Self> {
        let Some(offset) = header.extension() else { return Ok(Self::default()) };
        let named = |e: BlockError| e.context("the format extension").about_file(&file.filename()).at(offset);
        if header.cluster > MOST_CLUSTER || !holds(file, offset, header.cluster) {
            return Err(named(wrong("it is not in the file, or too large")));
        }
        let (bytes, read) = file.read(offset, BufMut::with_len(header.cluster as usize)).await;
        read.map_err(named)?;
        Self::parse(&bytes, header).map_err(named)
    }

    fn parse(bytes: &[u8], header: &Header) -> Result<Self> {
        if long(bytes, 0) != MAGIC {
            return Err(wrong("its magic number is wrong"));
        }
        let mut sum = [0; 16];
        Hash::Md5.digest(&[bytes.get(HEAD..).unwrap_or_default()], &mut sum);
        if bytes.get(8..HEAD) != Some(&sum) {
            return Err(wrong("its checksum is wrong"));
        }
        let (mut extension, mut at, mut memory) = (Self::default(), HEAD, MOST_MEMORY);
        loop {
            let feature = bytes.get(at..at + FEATURE).ok_or_else(|| wrong("its end is missing"))?;
            let (magic, flags, len) = (long(feature, 0), long(feature, 8), word(feature, 16) as usize);
            if magic == END {
                return Ok(extension);
            }
            let data = bytes.get(at + FEATURE..).and_then(|rest| rest.get(..len));
            let data = data.ok_or_else(|| wrong(format!("the feature at byte {at} ends behind it")))?;
            match magic {
                DIRTY_BITMAP => {
                    let bitmap = StoredBitmap::parse(data, header)?;
                    let takes = (bitmap.table.len() as u64 * header.cluster)
                        .min(header.size / bitmap.granularity / 8);
                    memory = memory
                        .checked_sub(takes.max(LEAST_MEMORY))
                        .ok_or_else(|| wrong("its bitmaps take more than 256 MiB of memory"))?;
                    extension.bitmaps.push(bitmap);
                }
                _ => extension.must_stay |= flags & (NECESSARY | TRANSIT) != 0,
            }
            at += FEATURE + len.next_multiple_of(8);
        }
    }

    /// Offsets of the clusters that the bitmaps are in.
    pub fn clusters(&self) -> impl Iterator<Item = u64> {
        let table = self.bitmaps.iter().flat_map(|bitmap| &bitmap.table);
        table.filter(|entry| **entry > 1).map(|entry| entry.saturating_mul(SECTOR))
    }
}

impl StoredBitmap {
    fn parse(data: &[u8], header: &Header) -> Result<Self> {
        let size = long(data, 0).checked_mul(SECTOR);
        let sectors = word(data, 24);
        let (granularity, entries) = (u64::from(sectors) * SECTOR, word(data, 28));
        if data.len() < BITMAP || size != Some(header.size) {
            return Err(wrong("a dirty bitmap is not over the whole disk"));
        }
        if !sectors.is_power_of_two() {
            return Err(wrong(format!(
                "a dirty bitmap has a granularity of {sectors} sectors, no power of two"
            )));
        }
        let needed = header.size.div_ceil(granularity).div_ceil(8).div_ceil(header.cluster);
        let table = data.get(BITMAP..).and_then(|rest| rest.get(..entries as usize * 8));
        let Some(table) = table.filter(|_| u64::from(entries) == needed) else {
            return Err(wrong(format!(
                "a dirty bitmap has a table of {entries} entries, and needs {needed}"
            )));
        };
        let id = data.get(8..24).unwrap_or_default();
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| hex.get(part).unwrap_or_default());
        let table = table.as_chunks().0.iter().map(|entry| u64::from_le_bytes(*entry)).collect();
        Ok(Self { name: parts.join("-"), granularity, table })
    }

    /// The bitmap with its bits: nobody changes it, as nobody writes to the image.
    pub async fn load(&self, file: &Arc<Node>, header: &Header) -> Result<NamedBitmap> {
        let bits = DirtyBitmap::new(header.size, self.granularity);
        let (chunks, total) = (header.cluster * 8, header.size.div_ceil(self.granularity));
        for (first, entry) in (0..).step_by(chunks as usize).zip(&self.table) {
            let here = chunks.min(total.saturating_sub(first));
            match entry {
                0 => {}
                1 => bits.mark(
                    first * self.granularity,
                    (here * self.granularity).min(header.size - first * self.granularity),
                ),
                sector => {
                    let (offset, len) = (sector.saturating_mul(SECTOR), here.div_ceil(8));
                    if !holds(file, offset, len) {
                        let text = format!(
                            "the dirty bitmap '{}' leads to offset {offset:#x}, beyond the end of the file",
                            self.name
                        );
                        return Err(wrong(text).about_file(&file.filename()));
                    }
                    let (bytes, read) = file.read(offset, BufMut::with_len(len as usize)).await;
                    read?;
                    bits.mark_bits(first, &bytes);
                }
            }
        }
        bits.call_stored();
        Ok(NamedBitmap::new(self.name.clone(), bits).with(true, true))
    }
}

fn holds(file: &Node, offset: u64, len: u64) -> bool {
    offset.checked_add(len).is_some_and(|end| end <= file.length())
}
