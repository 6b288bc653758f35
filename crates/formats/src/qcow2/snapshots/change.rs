//! Making, applying and deleting a snapshot.
//!
//! ```text
//!  create: {dirty bit} · flush · {counts up, COPIED off, L1 copy, table} · flush · {header: table, dirty bit off} · flush
//!  apply:                        {counts up, COPIED off, new L1} · flush · {header: L1, size} · flush · {counts down}
//!  delete: {table} · flush · {header: table, dirty bit} · flush · {counts down, COPIED on} · flush · {dirty bit off} · flush
//! ```
//!
//! Laws, beside those of the format:
//! - the write of the header's first sector is the change: before it the image is the old one, with clusters counted too
//!   often at most; after it the new one, in the same way;
//! - COPIED and counts can't change in one write. Where they disagree on disk, the dirty bit says so (version 3): whoever
//!   writes next makes both anew. What they disagree about does no harm without it (version 2): COPIED is never set on
//!   what two tables on disk lead to;
//! - what fails before the header's write is undone; what fails after it leaves a leak, and a warning.
use super::{
    Entry, MAX_TABLE_BYTES, Snapshot, Snapshots as List, encode, encoded_bytes, read_entries, table_bytes,
};
use crate::qcow2::driver::Qcow2;
use crate::qcow2::header::{Header, INCOMPATIBLE_DIRTY, OFFSET_MASK};
use crate::qcow2::image::Image;
use api::SnapshotInfo;
use block::metacache::{Be64, Cause, Codec, GivenUp, Order, Reserved, Run};
use block::{BlockError, ErrorKind, NewSnapshot, Result, Snapshots};
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// Bytes of a table written at a time.
const PIECE: usize = 1 << 20;

/// Most snapshots that are made in an image.
const MOST: usize = 65_535;

/// A change of the header that waits for its flush, and what is undone if it does not come to that.
struct Prepared {
    /// The clusters that the header will lead to.
    places: Vec<Reserved>,
    /// The L1 words whose targets are counted once more.
    shared: Vec<u64>,
    /// They are the active disk's, so that COPIED comes back when the counts go down again.
    active: bool,
}

impl Snapshots for Qcow2 {
    fn create(&self, new: NewSnapshot) -> BoxFuture<'_, Result<SnapshotInfo>> {
        Box::pin(async move {
            let image = &self.image;
            let mut entries = self.entries().await?;
            if entries.len() >= MOST {
                let text = format!("the image has {MOST} internal snapshots already; no more are made");
                return Err(BlockError::new(ErrorKind::Limit, text));
            }
            let header = image.header.read().clone();
            entries.push(Entry::new(&new, &free_id(&entries), image.size.load(Acquire))?);
            entries.iter_mut().for_each(|entry| entry.complete_for(&header));
            self.begin().await?;
            let was_dirty = self.set_dirty().await?;
            let mut prepared = Prepared { places: Vec::new(), shared: Vec::new(), active: true };
            let made = image.prepare_create(&mut entries, &mut prepared).await;
            let switched = match made {
                Ok(table) => {
                    let switch = |h: &mut Header| {
                        (h.snapshots_offset, h.snapshot_count) = (table, entries.len() as u32);
                        h.set_incompatible(INCOMPATIBLE_DIRTY, was_dirty);
                    };
                    image.switch_header(switch).await
                }
                Err(error) => Err(error),
            };
            let settled = image.keep_or_undo(prepared, &switched).await;
            if let Err(error) = switched {
                self.clear_dirty(was_dirty, settled).await;
                return Err(error);
            }
            self.take_entries(&entries).await;
            let gone = image.give_back(&header).await;
            image.warn_of_leak(gone);
            let info = entries.last().map(|entry| entry.snapshot().describe());
            info.ok_or_else(|| BlockError::invalid("the new snapshot is gone"))
        })
    }

    fn apply(&self, index: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let image = &self.image;
            let entries = self.entries().await?;
            let entry = entries.get(index).ok_or_else(gone)?;
            self.begin().await?;
            let header = image.header.read().clone();
            let old = image.read_l1(header.l1_offset, header.l1_entries).await?;
            let mut prepared = Prepared { places: Vec::new(), shared: Vec::new(), active: false };
            let switched = match image.prepare_apply(entry, &mut prepared).await {
                Ok((place, l1_entries, size)) => {
                    let switch =
                        |h: &mut Header| (h.l1_offset, h.l1_entries, h.size) = (place, l1_entries, size);
                    image.switch_header(switch).await
                }
                Err(error) => Err(error),
            };
            image.keep_or_undo(prepared, &switched).await;
            switched?;
            image.size.store(image.header.read().virtual_size(), Release);
            image.forget_tables();
            let mut dropped = image.unshare(&old).await;
            dropped = dropped.and(image.give_up_table(header.l1_offset, header.l1_bytes()).await);
            image.warn_of_leak(dropped);
            Ok(())
        })
    }

    fn delete(&self, index: usize) -> BoxFuture<'_, Result<SnapshotInfo>> {
        Box::pin(async move {
            let image = &self.image;
            let mut entries = self.entries().await?;
            let entry = entries.get(index).ok_or_else(gone)?.clone();
            entries.remove(index);
            self.begin().await?;
            // Also the dirty bit that lazy refcounts need from the first write on is there by now.
            let header = image.header.read().clone();
            entries.iter_mut().for_each(|entry| entry.complete_for(&header));
            let was_dirty = header.is_dirty();
            let switch = |h: &mut Header| h.set_incompatible(INCOMPATIBLE_DIRTY, true);
            self.replace_entries(&entries, switch).await?;
            let dropped = image.drop_snapshot(&entry).await;
            let agrees = dropped.is_ok();
            let freed = dropped.and(image.give_back(&header).await);
            self.clear_dirty(was_dirty, agrees).await;
            let told = |error: BlockError| {
                tracing::error!(image = image.order.file.name(), %error, "the deleted snapshot left a leak");
                let text = format!("Failed to free the cluster and L1 table: {}", error.strerror());
                BlockError::new(error.kind(), text)
            };
            freed.map(|()| entry.snapshot().describe()).map_err(told)
        })
    }

    fn show(&self, index: usize) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let image = &self.image;
            if image.order.access.writable() {
                let text = "a snapshot can only be shown of an image that is opened read-only";
                return Err(BlockError::invalid(text));
            }
            let entries = self.entries().await?;
            let entry = entries.get(index).ok_or_else(gone)?;
            let (snapshot, disk_size) = (entry.snapshot(), entry.disk_size());
            let mut shown = image.header.read().clone();
            shown.l1_offset = snapshot.l1_offset;
            shown.l1_entries = snapshot.l1_entries;
            shown.size = disk_size.unwrap_or(shown.size);
            shown.check_tables(image.order.file.node()?.length()).map_err(BlockError::from)?;
            image.shows_snapshot.store(true, Release);
            image.size.store(shown.virtual_size(), Release);
            image.overlap.rename(&shown);
            *image.header.write() = shown;
            image.forget_tables();
            Ok(())
        })
    }

    fn read_state(&self, offset: u64, mut buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            let read = self.image.read_state(offset, &mut buf).await;
            (buf, read)
        })
    }

    fn write_state(&self, offset: u64, data: Buf) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { self.image.write_state(offset, data).await })
    }
}

impl Qcow2 {
    /// The entries as they are stored.
    async fn entries(&self) -> Result<Vec<Entry>> {
        let header = self.image.header.read().clone();
        read_entries(&self.image.order.file.node()?, &header).await
    }

    /// Gives all snapshots what version 3 demands of them, in a table of its own. No request is inside, and no table waits
    /// for anything ([`Qcow2::settle_tables`]).
    pub(in crate::qcow2) async fn complete_entries(&self) -> Result<()> {
        let mut entries = self.entries().await?;
        if entries.iter().all(Entry::is_complete) {
            return Ok(());
        }
        let header = self.image.header.read().clone();
        let incomplete = entries.iter_mut().filter(|entry| !entry.is_complete());
        incomplete.for_each(|entry| entry.complete(header.virtual_size()));
        self.replace_entries(&entries, |_| {}).await?;
        let gone = self.image.give_back(&header).await;
        self.image.warn_of_leak(gone);
        Ok(())
    }

    /// Whether version 2 can tell all that the snapshots of a disk of `size` bytes say: it knows of no disk of another size,
    /// and of less than 4 GiB of machine state.
    pub(in crate::qcow2) async fn entries_fit_version_2(&self, size: u64) -> Result<bool> {
        let fits = |entry: &Entry| {
            u32::try_from(entry.vm_state_size()).is_ok() && entry.disk_size().is_none_or(|disk| disk == size)
        };
        Ok(self.entries().await?.iter().all(fits))
    }

    /// Has the header lead to a new table with these entries. The old one stays counted.
    async fn replace_entries(&self, entries: &[Entry], switch: impl FnOnce(&mut Header)) -> Result<()> {
        let image = &self.image;
        let mut prepared = Prepared { places: Vec::new(), shared: Vec::new(), active: true };
        let switched = match image.prepare_table(entries, &mut prepared).await {
            Ok(table) => {
                let switch = |h: &mut Header| {
                    (h.snapshots_offset, h.snapshot_count) = (table, entries.len() as u32);
                    switch(h);
                };
                image.switch_header(switch).await
            }
            Err(error) => Err(error),
        };
        image.keep_or_undo(prepared, &switched).await;
        switched?;
        self.take_entries(entries).await;
        Ok(())
    }

    /// Before a change: the image says that it is written to, and none of its tables waits for anything.
    async fn begin(&self) -> Result<()> {
        self.image.without_data_file("internal snapshots")?;
        self.settle_tables().await
    }

    /// The image says that it is written to, and none of its tables waits for anything.
    pub(in crate::qcow2) async fn settle_tables(&self) -> Result<()> {
        self.image.first_write().await?;
        Order::settle(&self.image).await?;
        self.image.forget_tables();
        Ok(())
    }

    /// Says durably that COPIED and counts may disagree; tells whether the image said so before.
    async fn set_dirty(&self) -> Result<bool> {
        let image = &self.image;
        let was = image.header.read().is_dirty();
        if !was && image.header.read().version >= 3 {
            image.change_header(|h| h.set_incompatible(INCOMPATIBLE_DIRTY, true)).await?;
            image.order.file.flush().await?;
        }
        Ok(was)
    }

    /// After a change: lets the disk say that COPIED and counts agree again, if they do.
    async fn clear_dirty(&self, was: bool, agrees: bool) {
        let image = &self.image;
        if !agrees {
            image.disagrees.store(true, Release);
        }
        if image.disagrees.load(Acquire) || was || image.order.file.unharmed().is_err() {
            return;
        }
        let cleared = async {
            image.counts.write_back(&image.order.file).await?;
            image.order.file.flush().await?;
            image.change_header(|h| h.set_incompatible(INCOMPATIBLE_DIRTY, false)).await?;
            image.order.file.flush().await
        };
        if let Err(error) = cleared.await {
            tracing::warn!(image = image.order.file.name(), %error, "the image stays marked as not closed");
        }
    }

    /// Takes over the table that the header leads to now.
    async fn take_entries(&self, entries: &[Entry]) {
        let image = &self.image;
        let list: Vec<Snapshot> = entries.iter().map(Entry::snapshot).collect();
        let snapshots = List { list, table_bytes: encoded_bytes(entries) };
        image.overlap.set_snapshots(&snapshots);
        self.listed.write().snapshots = snapshots;
        let asked = image.settings.read().checks.has("inactive-l2");
        match self.inactive_tables(asked).await {
            Ok(tables) => image.overlap.set_inactive(tables),
            Err(error) => tracing::warn!(image = image.order.file.name(), %error,
                "the L2 tables of snapshots are not known, and not checked for"),
        }
        image.forget_tables();
    }
}

impl Image {
    /// The L1 copy and the table of a new snapshot, the last of `entries`; tells where the table is. All that the header
    /// may lead to afterwards is in the file, and counted.
    async fn prepare_create(self: &Arc<Self>, entries: &mut [Entry], prepared: &mut Prepared) -> Result<u64> {
        let (place, l1_entries) = {
            let header = self.header.read();
            (header.l1_offset, header.l1_entries)
        };
        let old = self.read_l1(place, l1_entries).await?;
        let copy = self.reserve_table(u64::from(l1_entries) * 8, prepared).await?;
        if let Some(new) = entries.last_mut() {
            new.set_l1(copy, l1_entries);
        }
        let table = self.prepare_table(entries, prepared).await?;
        let shared = self.share_into(old.clone(), prepared).await?;
        self.write_words(copy, &shared).await?;
        if shared != old {
            self.write_words(place, &shared).await?;
        }
        Ok(table)
    }

    /// The L1 table of a disk that is what a snapshot shows: where it is, its entries, and the disk's size.
    async fn prepare_apply(
        self: &Arc<Self>,
        entry: &Entry,
        prepared: &mut Prepared,
    ) -> Result<(u64, u32, u64)> {
        let snapshot = entry.snapshot();
        let size = entry.disk_size().unwrap_or_else(|| self.header.read().size);
        let mut shown = self.header.read().clone();
        (shown.l1_offset, shown.l1_entries) = (snapshot.l1_offset, snapshot.l1_entries);
        shown.check_l1(self.order.file.node()?.length()).map_err(BlockError::from)?;
        let needed = shown.l1_entries_for(size).filter(|_| size <= i64::MAX as u64);
        let needed = needed.ok_or_else(|| {
            BlockError::corrupt(format!(
                "the snapshot's disk of {size} bytes needs a larger L1 table than there can be"
            ))
        })?;
        let l1_entries = needed.max(u64::from(snapshot.l1_entries));
        let place = self.reserve_table(l1_entries * 8, prepared).await?;
        let old = self.read_l1(snapshot.l1_offset, snapshot.l1_entries).await?;
        let mut words = self.share_into(old, prepared).await?;
        words.iter_mut().for_each(|word| *word &= OFFSET_MASK);
        words.resize((self.g().clusters(l1_entries * 8) << self.g().cluster_bits) as usize / 8, 0);
        self.write_words(place, &words).await?;
        Ok((place, l1_entries as u32, size))
    }

    /// A new snapshot table with these entries; 0 for none.
    async fn prepare_table(self: &Arc<Self>, entries: &[Entry], prepared: &mut Prepared) -> Result<u64> {
        let bytes = encoded_bytes(entries);
        if bytes > MAX_TABLE_BYTES {
            let text = "the table of internal snapshots would exceed 64 MiB";
            return Err(BlockError::new(ErrorKind::Limit, text));
        }
        let place = self.reserve_table(bytes, prepared).await?;
        for (at, piece) in (place..).step_by(PIECE).zip(encode(entries).chunks(PIECE)) {
            self.order.file.write(at, Buf::from_slice(piece)).await?;
        }
        Ok(place)
    }

    /// Takes clusters for a table; tells where they are, 0 for an empty one.
    async fn reserve_table(&self, bytes: u64, prepared: &mut Prepared) -> Result<u64> {
        let clusters = self.g().clusters(bytes);
        if clusters == 0 {
            return Ok(0);
        }
        let reserved = self.allocate_whole(clusters).await?;
        let place = reserved.run().start << self.g().cluster_bits;
        prepared.places.push(reserved);
        Ok(place)
    }

    /// Counts what L1 words lead to once more; `prepared` knows what is counted. Tells the words without COPIED.
    async fn share_into(self: &Arc<Self>, mut l1: Vec<u64>, prepared: &mut Prepared) -> Result<Vec<u64>> {
        let shared = self.share(&mut l1).await;
        prepared.shared = l1.clone();
        shared.map(|()| l1).map_err(|(done, error)| {
            prepared.shared.truncate(done);
            error
        })
    }

    /// Makes all that is prepared durable, and then the change of the header. Where it fails, the header is the old one; on
    /// disk too, unless that is in doubt still, or nothing is written any more.
    pub(in crate::qcow2) async fn switch_header(
        self: &Arc<Self>,
        switch: impl FnOnce(&mut Header),
    ) -> Result<()> {
        self.cover_clusters().await?;
        self.counts.write_back(&self.order.file).await?;
        self.order.file.flush().await?;
        let old = self.header.read().clone();
        let stored = match self.change_header(switch).await {
            Ok(()) => self.order.file.flush().await,
            Err(error) => Err(error),
        };
        if stored.is_err() {
            // A flush that failed came after the change.
            self.overlap.rename(&old);
            *self.header.write() = old;
            if let Err(error) = self.sure_header().await {
                tracing::warn!(image = self.order.file.name(), %error, "the header on disk may be the old or the new one");
            }
        }
        stored
    }

    /// Keeps what was prepared if the header leads to it, or may lead to it; counts down again what it does not lead to after
    /// all. Tells whether counts and COPIED agree as well as before.
    async fn keep_or_undo(self: &Arc<Self>, prepared: Prepared, switched: &Result<()>) -> bool {
        let done = switched.is_ok();
        if done || self.order.file.unharmed().is_err() || self.sure_header().await.is_err() {
            prepared.places.into_iter().for_each(|place| _ = place.keep());
            return done;
        }
        let Prepared { places, shared, active } = prepared;
        drop(places);
        let mut undone = self.unshare(&shared).await;
        if active && undone.is_ok() {
            undone = self.own_again(shared, |_| true).await;
        }
        self.forget_tables();
        let done = undone.is_ok();
        self.warn_of_leak(undone);
        done
    }

    /// Drops what a snapshot held that the header does not lead to any more, and lets the active disk own what is its alone
    /// again.
    async fn drop_snapshot(self: &Arc<Self>, entry: &Entry) -> Result<()> {
        let snapshot = entry.snapshot();
        let mut held = self.header.read().clone();
        (held.l1_offset, held.l1_entries) = (snapshot.l1_offset, snapshot.l1_entries);
        held.check_l1(self.order.file.node()?.length()).map_err(BlockError::from)?;
        let l1 = self.read_l1(snapshot.l1_offset, snapshot.l1_entries).await?;
        let dropped = self.unshare(&l1).await;
        let bytes = u64::from(snapshot.l1_entries) * 8;
        let dropped = dropped.and(self.give_up_table(snapshot.l1_offset, bytes).await);
        let (place, entries) = {
            let header = self.header.read();
            (header.l1_offset, header.l1_entries)
        };
        let active = self.read_l1(place, entries).await?;
        // What the two shared, they shared at the same place of the disk.
        self.own_again(active, |index| l1.get(index).is_some_and(|word| *word != 0)).await?;
        dropped
    }

    /// Frees the snapshot table that `old` led to.
    async fn give_back(self: &Arc<Self>, old: &Header) -> Result<()> {
        if old.snapshot_count == 0 {
            return Ok(());
        }
        let bytes = table_bytes(&self.order.file.node()?, old).await?;
        self.give_up_table(old.snapshots_offset, bytes).await
    }

    /// Frees the clusters of a table that nothing leads to any more.
    async fn give_up_table(self: &Arc<Self>, place: u64, bytes: u64) -> Result<()> {
        let (g, count) = (self.g(), self.g().clusters(bytes));
        if count == 0 {
            return Ok(());
        }
        let run = Run { start: g.cluster(place), count };
        self.order.release_blocks(&**self, vec![GivenUp { run, cause: Cause::Dropped }]).await
    }

    /// Reads an L1 table, whose entries lead to different L2 tables: all of them together are no longer than the file then.
    pub(in crate::qcow2) async fn read_l1(&self, place: u64, entries: u32) -> Result<Vec<u64>> {
        if entries == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.order.file.read(place, u64::from(entries) * 8).await?;
        let words: Vec<u64> = Be64::words(&bytes).collect();
        let mut hosts: Vec<u64> =
            words.iter().map(|word| word & OFFSET_MASK).filter(|host| *host != 0).collect();
        hosts.sort_unstable();
        if !hosts.is_sorted_by(|one, next| one < next) {
            return Err(BlockError::corrupt(format!(
                "several entries of the L1 table at {place:#x} lead to the same L2 table, as no program makes them; 'convert' \
                 makes a copy of the disk that can be changed"
            )));
        }
        Ok(words)
    }

    pub(super) async fn write_words(&self, place: u64, words: &[u64]) -> Result<()> {
        if words.is_empty() {
            return Ok(());
        }
        self.order.file.overwrite(place, Be64::bytes(words).freeze()).await
    }

    /// Forgets all tables: what they lead to has other owners now. None is dirty.
    pub(in crate::qcow2) fn forget_tables(&self) {
        self.order.tables.clear();
        self.forget_ahead();
    }

    fn warn_of_leak(&self, result: Result<()>) {
        if let Err(error) = result {
            let image = self.order.file.name();
            self.notices.warn(&format!(
                "clusters of '{image}' that are no longer needed stay in use until 'cairn img check -r all {image}' frees \
                 them ({error})"
            ));
        }
    }
}

/// A number that is no snapshot's id: one more than the largest.
fn free_id(entries: &[Entry]) -> String {
    let number = |entry: &Entry| String::from_utf8_lossy(&entry.id).parse::<u64>().unwrap_or(0);
    let largest = entries.iter().map(number).max().unwrap_or(0);
    let taken = |id: &String| entries.iter().any(|entry| entry.id == id.as_bytes());
    (0..=entries.len() as u64)
        .map(|more| largest.wrapping_add(1).wrapping_add(more).to_string())
        .find(|id| !taken(id))
        .unwrap_or_default()
}

fn gone() -> BlockError {
    BlockError::new(ErrorKind::NotFound, "there is no such snapshot any more")
}
