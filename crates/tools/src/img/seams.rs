//! Clusters of a compressed target that hold the end of one source and the start of the next: what is compressed is
//! compressed whole, so that such a cluster is put together first.

use crate::image::Image;
use block::{Backend, BlockError, CopyError, CopyStep, CopyZeroes, Flags, Request};
use rt::BufMut;
use std::ops::Range;

/// A range without what seams at both of its ends hold: `unit` is the cluster's size, `total` the end of all sources.
pub(super) fn between(range: Range<u64>, unit: u64, total: u64) -> Range<u64> {
    let start = range.start.next_multiple_of(unit).min(range.end);
    let end = if range.end == total { total } else { range.end - range.end % unit };
    start..end.max(start)
}

/// The cluster that the source of this range, and none before it, shares with the next one.
pub(super) fn at_end(range: Range<u64>, unit: u64, total: u64) -> Option<Range<u64>> {
    let start = range.end - range.end % unit;
    let first = range.start <= start && start < range.end;
    (first && range.end < total).then(|| start..start.saturating_add(unit).min(total))
}

/// Copies a cluster that several sources have parts of.
pub(super) async fn copy(
    sources: &[Image],
    target: &Backend,
    seam: Range<u64>,
    zeroes: CopyZeroes,
) -> Result<(), CopyError> {
    let mut whole = BufMut::zeroed((seam.end - seam.start) as usize);
    let mut start = 0;
    for source in sources {
        let end = start + source.backend.length();
        let (from, to) = (seam.start.max(start), seam.end.min(end));
        if from < to {
            let buf = BufMut::with_len((to - from) as usize);
            let (part, result) = source.backend.read(from - start, buf).await;
            result.map_err(|error| CopyError { step: CopyStep::Read, offset: from, error })?;
            let place = (from - seam.start) as usize;
            if let Some(place) = whole.get_mut(place..place + part.len()) {
                place.copy_from_slice(&part);
            }
        }
        start = end;
    }
    let stored = store(target, seam.start, whole, zeroes).await;
    stored.map_err(|error| CopyError { step: CopyStep::Write, offset: seam.start, error })
}

async fn store(target: &Backend, at: u64, whole: BufMut, zeroes: CopyZeroes) -> Result<(), BlockError> {
    let zero = codec::is_zero(&whole);
    match zeroes {
        CopyZeroes::Skip if zero => Ok(()),
        CopyZeroes::Write if zero => {
            target.write_zeroes(at, whole.len() as u64, Request::GUEST.with(Flags::MAY_UNMAP)).await
        }
        _ => target.write(at, whole.freeze(), Request::GUEST.with(Flags::COMPRESSED)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seams_and_what_lies_between_them_are_the_whole() {
        let lengths = [100, 64, 3, 5, 1000, 28, 7];
        let total = lengths.iter().sum();
        let mut parts: Vec<Range<u64>> = Vec::new();
        let mut start = 0;
        for length in lengths {
            let end = start + length;
            parts.push(between(start..end, 64, total));
            parts.extend(at_end(start..end, 64, total));
            start = end;
        }
        parts.retain(|part| !part.is_empty());
        parts.sort_by_key(|part| part.start);
        assert_eq!(parts.first().map(|part| part.start), Some(0));
        assert_eq!(parts.last().map(|part| part.end), Some(total));
        assert!(parts.windows(2).all(|two| two[0].end == two[1].start), "{parts:?}");
    }
}
