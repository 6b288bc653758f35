//! Where the pieces of a copy come from: one pass over a range, or over the dirty chunks of a bitmap.
use super::flight::STEP;
use super::plan::{CopyZeroes, Need, SECTOR};
use super::{CopyError, CopyPlan, CopyStep};
use crate::backend::Backend;
use crate::bitmap::DirtyBitmap;
use crate::error::BlockError;
use crate::gate::Inside;
use crate::lease::{Lease, Leases};
use parking_lot::Mutex;
use rt::BoxFuture;
use std::ops::Range;
use std::sync::Arc;

/// Longest piece of zeroes in bytes: they cost little, but a pause has to wait for the piece.
pub(crate) const ZEROES: u64 = 1 << 30;

/// A range of the source, in bytes, that is copied by one task.
pub struct Piece {
    /// Which bytes.
    pub range: Range<u64>,
    /// How it is to be copied, if that is known already.
    pub(crate) need: Option<Need>,
    /// What it has for itself.
    pub(crate) guard: Option<Box<dyn PieceGuard>>,
}

/// What a piece has for itself, from when it is handed out until it has ended; given up by being dropped.
pub(crate) trait PieceGuard: Send {
    /// All of it was copied.
    fn copied(self: Box<Self>) -> BoxFuture<'static, ()>;
}

impl Piece {
    fn of(range: Range<u64>, need: Option<Need>) -> Self {
        Self { range, need, guard: None }
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }
}

/// Where the pieces to copy come from.
pub trait Pieces: Send + Sync {
    /// What comes next. A range comes twice only after [`Pieces::again`].
    fn next<'a>(&'a self, plan: &'a CopyPlan) -> BoxFuture<'a, Result<NextPiece, CopyError>>;

    /// Takes a piece back that was not copied.
    fn again(&self, piece: Piece);

    /// Leaves out what comes next, for it can't be told what it is; answers how many bytes that are.
    fn skip(&self) -> u64 {
        0
    }
}

/// What comes next in a copy.
pub enum NextPiece {
    /// A piece to copy.
    Piece(Piece),
    /// So many bytes that need no copying.
    Passed(u64),
    /// Nothing is left.
    End,
}

/// The pieces of a range, in one pass from its start to its end; what needs no copying is skipped.
pub struct RangePieces {
    walk: Mutex<Walk>,
}

struct Walk {
    at: u64,
    end: u64,
    /// How the bytes from `at` up to an end are to be copied, if known.
    known: Option<(Need, u64)>,
    again: Vec<Piece>,
}

impl RangePieces {
    /// The pieces of a range of the source.
    pub fn new(range: Range<u64>) -> Self {
        let walk = Walk { at: range.start, end: range.end, known: None, again: Vec::new() };
        Self { walk: Mutex::new(walk) }
    }
}

impl Walk {
    /// What comes next of what is known.
    fn next(&mut self, plan: &CopyPlan) -> Option<NextPiece> {
        let (need, end) = self.known.filter(|(_, end)| *end > self.at)?;
        let (at, len) = (self.at, end - self.at);
        let (target, step) = (plan.target_of(at), plan.step());
        let unit = whole_units(target, step.min(self.end - at), step);
        // Where whole clusters are compressed, a cluster that has anything of another kind is copied whole.
        let passed = match plan.compress {
            Some(cluster) if at + len < self.end => up_to_unit(target, len, cluster),
            _ => len,
        };
        let (len, need) = match need {
            Need::Nothing if passed > 0 => (passed, Some(need)),
            // A unit of several extents: the task that copies it asks for block status again.
            _ if len < unit => (unit, None),
            Need::Nothing => (unit, None),
            Need::Zeroes if plan.zeroes != CopyZeroes::Data => {
                (whole_units(target, passed.min(ZEROES), plan.compress.unwrap_or(1)), Some(need))
            }
            Need::Zeroes | Need::Data | Need::Differences => (unit, Some(need)),
        };
        self.at = at + len;
        Some(match need {
            Some(Need::Nothing) => NextPiece::Passed(len),
            need => NextPiece::Piece(Piece::of(at..at + len, need)),
        })
    }
}

/// Ends a piece at a multiple of `unit` in the target, so that two of them do not share clusters there; a piece that has no
/// such place ends where it does.
pub(crate) fn whole_units(target: u64, len: u64, unit: u64) -> u64 {
    match up_to_unit(target, len, unit) {
        0 => len,
        shorter => shorter,
    }
}

/// Bytes of a range up to its last multiple of `unit`; 0 if it has none but perhaps its start.
pub(super) fn up_to_unit(start: u64, len: u64, unit: u64) -> u64 {
    let end = start.saturating_add(len);
    (end - end % unit).saturating_sub(start)
}

impl super::Pieces for RangePieces {
    fn next<'a>(&'a self, plan: &'a CopyPlan) -> BoxFuture<'a, Result<NextPiece, CopyError>> {
        Box::pin(async move {
            loop {
                let (at, end) = {
                    let mut walk = self.walk.lock();
                    if let Some(piece) = walk.again.pop() {
                        return Ok(NextPiece::Piece(piece));
                    }
                    match walk.next(plan) {
                        Some(next) => return Ok(next),
                        None if walk.at >= walk.end => return Ok(NextPiece::End),
                        None => (walk.at, walk.end),
                    }
                };
                let (need, len) = match plan.look(at, end - at).await {
                    // The task that copies it asks again, and reports the error.
                    Err(_) if plan.on_unreadable.is_some() => (Need::Data, SECTOR.min(end - at)),
                    seen => seen?,
                };
                self.walk.lock().known = Some((need, at + len));
            }
        })
    }

    fn again(&self, piece: Piece) {
        self.walk.lock().again.push(piece);
    }

    fn skip(&self) -> u64 {
        let mut walk = self.walk.lock();
        let len = STEP.min(walk.end - walk.at);
        walk.at += len;
        len
    }
}

/// The dirty chunks of a bitmap, in one pass from its start to its end: what becomes dirty behind the pass is left for
/// the next one.
pub struct DirtyPieces {
    bitmap: Arc<DirtyBitmap>,
    from: Mutex<u64>,
    alone: Option<Alone>,
}

/// What each piece has for itself: its range, among those that lease there.
struct Alone {
    leases: Arc<Leases>,
    source: Arc<Backend>,
    target: Arc<Backend>,
}

/// What such a piece holds. The lease goes first: who waits for requests may go on when the others go.
struct Held {
    _lease: Lease,
    _inside: [Inside; 2],
}

impl PieceGuard for Held {
    fn copied(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl Alone {
    /// Passes both gates, then takes the lease: a request that waits for it is inside a gate, so that whoever holds it must
    /// not wait at one.
    async fn enter(&self, range: &Range<u64>) -> Result<Held, BlockError> {
        let inside = loop {
            let source = self.source.stay().await?;
            if let Some(target) = self.target.try_stay() {
                break [source, target];
            }
            drop(source);
            drop(self.target.stay().await?);
        };
        Ok(Held { _lease: self.leases.lease(range.start, range.end, true).await, _inside: inside })
    }
}

impl DirtyPieces {
    /// One pass over the dirty chunks of `bitmap`.
    pub fn new(bitmap: Arc<DirtyBitmap>) -> Self {
        Self { bitmap, from: Mutex::new(0), alone: None }
    }

    /// Each piece has its range for itself among those that lease there: who does to the target at once what is done to the
    /// source. It is inside the gates of both entries meanwhile, so it is copied from node to node, and in any order, for
    /// pieces would wait for each other else.
    #[must_use]
    pub fn alone(self, leases: Arc<Leases>, source: Arc<Backend>, target: Arc<Backend>) -> Self {
        Self { alone: Some(Alone { leases, source, target }), ..self }
    }

    /// The next run of dirty chunks. Long runs are cut at multiples of `most` bytes.
    fn look(&self, most: u64) -> Option<Range<u64>> {
        let start = self.bitmap.next_dirty(*self.from.lock())?;
        let most = most.max(self.bitmap.granularity());
        let reach = start.saturating_add(most);
        let end = self.bitmap.run_at(start, reach).1.min(reach);
        Some(start..start + whole_units(start, end - start, most))
    }

    /// Cleans the bits of a run; returns what of it was dirty still.
    fn take(&self, run: Range<u64>) -> Range<u64> {
        let end = self.bitmap.take_run(run.start, run.end);
        *self.from.lock() = end;
        run.start..end
    }
}

impl Pieces for DirtyPieces {
    fn next<'a>(&'a self, plan: &'a CopyPlan) -> BoxFuture<'a, Result<NextPiece, CopyError>> {
        Box::pin(async move {
            let Some(run) = self.look(plan.step()) else { return Ok(NextPiece::End) };
            let offset = run.start;
            let guard: Option<Box<dyn PieceGuard>> = match &self.alone {
                None => None,
                Some(alone) => match alone.enter(&run).await {
                    Ok(held) => Some(Box::new(held)),
                    Err(error) => return Err(CopyError { step: CopyStep::Read, offset, error }),
                },
            };
            let range = self.take(run);
            Ok(match range.is_empty() {
                true => NextPiece::End,
                false => NextPiece::Piece(Piece { guard, ..Piece::of(range, None) }),
            })
        })
    }

    fn again(&self, piece: Piece) {
        self.bitmap.mark(piece.range.start, piece.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_over_a_bitmap_leaves_what_becomes_dirty_behind_it_to_the_next_pass() {
        let bitmap = Arc::new(DirtyBitmap::new(3 << 20, 65536));
        bitmap.mark(0, 3 << 19);
        let next = |pass: &DirtyPieces| pass.look(STEP).map(|run| pass.take(run));
        let pass = DirtyPieces::new(bitmap.clone());
        assert_eq!(next(&pass), Some(0..1 << 20));
        bitmap.mark(65536, 10);
        bitmap.mark(2 << 20, 10);
        assert_eq!(next(&pass), Some(1 << 20..3 << 19));
        assert_eq!(next(&pass), Some(2 << 20..(2 << 20) + 65536));
        assert_eq!(next(&pass), None);
        assert_eq!(next(&DirtyPieces::new(bitmap)), Some(65536..2 * 65536));
    }

    #[test]
    fn pieces_end_where_a_unit_of_the_target_does() {
        for (target, len, expected) in
            [(0, STEP, STEP), (5, STEP, STEP - 5), (STEP - 1, STEP, 1), (STEP + 3, 7, 7), (u64::MAX, 9, 9)]
        {
            assert_eq!(whole_units(target, len, STEP), expected, "{len} bytes at {target}");
        }
    }
}
