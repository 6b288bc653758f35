//! A piece of a table in memory: words, and where they are in the file.
//!
//! A format whose entries are two words each reads and sets them together ([`Page::pair`], [`Page::set_pair`]): nobody sees a
//! half of a new entry beside a half of the old one, neither a request nor the copy that is written to the file.
use super::codec::{Codec, Word};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*, fence};

/// Mark of a page of which a part may be a hole of the file: it has no space there to be written to. The other marks
/// are the format's own.
pub const UNPLACED: u32 = 1 << 31;

/// No file system has smaller blocks, in bytes.
const SMALLEST_BLOCK: usize = 512;

/// [`UNPLACED`] if the bytes of a table may come from a hole of the file.
pub fn may_lie_in_a_hole(bytes: &[u8]) -> u32 {
    let hole = bytes.chunks(SMALLEST_BLOCK).any(codec::is_zero);
    if hole { UNPLACED } else { 0 }
}

/// A piece of a table: words, and where they are in the file.
pub struct Page<C: Codec> {
    key: u64,
    place: AtomicU64,
    marks: AtomicU32,
    /// Since the cache last looked for pages that may go.
    pub(super) used: AtomicBool,
    pub(super) changes: AtomicU64,
    /// Held while a pair is set.
    pairs: Mutex<()>,
    /// Counts the pairs that were set; odd while one is.
    pair_changes: AtomicU64,
    words: Box<[<C::Word as Word>::Cell]>,
}

impl<C: Codec> Page<C> {
    /// A clean page. `place` is the byte offset in the file; `marks` are bits of the format's own, and [`UNPLACED`].
    pub fn new(key: u64, place: u64, marks: u32, words: impl IntoIterator<Item = C::Word>) -> Arc<Self> {
        Arc::new(Self {
            key,
            place: AtomicU64::new(place),
            marks: AtomicU32::new(marks),
            used: AtomicBool::new(true),
            changes: AtomicU64::new(0),
            pairs: Mutex::new(()),
            pair_changes: AtomicU64::new(0),
            words: words.into_iter().map(Word::cell).collect(),
        })
    }

    /// A clean page of what was read at `place`.
    pub fn read(key: u64, place: u64, bytes: &[u8]) -> Arc<Self> {
        Self::new(key, place, may_lie_in_a_hole(bytes), C::words(bytes))
    }

    /// The key it is cached under.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Byte offset in the file.
    pub fn place(&self) -> u64 {
        self.place.load(Acquire)
    }

    /// Moves the page to another place in the file, where the same content already is. It must be clean.
    pub fn move_to(&self, place: u64, marks: u32) {
        self.place.store(place, Release);
        self.marks.store(marks, Release);
    }

    /// Bits of the format's own, and [`UNPLACED`].
    pub fn marks(&self) -> u32 {
        self.marks.load(Acquire)
    }

    /// Sets and clears marks.
    pub fn change_marks(&self, set: u32, clear: u32) {
        self.marks.fetch_or(set, AcqRel);
        self.marks.fetch_and(!clear, AcqRel);
    }

    /// Number of words.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether it has no words.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The word at `index`; 0 beyond the end.
    pub fn word(&self, index: usize) -> C::Word {
        self.words.get(index).map_or(C::Word::default(), Word::load)
    }

    /// The words from `index` on.
    pub fn words_from(&self, index: usize) -> impl Iterator<Item = C::Word> {
        self.words.iter().skip(index).map(Word::load)
    }

    /// Sets the word at `index` and tells the old one. The caller marks the page dirty.
    pub fn set(&self, index: usize, word: C::Word) -> C::Word {
        self.words.get(index).map_or(C::Word::default(), |cell| Word::swap(cell, word))
    }

    /// The words at `index` and behind it, which are set together.
    pub fn pair(&self, index: usize) -> [C::Word; 2] {
        let before = self.pair_changes.load(Acquire);
        let pair = [self.word(index), self.word(index + 1)];
        fence(Acquire);
        if before & 1 == 0 && self.pair_changes.load(Relaxed) == before {
            return pair;
        }
        let _unchanged = self.pairs.lock();
        [self.word(index), self.word(index + 1)]
    }

    /// Sets the words at `index` and behind it together, and tells the old ones. The caller marks the page dirty.
    pub fn set_pair(&self, index: usize, pair: [C::Word; 2]) -> [C::Word; 2] {
        let _alone = self.pairs.lock();
        let before = self.pair_changes.load(Relaxed);
        self.pair_changes.store(before.wrapping_add(1), Relaxed);
        // The words are swapped, which releases: who sees one of them sees the count that is odd.
        let old = [self.set(index, pair[0]), self.set(index + 1, pair[1])];
        self.pair_changes.store(before.wrapping_add(2), Release);
        old
    }

    /// A copy of all words, with no pair half set.
    pub(super) fn copy(&self) -> Vec<C::Word> {
        let _unchanged = self.pairs.lock();
        self.words_from(0).collect()
    }

    /// What it takes in memory, roughly.
    pub(super) fn memory(&self) -> usize {
        memory_of::<C>(self.len())
    }
}

/// What a page of `words` words takes in memory, roughly.
pub(super) fn memory_of<C: Codec>(words: usize) -> usize {
    words * C::BYTES + 128
}

impl<C: Codec> fmt::Debug for Page<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Page({:#x} at {:#x}, {} words)", self.key, self.place(), self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::Be64;
    use super::*;

    #[test]
    fn nobody_sees_half_of_a_pair() {
        const PAIRS: usize = 4;
        let page: Arc<Page<Be64>> = Page::new(0, 0, 0, [0; 2 * PAIRS]);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..2u64 {
                let (page, done) = (&page, &done);
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let value = round * 2 + writer;
                        page.set_pair(2 * (round as usize % PAIRS), [value, !value]);
                    }
                    done.store(true, Release);
                });
            }
            let whole = |pair: &[u64]| pair[0] == !pair[1] || pair == [0, 0];
            while !done.load(Acquire) {
                assert!((0..PAIRS).all(|i| whole(&page.pair(2 * i))));
                assert!(page.copy().chunks(2).all(whole));
            }
        });
    }
}
