//! Refcounts: how many references each host cluster has.
//!
//! ```text
//!  header ── refcount_table_offset ─▶ table [u64] ─▶ block [uN] ─▶ one count a cluster
//! ```
//!
//! Invariants:
//! - at every instant on disk: count ≥ number of references (leak, never dangle);
//! - a block counts itself or is counted by a block that is durable before it; it is durable before the table names
//!   it, and a table is durable before the header names it;
//! - a page of the table has its space in the file before a block is named there;
//! - counts change in memory only under the lock of [`Alloc`]; pages of the table are written through.
//!
//! Bounds: the table has at most 8 MiB; its pages and those of blocks are cached, never all loaded.
//! Specification: qcow2.rst, "Host cluster management".
use super::alloc::Alloc;
use super::cache::TABLE_PAGE_WORDS;
use super::entry::Geometry;
use super::header::{MAX_REFCOUNT_TABLE_BYTES, REFCOUNT_BLOCK_MASK};
use super::image::{Image, Page, TABLE_KEY};
use super::overlap;
use block::metacache::{Be64, Cause, Codec, GivenUp, Run};
use block::{BlockError, ErrorKind, Result, Step};
use rt::BufMut;
use std::ops::Range;
use std::sync::Arc;

/// Where in a page's words a count is.
#[derive(Clone, Copy)]
struct Slot {
    word: usize,
    shift: u32,
    mask: u64,
}

impl Slot {
    /// Counts of 8 bits and more are big-endian numbers; smaller ones fill each byte from its lowest bit on.
    fn of(index: u64, order: u32) -> Self {
        let bits = 1u32 << order;
        let bit = index << order;
        let (word, in_word) = ((bit / 64) as usize, (bit % 64) as u32);
        let shift = if bits >= 8 { 64 - in_word - bits } else { 56 - in_word / 8 * 8 + in_word % 8 };
        Self { word, shift, mask: u64::MAX >> (64 - bits) }
    }

    fn get(self, page: &Page) -> u64 {
        (page.word(self.word) >> self.shift) & self.mask
    }

    fn set(self, page: &Page, count: u64) {
        let rest = page.word(self.word) & !(self.mask << self.shift);
        page.set(self.word, rest | (count & self.mask) << self.shift);
    }
}

/// A page of refcounts, and the clusters it counts.
pub(super) struct CountPage {
    pub page: Arc<Page>,
    pub first: u64,
    order: u32,
}

impl CountPage {
    /// The count of a cluster of this page.
    pub fn get(&self, cluster: u64) -> u64 {
        Slot::of(cluster - self.first, self.order).get(&self.page)
    }

    /// Sets the count of a cluster of this page. The caller marks the page dirty.
    pub fn set(&self, cluster: u64, count: u64) {
        Slot::of(cluster - self.first, self.order).set(&self.page, count);
    }
}

/// A refcount block that is made.
pub(super) struct Block {
    page: Arc<Page>,
    first: u64,
    count: u64,
    order: u32,
}

impl Block {
    /// The block `index` of an image, all of whose counts are 0.
    pub fn new(g: Geometry, index: u64) -> Self {
        let page = Page::new(0, 0, 0, (0..g.cluster_size() / 8).map(|_| 0));
        let count = g.counts_per_block();
        Self { page, first: index * count, count, order: g.refcount_order }
    }

    /// The clusters that it counts.
    pub fn clusters(&self) -> Range<u64> {
        self.first..self.first + self.count
    }

    /// Sets the count of one of them.
    pub fn set(&self, cluster: u64, count: u64) {
        Slot::of(cluster - self.first, self.order).set(&self.page, count);
    }

    /// As it is stored.
    pub fn bytes(&self) -> BufMut {
        Be64::bytes(&self.page.words_from(0).collect::<Vec<_>>())
    }
}

/// The bytes of a block that counts one reference to each of some clusters, told by their indexes in it.
pub(super) fn block_of_ones(g: Geometry, ones: Range<u64>) -> BufMut {
    let block = Block::new(g, 0);
    ones.for_each(|index| block.set(index, 1));
    block.bytes()
}

impl Image {
    // ---- loading ----

    fn table_place(&self) -> (u64, u64) {
        let header = self.header.read();
        (header.refcount_table_offset, header.refcount_table_bytes() / 8)
    }

    /// How many blocks the refcount table has entries for.
    pub(super) fn refcount_blocks(&self) -> u64 {
        self.table_place().1
    }

    /// The page of the refcount table that has the entry `index`; `None` beyond the table.
    async fn table_page(&self, index: u64) -> Result<Option<Arc<Page>>> {
        let (table, entries) = self.table_place();
        let number = index / TABLE_PAGE_WORDS;
        if index >= entries {
            return Ok(None);
        }
        if let Some(page) = self.counts.get(TABLE_KEY | number) {
            return Ok(Some(page));
        }
        let place = table + number * TABLE_PAGE_WORDS * 8;
        let words = (entries - number * TABLE_PAGE_WORDS).min(TABLE_PAGE_WORDS);
        self.order.file.announce(Step::ReftableLoad).await;
        let bytes = self.order.file.read(place, words * 8).await?;
        self.know_blocks(number * TABLE_PAGE_WORDS, &bytes);
        Ok(Some(self.counts.insert(Page::read(TABLE_KEY | number, place, &bytes))))
    }

    /// Remembers the refcount blocks that entries of the table from `index` on name.
    fn know_blocks(&self, index: u64, entries: &[u8]) {
        let g = self.g();
        for (index, host) in (index..).zip(Be64::words(entries)) {
            if host != 0 && g.within(host) == 0 {
                self.overlap.tables.found(g.cluster(host), overlap::refcount_block(index));
            }
        }
    }

    /// Looks where all refcount blocks are, so that nothing else is ever written there. Answers what is wrong with the
    /// first that can't be: it is missed only where it is needed.
    pub(super) async fn find_blocks(&self) -> Result<Option<String>> {
        const PIECE: u64 = 256 << 10;
        let (table, entries) = self.table_place();
        let (g, length) = (self.g(), self.order.file.node()?.length());
        let can_be = |word: u64| word & !REFCOUNT_BLOCK_MASK == 0 && g.within(word) == 0 && word < length;
        let (mut at, mut wrong) = (0, None);
        while at < entries * 8 {
            self.order.file.announce(Step::ReftableLoad).await;
            let bytes = self.order.file.read(table + at, PIECE.min(entries * 8 - at)).await?;
            self.know_blocks(at / 8, &bytes);
            let first = || (at / 8..).zip(Be64::words(&bytes)).find(|(_, word)| !can_be(*word));
            wrong = wrong.or_else(first);
            at += PIECE;
        }
        Ok(wrong
            .map(|(index, word)| format!("refcount table entry {index} is {word:#x}: no block can be there")))
    }

    /// Where the refcount block `index` is; `None` if there is none.
    async fn block_place(&self, index: u64) -> Result<Option<u64>> {
        match self.judged_block(index).await? {
            Ok(place) => Ok(place),
            Err(what) => Err(self.corrupt(what.into(), None).await),
        }
    }

    /// As [`Image::block_place`], or what is wrong with the place.
    pub(super) async fn judged_block(&self, index: u64) -> Result<Result<Option<u64>, String>> {
        let Some(page) = self.table_page(index).await? else { return Ok(Ok(None)) };
        let g = self.g();
        let word = page.word((index % TABLE_PAGE_WORDS) as usize);
        let cluster = g.cluster(word);
        let why = if word == 0 {
            return Ok(Ok(None));
        } else if word & !REFCOUNT_BLOCK_MASK != 0 || g.within(word) != 0 {
            // These words are known from other programs.
            return Ok(Err(format!("Refblock offset {word:#x} unaligned (reftable index: {index:#x})")));
        } else if word >= self.order.file.node()?.length() {
            format!("it lies beyond the end of the file ({:#x})", self.order.file.node()?.length())
        } else if let Some(what) = self.overlap.named_at(&(cluster..cluster + 1)) {
            format!("it would overlap the {what}")
        } else if let Some(other) =
            self.overlap.tables.claimed_by_other(cluster, overlap::refcount_block(index))
        {
            format!("its cluster is also the {} {}", other.name, other.index)
        } else {
            return Ok(Ok(Some(word)));
        };
        Ok(Err(format!("refcount table entry {index} is {word:#x}: {why}")))
    }

    /// Whether all clusters of these runs are counted. One that is not, and is referred to, may be handed out again
    /// at any time: it must not be written through the reference.
    pub(super) async fn are_counted(&self, runs: impl Iterator<Item = Run> + Send) -> Result<bool> {
        let (g, _alloc) = (self.g(), self.alloc.lock().await);
        let mut held: Option<CountPage> = None;
        for cluster in runs.flat_map(|run| run.start..run.end()) {
            let counts =
                match held.take().filter(|h| (h.first..h.first + g.counts_per_page()).contains(&cluster)) {
                    Some(counts) => counts,
                    None if self.judged_block(cluster / g.counts_per_block()).await?.is_err() => {
                        return Ok(false);
                    }
                    None => match self.count_page(cluster).await? {
                        Some(counts) => counts,
                        None => return Ok(false),
                    },
                };
            if counts.get(cluster) == 0 {
                return Ok(false);
            }
            held = Some(counts);
        }
        Ok(true)
    }

    /// The page that counts a host cluster; `None` if its block does not exist. The caller holds the allocator.
    pub(super) async fn count_page(&self, cluster: u64) -> Result<Option<CountPage>> {
        let g = self.g();
        let number = cluster / g.counts_per_page();
        let first = number * g.counts_per_page();
        let found = |page| Ok(Some(CountPage { page, first, order: g.refcount_order }));
        if let Some(page) = self.counts.get(number) {
            return found(page);
        }
        let Some(block) = self.block_place(cluster / g.counts_per_block()).await? else { return Ok(None) };
        let bytes_per_page = g.page_words() as u64 * 8;
        let place = block + first % g.counts_per_block() / g.counts_per_page() * bytes_per_page;
        let bytes = self.order.file.read(place, bytes_per_page).await?;
        let page = self.counts.insert(Page::read(number, place, &bytes));
        if self.counts.is_crowded(g.page_words()) {
            self.write_counts().await?;
        }
        found(page)
    }

    /// The page that counts a cluster whose count is to change, with space in the file. The file is told of it as of a block
    /// that is loaded, also where it is in memory: that is what rules of tests expect.
    pub(super) async fn count_page_to_change(&self, cluster: u64) -> Result<Option<CountPage>> {
        let counts = self.count_page(cluster).await?;
        self.order.file.announce(Step::RefblockAlloc).await;
        self.order.file.announce(Step::RefblockLoad).await;
        if let Some(counts) = &counts {
            self.order.file.place(&counts.page).await?;
        }
        Ok(counts)
    }

    /// Writes the counts that changed. Not durable before the next flush.
    pub(super) async fn write_counts(&self) -> Result<()> {
        if !self.counts.dirty.is_empty() {
            self.order.file.announce(Step::RefblockUpdate).await;
            self.order.file.announce(Step::RefblockUpdatePart).await;
        }
        self.counts.write_back(&self.order.file).await
    }

    // ---- counting down ----

    /// Takes one reference from each cluster. Those whose last reference this is and whose space is to be given back
    /// first (`keep`) stay counted once, and come to `kept`.
    pub(super) async fn drop_references_of(
        &self,
        alloc: &mut Alloc,
        clusters: Range<u64>,
        keep: bool,
        kept: &mut Vec<Run>,
    ) -> Result<()> {
        self.order.file.announce(Step::ClusterFree).await;
        let mut at = clusters.start;
        while at < clusters.end {
            let Some(counts) = self.count_page_to_change(at).await? else {
                tracing::warn!(cluster = at, "a cluster that was in use is not counted");
                at += 1;
                continue;
            };
            let end = clusters.end.min(counts.first + self.g().counts_per_page());
            for cluster in at..end {
                match counts.get(cluster) {
                    0 => tracing::warn!(cluster, "a cluster that was in use is not counted"),
                    1 if keep => {
                        alloc.going(cluster, self.g());
                        kept.push(Run { start: cluster, count: 1 });
                    }
                    1 => {
                        counts.set(cluster, 0);
                        alloc.freed(cluster, self.g());
                        self.overlap.tables.remove(cluster);
                    }
                    count => counts.set(cluster, count - 1),
                }
            }
            self.counts.dirty.mark(&counts.page);
            at = end;
        }
        Ok(())
    }

    // ---- growing ----

    /// Makes the refcount block that counts `cluster`, in the cluster `place` or the last one that it counts.
    pub(super) async fn add_block(&self, alloc: &mut Alloc, cluster: u64, place: u64) -> Result<()> {
        let g = self.g();
        let index = cluster / g.counts_per_block();
        let first = index * g.counts_per_block();
        let place = place.min(first + g.counts_per_block() - 1);
        let Some(table) = self.table_page(index).await? else {
            return self.append(alloc, 0).await.map(|_| ());
        };
        self.not_metadata(place..place + 1).await?;
        self.order.file.place(&table).await?;
        alloc.extend(place + 1);
        let host = place << g.cluster_bits;
        self.order.file.announce(Step::RefblockAlloc).await;
        self.order.file.announce(Step::RefblockAllocWrite).await;
        self.order.file.write(host, block_of_ones(g, place - first..place - first + 1).freeze()).await?;
        self.order.file.flush().await?;
        let at = (index % TABLE_PAGE_WORDS) as usize;
        self.order.file.announce(Step::RefblockAllocHookup).await;
        self.name_block(&table, at, host).await
    }

    /// Gives the pages of the table that have these entries space in the file.
    async fn place_entries(&self, entries: Range<u64>) -> Result<()> {
        for number in entries.start / TABLE_PAGE_WORDS..entries.end.div_ceil(TABLE_PAGE_WORDS) {
            if let Some(table) = self.table_page(number * TABLE_PAGE_WORDS).await? {
                self.order.file.place(&table).await?;
            }
        }
        Ok(())
    }

    /// Has an entry of a page of the table that has its space name a block that is durable. The entry holds also where it could not be written, or nobody
    /// waits for that any more: on disk it may be the old one or the new one then, and its page stays dirty.
    async fn name_block(&self, table: &Arc<Page>, at: usize, host: u64) -> Result<()> {
        table.set(at, host);
        self.counts.dirty.mark(table);
        let index = (table.key() & !TABLE_KEY) * TABLE_PAGE_WORDS + at as u64;
        self.overlap.tables.add(self.g().cluster(host), overlap::refcount_block(index));
        self.order.file.announce(Step::ReftableUpdate).await;
        self.counts.write_page(&self.order.file, table).await
    }

    /// Appends an area behind everything that is counted, with the refcount blocks for it, a larger refcount table
    /// if the present one has no room for them, and `payload` counted clusters, which are answered. It is how the
    /// table grows, and how a contiguous piece larger than what one block counts is had.
    pub(super) async fn append(&self, alloc: &mut Alloc, payload: u64) -> Result<Run> {
        self.sure_header().await?;
        let g = self.g();
        let (old_table, old_entries) = self.table_place();
        let first_block = self.blocks_end(old_entries).await?;
        let start = first_block * g.counts_per_block();
        let plan = AreaPlan::new(g, first_block, old_entries, payload)?;
        self.not_metadata(start..start + plan.total()).await?;
        if plan.table_clusters == 0 {
            self.place_entries(first_block..first_block + plan.blocks).await?;
        }
        alloc.extend(start + plan.total());
        self.order.file.announce(Step::RefblockAlloc).await;
        self.order.file.announce(Step::RefblockAllocWriteBlocks).await;
        for i in 0..plan.blocks {
            let counted = plan.total().min((i + 1) * g.counts_per_block()) - i * g.counts_per_block();
            self.order
                .file
                .write((start + i) << g.cluster_bits, block_of_ones(g, 0..counted).freeze())
                .await?;
        }
        let blocks: Vec<u64> = (0..plan.blocks).map(|i| (start + i) << g.cluster_bits).collect();
        if plan.table_clusters > 0 {
            self.replace_table(plan, start, &blocks, (old_table, old_entries)).await?;
        } else {
            self.order.file.flush().await?;
            let mut named = Ok(());
            for (index, host) in (first_block..).zip(&blocks) {
                let Some(table) = self.table_page(index).await? else { break };
                named = named.and(self.name_block(&table, (index % TABLE_PAGE_WORDS) as usize, *host).await);
            }
            let payload = Run { start: start + plan.blocks, count: payload };
            named.inspect_err(|_| drop(self.order.reservations.guard(payload)))?;
        }
        Ok(Run { start: start + plan.blocks + plan.table_clusters, count: payload })
    }

    /// One more than the index of the last refcount block.
    async fn blocks_end(&self, entries: u64) -> Result<u64> {
        let mut end = entries;
        while end > 0 {
            let Some(page) = self.table_page(end - 1).await? else { break };
            let first = (end - 1) / TABLE_PAGE_WORDS * TABLE_PAGE_WORDS;
            let words: Vec<u64> = page.words_from(0).take((end - first) as usize).collect();
            if let Some(last) = words.iter().rposition(|word| *word != 0) {
                return Ok(first + last as u64 + 1);
            }
            end = first;
        }
        Ok(0)
    }

    /// Writes a larger table behind the new blocks, and switches the header to it.
    async fn replace_table(&self, plan: AreaPlan, start: u64, blocks: &[u64], old: (u64, u64)) -> Result<()> {
        // The old table's pages are forgotten: none of them may wait to be written.
        self.counts.write_back(&self.order.file).await?;
        self.order.file.announce(Step::ReftableGrow).await;
        let (g, (old_table, old_entries)) = (self.g(), old);
        let place = (start + plan.blocks) << g.cluster_bits;
        let mut words = Vec::new();
        for number in 0..plan.first_block.div_ceil(TABLE_PAGE_WORDS) {
            if let Some(page) = self.table_page(number * TABLE_PAGE_WORDS).await? {
                words.extend(page.words_from(0));
            }
        }
        words.truncate(plan.first_block as usize);
        words.extend(blocks);
        words.resize((plan.table_clusters << g.cluster_bits) as usize / 8, 0);
        self.order.file.announce(Step::RefblockAllocWriteTable).await;
        self.order.file.write(place, Be64::bytes(&words).freeze()).await?;
        self.order.file.flush().await?;
        self.order.file.announce(Step::RefblockAllocSwitchTable).await;
        let clusters = plan.table_clusters as u32;
        self.change_header(|h| (h.refcount_table_offset, h.refcount_table_clusters) = (place, clusters))
            .await?;
        // At once, for the header leads to the new one: what is given up waits for an epoch, whose flush covers that.
        for number in 0..=old_entries / TABLE_PAGE_WORDS {
            self.counts.remove(TABLE_KEY | number);
        }
        for (index, host) in (plan.first_block..).zip(blocks) {
            self.overlap.tables.add(g.cluster(*host), overlap::refcount_block(index));
        }
        let count = g.clusters(old_entries * 8);
        let run = Run { start: g.cluster(old_table), count };
        self.order.freed.give_up(GivenUp { run, cause: Cause::Dropped });
        self.order.file.flush().await
    }
}

/// What an appended area consists of: its blocks, then a table, then the payload; in clusters.
#[derive(Clone, Copy)]
struct AreaPlan {
    first_block: u64,
    blocks: u64,
    table_clusters: u64,
    payload: u64,
}

impl AreaPlan {
    fn new(g: Geometry, first_block: u64, entries: u64, payload: u64) -> Result<Self> {
        let mut plan = Self { first_block, blocks: 1, table_clusters: 0, payload };
        loop {
            let before = (plan.blocks, plan.table_clusters);
            plan.blocks = plan.total().div_ceil(g.counts_per_block()).max(plan.blocks);
            let needed = first_block + plan.blocks;
            if needed > entries {
                // Half as much again, so that growing a disk copies the table a few times only.
                let bytes = (needed + needed / 2 + 1) * 8;
                if needed * 8 > MAX_REFCOUNT_TABLE_BYTES {
                    let text = "the image file can't grow further: its refcount table would exceed 8 MiB";
                    return Err(BlockError::new(ErrorKind::Limit, text));
                }
                let clusters = g.clusters(bytes.min(MAX_REFCOUNT_TABLE_BYTES));
                plan.table_clusters = clusters.max(plan.table_clusters);
            }
            if before == (plan.blocks, plan.table_clusters) {
                return Ok(plan);
            }
        }
    }

    fn total(&self) -> u64 {
        self.blocks + self.table_clusters + self.payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_every_width_keep_apart() {
        for order in 0..=6 {
            let page = Page::new(0, 0, 0, [0; 8]);
            let per_page = 512 >> order;
            let largest = u64::MAX >> (64 - (1 << order));
            for i in (0..per_page).step_by(3) {
                Slot::of(i, order).set(&page, largest);
            }
            for i in 0..per_page {
                let expected = if i % 3 == 0 { largest } else { 0 };
                assert_eq!(Slot::of(i, order).get(&page), expected, "order {order}, count {i}");
            }
        }
    }

    #[test]
    fn counts_lie_as_the_specification_says() {
        let set = |order, index, count| {
            let page = Page::new(0, 0, 0, [0; 1]);
            Slot::of(index, order).set(&page, count);
            page.word(0).to_be_bytes()
        };
        assert_eq!(set(4, 1, 0x0102), [0, 0, 1, 2, 0, 0, 0, 0]);
        assert_eq!(set(0, 1, 1), [2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(set(0, 15, 1), [0, 128, 0, 0, 0, 0, 0, 0]);
        assert_eq!(set(2, 1, 5), [0x50, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(set(1, 4, 3), [0, 3, 0, 0, 0, 0, 0, 0]);
        assert_eq!(set(6, 0, 7), [0, 0, 0, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn an_appended_area_counts_itself() {
        let g = Geometry {
            extended: false,
            data_file: false,
            cluster_bits: 9,
            entry_bits: 6,
            slice_bits: 6,
            page_bits: 6,
            refcount_order: 6,
            zero_flag: true,
        };
        for payload in [0, 1, 62, 63, 64, 5000] {
            for (first_block, entries) in [(1, 64), (64, 64), (63, 64), (60, 64)] {
                let plan = AreaPlan::new(g, first_block, entries, payload).unwrap();
                assert!(plan.blocks * g.counts_per_block() >= plan.total());
                let room = if plan.table_clusters > 0 { plan.table_clusters * 64 } else { entries };
                assert!(first_block + plan.blocks <= room);
            }
        }
    }
}
