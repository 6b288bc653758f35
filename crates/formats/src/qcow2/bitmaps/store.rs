//! Storing bitmaps.
//!
//! ```text
//!  writable:  {entries of loaded ones marked as in use, in place} · flush
//!  first write: the same with the others
//!  closed:    epoch · {bits, tables, directory in new clusters; counts} · flush · {header} · flush · the old ones given up
//!             or, where no bit of any has changed: {marks taken off, in place} · flush
//!  removed:   {directory without it in new clusters; counts} · flush · {header} · flush · the old ones given up
//! ```
//!
//! A store that fails, as for lack of space, leaves the old directory, whose entries say that they are in use: the bitmaps are
//! lost, the data are not. So does an epoch that fails before it: data that were acknowledged, and perhaps copied by a backup
//! that cleared their bits, are not in the image then, and no bitmap would tell that.
use super::{
    Bitmap, FLAG_AUTO, FLAG_EXTRA_DATA_COMPATIBLE, FLAG_IN_USE, GRANULARITIES, MAX_BITMAPS,
    TYPE_DIRTY_TRACKING, encode, stored_bytes, table_entries,
};
use crate::qcow2::header::{BitmapsExtension, OFFSET_MASK};
use crate::qcow2::image::Image;
use block::metacache::{Be64, Cause, Codec, Format, GivenUp, Order, Reserved, Run};
use block::{BitmapStore, BlockError, DirtyBitmap, ErrorKind, NamedBitmap, Result};
use rt::{BoxFuture, BufMut};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// Bytes of bits written at a time.
const PIECE: u64 = 1 << 20;

/// What becomes of the bitmaps on disk where they can't be stored at the end.
pub(in super::super) const LOST: &str = "the bitmaps of the image that were in use are inconsistent now";

/// What becomes of a bitmap that records and could not be loaded.
const TOO_LATE: &str = "is inconsistent from now on: it could not be loaded, and misses what is written";

/// Which bitmaps on disk are marked as in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Marked {
    /// Those that are in memory.
    Loaded,
    /// Those that record and could not be loaded too: what is written now is missing in them.
    All,
}

/// Old clusters that are looked up to be freed, most: what is beyond that is left as a leak.
const MOST_FREED: u64 = 1 << 22;

impl Image {
    /// Whether all bitmaps that changes will be missing in on disk are marked there.
    pub(in super::super) fn bitmaps_are_marked(&self) -> bool {
        !self.bitmaps.are_maintained() || self.to_mark(&self.bitmaps.list(), Marked::All).is_empty()
    }

    /// The places in the list of those that must be marked. One that could not be loaded and does not record misses nothing.
    fn to_mark(&self, list: &[Bitmap], which: Marked) -> Vec<usize> {
        let live = self.bitmaps.live.all();
        let loaded: HashSet<&str> =
            live.iter().filter(|named| is_kept(named)).map(|named| named.name()).collect();
        let misses =
            |bitmap: &Bitmap| loaded.contains(bitmap.name()) || (which == Marked::All && bitmap.is_auto());
        let doubt = self.bitmaps.flags_in_doubt.load(Acquire);
        let unmarked =
            list.iter().enumerate().filter(|(_, bitmap)| (doubt || !bitmap.is_in_use()) && misses(bitmap));
        unmarked.map(|(place, _)| place).collect()
    }

    /// Marks bitmaps on disk as in use, durably. Those that are lost by that are told.
    pub(in super::super) async fn mark_bitmaps(&self, which: Marked) -> Result<()> {
        let _turn = self.bitmaps.turn.lock().await;
        let mut list = Vec::clone(&self.bitmaps.list());
        let places = self.to_mark(&list, which);
        if places.is_empty() {
            return Ok(());
        }
        if self.directory_is_shared() {
            // It is not written to, and the header says no more that it holds.
            self.bitmaps.take(None);
            return Ok(());
        }
        let mut lost = Vec::new();
        for place in places {
            let Some(bitmap) = list.get_mut(place) else { continue };
            bitmap.flags |= FLAG_IN_USE;
            if self.bitmaps.live.find(bitmap.name()).is_none_or(|named| !is_kept(&named)) {
                lost.push(bitmap.name.clone());
            }
        }
        self.overwrite_flags(list).await?;
        self.tell_each(lost.iter().map(|name| (&**name, TOO_LATE.to_owned())));
        Ok(())
    }

    /// Whether other metadata are where the directory is.
    fn directory_is_shared(&self) -> bool {
        let g = self.g();
        let shared = super::consistent(&self.header.read()).is_some_and(|directory| {
            let first = g.cluster(directory.directory_offset);
            let clusters = first..first.saturating_add(g.clusters(directory.directory_size));
            self.overlap.tables.overlapped(&clusters, |_| true).is_some()
        });
        shared || self.overlap.conflict().is_some()
    }

    /// Writes the directory again in its place, with other flags: each entry has the old ones or the new ones after a crash.
    async fn overwrite_flags(&self, list: Vec<Bitmap>) -> Result<()> {
        let Some(extension) = super::consistent(&self.header.read()) else { return Ok(()) };
        let bytes = BufMut::from_slice(&encode(&list));
        // Until all of it is done, and where it fails or nobody waits for it any more, either may be there.
        self.bitmaps.flags_in_doubt.store(true, Release);
        self.order.file.overwrite(extension.directory_offset, bytes.freeze()).await?;
        self.order.file.flush().await?;
        *self.bitmaps.list.write() = Arc::new(list);
        self.bitmaps.flags_in_doubt.store(false, Release);
        Ok(())
    }

    /// Stores all bitmaps that are to be kept, when all that they tell of is durable. Nobody changes the image meanwhile.
    pub(in super::super) async fn store_bitmaps(self: &Arc<Self>) -> Result<()> {
        let all = self.bitmaps.live.all();
        let mut live: HashMap<&str, &Arc<NamedBitmap>> =
            all.iter().filter(|named| is_kept(named)).map(|bitmap| (bitmap.name(), bitmap)).collect();
        if live.is_empty() {
            return Ok(());
        }
        Order::flush(self).await?;
        if !self.has_all_bits() {
            self.first_write_of_bitmaps().await?;
        }
        let _turn = self.bitmaps.turn.lock().await;
        let old = self.bitmaps.list();
        self.order.file.unharmed()?;
        if self.has_all_bits() {
            let unmarked = |bitmap: &Bitmap| match live.get(bitmap.name()) {
                Some(named) => bitmap.with_flags(named.is_enabled()),
                None => bitmap.clone(),
            };
            let list: Vec<_> = old.iter().map(unmarked).collect();
            let is_there = list == **old && !self.bitmaps.flags_in_doubt.load(Acquire);
            return if is_there { Ok(()) } else { self.overwrite_flags(list).await };
        }
        let mut new = NewList::default();
        for bitmap in old.iter() {
            let Some(named) = live.remove(bitmap.name()) else {
                new.list.push(bitmap.clone());
                continue;
            };
            let stored = self.write_bitmap(named, &mut new).await.map_err(|e| lost(named, &e))?;
            let (extra_bytes, stored_name) = (bitmap.extra_bytes, bitmap.stored.clone());
            let flags = stored.flags | bitmap.flags & FLAG_EXTRA_DATA_COMPATIBLE;
            new.list.push(Bitmap { flags, extra_bytes, stored: stored_name, ..stored });
            new.gone.push(bitmap.clone());
        }
        // The newest first, as other programs store them.
        for named in all.iter().rev().filter(|named| live.contains_key(named.name())) {
            let stored = self.write_bitmap(named, &mut new).await.map_err(|e| lost(named, &e))?;
            new.list.push(stored);
        }
        self.switch_directory(new).await?;
        all.iter().filter(|named| is_kept(named)).for_each(|named| named.bits().call_stored());
        Ok(())
    }

    /// Whether the bits of all bitmaps that are to be kept are in the image already.
    fn has_all_bits(&self) -> bool {
        let (old, live) = (self.bitmaps.list(), self.bitmaps.live.all());
        let known: HashSet<&str> = old.iter().map(Bitmap::name).collect();
        let stored = |named: &NamedBitmap| known.contains(named.name()) && !named.bits().is_changed();
        live.iter().filter(|named| is_kept(named)).all(|named| stored(named))
    }

    /// Writes bits and table of a bitmap to new clusters.
    async fn write_bitmap(&self, named: &NamedBitmap, new: &mut NewList) -> Result<Bitmap> {
        let (g, bits) = (self.g(), named.bits());
        let granularity_bits = bits.granularity().trailing_zeros() as u8;
        let entries = table_entries(bits.length(), granularity_bits, g.cluster_bits);
        let chunks_a_cluster = g.cluster_size() * 8;
        let dirty =
            |index: &u64| !bits.is_clean_between(index * chunks_a_cluster, (index + 1) * chunks_a_cluster);
        let dirty: Vec<u64> = (0..entries).filter(dirty).collect();
        let mut table = vec![0; entries as usize];
        let mut rest = dirty.as_slice();
        while !rest.is_empty() {
            let most = (PIECE >> g.cluster_bits).max(1).min(rest.len() as u64);
            let found = self.allocate(most).await?;
            let run = found.reserved.run();
            new.reserved.push(found.reserved);
            let (piece, behind) = rest.split_at(run.count as usize);
            self.write_bits(bits, piece, run).await?;
            for (host, index) in (run.start..).zip(piece) {
                if let Some(entry) = table.get_mut(*index as usize) {
                    *entry = host << g.cluster_bits;
                }
            }
            rest = behind;
        }
        let place = self.write_whole(Be64::bytes(&table), new).await?;
        let flags = if named.is_enabled() { FLAG_AUTO } else { 0 };
        Ok(Bitmap {
            table_offset: place,
            table_entries: entries as u32,
            flags,
            kind: TYPE_DIRTY_TRACKING,
            granularity_bits,
            extra_bytes: 0,
            name: named.name().into(),
            stored: None,
        })
    }

    /// Writes the clusters of bits with these indexes to a run.
    async fn write_bits(&self, bits: &DirtyBitmap, indexes: &[u64], run: Run) -> Result<()> {
        let g = self.g();
        let mut bytes = BufMut::zeroed((run.count << g.cluster_bits) as usize);
        for (index, cluster) in indexes.iter().zip(bytes.chunks_mut(g.cluster_size() as usize)) {
            bits.bits(index * g.cluster_size() * 8, cluster);
        }
        self.order.file.write(run.start << g.cluster_bits, bytes.freeze()).await
    }

    /// Writes a table or directory to clusters of its own.
    async fn write_whole(&self, bytes: BufMut, new: &mut NewList) -> Result<u64> {
        let g = self.g();
        if bytes.is_empty() {
            return Ok(0);
        }
        let reserved = self.allocate_whole(g.clusters(bytes.len() as u64)).await?;
        let place = reserved.run().start << g.cluster_bits;
        new.reserved.push(reserved);
        self.order.file.write(place, bytes.freeze()).await?;
        Ok(place)
    }

    /// Has the header lead to a new directory, durably, and gives the old one up with all that is gone.
    async fn switch_directory(&self, mut new: NewList) -> Result<()> {
        let mut gone = self.clusters_of(&new.gone).await;
        if let Some(old) = super::consistent(&self.header.read()) {
            let (start, count) =
                (self.g().cluster(old.directory_offset), self.g().clusters(old.directory_size));
            gone.push(Run { start, count });
        }
        let extension = match new.list.is_empty() {
            true => None,
            false => {
                let bytes = encode(&new.list);
                let directory_size = bytes.len() as u64;
                let place = self.write_whole(BufMut::from_slice(&bytes), &mut new).await?;
                let count = new.list.len() as u32;
                Some(BitmapsExtension { count, directory_size, directory_offset: place })
            }
        };
        self.counts.write_back(&self.order.file).await?;
        self.order.file.flush().await?;
        // The header may lead there from here on, unless it is known that it does not.
        let runs: Vec<Run> = new.reserved.drain(..).map(Reserved::keep).collect();
        let switched = Switched { image: self, extension, list: Arc::new(new.list) };
        let stored = self.store_header(async |header, file| header.set_bitmaps(file, extension).await).await;
        // An error may come after the change: names of features are stored last.
        if stored.is_err() && !switched.is_in_force() {
            runs.into_iter().for_each(|run| drop(self.order.reservations.guard(run)));
            return stored;
        }
        drop(switched);
        for run in self.unshared(gone) {
            self.order.freed.give_up(GivenUp { run, cause: Cause::Dropped });
        }
        stored
    }

    /// The clusters of tables and bits of bitmaps that are given up. What can't be told for sure is left as a leak.
    async fn clusters_of(&self, gone: &[Bitmap]) -> Vec<Run> {
        let g = self.g();
        let mut runs = Vec::new();
        let mut left = MOST_FREED;
        for bitmap in gone {
            let (at, bytes) = (bitmap.table_offset, u64::from(bitmap.table_entries) * 8);
            let Some(rest) = left.checked_sub(u64::from(bitmap.table_entries) + 1) else { break };
            left = rest;
            let inside = self.order.file.node().is_ok_and(|file| at.saturating_add(bytes) <= file.length());
            if bytes == 0 || !inside {
                continue;
            }
            let Ok(table) = self.order.file.read(at, bytes).await else { continue };
            runs.push(Run { start: g.cluster(at), count: g.clusters(bytes) });
            let hosts = Be64::words(&table).map(|word| word & OFFSET_MASK);
            let hosts = hosts.filter(|host| *host != 0 && g.within(*host) == 0);
            runs.extend(hosts.map(|host| Run { start: g.cluster(host), count: 1 }));
        }
        runs
    }

    /// Those of these clusters that nothing else is known to be in; none where they overlap each other.
    fn unshared(&self, gone: Vec<Run>) -> Vec<Run> {
        let mut seen = HashSet::new();
        if !gone.iter().flat_map(|run| run.start..run.end()).all(|cluster| seen.insert(cluster)) {
            return Vec::new();
        }
        gone.into_iter().filter(|run| self.overlap.at(run.start..run.end()).is_none()).collect()
    }
}

/// A directory that is being made.
#[derive(Default)]
struct NewList {
    list: Vec<Bitmap>,
    /// What it has of new clusters.
    reserved: Vec<Reserved>,
    /// The entries of the old one whose clusters are not used any more.
    gone: Vec<Bitmap>,
}

/// The list of a new directory, which is the image's from when the header leads there: also where that is not waited for to the end.
struct Switched<'a> {
    image: &'a Image,
    extension: Option<BitmapsExtension>,
    list: Arc<Vec<Bitmap>>,
}

impl Switched<'_> {
    fn is_in_force(&self) -> bool {
        super::consistent(&self.image.header.read()) == self.extension
    }
}

impl Drop for Switched<'_> {
    fn drop(&mut self) {
        if self.is_in_force() {
            *self.image.bitmaps.list.write() = self.list.clone();
            self.image.bitmaps.flags_in_doubt.store(false, Release);
            self.image.bitmaps.maintained.store(true, Release);
        }
    }
}

impl Bitmap {
    /// The same, as one that covers all changes.
    fn with_flags(&self, enabled: bool) -> Self {
        let flags = self.flags & !(FLAG_IN_USE | FLAG_AUTO);
        Self { flags: if enabled { flags | FLAG_AUTO } else { flags }, ..self.clone() }
    }
}

/// Whether the image keeps it beyond its closing. One that came from another machine may be coarser than an image can say.
pub(super) fn is_kept(named: &Arc<NamedBitmap>) -> bool {
    let granularity_bits = named.bits().granularity().trailing_zeros() as u8;
    let can_be = named.is_consistent() && GRANULARITIES.contains(&granularity_bits);
    named.is_persistent() && can_be && !named.is_handed_over()
}

fn lost(bitmap: &NamedBitmap, error: &BlockError) -> BlockError {
    error.clone().context(format!("the bitmap '{}' could not be stored", bitmap.name()))
}

impl BitmapStore for Image {
    fn can_store(&self, name: &str, granularity: u64) -> Result<()> {
        let header = self.header.read();
        if header.version < 3 {
            return Err(BlockError::unsupported("Cannot store dirty bitmaps in qcow2 v2 files"));
        }
        if !self.bitmaps.are_maintained() {
            let text = "the bitmaps of the image are damaged; 'cairn img check -r all' drops them";
            return Err(BlockError::corrupt(text));
        }
        if !GRANULARITIES.contains(&(granularity.trailing_zeros() as u8)) {
            return Err(BlockError::invalid("a stored bitmap has a granularity of 512 bytes to 2 GiB"));
        }
        self.check_bitmaps_over(self.size(), Some((name, granularity)))?;
        let live = self.bitmaps.live.all();
        let stored = live.iter().filter(|bitmap| bitmap.is_persistent());
        let (count, bytes) = stored
            .fold((0, 0), |(count, bytes), bitmap| (count + 1, bytes + stored_bytes(bitmap.name().len())));
        if count >= MAX_BITMAPS || bytes + stored_bytes(name.len()) > super::MAX_DIRECTORY_BYTES {
            let text = format!("Maximum number of persistent bitmaps is already reached ({MAX_BITMAPS})");
            return Err(BlockError::new(ErrorKind::Limit, text));
        }
        Ok(())
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.first_write_of_bitmaps().await?;
            let _turn = self.bitmaps.turn.lock().await;
            let (gone, list): (Vec<_>, Vec<_>) =
                self.bitmaps.list().iter().cloned().partition(|bitmap| bitmap.name() == name);
            if gone.is_empty() {
                return Ok(());
            }
            self.switch_directory(NewList { list, gone, reserved: Vec::new() }).await
        })
    }
}
