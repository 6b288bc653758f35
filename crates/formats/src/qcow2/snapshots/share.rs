//! What an L1 table leads to, counted once more or once less, table by table.
//!
//! Laws:
//! - what is counted once more is no longer one table's own: COPIED is cleared with the count, in the table that leads to
//!   it, before the second reference to it is on disk;
//! - a count goes down when nothing on disk leads there any more by the table in question.
//!
//! No request is inside the image, and none of its tables is dirty. Tables are read and written as they are in the file.
//! Bounds: one L2 table is held at a time, and each is read once: an L1 table that leads to one several times is refused
//! ([`Image::read_l1`]).
use crate::qcow2::alloc::Alloc;
use crate::qcow2::entry::{Entry, Stored};
use crate::qcow2::header::{COMPRESSED, COPIED, OFFSET_MASK};
use crate::qcow2::image::Image;
use block::metacache::{Be64, Cause, Codec, GivenUp, Run};
use block::{BlockError, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

/// An L2 table as it is in the file.
pub(in crate::qcow2) struct Table {
    /// Its offset.
    pub host: u64,
    /// All its entries.
    pub entries: Vec<Stored>,
}

impl Image {
    /// Counts one more reference to all that an L1 table leads to, and clears COPIED in its L2 tables and in `l1`. Where it
    /// fails, it tells how many of the words were done.
    pub(super) async fn share(self: &Arc<Self>, l1: &mut [u64]) -> Result<(), (usize, BlockError)> {
        for (index, word) in l1.iter_mut().enumerate().filter(|(_, word)| **word != 0) {
            self.share_table(*word).await.map_err(|error| (index, error))?;
            *word &= !COPIED;
        }
        Ok(())
    }

    async fn share_table(&self, word: u64) -> Result<()> {
        let mut table = self.read_table(word).await?;
        let mut runs = self.runs_of(&table);
        runs.push(Run { start: self.g().cluster(table.host), count: 1 });
        let mut counted = Vec::new();
        let mut old = None;
        let shared = async {
            for run in runs {
                self.count_once_more(run, &mut counted).await?;
            }
            let entries = table.entries.clone();
            let owned = |entry: &&mut Stored| entry.word & (COPIED | COMPRESSED) == COPIED;
            let changed = table.entries.iter_mut().filter(owned);
            if changed.map(|entry| entry.word &= !COPIED).count() > 0 {
                old = Some(Table { entries, ..table });
                self.write_table(&table).await?;
            }
            Ok(())
        };
        let shared: Result<()> = shared.await;
        if shared.is_err() && self.order.file.unharmed().is_ok() {
            self.undo_table(counted, old).await.inspect_err(|_| self.disagrees.store(true, Release))?;
        }
        shared
    }

    /// Takes the counts of a table back, and stores it as it was: a write that failed may have stored what it had.
    async fn undo_table(&self, counted: Vec<Run>, old: Option<Table>) -> Result<()> {
        {
            let mut alloc = self.alloc.lock().await;
            for run in counted {
                self.drop_references_of(&mut alloc, run.start..run.end(), false, &mut Vec::new()).await?;
            }
        }
        match old {
            Some(table) => self.write_table(&table).await,
            None => Ok(()),
        }
    }

    /// Drops one reference to all that an L1 table leads to, which nothing on disk leads to any more by this table. Tells
    /// of the first that could not be dropped; the others are.
    pub(super) async fn unshare(self: &Arc<Self>, l1: &[u64]) -> Result<()> {
        let mut result = Ok(());
        for word in l1.iter().filter(|word| **word != 0) {
            result = result.and(self.unshare_table(*word).await);
        }
        result
    }

    async fn unshare_table(self: &Arc<Self>, word: u64) -> Result<()> {
        let table = self.read_table(word).await?;
        let mut runs = self.runs_of(&table);
        runs.push(Run { start: self.g().cluster(table.host), count: 1 });
        let given_up = runs.into_iter().map(|run| GivenUp { run, cause: Cause::Snapshot }).collect();
        self.order.release_blocks(&**self, given_up).await
    }

    /// Sets COPIED where clusters are counted once: in the tables of those indexes that are asked for, and in the active L1
    /// table, of which `l1` is the beginning.
    pub(super) async fn own_again(
        &self,
        mut l1: Vec<u64>,
        asked: impl Fn(usize) -> bool + Send + Sync,
    ) -> Result<()> {
        let mut changed = false;
        for (_, word) in l1.iter_mut().enumerate().filter(|(index, word)| **word != 0 && asked(*index)) {
            if self.own_table(*word).await? {
                changed |= *word & COPIED == 0;
                *word |= COPIED;
            }
        }
        let place = self.header.read().l1_offset;
        if changed { self.write_words(place, &l1).await } else { Ok(()) }
    }

    /// Sets COPIED in one L2 table; tells whether the table itself is counted once.
    async fn own_table(&self, word: u64) -> Result<bool> {
        let mut table = self.read_table(word).await?;
        if self.counted_once(&[table.host]).await? != [true] {
            return Ok(false);
        }
        let hosts: Vec<u64> = table.entries.iter().map(|entry| self.own_host(*entry)).collect();
        let once = self.counted_once(&hosts).await?;
        let mut changed = false;
        for (entry, _) in table.entries.iter_mut().zip(once).filter(|(_, once)| *once) {
            changed |= entry.word & COPIED == 0;
            entry.word |= COPIED;
        }
        if changed {
            self.write_table(&table).await?;
        }
        Ok(true)
    }

    /// The cluster that an entry could own; 0 for none.
    fn own_host(&self, stored: Stored) -> u64 {
        match Entry::of(stored, self.g()) {
            Entry::Data { host, .. }
            | Entry::Zero { host: Some(host), .. }
            | Entry::Split { host: Some(host), .. } => host,
            _ => 0,
        }
    }

    /// Which of these clusters, told by their offsets, are counted once; 0 is none.
    async fn counted_once(&self, hosts: &[u64]) -> Result<Vec<bool>> {
        let (g, _alloc) = (self.g(), self.alloc.lock().await);
        let mut once = Vec::with_capacity(hosts.len());
        let mut held = None;
        for cluster in hosts.iter().map(|host| g.cluster(*host)) {
            let page = cluster / g.counts_per_page();
            if cluster == 0 {
                once.push(false);
                continue;
            }
            if held.as_ref().is_none_or(|(number, _)| *number != page) {
                held = Some((page, self.count_page(cluster).await?));
            }
            let counts = held.as_ref().and_then(|(_, counts)| counts.as_ref());
            once.push(counts.is_some_and(|counts| counts.get(cluster) == 1));
        }
        Ok(once)
    }

    /// Counts one more reference to each cluster of a run; those that were counted come to `counted`, also where it fails.
    pub(in crate::qcow2) async fn count_once_more(&self, run: Run, counted: &mut Vec<Run>) -> Result<()> {
        let alloc = self.alloc.lock().await;
        let max = self.header.read().refcount_max();
        let mut at = run.start;
        while at < run.end() {
            let Some(counts) = self.count_page_to_change(at).await? else { return Err(self.not_counted(at)) };
            let (first, end) = (at, run.end().min(counts.first + self.g().counts_per_page()));
            let mut failed = None;
            while at < end && failed.is_none() {
                match counts.get(at) {
                    0 => failed = Some(self.not_counted(at)),
                    count if count >= max => failed = Some(self.overflow(max)),
                    count => {
                        counts.set(at, count + 1);
                        at += 1;
                    }
                }
            }
            self.counts.dirty.mark(&counts.page);
            counted.push(Run { start: first, count: at - first });
            if let Some(error) = failed {
                return Err(error);
            }
        }
        self.write_back_if_crowded(&alloc).await
    }

    /// Writes counts where too many of them wait. Counts that are too high do no harm.
    async fn write_back_if_crowded(&self, _held: &Alloc) -> Result<()> {
        if self.counts.is_crowded(self.g().page_words()) {
            self.counts.write_back(&self.order.file).await?;
        }
        Ok(())
    }

    fn not_counted(&self, cluster: u64) -> BlockError {
        let at = cluster << self.g().cluster_bits;
        BlockError::corrupt(format!(
            "the refcounts call the cluster at {at:#x} free that a table leads to; 'cairn img check -r all' repairs them"
        ))
    }

    fn overflow(&self, max: u64) -> BlockError {
        let bits = self.header.read().refcount_bits();
        let text = format!(
            "a cluster would have more references than refcounts of {bits} bits can count ({max}); images with wider \
             refcounts ('refcount_bits') can have more snapshots"
        );
        BlockError::new(ErrorKind::Limit, text)
    }

    /// Whether an L1 word leads to where a table can be.
    pub(in crate::qcow2) fn check_l1_word(&self, word: u64) -> Result<()> {
        let (host, length) = (word & OFFSET_MASK, self.order.file.node()?.length());
        if word & !(OFFSET_MASK | COPIED) != 0 || self.g().within(host) != 0 || host == 0 || host >= length {
            return Err(BlockError::corrupt(format!(
                "the L1 entry {word:#x} leads to no L2 table; 'cairn img check -r all' may repair the image"
            )));
        }
        Ok(())
    }

    /// The table that an L1 word leads to, all of whose entries can be followed.
    pub(in crate::qcow2) async fn read_table(&self, word: u64) -> Result<Table> {
        let (g, host) = (self.g(), word & OFFSET_MASK);
        let length = self.order.file.node()?.length();
        let wrong = |why: String| {
            BlockError::corrupt(format!("{why}; 'cairn img check -r all' may repair the image"))
        };
        let cluster = g.cluster(host);
        self.check_l1_word(word)?;
        if let Some(what) = self.overlap.named_at(&(cluster..cluster + 1)) {
            return Err(wrong(format!("the L2 table at {host:#x} would overlap the {what}")));
        }
        let bytes = self.order.file.read(host, g.cluster_size()).await?;
        let entries: Vec<Stored> = g.stored_in(&bytes).collect();
        let clusters = g.clusters(length);
        let leads_nowhere = |stored: &&Stored| {
            let entry = Entry::of(**stored, g);
            matches!(entry, Entry::Bad(_)) || entry.host_clusters(g).is_some_and(|run| run.start >= clusters)
        };
        match entries.iter().find(leads_nowhere) {
            Some(Stored { word, .. }) => {
                Err(wrong(format!("the L2 table at {host:#x} has the wrong entry {word:#x}")))
            }
            None => Ok(Table { host, entries }),
        }
    }

    /// Runs of the clusters that a table's entries refer to, once for each reference.
    fn runs_of(&self, table: &Table) -> Vec<Run> {
        let g = self.g();
        let mut runs: Vec<Run> = Vec::new();
        for run in table.entries.iter().filter_map(|entry| Entry::of(*entry, g).host_clusters(g)) {
            match runs.last_mut() {
                Some(last) if last.end() == run.start => last.count += run.count,
                _ => runs.push(run),
            }
        }
        runs
    }

    pub(in crate::qcow2) async fn write_table(&self, table: &Table) -> Result<()> {
        let words: Vec<u64> = table.entries.iter().flat_map(|entry| entry.words(self.g())).collect();
        self.order.file.overwrite(table.host, Be64::bytes(&words).freeze()).await
    }
}
