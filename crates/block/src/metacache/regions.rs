//! Which blocks of the file hold metadata, so that nothing else is written there.
//!
//! Two kinds: regions that the header or another list names, which are told as a whole; and tables that were met since
//! the image was opened, one a block, because the tables that lead to them are loaded by pages. A block that the
//! format calls free and that is known here means that the image contradicts itself: it must not be handed out.
//!
//! Bounds: at most [`MOST_TABLES`] tables are remembered; what is beyond that is not checked.
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

/// Most tables that are remembered.
pub const MOST_TABLES: usize = 1 << 20;

/// Named blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// What messages call it.
    pub name: &'static str,
    /// Its blocks.
    pub blocks: Range<u64>,
}

/// The regions of one list.
#[derive(Default)]
pub struct Regions(RwLock<Vec<Region>>);

impl Regions {
    /// Takes these regions instead of those before. Empty ones are left out.
    pub fn set(&self, regions: impl IntoIterator<Item = Region>) {
        *self.0.write() = regions.into_iter().filter(|region| !region.blocks.is_empty()).collect();
    }

    /// The first region that blocks overlap, of those whose name is `checked`.
    pub fn overlapped(&self, blocks: &Range<u64>, checked: impl Fn(&str) -> bool) -> Option<&'static str> {
        let overlaps = |region: &&Region| {
            region.blocks.start < blocks.end && blocks.start < region.blocks.end && checked(region.name)
        };
        self.0.read().iter().find(overlaps).map(|region| region.name)
    }

    /// Two regions of these lists that overlap.
    pub fn conflict<'a>(lists: impl IntoIterator<Item = &'a Self>) -> Option<(&'static str, &'static str)> {
        let mut all: Vec<Region> = lists.into_iter().flat_map(|list| list.0.read().clone()).collect();
        all.sort_by_key(|region| region.blocks.start);
        let mut pairs = all.iter().zip(all.iter().skip(1));
        pairs.find(|(a, b)| a.blocks.end > b.blocks.start).map(|(a, b)| (a.name, b.name))
    }
}

/// A table of one block, as the table above it names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// What messages call such tables.
    pub name: &'static str,
    /// Index of the entry that leads to it.
    pub index: u64,
}

/// Tables that were met.
#[derive(Default)]
pub struct KnownTables(Mutex<HashMap<u64, Claim>>);

impl KnownTables {
    /// Remembers a table that was made in a block which was free.
    pub fn add(&self, block: u64, claim: Claim) {
        let mut all = self.0.lock();
        if all.len() < MOST_TABLES || all.contains_key(&block) {
            all.insert(block, claim);
        }
    }

    /// Remembers a table that was found in the file; whoever claimed the block first keeps it.
    pub fn found(&self, block: u64, claim: Claim) {
        let mut all = self.0.lock();
        let full = all.len() >= MOST_TABLES;
        if let Entry::Vacant(vacant) = all.entry(block)
            && !full
        {
            vacant.insert(claim);
        }
    }

    /// Who has a block that `claim` is about too.
    pub fn claimed_by_other(&self, block: u64, claim: Claim) -> Option<Claim> {
        self.0.lock().get(&block).copied().filter(|first| *first != claim)
    }

    /// The first table in these blocks, of those whose name is `checked`.
    pub fn overlapped(&self, blocks: &Range<u64>, checked: impl Fn(&str) -> bool) -> Option<&'static str> {
        let all = self.0.lock();
        let name = |block: u64| all.get(&block).map(|claim| claim.name).filter(|name| checked(name));
        blocks.clone().find_map(name)
    }

    /// Forgets a block that was given up.
    pub fn remove(&self, block: u64) {
        self.0.lock().remove(&block);
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &'static str, blocks: Range<u64>) -> Region {
        Region { name, blocks }
    }

    #[test]
    fn regions_that_overlap_are_found_in_all_lists() {
        let (main, beside) = (Regions::default(), Regions::default());
        main.set([region("header", 0..1), region("table", 4..8), region("nothing", 2..2)]);
        beside.set([region("list", 8..9)]);
        assert_eq!(main.overlapped(&(1..4), |_| true), None);
        assert_eq!(main.overlapped(&(7..9), |_| true), Some("table"));
        assert_eq!(main.overlapped(&(0..9), |name| name == "table"), Some("table"));
        assert_eq!(Regions::conflict([&main, &beside]), None);
        beside.set([region("list", 7..9)]);
        assert_eq!(Regions::conflict([&main, &beside]), Some(("table", "list")));
    }

    #[test]
    fn whoever_claims_a_block_first_keeps_it() {
        let (tables, one, other) =
            (KnownTables::default(), Claim { name: "table", index: 1 }, Claim { name: "table", index: 2 });
        tables.found(5, one);
        tables.found(5, other);
        assert_eq!((tables.claimed_by_other(5, one), tables.claimed_by_other(5, other)), (None, Some(one)));
        tables.add(5, other);
        assert_eq!(tables.claimed_by_other(5, other), None);
        assert_eq!(tables.overlapped(&(3..6), |_| true), Some("table"));
        assert_eq!(tables.overlapped(&(3..6), |_| false), None);
        tables.remove(5);
        assert_eq!(tables.overlapped(&(3..6), |_| true), None);
    }
}
