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
pub struct Regions(RwLock<Vec<Listed>>);

/// A region of a list that is sorted by first blocks.
struct Listed {
    region: Region,
    /// Its place in the list as it was given.
    place: usize,
    /// Where the last of the regions up to this one ends.
    reach: u64,
}

impl Regions {
    /// Takes these regions instead of those before. Empty ones are left out.
    pub fn set(&self, regions: impl IntoIterator<Item = Region>) {
        let regions = regions.into_iter().filter(|region| !region.blocks.is_empty()).enumerate();
        let mut sorted: Vec<_> = regions.map(|(place, region)| Listed { region, place, reach: 0 }).collect();
        sorted.sort_by_key(|listed| listed.region.blocks.start);
        let mut reach = 0;
        for listed in &mut sorted {
            reach = listed.region.blocks.end.max(reach);
            listed.reach = reach;
        }
        *self.0.write() = sorted;
    }

    /// The first region, in the order in which they were given, that blocks overlap, of those whose name is `checked`.
    pub fn overlapped(&self, blocks: &Range<u64>, checked: impl Fn(&str) -> bool) -> Option<&'static str> {
        let all = self.0.read();
        let end = all.partition_point(|listed| listed.region.blocks.start < blocks.end);
        let near = all.iter().take(end).rev().take_while(|listed| listed.reach > blocks.start);
        let overlaps = |listed: &&Listed| {
            let Region { name, blocks: its } = &listed.region;
            its.end > blocks.start && !blocks.is_empty() && checked(name)
        };
        near.filter(overlaps).min_by_key(|listed| listed.place).map(|listed| listed.region.name)
    }

    fn regions(&self) -> Vec<Region> {
        self.0.read().iter().map(|listed| listed.region.clone()).collect()
    }

    /// Two regions of these lists that overlap.
    pub fn conflict<'a>(lists: impl IntoIterator<Item = &'a Self>) -> Option<(&'static str, &'static str)> {
        let mut all: Vec<Region> = lists.into_iter().flat_map(|list| list.regions()).collect();
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
    fn a_long_region_is_found_behind_many_short_ones() {
        let regions = Regions::default();
        let short = (0..1000).map(|start| region("short", 10 + start..11 + start));
        regions.set([region("long", 5..5000)].into_iter().chain(short).chain([region("late", 9000..9001)]));
        let at = |blocks: Range<u64>| regions.overlapped(&blocks, |_| true);
        assert_eq!(
            (at(4..5), at(5..6), at(4000..4001), at(5000..9000)),
            (None, Some("long"), Some("long"), None)
        );
        assert_eq!((at(8999..9001), at(9001..9002)), (Some("late"), None));
        assert_eq!(regions.overlapped(&(500..501), |name| name == "short"), Some("short"));
        assert_eq!(regions.overlapped(&(2000..2001), |name| name == "short"), None);
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
