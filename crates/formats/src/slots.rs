//! Slots of a file for blocks of one length: which parts can take one, found from the table when an image is opened for writing.
//!
//! ```text
//!  metadata │ block │ block │ gap │ block │ region │ block │
//!                             └── a slot ──┘              end
//! ```
//!
//! Blocks lie where whoever wrote them liked, and on no grid; all of an image are equally long. What lies between them, and
//! between them and other regions, is free where it is long enough for one; else the file grows. Lengths and places are in the
//! format's unit, for a VHD image sectors, for a VHDX image MiB.
//!
//! Bounds: what lies between blocks is remembered as a run, so that there are at most as many as blocks.
use block::metacache::Run;
use block::{BlockError, ErrorKind, Result};
use std::collections::BTreeMap;

/// How the slots of a format are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Layout {
    /// Units of a slot.
    pub len: u64,
    /// Units at its front that are always written.
    pub front: u64,
    /// Units behind the last one that the format needs for itself.
    pub behind: u64,
    /// No entry can name this unit, and none behind it.
    pub unnamed: u64,
    /// A file that does not grow ends here.
    pub room: u64,
}

/// Slots of a file.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    layout: Layout,
    /// Runs that are free: first unit, and how many.
    free: BTreeMap<u64, u64>,
    /// Behind everything.
    end: u64,
    /// From here on nothing was ever written.
    fresh: u64,
}

/// A slot that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub run: Run,
    /// Behind its front nothing was ever written.
    pub fresh: bool,
}

/// The first unit of what can't be where it is: something else is there, or the file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misplaced(pub u64);

impl Slots {
    /// The slots of a file of `length` units, of which the first `metadata` hold no blocks; `used` is what else is in use, in order.
    pub fn between(
        layout: Layout,
        metadata: u64,
        used: impl Iterator<Item = Run>,
        length: u64,
    ) -> Result<Self, Misplaced> {
        let mut slots = Self { layout, free: BTreeMap::new(), end: metadata, fresh: length };
        for run in used {
            if run.start < slots.end || run.end() > length {
                return Err(Misplaced(run.start));
            }
            if run.start - slots.end >= layout.len {
                slots.free.insert(slots.end, run.start - slots.end);
            }
            slots.end = run.end();
        }
        Ok(slots)
    }

    /// Behind all that is in use.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Something is at this unit: what is in front of it, too short for a block, stays as it is.
    pub fn leave_short_gap(&mut self, at: u64) {
        if at.checked_sub(self.end).is_some_and(|gap| gap < self.layout.len) {
            self.end = at;
        }
    }

    /// Takes the first free slot.
    pub fn take(&mut self) -> Result<Slot> {
        let Layout { len, front, behind, unnamed, room } = self.layout;
        if let Some((start, count)) = self.free.pop_first() {
            if count >= 2 * len {
                self.free.insert(start + len, count - len);
            }
            return Ok(Slot { run: Run { start, count: len }, fresh: false });
        }
        let run = Run { start: self.end, count: len };
        let full = run.end() + behind > room;
        if full || run.end() > unnamed {
            let text = "the image file can't grow further: there is no room for another block";
            let kind = if full { ErrorKind::NoSpace } else { ErrorKind::Limit };
            return Err(BlockError::new(kind, text));
        }
        self.end = run.end();
        Ok(Slot { run, fresh: run.start + front >= self.fresh })
    }

    /// A slot that the file did not grow by after all. A part of what was to be written there may have been.
    pub fn take_back(&mut self, run: Run) {
        if run.end() == self.end {
            self.end = run.start;
            self.fresh = self.fresh.max(run.end() + self.layout.behind);
        } else {
            self.free(run);
        }
    }

    /// Nothing refers to these blocks any more.
    pub fn free(&mut self, run: Run) {
        self.free.insert(run.start, run.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(slots: &mut Slots, count: usize) -> Vec<(u64, bool)> {
        (0..count).map(|_| slots.take().map(|slot| (slot.run.start, slot.fresh)).unwrap()).collect()
    }

    fn between(blocks: &[u64], length: u64, room: u64) -> Result<Slots, Misplaced> {
        let layout = Layout { len: 5, front: 1, behind: 1, unnamed: 1000, room };
        Slots::between(layout, 4, blocks.iter().map(|start| Run { start: *start, count: 5 }), length)
    }

    #[test]
    fn gaps_are_filled_before_the_file_grows() {
        let mut slots = between(&[10, 15, 40], 47, u64::MAX).unwrap();
        assert_eq!(slots.end(), 45);
        let taken = starts(&mut slots, 7);
        let gaps = [(4, false), (20, false), (25, false), (30, false), (35, false)];
        assert_eq!(taken[..5], gaps);
        assert_eq!(taken[5..], [(45, false), (50, true)], "the first holds what was behind the last block");
        slots.free(Run { start: 10, count: 10 });
        assert_eq!(starts(&mut slots, 3), [(10, false), (15, false), (55, true)]);
    }

    #[test]
    fn what_is_written_at_the_front_anyway_costs_no_freshness() {
        let mut slots = between(&[4], 10, u64::MAX).unwrap();
        assert_eq!(starts(&mut slots, 1), [(9, true)]);
    }

    #[test]
    fn what_overlaps_or_lies_outside_is_told() {
        for (wrong, at) in [(vec![3], 3), (vec![10, 14], 14), (vec![46], 46)] {
            assert_eq!(between(&wrong, 50, 50).unwrap_err(), Misplaced(at));
        }
        let mut device = between(&[], 14, 14).unwrap();
        assert!(device.take().is_ok());
        assert_eq!(device.take().unwrap_err().kind(), ErrorKind::NoSpace);
        let mut long = between(&[985], 1000, u64::MAX).unwrap();
        assert_eq!(starts(&mut long, 198).len(), 198);
        assert_eq!(long.take().unwrap_err().kind(), ErrorKind::Limit);
    }
}
