//! Notes of what has been copied, for a copy that is begun again after it was cut off.
//!
//! A note is a hint, never believed: what was noted by the copy before is read on both sides and compared, and what differs is
//! copied. So it does no harm that a note may be older than the last change of source or target, or that a crash took what
//! it speaks of.
//!
//! Bounds: two bits for each [`UNIT`] of the disk; on large disks the unit grows, up to a piece of the copy.
use super::flight::STEP;
use crate::bitmap::DirtyBitmap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a bit stands for, in bytes, on a disk of up to [`MOST`] of them.
const UNIT: u64 = 65536;

/// Most units, as long as a unit is no longer than a piece.
const MOST: u64 = 1 << 24;

/// What was copied of a disk, before and now.
pub struct CopyNotes {
    /// Noted by the copy before, and not looked at yet by this one.
    before: DirtyBitmap,
    /// Copied by this one, or found to be the same.
    now: DirtyBitmap,
    differing: AtomicU64,
}

impl CopyNotes {
    /// For a disk of `length` bytes, of which nothing was copied.
    pub fn new(length: u64) -> Self {
        let unit = (length / MOST).next_power_of_two().clamp(UNIT, STEP);
        let bits = || DirtyBitmap::new(length, unit);
        Self { before: bits(), now: bits(), differing: AtomicU64::new(0) }
    }

    /// Bytes that a bit of them is about.
    pub fn unit(&self) -> u64 {
        self.now.granularity()
    }

    /// How many bytes the bits take.
    pub fn stored_len(&self) -> u64 {
        self.now.chunks().div_ceil(8)
    }

    /// All bits, the lowest of a byte first.
    pub fn stored(&self) -> Vec<u8> {
        let mut bits = vec![0; usize::try_from(self.stored_len()).unwrap_or(0)];
        // In this order: what goes over from the one to the other is in one of them.
        let mut before = bits.clone();
        self.before.bits(0, &mut before);
        self.now.bits(0, &mut bits);
        bits.iter_mut().zip(before).for_each(|(bits, before)| *bits |= before);
        bits
    }

    /// Takes over what a copy before has noted.
    pub fn take_over(&self, bits: &[u8]) {
        self.before.mark_bits(0, bits);
    }

    /// Whether something was noted before that is not looked at yet.
    pub fn has_more(&self) -> bool {
        !self.before.is_clean()
    }

    /// Bytes that are noted now.
    pub fn noted(&self) -> u64 {
        self.before.dirty_bytes().saturating_add(self.now.dirty_bytes())
    }

    /// Bytes that were noted before and are not the same on both sides, in whole reads.
    pub fn differing(&self) -> u64 {
        self.differing.load(Relaxed)
    }

    /// Whether the start of a range was noted by the copy before, and how many bytes of it are alike in that.
    pub(super) fn alike(&self, offset: u64, len: u64) -> (bool, u64) {
        if self.before.is_clean() {
            return (false, len);
        }
        let (noted, end) = self.before.run_at(offset, offset.saturating_add(len));
        (noted, end.saturating_sub(offset).clamp(1, len))
    }

    /// So many bytes, compared because they were noted, are not the same.
    pub(super) fn differed(&self, bytes: u64) {
        self.differing.fetch_add(bytes, Relaxed);
    }

    /// A range is the same on both sides. Units of which it is a part only are not noted.
    pub(super) fn copied(&self, range: &Range<u64>) {
        let unit = self.unit();
        let start = range.start.next_multiple_of(unit);
        let end = if range.end >= self.now.length() { range.end } else { range.end - range.end % unit };
        if start >= end {
            return;
        }
        self.now.mark(start, end - start);
        while let Some(at) = self.before.next_dirty(start).filter(|at| *at < end) {
            self.before.take_run(at, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_units_are_noted_and_stay_so_through_copies_that_are_cut_off() {
        let first = CopyNotes::new(10 * UNIT + 100);
        first.copied(&(UNIT / 2..3 * UNIT));
        first.copied(&(9 * UNIT + 1..10 * UNIT + 100));
        assert_eq!(first.stored(), [0b0000_0110, 0b100]);

        let second = CopyNotes::new(10 * UNIT + 100);
        second.take_over(&first.stored());
        assert_eq!(second.alike(0, 8 * UNIT), (false, UNIT));
        assert_eq!(second.alike(UNIT, 8 * UNIT), (true, 2 * UNIT));
        second.copied(&(0..2 * UNIT));
        assert_eq!(second.stored(), [0b0000_0111, 0b100], "cut off again, nothing is forgotten");
        assert_eq!(second.alike(UNIT, UNIT), (false, UNIT), "what was compared is not compared again");
        assert_eq!(second.noted(), 4 * UNIT);
    }

    #[test]
    fn a_unit_of_a_huge_disk_is_no_longer_than_a_piece() {
        assert_eq!(CopyNotes::new(1 << 40).unit(), UNIT);
        assert_eq!(CopyNotes::new(1 << 50).unit(), STEP);
    }
}
