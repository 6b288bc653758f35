//! What qcow2 gives to the crash order ([`block::metacache`]).
//!
//! Guest data in an external file is flushed before flush A, so that it is durable before the entries that lead there.
//!
//! With flush A the counts of all that the epoch maps are durable, and the file is as long as all clusters that it has:
//! a write to a part of the last one leaves the rest to be read as zeroes, and other programs read whole clusters only.
//!
//! Under the dirty bit (lazy refcounts) counts are left for the end: a repair makes them anew after a crash.
use super::entry::Entry;
use super::image::{Image, TABLE_KEY};
use block::metacache::{Be64, Cause, Format, GivenUp, Order, Run, Sealed};
use block::{Result, Step};
use std::sync::atomic::Ordering::*;

impl Format for Image {
    type Codec = Be64;

    fn order(&self) -> &Order<Be64> {
        &self.order
    }

    fn block_bits(&self) -> u32 {
        self.geometry.cluster_bits
    }

    fn size(&self) -> u64 {
        self.size.load(Acquire)
    }

    fn has_pairs(&self) -> bool {
        self.geometry.extended
    }

    fn blocks_of(&self, entry: u64) -> Option<Run> {
        Entry::host_clusters_of(entry, self.g())
    }

    async fn write_ahead(&self, entries: bool) -> Result<()> {
        self.sure_header().await?;
        if entries {
            self.cover_clusters().await?;
        }
        if let Some(data) = self.data_file()? {
            data.flush().await.map_err(|e| self.order.file.failed(e.context("flushing the data file")))?;
        }
        if !self.counts_wait.load(Acquire) {
            self.write_counts().await?;
        }
        Ok(())
    }

    async fn write_tables(&self, sealed: &[Sealed<Be64>]) -> Result<()> {
        if sealed.iter().any(|page| page.key() & TABLE_KEY == 0) {
            self.order.file.announce(Step::L2Update).await;
        }
        if sealed.iter().any(|page| page.key() & TABLE_KEY != 0) {
            self.order.file.announce(Step::L1Update).await;
        }
        self.order.file.write_pages(sealed).await
    }

    async fn drop_references(
        &self,
        given_up: &[GivenUp],
        keep: impl Fn(Cause) -> bool + Send + Sync,
    ) -> Result<Vec<Run>> {
        let mut kept = Vec::new();
        for piece in given_up {
            let mut at = piece.run.start;
            while at < piece.run.end() {
                let end = (at + HOLD).min(piece.run.end());
                let mut alloc = self.alloc.lock().await;
                self.drop_references_of(&mut alloc, at..end, keep(piece.cause), &mut kept).await?;
                at = end;
            }
        }
        Ok(kept)
    }

    fn punches(&self, cause: Cause) -> bool {
        let settings = *self.settings.read();
        match cause {
            Cause::Discarded => settings.pass_request,
            Cause::Replaced => settings.pass_other,
            Cause::Snapshot => settings.pass_snapshot,
            Cause::Dropped => true,
        }
    }
}

/// Clusters looked at under one hold of the allocator's lock.
const HOLD: u64 = 4096;
