//! Damaged and hostile VHDX images: each is refused, or mended, with words that say what and where. And what of an image over a
//! parent is shown.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{BlockError, CheckReport, Common, ErrorKind, Policy, Repair};
use sim::{Config, Disk, Sim};
use testkit::stack::{Stack, TestImage};
use testkit::vhdx::{put_parent, seal};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const HEADERS: [usize; 2] = [64 * KIB, 128 * KIB];
const REGIONS: [usize; 2] = [192 * KIB, 256 * KIB];
const LOG: usize = MIB;
const BAT: usize = 2 * MIB;
const METADATA: usize = 3 * MIB;
const ITEMS: usize = METADATA + 64 * KIB;

fn stack() -> Stack {
    let image = TestImage::new("vhdx", "/top", 5 * MIB as u64).with("block_size", "1M");
    Stack::of("vhdx", &[protocols::DRIVERS, formats::DRIVERS], vec![image])
}

/// An image whose blocks 1 and 3 are full of their numbers; not closed, where `dirty`.
fn image(dirty: bool) -> Vec<u8> {
    let sim = Sim::boot(Config::seeded(1), Disk::default());
    sim.run(async move {
        stack().create().await.unwrap();
        let session = stack().open().await.unwrap();
        for block in [1, 3] {
            session.write(block * MIB as u64, &vec![block as u8; MIB], false).await.unwrap();
        }
        session.backend.flush().await.unwrap();
        if !dirty {
            session.close().await.unwrap();
        }
    });
    sim.world().disk().content("/top").unwrap().to_vec()
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

/// The image with a change in both tables of regions, whose checksums are right.
fn with_regions(at: usize, what: &[u8]) -> Vec<u8> {
    let mut bytes = image(false);
    for start in REGIONS {
        put(&mut bytes, start + at, what);
        seal(&mut bytes[start..start + 64 * KIB]);
    }
    bytes
}

fn with(at: usize, what: &[u8]) -> Vec<u8> {
    let mut bytes = image(false);
    put(&mut bytes, at, what);
    bytes
}

fn entry(block: usize, entry: u64) -> Vec<u8> {
    with(BAT + 8 * block, &entry.to_le_bytes())
}

fn disk(bytes: &[u8]) -> Disk {
    let mut disk = Disk::default();
    disk.put("/top", bytes);
    disk
}

/// What an image shows.
fn shown(disk: &Disk, writable: bool) -> Result<Vec<u8>, BlockError> {
    Sim::boot(Config::seeded(1), disk.clone()).run(async move {
        let session = if writable { stack().open().await? } else { stack().open_read_only().await? };
        let read = session.read(0, session.backend.length()).await;
        session.close().await?;
        read
    })
}

/// What a check finds, and the disk that it leaves.
fn checked(bytes: &[u8], repair: Repair) -> (CheckReport, Disk) {
    let sim = Sim::boot(Config::seeded(1), disk(bytes));
    let report = sim.run(async move {
        let graph = stack().graph();
        let for_repair = repair != Repair::No;
        let common = Common { read_only: !for_repair, for_repair, ..Common::default() };
        let node = graph.open_with(stack().top, common, Policy::ALONE).await.unwrap();
        let report = node.driver().checker().unwrap().check(repair).await.unwrap();
        graph.release(&node).await.unwrap();
        report
    });
    (report, sim.world().disk())
}

#[test]
fn what_can_be_no_image_is_refused_with_its_place() {
    let mut no_header = image(false);
    HEADERS.iter().for_each(|at| no_header[at + 100] = 1);
    let mut no_regions = image(false);
    REGIONS.iter().for_each(|at| no_regions[at + 100] = 1);
    let mut version = image(false);
    for at in HEADERS {
        put(&mut version, at + 66, &[2, 0]);
        seal(&mut version[at..at + 4096]);
    }
    let mut twice = image(false);
    twice.copy_within(METADATA + 32..METADATA + 64, METADATA + 64);
    for (bytes, told) in [
        (twice, "two items of one kind"),
        (vec![0; 100], "does not begin as one"),
        (with(0, b"vhdxfilX"), "does not begin as one"),
        (no_header, "neither header"),
        (version, "version 2"),
        (no_regions, "neither table of regions"),
        (with_regions(16, &[1; 16]), "must be understood"),
        (with_regions(16 + 16, &5u64.to_le_bytes()), "can't be at"),
        (with_regions(8, &3000u32.to_le_bytes()), "3000 entries"),
        (with_regions(8, &0u32.to_le_bytes()), "no region"),
        (with_regions(16 + 16, &(1u64 << 40).to_le_bytes()), "before the file does"),
        (with(METADATA, b"X"), "no table of metadata"),
        (with(METADATA + 32, &[9; 16]), "must be understood"),
        (with(METADATA + 48, &7u32.to_le_bytes()), "can't be at"),
        (with(ITEMS, &(3u32 << 20).to_le_bytes()), "none of 1 to 256 MiB"),
        (with(ITEMS + 8, &(1u64 << 60).to_le_bytes()), "above 64 TiB"),
        (with(ITEMS + 32, &1024u32.to_le_bytes()), "sectors of 1024"),
        (with(ITEMS + 8, &(64u64 << 40).to_le_bytes()), "shorter than the disk needs"),
        (entry(0, 4), "an entry that can't be"),
        (entry(0, 7 | 9 << 20), "an entry that can't be"),
        (entry(0, 6 | 3 << 20), "no block can be"),
        (entry(0, 6 | 1 << 50), "no block can be"),
    ] {
        let error = shown(&disk(&bytes), false).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains("/top"), "{told}: {error}");
    }
    for bytes in [entry(0, 6 | 3 << 20), entry(0, 6 | 1 << 50)] {
        assert!(shown(&disk(&bytes), true).is_err());
    }
}

#[test]
fn one_of_two_copies_is_enough() {
    let whole = shown(&disk(&image(false)), false).unwrap();
    for at in REGIONS {
        assert_eq!(shown(&disk(&with(at + 100, &[1])), false).unwrap(), whole);
    }
    assert_eq!(shown(&disk(&with(HEADERS[0] + 100, &[1])), false).unwrap(), whole);
    // Without the newer header the older one counts, which names a log: the last entry there is in its place already.
    let older = with(HEADERS[1] + 100, &[1]);
    assert_eq!(shown(&disk(&older), false).unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(shown(&disk(&older), true).unwrap(), whole);
}

#[test]
fn a_log_is_carried_out_where_the_image_is_opened_for_writing_and_else_asked_for() {
    let dirty = image(true);
    let whole = shown(&disk(&image(false)), false).unwrap();
    let mut behind = dirty.clone();
    // What the last entry stored is not in its place yet.
    put(&mut behind, BAT + 8 * 3, &2u64.to_le_bytes());
    let refused = shown(&disk(&behind), false).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Permission);
    assert!(refused.to_string().contains("check -r all '/top'"), "{refused}");
    assert_eq!(shown(&disk(&behind), true).unwrap(), whole);
    let (report, mended) = checked(&behind, Repair::All);
    assert_eq!((report.corruptions, report.corruptions_fixed), (0, 1), "{:?}", report.messages);
    assert_eq!(shown(&mended, false).unwrap(), whole);
}

#[test]
fn a_log_of_which_nothing_is_whole_is_refused() {
    let mut bytes = image(true);
    bytes[LOG..LOG + MIB].fill(0);
    for writable in [false, true] {
        let error = shown(&disk(&bytes), writable).unwrap_err().to_string();
        assert!(error.contains("no entry that is whole"), "{error}");
    }
    // The file has lost what the log counts on.
    let mut cut = image(true);
    cut.truncate(5 * MIB);
    let error = shown(&disk(&cut), true).unwrap_err().to_string();
    assert!(error.contains("when its log was stored"), "{error}");
}

#[test]
fn blocks_of_two_entries_are_not_written_to_and_are_mended_apart() {
    let good = image(false);
    let first = good[BAT + 8..BAT + 16].to_vec();
    let bytes = with(BAT + 32, &first);
    let before = shown(&disk(&bytes), false).unwrap();
    assert_eq!(before[4 * MIB..], vec![1; MIB]);
    let error = shown(&disk(&bytes), true).unwrap_err().to_string();
    assert!(error.contains("where no block of its own can be"), "{error}");
    assert_eq!(checked(&bytes, Repair::No).0.corruptions, 1);
    let (report, mended) = checked(&bytes, Repair::All);
    assert_eq!((report.corruptions, report.corruptions_fixed), (0, 1), "{:?}", report.messages);
    assert_eq!(shown(&mended, true).unwrap(), before);
    let (again, _) = checked(&mended.content("/top").unwrap().to_vec(), Repair::No);
    assert_eq!(again.corruptions, 0, "{:?}", again.messages);
}

#[test]
fn a_block_that_is_cut_off_is_whole_again() {
    let mut bytes = image(false);
    // Its blocks are at 4 and at 5 MiB.
    bytes.truncate(6 * MIB - MIB / 2);
    assert!(shown(&disk(&bytes), false).is_err());
    let (report, mended) = checked(&bytes, Repair::All);
    assert_eq!((report.corruptions, report.corruptions_fixed), (0, 1), "{:?}", report.messages);
    let after = shown(&mended, true).unwrap();
    assert_eq!(after[3 * MIB..3 * MIB + MIB / 2], vec![3; MIB / 2]);
    assert_eq!(after[3 * MIB + MIB / 2..4 * MIB], vec![0; MIB / 2]);
}

/// An image over `/base`, by a relative name of Windows: its block 1 has every second sector.
fn over(linkage: &str) -> Vec<u8> {
    let mut bytes = image(false);
    bytes.resize(bytes.len().next_multiple_of(MIB), 0);
    // The bitmap comes behind everything.
    let bitmap = bytes.len();
    bytes.extend(vec![0b1010_1010; MIB]);
    let place = u64::from_le_bytes(bytes[BAT + 8..BAT + 16].try_into().unwrap()) >> 20;
    put(&mut bytes, BAT + 8, &(place << 20 | 7).to_le_bytes());
    put(&mut bytes, BAT, &[0; 8]);
    let ratio = 4096;
    put(&mut bytes, BAT + 8 * ratio, &((bitmap as u64) | 6).to_le_bytes());
    put_parent(&mut bytes, linkage, r".\base");
    bytes
}

#[test]
fn an_image_over_a_parent_shows_its_own_sectors_and_the_parents() {
    let mut base = image(false);
    // Its block 0 is a copy of block 3, by its entry.
    let three = base[BAT + 24..BAT + 32].to_vec();
    put(&mut base, BAT, &three);
    let newest =
        HEADERS.into_iter().max_by_key(|at| base[at + 8..at + 16].iter().rev().copied().collect::<Vec<_>>());
    let id = &base[newest.unwrap() + 32..][..16];
    let group = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    let turned = |bytes: &[u8]| group(&bytes.iter().rev().copied().collect::<Vec<_>>());
    let text = format!(
        "{{{}-{}-{}-{}-{}}}",
        turned(&id[..4]),
        turned(&id[4..6]),
        turned(&id[6..8]),
        group(&id[8..10]),
        group(&id[10..])
    );
    let mut both = disk(&over(&text));
    both.put("/base", &base);
    let read = shown(&both, false).unwrap();
    for (sector, bytes) in read[..2 * MIB].chunks(512).enumerate() {
        // Block 0 is the parent's; of block 1 the parent has the same as the image.
        assert_eq!(bytes, [if sector < MIB / 512 { 3 } else { 1 }; 512], "sector {sector}");
    }
    assert_eq!(read[3 * MIB..4 * MIB], vec![3; MIB]);
    let error = shown(&both, true).unwrap_err().to_string();
    assert!(error.contains("only read"), "{error}");
    // Bits that are not set are the parent's.
    put(&mut base, BAT + 8, &three);
    both.put("/base", &base);
    let read = shown(&both, false).unwrap();
    for (sector, bytes) in read[MIB..2 * MIB].chunks(512).enumerate() {
        assert_eq!(bytes, [if sector % 2 == 0 { 3 } else { 1 }; 512], "sector {sector}");
    }
    both.put("/top", &over("{2DC27766-F623-4200-9D64-115E9BFD4A08}"));
    let error = shown(&both, false).unwrap_err().to_string();
    assert!(error.contains("is not as it was"), "{error}");
}

#[test]
fn each_entry_of_the_log_tells_where_the_file_ends() {
    let bytes = image(true);
    for at in [LOG, LOG + MIB / 2] {
        assert_eq!(&bytes[at..at + 4], b"loge");
        for place in [48, 56] {
            let end = u64::from_le_bytes(*bytes[at + place..].first_chunk().unwrap());
            assert!((4 * MIB as u64..=bytes.len() as u64).contains(&end), "{at:#x}: {end:#x}");
        }
    }
}
