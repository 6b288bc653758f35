//! Limits of requests, as a device has them: what requests are aligned to, and how long one is at most.
use api::BlkdebugOptions;
use block::{BlockError, RequestLimits, Result};
use std::ops::Range;

/// The largest alignment, and the longest request.
const LARGEST: u64 = i32::MAX as u64;

/// In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A power of two.
    pub align: u64,
    /// Of a read or a write.
    pub transfer: u64,
    /// Quick zeroes: what they are aligned to, and the most at once.
    pub zero: (u64, u64),
    /// Discards: what they are aligned to, and the most at once.
    pub discard: (u64, u64),
}

impl Limits {
    /// What the options say; other values than a device could have are refused.
    pub fn new(options: &BlkdebugOptions) -> Result<Self> {
        let refused = |name: &str, value: i64| {
            BlockError::invalid(format!("Cannot meet constraints with {name} {value}"))
        };
        let align = match options.align.unwrap_or(1) {
            0 => 1,
            align => u64::try_from(align)
                .ok()
                .filter(|align| align.is_power_of_two() && *align < LARGEST)
                .ok_or_else(|| refused("align", align))?,
        };
        // Multiples of the alignment, or none.
        let multiple = |name, of: u64, value: Option<i32>| match value.unwrap_or(0) {
            0 => Ok(0),
            value => match u64::try_from(value) {
                Ok(bytes) if bytes.is_multiple_of(of.max(1)) => Ok(bytes),
                _ => Err(refused(name, i64::from(value))),
            },
        };
        let or_longest = |bytes| if bytes == 0 { LARGEST / align * align } else { bytes };
        let transfer = multiple("max-transfer", align, options.max_transfer)?;
        let opt_zero = multiple("opt-write-zero", align, options.opt_write_zero)?;
        let max_zero = multiple("max-write-zero", opt_zero.max(align), options.max_write_zero)?;
        let opt_discard = multiple("opt-discard", align, options.opt_discard)?;
        let max_discard = multiple("max-discard", opt_discard.max(align), options.max_discard)?;
        Ok(Self {
            align,
            transfer: or_longest(transfer),
            zero: (opt_zero.max(align), or_longest(max_zero)),
            discard: (opt_discard.max(align), or_longest(max_discard)),
        })
    }
}

impl From<Limits> for RequestLimits {
    fn from(limits: Limits) -> Self {
        let longer = |(align, most): (u64, u64)| {
            ((align > limits.align).then_some(align), (most < LARGEST / align * align).then_some(most))
        };
        let (zeroes_alignment, longest_zeroes) = longer(limits.zero);
        let (discard_alignment, longest_discard) = longer(limits.discard);
        Self {
            zeroes_alignment,
            longest_zeroes,
            discard_alignment,
            longest_discard,
            longest: longer((limits.align, limits.transfer)).1,
            ..Self::default()
        }
    }
}

/// The pieces of a range: what lies before the first multiple of `align`, then whole ones, at most `most` bytes each, then
/// what is left.
pub fn pieces(range: Range<u64>, align: u64, most: u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    let end = range.end;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let past = at % align;
        let whole = (end - at) / align * align;
        let len = match (past, whole) {
            (1.., _) => align - past,
            (0, 0) => end - at,
            (0, whole) => whole.min((most / align * align).max(align)),
        };
        let piece = at..at.saturating_add(len).min(end);
        at = piece.end;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_parted_at_its_alignment_and_length() {
        let parts =
            |range, align, most| pieces(range, align, most).map(|p| (p.start, p.end)).collect::<Vec<_>>();
        assert_eq!(parts(3..40, 10, 20), [(3, 10), (10, 30), (30, 40)]);
        assert_eq!(parts(10..45, 10, 100), [(10, 40), (40, 45)]);
        assert_eq!(parts(1..4, 10, 100), [(1, 4)]);
        assert_eq!(parts(0..30, 15, 15), [(0, 15), (15, 30)]);
        assert_eq!(parts(5..5, 10, 10), []);
    }

    #[test]
    fn limits_that_no_device_has_are_refused() {
        let with = |align, transfer, zero, discard| {
            Limits::new(&BlkdebugOptions {
                align,
                max_transfer: transfer,
                opt_write_zero: zero,
                max_discard: discard,
                ..BlkdebugOptions::default()
            })
        };
        assert!(with(Some(4096), Some(65536), Some(1 << 20), Some(15 << 20)).is_ok());
        for wrong in [
            with(Some(1000), None, None, None),
            with(Some(-4096), None, None, None),
            with(Some(4096), Some(512), None, None),
            with(Some(4096), None, Some(-1), None),
            with(Some(4096), None, None, Some(1000)),
        ] {
            assert!(wrong.unwrap_err().to_string().contains("Cannot meet constraints with"));
        }
    }
}
