//! Damaged and hostile VHD images: each is refused, or mended, with words that say what and where; none makes more work than it
//! has bytes. And what of an image over a parent is shown.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{BlockError, CheckReport, Common, Opt, Policy, Repair};
use sim::{Config, Disk, Sim};
use testkit::stack::{Stack, TestImage};
use testkit::vpc;

const SIZE: u64 = 20 << 10;
const BLOCK: usize = 4096;

fn sum(bytes: &mut [u8], range: std::ops::Range<usize>, at: usize) {
    let bytes = &mut bytes[range];
    bytes[at..at + 4].fill(0);
    let sum = !bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
    sum(bytes, 0..512, 64);
    sum(bytes, 512..1536, 36);
}

/// An image whose blocks `used` are full of their numbers.
fn image(used: &[u8]) -> Vec<u8> {
    let mut bytes = vpc::image(SIZE, BLOCK as u32);
    let footer = bytes.split_off(bytes.len() - 512);
    for block in used {
        let sector = bytes.len() as u32 / 512;
        put(&mut bytes, 1536 + 4 * usize::from(*block), &sector.to_be_bytes());
        bytes.extend([0xff; 512]);
        bytes.extend([*block; BLOCK]);
    }
    [bytes, footer].concat()
}

fn stack() -> Stack {
    Stack::of("vpc", &[protocols::DRIVERS, formats::DRIVERS], vec![TestImage::new("vpc", "/top", SIZE)])
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

fn disk(bytes: &[u8]) -> Disk {
    let mut disk = Disk::default();
    disk.put("/top", bytes);
    disk
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
    let changed = |at: usize, what: &[u8]| {
        let mut bytes = image(&[0]);
        put(&mut bytes, at, what);
        // The footer at the end is not asked, where the other says what it says.
        let end = bytes.len() - 512;
        bytes.copy_within(0..512, end);
        bytes
    };
    for (bytes, told) in [
        (vec![0; 100], "too short"),
        (vec![0; 4096], "there is no footer"),
        (changed(60, &5u32.to_be_bytes()), "type 5"),
        (changed(16, &u64::MAX.to_be_bytes()), "dynamic header"),
        (changed(512, b"X"), "no header of a dynamic disk"),
        (changed(512 + 32, &0u32.to_be_bytes()), "0 bytes"),
        (changed(512 + 32, &(3u32 << 20).to_be_bytes()), "no power of two"),
        (changed(512 + 28, &u32::MAX.to_be_bytes()), "too large"),
        (changed(512 + 28, &1u32.to_be_bytes()), "1 entries"),
        (changed(512 + 16, &u64::MAX.to_be_bytes()), "can't be at"),
        (changed(48, &u64::MAX.to_be_bytes()), "2,040 GiB"),
        (changed(1536, &0u32.to_be_bytes()), "into metadata"),
        (changed(1536, &0x00ff_0000u32.to_be_bytes()), "before the file does"),
        (changed(512 + 16, &(1u64 << 40).to_be_bytes()), ""),
    ] {
        let error = shown(&disk(&bytes), false).unwrap_err().to_string();
        assert!(error.contains(told) && error.contains("/top"), "{told}: {error}");
        assert!(shown(&disk(&bytes), true).is_err(), "{told}");
    }
}

#[test]
fn a_damaged_footer_at_one_end_is_the_other_one() {
    for (at, front) in [(100, true), (image(&[0]).len() - 100, false)] {
        let mut bytes = image(&[0]);
        bytes[at] ^= 1;
        assert_eq!(shown(&disk(&bytes), false).unwrap()[..BLOCK], [0; BLOCK]);
        let (report, _) = checked(&bytes, Repair::No);
        assert_eq!((report.corruptions, report.leaks), (1, 0), "{front}: {:?}", report.messages);
        let (report, mended) = checked(&bytes, Repair::All);
        assert_eq!((report.corruptions, report.corruptions_fixed), (0, 1));
        assert_eq!(mended.content("/top").unwrap().to_vec(), image(&[0]));
    }
}

#[test]
fn blocks_of_two_entries_are_not_written_to_and_are_mended_apart() {
    let mut bytes = image(&[1, 2]);
    let entry = bytes[1536 + 4..1536 + 8].to_vec();
    put(&mut bytes, 1536 + 12, &entry);
    let before = shown(&disk(&bytes), false).unwrap();
    let error = shown(&disk(&bytes), true).unwrap_err().to_string();
    assert!(error.contains("where no block of its own can be"), "{error}");
    let (report, mended) = checked(&bytes, Repair::All);
    assert_eq!((report.corruptions, report.corruptions_fixed), (0, 1), "{:?}", report.messages);
    assert_eq!(shown(&mended, true).unwrap(), before);
    assert_eq!(before[3 * BLOCK..4 * BLOCK], [1; BLOCK]);
    let (again, _) = checked(&mended.content("/top").unwrap().to_vec(), Repair::No);
    assert_eq!((again.corruptions, again.leaks), (0, 0), "{:?}", again.messages);
}

#[test]
fn a_block_that_is_cut_off_is_whole_again() {
    let mut bytes = image(&[1, 2]);
    bytes.truncate(bytes.len() - 512 - BLOCK / 2);
    assert!(shown(&disk(&bytes), false).is_err());
    let (report, mended) = checked(&bytes, Repair::All);
    assert_eq!((report.corruptions, report.corruptions_fixed), (0, 1), "{:?}", report.messages);
    let after = shown(&mended, true).unwrap();
    assert_eq!(after[2 * BLOCK..2 * BLOCK + BLOCK / 2], [2; BLOCK / 2]);
    assert_eq!(after[2 * BLOCK + BLOCK / 2..3 * BLOCK], [0; BLOCK / 2]);
}

#[test]
fn what_a_crash_left_behind_the_last_block_is_a_leak() {
    let mut bytes = image(&[1]);
    bytes.extend(vec![9; 3 * BLOCK]);
    let (report, _) = checked(&bytes, Repair::No);
    assert_eq!((report.leaks, report.corruptions), (2, 1), "{:?}", report.messages);
    let (report, mended) = checked(&bytes, Repair::Leaks);
    assert_eq!((report.leaks, report.leaks_fixed, report.corruptions), (0, 2, 0), "{:?}", report.messages);
    assert_eq!(mended.content("/top").unwrap().to_vec(), image(&[1]));
    // Whoever opens it for writing cuts it off, too.
    let sim = Sim::boot(Config::seeded(1), disk(&bytes));
    sim.run(async { stack().open().await.unwrap().close().await.unwrap() });
    assert_eq!(sim.world().disk().content("/top").unwrap().to_vec(), image(&[1]));
}

/// A differencing image over `/base`, by a relative name of Windows.
fn over(id: [u8; 16]) -> Vec<u8> {
    let mut bytes = image(&[1]);
    // Every second sector of the block is the parent's.
    let block = bytes.len() - 512 - BLOCK - 512;
    bytes[block] = 0b1010_1010;
    let name: Vec<u8> = r".\base".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let at = bytes.len() as u64;
    bytes.extend_from_slice(&name);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    put(&mut bytes, 60, &4u32.to_be_bytes());
    put(&mut bytes, 512 + 40, &id);
    put(&mut bytes, 512 + 576, b"W2ru\0\0\x02\0");
    put(&mut bytes, 512 + 576 + 8, &(name.len() as u32).to_be_bytes());
    put(&mut bytes, 512 + 576 + 16, &at.to_be_bytes());
    let footer = bytes[..512].to_vec();
    [bytes, footer].concat()
}

#[test]
fn an_image_over_a_parent_shows_its_own_sectors_and_the_parents() {
    let mut base = image(&[0, 1]);
    put(&mut base, 68, &[7; 16]);
    let mut both = disk(&over([7; 16]));
    both.put("/base", &base);
    let shown = shown(&both, false).unwrap();
    for (sector, bytes) in shown.chunks(512).enumerate() {
        let wanted = match sector {
            8..16 => 1,
            _ => 0,
        };
        assert_eq!(bytes, [wanted; 512], "sector {sector}");
    }
    let mut writable = both.clone();
    writable.put("/base", &base);
    let error = self::shown(&writable, true).unwrap_err().to_string();
    assert!(error.contains("only read"), "{error}");
    // Another disk in the parent's place is not shown.
    both.put("/top", &over([8; 16]));
    let error = self::shown(&both, false).unwrap_err().to_string();
    assert!(error.contains("is not the image that it was made over"), "{error}");
    // Without the parent, by the user's own word.
    let alone = Sim::boot(Config::seeded(1), both).run(async {
        let mut stack = stack();
        stack.top.set("backing", Opt::Null);
        let session = stack.open_read_only().await.unwrap();
        let read = session.read(4096, 1024).await.unwrap();
        session.close().await.unwrap();
        read
    });
    assert_eq!(alone, [[1; 512], [0; 512]].concat());
}

#[test]
fn a_guest_of_a_fixed_disk_can_t_make_it_one_over_another_file() {
    let guests = over([7; 16]);
    let mut footer = guests[..512].to_vec();
    footer[48..56].copy_from_slice(&(guests.len() as u64).to_be_bytes());
    footer[60..64].copy_from_slice(&2u32.to_be_bytes());
    sum(&mut footer, 0..512, 64);
    let mut host = disk(&[guests.clone(), footer].concat());
    host.put("/base", &vec![b'h'; SIZE as usize]);
    for writable in [false, true] {
        assert_eq!(shown(&host, writable).unwrap(), guests);
    }
    // Nor does an image that is over another one show a file that is no VHD image.
    host.put("/top", &guests);
    let error = shown(&host, false).unwrap_err().to_string();
    assert!(error.contains("/base") && error.contains("there is no footer"), "{error}");
}
