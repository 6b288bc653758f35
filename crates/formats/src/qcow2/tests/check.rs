//! Check and repair, against QEMU's own check over images with every wrong kind of entry.
use super::*;
use crate::field::be64;
use crate::qcow2::header::{BITMAPS, COMPRESSED, COPIED, OFFSET_MASK, ZERO};
use block::{CheckReport, Repair};

/// Checks the image at `path`.
pub(super) fn check(path: &Path, repair: Repair) -> block::Result<CheckReport> {
    rt::block_on_control(async {
        let opened = Opened::new(path).await;
        let result = match Header::read(&opened.file).await {
            Ok(mut header) => crate::qcow2::check::check(&opened.file, &mut header, repair).await,
            Err(e) => Err(e),
        };
        opened.close().await;
        result
    })
}

/// The exit code that a report means.
fn code(result: &block::Result<CheckReport>) -> i32 {
    match result {
        Err(_) => 1,
        Ok(report) if report.check_errors > 0 => 1,
        Ok(report) if report.corruptions > 0 => 2,
        Ok(report) if report.leaks > 0 => 3,
        Ok(_) => 0,
    }
}

/// The numbers of a report by the names of its JSON form.
fn numbers(report: &CheckReport) -> [(&'static str, u64); 8] {
    [
        ("image-end-offset", report.image_end_offset.unwrap_or(0)),
        ("corruptions", report.corruptions),
        ("leaks", report.leaks),
        ("check-errors", report.check_errors),
        ("total-clusters", report.total_clusters.unwrap_or(0)),
        ("allocated-clusters", report.allocated_clusters.unwrap_or(0)),
        ("fragmented-clusters", report.fragmented_clusters.unwrap_or(0)),
        ("compressed-clusters", report.compressed_clusters.unwrap_or(0)),
    ]
}

/// An image with data, zeroes, compressed clusters, a snapshot and a bitmap, made by the peer.
pub(super) fn sample(scratch: &Scratch, options: &str, snapshot: bool, bitmap: bool) -> Option<Vec<u8>> {
    let path = scratch.path("sample");
    let compressed = scratch.path("compressed");
    let (name, small) = (path.to_str()?, compressed.to_str()?);
    let tool = |program: &str, args: &[&str]| match peer(program, args) {
        Some((0, _)) => Some(()),
        Some((code, text)) => panic!("{program} {args:?} ends with {code}: {text}"),
        None => None,
    };
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, small, "4M"])?;
    tool(
        "qemu-io",
        &[
            "-c",
            "write -q -P 17 0 300k",
            "-c",
            "write -q -P 18 1M 200k",
            "-c",
            "write -q -P 19 3M 70k",
            small,
        ],
    )?;
    tool("qemu-img", &["convert", "-c", "-O", "qcow2", "-o", options, small, name])?;
    tool(
        "qemu-io",
        &["-c", "write -q -P 20 200k 300k", "-c", "write -q -z 1M 64k", "-c", "write -q -P 3 2M 192k", name],
    )?;
    if snapshot {
        tool("qemu-img", &["snapshot", "-c", "one", name])?;
        tool("qemu-io", &["-c", "write -q -P 21 2M 100k", "-c", "write -q -z -u 3M 64k", name])?;
    }
    if bitmap {
        tool("qemu-img", &["bitmap", "--add", "--enable", "-g", "64k", name, "b"])?;
        tool("qemu-io", &["-c", "write -q -P 22 0 64k", name])?;
    }
    Some(std::fs::read(&path).unwrap())
}

/// Offsets of all table entries of an image: L1, L2, refcount table, refcount blocks, snapshot table, bitmaps.
fn entries(image: &[u8]) -> Vec<u64> {
    let header = Header::parse(image, image.len() as u64).unwrap();
    let word = |at: u64| be64(image, at as usize).unwrap_or(0);
    let mut found = Vec::new();
    let mut some =
        |at: u64, count: u64, step: u64| found.extend((0..count).step_by(step as usize).map(|i| at + i * 8));
    some(header.l1_offset, u64::from(header.l1_entries), 1);
    for l1 in 0..u64::from(header.l1_entries) {
        let table = word(header.l1_offset + l1 * 8) & OFFSET_MASK;
        if table != 0 {
            some(table, header.l2_entries().min(64), 1);
        }
    }
    some(header.refcount_table_offset, 3, 1);
    some(word(header.refcount_table_offset), 8, 1);
    if header.snapshot_count > 0 {
        some(header.snapshots_offset, 10, 1);
    }
    if let Some(bitmaps) = header.bitmaps() {
        some(bitmaps.directory_offset, 4, 1);
        some(word(bitmaps.directory_offset), 2, 1);
    }
    found
}

/// What a table entry can wrongly be.
fn wrong_values(old: u64, image_len: u64, neighbour: u64) -> [u64; 10] {
    [
        0,
        COPIED,
        ZERO,
        old ^ COPIED,
        old | 1 << 60,
        old.wrapping_add(512),
        (image_len + (1 << 30)) & OFFSET_MASK | COPIED,
        neighbour,
        old ^ COMPRESSED,
        u64::MAX,
    ]
}

pub(super) fn with(image: &[u8], at: u64, value: u64) -> Vec<u8> {
    let mut changed = image.to_vec();
    if let Some(bytes) = changed.get_mut(at as usize..at as usize + 8) {
        bytes.copy_from_slice(&value.to_be_bytes());
    }
    changed
}

#[test]
fn numbers_and_verdicts_are_the_peers_on_good_images() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    for options in ["cluster_size=512", "cluster_size=4k,refcount_bits=64", "cluster_size=64k", "compat=0.10"]
    {
        for rich in [false, true] {
            let Some(image) = sample(&scratch, options, rich, rich && options != "compat=0.10") else {
                return;
            };
            std::fs::write(&path, &image).unwrap();
            let report = check(&path, Repair::No).unwrap();
            let (their_code, json) =
                peer("qemu-img", &["check", "--output=json", path.to_str().unwrap()]).unwrap();
            assert_eq!(their_code, 0, "{json}");
            for (name, number) in numbers(&report) {
                assert_eq!(
                    number,
                    member(&json, name),
                    "{options} {rich}: {name}: {:?} {json}",
                    report.messages
                );
            }
        }
    }
}

/// Every wrong kind of value in every so-manieth entry: what was changed, the image, whether it was an L1 entry.
fn mutants(image: &[u8], step: usize, kinds: usize) -> Vec<(String, Vec<u8>, bool)> {
    let header = Header::parse(image, image.len() as u64).unwrap();
    let l1 = header.l1_offset..header.l1_offset + header.l1_bytes();
    let all = entries(image);
    let mut found = Vec::new();
    for (i, &at) in all.iter().enumerate().step_by(step) {
        let old = be64(image, at as usize).unwrap();
        let neighbour = be64(image, all[(i + 1) % all.len()] as usize).unwrap();
        let values = wrong_values(old, image.len() as u64, neighbour);
        for value in (0..kinds).map(|kind| values[(i + kind * 3) % values.len()]) {
            found.push((
                format!("{at:#x}: {old:#x} -> {value:#x}"),
                with(image, at, value),
                l1.contains(&at),
            ));
        }
    }
    found
}

#[test]
fn every_wrong_kind_of_entry_gets_the_peers_verdict() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    for options in ["cluster_size=4k", "cluster_size=64k"] {
        let Some(image) = sample(&scratch, options, true, true) else { return };
        for (what, mutant, l1) in mutants(&image, 29, 3) {
            std::fs::write(&path, &mutant).unwrap();
            let result = check(&path, Repair::No);
            let (theirs, json) =
                peer("qemu-img", &["check", "--output=json", path.to_str().unwrap()]).unwrap();
            // Where the peer gives up, ours tells corruptions; it must not find the image good.
            let same = if theirs == 0 || theirs > 1 { code(&result) == theirs } else { code(&result) != 0 };
            assert!(same, "{options} {what}: {result:?} {json}");
            // What a broken L1 entry may lead to is not followed by ours: garbage makes no better numbers.
            if let (Ok(report), false, true) = (&result, l1, theirs != 1) {
                for (name, number) in numbers(report) {
                    assert_eq!(
                        number,
                        member(&json, name),
                        "{options} {what}: {name}: {:?}",
                        report.messages
                    );
                }
            }
        }
    }
}

#[test]
fn what_repair_calls_mended_is_good_for_the_peer_and_reads_as_before() {
    let scratch = Scratch::new();
    let (ours, theirs) = (scratch.path("ours"), scratch.path("theirs"));
    let (before, after) = (scratch.path("before"), scratch.path("after"));
    let [ours_name, theirs_name, before_name, after_name] =
        [&ours, &theirs, &before, &after].map(|p| p.to_str().unwrap());
    for options in
        ["cluster_size=4k", "cluster_size=64k,refcount_bits=8", "cluster_size=512,refcount_bits=64"]
    {
        // Not with both a snapshot and a bitmap: there the peer's own repair (10.0) forgets all snapshots.
        let Some(image) = sample(&scratch, options, true, false) else { return };
        for (what, mutant, _) in mutants(&image, 71, 2) {
            std::fs::write(&ours, &mutant).unwrap();
            std::fs::write(&theirs, &mutant).unwrap();
            let readable =
                peer("qemu-img", &["convert", "-U", "-O", "raw", ours_name, before_name]).unwrap().0 == 0;
            let result = check(&ours, Repair::All);
            let verdict = code(&check(&ours, Repair::No));
            assert_eq!(
                verdict,
                peer("qemu-img", &["check", ours_name]).unwrap().0,
                "{options} {what}: {result:?}"
            );
            let (best, text) = peer("qemu-img", &["check", "-r", "all", theirs_name]).unwrap();
            assert!(verdict == 0 || best != 0, "{options} {what}: {result:?} {text}");
            if readable {
                assert_eq!(peer("qemu-img", &["convert", "-O", "raw", ours_name, after_name]).unwrap().0, 0);
                assert!(
                    std::fs::read(&before).unwrap() == std::fs::read(&after).unwrap(),
                    "{options} {what}"
                );
            }
        }
    }
}

#[test]
fn repair_of_leaks_leaves_everything_else_alone() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 1 << 20, &[("cluster_size", "4096")]).unwrap();
    let good = std::fs::read(&path).unwrap();
    let header = header(&path).unwrap();
    let block = be64(&good, header.refcount_table_offset as usize).unwrap();
    // Clusters 1 and 2 count too much and too little; cluster 3 is the L1 table.
    std::fs::write(&path, with(&good, block, 0x0001_0005_0001_0001)).unwrap();
    let report = check(&path, Repair::Leaks).unwrap();
    assert_eq!((report.leaks, report.leaks_fixed, report.corruptions), (0, 1, 0), "{report:?}");
    assert!(std::fs::read(&path).unwrap() == good);
    std::fs::write(&path, with(&good, block, 0x0001_0005_0000_0001)).unwrap();
    // As the peer: while a cluster in use is not counted at all, nothing is given up.
    check(&path, Repair::Leaks).unwrap_err();
    assert!(std::fs::read(&path).unwrap() == with(&good, block, 0x0001_0005_0000_0001));
    let report = check(&path, Repair::All).unwrap();
    assert_eq!((report.corruptions, report.corruptions_fixed, report.leaks_fixed), (0, 1, 1), "{report:?}");
    assert_eq!(code(&check(&path, Repair::No)), 0);
}

#[test]
fn a_repair_never_writes_to_what_is_a_table_and_something_else_at_once() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let Some(good) = sample(&scratch, "cluster_size=4k", true, false) else { return };
    let header = Header::parse(&good, good.len() as u64).unwrap();
    let word = |at: u64| be64(&good, at as usize).unwrap();
    let block = word(header.refcount_table_offset);
    let data = word(word(header.l1_offset) & OFFSET_MASK) & OFFSET_MASK;
    // Flags without a table in the snapshot's L1 table, which is the header; in the active one, which is data too.
    let snapshot_at_header = with(&good, header.snapshots_offset, 0);
    let l1_in_data = with(
        &with(&good, word(header.l1_offset) & OFFSET_MASK, header.l1_offset),
        header.l1_offset + 8,
        COPIED,
    );
    // The refcount block, and a data cluster, as L2 tables.
    let block_as_table = with(&good, header.l1_offset + 8, block | COPIED);
    let data_as_table = with(&good, header.l1_offset + 8, data | COPIED);
    for (image, at) in [
        (snapshot_at_header, 0),
        (l1_in_data, header.l1_offset),
        (block_as_table, block),
        (data_as_table, data),
    ] {
        std::fs::write(&path, &image).unwrap();
        let report = check(&path, Repair::All).unwrap();
        let after = std::fs::read(&path).unwrap();
        // The header's own fields for its tables and feature bits may change.
        let (from, to) = if at == 0 { (0, 48) } else { (at as usize, at as usize + 4096) };
        let counts = at == block;
        assert!(counts || after[from..to] == image[from..to], "{at:#x}: {report:?}");
        assert!(Header::parse(&after, after.len() as u64).is_ok(), "{at:#x}: {report:?}");
    }
}

#[test]
fn references_that_only_lost_refcount_blocks_were_too_many_for_are_held_after_a_rebuild() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let Some(good) = sample(&scratch, "cluster_size=512,refcount_bits=1", false, false) else { return };
    let header = Header::parse(&good, good.len() as u64).unwrap();
    // What was written over compressed data.
    let l2 = be64(&good, header.l1_offset as usize + 7 * 8).unwrap() & OFFSET_MASK;
    let data = (0..64)
        .filter_map(|i| be64(&good, (l2 + i * 8) as usize))
        .find(|w| w & COMPRESSED == 0 && w & OFFSET_MASK != 0);
    let Some(data) = data else { panic!("the sample has no data") };
    // The first refcount block is where data is.
    std::fs::write(&path, with(&good, header.refcount_table_offset, data & OFFSET_MASK)).unwrap();
    let report = check(&path, Repair::All).unwrap();
    assert_eq!((report.corruptions, report.leaks, report.check_errors), (0, 0, 0), "{report:?}");
    assert_eq!(code(&check(&path, Repair::No)), 0);
}

#[test]
fn lost_refcounts_are_rebuilt_wherever_the_table_was() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    for options in
        ["cluster_size=512", "cluster_size=512,refcount_bits=64", "cluster_size=2M,refcount_bits=1"]
    {
        let Some(image) = sample(&scratch, options, false, false) else { return };
        let header = Header::parse(&image, image.len() as u64).unwrap();
        // The table's offset unaligned, beyond the end, at the header; no table at all; a table of zeroes.
        let broken = [
            with(&image, 48, header.refcount_table_offset + 8),
            with(&image, 48, 1 << 50),
            with(&image, 48, 0),
            with(&image, 56, 0),
            with(&image, header.refcount_table_offset, 0),
        ];
        for (i, image) in broken.iter().enumerate() {
            std::fs::write(&path, image).unwrap();
            let report = check(&path, Repair::All).unwrap();
            assert_eq!(
                (report.corruptions, report.leaks, report.check_errors),
                (0, 0, 0),
                "{options} {i} {report:?}"
            );
            assert!(report.corruptions_fixed > 0);
            assert_eq!(code(&check(&path, Repair::No)), 0);
            let Some((code, text)) = peer("qemu-img", &["check", path.to_str().unwrap()]) else { return };
            assert_eq!(code, 0, "{options} {i}: {text}");
        }
    }
}

#[test]
fn a_repaired_image_is_clean_and_writable_again() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 1 << 20, &[]).unwrap();
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, with(&good, 72, 3)).unwrap();
    assert!(header(&path).unwrap().is_dirty() && header(&path).unwrap().is_corrupt());
    check(&path, Repair::All).unwrap();
    assert!(std::fs::read(&path).unwrap() == good);
}

#[test]
fn eight_thousand_entries_on_one_table_are_read_as_one() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 8192 << 29, &[]).unwrap();
    let mut image = std::fs::read(&path).unwrap();
    let header = header(&path).unwrap();
    image.resize(8 << 16, 0);
    let table = 6u64 << 16;
    for entry in 0..8192 {
        image = with_in_place(image, header.l1_offset + entry * 8, table);
    }
    for entry in 0..8192 {
        image = with_in_place(image, table + entry * 8, 7 << 16);
    }
    std::fs::write(&path, &image).unwrap();
    let start = std::time::Instant::now();
    let report = check(&path, Repair::No).unwrap();
    assert_eq!(report.allocated_clusters, Some(8192 * 8192));
    // 67 million references to one cluster are more than 16 bits hold.
    assert!(report.corruptions >= 8192 * 8192 - 65535);
    assert!(start.elapsed() < std::time::Duration::from_secs(120));
}

fn with_in_place(mut image: Vec<u8>, at: u64, value: u64) -> Vec<u8> {
    image[at as usize..at as usize + 8].copy_from_slice(&value.to_be_bytes());
    image
}

#[test]
fn a_bitmaps_extension_that_does_not_hold_is_refused_not_taken_for_leaks() {
    let scratch = Scratch::new();
    let path = scratch.path("bitmap");
    create(&path, 1 << 20, &[]).unwrap();
    let name = path.to_str().unwrap();
    let Some((0, _)) = peer("qemu-img", &["bitmap", "--add", name, "b"]) else { return };
    let extension = header(&path).unwrap().extension(BITMAPS).unwrap().offset as usize;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[extension + 7] = 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = header(&path).unwrap_err();
    assert!(error.message().contains("bitmaps extension"), "{error}");
    assert_ne!(peer("qemu-img", &["check", name]).unwrap().0, 0, "the peer refuses it too");
}

#[test]
fn repair_of_images_that_were_cut_off_is_done_at_once() {
    let scratch = Scratch::new();
    let Some(whole) = sample(&scratch, "cluster_size=4k", false, false) else { return };
    let path = scratch.path("cut");
    for clusters in (8..whole.len() / 4096).step_by(5) {
        std::fs::write(&path, &whole[..clusters * 4096]).unwrap();
        let Ok(first) = check(&path, Repair::All) else { continue };
        let once = std::fs::read(&path).unwrap();
        let (second, looked) = (check(&path, Repair::All).unwrap(), check(&path, Repair::No).unwrap());
        assert_eq!(
            (second.corruptions_fixed, second.leaks_fixed),
            (0, 0),
            "{clusters}: {:?}",
            second.messages
        );
        assert_eq!(second.corruptions, first.corruptions, "{clusters}: {:?}", second.messages);
        assert_eq!(
            (looked.corruptions, looked.leaks),
            (first.corruptions, 0),
            "{clusters}: {:?}",
            looked.messages
        );
        assert!(once == std::fs::read(&path).unwrap(), "{clusters}: the second repair wrote");
    }
}

#[test]
fn new_refcount_structures_never_lie_where_an_entry_leads_to() {
    let scratch = Scratch::new();
    let path = scratch.path("a");
    create(&path, 4 << 20, &[]).unwrap();
    let mut image = std::fs::read(&path).unwrap();
    let header = header(&path).unwrap();
    image.resize(image.len().next_multiple_of(0x1_0000), 0);
    let end = image.len() as u64;
    // One table with entries one and two clusters beyond the end, and no refcounts.
    let l1 = header.l1_offset as usize;
    image[l1..l1 + 8].copy_from_slice(&(end | COPIED).to_be_bytes());
    let mut table = vec![0; 0x1_0000];
    for (slot, beyond) in [(0, 1), (1, 2)] {
        table[slot * 8..slot * 8 + 8].copy_from_slice(&((end + (beyond << 16)) | COPIED).to_be_bytes());
    }
    image.extend(table);
    image[header.refcount_table_offset as usize..][..8].fill(0);
    std::fs::write(&path, &image).unwrap();
    let report = check(&path, Repair::All).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
    let mended = crate::qcow2::tests::header(&path).unwrap();
    assert!(mended.refcount_table_offset >= end + (3 << 16), "{:#x}", mended.refcount_table_offset);
    assert_eq!(code(&check(&path, Repair::No)), 0);
    if let Some((code, text)) = peer("qemu-img", &["check", path.to_str().unwrap()]) {
        assert_eq!(code, 0, "{text}");
    }
}
