//! Which parts of the file can take a block, found from the table when the image is opened for writing.
//!
//! ```text
//!  footer │ header │ table │ bitmap, block │ bitmap, block │ gap │ bitmap, block │ footer
//!                            └───── a slot ─────┘                               end
//! ```
//!
//! Blocks lie where whoever wrote them liked, one sector apart from any grid; all are equally long. What lies between them and
//! is long enough is free; else the file grows.
//!
//! Bounds: what lies between blocks is remembered as a run, so that there are at most as many as blocks.
use super::geometry::SECTOR;
use block::metacache::Run;
use block::{BlockError, ErrorKind, Result};
use std::collections::BTreeMap;

/// Slots of a file, in sectors.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Runs that are free: first sector, and how many.
    free: BTreeMap<u64, u64>,
    /// Behind all blocks.
    end: u64,
    /// Sectors of a slot.
    len: u64,
    /// From here on nothing was ever written.
    fresh: u64,
    /// A file that does not grow ends here.
    limit: u64,
}

/// A slot that was handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub run: Run,
    /// Behind its first sector nothing was ever written.
    pub fresh: bool,
}

/// Two blocks that can't be where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misplaced {
    /// The first sector of the later one.
    pub sector: u64,
}

impl Slots {
    /// The slots of a file of `sectors` sectors, of which the first `metadata` hold no blocks; `blocks` are the first sectors of
    /// those in use, in order. Slots are `len` sectors; none ends behind `limit`.
    pub fn between(
        metadata: u64,
        blocks: &[u32],
        len: u64,
        sectors: u64,
        limit: u64,
    ) -> Result<Self, Misplaced> {
        let mut slots = Self { free: BTreeMap::new(), end: metadata, len, fresh: sectors, limit };
        for block in blocks.iter().map(|block| u64::from(*block)) {
            if block < slots.end || block + len > sectors {
                return Err(Misplaced { sector: block });
            }
            if block - slots.end >= len {
                slots.free.insert(slots.end, block - slots.end);
            }
            slots.end = block + len;
        }
        Ok(slots)
    }

    /// Behind all blocks: where the footer is.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The footer is at this sector: what is in front of it, too short for a block, stays as it is.
    pub fn leave_short_gap(&mut self, footer: u64) {
        if footer.checked_sub(self.end).is_some_and(|gap| gap < self.len) {
            self.end = footer;
        }
    }

    /// Takes the first free slot.
    pub fn take(&mut self) -> Result<Slot> {
        let run = |start| Run { start, count: self.len };
        if let Some((start, count)) = self.free.pop_first() {
            if count >= 2 * self.len {
                self.free.insert(start + self.len, count - self.len);
            }
            return Ok(Slot { run: run(start), fresh: false });
        }
        let slot = run(self.end);
        // The footer comes behind it.
        if slot.end() > u64::from(super::header::UNUSED) - 1 || slot.end() >= self.limit {
            let text = "the image file can't grow further: there is no room for another block";
            let kind = if slot.end() >= self.limit { ErrorKind::NoSpace } else { ErrorKind::Limit };
            return Err(BlockError::new(kind, text).at(slot.start * SECTOR));
        }
        self.end = slot.end();
        Ok(Slot { run: slot, fresh: slot.start + 1 >= self.fresh })
    }

    /// A slot that the file did not grow by after all. A part of what was to be written there may have been.
    pub fn take_back(&mut self, run: Run) {
        if run.end() == self.end {
            self.end = run.start;
            self.fresh = self.fresh.max(run.end() + 1);
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

    #[test]
    fn gaps_are_filled_before_the_file_grows() {
        let mut slots = Slots::between(4, &[10, 15, 40], 5, 47, u64::MAX).unwrap();
        assert_eq!(slots.end(), 45);
        let taken = starts(&mut slots, 7);
        let gaps = [(4, false), (20, false), (25, false), (30, false), (35, false)];
        assert_eq!(taken[..5], gaps);
        assert_eq!(taken[5..], [(45, false), (50, true)], "the first holds what was behind the last block");
        slots.free(Run { start: 10, count: 10 });
        assert_eq!(starts(&mut slots, 3), [(10, false), (15, false), (55, true)]);
    }

    #[test]
    fn the_footer_of_a_tidy_file_costs_no_freshness() {
        let mut slots = Slots::between(4, &[4], 5, 10, u64::MAX).unwrap();
        assert_eq!(starts(&mut slots, 1), [(9, true)], "only the bitmap takes the footer's place");
    }

    #[test]
    fn blocks_that_overlap_or_lie_outside_are_told() {
        assert_eq!(Slots::between(4, &[3], 5, 50, 50).unwrap_err(), Misplaced { sector: 3 });
        assert_eq!(Slots::between(4, &[10, 14], 5, 50, 50).unwrap_err(), Misplaced { sector: 14 });
        assert_eq!(Slots::between(4, &[46], 5, 50, 50).unwrap_err(), Misplaced { sector: 46 });
        let mut device = Slots::between(4, &[], 5, 14, 14).unwrap();
        assert!(device.take().is_ok());
        assert_eq!(device.take().unwrap_err().kind(), ErrorKind::NoSpace);
    }
}
