//! Repair where an entry is nearly right, and where not everything can be known.
use super::check::{check, sample, with};
use super::*;
use crate::field::be64;
use crate::qcow2::header::{COPIED, OFFSET_MASK};
use block::{CheckReport, Repair};

/// What is wrong: corruptions, leaks, errors.
fn wrong(report: &CheckReport) -> (u64, u64, u64) {
    (report.corruptions, report.leaks, report.check_errors)
}

/// An image with a table that no snapshot shares: its bytes, file offset of the table's L1 entry, and of the table.
fn image(scratch: &Scratch) -> Option<(Vec<u8>, u64, u64)> {
    let image = sample(scratch, "cluster_size=4k", true, false)?;
    let header = Header::parse(&image, image.len() as u64).unwrap();
    let at = header.l1_offset + 8;
    let l2 = be64(&image, at as usize).unwrap() & OFFSET_MASK;
    Some((image, at, l2))
}

#[test]
fn reserved_bits_go_where_the_rest_of_the_entry_is_right_beyond_doubt() {
    let scratch = Scratch::new();
    let Some((good, l1, l2)) = image(&scratch) else { return };
    let path = scratch.path("image");
    let raw = scratch.path("raw");
    let word = |at: u64| be64(&good, at as usize).unwrap();
    // An entry of data that only this image has.
    let own = (0..512).map(|i| l2 + i * 8).find(|at| word(*at) & COPIED != 0).unwrap();
    let content = |image: &[u8]| {
        std::fs::write(&path, image).unwrap();
        let args = ["convert", "-O", "raw", path.to_str().unwrap(), raw.to_str().unwrap()];
        (peer("qemu-img", &args).unwrap().0 == 0).then(|| std::fs::read(&raw).unwrap())
    };
    let expected = content(&good);
    for (at, bits) in [(own, 1 << 60), (own, (1 << 56) | (1 << 3)), (l1, 1 << 58)] {
        std::fs::write(&path, with(&good, at, word(at) | bits)).unwrap();
        let report = check(&path, Repair::All).unwrap();
        assert_eq!(wrong(&report), (0, 0, 0), "{at:#x}: {:?}", report.messages);
        let mended = std::fs::read(&path).unwrap();
        assert!(mended == good, "{at:#x}: nothing but the entry changes");
        assert_eq!(content(&mended), expected);
    }
}

#[test]
fn reserved_bits_stay_where_it_may_be_the_offset_that_is_wrong() {
    let scratch = Scratch::new();
    let Some((good, _, l2)) = image(&scratch) else { return };
    let path = scratch.path("image");
    let word = |at: u64| be64(&good, at as usize).unwrap();
    let own: Vec<u64> = (0..512).map(|i| l2 + i * 8).filter(|at| word(*at) & COPIED != 0).collect();
    let [one, other, ..] = own[..] else { panic!("too little data") };
    // Another entry's cluster; no cluster; a place beyond the end.
    for offset in [word(other) & OFFSET_MASK, 512, (good.len() as u64).next_multiple_of(4096) + (1 << 20)] {
        let bad = offset | COPIED | (1 << 60);
        std::fs::write(&path, with(&good, one, bad)).unwrap();
        let report = check(&path, Repair::All).unwrap();
        assert!(report.corruptions > 0, "{offset:#x}: {:?}", report.messages);
        let after = be64(&std::fs::read(&path).unwrap(), one as usize).unwrap();
        assert_eq!(after & !COPIED, bad & !COPIED, "{offset:#x}");
    }
}

#[test]
fn refcounts_are_rebuilt_also_where_an_entry_can_not_be_followed_and_nothing_is_given_up() {
    let scratch = Scratch::new();
    let Some((good, l1, l2)) = image(&scratch) else { return };
    let path = scratch.path("image");
    let header = Header::parse(&good, good.len() as u64).unwrap();
    // Nobody knows where the table is; and the refcount blocks are lost.
    let blind = with(&good, l1, (l2 + 512) | COPIED);
    for broken in [
        with(&blind, header.refcount_table_offset, 0),
        with(&blind, header.refcount_table_offset, 0x7777_7777),
        with(&blind, 48, 0),
        // No cluster of a table, and the snapshot.
        with(&blind, 56, 1),
    ] {
        std::fs::write(&path, &broken).unwrap();
        let report = check(&path, Repair::All).unwrap();
        assert_eq!((report.corruptions, report.check_errors), (1, 0), "{:?}", report.messages);
        assert!(report.leaks > 0, "what that table led to is kept: {:?}", report.messages);
        let looked = check(&path, Repair::No).unwrap();
        assert_eq!(wrong(&looked), wrong(&report), "{:?}", looked.messages);
        let again = check(&path, Repair::All).unwrap();
        assert_eq!((again.corruptions_fixed, again.leaks_fixed), (0, 0), "{:?}", again.messages);
        // When the entry is known again, nothing that it leads to is lost.
        let after = std::fs::read(&path).unwrap();
        assert!(after[l2 as usize..][..4096] == good[l2 as usize..][..4096]);
        std::fs::write(&path, with(&after, l1, be64(&good, l1 as usize).unwrap())).unwrap();
        let last = check(&path, Repair::All).unwrap();
        assert_eq!(wrong(&last), (0, 0, 0), "{:?}", last.messages);
    }
}
