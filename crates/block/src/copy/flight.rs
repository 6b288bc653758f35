//! A piece in flight: read, scanned for zeroes, written when its turn comes.
//!
//! ```text
//!   read ─ scan ─ read ─ scan … held until all earlier pieces have been allocated ─▶ write · write · write
//! ```
//!
//! A format allocates space in its file in the order in which requests ask for it. So a write begins only when the write
//! before it, of this piece or of an earlier one, has its space allocated: the copy then lies in the target's file in the
//! order of the guest's disk, while the data of several writes are stored at the same time.
//!
//! Bounds: [`MOST_HELD`] buffers that wait and [`MOST_WRITES`] that are being written, each of at most [`STEP`] bytes, or
//! a cluster that is compressed.
use super::pieces::whole_units;
use super::plan::{Need, SECTOR};
use super::{CopyError, CopyPlan, CopyStep, CopyZeroes, PieceWitness};
use crate::error::{BlockError, ErrorKind};
use crate::turns::Turn;
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut, JoinHandle};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;

/// Most bytes that are moved at a time, but for a cluster that is compressed and has more.
pub(crate) const STEP: u64 = 1 << 20;

/// Most buffers that a piece holds before it waits for its turn.
const MOST_HELD: usize = 2;

/// Most writes of a piece that are under way.
const MOST_WRITES: usize = 8;

type Done = Result<(), CopyError>;

/// A piece in flight.
pub(super) struct Flight {
    plan: Arc<CopyPlan>,
    /// When it may write; `None`: at once.
    turn: Option<Turn>,
    /// Set when reading or writing had to wait for the storage.
    slow: Arc<AtomicBool>,
    held: VecDeque<Write>,
    /// The writes under way, each with its offset in the source.
    writes: VecDeque<(u64, JoinHandle<Done>)>,
    /// Sees what is read.
    witness: Option<Box<dyn PieceWitness>>,
}

/// Something to be written.
struct Write {
    /// Offset in the source.
    offset: u64,
    allocation: Arc<Allocation>,
    work: BoxFuture<'static, Done>,
}

/// Whether a write has its space in the target's file.
#[derive(Default)]
struct Allocation {
    done: AtomicBool,
    /// The turn that ends with it.
    turn: Mutex<Option<Turn>>,
}

impl Allocation {
    fn complete(&self) {
        self.done.store(true, Relaxed);
        drop(self.turn.lock().take());
    }
}

impl Flight {
    pub(super) fn new(plan: Arc<CopyPlan>, turn: Option<Turn>, slow: Arc<AtomicBool>) -> Self {
        Self { plan, turn, slow, held: VecDeque::new(), writes: VecDeque::new(), witness: None }
    }

    /// Copies a piece. When it returns, also with an error, nothing of it is under way any more.
    pub(super) async fn copy(mut self, range: Range<u64>, need: Option<Need>) -> Done {
        self.witness = self.plan.witness.as_ref().map(|all| all.piece(self.plan.target_of(range.start)));
        let mut result = self.read_all(range, need).await;
        if result.is_ok() {
            if let Some(turn) = &mut self.turn {
                turn.come().await;
            }
            result = self.write_held(true).await;
        }
        self.turn = None;
        while !self.writes.is_empty() {
            let written = self.await_write().await;
            result = result.and(written);
        }
        if let Some(witness) = self.witness.take().filter(|_| result.is_ok()) {
            witness.copied();
        }
        result
    }

    /// Waits for the oldest of the writes.
    async fn await_write(&mut self) -> Done {
        match self.writes.pop_front() {
            Some((offset, write)) => write.await.unwrap_or_else(|e| Err(lost_task(offset, &e))),
            None => Ok(()),
        }
    }

    /// Reads the piece, one run of extents of a kind after the other.
    async fn read_all(&mut self, range: Range<u64>, need: Option<Need>) -> Done {
        let plan = self.plan.clone();
        let (mut at, end) = (range.start, range.end);
        let mut known = need.map(|need| (need, end - at));
        while at < end {
            let (need, mut len) = match known.take() {
                Some(known) => known,
                None => look(&plan, at, end - at).await?,
            };
            while len < end - at {
                let (next, more) = look(&plan, at + len, end - at - len).await?;
                if next != need {
                    known = Some((next, more));
                    break;
                }
                len += more;
            }
            let whole = plan.whole_clusters(at, (need, len), end - at);
            if whole != (need, len) {
                // What follows is looked at again.
                known = None;
            }
            let (need, len) = whole;
            match need {
                Need::Data | Need::Differences => self.read_data(at, len, need).await?,
                Need::Zeroes => {
                    if let Some(witness) = &mut self.witness {
                        witness.zeroes(len);
                    }
                    let target = plan.target_of(at);
                    self.write(at, |_| store_zeroes(plan.clone(), target, len)).await?;
                }
                Need::Nothing => {
                    if let Some(witness) = &mut self.witness {
                        match plan.existing {
                            None => witness.zeroes(len),
                            Some(_) => witness.unseen(len),
                        }
                    }
                }
            }
            at += len;
        }
        Ok(())
    }

    async fn read_data(&mut self, offset: u64, len: u64, need: Need) -> Done {
        let (mut at, end) = (offset, offset + len);
        while at < end {
            // Reading and writing may both complete without waiting: other tasks of the worker run here.
            rt::cooperate().await;
            let (target, step) = (self.plan.target_of(at), self.plan.step());
            let whole = match self.plan.compress {
                Some(_) => whole_units(target, step.min(end - at), step),
                None => step.min(end - at),
            };
            let data = self.read(at, BufMut::with_len(whole as usize)).await?;
            if let Some(witness) = &mut self.witness {
                witness.data(&data);
            }
            let len = data.len() as u64;
            let data = data.freeze();
            match need {
                Need::Differences => self.write_differences(at, data).await?,
                _ => {
                    let plan = self.plan.clone();
                    self.write(at, |allocation| store(plan, target, data, allocation)).await?;
                }
            }
            at += len;
        }
        Ok(())
    }

    /// Writes those units of `data` that the target does not show yet.
    async fn write_differences(&mut self, offset: u64, data: Buf) -> Done {
        let plan = self.plan.clone();
        let target = plan.target_of(offset);
        let (shown, result) = plan.target.read(target, BufMut::with_len(data.len())).await;
        result.map_err(|e| wrote(target, e))?;
        if let Some(notes) = plan.notes.as_ref().filter(|_| *data != *shown) {
            notes.differed(data.len() as u64);
        }
        for part in differences(&data, &shown, target, plan.target.unit()) {
            let (at, place) = (offset + part.start as u64, target + part.start as u64);
            self.write(at, |allocation| store(plan.clone(), place, data.slice(part), allocation)).await?;
        }
        Ok(())
    }

    /// Queues a write, and begins what is queued once the turn has come; the last write is held back until all is read.
    async fn write<F>(&mut self, offset: u64, work: impl FnOnce(Arc<Allocation>) -> F) -> Done
    where
        F: Future<Output = Done> + Send + 'static,
    {
        let allocation = Arc::<Allocation>::default();
        let work = Box::pin(work(allocation.clone()));
        self.held.push_back(Write { offset, allocation, work });
        if let Some(turn) = &mut self.turn {
            if self.held.len() >= MOST_HELD {
                turn.come().await;
            }
            if !turn.has_come() {
                return Ok(());
            }
        }
        self.write_held(false).await
    }

    /// Writes what is held, all or all but the last.
    async fn write_held(&mut self, all: bool) -> Done {
        while self.held.len() > usize::from(!all) {
            let Some(Write { offset, allocation, mut work }) = self.held.pop_front() else { break };
            if self.held.is_empty() {
                // The next piece's task takes a moment to wake: its turn comes during this last write, not after it.
                *allocation.turn.lock() = self.turn.take();
            }
            let begun = std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
                Poll::Ready(written) => Poll::Ready(Some(written)),
                Poll::Pending => {
                    self.slow.store(true, Relaxed);
                    if allocation.done.load(Relaxed) { Poll::Ready(None) } else { Poll::Pending }
                }
            });
            match begun.await {
                Some(written) => written?,
                None => self.writes.push_back((offset, rt::spawn(work))),
            }
            if self.writes.len() >= MOST_WRITES {
                self.await_write().await?;
            }
        }
        Ok(())
    }

    async fn read(&mut self, offset: u64, mut buf: BufMut) -> Result<BufMut, CopyError> {
        let plan = &self.plan;
        let error = match plan.source.try_read(offset, &mut buf) {
            Ok(got) if got == buf.len() => return Ok(buf),
            Ok(got) => {
                self.slow.store(true, Relaxed);
                let mut front = buf.split_to(got);
                let (rest, result) = plan.source.read(offset + got as u64, buf).await;
                front.unsplit(rest);
                buf = front;
                match result {
                    Ok(()) => return Ok(buf),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if plan.on_unreadable.is_none() {
            return Err(CopyError { step: CopyStep::Read, offset, error });
        }
        salvage(plan, offset, buf).await
    }
}

/// What a range needs; if block status fails and unreadable data may be skipped, one sector is tried as data.
async fn look(plan: &CopyPlan, offset: u64, len: u64) -> Result<(Need, u64), CopyError> {
    match plan.look(offset, len).await {
        Ok(seen) => Ok(seen),
        Err(error) => plan.skip_unreadable(error).map(|()| (Need::Data, len.min(SECTOR))),
    }
}

/// Reads sector by sector what can be read; the rest becomes zeroes and is reported.
async fn salvage(plan: &CopyPlan, offset: u64, mut buf: BufMut) -> Result<BufMut, CopyError> {
    let mut at = 0;
    while let Some(rest) = buf.get_mut(at..).filter(|rest| !rest.is_empty()) {
        let len = rest.len().min(SECTOR as usize);
        let place = offset + at as u64;
        let (sector, result) = plan.source.read(place, BufMut::with_len(len)).await;
        let (front, _) = rest.split_at_mut(len);
        match result {
            Ok(()) => front.copy_from_slice(&sector),
            Err(error) => {
                front.fill(0);
                plan.skip_unreadable(CopyError { step: CopyStep::Read, offset: place, error })?;
            }
        }
        at += len;
    }
    Ok(buf)
}

/// A future that writes `data`, runs of zeroes as zeroes. The scan for zeroes happens now, not in the future.
fn store(
    plan: Arc<CopyPlan>,
    offset: u64,
    data: Buf,
    allocation: Arc<Allocation>,
) -> impl Future<Output = Done> + Send + 'static {
    let mut runs = runs(&data, plan.zero_unit());
    if plan.zeroes == CopyZeroes::Skip {
        // So that the last run is one that allocates.
        runs.pop_if(|(zero, _)| *zero);
    }
    async move {
        let mut at = 0;
        let last = runs.len().saturating_sub(1);
        for (index, (zero, len)) in runs.into_iter().enumerate() {
            let place = offset + at as u64;
            let placed = || {
                if index == last {
                    allocation.complete()
                }
            };
            let stored = match zero {
                false => plan.write(place, data.slice(at..at + len), &placed).await,
                true if plan.zeroes == CopyZeroes::Skip => Ok(()),
                true => plan.write_zeroes(place, len as u64).await,
            };
            stored.map_err(|e| wrote(place, e))?;
            at += len;
        }
        Ok(())
    }
}

/// The runs of data, and with `true` of zeroes, that a buffer is made of.
fn runs(data: &[u8], unit: usize) -> Vec<(bool, usize)> {
    if unit == 0 {
        return vec![(false, data.len())];
    }
    let (mut runs, mut rest) = (Vec::new(), data);
    while !rest.is_empty() {
        let run = codec::zero::run(rest, unit);
        rest = rest.get(run.1..).unwrap_or_default();
        runs.push(run);
    }
    runs
}

/// The runs of units in which `data` is not what the target shows. `offset` is where both begin in the target, whose
/// units have `unit` bytes.
fn differences(data: &[u8], shown: &[u8], offset: u64, unit: u64) -> Vec<Range<usize>> {
    let (mut runs, mut at): (Vec<Range<usize>>, _) = (Vec::new(), 0);
    while at < data.len() {
        let whole = unit - (offset + at as u64) % unit;
        let end = at.saturating_add(whole as usize).min(data.len());
        if data.get(at..end) != shown.get(at..end) {
            match runs.last_mut().filter(|last| last.end == at) {
                Some(last) => last.end = end,
                None => runs.push(at..end),
            }
        }
        at = end;
    }
    runs
}

/// Zeroes a range of the target.
async fn store_zeroes(plan: Arc<CopyPlan>, offset: u64, len: u64) -> Done {
    if plan.zeroes != CopyZeroes::Data {
        return plan.write_zeroes(offset, len).await.map_err(|e| wrote(offset, e));
    }
    let zeroes = BufMut::zeroed(plan.step().min(len) as usize).freeze();
    let (mut at, end) = (offset, offset + len);
    while at < end {
        let step = whole_units(at, plan.step().min(end - at), plan.step());
        plan.write(at, zeroes.slice(0..step as usize), &|| {}).await.map_err(|e| wrote(at, e))?;
        at += step;
    }
    Ok(())
}

fn wrote(offset: u64, error: BlockError) -> CopyError {
    CopyError { step: CopyStep::Write, offset, error }
}

/// A task of the copy panicked or was dropped.
pub(super) fn lost_task(offset: u64, error: &rt::JoinError) -> CopyError {
    let error = BlockError::new(ErrorKind::Io, format!("a task of the copy did not finish: {error}"));
    CopyError { step: CopyStep::Read, offset, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_whole_units_of_the_target() {
        let data = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        let found = |shown: &[u8], offset| differences(&data, shown, offset, 4);
        assert!(found(&data, 0).is_empty());
        assert_eq!(found(&[1, 0, 1, 1, 1, 1, 1, 1, 1, 0], 0), [0..4, 8..10]);
        assert_eq!(found(&[1, 0, 1, 1, 1, 1, 1, 1, 1, 0], 6), [0..2, 6..10]);
        assert_eq!(found(&[0; 10], 3), std::iter::once(0..10).collect::<Vec<_>>());
    }
}
