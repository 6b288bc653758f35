//! Bits that are set and read by several threads at a time: one for each sector, or for each cluster.
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::*};

pub struct Bits(Box<[AtomicU64]>);

impl Bits {
    pub fn new(len: u64) -> Self {
        Self((0..len.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    pub fn get(&self, at: u64) -> bool {
        self.0.get((at / 64) as usize).is_some_and(|word| word.load(Acquire) >> (at % 64) & 1 == 1)
    }

    pub fn set(&self, range: Range<u64>) {
        for (word, mask) in self.words(range) {
            word.fetch_or(mask, AcqRel);
        }
    }

    pub fn any(&self, range: Range<u64>) -> bool {
        self.words(range).any(|(word, mask)| word.load(Acquire) & mask != 0)
    }

    pub fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Release));
    }

    /// How many bits from the start of the range on are like the first one.
    pub fn alike(&self, range: Range<u64>) -> u64 {
        let first = self.get(range.start);
        let mut at = range.start;
        while at < range.end {
            let whole = if first { u64::MAX } else { 0 };
            let word = self.0.get((at / 64) as usize).map_or(0, |word| word.load(Acquire));
            if at.is_multiple_of(64) && word == whole {
                at += 64;
            } else if word >> (at % 64) & 1 == u64::from(first) {
                at += 1;
            } else {
                break;
            }
        }
        at.min(range.end) - range.start
    }

    /// The words that a range lies in, and which bits of each.
    fn words(&self, range: Range<u64>) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let Range { start, end } = range;
        let words = if start < end { start / 64..end.div_ceil(64) } else { 0..0 };
        words.filter_map(move |number| {
            let (from, to) = (start.saturating_sub(number * 64), (end - number * 64).min(64));
            let mask = u64::MAX << from & u64::MAX >> (64 - to);
            Some((self.0.get(number as usize)?, mask))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_set_found_and_measured() {
        for (start, end) in [(0, 1), (0, 64), (63, 65), (5, 200), (64, 128), (299, 300)] {
            let bits = Bits::new(300);
            bits.set(start..end);
            for at in 0..300 {
                assert_eq!(bits.get(at), (start..end).contains(&at), "{start}..{end}: {at}");
                let edge = if at < start {
                    start
                } else if at < end {
                    end
                } else {
                    300
                };
                assert_eq!(bits.alike(at..300), edge - at, "{start}..{end}: {at}");
                assert_eq!(bits.any(at..300), at < end);
            }
            assert!(!bits.any(0..start) && !bits.any(end..300) && !bits.any(7..7));
            bits.clear();
            assert!(!bits.any(0..300));
        }
    }
}
