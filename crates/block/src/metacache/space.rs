//! Blocks of the file that are handed out, and what becomes of those that are never mapped.
//!
//! ```text
//!  free ─▶ Reserved ─ keep ─▶ mapped
//!             └────── dropped ─▶ unused ─ before the next allocation ─▶ free
//! ```
//!
//! A block is called a cluster, a grain or a block by its format: the unit in which a format hands out the file.
use parking_lot::Mutex;
use std::sync::Arc;

/// Consecutive blocks of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first block.
    pub start: u64,
    /// How many.
    pub count: u64,
}

impl Run {
    /// One more than the last block.
    pub fn end(self) -> u64 {
        self.start + self.count
    }
}

/// No blocks.
const NONE: Run = Run { start: 0, count: 0 };

/// What was reserved and is not used.
#[derive(Default)]
pub struct Reservations {
    unused: Arc<Mutex<Vec<Run>>>,
}

/// A run that nobody else gets, or, where blocks have several references, one reference to each of its blocks. It is given
/// back when it is dropped; what is mapped is kept ([`Reserved::keep`]).
#[must_use]
pub struct Reserved {
    unused: Arc<Mutex<Vec<Run>>>,
    run: Run,
    /// What was joined to it.
    more: Vec<Run>,
}

impl Reservations {
    /// Guards a run that was taken.
    pub fn guard(&self, run: Run) -> Reserved {
        Reserved { unused: self.unused.clone(), run, more: Vec::new() }
    }

    /// Takes a run that was given back: it is to be made free before the next allocation, and to be kept when it is.
    pub fn take_unused(&self) -> Option<Reserved> {
        let run = self.unused.lock().pop()?;
        Some(self.guard(run))
    }

    /// Takes all runs that were given back.
    pub fn take_all_unused(&self) -> Vec<Run> {
        std::mem::take(&mut *self.unused.lock())
    }
}

impl Reserved {
    /// The run; the first one, of several.
    pub fn run(&self) -> Run {
        self.run
    }

    /// Guards what `other` does, too.
    pub fn join(&mut self, mut other: Reserved) {
        self.more.push(std::mem::replace(&mut other.run, NONE));
        self.more.append(&mut other.more);
    }

    /// From now on something refers to all of it, or somebody else answers for it.
    pub fn keep(mut self) -> Run {
        self.more.clear();
        std::mem::replace(&mut self.run, NONE)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.run.count > 0 || !self.more.is_empty() {
            let runs = std::iter::once(self.run).chain(self.more.drain(..));
            self.unused.lock().extend(runs.filter(|run| run.count > 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_comes_back_or_is_kept_together() {
        let reservations = Reservations::default();
        let run = |start, count| Run { start, count };
        let joined = || {
            let mut all = reservations.guard(run(5, 2));
            all.join(reservations.guard(run(6, 1)));
            all.join(reservations.guard(run(9, 1)));
            all
        };
        assert_eq!(joined().keep(), run(5, 2));
        assert!(reservations.take_all_unused().is_empty());
        drop(joined());
        assert_eq!(reservations.take_all_unused(), [run(5, 2), run(6, 1), run(9, 1)]);
    }
}
