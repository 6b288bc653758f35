//! What a unit says has space of its own, remembered until something is written.

use super::connection::Payload;
use super::execute::Command;
use super::link::Link;
use block::{Extent, ExtentKind, Result};
use iscsi::scsi::{command, lba_status};
use parking_lot::Mutex;
use rt::BufMut;
use std::sync::Arc;

/// Bytes of an answer: 64 extents.
const ANSWER: usize = 8 + 64 * 16;

/// Extents of the last answer: block status comes in order.
#[derive(Default)]
pub(super) struct KnownExtents(Mutex<Known>);

/// A change of the unit under way.
pub(super) struct Changing<'a>(&'a KnownExtents);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.forget();
    }
}

#[derive(Default)]
struct Known {
    start: u64,
    /// End of each in bytes, and whether it has data, in order.
    extents: Vec<(u64, bool)>,
    /// Counts how often it was forgotten: an answer from before is not kept.
    age: u64,
}

impl KnownExtents {
    /// Discards what is remembered: the unit changes.
    pub fn forget(&self) {
        let mut known = self.0.lock();
        known.age += 1;
        known.extents = Vec::new();
    }

    /// Discards it now, and when the change ends, in whatever way.
    pub fn changing(&self) -> Changing<'_> {
        self.forget();
        Changing(self)
    }

    /// The extent at `offset`, at most `len` bytes of it.
    pub async fn find(&self, link: &Arc<Link>, offset: u64, len: u64) -> Result<Extent> {
        let unit = &link.unit;
        if offset >= unit.size() {
            return Ok(Extent { len, kind: ExtentKind::Zero { reserved: None } });
        }
        // What has no space and does not read as zeroes may hold anything: it has to be read.
        if !unit.capacity.thin || !unit.capacity.zeroes {
            return Ok(stored(len));
        }
        let age = {
            let known = self.0.lock();
            if let Some(extent) = known.at(offset, len) {
                return Ok(extent);
            }
            known.age
        };
        let block = unit.block_size();
        let start = offset / block;
        let ask = Command::at("GET LBA STATUS", command::get_lba_status(start, ANSWER as u32), offset);
        let payload = Payload { data: None, buf: Some(BufMut::zeroed(ANSWER)) };
        let (buf, result) = link.run(&ask, payload).await;
        let received = match result {
            Ok(reply) => reply.received,
            // A unit that does not know the question holds data everywhere.
            Err(error) if error.kind() == block::ErrorKind::Unsupported => return Ok(stored(len)),
            Err(error) => return Err(error),
        };
        let answer = buf.as_ref().and_then(|buf| buf.get(..received)).unwrap_or_default();
        let mut fresh = Known { start: start * block, extents: Vec::new(), age };
        let mut at = start;
        for extent in lba_status(answer) {
            let end = extent.at.saturating_add(extent.blocks.into()).min(unit.capacity.blocks);
            // The first may begin before what was asked for; each of the others where the last one ended.
            if extent.at > at || end <= at {
                break;
            }
            at = end;
            fresh.extents.push((at * block, extent.mapped));
        }
        let found = fresh.at(offset, len).unwrap_or_else(|| stored(len));
        let mut known = self.0.lock();
        if known.age == age {
            *known = fresh;
        }
        Ok(found)
    }
}

impl Known {
    fn at(&self, offset: u64, len: u64) -> Option<Extent> {
        if offset < self.start {
            return None;
        }
        let at = self.extents.partition_point(|(end, _)| *end <= offset);
        let (end, mapped) = *self.extents.get(at)?;
        let kind = if mapped { ExtentKind::Stored } else { ExtentKind::Zero { reserved: None } };
        Some(Extent { len: (end - offset).min(len), kind })
    }
}

/// Without information all of it counts as data.
pub(super) fn stored(len: u64) -> Extent {
    Extent { len, kind: ExtentKind::Stored }
}
