//! Check and repair: each entry against the file, and the blocks of the file against all entries.
//!
//! Laws:
//! - of several entries that lead to one block the first one has it; a repair gives the others copies;
//! - blocks are moved together only where nothing else is wrong any more;
//! - a copy is durable before the entry that leads to it, and what the header says of it too; a block is used again, or
//!   cut off, when no entry on disk leads to it.
//!
//! Bounds: two bits for each block of the file; the table is read in pieces, three times at most.
use super::{BlockTable, Layout, PIECE};
use api::PreallocMode;
use block::metacache::{Blocks, Codec, Le32, Run};
use block::{CheckReport, Repair, Request, Result};
use rt::BufMut;

/// Most lines that are kept; the numbers count all.
const MOST_LINES: usize = 65_536;
/// Bytes that are copied at a time.
const COPIED: u64 = 1 << 20;

/// What is found.
pub(crate) struct Findings {
    repair: Repair,
    report: CheckReport,
}

impl Findings {
    /// Whether contradictions are to be mended.
    pub(crate) fn mends(&self) -> bool {
        self.repair == Repair::All
    }

    /// A contradiction, mended or not.
    pub(crate) fn corruption(&mut self, mended: bool, words: impl FnOnce() -> String) {
        let count = if mended { &mut self.report.corruptions_fixed } else { &mut self.report.corruptions };
        *count += 1;
        self.line(mended, words);
    }

    fn leaks(&mut self, given_up: bool, blocks: u64, words: impl FnOnce() -> String) {
        let count = if given_up { &mut self.report.leaks_fixed } else { &mut self.report.leaks };
        *count += blocks;
        self.line(given_up, words);
    }

    // Scripts know these lines.
    fn line(&mut self, mended: bool, words: impl FnOnce() -> String) {
        if self.report.messages.len() < MOST_LINES {
            self.report.messages.push(format!("{} {}", if mended { "Repairing" } else { "ERROR" }, words()));
        }
    }

    /// Whether leaks are to be given up.
    fn gives_up_leaks(&self) -> bool {
        self.repair != Repair::No && self.report.corruptions == 0
    }
}

impl<L: Layout> BlockTable<L> {
    /// Checks the image in its file. Nothing of it is dirty, and nobody uses it.
    pub(super) async fn check(&self, repair: Repair) -> Result<CheckReport> {
        let mut found = Findings { repair, report: CheckReport::default() };
        self.layout.check_header(&mut found);
        self.sound_table(&*self.order.file.node()?)?;
        let mut blocks = self.blocks_led_to().await?;
        if self.check_entries(&mut blocks, &mut found).await? {
            // Nothing leads to the old places of what was moved.
            blocks = self.blocks_led_to().await?;
        }
        match self.layout.counted() {
            Some(counted) => self.check_count(counted, &mut blocks, &mut found).await?,
            None => self.check_end(&blocks, &mut found).await?,
        }
        if repair != Repair::No {
            self.order.file.flush().await?;
            if found.mends() && found.report.corruptions == 0 {
                self.layout.mend_header(&self.order.file).await?;
                self.order.file.flush().await?;
            }
        }
        if L::COUNTS_CLUSTERS {
            found.report.total_clusters = Some(self.layout.entries());
            found.report.image_end_offset = Some(self.offset_of(blocks.used_end()));
        }
        Ok(found.report)
    }

    /// The block that an entry leads to, if it is one that an entry can have.
    fn block_of(&self, place: u64) -> Option<u64> {
        self.block_at(place).filter(|block| *block < self.layout.most_blocks())
    }

    fn no_blocks(&self, length: u64) -> Blocks {
        Blocks::new(self.blocks_in(length), self.layout.most_blocks())
    }

    /// All blocks that entries lead to, and both that one lies across which begins on no block.
    async fn blocks_led_to(&self) -> Result<Blocks> {
        let mut blocks = self.no_blocks(self.order.file.node()?.length());
        for start in self.layout.other_blocks().into_iter().filter_map(|place| self.block_of(place)) {
            // One that is not in the file is nothing to be kept.
            let _known = blocks.mark(Run { start, count: 1 });
        }
        self.each_piece(|_, entries| {
            for place in entries.iter().filter_map(|entry| self.layout.place(*entry)) {
                let Some(from) = place.checked_sub(self.layout.data()) else { continue };
                let size = self.layout.block_size();
                for start in from / size..(from + size).div_ceil(size) {
                    // A second entry that leads there, and one out of the file, are found in the next pass.
                    let _known = blocks.mark(Run { start, count: 1 });
                }
            }
            Ok(())
        })
        .await?;
        Ok(blocks)
    }

    /// Answers whether it has moved some.
    async fn check_entries(&self, blocks: &mut Blocks, found: &mut Findings) -> Result<bool> {
        let length = self.order.file.node()?.length();
        let (mut seen, mut before) = (self.no_blocks(length), None);
        let (mut allocated, mut fragmented, mut moved) = (0, 0, false);
        let len = self.layout.entries() * 4;
        for at in (0..len).step_by(PIECE as usize) {
            let mut entries = self.entries_at(at, PIECE.min(len - at)).await?;
            let mut changed = false;
            for (index, entry) in (at / 4..).zip(&mut entries) {
                let Some(mut place) = self.layout.place(*entry) else {
                    before = None;
                    continue;
                };
                if self.fault(place, length).is_some() {
                    let mends = found.mends() && L::DROPS_LOST;
                    found.corruption(mends, || format!("cluster {index} is outside image"));
                    if mends {
                        (*entry, changed) = (L::NOTHING, true);
                    }
                    continue;
                }
                let block = self.block_of(place);
                let own = block.is_some_and(|start| seen.mark(Run { start, count: 1 }).is_ok());
                if !own {
                    found.corruption(found.mends(), || match block {
                        Some(_) => format!("duplicate offset in BAT entry {index}"),
                        None => {
                            format!(
                                "BAT entry {index} leads to offset {place:#x}, where it can lead to no block"
                            )
                        }
                    });
                    if found.mends() {
                        let to = self.copied(place, blocks).await?;
                        (place, *entry) = (self.offset_of(to), self.layout.entry(to));
                        (changed, moved) = (true, true);
                    }
                }
                allocated += 1;
                fragmented +=
                    u64::from(before.is_some_and(|before| place != before + self.layout.block_size()));
                before = Some(place);
            }
            if changed {
                self.store_entries(at, &entries, blocks.used_end()).await?;
            }
        }
        if L::COUNTS_CLUSTERS {
            found.report.allocated_clusters = Some(allocated);
            found.report.fragmented_clusters = Some(fragmented);
        }
        Ok(moved)
    }

    /// The blocks in use against what the header counts.
    async fn check_count(&self, counted: u64, blocks: &mut Blocks, found: &mut Findings) -> Result<()> {
        let (used, end) = (blocks.used_count(), blocks.used_end());
        if counted < end {
            let words = || format!("the header counts {counted} blocks, and entries lead to {end}");
            found.corruption(found.mends(), words);
            if found.mends() {
                self.layout.write_ahead(&self.order.file, end).await?;
            }
        }
        let leaked = counted.max(end) - used;
        if leaked > 0 {
            let gives_up = found.gives_up_leaks();
            found.leaks(gives_up, leaked, || format!("{leaked} blocks are counted that no entry leads to"));
            if gives_up {
                self.close_gaps(used, blocks).await?;
                self.order.file.flush().await?;
                self.layout.write_ahead(&self.order.file, used).await?;
                self.order.file.flush().await?;
                self.cut_off(used).await?;
            }
        }
        Ok(())
    }

    /// Moves the last blocks to where none is, so that those in use are the first `used`.
    async fn close_gaps(&self, used: u64, blocks: &mut Blocks) -> Result<()> {
        let len = self.layout.entries() * 4;
        for at in (0..len).step_by(PIECE as usize) {
            let mut entries = self.entries_at(at, PIECE.min(len - at)).await?;
            let mut left = Vec::new();
            for entry in &mut entries {
                let Some(place) = self.layout.place(*entry) else { continue };
                if let Some(block) = self.block_of(place).filter(|block| *block >= used) {
                    *entry = self.layout.entry(self.copied(place, blocks).await?);
                    left.push(block);
                }
            }
            if !left.is_empty() {
                self.store_entries(at, &entries, blocks.used_end()).await?;
                left.into_iter().for_each(|start| blocks.free(Run { start, count: 1 }));
            }
        }
        Ok(())
    }

    /// The end of the blocks in use against that of the file.
    async fn check_end(&self, blocks: &Blocks, found: &mut Findings) -> Result<()> {
        let file = self.order.file.node()?;
        let leaked = file.length().saturating_sub(self.offset_of(blocks.used_end()));
        if leaked > 0 && file.facts().grows_with_zeroes {
            // Nothing leads there, whatever else is wrong.
            let gives_up = found.repair != Repair::No;
            let count = leaked.div_ceil(self.layout.block_size());
            found.leaks(gives_up, count, || format!("space leaked at the end of the image {leaked}"));
            if gives_up {
                self.cut_off(blocks.used_end()).await?;
            }
        }
        Ok(())
    }

    /// Gives back what the file has behind its first `end` blocks.
    async fn cut_off(&self, end: u64) -> Result<()> {
        let (file, length) = (self.order.file.node()?, self.offset_of(end));
        if file.facts().grows_with_zeroes && file.length() > length {
            file.set_length(length, PreallocMode::Off).await?;
        }
        Ok(())
    }

    /// A copy of the block at a place of the file, in one that was free.
    async fn copied(&self, place: u64, blocks: &mut Blocks) -> Result<u64> {
        let file = self.order.file.node()?;
        let to = blocks.allocate(&self.order.reservations, 1)?.reserved.keep().start;
        let (size, target) = (self.layout.block_size(), self.offset_of(to));
        for at in (0..size).step_by(COPIED as usize) {
            let piece = BufMut::with_len(COPIED.min(size - at) as usize);
            let (bytes, read) = file.read_or_zero(place + at, piece).await;
            read?;
            file.write(target + at, bytes.freeze(), Request::DRIVER).await?;
        }
        Ok(to)
    }

    /// Stores entries, from byte `at` of the table on, that lead to blocks below `end`.
    async fn store_entries(&self, at: u64, entries: &[u32], end: u64) -> Result<()> {
        let file = &self.order.file;
        file.cover(self.offset_of(end)).await?;
        self.layout.write_ahead(file, end).await?;
        file.flush().await?;
        file.overwrite(self.layout.table() + at, Le32::bytes(entries).freeze()).await?;
        file.flush().await
    }
}
