//! L1 pages and L2 slices: loading, checking what they point to, and making L2 tables.
//!
//! Laws:
//! - a slice is loaded, and its table made or copied, under a lease of the slice: one copy of a page is in memory;
//! - entries are looked at once, when they are loaded, and once more, with the refcounts, before the first change: a
//!   slice that has a wrong one is marked [`SUSPECT`], which sends every request on it the slow way that judges each
//!   entry;
//! - a table that an internal snapshot shares is marked [`SHARED`] and never changed: its first change copies it;
//! - a new table is in the file, whole, before the L1 entry that leads to it is set in memory.
use super::entry::{Entry, Geometry, Stored};
use super::header::{COPIED, OFFSET_MASK};
use super::image::{Image, Page, TABLE_KEY};
use super::overlap::{self, INACTIVE_L2, L2_TABLE};
use block::metacache::{Be64, Cause, Codec, GivenUp, Run, UNPLACED, may_lie_in_a_hole};
use block::{Damage, Result, Step};
use rt::{Buf, BufMut};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// Words of an L1 or refcount table page: 4 KiB.
pub(super) const TABLE_PAGE_WORDS: u64 = 512;
/// Entries of a slice that are looked at together.
const GROUP: usize = 32;
/// Mark of a slice that has an entry which must not be used.
pub(super) const SUSPECT: u32 = 1;
/// Mark of a slice of whose entries nobody knows yet whether the refcounts agree: the first change finds out.
pub(super) const UNJUDGED: u32 = 4;
/// Mark of a slice of an L2 table that others refer to.
pub(super) const SHARED: u32 = 2;

/// An L2 table as an L1 entry names it.
#[derive(Clone, Copy)]
pub(super) struct Table {
    /// Byte offset.
    pub host: u64,
    /// No snapshot refers to it.
    pub owned: bool,
}

/// What a walk through the slices has read ahead.
#[derive(Default)]
pub(super) struct Ahead {
    /// The slice that a walk comes to next.
    next: u64,
    /// How many slices were loaded one after the other: two may be so by chance.
    walked: u32,
    /// Byte offset of `bytes` in the file.
    place: u64,
    bytes: Option<BufMut>,
    /// Counts how often it was forgotten: what was read before is not kept after.
    times: u64,
}

impl Ahead {
    /// Takes `len` bytes, if they are those at `place`.
    fn take(&mut self, place: u64, len: usize) -> Option<BufMut> {
        let bytes = self.bytes.as_mut().filter(|bytes| self.place == place && bytes.len() >= len)?;
        self.place += len as u64;
        Some(bytes.split_to(len))
    }
}

impl Image {
    pub(super) fn g(&self) -> Geometry {
        Geometry {
            slice_bits: self.slice_bits.load(Relaxed),
            refcount_order: self.refcount_order.load(Relaxed),
            zero_flag: self.zero_flag.load(Relaxed),
            ..self.geometry
        }
    }

    /// The page of the L1 table that has the entry `index`.
    pub(super) async fn l1_page(&self, index: u64) -> Result<Arc<Page>> {
        let number = index / TABLE_PAGE_WORDS;
        let key = TABLE_KEY | number;
        if let Some(page) = self.order.tables.get(key) {
            return Ok(page);
        }
        let _lease = self.order.pages.lease(key, key + 1, true).await;
        if let Some(page) = self.order.tables.get(key) {
            return Ok(page);
        }
        let (table, entries) = {
            let header = self.header.read();
            (header.l1_offset, u64::from(header.l1_entries))
        };
        let words = entries.saturating_sub(number * TABLE_PAGE_WORDS).min(TABLE_PAGE_WORDS);
        let place = table + number * TABLE_PAGE_WORDS * 8;
        let bytes = self.order.file.read(place, words * 8).await?;
        let g = self.g();
        for (index, host) in (number * TABLE_PAGE_WORDS..).zip(Be64::words(&bytes).map(|w| w & OFFSET_MASK)) {
            if host != 0 && g.within(host) == 0 {
                self.overlap.tables.found(g.cluster(host), overlap::l2_table(index));
            }
        }
        Ok(self.order.tables.insert(Page::read(key, place, &bytes)))
    }

    /// The L2 table that has a slice; `None` if there is none yet.
    pub(super) async fn table_of(&self, slice: u64) -> Result<Option<Table>> {
        let index = self.g().l1_index(slice);
        let word = self.l1_page(index).await?.word((index % TABLE_PAGE_WORDS) as usize);
        let table = Table { host: word & OFFSET_MASK, owned: word & COPIED != 0 };
        match self.wrong_table(word, table, index) {
            None => Ok((word != 0).then_some(table)),
            Some(why) => {
                let guest = index * self.g().l1_span();
                let entry = format!("the L1 entry of guest offset {guest:#x} is {word:#x}");
                Err(self.corrupt(why.context(entry), Some(guest)).await)
            }
        }
    }

    fn wrong_table(&self, word: u64, table: Table, index: u64) -> Option<Damage> {
        let g = self.g();
        if word == 0 {
            return None;
        }
        if word & !(OFFSET_MASK | COPIED) != 0 {
            return Some("reserved bits are set".into());
        }
        if table.host == 0 {
            return Some("it marks the header's cluster as an L2 table".into());
        }
        if g.within(table.host) != 0 {
            return Some("the L2 table is not aligned to a cluster".into());
        }
        let length = self.order.file.node().map_or(0, |f| f.length());
        if table.host >= length {
            return Some(format!("the L2 table lies beyond the end of the file ({length:#x})").into());
        }
        let cluster = g.cluster(table.host);
        let writable = self.order.access.writable();
        let clusters = cluster..cluster + 1;
        let there = if writable { self.overlap.named_at(&clusters) } else { self.overlap.main_at(&clusters) };
        if let Some(what) = there {
            return Some(self.overlap_at(clusters, format!("the L2 table would overlap the {what}")));
        }
        if !writable {
            return None;
        }
        // Two names of one table would be two copies in memory that differ, unless both copy it before they change it.
        if table.owned && self.overlap.is_inactive_table(cluster) {
            return Some(self.overlap_at(clusters, format!("its cluster is also an {INACTIVE_L2}")));
        }
        let known = overlap::l2_table(index);
        let other = self.overlap.tables.claimed_by_other(cluster, known)?;
        if other.name == L2_TABLE && !table.owned {
            return None;
        }
        Some(self.overlap_at(clusters, format!("its cluster is also the {} {}", other.name, other.index)))
    }

    /// The slice, from memory or loaded; `None` if its L2 table does not exist.
    pub(super) async fn slice(&self, slice: u64) -> Result<Option<Arc<Page>>> {
        if let Some(page) = self.order.tables.get(slice) {
            return Ok(Some(page));
        }
        let _lease = self.order.pages.lease(slice, slice + 1, true).await;
        self.load_slice(slice, Some(Step::L2Load)).await
    }

    /// Loads a slice that the caller leases. `step` is what the file is told: a table that was just written is not loaded.
    async fn load_slice(&self, slice: u64, step: Option<Step>) -> Result<Option<Arc<Page>>> {
        if let Some(page) = self.order.tables.get(slice) {
            return Ok(Some(page));
        }
        let Some(table) = self.table_of(slice).await? else { return Ok(None) };
        let g = self.g();
        let place = table.host + g.slice_offset(slice);
        if let Some(step) = step {
            self.order.file.announce(step).await;
        }
        let bytes = self.read_slice(slice, place).await?;
        let mut marks = may_lie_in_a_hole(&bytes);
        if !table.owned {
            marks |= SHARED;
        }
        let clusters = g.clusters(self.order.file.node()?.length());
        let seems_right = |(stored, cluster): (Stored, u64)| {
            let stored = if table.owned { stored } else { stored.disowned() };
            stored == Stored::HOLE
                || match Entry::of(stored, g) {
                    Entry::Bad(_) => false,
                    entry if g.data_file => {
                        entry.host_cluster().is_none_or(|host| host == cluster << g.cluster_bits)
                    }
                    entry => entry.host_clusters(g).is_none_or(|run| {
                        run.start < clusters && self.overlapped(run.start..run.end()).is_none()
                    }),
                }
        };
        // Tables are mostly empty: whole groups are passed over at once.
        let groups = bytes.chunks(8 * g.word_index(GROUP)).zip((slice << g.slice_bits..).step_by(GROUP));
        let entries_right = |(group, first): (&[u8], u64)| {
            codec::is_zero(group) || g.stored_in(group).zip(first..).all(seems_right)
        };
        if !groups.into_iter().all(entries_right) {
            marks |= SUSPECT;
        }
        let judged = self.order.access.writable();
        if judged {
            marks |= UNJUDGED;
        }
        // In a table that others refer to nothing is this image's own.
        let kept = |at: usize| if table.owned || at % g.word_index(1) == 1 { u64::MAX } else { !COPIED };
        let words = bytes.as_chunks().0.iter().enumerate();
        let words = words.map(|(at, word)| u64::from_be_bytes(*word) & kept(at));
        let page = self.order.tables.insert(Page::new(slice, place, marks, words));
        if !judged && self.order.access.writable() {
            // The image became writable in between, and may have cleared the tables before this one came in.
            page.change_marks(UNJUDGED | SUSPECT, 0);
        }
        Ok(Some(page))
    }

    /// Before the first change of a slice: whether the clusters of its entries are counted. Reading does without, for
    /// it must not wait for the allocator.
    pub(super) async fn judge(&self, page: &Page) -> Result<()> {
        if page.marks() & UNJUDGED == 0 {
            return Ok(());
        }
        let g = self.g();
        let hosts = g.stored_from(page, 0).filter_map(|entry| Entry::of(entry, g).host_clusters(g));
        let counted = self.are_counted(hosts).await?;
        page.change_marks(if counted { 0 } else { SUSPECT }, UNJUDGED);
        Ok(())
    }

    /// The bytes of a slice. Who walks from one slice to the next has the rest of the table read with it, as long as
    /// nobody here changes it.
    async fn read_slice(&self, slice: u64, place: u64) -> Result<BufMut> {
        let g = self.g();
        let len = g.slice_words() as u64 * 8;
        if self.order.access.writable() {
            return self.order.file.read(place, len).await;
        }
        let worker = rt::current_worker().map_or(0, |worker| worker + 1);
        let Some(held) = self.ahead.get(worker) else { return self.order.file.read(place, len).await };
        let (walks, times) = {
            let mut ahead = held.lock();
            ahead.walked = if ahead.next == slice { ahead.walked.saturating_add(1) } else { 1 };
            ahead.next = slice + 1;
            let walks = ahead.walked > 2;
            if let Some(bytes) = ahead.take(place, len as usize) {
                return Ok(bytes);
            }
            (walks, ahead.times)
        };
        let rest = if walks { g.cluster_size() - g.slice_offset(slice) } else { len };
        let mut bytes = self.order.file.read(place, rest).await?;
        let first = bytes.split_to((len as usize).min(bytes.len()));
        self.keep_ahead(slice + 1, place + len, bytes, times);
        Ok(first)
    }

    /// Keeps `bytes`, read from `place` on, for a walk that comes to the slice `next` with them. What was read before the
    /// image became writable must not be found when it is read-only again: `times` tells when it was.
    pub(super) fn keep_ahead(&self, next: u64, place: u64, bytes: BufMut, times: u64) {
        let worker = rt::current_worker().map_or(0, |worker| worker + 1);
        let Some(held) = self.ahead.get(worker) else { return };
        let mut ahead = held.lock();
        if ahead.times == times {
            *ahead = Ahead { next, walked: ahead.walked, place, bytes: Some(bytes), times };
        }
    }

    /// Forgets what was read ahead, what tables are uniform, and what was decoded: the tables may change from now on.
    pub(super) fn forget_ahead(&self) {
        self.uniform.lock().clear();
        self.decoded.clear();
        for held in &self.ahead {
            let mut ahead = held.lock();
            *ahead = Ahead { times: ahead.times + 1, ..Ahead::default() };
        }
    }

    /// What is wrong with an L2 entry, if anything is.
    pub(super) fn wrong_entry(&self, stored: Stored, cluster: u64) -> Option<Damage> {
        if stored == Stored::HOLE {
            return None;
        }
        let g = self.g();
        let entry = Entry::of(stored, g);
        if let Entry::Bad(why) = entry {
            return Some(why.into());
        }
        if g.data_file && entry.host_cluster().is_some_and(|host| host != cluster << g.cluster_bits) {
            return Some("in an external data file it must be where it is on the disk".into());
        }
        let run = entry.host_clusters(g)?;
        let length = self.order.file.node().map_or(0, |f| f.length());
        if run.start >= g.clusters(length) {
            return Some(format!("it lies beyond the end of the file ({length:#x})").into());
        }
        let clusters = run.start..run.end();
        let what = self.overlapped(clusters.clone())?;
        Some(self.overlap_at(clusters, format!("it would overlap the {what}")))
    }

    /// The damage that clusters of the file are two things.
    pub(super) fn overlap_at(&self, clusters: Range<u64>, what: String) -> Damage {
        let bits = self.geometry.cluster_bits;
        Damage { what, bytes: Some(clusters.start << bits..clusters.end << bits) }
    }

    /// What metadata guest data would overlap. Only writing can do harm to what reading does without, so only a writable
    /// image looks for that.
    fn overlapped(&self, clusters: Range<u64>) -> Option<&'static str> {
        if self.order.access.writable() { self.overlap.at(clusters) } else { self.overlap.main_at(&clusters) }
    }

    /// The slice, in an L2 table that is this image's own: made or copied first where need be.
    pub(super) async fn slice_to_change(&self, slice: u64) -> Result<Arc<Page>> {
        if let Some(page) = self.slice(slice).await?
            && page.marks() & SHARED == 0
        {
            return self.order.place(&page).await.map(|()| page);
        }
        let g = self.g();
        let first = slice & !(g.slices() - 1);
        let _lease = self.order.pages.lease(first, first + g.slices(), true).await;
        let step = match self.table_of(slice).await? {
            Some(table) if table.owned => Some(Step::L2Load),
            Some(table) => self.copy_table(first, table).await.map(|()| None)?,
            None => {
                let zeroes = BufMut::zeroed(g.cluster_size() as usize).freeze();
                self.new_table(slice, zeroes).await.map(|_| None)?
            }
        };
        match self.load_slice(slice, step).await? {
            Some(page) => self.order.file.place(&page).await.map(|()| page),
            None => Err(self.corrupt(format!("the L1 entry of slice {slice} vanished").into(), None).await),
        }
    }

    /// The page of the L1 table that has the entry `index`, with space in the file.
    pub(super) async fn l1_page_to_change(&self, index: u64) -> Result<Arc<Page>> {
        let page = self.l1_page(index).await?;
        self.order.place(&page).await.map(|()| page)
    }

    /// Puts a new L2 table in the file and into the L1 table; tells its byte offset.
    async fn new_table(&self, slice: u64, content: Buf) -> Result<u64> {
        let g = self.g();
        let index = g.l1_index(slice);
        let l1 = self.l1_page_to_change(index).await?;
        let reserved = self.allocate_whole(1).await?;
        let host = reserved.run().start << g.cluster_bits;
        if self.counts_wait.load(Acquire) {
            // There are few tables: what a crash leaves uncounted is the data in them.
            self.write_counts().await?;
        }
        self.order.file.announce(Step::L2AllocWrite).await;
        self.order.file.write(host, content).await?;
        self.overlap.tables.add(reserved.keep().start, overlap::l2_table(index));
        self.uniform.lock().forget(host);
        l1.set((index % TABLE_PAGE_WORDS) as usize, g.owned(host));
        self.order.tables.dirty.mark(&l1);
        Ok(host)
    }

    /// Replaces an L2 table that a snapshot shares by a copy of this image's own.
    async fn copy_table(&self, first_slice: u64, old: Table) -> Result<()> {
        let g = self.g();
        self.order.file.announce(Step::L2AllocCowRead).await;
        let mut bytes = self.order.file.read(old.host, g.cluster_size()).await?;
        for entry in bytes.chunks_exact_mut(8 * g.word_index(1)) {
            if let Some(word) = entry.first_chunk_mut() {
                *word = (u64::from_be_bytes(*word) & !COPIED).to_be_bytes();
            }
        }
        let host = self.new_table(first_slice, bytes.freeze()).await?;
        for slice in first_slice..first_slice + g.slices() {
            if let Some(page) = self.order.tables.get(slice) {
                page.move_to(host + g.slice_offset(slice), page.marks() & !(SHARED | UNPLACED));
            }
        }
        let run = Run { start: g.cluster(old.host), count: 1 };
        self.order.freed.give_up(GivenUp { run, cause: Cause::Dropped });
        Ok(())
    }
}
