//! Growing and emptying. The gates above are closed meanwhile.
//!
//! ```text
//!  grow:   {zeroes where something would show} · flush · {header} · flush
//!  empty:  epoch · {L1 table: zeroes} · flush · grace · truncate
//! ```
use super::Layout;
use super::image::Image;
use super::used::fixed_runs;
use crate::overlay::hide_what_lies_behind;
use api::PreallocMode;
use block::Result;
use block::metacache::{Blocks, Format, Order};
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
            if let Some(image) = self.order.file.image() {
                let cluster = self.geometry.cluster_size();
                hide_what_lies_behind(&image, old..size, self.backing_end(), cluster).await?;
            }
            Order::flush(self).await?;
            store().await
        };
        let grown = prepared.await;
        if grown.is_err() {
            self.set_size(old);
        }
        grown
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
