//! Refcounts of another width: all counts are written anew behind everything there is, and one header write leads to them.
//!
//! ```text
//!  … the image │ table │ block │ block …     {table, blocks} · flush · {header: table, width} · flush · old ones given up
//! ```
//!
//! Until the switch the new structures are free space to the old ones. They carry the old counts as they are, those of
//! the old structures too, and count themselves: afterwards the old structures are a leak, until they are given up.
//!
//! Bounds: memory is a table of 8 MiB at most and what says which blocks there are, one block, and the cache of counts.
use crate::qcow2::entry::Geometry;
use crate::qcow2::header::MAX_REFCOUNT_TABLE_BYTES;
use crate::qcow2::image::Image;
use crate::qcow2::refcount::Block;
use block::metacache::{Be64, Cause, Codec, GivenUp, Run};
use block::{BlockError, ErrorKind, Result};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// What the image's present counts say.
struct Survey {
    /// Clusters that refcount blocks are in.
    blocks: Vec<u64>,
    /// Indices of the blocks of the new width that count something.
    used: BTreeSet<u64>,
    /// One more than the last cluster that is counted.
    end: u64,
}

/// Where the new structures go: the table at cluster `start`, the blocks behind it.
struct Layout {
    start: u64,
    table_clusters: u64,
    blocks: BTreeSet<u64>,
}

impl Layout {
    /// `g`: with the new width. `used`: the blocks that count what there is before `start`.
    fn new(g: Geometry, start: u64, used: BTreeSet<u64>) -> Result<Self> {
        let mut layout = Self { start, table_clusters: 1, blocks: used };
        // Each block may need a further one to be counted in: a few rounds settle it.
        loop {
            let before = layout.clusters();
            let area = start / g.counts_per_block()..=(start + before - 1) / g.counts_per_block();
            layout.blocks.extend(area);
            let entries = layout.blocks.last().map_or(0, |last| last + 1);
            if entries * 8 > MAX_REFCOUNT_TABLE_BYTES {
                let bits = 1u32 << g.refcount_order;
                let text = format!("with refcounts of {bits} bits the refcount table would exceed 8 MiB");
                return Err(BlockError::new(ErrorKind::Limit, text));
            }
            layout.table_clusters = g.clusters(entries * 8);
            if layout.clusters() == before {
                return Ok(layout);
            }
        }
    }

    /// Clusters of all of it.
    fn clusters(&self) -> u64 {
        self.table_clusters + self.blocks.len() as u64
    }

    fn end(&self) -> u64 {
        self.start + self.clusters()
    }
}

impl Image {
    /// Whether refcounts of 2^`order` bits can count what there is, and have room.
    pub(super) async fn check_width(&self, order: u32) -> Result<()> {
        self.plan_width(order).await.map(drop)
    }

    /// Makes all refcounts numbers of 2^`order` bits.
    pub(super) async fn change_width(
        self: &Arc<Self>,
        order: u32,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<()> {
        let (layout, old_blocks) = self.plan_width(order).await?;
        let g = self.g();
        let old_table = {
            let header = self.header.read();
            Run {
                start: g.cluster(header.refcount_table_offset),
                count: u64::from(header.refcount_table_clusters),
            }
        };
        self.write_layout(&layout, order, progress).await?;
        let (place, clusters) = (layout.start << g.cluster_bits, layout.table_clusters as u32);
        self.switch_header(|h| {
            (h.refcount_table_offset, h.refcount_table_clusters) = (place, clusters);
            h.refcount_order = order;
        })
        .await?;
        self.refcount_order.store(order, Release);
        self.counts.clear();
        self.alloc.lock().await.forget_places();
        self.overlap.tables.clear();
        self.forget_tables();
        self.find_blocks().await?;
        let blocks = old_blocks.into_iter().map(|start| Run { start, count: 1 });
        let gone = [old_table].into_iter().chain(blocks);
        let gone = gone.map(|run| GivenUp { run, cause: Cause::Dropped }).collect();
        if let Err(error) = self.order.release_blocks(&**self, gone).await {
            tracing::warn!(image = self.order.file.name(), %error,
                "the old refcounts' clusters stay in use until 'cairn img check -r leaks' frees them");
        }
        Ok(())
    }

    /// Where counts of another width go; and the clusters of the present blocks.
    async fn plan_width(&self, order: u32) -> Result<(Layout, Vec<u64>)> {
        let (g, file) = (self.g(), self.order.file.node()?);
        let survey = self.survey(order).await?;
        let growing = file.facts().grows_with_zeroes;
        let behind = if growing { g.clusters(file.length()).max(self.alloc.lock().await.end()) } else { 0 };
        let new = Geometry { refcount_order: order, ..g };
        let layout = Layout::new(new, survey.end.max(behind), survey.used)?;
        let need = layout.end() << g.cluster_bits;
        if !growing && need > file.length() {
            let text = format!("the new refcounts need {need} bytes of '{}'", file.filename());
            return Err(BlockError::new(ErrorKind::NoSpace, text));
        }
        self.not_metadata(layout.start..layout.end()).await?;
        Ok((layout, survey.blocks))
    }

    /// Looks at all counts, whether numbers of 2^`order` bits can be as large.
    async fn survey(&self, order: u32) -> Result<Survey> {
        let (g, _alloc) = (self.g(), self.alloc.lock().await);
        let new = Geometry { refcount_order: order, ..g };
        let (bits, most) = (1u32 << order, u64::MAX >> (64 - (1u32 << order)));
        let mut survey = Survey { blocks: Vec::new(), used: BTreeSet::new(), end: 1 };
        for index in 0..self.refcount_blocks() {
            let place = self.judged_block(index).await?.map_err(BlockError::corrupt)?;
            let Some(place) = place else { continue };
            survey.blocks.push(g.cluster(place));
            let first = index * g.counts_per_block();
            for first in (first..first + g.counts_per_block()).step_by(g.counts_per_page() as usize) {
                let Some(counts) = self.count_page(first).await? else { break };
                for cluster in first..first + g.counts_per_page() {
                    let count = counts.get(cluster);
                    if count > most {
                        let at = cluster << g.cluster_bits;
                        let text = format!(
                            "refcounts of {bits} bits are too small: the cluster at {at:#x} has {count} references"
                        );
                        return Err(BlockError::new(ErrorKind::Limit, text));
                    }
                    if count > 0 {
                        survey.used.insert(cluster / new.counts_per_block());
                        survey.end = cluster + 1;
                    }
                }
            }
        }
        Ok(survey)
    }

    /// Writes the new structures. Not durable before the next flush.
    async fn write_layout(
        &self,
        layout: &Layout,
        order: u32,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<()> {
        let mut alloc = self.alloc.lock().await;
        // What comes to be there is no zeroes, whatever becomes of it.
        alloc.extend(layout.end());
        let g = self.g();
        let mut table = vec![0; (layout.table_clusters << g.cluster_bits) as usize / 8];
        let (mut at, whole) = (layout.start + layout.table_clusters, layout.blocks.len() as u64);
        for (done, index) in (0..).zip(&layout.blocks) {
            let block = self.block_of_width(*index, layout, order).await?;
            self.order.file.write(at << g.cluster_bits, block.bytes().freeze()).await?;
            if let Some(entry) = table.get_mut(*index as usize) {
                *entry = at << g.cluster_bits;
            }
            at += 1;
            progress(done + 1, whole);
        }
        self.order.file.write(layout.start << g.cluster_bits, Be64::bytes(&table).freeze()).await
    }

    /// The block of another width that has this index.
    async fn block_of_width(&self, index: u64, layout: &Layout, order: u32) -> Result<Block> {
        let g = self.g();
        let block = Block::new(Geometry { refcount_order: order, ..g }, index);
        let mut at = block.clusters().start;
        while at < block.clusters().end {
            let end = block.clusters().end.min((at / g.counts_per_page() + 1) * g.counts_per_page());
            if let Some(counts) = self.count_page(at).await? {
                (at..end).for_each(|cluster| block.set(cluster, counts.get(cluster)));
            }
            at = end;
        }
        let area = layout.start.max(block.clusters().start)..layout.end().min(block.clusters().end);
        area.for_each(|cluster| block.set(cluster, 1));
        Ok(block)
    }
}
