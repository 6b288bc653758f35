//! Files that lie outside of the simulated machine and that it begins with: read where the machine has not written.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The bytes of a file outside, which nobody changes meanwhile.
pub trait Base: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `off` on; all of that lies inside. What can't be read is zeroes, and remembered by whoever made this.
    fn read(&self, off: u64, buf: &mut [u8]);
}

/// Files outside, by name.
pub trait Outside: Send + Sync {
    /// The file of this name and a number that names of the same file share; `None` if there is no such file.
    fn find(&self, path: &Path) -> io::Result<Option<(u64, Arc<dyn Base>)>>;
}

/// What still shows of a file outside.
#[derive(Clone)]
pub(crate) struct Below {
    pub(crate) base: Arc<dyn Base>,
    /// Bytes from its front that still show: a cut takes the rest away for ever.
    pub(crate) shown: u64,
    /// Pages of it that were freed, as runs: first and end.
    pub(crate) gone: Runs,
}

impl Below {
    pub(crate) fn new(base: Arc<dyn Base>) -> Below {
        let shown = base.len();
        Below { base, shown, gone: Runs::default() }
    }
}

/// Numbers as runs that neither touch nor overlap.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// Adds the numbers from `start` on, below `end`.
    pub(crate) fn insert(&mut self, mut start: u64, mut end: u64) {
        if start >= end {
            return;
        }
        while let Some((from, to)) = self.0.range(..=end).next_back().map(|(from, to)| (*from, *to)) {
            if to < start {
                break;
            }
            self.0.remove(&from);
            (start, end) = (start.min(from), end.max(to));
        }
        self.0.insert(start, end);
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        self.run_at(number).0
    }

    /// Whether a number is in a run, and the next number of which the opposite holds; `u64::MAX` if there is none.
    pub(crate) fn run_at(&self, number: u64) -> (bool, u64) {
        match self.0.range(..=number).next_back() {
            Some((_, end)) if number < *end => (true, *end),
            _ => (false, self.0.range(number..).next().map_or(u64::MAX, |(start, _)| *start)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn runs_hold_what_was_inserted() {
        for seed in 0..500 {
            let (mut rng, mut runs, mut set) = (Rng::new(seed), Runs::default(), BTreeSet::new());
            for _ in 0..8 {
                let start = rng.below(40);
                let end = start + rng.below(12);
                runs.insert(start, end);
                set.extend(start..end);
            }
            for number in 0..60 {
                let inside = set.contains(&number);
                let other = (number..60).find(|next| set.contains(next) != inside).unwrap_or(u64::MAX);
                assert_eq!(runs.run_at(number), (inside, other), "seed {seed}, {number}");
            }
        }
    }
}
