//! VMDK images as others leave them: extents that the open policy judges, damage, overlays whose base has changed, files of ESX
//! hosts, files that were not closed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step is a failed test"
)]

use api::ImageInfoSpecific;
use block::{
    BackendRequest, Common, ErrorKind, Grant, Graph, Node, Options, Perms, Policy, Registry, Repair, Request,
};
use rt::{Buf, BufMut};
use sim::{Config, Disk, Sim};
use std::sync::Arc;
use testkit::stack::{Stack, TestImage};

const DRIVERS: [&[block::DriverType]; 2] = [protocols::DRIVERS, formats::DRIVERS];
const SECRET: &[u8] = b"root:x:0:0";

fn graph() -> Graph {
    Graph::new(Registry::new(&DRIVERS), |_| Err(block::BlockError::invalid("no JSON here")))
}

async fn open_as(name: &str, read_only: bool, policy: Policy) -> block::Result<Arc<Node>> {
    let common = Common { read_only, ..Common::default() };
    graph().open_image(name, Some("vmdk"), common, policy).await
}

async fn open(name: &str, read_only: bool) -> block::Result<Arc<Node>> {
    open_as(name, read_only, Policy::FOLLOW).await
}

async fn read(node: &Arc<Node>, offset: u64, len: usize) -> block::Result<Vec<u8>> {
    let (buf, result) = node.read(offset, BufMut::with_len(len)).await;
    result.map(|()| buf.to_vec())
}

/// A disk with a new image of these options, and what it has been written.
fn made(options: &[(&str, &str)], writes: &'static [(u64, u8)]) -> Disk {
    let image = TestImage::new("vmdk", "/top", 64 << 10).with("x-grain-size", "4096");
    let image = options.iter().fold(image, |image, (name, value)| image.with(name, value));
    let sim = Sim::new(1);
    sim.run(async move {
        let stack = Stack::of("vmdk", &DRIVERS, vec![image]);
        stack.create().await.unwrap();
        let session = stack.open().await.unwrap();
        for (offset, byte) in writes {
            session.write(*offset, &[*byte; 4096], false).await.unwrap();
        }
        session.close().await.unwrap();
    });
    sim.settle();
    sim.world().disk()
}

/// Runs a test on a machine with this disk, and answers what is on it then.
fn on<F: Future<Output = ()> + Send + 'static>(disk: Disk, test: F) -> Sim {
    let sim = Sim::boot(Config::seeded(1), disk);
    sim.run(test);
    sim.settle();
    sim
}

fn bytes(disk: &Disk, name: &str) -> Vec<u8> {
    disk.content(name).unwrap().to_vec()
}

fn descriptor(create_type: &str, lines: &str) -> Vec<u8> {
    let text = "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n";
    format!("{text}createType=\"{create_type}\"\n\n{lines}\n").into_bytes()
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Where the first entry of the first table is, of either copy.
fn entries(image: &[u8], second: bool) -> usize {
    let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize * 512;
    word(word(if second { 48 } else { 56 }))
}

#[test]
fn cve_2022_47951_an_extent_reads_no_file_that_the_policy_refuses() {
    for kind in ["FLAT \"/secret\" 0", "SPARSE \"/secret\"", "VMFS \"/secret\"", "SESPARSE \"/secret\""] {
        let mut disk = Disk::default();
        disk.put("/secret", &SECRET.repeat(200));
        disk.put("/top", &descriptor("custom", &format!("RW 2 {kind}")));
        let sim = on(disk, async move {
            let refusing = Policy { extents: Grant::Refuse, ..Policy::FOLLOW };
            let error = open_as("/top", true, refusing).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert!(error.message().contains("/secret"), "{error}");
            let skipping = Policy { extents: Grant::Skip, ..Policy::FOLLOW };
            let node = open_as("/top", true, skipping).await.unwrap();
            let Some(ImageInfoSpecific::Vmdk(info)) = node.driver().info().specific else {
                panic!("no info")
            };
            assert_eq!(info.extents[0].filename, "/secret");
            assert!(read(&node, 0, 512).await.is_err());
        });
        assert!(!sim.world().log().iter().any(|line| line.contains("/secret")), "it was touched");
    }
}

#[test]
fn extents_are_found_beside_the_descriptor_and_the_disk_is_put_together_of_them() {
    let sparse = made(&[], &[(0, 7), (4096, 8)]);
    let mut disk = Disk::default();
    disk.put("/d/s.vmdk", &bytes(&sparse, "/top"));
    disk.put("/flat", &[[1; 512], [2; 512]].concat());
    let lines = "RW 1 FLAT \"/flat\" 1\nRDONLY 2 ZERO\nRW 128 SPARSE \"s.vmdk\"";
    disk.put("/d/top", &descriptor("custom", lines));
    on(disk, async {
        assert_eq!(open("/d/top", false).await.map(drop).unwrap_err().kind(), ErrorKind::ReadOnly);
        let node = open("/d/top", true).await.unwrap();
        assert_eq!(node.length(), 131 * 512);
        let shown = read(&node, 0, 131 * 512).await.unwrap();
        let expected = [vec![2; 512], vec![0; 1024], vec![7; 4096], vec![8; 4096], vec![0; 120 * 512 - 4096]];
        assert!(shown[..shown.len()] == expected.concat()[..shown.len()], "{:?}", &shown[..4]);
    });
}

#[test]
fn damage_is_refused_with_the_file_and_the_place() {
    type Damage = fn(&mut Vec<u8>);
    let opened: [(&str, Damage); 9] = [
        ("no grain size", |i| put(i, 20, &[0; 8])),
        ("an odd grain size", |i| put(i, 20, &[9, 0, 0, 0])),
        ("a gigantic grain size", |i| put(i, 20, &[0, 0, 0, 0, 1])),
        ("too many entries in a table", |i| put(i, 44, &[1, 2])),
        ("no entries in a table", |i| put(i, 44, &[0; 4])),
        ("a gigantic disk", |i| put(i, 12, &[0xff; 7])),
        ("a version of the future", |i| put(i, 4, &[4])),
        ("a footer that is not there", |i| put(i, 56, &[0xff; 8])),
        ("a descriptor outside of the file", |i| put(i, 28, &[0, 0, 0, 0, 1])),
    ];
    let sound = bytes(&made(&[], &[(0, 7)]), "/top");
    for (what, damage) in opened {
        let mut image = sound.clone();
        damage(&mut image);
        let mut disk = Disk::default();
        disk.put("/top", &image);
        on(disk, async move {
            let error = open("/top", true).await.map(drop).expect_err(what);
            assert!(error.to_string().contains("/top"), "{what}: {error}");
        });
    }
    let read_later: [(&str, Damage); 3] = [
        ("a directory outside of the file", |i| put(i, 56, &[0, 0, 0, 1])),
        ("a table outside of the file", |i| {
            let at = u64::from_le_bytes(i[56..64].try_into().unwrap()) as usize * 512;
            put(i, at, &[0, 0, 0, 1]);
        }),
        ("an entry that leads out of the file", |i| {
            let at = entries(i, false);
            put(i, at, &[0, 0, 0, 1]);
        }),
    ];
    for (what, damage) in read_later {
        let mut image = sound.clone();
        damage(&mut image);
        let mut disk = Disk::default();
        disk.put("/top", &image);
        on(disk, async move {
            let node = open("/top", true).await.expect(what);
            let error = read(&node, 0, 512).await.expect_err(what);
            assert!(error.to_string().contains("/top") && error.offset().is_some(), "{what}: {error}");
            assert!(open("/top", false).await.is_err(), "{what}");
        });
    }
}

#[test]
fn a_wrong_entry_is_mended_by_the_second_copy_and_else_becomes_a_hole() {
    let mut image = bytes(&made(&[], &[(0, 7), (4096, 8), (8192, 9)]), "/top");
    let (first, second) = (entries(&image, false), entries(&image, true));
    // Out of the file; the same grain as the second; both copies wrong.
    put(&mut image, first, &[0, 0, 0, 1]);
    put(&mut image, first + 8, &[0, 0, 0, 1]);
    put(&mut image, second + 8, &[0, 0, 0, 1]);
    let mut disk = Disk::default();
    disk.put("/top", &image);
    on(disk, async {
        let common = Common { for_repair: true, read_only: false, ..Common::default() };
        let node = graph().open_image("/top", Some("vmdk"), common, Policy::FOLLOW).await.unwrap();
        let checker = node.driver().checker().unwrap();
        let found = checker.check(Repair::No).await.unwrap();
        assert_eq!((found.corruptions, found.corruptions_fixed), (3, 0), "{:?}", found.messages);
        assert!(found.messages[0].contains("/top") && found.messages[0].contains("0x0"));
        let mended = checker.check(Repair::All).await.unwrap();
        assert_eq!((mended.corruptions, mended.corruptions_fixed), (0, 3), "{:?}", mended.messages);
        assert_eq!(checker.check(Repair::No).await.unwrap().corruptions, 0);
        let shown = read(&node, 0, 12288).await.unwrap();
        assert!(shown == [[7; 4096], [8; 4096], [0; 4096]].concat());
    });
}

#[test]
fn a_stale_second_copy_takes_no_grain_of_a_sound_entry() {
    let mut image = bytes(&made(&[], &[(0, 7), (4096, 8)]), "/top");
    let (first, second) = (entries(&image, false), entries(&image, true));
    let grain = image[first + 4..first + 8].to_vec();
    put(&mut image, first, &[0, 0, 0, 1]);
    put(&mut image, second, &grain);
    let mut disk = Disk::default();
    disk.put("/top", &image);
    on(disk, async {
        let common = Common { for_repair: true, read_only: false, ..Common::default() };
        let node = graph().open_image("/top", Some("vmdk"), common, Policy::FOLLOW).await.unwrap();
        let mended = node.driver().checker().unwrap().check(Repair::All).await.unwrap();
        assert_eq!(mended.corruptions, 0, "{:?}", mended.messages);
        assert!(read(&node, 0, 8192).await.unwrap() == [[0; 4096], [8; 4096]].concat());
    });
}

#[test]
fn no_data_is_written_over_the_descriptor_whatever_the_header_says_of_the_first_grain() {
    let mut image = bytes(&made(&[], &[]), "/top");
    put(&mut image, 64, &[0; 8]);
    let mut disk = Disk::default();
    disk.put("/top", &image);
    let sim = on(disk, async {
        let stack = Stack::of("vmdk", &DRIVERS, vec![TestImage::new("vmdk", "/top", 64 << 10)]);
        let session = stack.open().await.unwrap();
        session.write(0, &[0xee; 16384], false).await.unwrap();
        session.close().await.unwrap();
    });
    assert!(!bytes(&sim.world().disk(), "/top")[..21 * 512].contains(&0xee));
}

/// A stream of small grains.
fn stream(size: u64) -> Stack {
    let image = TestImage::new("vmdk", "/top", size).with("x-grain-size", "4096");
    Stack::of("vmdk", &DRIVERS, vec![image.with("subformat", "streamOptimized")])
}

/// Bytes of the disk that one table of small grains is for.
const SPAN: u64 = 512 * 4096;

#[test]
fn what_a_stream_wrote_is_there_after_a_flush_and_a_close_however_many_tables_it_took() {
    let sim = Sim::new(1);
    sim.run(async {
        // One more than half of the memory for tables has room for.
        let (stack, tables) = (stream(10_000 * SPAN), 7_711);
        stack.create().await.unwrap();
        let session = stack.open().await.unwrap();
        for table in 0..tables {
            session.write(table * SPAN, &[table as u8 | 1; 4096], false).await.unwrap();
        }
        // This changes nothing, and is what has the tables written.
        session.backend.discard(9_500 * SPAN, 4096, Request::GUEST).await.unwrap();
        session.backend.flush().await.unwrap();
        session.close().await.unwrap();
        let session = stack.open_read_only().await.unwrap();
        for table in (0..tables).step_by(97).chain([tables - 1]) {
            assert!(session.read(table * SPAN, 4096).await.unwrap() == [table as u8 | 1; 4096], "{table}");
        }
        session.close().await.unwrap();
    });
}

#[test]
fn a_hole_of_a_stream_ends_where_a_table_is_that_was_just_made() {
    let sim = Sim::new(1);
    sim.run(async {
        let stack = stream(4 * SPAN);
        stack.create().await.unwrap();
        let session = stack.open().await.unwrap();
        session.write(SPAN, &[7; 4096], false).await.unwrap();
        let shown = session.read(SPAN - 4096, 8192).await.unwrap();
        assert!(shown == [[0; 4096], [7; 4096]].concat());
        session.close().await.unwrap();
    });
}

#[test]
fn a_stream_that_another_program_appended_to_is_read_again() {
    let sim = Sim::new(1);
    sim.run(async {
        let stack = stream(4 * SPAN);
        stack.create().await.unwrap();
        let session = stack.open().await.unwrap();
        session.write(0, &[7; 4096], false).await.unwrap();
        session.close().await.unwrap();
        let graph = graph();
        let common = Common { read_only: false, ..Common::default() };
        let node = graph.open_image("/top", Some("vmdk"), common, Policy::FOLLOW).await.unwrap();
        assert!(read(&node, 0, 4096).await.unwrap() == [7; 4096]);
        graph.inactivate(&node).await.unwrap();
        let session = stack.open().await.unwrap();
        session.write(SPAN, &[8; 4096], false).await.unwrap();
        session.close().await.unwrap();
        graph.activate(&node).await.unwrap();
        let perms = Perms::WRITER;
        let entry = BackendRequest { label: "guest".to_owned(), node: node.clone(), perms, pinned: false };
        let entry = graph.attach(entry).await.unwrap();
        entry.write(2 * SPAN, Buf::from_slice(&[9; 4096]), Request::GUEST).await.unwrap();
        for (n, byte) in (0..).zip([7, 8, 9]) {
            assert!(read(&node, n * SPAN, 4096).await.unwrap() == [byte; 4096], "{n}");
        }
        graph.detach(&entry).await.unwrap();
        graph.close_all().await.unwrap();
        let session = stack.open_read_only().await.unwrap();
        for (n, byte) in (0..).zip([7, 8, 9]) {
            assert!(session.read(n * SPAN, 4096).await.unwrap() == [byte; 4096], "{n}");
        }
        session.close().await.unwrap();
    });
}

#[test]
fn zeroes_over_an_image_below_that_is_not_open_are_stored() {
    let sim = Sim::new(1);
    sim.run(async {
        let base = TestImage::new("vmdk", "/base", 64 << 10);
        let over = TestImage::new("vmdk", "/top", 64 << 10).with("x-grain-size", "4096");
        let over = over.with("backing_file", "/base").with("backing_fmt", "vmdk");
        let stack = Stack::of("vmdk", &DRIVERS, vec![base.clone(), over]);
        let session = {
            let lone = Stack::of("vmdk", &DRIVERS, vec![base]);
            lone.create().await.unwrap();
            lone.open().await.unwrap()
        };
        session.write(0, &[7; 8192], false).await.unwrap();
        session.close().await.unwrap();
        let top = stack.images.last().unwrap();
        graph().create("vmdk", "/top", top.size, top.options.clone()).await.unwrap();
        let mut alone = Stack::of("vmdk", &DRIVERS, vec![top.clone()]);
        alone.top.set("backing", block::Opt::Null);
        let session = alone.open().await.unwrap();
        session.backend.write_zeroes(0, 4096, Request::GUEST).await.unwrap();
        session.close().await.unwrap();
        let session = stack.open().await.unwrap();
        assert!(session.read(0, 8192).await.unwrap() == [[0; 4096], [7; 4096]].concat());
        session.close().await.unwrap();
    });
}

#[test]
fn an_image_of_size_0_is_not_made() {
    let sim = Sim::new(1);
    sim.run(async {
        assert!(graph().create("vmdk", "/top", 0, Options::new()).await.is_err());
    });
}

#[test]
fn an_overlay_does_not_show_a_base_that_has_changed_and_the_first_write_changes_the_identifier() {
    let sim = Sim::new(1);
    sim.run(async {
        let make = async |name: &str, backing: Option<&str>| {
            let mut options = Options::new();
            if let Some(backing) = backing {
                options = options.with_str("backing_file", backing).with_str("backing_fmt", "vmdk");
            }
            graph().create("vmdk", name, 1 << 20, options).await
        };
        make("/base", None).await.unwrap();
        make("/over", Some("/base")).await.unwrap();
        let cid = async || match open("/base", true).await.unwrap().driver().info().specific {
            Some(ImageInfoSpecific::Vmdk(info)) => info.cid,
            _ => panic!("no info"),
        };
        let first = cid().await;
        assert_eq!(read(&open("/over", true).await.unwrap(), 0, 512).await.unwrap(), [0; 512]);
        for (write, changes) in [(false, false), (true, true)] {
            let graph = graph();
            let common = Common { read_only: false, ..Common::default() };
            let node = graph.open_image("/base", Some("vmdk"), common, Policy::FOLLOW).await.unwrap();
            let perms = Perms::WRITER;
            let entry = BackendRequest { label: "guest".to_owned(), node, perms, pinned: false };
            let entry = graph.attach(entry).await.unwrap();
            if write {
                entry.write(0, Buf::from_slice(&[1; 512]), Request::GUEST).await.unwrap();
            }
            graph.detach(&entry).await.unwrap();
            graph.close_all().await.unwrap();
            assert_eq!(cid().await != first, changes);
        }
        let over = open("/over", true).await.unwrap();
        let error = read(&over, 0, 512).await.unwrap_err();
        assert_eq!(error.strerror(), "Invalid argument");
        assert!(error.message().contains("/base"), "{error}");
        assert!(make("/never", Some("/nowhere")).await.is_err());
    });
}

#[test]
fn copies_that_a_crash_left_different_are_made_equal_before_the_first_write() {
    let mut image = bytes(&made(&[], &[(0, 7), (4096, 8)]), "/top");
    let second = entries(&image, true);
    put(&mut image, second, &[0; 4]);
    put(&mut image, 72, &[1]);
    let mut disk = Disk::default();
    disk.put("/top", &image);
    let sim = on(disk, async {
        let stack = Stack::of("vmdk", &DRIVERS, vec![TestImage::new("vmdk", "/top", 64 << 10)]);
        let session = stack.open().await.unwrap();
        session.write(8192, &[9; 4096], false).await.unwrap();
        session.close().await.unwrap();
    });
    let image = bytes(&sim.world().disk(), "/top");
    let (first, second) = (entries(&image, false), entries(&image, true));
    assert_eq!(image[first..first + 2048], image[second..second + 2048]);
    assert_eq!(image[72], 0, "it was closed");
}

#[test]
fn files_of_esx_hosts_are_read_and_not_written() {
    let word = |image: &mut Vec<u8>, at: usize, word: u32| put(image, at, &word.to_le_bytes());
    let mut cowd = vec![0; 48 * 512];
    put(&mut cowd, 0, b"COWD");
    // Sectors of the disk, of a grain, of the directory, tables; the directory's and the table's entries.
    for (at, value) in [(4, 1), (12, 16), (16, 1), (20, 4), (24, 1), (2048, 5), (2560, 0), (2564, 40)] {
        word(&mut cowd, at, value);
    }
    put(&mut cowd, 40 * 512, &[3; 512]);
    let mut se = vec![0; 96 * 512];
    let header = [
        (0, 0xcafe_babe_u64),
        (1, 0x2_0000_0001),
        (2, 16),
        (3, 8),
        (4, 64),
        (10, 1),
        (11, 1),
        (16, 2),
        (17, 1),
        (18, 8),
        (19, 64),
        (24, 80),
        (25, 16),
        (64, 0xcafe_cafe),
        (128, 1 << 60),
        (512, 2 << 60),
        (513, 3 << 60 | 1 << 48),
    ];
    for (at, value) in header {
        put(&mut se, at * 8, &value.to_le_bytes());
    }
    put(&mut se, 88 * 512, &[4; 4096]);
    let mut disk = Disk::default();
    disk.put("/cowd", &cowd);
    disk.put("/se", &se);
    disk.put("/top", &descriptor("seSparse", "RW 16 SESPARSE \"se\"\nRW 16 VMFSSPARSE \"cowd\""));
    on(disk, async {
        let expected = [vec![0; 4096], vec![4; 4096], vec![0; 512], vec![3; 512], vec![0; 7168]].concat();
        for name in ["/top", "/cowd"] {
            assert_eq!(open(name, false).await.map(drop).unwrap_err().kind(), ErrorKind::ReadOnly);
        }
        let node = open("/top", true).await.unwrap();
        assert!(read(&node, 0, 16384).await.unwrap() == expected);
        assert!(read(&open("/cowd", true).await.unwrap(), 0, 8192).await.unwrap() == expected[8192..]);
        assert_eq!(node.driver().checker().unwrap().check(Repair::No).await.unwrap().corruptions, 0);
    });
}
