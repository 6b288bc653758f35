//! Changes of the virtual size. The gates above are closed meanwhile.
//!
//! ```text
//!  grow:    [{new L1 table, counted} · flush · {header} · flush · old one freed] · {zeroes, space} · {header} · flush
//!  shrink:  {header} · flush · {unmapped} · flush · {counted down} · truncate
//! ```
//!
//! What a larger disk shows beyond its old end is zeroes: never the old data of a cluster's tail, of a longer backing
//! file, nor of clusters that a crash in the middle of a shrink left mapped. The header comes first there because a
//! cluster that is unmapped while the disk still shows it would show the backing file's data.
use super::cache::TABLE_PAGE_WORDS;
use super::encryption;
use super::entry::{Entry, Stored};
use super::header::{Header, OFFSET_MASK, ZERO};
use super::image::{Image, Page, TABLE_KEY};
use super::subclusters::Subclusters;
use crate::overlay::hide_what_lies_behind;
use api::PreallocMode;
use block::metacache::{Be64, Cause, Codec, Format, GivenUp, Order, Run};
use block::{BlockError, CodedAt, ErrorKind, Node, Request, Result, Step};
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// Bytes of zeroes written at a time.
const PIECE: u64 = 1 << 20;

impl Image {
    /// Changes the virtual size to `size` bytes.
    pub(super) async fn resize(self: &Arc<Self>, size: u64, reserve: PreallocMode) -> Result<()> {
        {
            let header = self.header.read();
            check_size(&header, header.version, size)?;
        }
        let old = self.size();
        if size < old && reserve != PreallocMode::Off {
            return Err(BlockError::invalid("Preallocation can't be used for shrinking an image"));
        }
        self.check_distinct_tables().await?;
        if size > old {
            self.check_bitmaps_over(size, None)?;
        }
        self.first_write().await?;
        if size < old { self.shrink(size).await } else { self.grow(old, size, reserve).await }
    }

    /// Whether the entries of the L1 table lead to different tables: all of them together are no longer than the file then.
    pub(super) async fn check_distinct_tables(&self) -> Result<()> {
        let (place, entries) = {
            let header = self.header.read();
            (header.l1_offset, header.l1_entries)
        };
        self.read_l1(place, entries).await.map(drop)
    }

    // ---- growing ----

    async fn grow(self: &Arc<Self>, old: u64, size: u64, reserve: PreallocMode) -> Result<()> {
        let needed = needed_l1_entries(&self.header.read(), size)?;
        if needed > u64::from(self.header.read().l1_entries) {
            self.grow_l1(needed).await?;
        }
        let reserve = match reserve {
            // What is not mapped would be zeroes to one reader, and to the other whatever is there.
            PreallocMode::Off if self.data_is_raw() => PreallocMode::Metadata,
            other => other,
        };
        // Zeroes and clusters behind the old end come first: the header shows them when they are there.
        self.size.store(size, Release);
        let prepared = async {
            self.grow_data_file(old, size, reserve).await?;
            if let Some(image) = self.order.file.image().filter(|_| !self.data_is_raw()) {
                let cluster = self.g().subcluster_size();
                hide_what_lies_behind(&image, old..size, self.backing_end(), cluster).await?;
            }
            if reserve != PreallocMode::Off {
                self.reserve_space(old, size, reserve).await?;
            }
            Order::flush(self).await?;
            self.store_size(size).await
        };
        let grown = prepared.await;
        if grown.is_err() {
            self.size.store(old, Release);
        }
        grown
    }

    /// Stores the virtual size: durable when it returns, and the old one where it fails. A flush that fails leaves unknown
    /// which of the two is on disk; nothing is written any more then.
    async fn store_size(self: &Arc<Self>, size: u64) -> Result<()> {
        self.switch_header(|h| h.size = size).await
    }

    /// Replaces the L1 table by one of `entries` entries.
    pub(super) async fn grow_l1(self: &Arc<Self>, entries: u64) -> Result<()> {
        Order::flush(self).await?;
        let g = self.g();
        let (old_place, old_entries) = {
            let header = self.header.read();
            (header.l1_offset, u64::from(header.l1_entries))
        };
        self.order.file.announce(Step::L1GrowAllocTable).await;
        let reserved = self.allocate_whole(g.clusters(entries * 8)).await?;
        let place = reserved.run().start << g.cluster_bits;
        let old_table = self.order.file.read(old_place, old_entries * 8).await?;
        let mut words: Vec<u64> = Be64::words(&old_table).collect();
        words.resize((reserved.run().count << g.cluster_bits) as usize / 8, 0);
        self.order.file.announce(Step::L1GrowWriteTable).await;
        self.order.file.write(place, Be64::bytes(&words).freeze()).await?;
        self.write_counts().await?;
        self.order.file.flush().await?;
        self.order.file.announce(Step::L1GrowActivateTable).await;
        // The header may lead there from here on, unless it is told that it does not.
        let run = reserved.keep();
        let switched = self.change_header(|h| (h.l1_offset, h.l1_entries) = (place, entries as u32)).await;
        switched.inspect_err(|_| drop(self.order.reservations.guard(run)))?;
        (0..=old_entries / TABLE_PAGE_WORDS).for_each(|number| self.order.tables.remove(TABLE_KEY | number));
        self.order.file.flush().await?;
        let count = g.clusters(old_entries * 8);
        if count > 0 {
            let run = Run { start: g.cluster(old_place), count };
            self.order.freed.give_up(GivenUp { run, cause: Cause::Dropped });
        }
        Ok(())
    }

    /// Maps clusters to the guest clusters from the old end on.
    async fn reserve_space(self: &Arc<Self>, old: u64, size: u64, reserve: PreallocMode) -> Result<()> {
        let g = self.g();
        let file = self.order.file.node()?;
        // The cluster that the old end is in counts as new where nothing of it is anywhere.
        let backing = self.backing_end();
        let all_new = backing <= old - g.within(old) && !g.data_file;
        let first = if all_new { g.cluster(old) } else { g.clusters(old) };
        let (mut at, end) = (first, g.clusters(size));
        // What the file reads as zeroes is noise when it is decrypted.
        let header = self.header.read().clone();
        let stores_zeroes = self.coding.as_deref().filter(|_| header.stores_zeroes());
        let marked = header.crypt_method != 0 && stores_zeroes.is_none() && !header.has_extended_l2();
        let zero = if marked { ZERO } else { 0 };
        // All tables first, so that the data clusters are one run.
        for table in at >> g.entry_bits..end.div_ceil(1 << g.entry_bits) {
            self.slice_to_change(table * g.slices()).await?;
        }
        if stores_zeroes.is_some() && reserve == PreallocMode::Metadata {
            return Ok(());
        }
        while at < end {
            let count = (end - at).min(g.to_slice_end(at));
            let page = self.slice_to_change(g.slice(at)).await?;
            let index = g.index(at);
            let vacant = |entry: &Stored| {
                matches!(
                    Entry::of(*entry, g),
                    Entry::Hole | Entry::Zero { host: None, .. } | Entry::Split { host: None, .. }
                )
            };
            let most = g.stored_from(&page, index).take(count as usize).take_while(vacant).count() as u64;
            if most == 0 {
                at += 1;
                continue;
            }
            self.order.file.announce(Step::ClusterAllocSpace).await;
            let run = if g.data_file {
                Run { start: at, count: most }
            } else {
                let found = self.allocate(most).await?;
                let run = found.reserved.run();
                let (host, len) = (run.start << g.cluster_bits, run.count << g.cluster_bits);
                fill(&file, host, len, reserve, found.fresh).await?;
                if let Some(coding) = stores_zeroes {
                    let at = CodedAt { guest: at << g.cluster_bits, stored: host };
                    encryption::store_zeroes(coding, &file, at, len).await?;
                }
                found.reserved.keep()
            };
            let host = run.start << g.cluster_bits;
            for i in 0..run.count {
                let (index, word) = (index + i as usize, g.owned(host + (i << g.cluster_bits)) | zero);
                if self.data_is_raw() {
                    self.set_entry(&page, index, Stored { word, bitmap: Subclusters::DATA.bits() });
                } else {
                    // Subclusters stay what they are: holes or zeroes.
                    page.set(g.word_index(index), word);
                }
            }
            self.order.tables.dirty.mark(&page);
            if self.order.tables.is_crowded(g.slice_words()) {
                Order::flush(self).await?;
            }
            at += run.count;
        }
        Ok(())
    }

    // ---- shrinking ----

    async fn shrink(self: &Arc<Self>, size: u64) -> Result<()> {
        if let Some(wrong) = self.find_blocks().await? {
            self.notices.warn(&format!(
                "refcounts of '{}' are lost ({wrong}); 'cairn img check -r all' makes them anew",
                self.order.file.name()
            ));
        }
        Order::flush(self).await?;
        self.store_size(size).await?;
        self.size.store(size, Release);
        // The disk is smaller from here on, whether or not all of its space comes back.
        let given_up = match self.give_up_from(self.g().clusters(size)).await {
            Ok(()) => self.cut_data_file(size).await,
            Err(e) => Err(e),
        };
        if let Err(e) = given_up {
            let image = self.order.file.name();
            tracing::error!(image, error = %e, "the image was shrunk, but not all that lay behind its new end could be freed");
        }
        Ok(())
    }

    /// Unmaps all guest clusters from `from` on, and gives their space back.
    pub(super) async fn give_up_from(self: &Arc<Self>, from: u64) -> Result<()> {
        self.unmap_from(from).await?;
        Order::flush(self).await?;
        Order::release_all_in_time(self).await;
        self.write_counts().await?;
        self.truncate_file().await
    }

    /// Unmaps all guest clusters from `from` on.
    async fn unmap_from(self: &Arc<Self>, from: u64) -> Result<()> {
        let g = self.g();
        let per_table = 1u64 << g.entry_bits;
        let whole = from.next_multiple_of(per_table);
        let mut at = from;
        while at < whole {
            if self.slice(g.slice(at)).await?.is_some() {
                let page = self.slice_to_change(g.slice(at)).await?;
                self.unmap_entries(&page, g.index(at));
            }
            at += g.to_slice_end(at);
        }
        let entries = u64::from(self.header.read().l1_entries);
        if whole / per_table < entries {
            self.order.file.announce(Step::L1ShrinkWriteTable).await;
            self.order.file.announce(Step::L1ShrinkFreeL2Clusters).await;
        }
        for index in whole / per_table..entries {
            self.drop_table(index).await?;
            if self.order.too_much_waits(&**self) {
                Order::flush(self).await?;
                Order::release_all_in_time(self).await;
            }
        }
        Ok(())
    }

    /// Sets an entry, of a page that the caller marks dirty, and tells the old one.
    fn set_entry(&self, page: &Page, index: usize, entry: Stored) -> Stored {
        let g = self.g();
        if !g.extended {
            return Stored { word: page.set(index, entry.word), bitmap: 0 };
        }
        let [word, bitmap] = page.set_pair(g.word_index(index), [entry.word, entry.bitmap]);
        Stored { word, bitmap }
    }

    fn unmap_entries(&self, page: &Arc<Page>, first: usize) {
        let g = self.g();
        let entries = first..g.slice_entries() as usize;
        let old: Vec<u64> = entries.map(|index| self.set_entry(page, index, Stored::HOLE).word).collect();
        self.order.tables.dirty.mark(page);
        for run in old.into_iter().filter_map(|word| Entry::host_clusters_of(word, g)) {
            self.order.freed.give_up(GivenUp { run, cause: Cause::Dropped });
        }
    }

    /// Unhooks a whole L2 table, with all it refers to.
    async fn drop_table(self: &Arc<Self>, index: u64) -> Result<()> {
        let g = self.g();
        let l1 = self.l1_page_to_change(index).await?;
        let at = (index % TABLE_PAGE_WORDS) as usize;
        let word = l1.word(at);
        if word == 0 {
            return Ok(());
        }
        let first = index << (g.entry_bits - g.slice_bits);
        let mut gone = Vec::new();
        for slice in first..first + g.slices() {
            let Some(page) = self.slice(slice).await? else { break };
            let hosts = g.stored_from(&page, 0).filter_map(|entry| Entry::host_clusters_of(entry.word, g));
            gone.extend(hosts.map(|run| GivenUp { run, cause: Cause::Dropped }));
        }
        l1.set(at, 0);
        self.order.tables.dirty.mark(&l1);
        let table = Run { start: g.cluster(word & OFFSET_MASK), count: 1 };
        gone.push(GivenUp { run: table, cause: Cause::Dropped });
        gone.into_iter().for_each(|gone| self.order.freed.give_up(gone));
        // The table is no longer this image's: its pages must not be found again.
        (first..first + g.slices()).for_each(|slice| self.order.tables.remove(slice));
        Ok(())
    }

    /// Cuts the file behind the last cluster in use.
    pub(super) async fn truncate_file(&self) -> Result<()> {
        let file = self.order.file.node()?;
        if !file.facts().grows_with_zeroes {
            return Ok(());
        }
        let mut alloc = self.alloc.lock().await;
        let end = self.used_end(&alloc, 0).await?;
        let length = end << self.g().cluster_bits;
        if length < file.length() {
            file.set_length(length, PreallocMode::Off).await?;
        }
        alloc.file_was_cut(end, length);
        Ok(())
    }
}

/// Whether an image with this header, as one of this version, can have so many bytes.
pub(super) fn check_size(header: &Header, version: u32, size: u64) -> Result<()> {
    if !size.is_multiple_of(512) {
        return Err(BlockError::invalid("The new size must be a multiple of 512"));
    }
    if header.snapshot_count > 0 && version < 3 {
        return Err(BlockError::unsupported("Can't resize a v2 image which has snapshots"));
    }
    needed_l1_entries(header, size).map(drop)
}

fn needed_l1_entries(header: &Header, size: u64) -> Result<u64> {
    header.l1_entries_for(size).filter(|_| size <= i64::MAX as u64).ok_or_else(|| {
        let text = "Failed to grow the L1 table: it would exceed 32 MiB; larger clusters allow larger disks";
        BlockError::new(ErrorKind::Limit, text)
    })
}

/// Makes reserved clusters of the file read as zeroes, in the way asked for.
async fn fill(file: &Arc<Node>, offset: u64, len: u64, reserve: PreallocMode, fresh: bool) -> Result<()> {
    match reserve {
        PreallocMode::Off => Ok(()),
        PreallocMode::Metadata if fresh => {
            // An extent must lie inside the file to be read.
            file.grow_to(offset + len).await
        }
        PreallocMode::Metadata | PreallocMode::Falloc => {
            file.write_zeroes(offset, len, Request::DRIVER).await
        }
        PreallocMode::Full => {
            let zeroes = BufMut::zeroed(len.min(PIECE) as usize).freeze();
            let mut done = 0;
            while done < len {
                let piece: Buf = zeroes.slice(..(len - done).min(PIECE) as usize);
                done += piece.len() as u64;
                file.write(offset + done - piece.len() as u64, piece, Request::DRIVER).await?;
            }
            Ok(())
        }
    }
}
