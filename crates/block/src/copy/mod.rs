//! The copy engine: moves ranges from one place to another, in pieces, several at a time.
//!
//! ```text
//!   Pieces ──next──▶ piece ──┬─ data ───▶ read ─ zero scan ─ write          on the data workers
//!   (cursor,                 ├─ zeroes ─▶ write_zeroes          each piece on one, written in their order
//!    dirty bitmap)           └─ not to be copied ─▶ nothing
//!                  Pace: waits before a piece starts · hears what is done · decides after an error
//! ```
//!
//! Jobs and tools share it: they differ in what is copied how ([`CopyPlan`]), in where their pieces come from
//! ([`Pieces`]) and in who holds the reins ([`Pace`]).
//!
//! Laws:
//! - one walk over the pieces never comes back to what is in flight, and the next begins when all has landed: an old
//!   copy can't land on top of a newer one;
//! - a dirty bit is taken before its range is read: what is written meanwhile is dirty again and copied again;
//! - a piece that failed is copied again or ends the whole copy: nothing is left out silently.
//!
//! Bounds: at most the asked number of pieces in flight; what each holds is said in `flight`.
mod flight;
mod pieces;
mod plan;

use crate::error::{BlockError, Result};
pub use pieces::{Cursor, Dirty, Piece, Pieces};
pub use plan::{CopyPlan, Lost, Over, Port, Rest, Zeroes};

use flight::{Flight, Turns, lost_task};

use futures_util::stream::{FuturesUnordered, StreamExt};
use rt::{BoxFuture, Target};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Which side of a copy failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Reading, or asking for block status.
    Source,
    /// Writing.
    Target,
}

/// What a copy was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Asking the source for block status.
    Status,
    /// Reading the source.
    Read,
    /// Writing the target, or looking at what it shows already.
    Write,
}

/// An error of a copy.
#[derive(Debug, Clone)]
pub struct CopyError {
    /// What it was doing.
    pub step: Step,
    /// Where, in bytes of the source; of the target for a failed write.
    pub offset: u64,
    /// What went wrong.
    pub error: BlockError,
}

impl CopyError {
    /// Which side failed.
    pub fn side(&self) -> Side {
        if self.step == Step::Write { Side::Target } else { Side::Source }
    }
}

/// What a copy does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The same piece again.
    Again,
    /// The copy ends with this error.
    Fail,
}

/// Who holds the reins of a copy.
pub trait Pace: Send + Sync {
    /// Whether nothing new may start at present: [`Pace::admit`] is awaited when all that is in flight has ended.
    fn rests(&self) -> bool;

    /// Waits until pieces may start again: for the rate limit, for a pause to end. An error ends the copy.
    fn admit(&self) -> BoxFuture<'_, Result<()>>;

    /// A piece of so many bytes starts.
    fn starts(&self, bytes: u64);

    /// So many bytes are done, copied or found to need no copying.
    fn done(&self, bytes: u64);

    /// Decides after an error, and may wait before it answers.
    fn failed<'a>(&'a self, error: &'a CopyError) -> BoxFuture<'a, Verdict>;
}

/// Copies what `pieces` hands out, at most `parallel` pieces at a time, until nothing is left and nothing is in
/// flight. After an error, too, it returns only when nothing is in flight.
pub async fn copy(plan: &Arc<CopyPlan>, pieces: &dyn Pieces, parallel: usize, pace: &dyn Pace) -> Result<()> {
    let mut flights = Flights::new(plan.clone());
    let result = copy_until_done(&mut flights, pieces, parallel.max(1), pace).await;
    while let Some((_, piece)) = flights.land().await {
        pieces.again(piece);
    }
    result
}

async fn copy_until_done(
    flights: &mut Flights,
    pieces: &dyn Pieces,
    parallel: usize,
    pace: &dyn Pace,
) -> Result<()> {
    loop {
        let resting = pace.rests();
        if resting && flights.running.is_empty() {
            pace.admit().await?;
            continue;
        }
        if !resting && flights.running.len() < flights.most(parallel) {
            match pieces.next(&flights.plan, pace).await {
                Ok(Some(piece)) => {
                    pace.starts(piece.len());
                    flights.launch(piece);
                    continue;
                }
                Ok(None) => {}
                Err(e) if pace.failed(&e).await == Verdict::Fail => return Err(e.error),
                Err(_) => continue,
            }
        }
        let Some((result, piece)) = flights.land().await else { return Ok(()) };
        match result {
            Ok(()) => pace.done(piece.len()),
            Err(e) => {
                pieces.again(piece);
                if pace.failed(&e).await == Verdict::Fail {
                    return Err(e.error);
                }
            }
        }
    }
}

/// A piece that was copied, or why it was not.
type Landed = (std::result::Result<(), CopyError>, Piece);

/// Pieces being copied, each a task of its own: it gives its gates' tokens back whatever the copier waits for.
struct Flights {
    plan: Arc<CopyPlan>,
    running: FuturesUnordered<BoxFuture<'static, Landed>>,
    /// Bytes of all pieces so far.
    started: u64,
    /// The worker that got the last piece.
    worker: usize,
    turns: Turns,
    /// Reading or writing had to wait: then it is done at many places at once.
    slow: Arc<AtomicBool>,
}

impl Flights {
    fn new(plan: Arc<CopyPlan>) -> Self {
        let (running, turns, slow) = (FuturesUnordered::new(), Turns::default(), Arc::default());
        Self { plan, running, started: 0, worker: 0, turns, slow }
    }

    fn alone(&self) -> bool {
        self.started < self.plan.alone
    }

    /// How many may be in flight now.
    fn most(&self, parallel: usize) -> usize {
        match self.alone() {
            true => 1,
            false if self.slow.load(Relaxed) => parallel,
            // One is read while the one before is written.
            false => parallel.min(rt::worker_count()),
        }
    }

    fn launch(&mut self, piece: Piece) {
        let turn = (!self.plan.out_of_order).then(|| self.turns.next());
        let (flight, its) = (Flight::new(self.plan.clone(), turn, self.slow.clone()), piece.clone());
        let work = async move { flight.copy(&its).await };
        let task = if self.alone() { rt::spawn(work) } else { rt::spawn_on(self.worker(), work) };
        self.started = self.started.saturating_add(piece.len());
        self.running.push(Box::pin(async move {
            (task.await.unwrap_or_else(|e| Err(lost_task(piece.range.start, &e))), piece)
        }));
    }

    /// The workers take turns.
    fn worker(&mut self) -> Target {
        self.worker = (self.worker + 1) % rt::worker_count().max(1);
        Target::Worker(self.worker)
    }

    /// Waits for one to end; `None` when nothing is in flight.
    async fn land(&mut self) -> Option<Landed> {
        self.running.next().await
    }
}
