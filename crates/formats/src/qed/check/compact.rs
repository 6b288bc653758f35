//! Giving leaked clusters back: what is used at the end of the file moves into them, and the file is cut.
use super::{Check, Stored, entry};
use crate::two_level::Entry;
use block::Result;
use block::metacache::Run;

/// Clusters that move between two flushes.
const BATCH: usize = 1024;

/// What moves, and where the cluster was.
#[derive(Default)]
struct Moves {
    entries: Vec<Stored>,
    left: Vec<Run>,
}

impl Check<'_> {
    pub(super) async fn mend_leaks(&mut self) -> Result<()> {
        let before = self.report.leaks;
        let packed = self.used.used_count();
        let tables = self.move_tables(packed).await?;
        for table in tables {
            self.move_data(table, packed).await?;
        }
        self.truncate().await?;
        self.report.leaks = self.leaks();
        self.report.leaks_fixed = before.saturating_sub(self.report.leaks);
        Ok(())
    }

    /// Moves tables that lie behind the `packed` first clusters, where there is room for them; tells where all tables are.
    async fn move_tables(&mut self, packed: u64) -> Result<Vec<u64>> {
        let count = self.g.clusters(self.g.table_len());
        let (mut tables, mut moves, mut at) = (Vec::new(), Moves::default(), 0);
        while at < self.g.l1_entries {
            let entries = self.entries(self.g.l1_offset + 8 * at, self.g.l1_entries - at).await?;
            for stored in entries.iter().filter(|stored| stored.word != 0) {
                let old = Run { start: self.g.cluster(stored.word), count };
                let new = if old.end() > packed { self.take_before(old) } else { None };
                let Some(new) = new else {
                    tables.push(stored.word);
                    continue;
                };
                let word = new.start << self.g.cluster_bits;
                self.copy(stored.word, word, self.g.table_len()).await?;
                tables.push(word);
                self.add(&mut moves, Stored { word, ..*stored }, old).await?;
            }
            at += entries.len() as u64;
        }
        self.carry_out(&mut moves).await?;
        Ok(tables)
    }

    /// Moves the data of a table that lie behind the `packed` first clusters.
    async fn move_data(&mut self, table: u64, packed: u64) -> Result<()> {
        let (total, mut at, mut moves) = (self.g.table_len() / 8, 0, Moves::default());
        while at < total {
            let entries = self.entries(table + 8 * at, total - at).await?;
            for stored in &entries {
                let Entry::Data(host) = entry(stored.word, &self.g) else { continue };
                let old = Run { start: self.g.cluster(host), count: 1 };
                let new = if old.start >= packed { self.take_before(old) } else { None };
                let Some(new) = new else { continue };
                let word = new.start << self.g.cluster_bits;
                self.copy(host, word, self.g.cluster_size()).await?;
                self.add(&mut moves, Stored { word, ..*stored }, old).await?;
            }
            at += entries.len() as u64;
        }
        self.carry_out(&mut moves).await
    }

    /// As many free clusters as `old` has, all of them before it.
    fn take_before(&mut self, old: Run) -> Option<Run> {
        let found = self.used.allocate_whole(&self.reservations, old.count).ok()?;
        (found.reserved.run().end() <= old.start).then(|| found.reserved.keep())
    }

    async fn add(&mut self, moves: &mut Moves, entry: Stored, left: Run) -> Result<()> {
        moves.entries.push(entry);
        moves.left.push(left);
        if moves.entries.len() < BATCH { Ok(()) } else { self.carry_out(moves).await }
    }

    async fn carry_out(&mut self, moves: &mut Moves) -> Result<()> {
        let Moves { entries, left } = std::mem::take(moves);
        self.replace(&entries).await?;
        left.into_iter().for_each(|run| self.used.free(run));
        Ok(())
    }
}
