//! The comparison of `compare`: two images, by several readers at once.
//!
//! The cursor walks the block status of both sides; where both are zero nothing is read, where one is, the other is only
//! scanned. Readers look at [`BUFFER`] bytes at a time, which stay in the processor's cache. A mismatch that one finds
//! bounds the others, so that the lowest one is reported.

use crate::progress::Told;
use block::{Backend, BlockError, Status};
use futures_util::lock::Mutex;
use rt::BufMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

/// Bytes that are looked at together: both sides fit into the second-level cache.
const BUFFER: u64 = 64 << 10;

/// Longest piece that is given out at a time.
const PIECE: u64 = 1 << 20;

/// What is looked at before readers on other workers begin: a small image is read sooner alone.
const ALONE: u64 = 8 << 20;

/// The unit of reported mismatches, in bytes.
const SECTOR: u64 = 512;

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Bytes differ in the sector at this offset.
    Content(u64),
    /// One side has something stored at this offset, the other has not.
    Status(u64),
}

impl Difference {
    /// Where it is.
    pub fn offset(self) -> u64 {
        match self {
            Difference::Content(offset) | Difference::Status(offset) => offset,
        }
    }
}

/// What went wrong.
#[derive(Debug)]
pub enum CompareError {
    /// A side could not be read: which (0 or 1), where, why.
    Read(usize, u64, BlockError),
    /// The block status of a side can't be had.
    Status(usize, u64, BlockError),
    /// A reader ended before its work.
    Lost(String),
}

/// What is known of one side at the cursor.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Known {
    end: u64,
    zero: bool,
    data: bool,
    allocated: bool,
}

struct Cursor {
    at: u64,
    known: [Known; 2],
    /// From where on one side is told to be the same up to its end, and the other is not.
    ending: Option<u64>,
}

struct Piece {
    at: u64,
    len: u64,
    zero: [bool; 2],
}

/// A comparison that is under way.
pub struct Compare {
    sides: [Arc<Backend>; 2],
    /// Where on each side what is compared begins.
    from: [u64; 2],
    total: u64,
    /// Sides must also have the same things stored.
    strict: bool,
    cursor: Mutex<Cursor>,
    told: Told,
    /// The lowest difference so far begins here.
    bound: AtomicU64,
    found: parking_lot::Mutex<Option<Difference>>,
    stop: AtomicBool,
}

impl Compare {
    /// Makes the comparison ready. Beyond its end a side counts as zeroes.
    pub fn new(sides: [Arc<Backend>; 2], strict: bool) -> Arc<Compare> {
        let total = sides.iter().map(|side| side.length()).max().unwrap_or(0);
        Self::of_part(sides, [0; 2], total, strict)
    }

    /// The same of `total` bytes that begin at an offset on each side. Differences are told by their place among these.
    pub fn of_part(sides: [Arc<Backend>; 2], from: [u64; 2], total: u64, strict: bool) -> Arc<Compare> {
        let unknown = Known { end: 0, zero: true, data: false, allocated: false };
        Arc::new(Compare {
            sides,
            from,
            total,
            strict,
            cursor: Mutex::new(Cursor { at: 0, known: [unknown; 2], ending: None }),
            told: Told::bytes(total),
            bound: AtomicU64::new(u64::MAX),
            found: parking_lot::Mutex::new(None),
            stop: AtomicBool::new(false),
        })
    }

    /// How many bytes have been looked at.
    pub fn told(&self) -> &Told {
        &self.told
    }

    /// Compares everything; gives the lowest difference.
    pub async fn run(self: &Arc<Compare>) -> Result<Option<Difference>, CompareError> {
        self.reader(ALONE).await?;
        let tasks: Vec<_> = (0..self.readers().await)
            .map(|number| {
                let compare = self.clone();
                rt::spawn_on(rt::Target::Worker(number), async move {
                    compare.reader(u64::MAX).await.inspect_err(|_| compare.stop.store(true, Relaxed))
                })
            })
            .collect();
        let mut result = Ok(());
        for task in tasks {
            let ended = task.await.unwrap_or_else(|error| Err(CompareError::Lost(error.to_string())));
            result = result.and(ended);
        }
        result.map(|()| *self.found.lock())
    }

    /// How many readers there is work for.
    async fn readers(&self) -> usize {
        let ended = self.cursor.lock().await.at >= self.total.min(self.bound.load(Relaxed));
        if ended { 0 } else { rt::worker_count() }
    }

    /// Compares pieces until there are none, or `most` bytes are done.
    async fn reader(&self, most: u64) -> Result<(), CompareError> {
        let mut worked = 0;
        while worked < most
            && let Some(piece) = self.next_piece().await?
        {
            worked += piece.len;
            if let Some(offset) = self.differs(&piece).await? {
                self.report(Difference::Content(offset));
            }
            self.told.add(piece.len);
        }
        Ok(())
    }

    /// How much of what is compared a side has.
    fn length(&self, side: usize) -> u64 {
        let whole = self.sides.get(side).map_or(0, |side| side.length());
        whole.saturating_sub(self.from.get(side).copied().unwrap_or(0)).min(self.total)
    }

    fn report(&self, difference: Difference) {
        let mut found = self.found.lock();
        if found.is_none_or(|other| difference.offset() < other.offset()) {
            *found = Some(difference);
            self.bound.store(difference.offset(), Relaxed);
        }
    }

    async fn next_piece(&self) -> Result<Option<Piece>, CompareError> {
        let mut cursor = self.cursor.lock().await;
        loop {
            let at = cursor.at;
            if at >= self.total.min(self.bound.load(Relaxed)) || self.stop.load(Relaxed) {
                return Ok(None);
            }
            for side in 0..2 {
                self.look(&mut cursor, side, at).await?;
            }
            let [one, other] = cursor.known;
            let len = one.end.min(other.end) - at;
            let both_inside = (0..2).all(|side| at < self.length(side));
            if self.strict && both_inside {
                if (one.zero, one.data, one.allocated) != (other.zero, other.data, other.allocated) {
                    // Where one side has nothing new any more, what the other has makes them different from there on.
                    self.report(Difference::Status(cursor.ending.unwrap_or(at)));
                    return Ok(None);
                }
                if (one.end == self.total) != (other.end == self.total) {
                    cursor.ending.get_or_insert(at);
                }
            }
            if one.zero && other.zero {
                cursor.at += len;
                self.told.add(len);
                continue;
            }
            let len = len.min(PIECE);
            cursor.at += len;
            return Ok(Some(Piece { at, len, zero: [one.zero, other.zero] }));
        }
    }

    /// Learns what a side holds at `at`, unless that is known.
    async fn look(&self, cursor: &mut Cursor, side: usize, at: u64) -> Result<(), CompareError> {
        let length = self.length(side);
        let (Some(known), Some(backend), Some(from)) =
            (cursor.known.get_mut(side), self.sides.get(side), self.from.get(side))
        else {
            return Ok(());
        };
        if known.end > at {
            return Ok(());
        }
        if at >= length {
            *known = Known { end: self.total, zero: true, data: false, allocated: false };
            return Ok(());
        }
        let status = backend
            .status(from + at, length - at)
            .await
            .map_err(|error| CompareError::Status(side, at, error))?;
        let Status { len, data, zero, allocated, .. } = status;
        *known = Known { end: at + len, zero, data, allocated };
        Ok(())
    }

    /// The first sector of a piece that differs.
    async fn differs(&self, piece: &Piece) -> Result<Option<u64>, CompareError> {
        let mut at = piece.at;
        let end = piece.at + piece.len;
        while at < end && at < self.bound.load(Relaxed) {
            let len = BUFFER.min(end - at);
            let different = match piece.zero {
                [true, _] => not_zero(&self.read(1, at, len).await?),
                [_, true] => not_zero(&self.read(0, at, len).await?),
                _ => unequal(&self.read(0, at, len).await?, &self.read(1, at, len).await?),
            };
            if let Some(index) = different {
                return Ok(Some(at + index - index % SECTOR));
            }
            at += len;
        }
        Ok(None)
    }

    async fn read(&self, side: usize, offset: u64, len: u64) -> Result<BufMut, CompareError> {
        let mut buf = BufMut::with_len(len as usize);
        let (Some(backend), Some(from)) = (self.sides.get(side), self.from.get(side)) else { return Ok(buf) };
        let failed = |error| CompareError::Read(side, offset, error);
        let offset = from + offset;
        if backend.try_read(offset, &mut buf).map_err(failed)? == buf.len() {
            return Ok(buf);
        }
        let (buf, result) = backend.read(offset, buf).await;
        result.map(|()| buf).map_err(failed)
    }
}

fn not_zero(bytes: &[u8]) -> Option<u64> {
    if codec::is_zero(bytes) {
        return None;
    }
    bytes.iter().position(|byte| *byte != 0).map(|index| index as u64)
}

fn unequal(one: &[u8], other: &[u8]) -> Option<u64> {
    // The whole at once first: that comparison runs at memory speed.
    if one == other {
        return None;
    }
    one.iter().zip(other).position(|(a, b)| a != b).map(|index| index as u64)
}
