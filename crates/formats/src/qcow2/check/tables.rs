//! The distinct L2 tables of an image, with how many L1 entries lead to each.
use std::collections::HashMap;

/// Files of no more clusters than this have their tables counted in an array of 8 bytes a cluster.
const DENSE: u64 = 1 << 22;

/// Most distinct tables.
const MAX_TABLES: usize = 1 << 23;

/// More tables than this are taken in the order of the file, to be read at once where they lie side by side.
const MANY: usize = 1 << 16;

/// One L2 table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Table {
    /// Its cluster.
    pub cluster: u64,
    /// L1 entries that lead to it.
    pub refs: u32,
    /// Those of them in the active L1 table.
    pub active: u32,
}

/// All of them.
pub(super) struct TableSet {
    /// Their clusters in the order of their first appearance.
    clusters: Vec<u64>,
    uses: Uses,
}

/// By cluster, the L1 entries that lead to its table: all of them in the upper half, those in the active L1 table in
/// the lower one. Plain numbers, for memory that is allocated as zeroes costs nothing until it is used.
enum Uses {
    Dense(Vec<u64>),
    Sparse(HashMap<u64, u64>),
}

/// All and active uses of a number in [`Uses`].
fn halves(uses: u64) -> (u32, u32) {
    ((uses >> 32) as u32, uses as u32)
}

impl TableSet {
    /// An empty set for a file of `clusters` clusters.
    pub(super) fn new(clusters: u64) -> Self {
        let uses = match clusters {
            0..=DENSE => Uses::Dense(vec![0; clusters as usize + 1]),
            _ => Uses::Sparse(HashMap::new()),
        };
        Self { clusters: Vec::new(), uses }
    }

    /// Adds an L1 entry that leads to the table in `cluster`; false when there are too many tables.
    pub(super) fn add(&mut self, cluster: u64, active: bool) -> bool {
        let uses = match &mut self.uses {
            Uses::Dense(array) => array.get_mut(cluster as usize),
            Uses::Sparse(map) if self.clusters.len() < MAX_TABLES => Some(map.entry(cluster).or_default()),
            Uses::Sparse(map) => map.get_mut(&cluster),
        };
        let Some(uses) = uses else { return false };
        let (refs, actives) = halves(*uses);
        if refs == 0 {
            self.clusters.push(cluster);
        }
        let (refs, actives) = (refs.saturating_add(1), actives.saturating_add(u32::from(active)));
        *uses = u64::from(refs) << 32 | u64::from(actives);
        true
    }

    /// All tables are known: they can be gone through.
    pub(super) fn sort(&mut self) {
        if self.clusters.len() > MANY {
            self.clusters.sort_unstable();
        }
    }

    /// The tables.
    pub(super) fn iter(&self) -> impl Iterator<Item = Table> {
        self.clusters.iter().map(|&cluster| self.table(cluster))
    }

    fn table(&self, cluster: u64) -> Table {
        let uses = match &self.uses {
            Uses::Dense(array) => array.get(cluster as usize),
            Uses::Sparse(map) => map.get(&cluster),
        };
        let (refs, active) = halves(uses.copied().unwrap_or_default());
        Table { cluster, refs, active }
    }

    /// The tables in runs that lie side by side in the file, at most `most` tables each.
    pub(super) fn runs(&self, most: usize) -> impl Iterator<Item = Vec<Table>> {
        let mut rest = self.clusters.as_slice();
        std::iter::from_fn(move || {
            let first = *rest.first()?;
            let follows = |(i, cluster): &(usize, &u64)| **cluster == first + *i as u64;
            let len = rest.iter().enumerate().take_while(follows).take(most.max(1)).count();
            let (run, after) = rest.split_at_checked(len)?;
            rest = after;
            Some(run.iter().map(|&cluster| self.table(cluster)).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_listed_once_with_its_number_of_references() {
        for clusters in [100, DENSE + 1] {
            let mut set = TableSet::new(clusters);
            for (cluster, active) in [(7, true), (8, true), (7, false), (20, true), (7, true)] {
                assert!(set.add(cluster, active));
            }
            let runs: Vec<_> = set.runs(8).collect();
            let table = |cluster, refs, active| Table { cluster, refs, active };
            assert_eq!(runs, [vec![table(7, 3, 2), table(8, 1, 1)], vec![table(20, 1, 1)]]);
            assert_eq!(set.runs(1).count(), 3);
            assert!(set.iter().eq(runs.concat()));
        }
    }
}
