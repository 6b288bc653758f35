//! The copy engine: moves ranges from one place to another, in pieces, several at a time.
//!
//! ```text
//!   Pieces ──next──▶ piece ──┬─ data ───▶ read ─ zero scan ─ write          on the data workers
//!   (range,                  ├─ zeroes ─▶ write_zeroes          each piece on one, written in their order
//!    dirty bitmap)           └─ not to be copied ─▶ nothing
//!                  CopyControl: waits before a piece starts · counts progress · decides after an error
//! ```
//!
//! Jobs and tools share it: they differ in what is copied and how ([`CopyPlan`]), in where their pieces come from
//! ([`Pieces`]) and in who decides on rate, pause and errors ([`CopyControl`]).
//!
//! Laws:
//! - one pass over the pieces never returns a range that is in flight, and the next pass begins when nothing is in
//!   flight any more: older data can't be written over newer data;
//! - a dirty bit is taken before its range is read: what is written meanwhile is dirty again and copied again;
//! - a piece that failed is copied again or ends the whole copy, or is left out by the word of whoever decides: never silently.
//!
//! Bounds: at most the asked number of pieces in flight; what each holds is said in `flight`.
mod at_once;
mod flight;
mod notes;
mod pieces;
mod plan;
mod witness;

use crate::error::{BlockError, Result};
use crate::turns::Turns;
pub use at_once::AtOnce;
pub(crate) use flight::STEP;
pub use notes::CopyNotes;
pub use pieces::{DirtyPieces, NextPiece, Piece, Pieces, RangePieces};
pub(crate) use pieces::{PieceGuard, ZEROES, whole_units};
pub(crate) use plan::Need;
pub use plan::{CopyPlan, CopyZeroes, Endpoint, Existing, OnUnreadable, Unallocated};
pub use witness::{PieceWitness, Witness};

use flight::{Flight, lost_task};

use futures_util::stream::{FuturesUnordered, StreamExt};
use rt::{BoxFuture, Target};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Which side of a copy failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopySide {
    /// Reading, or asking for block status.
    Source,
    /// Writing.
    Target,
}

/// What a copy was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyStep {
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
    pub step: CopyStep,
    /// Where, in bytes of the source; of the target for a failed write.
    pub offset: u64,
    /// What went wrong.
    pub error: BlockError,
}

impl CopyError {
    /// Which side failed.
    pub fn side(&self) -> CopySide {
        if self.step == CopyStep::Write { CopySide::Target } else { CopySide::Source }
    }
}

/// What a copy does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterError {
    /// The same piece is copied again.
    Retry,
    /// The piece is left out: what it holds is missing in the target, which whoever decides so accounts for.
    Skip,
    /// The copy ends with this error.
    Fail,
}

/// Decides when pieces of a copy start and what follows an error, and is told its progress.
pub trait CopyControl: Send + Sync {
    /// Whether no new piece may start now. When nothing is in flight any more, [`CopyControl::wait_to_start`] is awaited.
    fn on_hold(&self) -> bool;

    /// Waits until pieces may start again (rate limit, pause). An error ends the copy.
    fn wait_to_start(&self) -> BoxFuture<'_, Result<()>>;

    /// A piece of so many bytes starts.
    fn started(&self, bytes: u64);

    /// So many more bytes are done: copied, or found to need no copying.
    fn progressed(&self, bytes: u64);

    /// Decides after an error, and may wait before it answers.
    fn on_error<'a>(&'a self, error: &'a CopyError) -> BoxFuture<'a, AfterError>;
}

/// Copies what `pieces` hands out, at most `parallel` pieces at a time, until nothing is left and nothing is in
/// flight. After an error, too, it returns only when nothing is in flight.
pub async fn copy(
    plan: &Arc<CopyPlan>,
    pieces: &dyn Pieces,
    parallel: usize,
    control: &dyn CopyControl,
) -> Result<()> {
    let mut flights = Flights::new(plan.clone());
    let result = copy_until_done(&mut flights, pieces, parallel.max(1), control).await;
    while let Some((_, piece)) = flights.next_ended().await {
        pieces.again(piece);
    }
    result
}

async fn copy_until_done(
    flights: &mut Flights,
    pieces: &dyn Pieces,
    parallel: usize,
    control: &dyn CopyControl,
) -> Result<()> {
    loop {
        let resting = control.on_hold();
        if resting && flights.running.is_empty() {
            control.wait_to_start().await?;
            continue;
        }
        if !resting && flights.running.len() < flights.most(parallel) {
            match pieces.next(&flights.plan).await {
                Ok(NextPiece::Piece(piece)) => {
                    control.started(piece.len());
                    flights.start(piece);
                    continue;
                }
                Ok(NextPiece::Passed(bytes)) => {
                    flights.pass(bytes, control);
                    continue;
                }
                Ok(NextPiece::End) => {}
                Err(e) => {
                    match control.on_error(&e).await {
                        AfterError::Fail => return Err(e.error),
                        AfterError::Skip => flights.pass(pieces.skip(), control),
                        AfterError::Retry => {}
                    }
                    continue;
                }
            }
        }
        let Some((result, piece)) = flights.next_ended().await else { return Ok(()) };
        match result {
            Ok(()) => flights.done(&piece, control),
            Err(e) => match control.on_error(&e).await {
                AfterError::Skip => flights.done(&piece, control),
                verdict => {
                    pieces.again(piece);
                    if verdict == AfterError::Fail {
                        return Err(e.error);
                    }
                }
            },
        }
    }
}

/// A piece that was copied, or why it was not.
type Ended = (std::result::Result<(), CopyError>, Piece);

/// Pieces being copied, each in a task of its own: it leaves its gates when it ends, also while the caller waits in
/// [`CopyControl`].
struct Flights {
    plan: Arc<CopyPlan>,
    running: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Bytes of all pieces so far.
    started: u64,
    /// Bytes that need no copying, found while pieces before them are in flight: progress that is told when one of these
    /// has ended well, so that a copy which fails at its start has not come far.
    passed: u64,
    /// The worker that got the last piece.
    worker: usize,
    order: Turns,
    /// Reading or writing had to wait for the storage: then many pieces are kept in flight.
    slow: Arc<AtomicBool>,
}

impl Flights {
    fn new(plan: Arc<CopyPlan>) -> Self {
        let (running, order, slow) = (FuturesUnordered::new(), Turns::default(), Arc::default());
        Self { plan, running, started: 0, passed: 0, worker: 0, order, slow }
    }

    fn is_serial(&self) -> bool {
        self.started < self.plan.serial
    }

    /// How many may be in flight now.
    fn most(&self, parallel: usize) -> usize {
        match self.is_serial() {
            true => 1,
            false if self.slow.load(Relaxed) => parallel,
            // One is read while the one before is written.
            false => parallel.min(rt::worker_count()),
        }
    }

    fn start(&mut self, mut piece: Piece) {
        let turn = (!self.plan.out_of_order).then(|| self.order.next_turn());
        let flight = Flight::new(self.plan.clone(), turn, self.slow.clone());
        let (range, need, guard) = (piece.range.clone(), piece.need, piece.guard.take());
        let notes = self.plan.notes.clone();
        let work = async move {
            flight.copy(range.clone(), need).await?;
            if let Some(notes) = notes {
                notes.copied(&range);
            }
            // Given up here, not by the caller: who is told of the end may wait for others first.
            if let Some(guard) = guard {
                guard.copied().await;
            }
            Ok(())
        };
        let task = if self.is_serial() { rt::spawn(work) } else { rt::spawn_on(self.worker(), work) };
        self.started = self.started.saturating_add(piece.len());
        self.running.push(Box::pin(async move {
            (task.await.unwrap_or_else(|e| Err(lost_task(piece.range.start, &e))), piece)
        }));
    }

    /// Counts bytes that need no copying.
    fn pass(&mut self, bytes: u64, control: &dyn CopyControl) {
        self.passed = self.passed.saturating_add(bytes);
        if self.running.is_empty() {
            control.progressed(std::mem::take(&mut self.passed));
        }
    }

    /// Counts a piece that has ended, and what needed no copying until then.
    fn done(&mut self, piece: &Piece, control: &dyn CopyControl) {
        control.progressed(piece.len().saturating_add(std::mem::take(&mut self.passed)));
    }

    /// The next worker, in rotation.
    fn worker(&mut self) -> Target {
        self.worker = (self.worker + 1) % rt::worker_count().max(1);
        Target::Worker(self.worker)
    }

    /// Waits for one to end; `None` when nothing is in flight.
    async fn next_ended(&mut self) -> Option<Ended> {
        self.running.next().await
    }
}
