//! Mending what contradicts itself. Copies go behind the end of the file: nothing marks what only a table leads to that is
//! partly another one, or what is beyond the errors of this run.
use super::{Check, PIECE, Stored, Wrong, entry};
use crate::two_level::{Entry, wrong_entry};
use block::Result;
use block::metacache::{Codec, Le64};

/// Errors that are mended between two flushes.
const BATCH: usize = 1024;

impl Check<'_> {
    pub(super) async fn mend_errors(&mut self) -> Result<()> {
        let wrong = std::mem::take(&mut self.wrong);
        for batch in wrong.chunks(BATCH) {
            let mut mended = Vec::with_capacity(batch.len());
            for wrong in batch {
                mended.push(match *wrong {
                    Wrong::Lost(stored) => Stored { word: 0, ..stored },
                    Wrong::TableTwice(stored) => {
                        Stored { word: self.copy_table(stored.word).await?, ..stored }
                    }
                    Wrong::DataTwice(stored) => {
                        Stored { word: self.copy_cluster(stored.word).await?, ..stored }
                    }
                });
            }
            self.replace(&mended).await?;
            self.report.corruptions -= batch.len() as u64;
            self.report.corruptions_fixed += batch.len() as u64;
        }
        Ok(())
    }

    /// Has the file be as long as what was taken of it.
    async fn cover(&self) -> Result<()> {
        if self.file.facts().grows_with_zeroes {
            self.file.grow_to(self.used.end() << self.g.cluster_bits).await?;
        }
        Ok(())
    }

    /// Copies a data cluster; where the copy begins.
    async fn copy_cluster(&mut self, host: u64) -> Result<u64> {
        let found = self.used.append(&self.reservations, 1)?;
        let copy = found.reserved.keep().start << self.g.cluster_bits;
        self.cover().await?;
        self.copy(host, copy, self.g.cluster_size()).await?;
        Ok(copy)
    }

    /// Copies an L2 table with all that it leads to; where the copy begins. Entries that lead nowhere are left out.
    async fn copy_table(&mut self, host: u64) -> Result<u64> {
        let found = self.used.append(&self.reservations, self.g.clusters(self.g.table_len()))?;
        let copy = found.reserved.keep().start << self.g.cluster_bits;
        self.cover().await?;
        for at in (0..self.g.table_len()).step_by(PIECE as usize) {
            let mut words = Vec::new();
            for stored in self.entries(host + at, (self.g.table_len() - at) / 8).await? {
                let old = entry(stored.word, &self.g);
                words.push(match (wrong_entry(old, &self.g, self.length), old) {
                    (Some(_), _) => 0,
                    (None, Entry::Data(host)) => self.copy_cluster(host).await?,
                    (None, _) => stored.word,
                });
            }
            self.write(copy + at, Le64::bytes(&words).freeze()).await?;
        }
        Ok(copy)
    }
}
