//! Emptying: everything mapped is given up, so that the backing file shows through everywhere.
//!
//! ```text
//!  epoch · space for all that follows · {dirty bit} · flush · {L1 table: zeroes} · flush · grace · {zeroes over the first clusters} · flush
//!        · {header: L1 and refcount table there} · flush · {refcount block, table} · flush · {header: dirty bit off} · flush · truncate
//! ```
//!
//! Nothing is counted down, which takes as long as there are tables: the image begins anew, with structures as a new one has
//! them. From the first flush on the dirty bit says that counts are made anew from the references before anybody writes; from
//! the second on there are none but the header's, whichever of the two it is. So counts, and the table of them, may be anything
//! in between.
//!
//! What that writes to has its space in the file before anything is changed: lack of space can't come in the middle of it. Where
//! there is none, nothing was changed, and the image is emptied table by table too.
//!
//! An image that has no dirty bit (version 2), or that has more than a disk's data and an L1 table (snapshots, bitmaps, keys, a
//! data file), is emptied table by table.
use super::header::{BITMAPS, INCOMPATIBLE_DIRTY, SECTOR};
use super::image::Image;
use super::refcount::block_of_ones;
use block::metacache::{Be64, Codec, Format, Order};
use block::{ErrorKind, Request, Result, Step};
use rt::BufMut;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// Where the structures of an image that begins anew are, in clusters; the header is the first.
const TABLE: u64 = 1;
const BLOCK: u64 = 2;
const L1: u64 = 3;

impl Image {
    /// Gives up everything mapped. The gates above are closed.
    pub(super) async fn empty(self: &Arc<Self>) -> Result<()> {
        self.first_write().await?;
        Order::flush(self).await?;
        if let Some(l1_clusters) = self.can_begin_anew()
            && self.have_space(l1_clusters).await?
        {
            return self.begin_anew(l1_clusters).await;
        }
        self.order.file.announce(Step::EmptyImagePrepare).await;
        self.check_distinct_tables().await?;
        self.give_up_from(0).await?;
        match self.data_file()? {
            Some(data) => data.discard(0, data.length().min(self.size()), Request::DRIVER).await,
            None => Ok(()),
        }
    }

    /// The clusters of the L1 table, where that, the header and one refcount block with its table are all that is left of an
    /// empty image.
    fn can_begin_anew(&self) -> Option<u64> {
        let (g, header) = (self.g(), self.header.read());
        let plain = header.version >= 3
            && header.snapshot_count == 0
            && header.crypt_method == 0
            && !header.has_data_file()
            && header.extension(BITMAPS).is_none();
        let clusters = g.clusters(header.l1_bytes());
        (plain && clusters > 0 && L1 + clusters <= g.counts_per_block()).then_some(clusters)
    }

    /// Gives all that [`Image::begin_anew`] writes to space in the file; tells whether there is any. What is there stays.
    async fn have_space(&self, l1_clusters: u64) -> Result<bool> {
        let at = |cluster: u64| cluster << self.geometry.cluster_bits;
        let (l1_offset, end) = (self.header.read().l1_offset, at(L1 + l1_clusters));
        // Counts, and the table of them, don't change meanwhile.
        let _alloc = self.alloc.lock().await;
        let placed = async {
            self.order.file.cover(end).await?;
            self.fill_holes(l1_offset..l1_offset + at(l1_clusters)).await?;
            self.fill_holes(at(TABLE)..end).await
        };
        match placed.await {
            Err(e) if e.kind() == ErrorKind::NoSpace => Ok(false),
            placed => placed.map(|()| true),
        }
    }

    /// Writes zeroes where a range of the file reads as zeroes, and may have holes.
    async fn fill_holes(&self, range: Range<u64>) -> Result<()> {
        const PIECE: u64 = 1 << 20;
        let mut at = range.start;
        while at < range.end {
            let bytes = self.order.file.read(at, PIECE.min(range.end - at)).await?;
            let (sectors, _) = bytes.as_chunks::<SECTOR>();
            for run in sectors.chunk_by(|a, b| codec::is_zero(a) == codec::is_zero(b)) {
                let len = run.as_flattened().len();
                if run.first().is_some_and(|sector| codec::is_zero(sector)) {
                    self.order.file.write(at, BufMut::zeroed(len).freeze()).await?;
                }
                at += len as u64;
            }
        }
        Ok(())
    }

    async fn begin_anew(self: &Arc<Self>, l1_clusters: u64) -> Result<()> {
        let (g, file) = (self.g(), self.order.file.node()?);
        let (l1_offset, was_dirty) = {
            let header = self.header.read();
            (header.l1_offset, header.is_dirty())
        };
        self.change_header(|h| h.set_incompatible(INCOMPATIBLE_DIRTY, true)).await?;
        self.order.file.flush().await?;
        // Whatever fails from here on, counts are made anew at the next open.
        let disagreed = self.disagrees.swap(true, AcqRel);
        self.order.file.announce(Step::L1Update).await;
        let zeroed = file.write_zeroes(l1_offset, l1_clusters << g.cluster_bits, Request::DRIVER).await;
        zeroed.map_err(|e| self.order.file.lost(e.context("clearing the L1 table")))?;
        self.forget_tables();
        self.order.file.flush().await?;
        self.order.file.announce(Step::EmptyImagePrepare).await;
        if !Order::release_all_in_time(self).await {
            // Somebody may know an old mapping: nothing is put there before the next open.
            tracing::warn!(
                image = self.order.file.name(),
                "the image is empty, but its file keeps the space until it is opened for writing again: requests elsewhere \
                 may know what was in it"
            );
            return Ok(());
        }
        self.write_first_clusters(l1_clusters).await?;
        self.find_blocks().await?;
        self.disagrees.store(disagreed, Release);
        if !was_dirty {
            self.change_header(|h| h.set_incompatible(INCOMPATIBLE_DIRTY, false)).await?;
            self.order.file.flush().await?;
        }
        self.truncate_file().await
    }

    /// Writes the structures of an empty image, and takes them over.
    async fn write_first_clusters(&self, l1_clusters: u64) -> Result<()> {
        let (g, file) = (self.g(), self.order.file.node()?);
        let at = |cluster: u64| cluster << g.cluster_bits;
        let end = L1 + l1_clusters;
        let mut alloc = self.alloc.lock().await;
        self.take_returned(&mut alloc).await?;
        // None of the old counts waits to be written.
        self.counts.write_back(&self.order.file).await?;
        let lost = |e| self.order.file.lost(e);
        file.write_zeroes(at(TABLE), at(end - TABLE), Request::DRIVER).await.map_err(lost)?;
        self.order.file.flush().await?;
        self.order.file.announce(Step::L1Update).await;
        self.order.file.announce(Step::ReftableUpdate).await;
        let switch = |h: &mut super::header::Header| {
            (h.l1_offset, h.refcount_table_offset, h.refcount_table_clusters) = (at(L1), at(TABLE), 1);
        };
        self.change_header(switch).await.map_err(lost)?;
        self.order.file.flush().await?;
        self.order.file.announce(Step::RefblockAlloc).await;
        self.order.file.write(at(BLOCK), block_of_ones(g, 0..end).freeze()).await.map_err(lost)?;
        self.order.file.write(at(TABLE), Be64::bytes(&[at(BLOCK)]).freeze()).await.map_err(lost)?;
        self.order.file.flush().await?;
        self.counts.clear();
        self.overlap.tables.clear();
        self.forget_tables();
        alloc.forget_places();
        Ok(())
    }
}
