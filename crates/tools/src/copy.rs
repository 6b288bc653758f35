//! How a tool's copy is controlled: its progress, its rate limit, and its first error, which ends it.

use block::{
    AfterError, Backend, BlockError, CopyControl, CopyError, CopyPlan, CopyStep, ErrorKind, Flags,
    RangePieces, Request,
};
use parking_lot::Mutex;
use rt::BoxFuture;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Most pieces that may be asked for at once.
pub const MAX_PARALLEL: usize = 16;

/// Least run of zeroes inside data that is not copied as data where nobody says, in bytes.
pub const SPARSE: usize = 4096;

/// Bytes that are copied before worker threads are started.
const ALONE: u64 = 2 << 20;

/// Pieces under way at once where nobody says.
pub const PARALLEL: usize = 8;

/// Counts what is done, holds the rate, keeps the error.
pub struct CopyRun {
    done: AtomicU64,
    started: AtomicU64,
    /// Bytes per second, if limited.
    rate: Option<u64>,
    since_ns: u64,
    error: Mutex<Option<CopyError>>,
}

impl CopyRun {
    /// A copy of at most `rate` bytes per second, counted from now on.
    pub fn new(rate: Option<u64>) -> CopyRun {
        CopyRun {
            done: AtomicU64::new(0),
            started: AtomicU64::new(0),
            rate: rate.filter(|rate| *rate > 0),
            since_ns: rt::now_ns(),
            error: Mutex::new(None),
        }
    }

    /// Bytes that have been worked off.
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// Copies a range of the source, `parallel` pieces at once.
    pub async fn copy(&self, plan: CopyPlan, range: Range<u64>, parallel: usize) -> Result<(), CopyError> {
        let plan = Arc::new(CopyPlan { serial: ALONE.saturating_sub(self.done()), ..plan });
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
        self.debt_ns() > 0
    }

    fn wait_to_start(&self) -> BoxFuture<'_, Result<(), BlockError>> {
        Box::pin(async {
            rt::sleep(Duration::from_nanos(self.debt_ns())).await;
            Ok(())
        })
    }

    fn started(&self, bytes: u64) {
        self.started.fetch_add(bytes, Relaxed);
    }

    fn progressed(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
    }

    fn on_error<'a>(&'a self, error: &'a CopyError) -> BoxFuture<'a, AfterError> {
        self.error.lock().get_or_insert_with(|| error.clone());
        Box::pin(async { AfterError::Fail })
    }
}

/// What went wrong and where; `start` is where the source begins in all sources together.
pub fn describe(error: &CopyError, start: u64) -> String {
    let (offset, why) = (error.offset, error.error.strerror());
    match error.step {
        CopyStep::Status => format!("error while reading block status at offset {}: {why}", start + offset),
        CopyStep::Read => format!("error while reading at byte {}: {why}", start + offset),
        CopyStep::Write => format!("error while writing at byte {offset}: {why}"),
    }
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
