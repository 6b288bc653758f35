//! What a conversion has brought to its target: ranges, each with the digest of what is there.
//!
//! Bounds: 48 bytes for each piece of data that was copied, of 1 MiB in general: 48 MiB for a TiB. Holes have no entry.

use super::journal::Record;
use crate::digest::Running;
use block::{PieceWitness, Witness};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// Sees the copy, and keeps what is asked for.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    books: Arc<Books>,
}

#[derive(Debug, Default)]
struct Books {
    /// For the journal: copied, and not noted there yet.
    fresh: Option<Mutex<Vec<Record>>>,
    /// For the proof: all.
    all: Option<Mutex<Vec<Record>>>,
}

impl Ledger {
    /// Keeps what a journal or a proof needs.
    pub fn new(journal: bool, proof: bool) -> Ledger {
        let book = |kept: bool| kept.then(Mutex::default);
        Ledger { books: Arc::new(Books { fresh: book(journal), all: book(proof) }) }
    }

    /// Whether anything is kept.
    pub fn is_kept(&self) -> bool {
        self.books.fresh.is_some() || self.books.all.is_some()
    }

    /// What was copied since this was asked last.
    pub fn take_fresh(&self) -> Vec<Record> {
        self.books.fresh.as_ref().map(|fresh| std::mem::take(&mut *fresh.lock())).unwrap_or_default()
    }

    /// Gives back what could not be noted.
    pub fn put_back(&self, records: &[Record]) {
        if let Some(fresh) = &self.books.fresh {
            fresh.lock().extend(records);
        }
    }

    /// Adds what an earlier conversion has copied.
    pub fn add_known(&self, records: &[Record]) {
        if let Some(all) = &self.books.all {
            all.lock().extend(records);
        }
    }

    /// All that was copied, in the order of the disk.
    pub fn take_all(&self) -> Vec<Record> {
        let mut all = self.books.all.as_ref().map(|all| std::mem::take(&mut *all.lock())).unwrap_or_default();
        all.sort_unstable_by_key(|record| record.start);
        all
    }
}

impl Witness for Ledger {
    fn piece(&self, at: u64) -> Box<dyn PieceWitness> {
        Box::new(Piece { books: self.books.clone(), at, seen: Running::default(), records: Vec::new() })
    }
}

/// One piece of the copy.
struct Piece {
    books: Arc<Books>,
    /// Where what was seen begins.
    at: u64,
    seen: Running,
    /// What was seen before something that was not.
    records: Vec<Record>,
}

impl Piece {
    fn close(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        let (start, len) = (self.at, seen.size());
        if len > 0 {
            self.records.push(Record { start, len, digest: seen.finish() });
        }
        self.at = start + len;
    }
}

impl PieceWitness for Piece {
    fn data(&mut self, data: &[u8]) {
        self.seen.data(data);
    }

    fn zeroes(&mut self, len: u64) {
        self.seen.zeroes(len);
    }

    fn unseen(&mut self, len: u64) {
        self.close();
        self.at += len;
    }

    fn copied(mut self: Box<Self>) {
        self.close();
        for book in [&self.books.fresh, &self.books.all].into_iter().flatten() {
            book.lock().extend(&self.records);
        }
    }
}

/// Ranges of a disk.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    /// They do not touch each other: from the start of each to its end.
    starts: std::collections::BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds a range, which may overlap others.
    pub fn add(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        if start >= end {
            return;
        }
        while let Some((before, until)) = self.starts.range(..=end).next_back().map(|(a, b)| (*a, *b)) {
            if until < start {
                break;
            }
            self.starts.remove(&before);
            (start, end) = (start.min(before), end.max(until));
        }
        self.starts.insert(start, end);
    }

    /// How many bytes they have.
    pub fn bytes(&self) -> u64 {
        self.starts.iter().map(|(start, end)| end - start).sum()
    }

    /// What of a range is in none of them.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let (mut gaps, mut at) = (Vec::new(), range.start);
        let first = self.starts.range(..=at).next_back().map_or(at, |(start, _)| *start);
        for (start, end) in self.starts.range(first..range.end.max(first)) {
            if *start > at {
                gaps.push(at..*start);
            }
            at = at.max(*end);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_and_their_gaps_are_the_whole(added in proptest::collection::vec((0..60u64, 0..12u64), 0..20), from in 0..40u64, len in 0..40u64) {
            let (mut ranges, mut model) = (Ranges::default(), [false; 80]);
            for (start, len) in added {
                ranges.add(start..start + len);
                (start..start + len).for_each(|at| model[at as usize] = true);
            }
            prop_assert_eq!(ranges.bytes(), model.iter().filter(|one| **one).count() as u64);
            let gaps = ranges.gaps(from..from + len);
            let gap = |at: u64| gaps.iter().any(|gap| gap.contains(&at));
            for at in 0..80 {
                prop_assert_eq!(gap(at), (from..from + len).contains(&at) && !model[at as usize], "{}", at);
            }
        }
    }
}
