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
        let mut left = 0;
        for batch in wrong.chunks(BATCH) {
            let mut mended = Vec::with_capacity(batch.len());
            for wrong in batch {
                let (stored, word) = match *wrong {
                    Wrong::Lost(stored) => (stored, Some(0)),
                    Wrong::TableTwice(stored) => (stored, self.copy_table(stored.word).await?),
                    Wrong::DataTwice(stored) => (stored, self.copy_cluster(stored.word).await?),
                };
                match word {
                    Some(word) => mended.push(Stored { word, ..stored }),
                    None => left += 1,
                }
            }
            self.replace(&mended).await?;
            self.report.corruptions -= mended.len() as u64;
            self.report.corruptions_fixed += mended.len() as u64;
        }
        if left > 0 {
            let length = self.length;
            self.report.messages.push(format!(
                "{left} errors are left: one run copies no more than the file's length ({length:#x}); run it again"
            ));
        }
        Ok(())
    }

    /// Takes bytes of what may be copied, if it has so many.
    fn take_room(&mut self, bytes: u64) -> bool {
        let rest = self.room.checked_sub(bytes);
        self.room = rest.unwrap_or(self.room);
        rest.is_some()
    }

    /// Has the file be as long as what was taken of it.
    async fn cover(&self) -> Result<()> {
        if self.file.facts().grows_with_zeroes {
            self.file.grow_to(self.used.end() << self.g.cluster_bits).await?;
        }
        Ok(())
    }

    /// Copies a data cluster, if there is room; where the copy begins.
    async fn copy_cluster(&mut self, host: u64) -> Result<Option<u64>> {
        if !self.take_room(self.g.cluster_size()) {
            return Ok(None);
        }
        self.copy_data(host).await.map(Some)
    }

    async fn copy_data(&mut self, host: u64) -> Result<u64> {
        let found = self.used.append(&self.reservations, 1)?;
        let copy = found.reserved.keep().start << self.g.cluster_bits;
        self.cover().await?;
        self.copy(host, copy, self.g.cluster_size()).await?;
        Ok(copy)
    }

    /// Copies an L2 table with all that it leads to, if there is room; where the copy begins. Entries that lead nowhere are
    /// left out.
    async fn copy_table(&mut self, host: u64) -> Result<Option<u64>> {
        // What is only read counts too: many entries may lead to tables that are too large.
        if !self.take_room(self.g.table_len()) || !self.take_room_for_data(host).await? {
            return Ok(None);
        }
        let found = self.used.append(&self.reservations, self.g.clusters(self.g.table_len()))?;
        let copy = found.reserved.keep().start << self.g.cluster_bits;
        self.cover().await?;
        for at in (0..self.g.table_len()).step_by(PIECE as usize) {
            let mut words = Vec::new();
            for stored in self.entries(host + at, (self.g.table_len() - at) / 8).await? {
                words.push(match self.sound(stored) {
                    Some(Entry::Data(host)) => self.copy_data(host).await?,
                    Some(_) => stored.word,
                    None => 0,
                });
            }
            self.write(copy + at, Le64::bytes(&words).freeze()).await?;
        }
        Ok(Some(copy))
    }

    /// Takes the room for copies of the data that a table leads to, if there is so much.
    async fn take_room_for_data(&mut self, table: u64) -> Result<bool> {
        let mut count = 0;
        for at in (0..self.g.table_len()).step_by(PIECE as usize) {
            let entries = self.entries(table + at, (self.g.table_len() - at) / 8).await?;
            let data = entries.iter().filter(|stored| matches!(self.sound(**stored), Some(Entry::Data(_))));
            count += data.count() as u64;
        }
        Ok(self.take_room(count.saturating_mul(self.g.cluster_size())))
    }

    /// What an L2 entry says, if it does not lead nowhere.
    fn sound(&self, stored: Stored) -> Option<Entry> {
        let entry = entry(stored.word, &self.g);
        wrong_entry(entry, &self.g, self.length).is_none().then_some(entry)
    }
}
