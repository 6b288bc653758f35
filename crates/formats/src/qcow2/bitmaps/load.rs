//! Loading bitmaps when an image is opened.
//!
//! One that can't be loaded is inconsistent: the disk is there all the same. On disk it stays what it is until the first write,
//! which it misses: a program that can load it may still have it.
//!
//! Bounds: all that the loaded bitmaps may ever take of memory is at most [`MOST_MEMORY`]; all tables together are at most
//! [`MOST_TABLE_BYTES`]; bits that tables call set without a cluster take at most [`MOST_ONES`]; and of clusters no more are
//! read than the file holds, or [`LEAST_CONTENT`].
use super::store::is_kept;
use super::{Bitmap, table_entries};
use crate::qcow2::header::OFFSET_MASK;
use crate::qcow2::image::Image;
use block::metacache::{Be64, Codec, Format};
use block::{BlockError, DirtyBitmap, ErrorKind, NamedBitmap, Result};

/// Bytes that the bits of all loaded bitmaps may take, all of them set.
const MOST_MEMORY: u64 = 1 << 30;
/// Bits of one bitmap: other programs open no image with a larger one.
const MOST_BITS: u64 = 1 << 32;
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
const MOST_TOLD: usize = 8;
/// What becomes of a bitmap that records and can't be loaded.
const KEPT_WHILE_UNCHANGED: &str = "it is kept as it is until the image is written to";
/// What becomes of one that does not record.
const KEPT: &str = "it is kept as it is";
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

impl Budget {
    /// For a file that takes so many bytes, if that is known.
    fn new(allocated: Option<u64>) -> Self {
        let content = allocated.unwrap_or(u64::MAX).max(LEAST_CONTENT);
        Self { memory: MOST_MEMORY, tables: MOST_TABLE_BYTES, ones: MOST_ONES, content }
    }

    /// One bitmap more over a disk of `size` bytes, with a table of so many.
    fn admit(&mut self, size: u64, granularity: u64, table_bytes: u64) -> Result<()> {
        spend(&mut self.memory, (size.div_ceil(granularity) / 8).max(LEAST_MEMORY))?;
        spend(&mut self.tables, table_bytes)
    }
}

/// Takes `amount` of what is `left`.
fn spend(left: &mut u64, amount: u64) -> Result<()> {
    let text = "the bitmaps of the image take too much memory together: at most 1 GiB";
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
        let mut budget = Budget::new(self.order.file.node()?.allocated_size());
        let mut loaded = Vec::with_capacity(list.len());
        let mut faults = Vec::new();
        for bitmap in list.iter() {
            if let Some(known) = self.bitmaps.live.find(bitmap.name()) {
                // It came from another machine, or is back from one: what is in memory counts, unless the image has it stored in
                // order, which nobody does before the last change is in it.
                if bitmap.is_in_use() || !known.is_persistent() {
                    continue;
                }
                self.bitmaps.live.remove(&known);
            }
            let bits = match bitmap.unusable() {
                Some(_) => None,
                None => match self.load_bitmap(bitmap, &mut budget).await {
                    Ok(bits) => Some(bits),
                    Err(e) => {
                        let kept = if bitmap.is_auto() { KEPT_WHILE_UNCHANGED } else { KEPT };
                        faults.push((bitmap.name(), format!("can't be used: {e}; {kept}")));
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
        self.tell_each(faults.iter().map(|(name, fault)| (*name, fault.clone())));
        self.bitmaps.live.extend(loaded);
        Ok(())
    }

    /// Warns of bitmaps, each by its name and what is the matter with it: the first ones one by one.
    pub(super) fn tell_each<'a>(&self, bitmaps: impl ExactSizeIterator<Item = (&'a str, String)>) {
        let (image, more) = (self.order.file.name(), bitmaps.len().saturating_sub(MOST_TOLD));
        for (name, what) in bitmaps.take(MOST_TOLD) {
            self.notices.warn(&format!("the bitmap '{name}' of '{image}' {what}"));
        }
        if more > 0 {
            self.notices.warn(&format!("so it is with {more} more bitmaps of '{image}'"));
        }
    }

    /// Refuses bitmaps over a disk of `size` bytes of which a later open would not load all: those that the image keeps, and a
    /// further one of this name and granularity.
    pub(in super::super) fn check_bitmaps_over(&self, size: u64, further: Option<(&str, u64)>) -> Result<()> {
        let live = self.bitmaps.live.all();
        let kept = live.iter().filter(|named| is_kept(named));
        let mut budget = Budget::new(Some(0));
        for (name, granularity) in kept.map(|named| (named.name(), named.bits().granularity())).chain(further)
        {
            let what = || format!("Bitmap '{name}' of granularity {granularity} over {size} bytes");
            if size.div_ceil(granularity) > MOST_BITS {
                let text =
                    format!("{}: too much space would be taken; a larger granularity is needed", what());
                return Err(BlockError::new(ErrorKind::Limit, text));
            }
            let entries = table_entries(size, granularity.trailing_zeros() as u8, self.g().cluster_bits);
            budget.admit(size, granularity, entries * 8).map_err(|e| e.context(what()))?;
        }
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
        budget.admit(size, bits.granularity(), table_bytes)?;
        let mut at = 0;
        while at < table_bytes {
            let piece = self.order.file.read(bitmap.table_offset + at, PIECE.min(table_bytes - at)).await?;
            let words: Vec<u64> = Be64::words(&piece).collect();
            self.load_bits(&bits, at / 8, &words, file_end, budget).await?;
            at += PIECE;
        }
        bits.call_stored();
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
