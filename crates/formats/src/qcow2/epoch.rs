//! The order in which changes become durable.
//!
//! ```text
//!  {data, new L2 tables, counts up} · flush A · {L2 and L1 entries in place} · flush B · {counts down, punches}
//! ```
//!
//! A flush that came while an epoch was under way takes part in the next one. Sealing copies what the epoch writes:
//! the references given up first, then the pages (so that every reference given up is missing in the sealed pages),
//! then the counts (so that every entry in the sealed pages is counted). Data of sealed entries was written before
//! they were set, so flush A covers it.
//!
//! With flush A the file is as long as all clusters that it has: a write to a part of the last one leaves the rest to
//! be read as zeroes, and other programs read whole clusters only. Pages that an epoch writes in place have their space
//! since before they were first changed ([`Image::place`]): it needs none that a full file system could refuse.
//!
//! Under the dirty bit (lazy refcounts) counts are left for the end: a repair makes them anew after a crash.
//!
//! Failures: nothing is taken off a list before it is durable, so an epoch that ends early, for lack of space or
//! because nobody waits for it any more, needs no undo; the next one does its work.
use super::image::Image;
use block::Result;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

impl Image {
    /// Everything acknowledged before the call is durable when it returns.
    pub(super) async fn flush(self: &Arc<Self>) -> Result<()> {
        if !self.writable.load(Acquire) {
            return Ok(());
        }
        self.group.run(|| self.epoch()).await
    }

    async fn epoch(self: &Arc<Self>) -> Result<()> {
        self.unharmed()?;
        self.freed.seal();
        let tables = self.tables.dirty.seal();
        if !tables.is_empty() {
            self.cover_clusters().await?;
        }
        if !self.counts_wait.load(Acquire) {
            self.write_counts().await?;
        }
        self.sync().await?;
        if tables.is_empty() && self.freed.none_sealed() {
            return Ok(());
        }
        self.write_pages(&tables).await?;
        self.sync().await?;
        self.tables.dirty.settle(&tables);
        self.release_unmapped();
        Ok(())
    }
}
