//! Which bytes of a read have come.

/// Disjoint ranges, sorted and merged. A server that answers in order needs one.
#[derive(Default, Debug)]
pub(super) struct Coverage {
    ranges: Vec<(u64, u64)>,
}

/// Most separate ranges at a time: a server that scatters a reply more than this is broken.
const MOST: usize = 1024;

impl Coverage {
    /// Adds `start..end`, not empty; false if it overlaps what has come, or scatters too much.
    pub fn add(&mut self, start: u64, end: u64) -> bool {
        let at = self.ranges.partition_point(|range| range.0 < start);
        let before = at.checked_sub(1).and_then(|before| self.ranges.get(before)).copied();
        let after = self.ranges.get(at).copied();
        if before.is_some_and(|range| range.1 > start) || after.is_some_and(|range| range.0 < end) {
            return false;
        }
        let joins_before = before.is_some_and(|range| range.1 == start);
        let joins_after = after.is_some_and(|range| range.0 == end);
        match (joins_before, joins_after) {
            (true, true) => {
                let (_, last) = self.ranges.remove(at);
                self.set_end(at - 1, last);
            }
            (true, false) => self.set_end(at - 1, end),
            (false, true) => {
                if let Some(range) = self.ranges.get_mut(at) {
                    range.0 = start;
                }
            }
            (false, false) if self.ranges.len() >= MOST => return false,
            (false, false) => self.ranges.insert(at, (start, end)),
        }
        true
    }

    fn set_end(&mut self, at: usize, end: u64) {
        if let Some(range) = self.ranges.get_mut(at) {
            range.1 = end;
        }
    }

    /// Exactly `start..end` has come.
    pub fn is(&self, start: u64, end: u64) -> bool {
        start == end && self.ranges.is_empty() || self.ranges == [(start, end)]
    }
}
