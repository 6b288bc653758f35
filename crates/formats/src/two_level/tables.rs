//! Pages of the L1 table and of L2 tables: loading, a look at what they lead to, and making L2 tables.
//!
//! Laws:
//! - the entries of a page are looked at once after it was loaded: a page that has a wrong one is marked [`SUSPECT`], which
//!   sends every request on it the slow way that judges each entry;
//! - a new table is zeroes in the file before the L1 entry that leads to it is set in memory.
use super::geometry::{Entry, Geometry};
use super::image::{Image, Page};
use super::{Layout, PAGE_ENTRIES};
use block::Result;
use block::metacache::{Claim, Codec, Found};
use std::sync::Arc;

/// Set in the keys of pages of the L1 table.
pub(super) const L1_KEY: u64 = 1 << 63;
/// Set in the keys of leases under which L2 tables are made.
const NEW_KEY: u64 = 1 << 62;
/// Mark of a page whose entries were looked at.
pub(super) const JUDGED: u32 = 1;
/// Mark of a page that has a wrong entry.
pub(super) const SUSPECT: u32 = 2;

impl<L: Layout> Image<L> {
    /// The page of the L1 table that has the entry `index`.
    async fn l1_page(&self, index: u64) -> Result<Arc<Page<L>>> {
        let number = index / PAGE_ENTRIES;
        let first = number * PAGE_ENTRIES;
        let entries = self.geometry.l1_entries.saturating_sub(first).min(PAGE_ENTRIES);
        self.order.page(L1_KEY | number, self.geometry.l1_offset + 8 * first, 8 * entries).await
    }

    /// Where the L2 table of an L1 entry begins; `None` if there is none.
    async fn table(&self, index: u64) -> Result<Option<u64>> {
        let word = self.l1_page(index).await?.word((index % PAGE_ENTRIES) as usize);
        if word == 0 {
            return Ok(None);
        }
        let length = self.order.file.node()?.length();
        match wrong_table(word, &self.geometry, length).or_else(|| self.is_known(word, index)) {
            None => Ok(Some(word)),
            Some(why) => {
                let guest = index.saturating_mul(self.geometry.table_span());
                let what = format!("the L1 entry of guest offset {guest:#x} is {word:#x}: {why}");
                Err(self.damaged(what, guest))
            }
        }
    }

    /// Takes note of a table; what is wrong if another L1 entry leads there too: a small file could claim a vast disk so, and
    /// two pages in memory would be one in the file.
    fn is_known(&self, word: u64, index: u64) -> Option<String> {
        let (cluster, claim) = (self.geometry.cluster(word), Claim { name: "L2 table", index });
        self.tables.found(cluster, claim);
        let other = self.tables.claimed_by_other(cluster, claim)?;
        Some(format!("L1 entry {} leads there too", other.index))
    }

    /// A page of an L2 table, from memory or loaded; `None` if there is no table.
    pub(crate) async fn page(&self, number: u64) -> Result<Option<Arc<Page<L>>>> {
        let page = match self.order.tables.get(number) {
            Some(page) => page,
            None => {
                let g = &self.geometry;
                let Some(table) = self.table(g.table_of(number)).await? else { return Ok(None) };
                self.order.page(number, table + g.place_in_table(number), 8 * g.page_entries()).await?
            }
        };
        if page.marks() & JUDGED == 0 {
            self.judge(&page)?;
        }
        Ok(Some(page))
    }

    fn judge(&self, page: &Page<L>) -> Result<()> {
        let length = self.order.file.node()?.length();
        let wrong = |word| wrong_entry(L::entry(word, &self.geometry), &self.geometry, length).is_some();
        let suspect = if page.words_from(0).any(wrong) { SUSPECT } else { 0 };
        page.change_marks(JUDGED | suspect, 0);
        Ok(())
    }

    /// An entry that may be used, or the error that names it.
    pub(crate) fn checked(&self, word: u64, cluster: u64) -> Result<Entry> {
        let entry = L::entry(word, &self.geometry);
        match wrong_entry(entry, &self.geometry, self.order.file.node()?.length()) {
            None => Ok(entry),
            Some(why) => {
                let guest = cluster << self.geometry.cluster_bits;
                let what = format!("the L2 entry of guest offset {guest:#x} is {word:#x}: {why}");
                Err(self.damaged(what, guest))
            }
        }
    }

    /// A page to be changed, with space in the file, in a table that is made if there is none: then so many clusters of data
    /// may be reserved before it.
    pub(super) async fn page_to_change(
        &self,
        number: u64,
        data: u64,
    ) -> Result<(Arc<Page<L>>, Option<Found>)> {
        let mut found = None;
        loop {
            if let Some(page) = self.page(number).await? {
                self.order.place(&page).await?;
                return Ok((page, found));
            }
            found = self.make_table(self.geometry.table_of(number), data).await?;
        }
    }

    /// Makes the L2 table of an L1 entry, if there is none yet, and reserves up to `data` clusters before it.
    async fn make_table(&self, index: u64, data: u64) -> Result<Option<Found>> {
        let _lease = self.order.pages.lease(NEW_KEY | index, (NEW_KEY | index) + 1, true).await;
        if self.table(index).await?.is_some() {
            return Ok(None);
        }
        let g = &self.geometry;
        let l1 = self.l1_page(index).await?;
        self.order.place(&l1).await?;
        let before = if data > 0 { Some(self.allocate(data).await?) } else { None };
        let found = self.allocate_whole(g.clusters(g.table_len())).await?;
        let host = found.reserved.run().start << g.cluster_bits;
        if !found.fresh {
            self.order.file.write_zeroes(host, g.table_len()).await?;
        }
        found.reserved.keep();
        l1.set((index % PAGE_ENTRIES) as usize, host);
        self.order.tables.dirty.mark(&l1);
        Ok(before)
    }

    /// Reserves clusters: at least one, at most `most`, consecutive.
    pub(crate) async fn allocate(&self, most: u64) -> Result<Found> {
        let found = self.blocks.lock().await.allocate(&self.order.reservations, most)?;
        self.grown(found)
    }

    /// Reserves `count` consecutive clusters, and has the file be as long.
    async fn allocate_whole(&self, count: u64) -> Result<Found> {
        let mut blocks = self.blocks.lock().await;
        let found = blocks.allocate_whole(&self.order.reservations, count)?;
        self.order.file.cover(blocks.end() << self.geometry.cluster_bits).await?;
        self.grown(found)
    }

    fn grown(&self, found: Found) -> Result<Found> {
        if found.fresh {
            self.order.freed.grow(found.reserved.run().count);
        }
        // A device has its old content there.
        let zeroes = self.order.file.node()?.facts().grows_with_zeroes;
        Ok(Found { fresh: found.fresh && zeroes, ..found })
    }
}

/// What is wrong with an L1 entry, in a file of `length` bytes.
pub(crate) fn wrong_table(word: u64, g: &Geometry, length: u64) -> Option<String> {
    if g.within(word) != 0 {
        return Some("the L2 table is not aligned to a cluster".into());
    }
    let end = word.checked_add(g.table_len()).filter(|end| *end <= length);
    let Some(end) = end else {
        return Some(format!("the L2 table does not end before the file ({length:#x})"));
    };
    g.fixed_in(&(word..end)).map(|what| format!("the L2 table would overlap the {what}"))
}

/// What is wrong with an L2 entry, in a file of `length` bytes.
pub(crate) fn wrong_entry(entry: Entry, g: &Geometry, length: u64) -> Option<String> {
    let bytes = match entry {
        Entry::Hole | Entry::Zero => return None,
        Entry::Bad(why) => return Some(why.into()),
        Entry::Data(host) => host..host.saturating_add(g.cluster_size()),
        Entry::Stream(stream) => stream.offset..stream.offset.saturating_add(stream.len),
    };
    if bytes.start >= length {
        return Some(format!("it lies beyond the end of the file ({length:#x})"));
    }
    g.fixed_in(&bytes).map(|what| format!("it would overlap the {what}"))
}

/// The words of a table or a part of it.
pub(super) fn words<L: Layout>(bytes: &[u8]) -> impl Iterator<Item = u64> {
    L::Codec::words(bytes)
}
