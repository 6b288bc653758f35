//! What the server says is allocated, remembered until something is written.

use super::link::Link;
use block::{Extent, ExtentKind, Result};
use nbd::{Command, CommandFlags, ExtentFlags};
use parking_lot::Mutex;
use std::sync::Arc;

/// Longest range asked about at once where headers are not extended, in bytes: a multiple of every block size.
const LONGEST: u64 = 1 << 31;

/// Extents of the last answer: block status comes in order.
pub(super) struct KnownExtents {
    known: Mutex<Known>,
    /// What an extent is that the server calls a hole and not zero.
    hole: ExtentKind,
}

#[derive(Default)]
struct Known {
    start: u64,
    /// End and status of each, in order.
    extents: Vec<(u64, ExtentFlags)>,
    /// Counts how often it was forgotten: an answer from before is not kept.
    age: u64,
}

impl KnownExtents {
    /// Nothing is known yet. `allocation`: it is the disk's allocation that the server is asked about.
    pub fn new(allocation: bool) -> Self {
        // The content of a hole that is not zero is undefined: it has to be read to be known.
        let hole = if allocation { ExtentKind::Stored } else { ExtentKind::HOLE };
        Self { known: Mutex::default(), hole }
    }

    /// Discards what is remembered: the export changes.
    pub fn forget(&self) {
        let mut known = self.known.lock();
        known.age += 1;
        known.extents = Vec::new();
    }

    /// The extent at `offset`, at most `len` bytes of it.
    pub async fn find(&self, link: &Arc<Link>, offset: u64, len: u64) -> Result<Extent> {
        let export = &link.export;
        let age = {
            let known = self.known.lock();
            if let Some(extent) = known.at(offset, len, self.hole) {
                return Ok(extent);
            }
            known.age
        };
        let block = u64::from(export.minimum_block);
        let start = offset - offset % block;
        let end = offset.saturating_add(len).min(export.size);
        // Beyond the export there is nothing to ask about; it reads as zeroes.
        if start >= end {
            return Ok(Extent { len, kind: ExtentKind::Zero { reserved: None } });
        }
        // The last bytes of an export that is no multiple of its block size can't be asked about.
        let longest = if export.headers.extended() { u64::MAX } else { LONGEST };
        let asked = (end - start).next_multiple_of(block).min(longest).min(export.size - start);
        let asked = asked - asked % block;
        if asked == 0 {
            return Ok(stored(len));
        }
        let range = (start, asked);
        let (_, answer) = link.call(Command::BLOCK_STATUS, CommandFlags::NONE, range, None, None).await;
        let mut at = start;
        let mut extents = Vec::new();
        for (len, flags) in answer? {
            at = at.saturating_add(len); // the last one may end anywhere
            extents.push((at, flags));
        }
        let fresh = Known { start, extents, age };
        let found = fresh.at(offset, len, self.hole).unwrap_or_else(|| stored(len));
        let mut known = self.known.lock();
        if known.age == age {
            *known = fresh;
        }
        Ok(found)
    }
}

impl Known {
    fn at(&self, offset: u64, len: u64, hole: ExtentKind) -> Option<Extent> {
        if offset < self.start {
            return None;
        }
        let at = self.extents.partition_point(|(end, _)| *end <= offset);
        let (end, flags) = *self.extents.get(at)?;
        let kind = if flags.contains(ExtentFlags::ZERO) {
            ExtentKind::Zero { reserved: None }
        } else if flags.contains(ExtentFlags::HOLE) {
            hole
        } else {
            ExtentKind::Stored
        };
        Some(Extent { len: (end - offset).min(len), kind })
    }
}

/// Without information all of it counts as data.
pub(super) fn stored(len: u64) -> Extent {
    Extent { len, kind: ExtentKind::Stored }
}
