//! The parts of a cluster where L2 entries are extended: 32 subclusters, each with its own answer to where its bytes are.
//!
//! ```text
//!  bit 63 ─────── reads as zeroes ─────── 32 │ 31 ─────── in the host cluster ─────── 0
//!      subcluster 31 … 0                     │     subcluster 31 … 0
//! ```
//! Specification: qcow2.rst, "Extended L2 Entries".
use std::ops::Range;

/// Subclusters of a cluster.
pub(super) const COUNT: u32 = 32;

/// Where the bytes of a subcluster are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Not in this image.
    Hole,
    /// Nowhere: they are zeroes.
    Zero,
    /// In the host cluster.
    Data,
}

/// The bitmap of an extended L2 entry. No subcluster has both bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subclusters(u64);

impl Subclusters {
    /// All are holes.
    pub const HOLE: Self = Self(0);
    /// All read as zeroes.
    pub const ZERO: Self = Self(!0 << COUNT);
    /// All are data.
    pub const DATA: Self = Self(!0 >> COUNT);

    /// The bitmap as it is stored; `None` if a subcluster has both bits.
    pub fn new(bitmap: u64) -> Option<Self> {
        (bitmap & (bitmap >> COUNT) == 0).then_some(Self(bitmap))
    }

    /// As it is stored.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The subclusters that are data, a bit each.
    fn data(self) -> u32 {
        self.0 as u32
    }

    /// Those that read as zeroes.
    fn zero(self) -> u32 {
        (self.0 >> COUNT) as u32
    }

    /// What a subcluster is.
    pub fn part(self, index: u32) -> Part {
        if self.data() >> index & 1 == 1 {
            Part::Data
        } else if self.zero() >> index & 1 == 1 {
            Part::Zero
        } else {
            Part::Hole
        }
    }

    /// How many subclusters from this one on are the same thing.
    pub fn run(self, index: u32) -> u32 {
        let same = match self.part(index) {
            Part::Data => self.data(),
            Part::Zero => self.zero(),
            Part::Hole => !(self.data() | self.zero()),
        };
        (same >> index).trailing_ones().min(COUNT - index)
    }

    /// The subclusters from the first to the last that are data; empty if none is.
    pub fn data_range(self) -> Range<u32> {
        match self.data() {
            0 => 0..0,
            data => data.trailing_zeros()..COUNT - data.leading_zeros(),
        }
    }

    /// The same with some subclusters as data.
    pub fn with_data(self, which: Range<u32>) -> Self {
        let bits = ones(which);
        Self((self.0 | bits) & !(bits << COUNT))
    }

    /// The same with some subclusters as zeroes.
    pub fn with_zero(self, which: Range<u32>) -> Self {
        let bits = ones(which);
        Self((self.0 | bits << COUNT) & !bits)
    }
}

fn ones(which: Range<u32>) -> u64 {
    let upto = |end: u32| (1u64 << end.min(COUNT)) - 1;
    upto(which.end) & !upto(which.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_subcluster_can_not_be_two_things() {
        assert_eq!(Subclusters::new(1 | 1 << 32), None);
        assert_eq!(Subclusters::new(1 | 1 << 33).map(|s| s.part(1)), Some(Part::Zero));
        assert_eq!(Subclusters::new(Subclusters::ZERO.bits()), Some(Subclusters::ZERO));
    }

    proptest! {
        #[test]
        fn runs_ranges_and_changes_agree_with_a_look_at_each(data: u32, zero: u32, a in 0..=COUNT, b in 0..=COUNT) {
            let parts = Subclusters::new(u64::from(data) | u64::from(zero & !data) << COUNT).unwrap();
            for index in 0..COUNT {
                let run = (index..COUNT).take_while(|i| parts.part(*i) == parts.part(index)).count();
                prop_assert_eq!(parts.run(index), run as u32);
            }
            let is_data = |i: &u32| parts.part(*i) == Part::Data;
            let first = (0..COUNT).find(is_data).unwrap_or(0);
            let end = (0..COUNT).rev().find(is_data).map_or(0, |last| last + 1);
            prop_assert_eq!(parts.data_range(), first..end);
            let which = a.min(b)..a.max(b);
            for index in 0..COUNT {
                let then = |part| if which.contains(&index) { part } else { parts.part(index) };
                prop_assert_eq!(parts.with_data(which.clone()).part(index), then(Part::Data));
                prop_assert_eq!(parts.with_zero(which.clone()).part(index), then(Part::Zero));
            }
        }
    }
}
