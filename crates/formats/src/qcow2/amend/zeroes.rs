//! Zero clusters become what version 2 has too: holes, or data of zeroes where a backing file would show.
//!
//! ```text
//!  {zeroes in clusters of their own, counted} · flush · {entries, in place} · flush · {clusters that they reserved, counted down}
//! ```
//!
//! Every L2 table is changed once, whichever disk and snapshots lead to it, and shows the same before and after. A cluster
//! gets and gives up as many references as L1 entries lead to the table.
//!
//! Bounds: memory is a word for each L2 table; at most [`BATCH`] bytes of tables are changed at a time.
use crate::qcow2::directory::room_for_tables;
use crate::qcow2::entry::{Entry, Stored};
use crate::qcow2::header::{COPIED, OFFSET_MASK};
use crate::qcow2::image::Image;
use crate::qcow2::snapshots::{Snapshot, Table};
use block::metacache::{Cause, GivenUp, Reserved, Run};
use block::{BlockError, ErrorKind, Request, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of tables that wait for a flush together.
const BATCH: u64 = 1 << 20;

/// Most L2 tables of an image whose zero clusters are looked for.
const MOST_TABLES: usize = 1 << 24;

/// Who leads to an L2 table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Users {
    /// L1 entries.
    count: u64,
    /// One of them is the active disk's.
    active: bool,
}

/// L2 tables by their offsets.
pub(super) type Tables = BTreeMap<u64, Users>;

/// Changes that wait for their flushes.
#[derive(Default)]
struct Batch {
    tables: Vec<Table>,
    places: Vec<Reserved>,
    /// What loses how many references.
    gone: Vec<(Run, u64)>,
}

impl Image {
    /// All L2 tables that have zero clusters. What can't be followed is an error.
    pub(super) async fn tables_with_zeroes(&self, snapshots: &[Snapshot]) -> Result<Tables> {
        let mut tables = self.all_tables(snapshots).await?;
        let mut without = Vec::new();
        for host in tables.keys() {
            let table = self.read_table(*host).await?;
            if !table.entries.iter().any(|entry| self.is_zero(*entry)) {
                without.push(*host);
            }
        }
        without.iter().for_each(|host| _ = tables.remove(host));
        Ok(tables)
    }

    /// All L2 tables, of the disk and of snapshots.
    async fn all_tables(&self, snapshots: &[Snapshot]) -> Result<Tables> {
        let header = self.header.read().clone();
        let file = self.order.file.node()?;
        let file_len = file.length();
        let mut lists: BTreeMap<(u64, u32), u64> = BTreeMap::new();
        for snapshot in snapshots {
            *lists.entry((snapshot.l1_offset, snapshot.l1_entries)).or_default() += 1;
        }
        let bytes: u64 = lists.keys().map(|(_, entries)| u64::from(*entries) * 8).sum();
        if bytes > room_for_tables(&file) {
            return Err(BlockError::corrupt("the L1 tables of the snapshots overlap"));
        }
        let mut tables = Tables::new();
        let active = ((header.l1_offset, header.l1_entries), 1, true);
        let kept = lists.into_iter().map(|(list, times)| (list, times, false));
        for ((place, entries), times, active) in std::iter::once(active).chain(kept) {
            let mut list = header.clone();
            (list.l1_offset, list.l1_entries) = (place, entries);
            list.check_l1(file_len).map_err(BlockError::from)?;
            for word in self.read_l1(place, entries).await?.into_iter().filter(|word| *word != 0) {
                self.check_l1_word(word)?;
                let users = tables.entry(word & OFFSET_MASK).or_default();
                users.count += times;
                users.active |= active;
            }
            if tables.len() > MOST_TABLES {
                let text = "the image has too many tables for this; rewrite it with 'convert'";
                return Err(BlockError::new(ErrorKind::Limit, text));
            }
        }
        Ok(tables)
    }

    fn is_zero(&self, entry: Stored) -> bool {
        matches!(Entry::of(entry, self.g()), Entry::Zero { .. })
    }

    /// Replaces all zero clusters of these tables, to which some of `whole` L1 entries lead.
    pub(super) async fn expand_zeroes(
        self: &Arc<Self>,
        tables: &Tables,
        whole: u64,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<()> {
        let most = (BATCH >> self.g().cluster_bits).max(1) as usize;
        let mut batch = Batch::default();
        // With the others there is nothing to do.
        let mut done = whole.saturating_sub(tables.values().map(|users| users.count).sum());
        (1..=done).step_by((whole as usize / 100).max(1)).for_each(|done| progress(done, whole));
        for (host, users) in tables {
            let mut table = self.read_table(*host).await?;
            self.expand_table(&mut table, *users, &mut batch).await?;
            batch.tables.push(table);
            if batch.tables.len() >= most {
                self.commit(std::mem::take(&mut batch)).await?;
            }
            (1..=users.count).for_each(|more| progress(done + more, whole));
            done += users.count;
        }
        self.commit(batch).await
    }

    /// Sets the entries of a table in memory.
    async fn expand_table(&self, table: &mut Table, users: Users, batch: &mut Batch) -> Result<()> {
        let (g, backed) = (self.g(), self.shows_backing());
        let mut rest = table.entries.as_mut_slice();
        while let Some(first) = rest.iter().position(|entry| self.is_zero(*entry)) {
            let (_, from) = std::mem::take(&mut rest).split_at_mut(first);
            let own = |entry: &Stored| match Entry::of(*entry, g) {
                Entry::Zero { host, owned } => Some(host.filter(|_| backed && owned && users.count == 1)),
                _ => None,
            };
            if let Some(Some(host)) = from.first().and_then(own) {
                // It has a cluster that nobody else uses.
                self.write_zeroes(Run { start: g.cluster(host), count: 1 }).await?;
                from.iter_mut().take(1).for_each(|entry| entry.word = g.owned(host));
                rest = from.get_mut(1..).unwrap_or_default();
                continue;
            }
            let most = from.iter().take_while(|entry| own(entry) == Some(None)).count();
            let run = if backed { Some(self.take_zeroes(most as u64, users, batch).await?) } else { None };
            let count = run.map_or(most, |run| run.count as usize);
            let (now, later) = from.split_at_mut(count);
            for (i, entry) in (0..).zip(now) {
                if let Some(gone) = Entry::of(*entry, g).host_clusters(g) {
                    batch.gone.push((gone, users.count));
                }
                let flag = if users.active && users.count == 1 { COPIED } else { 0 };
                let word = run.map_or(0, |run| (run.start + i) << g.cluster_bits | flag);
                *entry = Stored { word, bitmap: 0 };
            }
            rest = later;
        }
        Ok(())
    }

    /// Takes clusters, at most `most`, for a table that so many lead to, and writes zeroes into them.
    async fn take_zeroes(&self, most: u64, users: Users, batch: &mut Batch) -> Result<Run> {
        let found = self.allocate(most).await?;
        let run = found.reserved.run();
        self.write_zeroes(run).await?;
        for _ in 1..users.count {
            self.count_once_more(run, &mut Vec::new()).await?;
        }
        batch.places.push(found.reserved);
        Ok(run)
    }

    async fn write_zeroes(&self, run: Run) -> Result<()> {
        let bits = self.g().cluster_bits;
        let file = self.order.file.node()?;
        file.write_zeroes(run.start << bits, run.count << bits, Request::DRIVER).await
    }

    /// Makes changes durable, each after what it leads to.
    async fn commit(self: &Arc<Self>, batch: Batch) -> Result<()> {
        let Batch { tables, places, mut gone } = batch;
        if tables.is_empty() {
            return Ok(());
        }
        self.cover_clusters().await?;
        self.counts.write_back(&self.order.file).await?;
        self.order.file.flush().await?;
        // Entries may lead there from here on.
        places.into_iter().for_each(|place| _ = place.keep());
        for table in &tables {
            self.write_table(table).await?;
        }
        self.order.file.flush().await?;
        while !gone.is_empty() {
            let once = gone.iter().map(|(run, _)| GivenUp { run: *run, cause: Cause::Replaced }).collect();
            self.order.release_blocks(&**self, once).await?;
            gone.iter_mut().for_each(|(_, times)| *times -= 1);
            gone.retain(|(_, times)| *times > 0);
        }
        Ok(())
    }
}
