//! The dirty bitmaps of an image after a crash: one that is not said to be inconsistent has all changes.

use block::{DirtyBitmap, NamedBitmap, Node};
use std::ops::Range;
use std::sync::Arc;

/// A bitmap that is stored in an image.
pub struct Stored {
    name: String,
    enabled: bool,
    consistent: bool,
    bits: Arc<DirtyBitmap>,
}

/// The bitmaps that are stored in the image of a node.
pub fn stored(node: &Node) -> Vec<Stored> {
    let stored = |bitmap: &Arc<NamedBitmap>| Stored {
        name: bitmap.name().to_owned(),
        enabled: bitmap.is_enabled(),
        consistent: bitmap.is_consistent(),
        bits: bitmap.bits().clone(),
    };
    node.bitmaps().all().iter().filter(|bitmap| bitmap.is_persistent()).map(stored).collect()
}

/// What is wrong with the bitmaps `found` after a crash, and where: `before` are those before the script, and `changed` says
/// where in a range the disk differs from what it was then. Bytes from `end` on, which had no bits all the time, are left out.
pub fn contradiction(
    before: &[Stored],
    found: &[Stored],
    ranges: &[Range<u64>],
    end: u64,
    changed: impl Fn(&Range<u64>) -> bool,
) -> Option<(String, u64)> {
    before.iter().find_map(|before| {
        let told = |what: &str, offset| Some((format!("bitmap '{}' {what}", before.name), offset));
        let Some(found) = found.iter().find(|found| found.name == before.name) else {
            return told("is gone", 0);
        };
        if !found.consistent {
            return None;
        }
        if !before.consistent {
            return told("was inconsistent, and is no longer", 0);
        }
        if found.enabled != before.enabled || found.bits.granularity() != before.bits.granularity() {
            return told("has other properties", 0);
        }
        if let Some(offset) = first_outside(&before.bits, &found.bits, end) {
            return told("has lost a bit", offset);
        }
        if !found.enabled {
            let offset = first_outside(&found.bits, &before.bits, end)?;
            return told("records nothing, and has a new bit", offset);
        }
        let offset = ranges.iter().find_map(|range| {
            let range = range.start..range.end.min(end);
            clean_parts(&found.bits, range).find(|clean| changed(clean)).map(|clean| clean.start)
        });
        told("is not inconsistent, and misses a change", offset?)
    })
}

/// The first byte below `end` that is dirty in `bits` and not in `others` of the same granularity.
fn first_outside(bits: &DirtyBitmap, others: &DirtyBitmap, end: u64) -> Option<u64> {
    let dirty = bits.runs().take_while(|run| run.0 < end);
    dirty.flat_map(|(from, to)| clean_parts(others, from..to.min(end))).map(|clean| clean.start).next()
}

/// The parts of a range, in order, whose bits are clean.
fn clean_parts(bits: &DirtyBitmap, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
    let mut at = range.start;
    std::iter::from_fn(move || {
        while at < range.end.min(bits.length()) {
            let (dirty, to) = bits.run_at(at, range.end);
            let part = at..to.min(range.end);
            at = to;
            if !dirty {
                return Some(part);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 1 << 20;

    fn bitmap(name: &str, dirty: &[u64]) -> Stored {
        let bits = DirtyBitmap::new(END, 4096);
        dirty.iter().for_each(|chunk| bits.mark(chunk * 4096, 4096));
        Stored { name: name.to_owned(), enabled: true, consistent: true, bits: Arc::new(bits) }
    }

    /// What is wrong where bytes 40960..45056 have changed.
    fn wrong(before: &Stored, found: Option<Stored>) -> Option<(String, u64)> {
        let changed = |range: &Range<u64>| range.start < 45056 && range.end > 40960;
        contradiction(
            std::slice::from_ref(before),
            found.as_slice(),
            &[0..8192, 40960..END],
            END - 1024,
            changed,
        )
    }

    #[test]
    fn a_bitmap_has_its_old_bits_and_those_of_all_changes_or_is_inconsistent() {
        let before = bitmap("b", &[3]);
        let says = |found: Stored, text: &str, at: u64| {
            let (what, offset) = wrong(&before, Some(found)).unwrap();
            assert!(what == format!("bitmap 'b' {text}") && offset == at, "{what} {offset}");
        };
        assert_eq!(wrong(&before, Some(bitmap("b", &[3, 10]))), None);
        assert_eq!(wrong(&before, Some(bitmap("b", &[0, 3, 10, 11]))), None);
        says(bitmap("b", &[10]), "has lost a bit", 3 * 4096);
        says(bitmap("b", &[3, 9]), "is not inconsistent, and misses a change", 40960);
        assert!(
            wrong(&before, Some(bitmap("c", &[3, 10]))).is_some_and(|(what, _)| what.contains("is gone"))
        );
        assert!(wrong(&before, None).is_some());
        assert_eq!(wrong(&before, Some(Stored { consistent: false, ..bitmap("b", &[]) })), None);
        says(Stored { enabled: false, ..bitmap("b", &[3, 10]) }, "has other properties", 0);
    }

    #[test]
    fn a_bitmap_that_records_nothing_stays_as_it_is() {
        let disabled = |dirty: &[u64]| Stored { enabled: false, ..bitmap("b", dirty) };
        assert_eq!(wrong(&disabled(&[3]), Some(disabled(&[3]))), None);
        assert!(wrong(&disabled(&[3]), Some(disabled(&[3, 10]))).is_some());
        let inconsistent = Stored { consistent: false, ..bitmap("b", &[]) };
        assert!(wrong(&inconsistent, Some(bitmap("b", &[10]))).is_some());
    }
}
