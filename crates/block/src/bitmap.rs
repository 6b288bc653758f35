//! Dirty bitmaps: which chunks of a node were written since they were last looked at.
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

    /// Bytes a bit stands for.
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
            if let Some(word) = self.words.get((chunk / 64) as usize)
                && word.load(Relaxed) & bit == 0
                && word.fetch_or(bit, AcqRel) & bit == 0
            {
                self.count.fetch_add(1, Relaxed);
            }
        }
    }

    /// Finds the first dirty chunk at or after byte `from`, cleans it, and tells its byte offset and length.
    pub fn take_next(&self, from: u64) -> Option<(u64, u64)> {
        let first = from / self.granularity;
        for (at, word) in self.words.iter().enumerate().skip((first / 64) as usize) {
            let mut bits = word.load(Acquire);
            if at as u64 == first / 64 {
                bits &= u64::MAX << (first % 64);
            }
            while bits != 0 {
                let bit = bits & bits.wrapping_neg();
                if word.fetch_and(!bit, AcqRel) & bit != 0 {
                    self.count.fetch_sub(1, Relaxed);
                    let offset = (at as u64 * 64 + u64::from(bit.trailing_zeros())) * self.granularity;
                    return Some((offset, self.granularity.min(self.length - offset)));
                }
                bits &= !bit;
            }
        }
        None
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
        assert_eq!(map.take_next(0), Some((0, 65536)));
        assert_eq!(map.take_next(0), Some((65536, 65536)));
        let mut n = 0;
        while let Some((offset, _)) = map.take_next(0) {
            assert_eq!(offset, (9 << 20) + n * 65536);
            n += 1;
        }
        assert_eq!(n, 16);
        assert!(map.is_clean());
    }
}
