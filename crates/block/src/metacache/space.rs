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

/// What was reserved and is not used.
#[derive(Default)]
pub struct Reservations {
    unused: Arc<Mutex<Vec<Run>>>,
}

/// A run that nobody else gets. It is given back when it is dropped; what is mapped is kept ([`Reserved::keep`]).
#[must_use]
pub struct Reserved {
    unused: Arc<Mutex<Vec<Run>>>,
    run: Run,
}

impl Reservations {
    /// Guards a run that was taken.
    pub fn guard(&self, run: Run) -> Reserved {
        Reserved { unused: self.unused.clone(), run }
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
    /// The run.
    pub fn run(&self) -> Run {
        self.run
    }

    /// From now on something refers to the run, or somebody else answers for it.
    pub fn keep(mut self) -> Run {
        std::mem::replace(&mut self.run, Run { start: 0, count: 0 })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.run.count > 0 {
            self.unused.lock().push(self.run);
        }
    }
}
