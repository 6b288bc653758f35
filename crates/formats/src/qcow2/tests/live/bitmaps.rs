//! Persistent bitmaps: what is recorded is there at the next open, for the peer too; what can't be used is kept.
use super::*;
use crate::field::be64;
use crate::qcow2::header::{BITMAPS, BitmapsExtension};
use block::{ErrorKind, NamedBitmap, NewBitmap, Opt};

fn new(name: &str) -> NewBitmap {
    NewBitmap { name: name.to_owned(), granularity: None, persistent: true, enabled: true }
}

/// A bitmap's name, whether it records and can be used, its granularity, its dirty runs.
type State = (String, bool, bool, u64, Vec<(u64, u64)>);

fn state(disk: &Disk) -> Vec<State> {
    let told = |b: &Arc<NamedBitmap>| {
        let bits = b.bits();
        (b.name().to_owned(), b.is_enabled(), b.is_consistent(), bits.granularity(), bits.runs().collect())
    };
    disk.backend.node().bitmaps().all().iter().map(told).collect()
}

/// Whether the entries of the bitmaps on disk say that they are in use, in order.
fn in_use(path: &Path) -> Vec<bool> {
    let header = header(path).unwrap();
    let Some(BitmapsExtension { count, directory_offset, .. }) = header.bitmaps() else { return Vec::new() };
    let image = std::fs::read(path).unwrap();
    let mut at = directory_offset as usize;
    let one = |_| {
        let name = u16::from_be_bytes([image[at + 18], image[at + 19]]);
        let extra = u32::from_be_bytes(image[at + 20..at + 24].try_into().unwrap());
        let flags = image[at + 15];
        at += (24 + usize::from(name) + extra as usize).next_multiple_of(8);
        flags & 1 == 1
    };
    (0..count).map(one).collect()
}

/// Ours and the peer's check find nothing, not even a leak.
pub(super) fn is_clean(path: &Path) {
    let report = check(path, block::Repair::No);
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
    if let Some((code, text)) = peer("qemu-img", &["check", path.to_str().unwrap()]) {
        assert!(code == 0 && !text.contains("warning"), "{text}");
    }
}

fn check(path: &Path, repair: block::Repair) -> block::CheckReport {
    rt::block_on_control(async {
        let opened = Opened::new(path).await;
        let mut header = crate::qcow2::header::Header::read(&opened.file).await.unwrap();
        let report = crate::qcow2::check::check(&opened.file, &mut header, repair).await.unwrap();
        opened.close().await;
        report
    })
}

#[test]
fn what_is_written_while_a_bitmap_is_there_is_in_it_at_the_next_open_whatever_the_image_looks_like() {
    for (cluster, size, refcount_bits) in [
        ("512", 200 << 10, "16"),
        ("4096", 5 << 20, "1"),
        ("65536", (64 << 20) + 512, "16"),
        ("2097152", 9 << 20, "64"),
    ] {
        let scratch = Scratch::new();
        let path = scratch.path("image");
        create(&path, size, &[("cluster_size", cluster), ("refcount_bits", refcount_bits)]).unwrap();
        rt::block_on_control(async {
            let mut expected = Vec::new();
            for round in 0..4u64 {
                let disk = Disk::open(&path).await;
                assert_eq!(state(&disk), expected, "cluster {cluster}, round {round}");
                let node = disk.backend.node();
                let granularity = Some(512 << (round * 2));
                let made = node.add_bitmap(NewBitmap { granularity, ..new(&format!("b{round}")) }).unwrap();
                disk.write(round * 37 * 512, &[round as u8 + 1; 3000]).await;
                disk.backend.write_zeroes(100 << 10, 700, Request::GUEST).await.unwrap();
                disk.backend.discard(size - 512, 512, Request::GUEST).await.unwrap();
                assert!(!made.bits().is_clean_between(0, u64::MAX) && made.bits().run_at(size - 1, size).0);
                made.enable(round % 2 == 0).unwrap();
                if round == 3 {
                    node.merge_bitmaps(&made, &[node.need_bitmap("b0").unwrap()]).unwrap();
                    node.remove_bitmap(&node.need_bitmap("b1").unwrap()).await.unwrap();
                }
                expected = state(&disk);
                let reads = disk.read(round * 37 * 512, 3000).await;
                assert_eq!(reads[..], [round as u8 + 1; 3000]);
                disk.close().await;
            }
            assert_eq!(in_use(&path), [false; 3]);
            let disk = Disk::try_open(&path, Common { read_only: true, ..Common::default() }).await.unwrap();
            assert_eq!(state(&disk), expected);
            disk.close().await;
        });
        is_clean(&path);
    }
}

#[test]
fn bitmaps_on_disk_say_that_they_are_in_use_while_they_are_and_a_crash_then_leaves_them_to_be_removed_only() {
    let scratch = Scratch::new();
    let (path, crashed) = (scratch.path("image"), scratch.path("crashed"));
    create(&path, 4 << 20, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.backend.node().add_bitmap(new("b0")).unwrap();
        disk.close().await;
        assert_eq!(in_use(&path), [false]);

        // What is only read changes nothing; what is opened for writing and closed is as it was.
        let before = std::fs::read(&path).unwrap();
        let disk = Disk::try_open(&path, Common { read_only: true, ..Common::default() }).await.unwrap();
        assert_eq!(state(&disk).len(), 1);
        let removed =
            disk.backend.node().remove_bitmap(&disk.backend.node().need_bitmap("b0").unwrap()).await;
        assert_eq!(removed.unwrap_err().kind(), ErrorKind::ReadOnly);
        disk.close().await;
        let disk = Disk::open(&path).await;
        disk.read(0, 4096).await;
        disk.close().await;
        assert!(std::fs::read(&path).unwrap() == before);

        let disk = Disk::open(&path).await;
        disk.write(512, &[1; 512]).await;
        assert_eq!(in_use(&path), [true], "durable before the data");
        std::fs::copy(&path, &crashed).unwrap();
        disk.close().await;

        let disk = Disk::open(&crashed).await;
        assert_eq!(state(&disk), [("b0".to_owned(), false, false, 65536, Vec::new())]);
        let node = disk.backend.node();
        let b0 = node.need_bitmap("b0").unwrap();
        assert!(node.clear_bitmap(&b0).is_err() && b0.enable(true).is_err());
        assert!(node.add_bitmap(new("b0")).is_err());
        node.add_bitmap(new("b1")).unwrap();
        disk.write(1 << 20, &[1; 512]).await;
        disk.close().await;
        assert_eq!(in_use(&crashed), [true, false], "it is kept, and the other one is stored");
        let disk = Disk::open(&crashed).await;
        let node = disk.backend.node();
        node.remove_bitmap(&node.need_bitmap("b0").unwrap()).await.unwrap();
        disk.close().await;
        assert_eq!(in_use(&crashed), [false]);
    });
    is_clean(&path);
    is_clean(&crashed);
}

#[test]
fn bitmaps_follow_the_size_of_the_disk() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 1 << 20, &[("cluster_size", "512")]).unwrap();
    rt::block_on_control(async {
        let sizes = [300 << 20, 70 << 10, 2 << 20];
        let disk = Disk::open(&path).await;
        disk.backend.node().add_bitmap(NewBitmap { granularity: Some(512), ..new("fine") }).unwrap();
        disk.backend.node().add_bitmap(NewBitmap { enabled: false, ..new("off") }).unwrap();
        disk.write(60 << 10, &[1; 512]).await;
        disk.close().await;
        for size in sizes {
            let disk = Disk::open(&path).await;
            let node = disk.backend.node();
            disk.graph.resize(&node, size, api::PreallocMode::Off).await.unwrap();
            disk.write(size - 512, &[1; 512]).await;
            let expected = state(&disk);
            assert!(node.need_bitmap("fine").unwrap().bits().run_at(size - 1, size).0);
            disk.close().await;
            is_clean(&path);
            let disk = Disk::open(&path).await;
            assert_eq!(state(&disk), expected);
            disk.close().await;
        }
        let disk = Disk::open(&path).await;
        let fine = disk.backend.node().need_bitmap("fine").unwrap();
        let (k60, k70, end) = (60 << 10, 70 << 10, 2 << 20);
        let runs = [(k60, k60 + 512), (k70 - 512, k70), (end - 512, end)];
        assert_eq!(fine.bits().runs().collect::<Vec<_>>(), runs, "what was cut off is forgotten");
        disk.close().await;
    });
}

#[test]
fn bitmaps_follow_a_size_that_is_changed_above_them_and_one_that_can_not_keeps_the_disk_as_it_is() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 1 << 20, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        let node = disk.backend.node();
        let fine = node.add_bitmap(NewBitmap { granularity: Some(512), ..new("fine") }).unwrap();
        let options = Options::new().with_str("driver", "compress").with_str("file", node.name());
        let filter = disk.graph.open_with(options, Common::default(), Policy::FOLLOW).await.unwrap();
        let above = filter.add_bitmap(NewBitmap { persistent: false, ..new("above") }).unwrap();
        let made = block::NewSnapshot { name: "s".to_owned(), ..Default::default() };
        disk.graph.create_snapshot(&node, made, |_| Ok(())).await.unwrap();
        node.remove_bitmap(&fine).await.unwrap();
        let which = block::SnapshotName::Named("s".to_owned());
        let refused = disk.graph.apply_snapshot(&node, &which).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy, "a bitmap above would miss what changes");
        let fine = node.add_bitmap(NewBitmap { granularity: Some(512), ..new("fine") }).unwrap();
        disk.graph.resize(&node, 2 << 20, api::PreallocMode::Off).await.unwrap();
        assert_eq!((fine.bits().length(), above.bits().length()), (2 << 20, 2 << 20));
        disk.graph.resize(&filter, 4 << 20, api::PreallocMode::Off).await.unwrap();
        assert_eq!((fine.bits().length(), above.bits().length()), (4 << 20, 4 << 20));
        disk.write((4 << 20) - 512, &[1; 512]).await;
        assert_eq!(fine.bits().runs().collect::<Vec<_>>(), [((4 << 20) - 512, 4 << 20)]);
        for node in [&filter, &node] {
            let refused = disk.graph.resize(node, 40 << 40, api::PreallocMode::Off).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Limit);
            assert_eq!((node.length(), fine.bits().length()), (4 << 20, 4 << 20));
        }
        disk.graph.release(&filter).await.unwrap();
        disk.close().await;
        let disk = Disk::open(&path).await;
        assert!(state(&disk).iter().all(|(_, _, is_consistent, ..)| *is_consistent));
        disk.close().await;
    });
    is_clean(&path);
}

#[test]
fn what_a_bitmap_says_of_itself_and_is_not_known_here_is_kept_and_never_used() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 1 << 20, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        for name in ["known", "strange"] {
            disk.backend.node().add_bitmap(new(name)).unwrap();
        }
        disk.close().await;
    });
    let good = std::fs::read(&path).unwrap();
    let directory = header(&path).unwrap().bitmaps().unwrap().directory_offset as usize;
    // The newest is stored first.
    for (what, at, bytes, marked) in [
        ("another type", 16, &[7][..], true),
        ("other flags", 14, &[1], true),
        ("a granularity of a TiB", 17, &[40], true),
        ("a table too long", 11, &[2], true),
        ("a table beyond the end", 2, &[1], true),
        ("extra data, recording", 8, &[0, 0, 0, 1, 0, 0, 0, 2, 1, 16, 0, 3, 0, 0, 0, 4], true),
        ("extra data, not recording", 8, &[0, 0, 0, 1, 0, 0, 0, 0, 1, 16, 0, 3, 0, 0, 0, 4], false),
    ] {
        let mut image = good.clone();
        image[directory + at..directory + at + bytes.len()].copy_from_slice(bytes);
        std::fs::write(&path, &image).unwrap();
        rt::block_on_control(async {
            // Others may have a use for it, as long as it misses nothing.
            Disk::open(&path).await.close().await;
            assert!(std::fs::read(&path).unwrap() == image, "{what}");
            let disk = Disk::open(&path).await;
            let usable: Vec<_> = state(&disk).into_iter().map(|(_, _, usable, ..)| usable).collect();
            assert_eq!(usable, [false, true], "{what}");
            disk.write(0, &[1; 512]).await;
            disk.close().await;
        });
        assert_eq!(in_use(&path), [marked, false], "{what}");
        // Stored anew, it says what it said.
        let stored = std::fs::read(&path).unwrap();
        let at = header(&path).unwrap().bitmaps().unwrap().directory_offset as usize;
        let mut expected = image[directory..directory + 32].to_vec();
        expected[15] |= u8::from(marked);
        assert_eq!(stored[at..at + 32], expected, "{what}");
        rt::block_on_control(async {
            let disk = Disk::open(&path).await;
            let node = disk.backend.node();
            let strange = node.bitmaps().all()[0].clone();
            node.remove_bitmap(&strange).await.unwrap();
            disk.close().await;
        });
        assert_eq!(in_use(&path), [false], "{what}");
    }
}

#[test]
fn a_directory_that_claims_what_can_not_be_is_answered_soon() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 16 << 40, &[]).unwrap();
    let good = std::fs::read(&path).unwrap();
    let directory = good.len().next_multiple_of(65536);
    let entry = |table: u64, entries: u32, granularity: u8, name: u32| {
        let mut entry = table.to_be_bytes().to_vec();
        entry.extend(entries.to_be_bytes());
        entry.extend([0, 0, 0, 2, 1, granularity, 0, 8, 0, 0, 0, 0]);
        entry.extend(format!("{name:08}").bytes());
        entry
    };
    let whole = directory as u64;
    for (what, count, table, entries, granularity) in [
        ("a directory that is its own table", 65535, whole, 512, 16),
        ("the coarsest granularity", 65535, 0, 1, 31),
        ("the finest granularity, tables in one place", 65535, whole, 65536, 9),
        ("tables beyond the end", 65535, 1 << 50, 512, 16),
        ("tables that are too long", 65535, whole, 0x0800_0000, 16),
    ] {
        let mut image = good.clone();
        image.resize(directory, 0);
        (0..count).for_each(|name| image.extend(entry(table, entries, granularity, name)));
        let directory_size = (image.len() - directory) as u64;
        let extension = BitmapsExtension { count, directory_size, directory_offset: whole };
        image[112..116].copy_from_slice(&BITMAPS.to_be_bytes());
        image[116..120].copy_from_slice(&24u32.to_be_bytes());
        image[120..144].copy_from_slice(&extension.encode());
        image[144..600].fill(0);
        image[95] = 1;
        image.resize(image.len().next_multiple_of(65536) + (1 << 20), 0xff);
        std::fs::write(&path, &image).unwrap();
        rt::block_on_control(async {
            let disk = Disk::try_open(&path, Common { read_only: true, ..Common::default() }).await.unwrap();
            let node = disk.backend.node();
            assert_eq!(node.bitmaps().all().len(), count as usize, "{what}");
            disk.read(0, 4096).await;
            disk.close().await;
            // Whatever they claim, they are all marked and stored again.
            Disk::open(&path).await.close().await;
        });
    }
}

#[test]
fn a_bitmap_that_is_removed_while_the_first_write_comes_keeps_neither_from_its_end() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    for (lazy, features) in [("off", 0), ("on", 0), ("off", 1u8 << 5)] {
        create(&path, 4 << 20, &[("lazy_refcounts", lazy)]).unwrap();
        rt::block_on_control(async {
            let disk = Disk::open(&path).await;
            ["b0", "b1"]
                .into_iter()
                .for_each(|name| drop(disk.backend.node().add_bitmap(new(name)).unwrap()));
            disk.close().await;
        });
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[95] |= features;
        std::fs::write(&path, bytes).unwrap();
        rt::block_on_control(async {
            let disk = Disk::open(&path).await;
            let node = disk.backend.node();
            let bitmap = node.need_bitmap("b0").unwrap();
            let (removed, ()) =
                futures_util::future::join(node.remove_bitmap(&bitmap), disk.write(1 << 20, &[7; 3000]))
                    .await;
            removed.unwrap();
            assert_eq!(in_use(&path), [true]);
            assert_eq!(header(&path).unwrap().is_dirty(), lazy == "on");
            assert_eq!(header(&path).unwrap().autoclear, 1, "what is unknown is out of date from then on");
            disk.close().await;
        });
        assert_eq!(in_use(&path), [false]);
        is_clean(&path);
    }
}

#[test]
fn a_bitmap_that_is_added_and_nothing_else_makes_unknown_features_out_of_date_too() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 4 << 20, &[]).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[95] |= 1 << 5;
    std::fs::write(&path, bytes).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.backend.node().add_bitmap(new("b0")).unwrap();
        disk.close().await;
    });
    assert_eq!(header(&path).unwrap().autoclear, 1);
    is_clean(&path);
}

#[test]
fn a_bitmap_that_was_cleared_is_not_stored_where_the_data_could_not_be() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    // A table is one sector, which is written as it is before a first change only where it is all zeroes.
    create(&path, 4 << 20, &[("cluster_size", "512")]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.backend.node().add_bitmap(new("b0")).unwrap();
        disk.write(0, &[1; 512]).await;
        disk.close().await;
    });
    let bytes = std::fs::read(&path).unwrap();
    let l1 = header(&path).unwrap().l1_offset as usize;
    let table = be64(&bytes, l1).unwrap() & crate::qcow2::header::OFFSET_MASK;
    rt::block_on_control(async {
        let file = Options::new().with_str("driver", "file").with_str("filename", path.to_str().unwrap());
        let fault = Options::new()
            .with_str("event", "none")
            .with("sector", block::Opt::Uint(table / 512))
            .with_str("iotype", "write")
            .with("errno", block::Opt::Uint(28));
        let faulty = Options::new()
            .with_str("driver", "blkdebug")
            .with("image", block::Opt::Dict(file))
            .with("inject-error", block::Opt::List(vec![block::Opt::Dict(fault)]));
        let options = Options::new().with("file", block::Opt::Dict(faulty));
        let disk = Disk::open_with(&path, Common::default(), options).await.unwrap();
        disk.write(16 << 10, &[2; 512]).await;
        let node = disk.backend.node();
        node.clear_bitmap(&node.need_bitmap("b0").unwrap()).unwrap();
        let closed = disk.graph.detach(&disk.backend).await;
        assert_eq!(closed.unwrap_err().kind(), ErrorKind::NoSpace);
    });
    assert_eq!(in_use(&path), [true], "it misses what is not on disk");
}

#[test]
fn bits_that_many_entries_find_in_one_cluster_are_loaded_up_to_a_bound() {
    const CLUSTER: u64 = 2 << 20;
    for (entries, usable) in [(4, true), (40, false)] {
        let scratch = Scratch::new();
        let path = scratch.path("image");
        // A cluster of bits is about 8 GiB of the disk.
        create(&path, entries * CLUSTER * 8 * 512, &[("cluster_size", "2M")]).unwrap();
        rt::block_on_control(async {
            let disk = Disk::open(&path).await;
            disk.backend.node().add_bitmap(NewBitmap { granularity: Some(512), ..new("b0") }).unwrap();
            disk.write(0, &[1; 512]).await;
            disk.close().await;
        });
        let mut image = std::fs::read(&path).unwrap();
        let directory = header(&path).unwrap().bitmaps().unwrap().directory_offset as usize;
        let table = be64(&image, directory).unwrap() as usize;
        let bits = be64(&image, table).unwrap() as usize;
        image[bits..bits + CLUSTER as usize].fill(0xff);
        for entry in 0..entries as usize {
            image.copy_within(table..table + 8, table + entry * 8);
        }
        std::fs::write(&path, image).unwrap();
        rt::block_on_control(async {
            let disk = Disk::try_open(&path, Common { read_only: true, ..Common::default() }).await.unwrap();
            assert_eq!(state(&disk)[0].2, usable);
            disk.close().await;
        });
    }
}

/// The file of an image that lacks space for writes from these steps on: to this sector, or to all.
fn full(path: &Path, from: &[(&str, Option<u64>)]) -> Options {
    let rule = |(event, sector): &(&str, Option<u64>)| {
        let rule =
            Options::new().with_str("event", event).with_str("iotype", "write").with("errno", Opt::Uint(28));
        Opt::Dict(sector.map_or(rule.clone(), |sector| rule.with("sector", Opt::Uint(sector))))
    };
    let file = Options::new().with_str("driver", "file").with_str("filename", path.to_str().unwrap());
    let filter = Options::new()
        .with_str("driver", "blkdebug")
        .with("image", Opt::Dict(file))
        .with("inject-error", Opt::List(from.iter().map(rule).collect()));
    Options::new().with("file", Opt::Dict(filter))
}

#[test]
fn bitmaps_stay_in_use_where_data_that_they_may_call_unchanged_are_lost() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 64 << 20, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.backend.node().add_bitmap(new("b0")).unwrap();
        disk.close().await;

        // Mappings can't be written, while there is space for anything else.
        let options = full(&path, &[("l2_update", None), ("cluster_alloc", Some(1 << 40))]);
        let disk = Disk::open_with(&path, Common::default(), options).await.unwrap();
        let node = disk.backend.node();
        disk.write(1 << 20, &[2; 512]).await;
        // A backup has copied it.
        node.clear_bitmap(&node.need_bitmap("b0").unwrap()).unwrap();
        let failed = disk.graph.detach(&disk.backend).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::NoSpace);
        assert!(failed.message().contains("bitmaps"), "{failed}");
        assert_eq!(in_use(&path), [true]);
    });
}

#[test]
fn a_reopen_for_writing_that_fails_leaves_the_bitmaps_as_they_were() {
    let scratch = Scratch::new();
    let (path, corrupt) = (scratch.path("image"), scratch.path("corrupt"));
    create(&path, 4 << 20, &[]).unwrap();
    create(&corrupt, 4 << 20, &[]).unwrap();
    let mut bytes = std::fs::read(&corrupt).unwrap();
    bytes[79] |= 2;
    std::fs::write(&corrupt, bytes).unwrap();
    let read_only = || Common { read_only: true, ..Common::default() };
    let writable = |node: &Arc<Node>| {
        Options::new()
            .with_str("driver", "qcow2")
            .with_str("node-name", node.name())
            .with_str("file", node.primary().unwrap().name())
    };
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.backend.node().add_bitmap(new("b0")).unwrap();
        disk.write(0, &[1; 512]).await;
        disk.close().await;
        let before = std::fs::read(&path).unwrap();
        let directory = header(&path).unwrap().bitmaps().unwrap().directory_offset;

        // Another node of the same reopen can't be written to.
        let disk = Disk::try_open(&path, read_only()).await.unwrap();
        let expected = state(&disk);
        let options = disk.graph.image_options(corrupt.to_str().unwrap(), Some("qcow2")).unwrap();
        let other = disk.graph.open_with(options, read_only(), Policy::FOLLOW).await.unwrap();
        let node = disk.backend.node();
        assert!(disk.graph.reopen(vec![writable(&node), writable(&other)]).await.is_err());
        assert!(node.read_only() && std::fs::read(&path).unwrap() == before);
        disk.graph.release(&other).await.unwrap();
        disk.graph.reopen(vec![writable(&node)]).await.unwrap();
        assert_eq!(in_use(&path), [true]);
        disk.close().await;
        assert_eq!(in_use(&path), [false]);

        // The marks can't be written.
        let options = full(&path, &[("none", Some(directory / 512))]);
        let disk = Disk::open_with(&path, read_only(), options).await.unwrap();
        let node = disk.backend.node();
        let refused = disk.graph.reopen(vec![writable(&node)]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NoSpace);
        assert!(node.read_only());
        disk.close().await;
        assert!(std::fs::read(&path).unwrap() == before);
        let disk = Disk::open(&path).await;
        assert_eq!(state(&disk), expected);
        disk.close().await;
    });
    is_clean(&path);
}

#[test]
fn a_bitmap_that_a_later_open_could_not_load_is_not_made() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 2 << 40, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        let node = disk.backend.node();
        let fine = |name: &str| NewBitmap { granularity: Some(512), ..new(name) };
        ["b0", "b1"].iter().for_each(|name| drop(node.add_bitmap(fine(name)).unwrap()));
        let kind = |result: block::Result<Arc<NamedBitmap>>| result.err().map(|e| e.kind());
        assert_eq!(kind(node.add_bitmap(fine("more"))), Some(ErrorKind::Limit), "1 GiB together");
        assert_eq!(kind(node.add_bitmap(NewBitmap { persistent: false, ..fine("not kept") })), None);
        let larger = disk.graph.resize(&node, (2 << 40) + 512, api::PreallocMode::Off).await;
        assert_eq!(larger.unwrap_err().kind(), ErrorKind::Limit, "2^32 bits each");
        assert_eq!(node.length(), 2 << 40);
        disk.close().await;
        let disk = Disk::open(&path).await;
        assert!(state(&disk).iter().all(|(_, _, is_consistent, ..)| *is_consistent));
        disk.close().await;
    });
    is_clean(&path);
}

#[test]
fn a_bitmap_that_can_not_be_loaded_is_kept_until_changes_are_missing_in_it_and_that_is_told() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 16 << 40, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        for name in ["small", "off", "big"] {
            disk.backend.node().add_bitmap(new(name)).unwrap();
        }
        disk.close().await;
    });
    // The newest is stored first. Two get a bit for each sector.
    let directory = header(&path).unwrap().bitmaps().unwrap().directory_offset as usize;
    let mut image = std::fs::read(&path).unwrap();
    for (at, flags) in [(directory, 2), (directory + 32, 0)] {
        image[at + 8..at + 12].copy_from_slice(&65536u32.to_be_bytes());
        (image[at + 15], image[at + 17]) = (flags, 9);
    }
    image.resize(image.len() + (1 << 20), 0);
    std::fs::write(&path, &image).unwrap();
    let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let open = async || {
        let disk = Disk::open(&path).await;
        let told = told.clone();
        disk.graph.on_notice(move |notice| {
            if let block::Notice::Warning(text) = notice {
                told.lock().push(text.to_owned());
            }
        });
        disk
    };
    rt::block_on_control(async {
        let disk = open().await;
        let node = disk.backend.node();
        let usable =
            |disk: &Disk| state(disk).into_iter().map(|(_, _, usable, ..)| usable).collect::<Vec<_>>();
        assert_eq!(usable(&disk), [false, false, true]);
        assert_eq!(in_use(&path), [false, false, true]);
        // Others come and go.
        node.add_bitmap(new("more")).unwrap();
        node.remove_bitmap(&node.need_bitmap("small").unwrap()).await.unwrap();
        disk.close().await;
        assert_eq!((in_use(&path), told.lock().len()), (vec![false; 3], 0));
        let disk = open().await;
        disk.write(0, &[1; 512]).await;
        disk.write(1 << 20, &[1; 512]).await;
        let warned = std::mem::take(&mut *told.lock());
        assert!(
            warned.len() == 1 && warned[0].contains("'big'") && warned[0].contains("inconsistent"),
            "{warned:?}"
        );
        disk.close().await;
        assert_eq!(in_use(&path), [true, false, false]);
        let disk = open().await;
        assert_eq!(usable(&disk), [false, false, true]);
        disk.close().await;
    });
}

#[test]
fn an_amendment_that_is_refused_changes_nothing_of_the_bitmaps_either() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 1 << 20, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.backend.node().add_bitmap(new("b0")).unwrap();
        disk.write(0, &[1; 512]).await;
        disk.close().await;
        let before = std::fs::read(&path).unwrap();

        let disk = Disk::open(&path).await;
        let options = Options::new().with_str("compat", "0.10").with("size", Opt::Uint(2 << 20));
        disk.graph.amend(&disk.backend.node(), options, false, &|_, _| {}).await.unwrap_err();
        disk.close().await;
        assert!(std::fs::read(&path).unwrap() == before);
    });
}

#[test]
fn options_are_amended_beside_a_bitmap_that_can_not_be_used_but_the_size_is_not() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 1 << 20, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.backend.node().add_bitmap(new("b0")).unwrap();
        disk.close().await;
        let flags = header(&path).unwrap().bitmaps().unwrap().directory_offset + 15;
        patch(&path, flags, &[3]);
        assert_eq!(in_use(&path), [true]);

        let disk = Disk::open(&path).await;
        let node = disk.backend.node();
        let amend = async |options: Options| disk.graph.amend(&node, options, false, &|_, _| {}).await;
        amend(Options::new().with("refcount_bits", Opt::Uint(32))).await.unwrap();
        let refused = amend(Options::new().with("size", Opt::Uint(2 << 20))).await.unwrap_err();
        assert!(refused.to_string().contains("inconsistent"), "{refused}");
        disk.close().await;
    });
    assert_eq!(header(&path).unwrap().refcount_order, 5);
    assert_eq!(in_use(&path), [true]);
}
