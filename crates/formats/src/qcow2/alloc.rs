//! Host clusters: first-fit from the lowest free one, as today's tools lay images out.
//!
//! A cluster is counted in memory the moment it is found; the count is durable before the cluster is mapped (flush A
//! of the epoch). What is not mapped in the end comes back through `Order::reservations`.
use super::entry::Geometry;
use super::image::Image;
use super::refcount::CountPage;
use api::PreallocMode;
use block::metacache::{Found, Reserved, Run};
use block::{BlockError, ErrorKind, Result, Step};
use std::collections::HashSet;
use std::ops::Range;

/// Entries name host offsets below this.
const MAX_HOST: u64 = 1 << 56;

/// The allocator's state; whoever holds its lock may change counts.
#[derive(Debug, Default)]
pub(super) struct Alloc {
    /// No cluster below this is free.
    lowest: u64,
    /// No cluster from here on was ever written: the file ended here, and nothing was handed out beyond.
    end: u64,
    /// Pages of refcounts without a free cluster, by number: a search passes over them.
    full: HashSet<u64>,
    /// Length of the file in bytes when the image became writable; what is beyond may be cut off at close.
    pub opened_length: u64,
    /// Where the last cluster of compressed data goes on, if it has room: a byte offset.
    pub tail: Option<u64>,
}

impl Alloc {
    /// The state for a file of `length` bytes.
    pub fn new(length: u64, clusters: u64) -> Self {
        Self { end: clusters, opened_length: length, ..Self::default() }
    }

    /// No cluster from here on was ever written.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Clusters before `end` may have been written.
    pub fn extend(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// Counts are in other places from now on: the search begins anew.
    pub fn forget_places(&mut self) {
        *self = Self { end: self.end, opened_length: self.opened_length, ..Self::default() };
    }

    /// The file was cut to `length` bytes, at the end of cluster `end`.
    pub fn file_was_cut(&mut self, end: u64, length: u64) {
        self.end = self.end.min(end);
        self.opened_length = self.opened_length.min(length);
    }

    /// Takes note of a cluster whose count became zero.
    pub fn freed(&mut self, cluster: u64, g: Geometry) {
        self.lowest = self.lowest.min(cluster);
        self.full.remove(&(cluster / g.counts_per_page()));
        self.going(cluster, g);
    }

    /// A cluster loses its last reference: nothing more is put into it.
    pub fn going(&mut self, cluster: u64, g: Geometry) {
        self.tail = self.tail.filter(|tail| g.cluster(*tail) != cluster);
    }
}

impl Image {
    /// Reserves the first free clusters: at least one, at most `most`, consecutive.
    pub(super) async fn allocate(&self, most: u64) -> Result<Found> {
        let mut alloc = self.alloc.lock().await;
        self.take_returned(&mut alloc).await?;
        let end = alloc.end;
        let run = self.find(&mut alloc, most, false).await?;
        let reserved = self.reserve(&mut alloc, run).await?;
        let fresh = run.start >= end;
        if fresh {
            self.order.freed.grow(run.count);
        }
        Ok(Found { reserved, fresh })
    }

    /// Reserves `count` consecutive clusters.
    pub(super) async fn allocate_whole(&self, count: u64) -> Result<Reserved> {
        let mut alloc = self.alloc.lock().await;
        self.take_returned(&mut alloc).await?;
        if count >= self.g().counts_per_block() {
            let run = self.append(&mut alloc, count).await?;
            return Ok(self.order.reservations.guard(run));
        }
        let run = self.find(&mut alloc, count, true).await?;
        self.reserve(&mut alloc, run).await
    }

    /// Finds free clusters: `count` of them if `whole`, else as many as follow the first, up to `count`.
    pub(super) async fn find(&self, alloc: &mut Alloc, count: u64, whole: bool) -> Result<Run> {
        self.sure_header().await?;
        self.order.file.announce(Step::ClusterAlloc).await;
        let per_page = self.g().counts_per_page();
        let mut run = Run { start: alloc.lowest, count: 0 };
        loop {
            let at = run.end();
            let page = at / per_page;
            if run.count == 0 && alloc.full.contains(&page) {
                run.start = (page + 1) * per_page;
                continue;
            }
            let Some(counts) = self.count_page(at).await? else {
                // It lies behind what is looked for, so that it does not part it.
                self.add_block(alloc, at, at + count - run.count).await?;
                continue;
            };
            if scan(&counts, &mut run, counts.first + per_page, count, whole) {
                break;
            }
            // A search for more than one cluster may have passed over single ones.
            if (!whole || count == 1) && at == counts.first && run.start == at + per_page {
                alloc.full.insert(page);
            }
        }
        // A search for a whole piece may have passed over smaller ones.
        if !whole || count == 1 {
            alloc.lowest = run.end();
        }
        Ok(run)
    }

    /// Counts one reference more to each cluster of a run, after a look that they are not metadata.
    pub(super) async fn reserve(&self, alloc: &mut Alloc, run: Run) -> Result<Reserved> {
        self.not_metadata(run.start..run.end()).await?;
        if let Err((set, e)) = self.count_up(run).await {
            drop(self.order.reservations.guard(set));
            return Err(e);
        }
        alloc.end = alloc.end.max(run.end());
        Ok(self.order.reservations.guard(run))
    }

    /// Refuses to use clusters that hold metadata, whatever the refcounts say, and such as no entry can name.
    pub(super) async fn not_metadata(&self, clusters: Range<u64>) -> Result<()> {
        let at = clusters.start << self.g().cluster_bits;
        if clusters.end > MAX_HOST >> self.g().cluster_bits {
            let text = "the image file can't grow further: entries name offsets below 64 PiB only";
            return Err(BlockError::new(ErrorKind::Limit, text));
        }
        match self.overlap.at(clusters.clone()) {
            None => Ok(()),
            Some(what) => {
                let text = format!("the refcounts call clusters at {at:#x} free that overlap the {what}");
                Err(self.corrupt(self.overlap_at(clusters, text), None).await)
            }
        }
    }

    /// Adds one to the counts of a run; where it fails, it tells those that were counted.
    async fn count_up(&self, run: Run) -> Result<(), (Run, BlockError)> {
        let mut at = run.start;
        while at < run.end() {
            let set = Run { start: run.start, count: at - run.start };
            let Some(counts) = self.count_page_to_change(at).await.map_err(|e| (set, e))? else { break };
            let end = run.end().min(counts.first + self.g().counts_per_page());
            (at..end).for_each(|cluster| counts.set(cluster, counts.get(cluster) + 1));
            self.counts.dirty.mark(&counts.page);
            at = end;
        }
        Ok(())
    }

    /// Takes back references that were reserved and never mapped.
    pub(super) async fn take_returned(&self, alloc: &mut Alloc) -> Result<()> {
        // A header that is in doubt may lead to them.
        self.sure_header().await?;
        let per_page = self.g().counts_per_page();
        loop {
            let Some(reserved) = self.order.reservations.take_unused() else { return Ok(()) };
            let mut rest = reserved.keep();
            while rest.count > 0 {
                // Page by page, so that what can't be counted down now comes back, and nothing is counted down twice.
                let guard = self.order.reservations.guard(rest);
                let end = rest.end().min((rest.start / per_page + 1) * per_page);
                self.drop_references_of(alloc, rest.start..end, false, &mut Vec::new()).await?;
                guard.keep();
                rest = Run { start: end, count: rest.end() - end };
            }
        }
    }

    /// One more than the last cluster that is counted, looking no further down than `floor`.
    pub(super) async fn used_end(&self, alloc: &Alloc, floor: u64) -> Result<u64> {
        let mut end = alloc.end;
        while end > floor {
            let counts = self.count_page(end - 1).await?;
            let per_block = self.g().counts_per_block();
            let first = counts.as_ref().map_or((end - 1) / per_block * per_block, |c| c.first).max(floor);
            if let Some(last) = counts.and_then(|c| (first..end).rev().find(|cluster| c.get(*cluster) != 0)) {
                return Ok(last + 1);
            }
            end = first;
        }
        Ok(end)
    }

    /// Makes the file as long as all clusters that were handed out. Nobody writes behind them while the allocator is
    /// held, so that no data is cut off.
    pub(super) async fn cover_clusters(&self) -> Result<()> {
        let alloc = self.alloc.lock().await;
        self.order.file.cover(alloc.end << self.g().cluster_bits).await
    }

    /// Cuts what the file has grown by and no longer uses.
    pub(super) async fn cut_growth(&self, alloc: &mut Alloc) -> Result<()> {
        let file = self.order.file.node()?;
        let floor = self.g().clusters(alloc.opened_length);
        let end = self.used_end(alloc, floor).await?;
        let length = (end << self.g().cluster_bits).max(alloc.opened_length);
        if file.length() > length && file.facts().grows_with_zeroes {
            file.set_length(length, PreallocMode::Off).await?;
        }
        alloc.end = alloc.end.min(end);
        Ok(())
    }
}

/// Looks for free clusters from the end of `run` to the end of a page; tells whether `run` is what was looked for.
fn scan(counts: &CountPage, run: &mut Run, end: u64, count: u64, whole: bool) -> bool {
    for cluster in run.end()..end {
        if counts.get(cluster) == 0 {
            run.count += 1;
            if run.count == count {
                return true;
            }
        } else if run.count > 0 && !whole {
            return true;
        } else {
            *run = Run { start: cluster + 1, count: 0 };
        }
    }
    false
}
