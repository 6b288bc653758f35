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
pub struct Regions(RwLock<List>);

#[derive(Default)]
struct List {
    /// Sorted by first blocks; those of one name don't overlap.
    sorted: Vec<Listed>,
    /// Two regions that overlap, as they were given.
    conflict: Option<(&'static str, &'static str)>,
}

/// A region of a sorted list.
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
        let mut all: Vec<_> =
            regions.into_iter().filter(|region| !region.blocks.is_empty()).enumerate().collect();
        all.sort_by_key(|(_, region)| region.blocks.start);
        let conflict = conflict(all.iter().map(|(_, region)| region));
        let (mut sorted, mut reach) = (Vec::<Listed>::new(), 0);
        for (place, region) in all {
            reach = region.blocks.end.max(reach);
            match sorted.last_mut() {
                // However many claim the same blocks, a look finds one.
                Some(last)
                    if last.region.name == region.name && last.region.blocks.end >= region.blocks.start =>
                {
                    last.region.blocks.end = region.blocks.end.max(last.region.blocks.end);
                    (last.place, last.reach) = (place.min(last.place), reach);
                }
                _ => sorted.push(Listed { region, place, reach }),
            }
        }
        *self.0.write() = List { sorted, conflict };
    }

    /// The first region, in the order in which they were given, that blocks overlap, of those whose name is `checked`.
    pub fn overlapped(&self, blocks: &Range<u64>, checked: impl Fn(&str) -> bool) -> Option<&'static str> {
        let list = self.0.read();
        let all = &list.sorted;
        let end = all.partition_point(|listed| listed.region.blocks.start < blocks.end);
        let near = all.iter().take(end).rev().take_while(|listed| listed.reach > blocks.start);
        let overlaps = |listed: &&Listed| {
            let Region { name, blocks: its } = &listed.region;
            its.end > blocks.start && !blocks.is_empty() && checked(name)
        };
        near.filter(overlaps).min_by_key(|listed| listed.place).map(|listed| listed.region.name)
    }

    /// Two regions of these lists that overlap.
    pub fn conflict<'a>(lists: impl IntoIterator<Item = &'a Self>) -> Option<(&'static str, &'static str)> {
        let mut all: Vec<Region> = Vec::new();
        for list in lists {
            let list = list.0.read();
            if list.conflict.is_some() {
                return list.conflict;
            }
            all.extend(list.sorted.iter().map(|listed| listed.region.clone()));
        }
        all.sort_by_key(|region| region.blocks.start);
        conflict(all.iter())
    }
}

/// Two regions that overlap, of some that are sorted by first blocks.
fn conflict<'a>(sorted: impl Iterator<Item = &'a Region> + Clone) -> Option<(&'static str, &'static str)> {
    let mut pairs = sorted.clone().zip(sorted.skip(1));
    pairs.find(|(a, b)| a.blocks.end > b.blocks.start).map(|(a, b)| (a.name, b.name))
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
    fn a_block_that_many_regions_claim_is_looked_for_in_one() {
        let regions = Regions::default();
        let many = (0..1000).map(|i| region("table", 5..5000 + i)).chain([region("table", 9000..9001)]);
        regions.set(many);
        assert_eq!(regions.0.read().sorted.len(), 2);
        let at = |block: u64| regions.overlapped(&(block..block + 1), |_| true);
        assert_eq!((at(4), at(5), at(5998), at(5999)), (None, Some("table"), Some("table"), None));
        assert_eq!(Regions::conflict([&regions]), Some(("table", "table")));
        regions.set([region("table", 5..6), region("table", 6..7)]);
        assert_eq!(Regions::conflict([&regions]), None);
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
