//! Which blocks of a file are in use, for formats that keep no counts of references: whoever opens the image for
//! writing walks through its tables once and marks what they refer to.
//!
//! Law: a block is handed out only when nothing refers to it, in memory or on disk: what is given up comes back by
//! [`Blocks::free`], at the end of its way ([`super::Freed`]).
//!
//! Bounds: a bit for each block of the file; no block from `limit` on is handed out.
use super::space::{Reservations, Reserved, Run};
use crate::error::{BlockError, ErrorKind, Result};

/// Blocks in use.
#[derive(Debug)]
pub struct Blocks {
    /// A bit a block; what lies behind is free.
    used: Vec<u64>,
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
        Self { used: Vec::new(), lowest: 0, end: length, limit }
    }

    /// One more than the last block that was ever handed out or is in the file.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// One more than the last block in use.
    pub fn used_end(&self) -> u64 {
        let word = self.used.iter().rposition(|word| *word != 0);
        word.map_or(0, |at| at as u64 * 64 + u64::from(self.used[at].ilog2()) + 1)
    }

    /// How many blocks are in use.
    pub fn used(&self) -> u64 {
        self.used.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn is_used(&self, block: u64) -> bool {
        self.used.get((block / 64) as usize).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    fn set(&mut self, run: Run, used: bool) {
        for block in run.start..run.end() {
            let (word, bit) = ((block / 64) as usize, 1 << (block % 64));
            if used && word >= self.used.len() {
                self.used.resize(word + 1, 0);
            }
            if let Some(word) = self.used.get_mut(word) {
                *word = if used { *word | bit } else { *word & !bit };
            }
        }
    }

    /// Marks what a table or the header refers to; tells the first block that is in use already or can't be in the file:
    /// such an image must not be written to. Nothing is marked then.
    pub fn mark(&mut self, run: Run) -> Result<(), u64> {
        let mut blocks = run.start..run.end();
        if let Some(block) = blocks.find(|block| *block >= self.end || self.is_used(*block)) {
            return Err(block);
        }
        self.set(run, true);
        Ok(())
    }

    /// Takes the first free blocks: at least one, at most `most`, consecutive. What was reserved and never mapped is free
    /// again.
    pub fn allocate(&mut self, reservations: &Reservations, most: u64) -> Result<Found> {
        while let Some(unused) = reservations.take_unused() {
            self.free(unused.keep());
        }
        let start = (self.lowest..).find(|block| !self.is_used(*block)).unwrap_or(self.limit);
        self.lowest = start;
        if start >= self.limit {
            let text = "the image file can't grow further: its tables can't name more blocks";
            return Err(BlockError::new(ErrorKind::Limit, text));
        }
        // A run is fresh or not as a whole.
        let to = if start < self.end { self.end } else { self.limit };
        let count =
            (start..to.min(start + most.max(1))).take_while(|block| !self.is_used(*block)).count() as u64;
        let run = Run { start, count };
        self.set(run, true);
        let fresh = start >= self.end;
        (self.lowest, self.end) = (run.end(), self.end.max(run.end()));
        Ok(Found { reserved: reservations.guard(run), fresh })
    }

    /// Nothing refers to these blocks any more.
    pub fn free(&mut self, run: Run) {
        self.set(run, false);
        self.lowest = self.lowest.min(run.start);
    }
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
        assert_eq!((blocks.end(), blocks.used_end(), blocks.used()), (200, 106, 106));
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
