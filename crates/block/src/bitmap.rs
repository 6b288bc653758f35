//! Dirty bitmaps: which chunks of a node were written since their bits were last cleared.
//!
//! ```text
//!  root, made with the first bit ─▶ one slot a leaf, filled with its first bit ─▶ leaf: 32,768 bits
//! ```
//!
//! Bits are set after the child's write and before its acknowledgement, also when it failed. One bit a chunk of
//! `granularity` bytes, atomics only, so that the inline path marks without a lock; only who meets a leaf that is missing
//! takes one, to make it.
//!
//! Bounds: what was never marked takes no memory; a bitmap has at most [`DirtyBitmap::MAX_CHUNKS`] bits, whose root takes
//! 32 MiB.
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock};

/// Words of a leaf.
const LEAF_WORDS: usize = 512;
/// Bits of a leaf.
const LEAF_BITS: u64 = LEAF_WORDS as u64 * 64;

type Leaf = [AtomicU64; LEAF_WORDS];

/// The bits, for a length.
struct Root {
    length: u64,
    leaves: OnceLock<Box<[OnceLock<Arc<Leaf>>]>>,
}

/// A dirty bitmap.
pub struct DirtyBitmap {
    granularity: u64,
    root: ArcSwap<Root>,
    /// Held by who adds a leaf or replaces the root, so that no leaf is added to a root that was replaced.
    adding: Mutex<()>,
    count: AtomicU64,
    /// Bits are others than when it was last called stored.
    changed: AtomicBool,
    stored_length: AtomicU64,
}

impl DirtyBitmap {
    /// Most bits of a bitmap.
    pub const MAX_CHUNKS: u64 = 1 << 36;

    /// A clean bitmap over `length` bytes. `granularity` is a power of two of at least 512 bytes; what is behind
    /// [`DirtyBitmap::MAX_CHUNKS`] chunks is not recorded.
    pub fn new(length: u64, granularity: u64) -> Self {
        let root = Root { length, leaves: OnceLock::new() };
        let (root, adding) = (ArcSwap::from_pointee(root), Mutex::default());
        let (count, changed, stored_length) =
            (AtomicU64::new(0), AtomicBool::new(false), AtomicU64::new(length));
        Self { granularity, root, adding, count, changed, stored_length }
    }

    /// Bytes per bit.
    pub fn granularity(&self) -> u64 {
        self.granularity
    }

    /// Bytes that it is about.
    pub fn length(&self) -> u64 {
        self.root.load().length
    }

    /// Its bits.
    pub fn chunks(&self) -> u64 {
        self.root.load().chunks(self.granularity)
    }

    /// Takes another length, which follows from the one that it has. What is new is clean. Nobody marks meanwhile what a
    /// shorter one leaves out.
    pub(crate) fn resize(&self, length: impl FnOnce(u64) -> u64) {
        let _adding = self.adding.lock();
        let old = self.root.load_full();
        let length = length(old.length);
        if length == old.length {
            return;
        }
        let new = Root { length, leaves: OnceLock::new() };
        let chunks = new.chunks(self.granularity);
        self.change(chunks, old.chunks(self.granularity), |word, bits| word.fetch_and(!bits, AcqRel) & bits);
        if let Some(old) = old.leaves.get() {
            let leaves = new.leaves.get_or_init(|| new.slots(self.granularity));
            for (new, old) in leaves.iter().zip(old) {
                if let Some(leaf) = old.get() {
                    new.get_or_init(|| leaf.clone());
                }
            }
        }
        self.root.store(Arc::new(new));
    }

    /// Marks the chunks that `offset..offset + len` touches.
    pub fn mark(&self, offset: u64, len: u64) {
        let root = self.root.load();
        let end = offset.saturating_add(len).min(root.length);
        if offset >= end {
            return;
        }
        let (mut at, end) = (offset / self.granularity, (end - 1) / self.granularity + 1);
        let end = end.min(Self::MAX_CHUNKS);
        while at < end {
            let to = (at / 64 * 64 + 64).min(end);
            self.set_bits(&root, at, bits_between(at, to));
            at = to;
        }
    }

    /// Sets bits in the word of a chunk.
    fn set_bits(&self, root: &Root, chunk: u64, bits: u64) {
        let made;
        let leaf = match root.leaf(chunk / LEAF_BITS) {
            Some(leaf) => Some(leaf),
            None => {
                made = self.add_leaf(chunk / LEAF_BITS);
                made.as_ref()
            }
        };
        if let Some(word) = leaf.and_then(|leaf| leaf.get((chunk % LEAF_BITS / 64) as usize)) {
            // The bits are set without testing them first: a plain load could still see the bit that a copy job has
            // cleared, which has read the old data already.
            let new = bits & !word.fetch_or(bits, AcqRel);
            if new != 0 {
                self.count.fetch_add(u64::from(new.count_ones()), Relaxed);
                self.changed.store(true, Relaxed);
            }
        }
    }

    fn add_leaf(&self, index: u64) -> Option<Arc<Leaf>> {
        let _adding = self.adding.lock();
        let root = self.root.load();
        let slots = root.leaves.get_or_init(|| root.slots(self.granularity));
        let slot = slots.get(usize::try_from(index).ok()?)?;
        Some(slot.get_or_init(|| Arc::new([const { AtomicU64::new(0) }; LEAF_WORDS])).clone())
    }

    /// Changes the words of the chunks `from..to` that there are, told which bits of them; `change` answers those that are
    /// cleared.
    fn change(&self, from: u64, to: u64, change: impl Fn(&AtomicU64, u64) -> u64) {
        let root = self.root.load();
        let mut at = from;
        while at < to {
            let leaf_end = (at / LEAF_BITS + 1).saturating_mul(LEAF_BITS).min(to);
            if let Some(leaf) = root.leaf(at / LEAF_BITS) {
                let mut cleared = 0;
                while at < leaf_end {
                    let word_end = (at / 64 * 64 + 64).min(leaf_end);
                    if let Some(word) = leaf.get((at % LEAF_BITS / 64) as usize) {
                        cleared += u64::from(change(word, bits_between(at, word_end)).count_ones());
                    }
                    at = word_end;
                }
                self.count.fetch_sub(cleared, Relaxed);
                self.changed.fetch_or(cleared > 0, Relaxed);
            }
            at = leaf_end;
        }
    }

    /// The first of the chunks `from..to` whose bit is `dirty`; if there is none, `to`, or the number of chunks.
    fn find(&self, from: u64, to: u64, dirty: bool) -> u64 {
        let root = self.root.load();
        let end = root.chunks(self.granularity).min(to);
        let mut at = from;
        while at < end {
            let Some(leaf) = root.leaf(at / LEAF_BITS) else {
                if !dirty {
                    return at;
                }
                at = (at / LEAF_BITS + 1) * LEAF_BITS;
                continue;
            };
            for word in leaf.iter().skip((at % LEAF_BITS / 64) as usize) {
                if at >= end {
                    break;
                }
                let word = word.load(Acquire);
                let bits = if dirty { word } else { !word } & bits_between(at, at / 64 * 64 + 64);
                if bits != 0 {
                    return (at / 64 * 64 + u64::from(bits.trailing_zeros())).min(end);
                }
                at = at / 64 * 64 + 64;
            }
        }
        end
    }

    /// The byte offset of the first dirty chunk that begins at or after byte `from`.
    pub fn next_dirty(&self, from: u64) -> Option<u64> {
        let found = self.find(from.div_ceil(self.granularity), u64::MAX, true);
        (found < self.chunks()).then(|| found * self.granularity)
    }

    /// Whether the chunk of byte `at`, which is inside, is dirty, and where, in bytes, that ends: at the end of the chunk that
    /// has the byte before `end`, at most, which is all that is looked at.
    pub fn run_at(&self, at: u64, end: u64) -> (bool, u64) {
        let chunk = at / self.granularity;
        let dirty = self.find(chunk, chunk + 1, true) == chunk;
        let end = self.find(chunk + 1, end.div_ceil(self.granularity), !dirty).max(chunk + 1);
        (dirty, end.saturating_mul(self.granularity).min(self.length()))
    }

    /// The dirty runs, from the first one on: where each begins and ends, in bytes.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next_dirty(at)?;
            at = self.run_at(start, u64::MAX).1;
            Some((start, at))
        })
    }

    /// Clears the run of dirty chunks that begins at byte `from`, up to byte `limit` at most; returns
    /// where it ends. Both are multiples of the granularity, or beyond the end.
    pub fn take_run(&self, from: u64, limit: u64) -> u64 {
        let length = self.length();
        let mut at = from;
        while at < limit.min(length) && self.take(at / self.granularity) {
            at += self.granularity;
        }
        at.min(length)
    }

    fn take(&self, chunk: u64) -> bool {
        let root = self.root.load();
        let leaf = root.leaf(chunk / LEAF_BITS);
        let word = leaf.and_then(|leaf| leaf.get((chunk % LEAF_BITS / 64) as usize));
        let bit = 1 << (chunk % 64);
        let taken = word.is_some_and(|w| w.fetch_and(!bit, AcqRel) & bit != 0);
        if taken {
            self.count.fetch_sub(1, Relaxed);
            self.changed.store(true, Relaxed);
        }
        taken
    }

    /// Clears all.
    pub fn clear(&self) {
        self.change(0, self.chunks(), |word, bits| word.fetch_and(!bits, AcqRel) & bits);
    }

    /// Marks what is dirty in `other`, whose granularity may be another one.
    pub fn merge(&self, other: &Self) {
        other.runs().for_each(|(start, end)| self.mark(start, end - start));
    }

    /// One of the same granularity and length with the bits of now.
    #[must_use]
    pub fn copied(&self) -> Self {
        let copy = Self::new(self.length(), self.granularity);
        copy.merge(self);
        copy
    }

    /// The bits of the chunks from `first`, a multiple of 64, on, as many as `bytes` has, the lowest bit of a byte first;
    /// those behind the end are zero.
    pub fn bits(&self, first: u64, bytes: &mut [u8]) {
        let root = self.root.load();
        let chunks = root.chunks(self.granularity);
        for (at, out) in (first..).step_by(64).zip(bytes.chunks_mut(8)) {
            let word = root.leaf(at / LEAF_BITS).and_then(|leaf| leaf.get((at % LEAF_BITS / 64) as usize));
            let word = word.filter(|_| at < chunks).map_or(0, |word| word.load(Acquire));
            out.copy_from_slice(word.to_le_bytes().get(..out.len()).unwrap_or_default());
        }
    }

    /// Marks chunks by bits as [`DirtyBitmap::bits`] gives them.
    pub fn mark_bits(&self, first: u64, bytes: &[u8]) {
        let root = self.root.load();
        let chunks = root.chunks(self.granularity);
        for (at, bytes) in (first..chunks).step_by(64).zip(bytes.chunks(8)) {
            let mut word = [0; 8];
            word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            let bits = u64::from_le_bytes(word) & bits_between(at, (at + 64).min(chunks));
            if bits != 0 {
                self.set_bits(&root, at, bits);
            }
        }
    }

    /// Whether none of the chunks `from..to` is dirty.
    pub fn is_clean_between(&self, from: u64, to: u64) -> bool {
        self.find(from, to, true) >= to.min(self.chunks())
    }

    /// Whether bits or length are others than when it was last called stored. Asked while nobody marks.
    pub fn is_changed(&self) -> bool {
        self.changed.load(Acquire) || self.stored_length.load(Acquire) != self.length()
    }

    /// Says that what it is now is kept somewhere.
    pub fn call_stored(&self) {
        self.changed.store(false, Release);
        self.stored_length.store(self.length(), Release);
    }

    /// Dirty chunks.
    pub fn dirty_chunks(&self) -> u64 {
        self.count.load(Acquire)
    }

    /// Dirty bytes.
    pub fn dirty_bytes(&self) -> u64 {
        self.dirty_chunks().saturating_mul(self.granularity).min(self.length())
    }

    /// Whether nothing is dirty.
    pub fn is_clean(&self) -> bool {
        self.dirty_chunks() == 0
    }
}

impl Root {
    fn chunks(&self, granularity: u64) -> u64 {
        self.length.div_ceil(granularity).min(DirtyBitmap::MAX_CHUNKS)
    }

    fn slots(&self, granularity: u64) -> Box<[OnceLock<Arc<Leaf>>]> {
        (0..self.chunks(granularity).div_ceil(LEAF_BITS)).map(|_| OnceLock::new()).collect()
    }

    fn leaf(&self, index: u64) -> Option<&Arc<Leaf>> {
        self.leaves.get()?.get(usize::try_from(index).ok()?)?.get()
    }
}

/// The bits, in their word, of the chunks `from..to` of one word.
fn bits_between(from: u64, to: u64) -> u64 {
    let upto = match to % 64 {
        0 => u64::MAX,
        bits => (1 << bits) - 1,
    };
    upto & u64::MAX << (from % 64)
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

    /// What a bitmap should say, bit by bit.
    fn model(map: &DirtyBitmap, dirty: &[bool]) {
        let runs: Vec<_> = map.runs().collect();
        let mut seen = vec![false; dirty.len()];
        for (start, end) in runs {
            let chunks = start / 512..end.div_ceil(512);
            chunks.for_each(|chunk| seen[chunk as usize] = true);
        }
        assert_eq!(seen, dirty);
        assert_eq!(map.dirty_chunks(), dirty.iter().filter(|dirty| **dirty).count() as u64);
        let mut bytes = vec![0; dirty.len().div_ceil(8)];
        map.bits(0, &mut bytes);
        let bit = |chunk: usize| bytes[chunk / 8] >> (chunk % 8) & 1 == 1;
        assert!((0..dirty.len()).all(|chunk| bit(chunk) == dirty[chunk]));
        let copy = DirtyBitmap::new(map.length(), 512);
        copy.mark_bits(0, &bytes);
        assert_eq!(copy.runs().collect::<Vec<_>>(), map.runs().collect::<Vec<_>>());
    }

    #[test]
    fn a_bitmap_says_what_a_list_of_bits_says_through_marks_clears_and_new_lengths() {
        let mut state = 7u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut dirty = vec![false; 70_001];
        let map = DirtyBitmap::new(dirty.len() as u64 * 512 - 100, 512);
        for round in 0..60 {
            let first = random(dirty.len() as u64);
            let count = 1 + random(if round % 7 == 0 { 40_000 } else { 100 });
            match random(8) {
                0 => {
                    let chunks = 1 + random(100_000);
                    map.resize(|_| chunks * 512);
                    dirty.resize(chunks as usize, false);
                }
                1 => {
                    let end = map.take_run(first * 512, (first + count) * 512);
                    let last = (end.div_ceil(512) as usize).min(dirty.len());
                    dirty[first as usize..last].fill(false);
                }
                _ => {
                    map.mark(first * 512 + 1, count * 512 - 1);
                    let last = ((first + count) as usize).min(dirty.len());
                    dirty[first as usize..last].fill(true);
                }
            }
            model(&map, &dirty);
        }
        map.clear();
        model(&map, &vec![false; dirty.len()]);
    }

    #[test]
    fn bits_of_another_granularity_are_merged_so_that_every_change_stays_covered() {
        let (fine, coarse) = (DirtyBitmap::new(1 << 20, 512), DirtyBitmap::new(1 << 20, 65536));
        fine.mark(65536 + 700, 1);
        coarse.merge(&fine);
        assert_eq!(coarse.runs().collect::<Vec<_>>(), [(65536, 131_072)]);
        fine.merge(&coarse);
        assert_eq!(fine.runs().collect::<Vec<_>>(), [(65536, 131_072)]);
    }

    #[test]
    fn a_run_is_followed_no_further_than_asked() {
        let map = DirtyBitmap::new(1 << 30, 512);
        let half = 1 << 29;
        map.mark(0, half);
        for (at, end, found) in [
            (0, 1, (true, 512)),
            (0, 1000, (true, 1024)),
            (100, 50, (true, 512)),
            (70_000, half - 1, (true, half)),
            (0, u64::MAX, (true, half)),
            (half, half + 513, (false, half + 1024)),
            (half, u64::MAX, (false, 1 << 30)),
        ] {
            assert_eq!(map.run_at(at, end), found, "from {at} to {end}");
        }
        assert!(
            map.is_clean_between(half / 512, u64::MAX) && !map.is_clean_between(half / 512 - 1, half / 512)
        );
    }

    #[test]
    fn a_bitmap_of_a_huge_disk_takes_memory_only_for_what_was_marked() {
        let map = DirtyBitmap::new(16 << 40, 65536);
        map.mark((16 << 40) - 1, 1);
        assert_eq!(map.next_dirty(0), Some((16 << 40) - 65536));
        assert_eq!(map.run_at(0, u64::MAX), (false, (16 << 40) - 65536));
        let root = map.root.load();
        assert_eq!(root.leaves.get().unwrap().iter().filter(|leaf| leaf.get().is_some()).count(), 1);
    }

    #[test]
    fn a_length_that_is_taken_back_changes_nothing_but_the_bits_that_it_left_out() {
        let map = DirtyBitmap::new(1 << 20, 512);
        map.mark(0, 512);
        map.call_stored();
        map.resize(|old| old * 2);
        assert!(map.is_changed());
        map.resize(|old| old / 2);
        assert!(!map.is_changed());
        map.resize(|_| 256);
        map.resize(|_| 1 << 20);
        assert!(!map.is_changed() && map.dirty_chunks() == 1);
        map.resize(|_| 0);
        map.resize(|_| 1 << 20);
        assert!(map.is_changed() && map.dirty_chunks() == 0);
    }

    #[test]
    fn marks_of_many_threads_are_all_there() {
        let map = DirtyBitmap::new(1 << 30, 512);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let map = &map;
                scope.spawn(move || {
                    (0..10_000).for_each(|i| map.mark((i * 4 + thread) * 16 * 512, 512));
                });
            }
        });
        assert_eq!(map.dirty_chunks(), 40_000);
    }

    #[test]
    fn marks_of_many_threads_are_all_there_while_it_grows() {
        let map = DirtyBitmap::new(0, 512);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let map = &map;
                scope.spawn(move || {
                    for at in (0..5_000).map(|i| (i * 4 + thread) * 64 * 512) {
                        map.resize(|old| old.max(at + 512));
                        map.mark(at, 512);
                    }
                });
            }
        });
        assert_eq!(map.dirty_chunks(), 20_000);
    }
}
