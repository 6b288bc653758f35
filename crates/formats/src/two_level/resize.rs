//! Growing and emptying. The gates above are closed meanwhile.
//!
//! ```text
//!  grow:   {zeroes where something would show} · flush · {header} · flush
//!  empty:  epoch · {L1 table: zeroes} · flush · grace · truncate
//! ```
use super::Layout;
use super::image::Image;
use super::used::fixed_runs;
use api::PreallocMode;
use block::metacache::{Blocks, Format, Order};
use block::{BlockError, ExtentKind, Request, Result, Want};
use rt::BufMut;
use std::sync::Arc;

/// Bytes of zeroes that are written at a time.
const PIECE: u64 = 1 << 20;

impl<L: Layout> Image<L> {
    /// Makes the disk larger; `store` writes the header, durably. What it shows beyond its old end is zeroes: not the old data
    /// of a cluster's tail, nor those of a longer backing file, open or not.
    pub async fn grow(self: &Arc<Self>, size: u64, store: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
        self.first_write().await?;
        let old = self.size();
        self.set_size(size);
        let prepared = async {
            self.hide_what_lies_behind(old, size).await?;
            Order::flush(self).await?;
            store().await
        };
        let grown = prepared.await;
        if grown.is_err() {
            self.set_size(old);
        }
        grown
    }

    async fn hide_what_lies_behind(&self, old: u64, size: u64) -> Result<()> {
        let Some(node) = self.order.file.image() else { return Ok(()) };
        let backing = self.backing_end();
        let mut at = old;
        while at < size {
            let extent = self.map(at, size - at, Want::Status).await?;
            let len = extent.len.min(size - at);
            if extent.kind.is_hole() && self.geometry.within(at) != 0 && backing == u64::MAX {
                // Zeroes would be a cluster of its own, and its start is in an image that is not here.
                let text = "the disk ends inside of a cluster of its backing image, which is not open: resize it with that open";
                return Err(BlockError::unsupported(text));
            }
            let shown = match extent.kind {
                ExtentKind::Zero { .. } => 0,
                ExtentKind::Hole { .. } => backing.saturating_sub(at).min(len),
                ExtentKind::Data { .. } | ExtentKind::Encoded | ExtentKind::Stored => len,
            };
            if shown > 0 {
                node.write_zeroes(at, shown, Request::DRIVER).await?;
            }
            at += len;
        }
        Ok(())
    }

    /// Gives up everything mapped, so that the backing file shows through.
    pub async fn make_empty(self: &Arc<Self>) -> Result<()> {
        self.first_write().await?;
        Order::flush(self).await?;
        let g = &self.geometry;
        let l1_len = 8 * g.l1_entries;
        for at in (0..l1_len).step_by(PIECE as usize) {
            let zeroes = BufMut::zeroed(PIECE.min(l1_len - at) as usize);
            self.order.file.overwrite(g.l1_offset + at, zeroes.freeze()).await?;
        }
        self.forget_tables();
        self.order.file.flush().await?;
        if !Order::release_all_in_time(self).await {
            // Somebody may know an old mapping: its clusters stay in use until the image is opened again.
            return Ok(());
        }
        let file = self.order.file.node()?;
        let runs = fixed_runs(g);
        let end = runs.iter().map(|run| run.end()).max().unwrap_or(0) << g.cluster_bits;
        let mut blocks = self.blocks.lock().await;
        if file.facts().grows_with_zeroes && file.length() > end {
            file.set_length(end, PreallocMode::Off).await?;
        }
        let mut empty = Blocks::new(g.clusters(file.length()), g.limit);
        for run in runs {
            empty.mark(run).map_err(|_| self.damaged("the file ends before its L1 table does", 0))?;
        }
        *blocks = empty;
        Ok(())
    }
}
