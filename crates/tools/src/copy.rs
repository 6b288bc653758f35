//! The copy of `convert` and `dd`: images one after the other into a target, by several copiers at once.
//!
//! ```text
//!            ┌─ copier ─ read ─ zero scan ─ write ─┐
//! cursor ────┼─ copier                             ├──▶ target
//! (extents)  └─ copier                             ┘
//! ```
//!
//! The cursor walks the block status of the sources and gives out pieces of data; holes and zeroes never become
//! pieces, so a large sparse image costs what its extents cost. Copiers are spread over the workers; each holds one
//! buffer that stays in the processor's cache between read, scan and write.
//!
//! Bounds: [`MAX_COPIERS`] buffers of 256 KiB.

use block::{Backend, BlockError, ErrorKind, Role, WriteFlags, ZeroFlags};
use futures_util::lock::Mutex;
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::Duration;

/// Most copiers.
pub const MAX_COPIERS: usize = 16;

/// Bytes read at a time: small enough for the second-level cache.
const BUFFER: u64 = 256 << 10;

/// Longest piece that is given out at a time: long enough that copiers rarely meet at the cursor.
const PIECE: u64 = 2 << 20;

/// What is worked off before copiers on other workers begin, in bytes of pieces: a small image is copied sooner alone, and
/// lies in its order in the target.
const ALONE: u64 = 16 << 20;

/// Zeroes are written in requests of at most this.
const ZERO_PIECE: u64 = 1 << 30;

/// What a failed read is looked at again with, byte for byte saved what can be.
const SECTOR: u64 = 512;

/// A copy to be done.
pub struct Plan {
    /// What is read, one after the other.
    pub sources: Vec<Arc<Backend>>,
    /// What is written.
    pub target: Arc<Backend>,
    /// Where reading begins, in bytes of all sources together.
    pub from: u64,
    /// Bytes to copy.
    pub len: u64,
    /// The target reads as zeroes where nothing was written.
    pub zeroed: bool,
    /// The target's backing file has this many bytes; what the sources do not hold themselves is left to it.
    pub backing: Option<u64>,
    /// Runs of zeroes of this length inside data are not written as data; 0 writes everything out.
    pub sparse: u64,
    /// Copiers at once.
    pub copiers: usize,
    /// Bytes per second, if limited.
    pub rate: Option<u64>,
    /// Go on after read errors, with zeroes in place of what can't be read.
    pub salvage: bool,
}

/// What went wrong, and where.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source could not be read.
    #[error("error while reading at byte {offset}: {}", .error.strerror())]
    Read {
        /// In bytes of all sources together.
        offset: u64,
        /// Why.
        error: BlockError,
    },
    /// A source does not tell what it holds.
    #[error("error while reading block status at offset {offset}: {}", .error.strerror())]
    Status {
        /// In bytes of all sources together.
        offset: u64,
        /// Why.
        error: BlockError,
    },
    /// The target could not be written.
    #[error("error while writing at byte {offset}: {}", .error.strerror())]
    Write {
        /// In bytes of the target.
        offset: u64,
        /// Why.
        error: BlockError,
    },
    /// A copier ended before its work.
    #[error("{0}")]
    Lost(String),
}

/// What stands at the cursor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Data,
    Zero,
    Leave,
}

/// Where the walk through the sources is.
struct Cursor {
    at: u64,
    /// The known extent ends here.
    end: u64,
    what: What,
}

/// A copy that is under way.
pub struct Copy {
    plan: Plan,
    /// Where each source begins.
    starts: Vec<u64>,
    cursor: Mutex<Cursor>,
    /// Where the cursor stands, for those who only look.
    done: AtomicU64,
    copied: AtomicU64,
    started_ns: u64,
    stop: AtomicBool,
    warnings: parking_lot::Mutex<Vec<String>>,
}

impl Copy {
    /// Makes the copy ready. Call [`Copy::run`].
    pub fn new(plan: Plan) -> Arc<Copy> {
        let mut starts = Vec::with_capacity(plan.sources.len());
        let mut start = 0u64;
        for source in &plan.sources {
            starts.push(start);
            start = start.saturating_add(source.length());
        }
        let from = plan.from;
        Arc::new(Copy {
            plan,
            starts,
            cursor: Mutex::new(Cursor { at: from, end: from, what: What::Leave }),
            done: AtomicU64::new(0),
            copied: AtomicU64::new(0),
            started_ns: rt::now_ns(),
            stop: AtomicBool::new(false),
            warnings: parking_lot::Mutex::default(),
        })
    }

    /// Bytes that have been worked off.
    pub fn progress(&self) -> u64 {
        self.done.load(Relaxed)
    }

    /// What was passed over since the last call.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock())
    }

    /// Copies everything.
    pub async fn run(self: &Arc<Copy>) -> Result<(), CopyError> {
        self.copier(ALONE).await?;
        if self.exhausted().await {
            return Ok(());
        }
        let copiers = self.plan.copiers.clamp(1, MAX_COPIERS);
        let tasks: Vec<_> = (0..copiers)
            .map(|number| {
                let copy = self.clone();
                rt::spawn_on(rt::Target::Worker(number), async move {
                    copy.copier(u64::MAX).await.inspect_err(|_| copy.stop.store(true, Relaxed))
                })
            })
            .collect();
        let mut result = Ok(());
        for task in tasks {
            let ended = task.await.unwrap_or_else(|error| Err(CopyError::Lost(error.to_string())));
            result = result.and(ended);
        }
        result
    }

    async fn exhausted(&self) -> bool {
        self.cursor.lock().await.at >= self.plan.from + self.plan.len
    }

    /// Copies pieces until there are none, or `most` bytes are done.
    async fn copier(&self, most: u64) -> Result<(), CopyError> {
        let mut worked = 0;
        while worked < most
            && let Some((offset, len, what)) = self.next_piece().await?
        {
            worked += len;
            match what {
                What::Data => self.copy_data(offset, len).await?,
                What::Zero => self.write_zeroes(offset, len).await?,
                What::Leave => {}
            }
            self.done.fetch_add(len, Relaxed);
        }
        Ok(())
    }

    /// The next piece that needs work. Pieces are given out in order.
    async fn next_piece(&self) -> Result<Option<(u64, u64, What)>, CopyError> {
        let mut cursor = self.cursor.lock().await;
        let end = self.plan.from + self.plan.len;
        loop {
            if cursor.at >= end || self.stop.load(Relaxed) {
                return Ok(None);
            }
            if cursor.at >= cursor.end {
                let (len, what) = self.look(cursor.at, end - cursor.at).await?;
                (cursor.end, cursor.what) = (cursor.at + len, what);
            }
            let (at, len) = (cursor.at, cursor.end - cursor.at);
            let len = match cursor.what {
                What::Leave => {
                    cursor.at += len;
                    self.done.fetch_add(len, Relaxed);
                    continue;
                }
                What::Data => self.whole_units(at, len.min(PIECE)),
                What::Zero => len.min(ZERO_PIECE),
            };
            cursor.at += len;
            return Ok(Some((at, len, cursor.what)));
        }
    }

    /// Ends a piece at a multiple of [`PIECE`] in the target, so that copiers do not share clusters there.
    fn whole_units(&self, at: u64, len: u64) -> u64 {
        let end = at - self.plan.from + len;
        let rounded = end - end % PIECE;
        match rounded.checked_sub(at - self.plan.from) {
            Some(shorter @ 1..) => shorter,
            _ => len,
        }
    }

    /// What the sources hold at `at`, and for how long.
    async fn look(&self, at: u64, len: u64) -> Result<(u64, What), CopyError> {
        let Some((source, start)) = self.source_at(at) else { return Ok((len, What::Zero)) };
        let offset = at - start;
        let len = len.min(source.length().saturating_sub(offset));
        let status = match (self.plan.backing, source.node().skip_filters().child(Role::Backing)) {
            (Some(_), Some(below)) => source.status_above(offset, len, &below).await,
            _ => source.status(offset, len).await,
        };
        let status = match status {
            Ok(status) => status,
            Err(error) if self.plan.salvage => {
                self.warn(format!("error while reading block status at offset {at}: {}", error.strerror()));
                return Ok((len.min(SECTOR), What::Data));
            }
            Err(error) => return Err(CopyError::Status { offset: at, error }),
        };
        let target = at - self.plan.from;
        let what = match self.plan.backing {
            // Behind the end of the target's backing file everything reads as zeroes already.
            Some(backing) if target >= backing && status.zero => What::Leave,
            Some(_) if !status.allocated => What::Leave,
            Some(_) if status.zero => What::Zero,
            None if status.zero && self.plan.zeroed && self.plan.sparse > 0 => What::Leave,
            None if status.zero => What::Zero,
            _ => What::Data,
        };
        let len = match self.plan.backing {
            Some(backing) if target < backing => status.len.min(backing - target),
            _ => status.len,
        };
        Ok((len, what))
    }

    fn source_at(&self, at: u64) -> Option<(&Arc<Backend>, u64)> {
        let index = self.starts.partition_point(|start| *start <= at).checked_sub(1)?;
        let (source, start) = (self.plan.sources.get(index)?, *self.starts.get(index)?);
        (at - start < source.length()).then_some((source, start))
    }

    fn warn(&self, text: String) {
        self.warnings.lock().push(text);
    }

    async fn copy_data(&self, offset: u64, len: u64) -> Result<(), CopyError> {
        let mut at = 0;
        while at < len {
            let step = BUFFER.min(len - at);
            let piece = self.read(offset + at, BufMut::with_len(step as usize)).await?;
            self.write(offset + at, piece.freeze()).await?;
            self.wait_for_rate().await;
            at += step;
        }
        Ok(())
    }

    async fn read(&self, offset: u64, mut buf: BufMut) -> Result<BufMut, CopyError> {
        let Some((source, start)) = self.source_at(offset) else {
            buf.fill(0);
            return Ok(buf);
        };
        let at = offset - start;
        match source.try_read(at, &mut buf) {
            Ok(got) if got == buf.len() => return Ok(buf),
            Ok(_) => {}
            Err(error) if !self.plan.salvage => return Err(CopyError::Read { offset, error }),
            Err(_) => return Ok(self.salvage(source, offset, start, buf).await),
        }
        let (buf, result) = source.read(at, buf).await;
        match result {
            Ok(()) => Ok(buf),
            Err(_) if self.plan.salvage => Ok(self.salvage(source, offset, start, buf).await),
            Err(error) => Err(CopyError::Read { offset, error }),
        }
    }

    /// Reads sector by sector what can be read; the rest becomes zeroes, and is told.
    async fn salvage(&self, source: &Backend, offset: u64, start: u64, mut buf: BufMut) -> BufMut {
        let mut at = 0;
        while let Some(rest) = buf.get_mut(at..).filter(|rest| !rest.is_empty()) {
            let len = rest.len().min(SECTOR as usize);
            let (sector, result) = source.read(offset - start + at as u64, BufMut::with_len(len)).await;
            let (front, _) = rest.split_at_mut(len);
            match result {
                Ok(()) => front.copy_from_slice(&sector),
                Err(error) => {
                    front.fill(0);
                    self.warn(format!(
                        "error while reading offset {}: {}",
                        offset + at as u64,
                        error.strerror()
                    ));
                }
            }
            at += len;
        }
        buf
    }

    /// Writes what was read at `offset` of the sources, its runs of zeroes as such.
    async fn write(&self, offset: u64, whole: Buf) -> Result<(), CopyError> {
        let target = offset - self.plan.from;
        let unit = usize::try_from(self.plan.sparse).unwrap_or(usize::MAX);
        let mut at = 0;
        while at < whole.len() {
            let rest = whole.slice(at..whole.len());
            let data = if unit == 0 { rest.len() } else { codec::zero::data_run(&rest, unit) };
            if data > 0 {
                self.write_slice(target + at as u64, rest.slice(0..data)).await?;
                at += data;
                continue;
            }
            let zeroes = codec::zero::zero_run(&rest, unit).max(1);
            if !self.plan.zeroed || self.plan.backing.is_some() {
                self.write_zeroes(offset + at as u64, zeroes as u64).await?;
            }
            at += zeroes;
        }
        Ok(())
    }

    async fn write_slice(&self, offset: u64, data: Buf) -> Result<(), CopyError> {
        let failed = |error| CopyError::Write { offset, error };
        let got = self.plan.target.try_write(offset, &data).map_err(failed)?;
        if got < data.len() {
            let rest = data.slice(got..data.len());
            self.plan.target.write(offset + got as u64, rest, WriteFlags::default()).await.map_err(failed)?;
        }
        self.copied.fetch_add(data.len() as u64, Relaxed);
        Ok(())
    }

    /// Zeroes a range that is given in bytes of the sources.
    async fn write_zeroes(&self, offset: u64, len: u64) -> Result<(), CopyError> {
        let offset = offset - self.plan.from;
        if self.plan.sparse == 0 {
            return self.write_zero_data(offset, len).await;
        }
        let flags = ZeroFlags { unmap: true, ..ZeroFlags::default() };
        match self.plan.target.write_zeroes(offset, len, flags).await {
            Ok(()) => Ok(()),
            Err(error) => Err(CopyError::Write { offset, error }),
        }
    }

    async fn write_zero_data(&self, offset: u64, len: u64) -> Result<(), CopyError> {
        let zeroes = BufMut::zeroed(BUFFER.min(len) as usize).freeze();
        let mut at = 0;
        while at < len {
            let step = BUFFER.min(len - at);
            self.write_slice(offset + at, zeroes.slice(0..step as usize)).await?;
            self.wait_for_rate().await;
            at += step;
        }
        Ok(())
    }

    /// Waits until what was written is within the rate.
    async fn wait_for_rate(&self) {
        let Some(rate) = self.plan.rate.filter(|rate| *rate > 0) else { return };
        let due = u128::from(self.copied.load(Relaxed)) * 1_000_000_000 / u128::from(rate);
        let passed = u128::from(rt::now_ns().saturating_sub(self.started_ns));
        if let Some(wait @ 1..) = due.checked_sub(passed) {
            rt::sleep(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))).await;
        }
    }
}

/// Whether zeroing the whole of `target` costs no writing; if so it has been done.
pub async fn zero_all(target: &Backend) -> Result<bool, BlockError> {
    let flags = ZeroFlags { unmap: true, no_fallback: true, fua: false };
    match target.write_zeroes(0, target.length(), flags).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}
