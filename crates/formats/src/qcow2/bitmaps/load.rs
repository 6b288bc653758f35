//! Loading bitmaps when an image is opened.
//!
//! One that can't be loaded is inconsistent: the disk is there all the same. On disk it stays what it is until the first write,
//! which it misses: a program that can load it may still have it.
//!
//! Bounds: all that the loaded bitmaps may ever take of memory is at most [`MOST_MEMORY`]; all tables together are at most
//! [`MOST_TABLE_BYTES`]; bits that tables call set without a cluster take at most [`MOST_ONES`]; and of clusters no more are
//! read than the file holds, or [`LEAST_CONTENT`].
use super::{Bitmap, table_entries};
use crate::qcow2::header::OFFSET_MASK;
use crate::qcow2::image::Image;
use block::metacache::{Be64, Codec, Format};
use block::{BlockError, DirtyBitmap, ErrorKind, NamedBitmap, Result};

/// Bytes that the bits of all loaded bitmaps may take, all of them set.
const MOST_MEMORY: u64 = 1 << 30;
/// Bytes that each bitmap counts for at least.
const LEAST_MEMORY: u64 = 8 << 10;
/// Bytes of all tables.
const MOST_TABLE_BYTES: u64 = 64 << 20;
/// Bytes of bits that are set without a cluster.
const MOST_ONES: u64 = 64 << 20;
/// Bytes of clusters that may be loaded however little the file holds: a file system may have compressed it.
const LEAST_CONTENT: u64 = 64 << 20;
/// Bytes of a table, or of bits, read at a time.
const PIECE: u64 = 256 << 10;
/// Bitmaps whose faults are told one by one.
const MOST_TOLD: u64 = 8;
/// Bits of a table entry that must not be set.
const RESERVED: u64 = !(OFFSET_MASK | ALL_ONES);
/// An entry without a cluster whose bits are all set.
const ALL_ONES: u64 = 1;

/// What may still be loaded.
struct Budget {
    memory: u64,
    tables: u64,
    ones: u64,
    /// Bytes of clusters.
    content: u64,
}

/// Takes `amount` of what is `left`.
fn spend(left: &mut u64, amount: u64) -> Result<()> {
    let text = "the bitmaps of the image take too much memory together";
    *left = left.checked_sub(amount).ok_or_else(|| BlockError::new(ErrorKind::Limit, text))?;
    Ok(())
}

impl Image {
    /// Loads the bitmaps that the directory lists. What a person should know of them is told.
    pub(in super::super) async fn load_bitmaps(&self) -> Result<()> {
        let list = self.bitmaps.list();
        if list.is_empty() {
            return Ok(());
        }
        let file = self.order.file.node()?;
        let mut budget = Budget {
            memory: MOST_MEMORY,
            tables: MOST_TABLE_BYTES,
            ones: MOST_ONES,
            content: file.allocated_size().unwrap_or(u64::MAX).max(LEAST_CONTENT),
        };
        let mut loaded = Vec::with_capacity(list.len());
        let mut faults = 0;
        for bitmap in list.iter() {
            let bits = match bitmap.unusable() {
                Some(_) => None,
                None => match self.load_bitmap(bitmap, &mut budget).await {
                    Ok(bits) => Some(bits),
                    Err(e) => {
                        faults += 1;
                        if faults <= MOST_TOLD {
                            let (name, image) = (bitmap.name(), self.order.file.name());
                            self.notices
                                .warn(&format!("the bitmap '{name}' of '{image}' can't be used, and the first write makes it invalid: {e}"));
                        }
                        None
                    }
                },
            };
            let granularity = 1 << bitmap.granularity_bits.min(62);
            loaded.push(match bits {
                Some(bits) => NamedBitmap::new(bitmap.name.clone(), bits).with(bitmap.is_auto(), true),
                None => {
                    let none = DirtyBitmap::new(self.size(), granularity);
                    NamedBitmap::new(bitmap.name.clone(), none).inconsistent()
                }
            });
        }
        if faults > MOST_TOLD {
            let (more, image) = (faults - MOST_TOLD, self.order.file.name());
            self.notices.warn(&format!("{more} more bitmaps of '{image}' can't be used"));
        }
        self.bitmaps.live.extend(loaded);
        Ok(())
    }

    async fn load_bitmap(&self, bitmap: &Bitmap, budget: &mut Budget) -> Result<DirtyBitmap> {
        let (g, size) = (self.g(), self.size());
        let file_end = self.order.file.node()?.length().next_multiple_of(g.cluster_size());
        let entries = table_entries(size, bitmap.granularity_bits, g.cluster_bits);
        let table_bytes = entries * 8;
        if u64::from(bitmap.table_entries) != entries {
            return Err(BlockError::corrupt("its table is not that of a bitmap over the whole disk"));
        }
        if bitmap.table_offset.checked_add(table_bytes).is_none_or(|end| end > file_end) {
            return Err(BlockError::corrupt("its table ends beyond the end of the file"));
        }
        let bits = DirtyBitmap::new(size, 1 << bitmap.granularity_bits);
        if size.div_ceil(bits.granularity()) > DirtyBitmap::MAX_CHUNKS {
            spend(&mut budget.memory, u64::MAX)?;
        }
        spend(&mut budget.memory, (bits.chunks() / 8).max(LEAST_MEMORY))?;
        spend(&mut budget.tables, table_bytes)?;
        let mut at = 0;
        while at < table_bytes {
            let piece = self.order.file.read(bitmap.table_offset + at, PIECE.min(table_bytes - at)).await?;
            let words: Vec<u64> = Be64::words(&piece).collect();
            self.load_bits(&bits, at / 8, &words, file_end, budget).await?;
            at += PIECE;
        }
        bits.call_changed(false);
        Ok(bits)
    }

    /// Loads the bits that the entries of a table from `index` on lead to.
    async fn load_bits(
        &self,
        bits: &DirtyBitmap,
        mut index: u64,
        words: &[u64],
        file_end: u64,
        budget: &mut Budget,
    ) -> Result<()> {
        let g = self.g();
        let chunks_a_cluster = g.cluster_size() * 8;
        let most = (PIECE / g.cluster_size()).max(1);
        let mut rest = words;
        while let Some(&word) = rest.first() {
            let host = word & OFFSET_MASK;
            let set = word & ALL_ONES != 0;
            if word & RESERVED != 0 || g.within(host) != 0 || host >= file_end || (set && host != 0) {
                return Err(BlockError::corrupt(format!("entry {index} of its table is {word:#x}")));
            }
            let mut count = 1;
            if set {
                spend(&mut budget.ones, g.cluster_size())?;
                let granularity = bits.granularity();
                bits.mark(index * chunks_a_cluster * granularity, chunks_a_cluster * granularity);
            } else if host != 0 {
                let follows = |(i, next): (u64, &u64)| *next == host + (i << g.cluster_bits);
                let run = (1..most).zip(rest.iter().skip(1)).take_while(|(i, next)| follows((*i, *next)));
                count += run.count() as u64;
                spend(&mut budget.content, count << g.cluster_bits)?;
                let bytes = self.order.file.read(host, count << g.cluster_bits).await?;
                bits.mark_bits(index * chunks_a_cluster, &bytes);
                // A large bitmap is no reason to keep others waiting.
                rt::yield_now().await;
            }
            index += count;
            rest = rest.get(count as usize..).unwrap_or_default();
        }
        Ok(())
    }
}
