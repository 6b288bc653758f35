//! How a tool's copy is controlled: its progress, its rate limit, and its first error, which ends it.

use crate::failure::Failure;
use crate::progress::Told;
use block::{
    AfterError, Backend, BlockError, CopyControl, CopyError, CopyPlan, CopyStep, ErrorKind, Flags,
    RangePieces, Request,
};
use parking_lot::Mutex;
use rt::BoxFuture;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Most pieces that may be asked for at once.
pub const MAX_PARALLEL: usize = 16;

/// Least run of zeroes inside data that is not copied as data where nobody says, in bytes.
pub const SPARSE: usize = 4096;

/// Bytes that are copied before worker threads are started.
const ALONE: u64 = 2 << 20;

/// Longest sleep of a copy that is held back by its rate.
const MOST_SLEEP: Duration = Duration::from_millis(200);

/// Pieces under way at once where nobody says.
pub const PARALLEL: usize = 8;

/// Ends a copy between two pieces, by a signal.
#[derive(Debug, Default)]
pub struct Stop {
    signals: Vec<i32>,
    came: AtomicI32,
}

impl Stop {
    /// One of these signals ends it, unless whoever started the program wants it to be ignored.
    pub fn on(signals: &[i32]) -> Stop {
        let signals = signals.iter().copied().filter(|signal| !rt::signal::is_ignored(*signal));
        Stop { signals: signals.collect(), came: AtomicI32::new(0) }
    }

    /// The signals that end it.
    pub fn signals(&self) -> &[i32] {
        &self.signals
    }

    /// A signal came.
    pub fn by(&self, signal: i32) {
        self.came.store(signal, Relaxed);
    }

    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<i32> {
        Some(self.came.load(Relaxed)).filter(|signal| *signal != 0)
    }
}

/// Counts what is done, holds the rate, keeps the error.
pub struct CopyRun {
    /// How far it is, in bytes of data where those are known, else in bytes.
    pub told: Told,
    data: Option<Landmarks>,
    done: AtomicU64,
    started: AtomicU64,
    /// Bytes per second, if limited.
    rate: Option<u64>,
    since_ns: u64,
    error: Mutex<Option<CopyError>>,
    stop: Arc<Stop>,
}

impl CopyRun {
    /// A copy of `total` bytes, at most `rate` per second, counted from now on.
    pub fn new(rate: Option<u64>, total: u64) -> CopyRun {
        CopyRun {
            told: Told::bytes(total),
            data: None,
            done: AtomicU64::new(0),
            started: AtomicU64::new(0),
            rate: rate.filter(|rate| *rate > 0),
            since_ns: rt::now_ns(),
            error: Mutex::new(None),
            stop: Arc::default(),
        }
    }

    /// Ends when it is told to stop.
    pub fn until(self, stop: &Arc<Stop>) -> CopyRun {
        CopyRun { stop: stop.clone(), ..self }
    }

    /// Tells of data only: what of it lies before each place is known.
    pub fn by_data(self, data: Landmarks) -> CopyRun {
        CopyRun { told: Told::bytes(data.total()), data: Some(data), ..self }
    }

    /// Copies a range of the source, `parallel` pieces at once.
    pub async fn copy(&self, plan: CopyPlan, range: Range<u64>, parallel: usize) -> Result<(), CopyError> {
        let plan = Arc::new(CopyPlan { serial: ALONE.saturating_sub(self.done.load(Relaxed)), ..plan });
        let ended = block::copy(&plan, &RangePieces::new(range), parallel, self).await;
        ended.map_err(|error| {
            let first = self.error.lock().take();
            first.unwrap_or(CopyError { step: CopyStep::Status, offset: 0, error })
        })
    }

    /// How long the rate makes the next piece wait, in ns.
    fn debt_ns(&self) -> u64 {
        let Some(rate) = self.rate else { return 0 };
        let due = u128::from(self.started.load(Relaxed)) * 1_000_000_000 / u128::from(rate);
        u64::try_from(due).unwrap_or(u64::MAX).saturating_sub(rt::now_ns().saturating_sub(self.since_ns))
    }
}

impl CopyControl for CopyRun {
    fn on_hold(&self) -> bool {
        self.debt_ns() > 0 || self.stop.signal().is_some()
    }

    fn wait_to_start(&self) -> BoxFuture<'_, Result<(), BlockError>> {
        Box::pin(async {
            if self.stop.signal().is_some() {
                return Err(BlockError::invalid("interrupted"));
            }
            rt::sleep(Duration::from_nanos(self.debt_ns()).min(MOST_SLEEP)).await;
            Ok(())
        })
    }

    fn started(&self, bytes: u64) {
        self.started.fetch_add(bytes, Relaxed);
    }

    fn progressed(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Relaxed) + bytes;
        self.told.set(self.data.as_ref().map_or(done, |data| data.before(done)));
    }

    fn on_error<'a>(&'a self, error: &'a CopyError) -> BoxFuture<'a, AfterError> {
        self.error.lock().get_or_insert_with(|| error.clone());
        Box::pin(async { AfterError::Fail })
    }
}

/// How much data lies before a place of a copy, so that its progress tells of what takes time.
#[derive(Debug)]
pub struct Landmarks {
    /// Places, each with the bytes of data before it. In between data are spread evenly.
    places: Vec<(u64, u64)>,
}

/// Most places that are remembered.
const MOST_PLACES: usize = 4096;

impl Landmarks {
    /// Looks where the data of images are that are copied one behind the other. `zeroes` are copied as data too.
    pub async fn of(
        sources: impl Iterator<Item = &Arc<Backend>>,
        zeroes: bool,
    ) -> Result<Landmarks, BlockError> {
        let mut marks = Landmarks { places: vec![(0, 0)] };
        for source in sources {
            let (mut at, end) = (0, source.length());
            while at < end {
                at = source
                    .statuses(at..end, |status| {
                        marks.add(status.len, !status.zero || zeroes);
                        true
                    })
                    .await?;
            }
        }
        Ok(marks)
    }

    fn add(&mut self, len: u64, data: bool) {
        let (at, before) = self.end();
        self.places.push((at + len, before + if data { len } else { 0 }));
        if self.places.len() > MOST_PLACES {
            let last = self.end();
            self.places = self.places.iter().copied().step_by(2).collect();
            if self.end() != last {
                self.places.push(last);
            }
        }
    }

    fn end(&self) -> (u64, u64) {
        self.places.last().copied().unwrap_or_default()
    }

    fn total(&self) -> u64 {
        self.end().1
    }

    fn before(&self, at: u64) -> u64 {
        let next = self.places.partition_point(|(place, _)| *place <= at);
        let (Some((start, before)), Some((end, after))) =
            (next.checked_sub(1).and_then(|i| self.places.get(i)), self.places.get(next))
        else {
            return self.total();
        };
        let part = u128::from(after - before) * u128::from(at - start) / u128::from(end - start);
        before + part as u64
    }
}

/// What went wrong and where; `start` is where the source begins in all sources together.
pub fn failure(error: &CopyError, start: u64) -> Failure {
    let (offset, why) = (error.offset, error.error.strerror());
    let words = match error.step {
        CopyStep::Status => format!("error while reading block status at offset {}: {why}", start + offset),
        CopyStep::Read => format!("error while reading at byte {}: {why}", start + offset),
        CopyStep::Write => format!("error while writing at byte {offset}: {why}"),
    };
    Failure::new(words).because(&error.error)
}

/// Whether zeroing the first `length` bytes of `target` costs no writing; if so it has been done. What an existing
/// target has behind them is none of a copy's business.
pub async fn zero(target: &Backend, length: u64) -> Result<bool, BlockError> {
    let flags = Request::GUEST.with(Flags::MAY_UNMAP).with(Flags::NO_FALLBACK);
    match target.write_zeroes(0, length, flags).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_counts_the_data_before_a_place() {
        let mut marks = Landmarks { places: vec![(0, 0)] };
        [(10, true), (30, false), (10, true)].into_iter().for_each(|(len, data)| marks.add(len, data));
        let before: Vec<_> = [0, 5, 10, 25, 40, 45, 50, 99].map(|at| marks.before(at)).to_vec();
        assert_eq!((before, marks.total()), (vec![0, 5, 10, 10, 10, 15, 20, 20], 20));
        (0..100_000).for_each(|i| marks.add(4096, i % 2 == 0));
        assert!(marks.places.len() <= MOST_PLACES + 1);
        assert_eq!(marks.before(50 + 100_000 * 4096), marks.total());
        let half = marks.before(50 + 50_000 * 4096);
        assert!(half.abs_diff(marks.total() / 2) < 1 << 20, "{half}");
    }
}
