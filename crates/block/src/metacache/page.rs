//! A piece of a table in memory: words, and where they are in the file.
use super::codec::{Codec, Word};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};

/// Mark of a page of which a part may be a hole of the file: it has no space there to be written to. The other marks
/// are the format's own.
pub const UNPLACED: u32 = 1 << 31;

/// No file system has smaller blocks, in bytes.
const SMALLEST_BLOCK: usize = 512;

/// [`UNPLACED`] if the bytes of a table may come from a hole of the file.
pub fn may_lie_in_a_hole(bytes: &[u8]) -> u32 {
    let hole = bytes.chunks(SMALLEST_BLOCK).any(|block| block.iter().all(|byte| *byte == 0));
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
