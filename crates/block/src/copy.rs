//! The copy engine: moves ranges from one place to another, in pieces, several at a time.
//!
//! ```text
//!   Chunks ──next──▶ range ──┬─ status says data ─▶ read ─▶ write
//!   (cursor,                 ├─ zeroes ───────────▶ write_zeroes
//!    dirty bitmap)           └─ not in the layers copied ─▶ nothing
//!                  Pace: waits before a range starts · hears what is done · decides after an error
//! ```
//!
//! Jobs and tools share it: they differ in where their ranges come from ([`Chunks`]) and in who holds the reins
//! ([`Pace`]).
//!
//! Laws:
//! - one walk over the ranges never comes back to what is in flight, and the next begins when all has landed: an old
//!   copy can't land on top of a newer one;
//! - a dirty bit is taken before its range is read: what is written meanwhile is dirty again and copied again;
//! - a range that failed is copied again or ends the whole copy: nothing is left out silently.
//!
//! Bounds: at most the asked number of ranges in flight, each at most [`CHUNK`] bytes of data.
use crate::backend::Backend;
use crate::bitmap::DirtyBitmap;
use crate::error::{BlockError, ErrorKind, Result};
use crate::io::{WriteFlags, ZeroFlags};
use crate::node::Node;
use crate::status::Status;
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut};
use std::ops::Range;
use std::sync::Arc;

/// Most bytes of data that one range in flight holds.
pub const CHUNK: u64 = 1 << 20;

/// Most bytes of zeroes that one range in flight covers: they cost little, but a pause waits for them.
const ZERO_CHUNK: u64 = 1 << 30;

/// Where a copy reads from or writes to.
#[derive(Debug, Clone)]
pub enum Port {
    /// Through an entry, waiting at its gate.
    Entry(Arc<Backend>),
    /// Straight at a node: for whoever has closed the gates above it.
    Inner(Arc<Node>),
}

impl Port {
    async fn status(&self, offset: u64, len: u64, base: Option<&Arc<Node>>) -> Result<Status> {
        match (self, base) {
            (Port::Entry(entry), Some(base)) => entry.status_above(offset, len, base).await,
            (Port::Entry(entry), None) => entry.status(offset, len).await,
            (Port::Inner(node), base) => node.status(offset, len, base).await,
        }
    }

    async fn read(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        match self {
            Port::Entry(entry) => entry.read(offset, buf).await,
            Port::Inner(node) => node.read(offset, buf).await,
        }
    }

    async fn write(&self, offset: u64, data: Buf) -> Result<()> {
        match self {
            Port::Entry(entry) => entry.write(offset, data, WriteFlags::default()).await,
            Port::Inner(node) => node.write(offset, data, WriteFlags::default()).await,
        }
    }

    async fn write_zeroes(&self, offset: u64, len: u64, flags: ZeroFlags) -> Result<()> {
        match self {
            Port::Entry(entry) => entry.write_zeroes(offset, len, flags).await,
            Port::Inner(node) => node.write_zeroes(offset, len, flags).await,
        }
    }
}

/// Which side of a copy failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Reading, or asking for block status.
    Source,
    /// Writing.
    Target,
}

/// An error of a copy, with the side it came from.
#[derive(Debug, Clone)]
pub struct CopyError {
    /// Where it came from.
    pub side: Side,
    /// What went wrong.
    pub error: BlockError,
}

fn source(error: BlockError) -> CopyError {
    CopyError { side: Side::Source, error }
}

fn target(error: BlockError) -> CopyError {
    CopyError { side: Side::Target, error }
}

/// From where to where, and what is left out.
#[derive(Debug, Clone)]
pub struct CopyPlan {
    /// Read from here.
    pub source: Port,
    /// Write to there.
    pub target: Port,
    /// Layers from this node down are not copied: a range that only they hold is left out.
    pub base: Option<Arc<Node>>,
}

impl CopyPlan {
    /// A copy of everything.
    pub fn new(source: Port, target: Port) -> Self {
        Self { source, target, base: None }
    }

    /// Whether the start of the range needs copying, and for how many bytes that is true, or worth one range.
    async fn look(&self, offset: u64, len: u64) -> Result<(bool, u64), CopyError> {
        let status = self.source.status(offset, len, self.base.as_ref()).await.map_err(source)?;
        let (needed, len) = (!self.left_out(&status), status.len.min(len));
        let most = match (needed, status.zero) {
            (false, _) => len,
            (true, true) => ZERO_CHUNK,
            (true, false) => CHUNK,
        };
        Ok((needed, len.min(most)))
    }

    fn left_out(&self, status: &Status) -> bool {
        self.base.is_some() && !status.allocated
    }

    /// Copies a range, one extent after the other.
    pub async fn copy(&self, range: Range<u64>) -> Result<(), CopyError> {
        let mut at = range.start;
        while at < range.end {
            let len = range.end - at;
            let status = self.source.status(at, len, self.base.as_ref()).await.map_err(source)?;
            let len = status.len.min(len);
            if self.left_out(&status) {
                at += len;
            } else if status.zero {
                self.store_zeroes(at, len).await?;
                at += len;
            } else {
                let len = len.min(CHUNK);
                self.copy_data(at, len).await?;
                at += len;
            }
        }
        Ok(())
    }

    async fn copy_data(&self, at: u64, len: u64) -> Result<(), CopyError> {
        let (data, result) = self.source.read(at, BufMut::with_len(len as usize)).await;
        result.map_err(source)?;
        self.target.write(at, data.freeze()).await.map_err(target)
    }

    async fn store_zeroes(&self, at: u64, len: u64) -> Result<(), CopyError> {
        let flags = ZeroFlags { unmap: true, ..ZeroFlags::default() };
        self.target.write_zeroes(at, len, flags).await.map_err(target)
    }
}

/// What a copy does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The same range again.
    Again,
    /// The copy ends with this error.
    Fail,
}

/// Who holds the reins of a copy.
pub trait Pace: Send + Sync {
    /// Whether nothing new may start at present: [`Pace::admit`] is awaited when all that is in flight has ended.
    fn rests(&self) -> bool;

    /// Waits until ranges may start again: for the rate limit, for a pause to end. An error ends the copy.
    fn admit(&self) -> BoxFuture<'_, Result<()>>;

    /// A range of so many bytes starts.
    fn starts(&self, bytes: u64);

    /// So many bytes are done, copied or found to need no copying.
    fn done(&self, bytes: u64);

    /// Decides after an error, and may wait before it answers.
    fn failed<'a>(&'a self, error: &'a CopyError) -> BoxFuture<'a, Verdict>;
}

/// Where the ranges to copy come from.
pub trait Chunks: Send + Sync {
    /// The next range to copy, none of it handed out before unless it came back; `None` at the end.
    fn next<'a>(
        &'a self,
        plan: &'a CopyPlan,
        pace: &'a dyn Pace,
    ) -> BoxFuture<'a, Result<Option<Range<u64>>, CopyError>>;

    /// Takes a range back that was not copied.
    fn again(&self, range: Range<u64>);
}

/// Copies what `chunks` hands out, at most `parallel` ranges at a time, until nothing is left and nothing is in
/// flight. After an error, too, it returns only when nothing is in flight. Several copiers may share one [`Cursor`].
pub async fn copy(plan: &Arc<CopyPlan>, chunks: &dyn Chunks, parallel: usize, pace: &dyn Pace) -> Result<()> {
    let mut flights = Flights { plan: plan.clone(), running: FuturesUnordered::new() };
    let result = copy_until_done(&mut flights, chunks, parallel.max(1), pace).await;
    while let Some((_, range)) = flights.land().await {
        chunks.again(range);
    }
    result
}

async fn copy_until_done(
    flights: &mut Flights,
    chunks: &dyn Chunks,
    parallel: usize,
    pace: &dyn Pace,
) -> Result<()> {
    loop {
        let resting = pace.rests();
        if resting && flights.running.is_empty() {
            pace.admit().await?;
            continue;
        }
        if !resting && flights.running.len() < parallel {
            match chunks.next(&flights.plan, pace).await {
                Ok(Some(range)) => {
                    pace.starts(range.end - range.start);
                    flights.launch(range);
                    continue;
                }
                Ok(None) => {}
                Err(e) if pace.failed(&e).await == Verdict::Fail => return Err(e.error),
                Err(_) => continue,
            }
        }
        let Some((result, range)) = flights.land().await else { return Ok(()) };
        match result {
            Ok(()) => pace.done(range.end - range.start),
            Err(e) => {
                chunks.again(range);
                if pace.failed(&e).await == Verdict::Fail {
                    return Err(e.error);
                }
            }
        }
    }
}

/// A range that was copied, or why it was not.
type Landed = (Result<(), CopyError>, Range<u64>);

/// Ranges being copied, each a task of its own: it gives its gates' tokens back whatever the copier waits for.
struct Flights {
    plan: Arc<CopyPlan>,
    running: FuturesUnordered<BoxFuture<'static, Landed>>,
}

impl Flights {
    fn launch(&mut self, range: Range<u64>) {
        let (plan, its) = (self.plan.clone(), range.clone());
        let task = rt::spawn(async move { plan.copy(its).await });
        self.running.push(Box::pin(async move {
            let lost =
                |e: rt::JoinError| Err(target(BlockError::new(ErrorKind::Io, format!("a copier: {e}"))));
            (task.await.unwrap_or_else(lost), range)
        }));
    }

    /// Waits for one to end; `None` when nothing is in flight.
    async fn land(&mut self) -> Option<Landed> {
        self.running.next().await
    }
}

/// A range walked once from its start to its end; what needs no copying is passed over.
pub struct Cursor {
    /// Held across the look at the next extent, so that several copiers get different ones.
    at: futures_util::lock::Mutex<u64>,
    end: u64,
    again: Mutex<Vec<Range<u64>>>,
}

impl Cursor {
    /// A cursor over a range of the source.
    pub fn new(range: Range<u64>) -> Self {
        Self { at: range.start.into(), end: range.end, again: Mutex::default() }
    }
}

impl Chunks for Cursor {
    fn next<'a>(
        &'a self,
        plan: &'a CopyPlan,
        pace: &'a dyn Pace,
    ) -> BoxFuture<'a, Result<Option<Range<u64>>, CopyError>> {
        Box::pin(async move {
            if let Some(range) = self.again.lock().pop() {
                return Ok(Some(range));
            }
            let mut at = self.at.lock().await;
            while *at < self.end {
                let (needed, len) = plan.look(*at, self.end - *at).await?;
                let start = *at;
                *at += len;
                if needed {
                    return Ok(Some(start..*at));
                }
                pace.done(len);
            }
            Ok(None)
        })
    }

    fn again(&self, range: Range<u64>) {
        self.again.lock().push(range);
    }
}

/// The dirty chunks of a bitmap, in one lap from its start to its end: what becomes dirty behind it is left for the
/// next lap.
pub struct Dirty {
    bitmap: Arc<DirtyBitmap>,
    from: Mutex<u64>,
}

impl Dirty {
    /// A lap over what is dirty in `bitmap`.
    pub fn lap(bitmap: Arc<DirtyBitmap>) -> Self {
        Self { bitmap, from: Mutex::new(0) }
    }

    /// The next run of dirty chunks; its bits are clean now.
    fn take(&self) -> Option<Range<u64>> {
        let mut from = self.from.lock();
        let start = self.bitmap.next_dirty(*from)?;
        *from = self.bitmap.take_run(start, start.saturating_add(CHUNK.max(self.bitmap.granularity())));
        Some(start..*from)
    }
}

impl Chunks for Dirty {
    fn next<'a>(
        &'a self,
        _: &'a CopyPlan,
        _: &'a dyn Pace,
    ) -> BoxFuture<'a, Result<Option<Range<u64>>, CopyError>> {
        let next = self.take().filter(|range| !range.is_empty());
        Box::pin(async move { Ok(next) })
    }

    fn again(&self, range: Range<u64>) {
        self.bitmap.mark(range.start, range.end - range.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lap_never_comes_back_and_leaves_new_dirt_behind_it_to_the_next() {
        let bitmap = Arc::new(DirtyBitmap::new(3 << 20, 65536));
        bitmap.mark(0, 3 << 19);
        let lap = Dirty::lap(bitmap.clone());
        assert_eq!(lap.take(), Some(0..1 << 20));
        bitmap.mark(65536, 10);
        bitmap.mark(2 << 20, 10);
        assert_eq!(lap.take(), Some(1 << 20..3 << 19));
        assert_eq!(lap.take(), Some(2 << 20..(2 << 20) + 65536));
        assert_eq!(lap.take(), None);
        assert_eq!(Dirty::lap(bitmap).take(), Some(65536..2 * 65536));
    }
}
