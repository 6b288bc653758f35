//! The distinct L2 tables of an image, with how many L1 entries lead to each.
use std::collections::HashMap;

/// Images of no more clusters than this find a table by its cluster in an array of 4 bytes a cluster.
const DENSE: u64 = 1 << 23;

/// Most distinct tables.
const MAX_TABLES: usize = 1 << 23;

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

/// All of them, in the order of their first appearance.
pub(super) struct TableSet {
    list: Vec<Table>,
    index: Index,
}

enum Index {
    /// By cluster: position in the list plus one, or 0.
    Dense(Vec<u32>),
    Sparse(HashMap<u64, u32>),
}

impl TableSet {
    /// An empty set for a file of `clusters` clusters.
    pub(super) fn new(clusters: u64) -> Self {
        let index = match clusters {
            0..=DENSE => Index::Dense(vec![0; clusters as usize + 1]),
            _ => Index::Sparse(HashMap::new()),
        };
        Self { list: Vec::new(), index }
    }

    /// Adds an L1 entry that leads to the table in `cluster`; false when there are too many tables.
    pub(super) fn add(&mut self, cluster: u64, active: bool) -> bool {
        let next = self.list.len();
        let position = match &mut self.index {
            Index::Dense(array) => match array.get_mut(cluster as usize) {
                Some(position) => position,
                None => return false,
            },
            Index::Sparse(map) => map.entry(cluster).or_default(),
        };
        if *position == 0 {
            if next >= MAX_TABLES {
                return false;
            }
            *position = next as u32 + 1;
            self.list.push(Table { cluster, refs: 0, active: 0 });
        }
        if let Some(table) = self.list.get_mut(*position as usize - 1) {
            table.refs = table.refs.saturating_add(1);
            table.active = table.active.saturating_add(u32::from(active));
        }
        true
    }

    /// The tables in runs that lie side by side in the file, at most `most` tables each.
    pub(super) fn runs(&self, most: usize) -> impl Iterator<Item = &[Table]> {
        let mut rest = self.list.as_slice();
        std::iter::from_fn(move || {
            let first = rest.first()?.cluster;
            let follows = |(i, table): &(usize, &Table)| table.cluster == first + *i as u64;
            let len = rest.iter().enumerate().take_while(follows).take(most.max(1)).count();
            let (run, after) = rest.split_at_checked(len)?;
            rest = after;
            Some(run)
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
            let runs: Vec<_> = set.runs(8).map(<[Table]>::to_vec).collect();
            let table = |cluster, refs, active| Table { cluster, refs, active };
            assert_eq!(runs, [vec![table(7, 3, 2), table(8, 1, 1)], vec![table(20, 1, 1)]]);
            assert_eq!(set.runs(1).count(), 3);
        }
    }
}
