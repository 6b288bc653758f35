//! The pieces of a job that copies what only the source has, beside writers.
use super::PointInTime;
use crate::backend::Backend;
use crate::copy::{
    CopyError, CopyPlan, CopyStep, Need, NextPiece, Piece, PieceGuard, Pieces, STEP, ZEROES, whole_units,
};
use crate::error::BlockError;
use crate::gate::Inside;
use crate::lease::Lease;
use parking_lot::Mutex;
use rt::BoxFuture;
use std::ops::Range;
use std::sync::Arc;

/// One pass over what is uncopied. Each piece is inside the gate of the job's entry, and holds the lease of its clusters.
pub struct UncopiedPieces {
    disk: Arc<PointInTime>,
    entry: Arc<Backend>,
    /// Most bytes of data of a piece.
    most: u64,
    walk: Mutex<Walk>,
}

#[derive(Default)]
struct Walk {
    from: u64,
    again: Vec<Range<u64>>,
}

impl Walk {
    /// The start of a run is handed out, or is copied already; what is left of the run comes later.
    fn hand_out(&mut self, run: &Range<u64>, start: &Range<u64>) {
        if run.start >= self.from {
            self.from = start.end;
        } else if start.end < run.end {
            self.again.push(start.end..run.end);
        }
    }
}

/// What a piece holds. The lease goes first: whoever waits for requests may go on when the second goes.
struct Held {
    disk: Arc<PointInTime>,
    range: Range<u64>,
    _lease: Lease,
    _inside: Inside,
}

impl PieceGuard for Held {
    fn copied(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.disk.uncopied.take_run(self.range.start, self.range.end);
            self.disk.discard_copied(&self.range).await;
        })
    }
}

impl PointInTime {
    /// The pieces that are left to copy, for a job with this entry above the source. `most`: most bytes of data of a piece.
    pub fn pieces(self: &Arc<Self>, entry: Arc<Backend>, most: Option<u64>) -> UncopiedPieces {
        let most = most.unwrap_or(STEP).min(STEP).max(self.cluster());
        let most = most - most % self.cluster();
        UncopiedPieces { disk: self.clone(), entry, most, walk: Mutex::default() }
    }
}

impl UncopiedPieces {
    /// A run of uncopied clusters.
    fn candidate(&self) -> Option<Range<u64>> {
        let mut walk = self.walk.lock();
        if let Some(range) = walk.again.pop() {
            return Some(range);
        }
        let uncopied = &self.disk.uncopied;
        let start = uncopied.next_dirty(walk.from)?;
        let most = start.saturating_add(ZEROES.max(self.most));
        Some(start..uncopied.run_at(start, most).1.min(most))
    }

    /// How the start of a run is copied, and how much of it together: whole clusters.
    async fn look(&self, plan: &CopyPlan, run: &Range<u64>) -> (Option<Need>, u64) {
        let whole = run.end - run.start;
        // The task that copies it asks again, and reports the error.
        let Ok((need, len)) = plan.look(run.start, whole).await else { return (None, self.most.min(whole)) };
        let len = if len >= whole { whole } else { len - len % self.disk.cluster() };
        match need {
            _ if len == 0 => (None, self.disk.cluster().min(whole)),
            Need::Data | Need::Differences => {
                (Some(need), whole_units(run.start, len.min(self.most), self.most))
            }
            Need::Zeroes | Need::Nothing => (Some(need), len),
        }
    }

    async fn take(&self, plan: &CopyPlan) -> Result<NextPiece, BlockError> {
        loop {
            self.disk.check()?;
            let Some(run) = self.candidate() else { return Ok(NextPiece::End) };
            let inside = self.entry.stay().await?;
            let (need, len) = self.look(plan, &run).await;
            let asked = run.start..run.start + len;
            let lease = self.disk.leases.lease(asked.start, asked.end, true).await;
            // A cluster that is uncopied now is what it was when it was looked at.
            let (uncopied, end) = self.disk.uncopied.run_at(asked.start, asked.end);
            let range = asked.start..end.min(asked.end);
            self.walk.lock().hand_out(&run, &range);
            if !uncopied {
                continue;
            }
            let held = Held { disk: self.disk.clone(), range: range.clone(), _lease: lease, _inside: inside };
            if need == Some(Need::Nothing) {
                Box::new(held).copied().await;
                return Ok(NextPiece::Passed(range.end - range.start));
            }
            return Ok(NextPiece::Piece(Piece { range, need, guard: Some(Box::new(held)) }));
        }
    }
}

impl Pieces for UncopiedPieces {
    fn next<'a>(&'a self, plan: &'a CopyPlan) -> BoxFuture<'a, Result<NextPiece, CopyError>> {
        Box::pin(async move {
            let offset = self.walk.lock().from;
            self.take(plan).await.map_err(|error| CopyError { step: CopyStep::Status, offset, error })
        })
    }

    fn again(&self, piece: Piece) {
        self.walk.lock().again.push(piece.range);
    }
}

#[cfg(test)]
mod tests {
    use super::super::CLUSTER;
    use super::*;

    #[test]
    fn what_is_left_of_a_piece_that_is_copied_again_in_parts_comes_later() {
        let mut walk = Walk::default();
        walk.hand_out(&(0..8 * CLUSTER), &(0..4 * CLUSTER));
        assert_eq!((walk.from, walk.again.len()), (4 * CLUSTER, 0));
        // The piece failed, and less than all of it is one run now.
        walk.hand_out(&(0..4 * CLUSTER), &(0..CLUSTER));
        assert_eq!((walk.from, walk.again.pop()), (4 * CLUSTER, Some(CLUSTER..4 * CLUSTER)));
        walk.hand_out(&(CLUSTER..4 * CLUSTER), &(CLUSTER..4 * CLUSTER));
        assert_eq!((walk.from, walk.again.len()), (4 * CLUSTER, 0));
    }
}
