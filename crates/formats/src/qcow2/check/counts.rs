//! Two counts for each cluster of a window: what the image stores, and how many references were found.
//!
//! ```text
//!  slot  [ stored: 16 bits │ references: 16 bits ]     0xffff: the true value is in `wide`
//! ```
use std::collections::HashMap;

/// Clusters of a window: their slots take 128 MiB.
pub(super) const WINDOW: u64 = 1 << 25;

/// Half a slot that can't hold the true value.
pub(super) const FULL: u32 = 0xffff;

/// Slots that are compared at once.
const GROUP: usize = 128;

/// Counts of the clusters from `first` on.
pub(super) struct Counts {
    first: u64,
    slots: Vec<u32>,
    /// Stored count and references of clusters where one of them is 0xffff or more.
    wide: HashMap<u64, (u64, u64)>,
    /// Lowest cluster behind the window that something was said about.
    beyond: Option<u64>,
}

impl Counts {
    /// Counts of `clusters` clusters from `first` on, cut to the size of a window.
    pub(super) fn window(first: u64, clusters: u64) -> Self {
        Self { first, slots: vec![0; clusters.min(WINDOW) as usize], wide: HashMap::new(), beyond: None }
    }

    /// Counts of all clusters, however many.
    pub(super) fn whole(clusters: u64) -> Self {
        Self { first: 0, slots: vec![0; clusters as usize], wide: HashMap::new(), beyond: None }
    }

    /// The first cluster of the window.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// One behind the last cluster of the window.
    pub(super) fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Lowest cluster behind the window that something was said about.
    pub(super) fn beyond(&self) -> Option<u64> {
        self.beyond
    }

    /// Tells that a cluster behind the window needs a look.
    pub(super) fn note_beyond(&mut self, cluster: u64) {
        self.beyond = Some(self.beyond.map_or(cluster, |least| least.min(cluster)));
    }

    /// Lets the counts reach up to `clusters` clusters.
    pub(super) fn grow(&mut self, clusters: u64) {
        let len = (clusters.saturating_sub(self.first) as usize).max(self.slots.len());
        self.slots.resize(len, 0);
    }

    /// The slots from a cluster on, to set many at once: nothing was said about them yet. A stored count of less
    /// than [`FULL`] goes into the upper half.
    pub(super) fn fresh_slots(&mut self, cluster: u64) -> &mut [u32] {
        let skip = cluster.saturating_sub(self.first) as usize;
        self.slots.get_mut(skip..).unwrap_or_default()
    }

    /// Adds `n` references to a cluster.
    #[inline]
    pub(super) fn add(&mut self, cluster: u64, n: u32) {
        let Some(slot) = slot(&mut self.slots, self.first, cluster) else {
            if cluster >= self.end() {
                self.note_beyond(cluster);
            }
            return;
        };
        let refs = *slot & FULL;
        if refs.saturating_add(n) < FULL {
            *slot += n;
            return;
        }
        let wide = self.wide.entry(cluster).or_default();
        wide.1 = if refs == FULL { wide.1 } else { u64::from(refs) } + u64::from(n);
        *slot |= FULL;
    }

    /// As [`Counts::add`], where that takes no more than the slot, and the stored count is one exactly if it should be
    /// `single`: else nothing is added.
    #[inline]
    pub(super) fn add_plain(&mut self, cluster: u64, n: u32, single: Option<bool>) -> bool {
        let Some(slot) = slot(&mut self.slots, self.first, cluster) else { return false };
        let plain = (*slot & FULL).saturating_add(n) < FULL;
        if !plain || single.is_some_and(|single| single != (*slot >> 16 == 1)) {
            return false;
        }
        *slot += n;
        true
    }

    /// As [`Counts::add_plain`] for `len` clusters from `cluster` on: for all of them or for none.
    pub(super) fn add_plain_run(&mut self, cluster: u64, len: usize, n: u32, single: Option<bool>) -> bool {
        let start = cluster.checked_sub(self.first).and_then(|start| usize::try_from(start).ok());
        let Some(slots) = start.and_then(|start| self.slots.get_mut(start..)?.get_mut(..len)) else {
            return false;
        };
        let plain = |slot: u32| {
            let fits = (slot & FULL).saturating_add(n) < FULL;
            fits & single.is_none_or(|single| single == (slot >> 16 == 1))
        };
        let all = slots.iter().fold(true, |all, slot| all & plain(*slot));
        if all {
            slots.iter_mut().for_each(|slot| *slot += n);
        }
        all
    }

    /// Adds any number of references to a cluster of the window.
    pub(super) fn add_many(&mut self, cluster: u64, n: u64) {
        let (stored, refs) = self.get(cluster);
        self.set(cluster, stored, refs.saturating_add(n));
    }

    /// Takes references of a cluster back.
    pub(super) fn remove(&mut self, cluster: u64, n: u32) {
        let (stored, refs) = self.get(cluster);
        self.set(cluster, stored, refs.saturating_sub(u64::from(n)));
    }

    /// Sets what the image stores for a cluster.
    pub(super) fn set_stored(&mut self, cluster: u64, stored: u64) {
        if let Some(slot) = slot(&mut self.slots, self.first, cluster)
            && stored < u64::from(FULL)
            && *slot >> 16 != FULL
            && *slot & FULL != FULL
        {
            *slot = (stored as u32) << 16 | *slot & FULL;
            return;
        }
        let (_, refs) = self.get(cluster);
        self.set(cluster, stored, refs);
    }

    fn set(&mut self, cluster: u64, stored: u64, refs: u64) {
        let Some(slot) = slot(&mut self.slots, self.first, cluster) else { return };
        let half = |value: u64| value.min(u64::from(FULL)) as u32;
        *slot = half(stored) << 16 | half(refs);
        if half(stored) == FULL || half(refs) == FULL {
            self.wide.insert(cluster, (stored, refs));
        } else {
            self.wide.remove(&cluster);
        }
    }

    /// Stored count and references of a cluster; zeroes outside of the window.
    pub(super) fn get(&self, cluster: u64) -> (u64, u64) {
        let slot = cluster.checked_sub(self.first).and_then(|i| self.slots.get(i as usize));
        slot.map_or((0, 0), |&slot| self.unpack(cluster, slot))
    }

    fn unpack(&self, cluster: u64, slot: u32) -> (u64, u64) {
        let (stored, refs) = (slot >> 16, slot & FULL);
        let wide = || self.wide.get(&cluster).copied().unwrap_or_default();
        let stored = if stored == FULL { wide().0 } else { u64::from(stored) };
        (stored, if refs == FULL { wide().1 } else { u64::from(refs) })
    }

    /// Whether the stored count of a cluster is exactly one; `None` outside of the window.
    pub(super) fn is_single(&self, cluster: u64) -> Option<bool> {
        let slot = cluster.checked_sub(self.first).and_then(|i| self.slots.get(i as usize))?;
        Some(slot >> 16 == 1)
    }

    /// The last cluster that is counted or referred to.
    pub(super) fn highest(&self) -> Option<u64> {
        self.slots.iter().rposition(|&slot| slot != 0).map(|at| self.first + at as u64)
    }

    /// Clusters whose counts differ, or are too large to tell at a glance: cluster, stored, references.
    pub(super) fn differing(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.differing_in(self.first, self.end())
    }

    /// The same for the clusters from `start` to `end`, that one left out.
    pub(super) fn differing_in(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64, u64)> {
        let (start, end) = (start.max(self.first), end.min(self.end()));
        let range = (start - self.first) as usize..(end - self.first) as usize;
        let differ = |slot: u32| slot >> 16 != slot & FULL || slot & FULL == FULL;
        // Most agree: whole groups are passed over at once.
        let odd = |slot: &u32| (slot >> 16 ^ slot & FULL) | u32::from(slot & FULL == FULL);
        let agree = move |group: &[u32]| group.iter().fold(0, |all, slot| all | odd(slot)) == 0;
        let groups = self.slots.get(range).unwrap_or_default().chunks(GROUP).zip((start..).step_by(GROUP));
        groups.filter(move |(group, _)| !agree(group)).flat_map(move |(group, first)| {
            group.iter().zip(first..).filter(move |(slot, _)| differ(**slot)).map(|(&slot, cluster)| {
                let (stored, refs) = self.unpack(cluster, slot);
                (cluster, stored, refs)
            })
        })
    }
}

fn slot(slots: &mut [u32], first: u64, cluster: u64) -> Option<&mut u32> {
    slots.get_mut(usize::try_from(cluster.checked_sub(first)?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_any_size_are_kept_and_compared() {
        let mut counts = Counts::window(10, 5);
        counts.set_stored(10, 1);
        counts.add(10, 1);
        counts.add(11, 0xfffe);
        counts.add(11, 2);
        counts.add(11, u32::MAX);
        counts.set_stored(11, u64::MAX);
        counts.set_stored(12, 0xffff);
        counts.add(12, 0xffff);
        assert_eq!(counts.get(10), (1, 1));
        assert_eq!(counts.is_single(10), Some(true));
        assert_eq!(counts.get(11), (u64::MAX, 0x10000 + u64::from(u32::MAX)));
        assert_eq!(counts.get(12), (0xffff, 0xffff));
        assert_eq!(counts.differing().map(|d| d.0).collect::<Vec<_>>(), [11, 12]);
        assert_eq!(counts.highest(), Some(12));
        counts.remove(12, 0xfffe);
        assert_eq!(counts.get(12), (0xffff, 1));
        counts.set_stored(12, 1);
        assert_eq!(counts.differing().map(|d| d.0).collect::<Vec<_>>(), [11]);
    }

    #[test]
    fn a_run_is_counted_as_its_clusters_are_or_not_at_all() {
        for (odd, single) in [(None, Some(true)), (Some(3), Some(true)), (Some(3), None)] {
            let mut runs = Counts::window(10, 8);
            (10..18)
                .for_each(|cluster| runs.set_stored(cluster, if odd == Some(cluster - 10) { 2 } else { 1 }));
            let before: Vec<_> = (10..18).map(|cluster| runs.get(cluster)).collect();
            let counted = runs.add_plain_run(11, 6, 1, single);
            assert_eq!(counted, odd.is_none() || single.is_none());
            for (cluster, (stored, refs)) in (10..).zip(before) {
                let more = u64::from(counted && (11..17).contains(&cluster));
                assert_eq!(runs.get(cluster), (stored, refs + more), "{cluster}");
            }
        }
        let mut counts = Counts::window(10, 8);
        for (cluster, len) in [(9, 2), (12, 7), (u64::MAX, 1)] {
            assert!(!counts.add_plain_run(cluster, len, 1, None), "{cluster} {len}");
        }
        counts.add(13, 0xfffe);
        assert!(!counts.add_plain_run(12, 3, 1, None) && counts.get(12) == (0, 0));
    }

    #[test]
    fn what_lies_behind_the_window_is_noted_once_by_its_lowest_cluster() {
        let mut counts = Counts::window(10, 5);
        counts.add(3, 1);
        assert_eq!(counts.beyond(), None);
        counts.add(90, 1);
        counts.add(20, 1);
        assert_eq!(counts.beyond(), Some(20));
        assert_eq!((counts.get(20), counts.is_single(20)), ((0, 0), None));
    }
}
