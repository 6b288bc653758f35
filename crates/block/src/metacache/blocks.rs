//! Which blocks of a file are in use, for formats that keep no counts of references: whoever opens the image for
//! writing walks through its tables once and marks what they refer to.
//!
//! Law: a block is handed out only when nothing refers to it, in memory or on disk: what is given up comes back by
//! [`Blocks::free`], at the end of its way ([`super::Freed`]).
//!
//! Bounds: a bit for each block that is used, and no more for what lies between, however long an image says that its file
//! is: at most some words for each entry of its tables. No block from `limit` on is handed out.
use super::space::{Reservations, Reserved, Run};
use crate::error::{BlockError, ErrorKind, Result};
use std::collections::BTreeMap;

/// Blocks in use.
#[derive(Debug)]
pub struct Blocks {
    /// A bit a block, 64 to a word, by the words' numbers; words without a bit are left out.
    used: BTreeMap<u64, u64>,
    /// No block below this is free.
    lowest: u64,
    /// No block from here on was ever written: the file ended here, and nothing was handed out beyond.
    end: u64,
    /// Entries can name no block from here on.
    limit: u64,
}

/// A found run.
pub struct Found {
    /// The run.
    pub reserved: Reserved,
    /// It reads as zeroes: nothing was ever written there. The file grows by it.
    pub fresh: bool,
}

impl Blocks {
    /// A file of `length` blocks, none of which is in use.
    pub fn new(length: u64, limit: u64) -> Self {
        Self { used: BTreeMap::new(), lowest: 0, end: length, limit }
    }

    /// One more than the last block that was ever handed out or is in the file.
    pub fn end(&self) -> u64 {
        self.end
    }

    fn word(&self, number: u64) -> u64 {
        self.used.get(&number).copied().unwrap_or(0)
    }

    /// One more than the last block that is used.
    pub fn used_end(&self) -> u64 {
        let last = self.used.last_key_value();
        last.map_or(0, |(number, word)| number * 64 + u64::from(64 - word.leading_zeros()))
    }

    /// How many blocks are used.
    pub fn used_count(&self) -> u64 {
        self.used.values().map(|word| u64::from(word.count_ones())).sum()
    }

    /// The first block from `start` on that is not used.
    fn first_free(&self, start: u64) -> u64 {
        let mut block = start;
        loop {
            // The bits below the block count as used.
            let used = self.word(block / 64) | ((1 << (block % 64)) - 1);
            block = block / 64 * 64 + u64::from(used.trailing_ones());
            if used != u64::MAX {
                return block;
            }
        }
    }

    /// The first block of `start..to` that is used; `to` if none is.
    fn first_used(&self, start: u64, to: u64) -> u64 {
        let last = to.saturating_sub(1) / 64;
        for (number, word) in self.used.range(start / 64..=last.max(start / 64)) {
            let from = if *number == start / 64 { u64::MAX << (start % 64) } else { u64::MAX };
            if word & from != 0 {
                return (number * 64 + u64::from((word & from).trailing_zeros())).min(to);
            }
        }
        to
    }

    fn set(&mut self, run: Run, used: bool) {
        let mut block = run.start;
        while block < run.end() {
            let number = block / 64;
            let end = run.end().min((number + 1) * 64);
            let bits = u64::MAX >> (64 - (end - block)) << (block % 64);
            let old = self.word(number);
            match if used { old | bits } else { old & !bits } {
                0 => self.used.remove(&number),
                word => self.used.insert(number, word),
            };
            block = end;
        }
    }

    /// Marks what a table or the header refers to; tells the first block that is in use already or can't be in the file:
    /// such an image must not be written to. Nothing is marked then.
    pub fn mark(&mut self, run: Run) -> Result<(), u64> {
        let there = run.end().min(self.end.max(run.start));
        let used = self.first_used(run.start, there);
        if used < run.end() {
            return Err(used);
        }
        self.set(run, true);
        Ok(())
    }

    /// Takes the first free blocks: at least one, at most `most`, consecutive. What was reserved and never mapped is free
    /// again.
    pub fn allocate(&mut self, reservations: &Reservations, most: u64) -> Result<Found> {
        self.take_unused(reservations);
        let start = self.first_free(self.lowest);
        self.lowest = start;
        if start >= self.limit {
            return Err(full());
        }
        // A run is fresh or not as a whole.
        let to = if start < self.end { self.end } else { self.limit };
        let count = self.first_used(start, to.min(start + most.max(1))) - start;
        self.lowest = start + count;
        Ok(self.take(reservations, Run { start, count }))
    }

    /// Takes the first `count` consecutive blocks that are free. They are fresh only if all of them are.
    pub fn allocate_whole(&mut self, reservations: &Reservations, count: u64) -> Result<Found> {
        self.take_unused(reservations);
        let mut start = self.first_free(self.lowest);
        while start < self.limit.saturating_sub(count.saturating_sub(1)) {
            let used = self.first_used(start, start + count);
            if used == start + count {
                return Ok(self.take(reservations, Run { start, count }));
            }
            start = self.first_free(used);
        }
        Err(full())
    }

    /// Takes `count` blocks behind the end: none that anything, known or not, may refer to already.
    pub fn append(&mut self, reservations: &Reservations, count: u64) -> Result<Found> {
        let run = Run { start: self.end, count };
        if self.end.checked_add(count).is_none_or(|end| end > self.limit) {
            return Err(full());
        }
        Ok(self.take(reservations, run))
    }

    /// What was reserved and never mapped is free again.
    pub fn take_unused(&mut self, reservations: &Reservations) {
        while let Some(unused) = reservations.take_unused() {
            self.free(unused.keep());
        }
    }

    fn take(&mut self, reservations: &Reservations, run: Run) -> Found {
        self.set(run, true);
        let fresh = run.start >= self.end;
        self.end = self.end.max(run.end());
        Found { reserved: reservations.guard(run), fresh }
    }

    /// Nothing refers to these blocks any more.
    pub fn free(&mut self, run: Run) {
        self.set(run, false);
        self.lowest = self.lowest.min(run.start);
    }
}

fn full() -> BlockError {
    let text = "the image file can't grow further: its tables can't name more blocks";
    BlockError::new(ErrorKind::Limit, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(start: u64, count: u64) -> Run {
        Run { start, count }
    }

    #[test]
    fn the_first_free_blocks_are_taken_and_what_is_dropped_comes_back() {
        let (mut blocks, reservations) = (Blocks::new(6, 200), Reservations::default());
        blocks.mark(run(0, 2)).unwrap();
        blocks.mark(run(4, 1)).unwrap();
        assert_eq!((blocks.mark(run(4, 1)), blocks.mark(run(6, 1))), (Err(4), Err(6)));
        let mut take = |most| blocks.allocate(&reservations, most).unwrap();
        let (first, second, third) = (take(9), take(9), take(100));
        assert_eq!((first.reserved.run(), first.fresh), (run(2, 2), false));
        assert_eq!((second.reserved.run(), second.fresh), (run(5, 1), false));
        assert_eq!((third.reserved.run(), third.fresh), (run(6, 100), true));
        drop(second);
        first.reserved.keep();
        let again = take(9);
        assert_eq!((again.reserved.run(), again.fresh), (run(5, 1), false));
        assert_eq!(take(500).reserved.run(), run(106, 94));
        third.reserved.keep();
        blocks.free(run(3, 1));
        assert_eq!(blocks.allocate(&reservations, 9).unwrap().reserved.run(), run(3, 1));
        blocks.take_unused(&reservations);
        assert_eq!((blocks.end(), blocks.used_end(), blocks.used_count()), (200, 106, 105));
    }

    #[test]
    fn whole_runs_pass_over_gaps_that_are_too_small() {
        let (mut blocks, reservations) = (Blocks::new(70, 1 << 60), Reservations::default());
        for used in [run(0, 62), run(65, 1)] {
            blocks.mark(used).unwrap();
        }
        let mut take = |count| blocks.allocate_whole(&reservations, count).unwrap();
        let (first, second, third) = (take(4), take(3), take(64));
        assert_eq!((first.reserved.run(), first.fresh), (run(66, 4), false));
        assert_eq!((second.reserved.run(), second.fresh), (run(62, 3), false));
        assert_eq!((third.reserved.run(), third.fresh), (run(70, 64), true));
        let far = 1 << 59;
        assert_eq!(blocks.mark(run(far, 1)), Err(far), "the file is not so long");
        assert_eq!(blocks.used.len(), 3, "words without a bit take no memory");
    }

    #[test]
    fn a_full_file_is_refused() {
        let (mut blocks, reservations) = (Blocks::new(0, 3), Reservations::default());
        let all = blocks.allocate(&reservations, 9).unwrap();
        assert_eq!(all.reserved.run(), run(0, 3));
        let refused = blocks.allocate(&reservations, 1).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Limit);
    }
}
