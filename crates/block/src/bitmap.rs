//! Dirty bitmaps: which chunks of a node were written since their bits were last cleared.
//!
//! Bits are set after the child's write and before its acknowledgement, also when it failed. One bit a chunk of
//! `granularity` bytes, atomics only, so that the inline path marks without a lock.
use std::sync::atomic::{AtomicU64, Ordering::*};

/// A dirty bitmap of fixed length.
pub struct DirtyBitmap {
    granularity: u64,
    length: u64,
    words: Box<[AtomicU64]>,
    count: AtomicU64,
}

impl DirtyBitmap {
    /// A clean bitmap over `length` bytes. `granularity` is a power of two of at least 512 bytes.
    pub fn new(length: u64, granularity: u64) -> Self {
        let chunks = length.div_ceil(granularity);
        let words = (0..chunks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { granularity, length, words, count: AtomicU64::new(0) }
    }

    /// Bytes per bit.
    pub fn granularity(&self) -> u64 {
        self.granularity
    }

    /// Marks the chunks that `offset..offset + len` touches.
    pub fn mark(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.length);
        if offset >= end {
            return;
        }
        for chunk in offset / self.granularity..=(end - 1) / self.granularity {
            let bit = 1 << (chunk % 64);
            // The bit is set without testing it first: a plain load could still see the bit that a copy job has cleared, which has
            // read the old data already.
            if let Some(word) = self.words.get((chunk / 64) as usize)
                && word.fetch_or(bit, AcqRel) & bit == 0
            {
                self.count.fetch_add(1, Relaxed);
            }
        }
    }

    /// The byte offset of the first dirty chunk that begins at or after byte `from`.
    pub fn next_dirty(&self, from: u64) -> Option<u64> {
        let first = from.div_ceil(self.granularity);
        let start = usize::try_from(first / 64).ok()?;
        for (at, word) in self.words.iter().enumerate().skip(start) {
            let unseen = if at == start { u64::MAX << (first % 64) } else { u64::MAX };
            let bits = word.load(Acquire) & unseen;
            if bits != 0 {
                return Some((at as u64 * 64 + u64::from(bits.trailing_zeros())) * self.granularity);
            }
        }
        None
    }

    /// Clears the run of dirty chunks that begins at byte `from`, up to byte `limit` at most; returns
    /// where it ends. Both are multiples of the granularity, or beyond the end.
    pub fn take_run(&self, from: u64, limit: u64) -> u64 {
        let mut at = from;
        while at < limit.min(self.length) && self.take(at / self.granularity) {
            at += self.granularity;
        }
        at.min(self.length)
    }

    fn take(&self, chunk: u64) -> bool {
        let bit = 1 << (chunk % 64);
        let taken =
            self.words.get((chunk / 64) as usize).is_some_and(|w| w.fetch_and(!bit, AcqRel) & bit != 0);
        if taken {
            self.count.fetch_sub(1, Relaxed);
        }
        taken
    }

    /// Dirty bytes.
    pub fn dirty_bytes(&self) -> u64 {
        self.count.load(Acquire).saturating_mul(self.granularity).min(self.length)
    }

    /// Whether nothing is dirty.
    pub fn is_clean(&self) -> bool {
        self.count.load(Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_marked_chunk_is_taken_once_and_in_order() {
        let map = DirtyBitmap::new(10 << 20, 65536);
        map.mark(65535, 2);
        map.mark(9 << 20, 8 << 20);
        assert_eq!(map.dirty_bytes(), 2 * 65536 + (1 << 20));
        assert_eq!(map.next_dirty(0), Some(0));
        assert_eq!(map.take_run(0, 65536), 65536, "no further than its limit");
        assert_eq!(map.take_run(65536, 10 << 20), 2 * 65536, "no further than what is dirty");
        assert_eq!(map.next_dirty(0), Some(9 << 20));
        assert_eq!(map.take_run(9 << 20, u64::MAX), 10 << 20);
        assert_eq!(map.next_dirty(0), None);
        assert!(map.is_clean());

        let odd = DirtyBitmap::new(100_000, 65536);
        odd.mark(0, 100_000);
        assert_eq!(
            odd.next_dirty(100_000),
            None,
            "the last chunk, shorter than the others, is behind its own end"
        );
    }
}
