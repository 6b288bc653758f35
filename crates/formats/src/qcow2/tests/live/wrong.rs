//! Images whose tables are wrong.
use super::*;
use crate::qcow2::header::COPIED;
use api::PreallocMode;
use block::{Damage, Notice};
use std::error::Error;

/// Opens the image and does one request on it; the error must name what is wrong.
async fn fails(path: &Path, read_only: bool, write: bool, words: &str) {
    let common = Common { read_only, ..Common::default() };
    let disk = Disk::try_open(path, common).await.unwrap();
    let error = if write {
        disk.backend.write(0, Buf::from_slice(&[1; 512]), Request::GUEST).await.expect_err(words)
    } else {
        disk.backend.read(0, BufMut::with_len(512)).await.1.unwrap_err()
    };
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    // The other clusters can still be read.
    let (content, result) = disk.backend.read(128 << 10, BufMut::with_len(512)).await;
    result.unwrap();
    assert_eq!(content[..], [3; 512]);
    let closed = disk.graph.detach(&disk.backend).await;
    assert_eq!(closed.is_ok(), read_only, "{closed:?}");
}

#[test]
fn whoever_hears_of_damage_is_told_once_and_of_no_offset_in_the_guest() {
    let scratch = Scratch::new();
    let Some(path) = peer_image(&scratch, "", "4M", &["write -P 1 0 128k"]) else { return };
    let l2 = word_at(&path, 0x3_0000) & !(1 << 63);
    patch(&path, l2 + 8, &u64::to_be_bytes((1 << 63) | 0x9_0200));
    rt::block_on_control(async {
        let disk = Disk::try_open(&path, Common::default()).await.unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        disk.graph.on_poison(move |_, error| tell.send((error.kind(), error.offset())).unwrap_or_default());
        for _ in 0..2 {
            let write = disk.backend.write(64 << 10, Buf::from_slice(&[1; 512]), Request::GUEST);
            let error = write.await.unwrap_err();
            assert!(error.offset().is_none_or(|offset| offset == 64 << 10), "{error}");
        }
        disk.graph.detach(&disk.backend).await.unwrap_err();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [(block::ErrorKind::Corrupt, None)]);
    });
}

#[test]
fn two_uses_of_one_cluster_are_told_with_its_place_in_the_file_and_of_an_image_that_is_only_read_too() {
    let scratch = Scratch::new();
    let Some(path) = peer_image(&scratch, "", "4M", &["write -P 1 0 128k"]) else { return };
    let l2 = word_at(&path, 0x3_0000) & !(1 << 63);
    // The entry leads to the L1 table.
    patch(&path, l2 + 8, &u64::to_be_bytes((1 << 63) | 0x3_0000));
    let place = Some(0x3_0000..0x4_0000);
    rt::block_on_control(async {
        let read_only = Common { read_only: true, ..Common::default() };
        let disk = Disk::try_open(&path, read_only).await.unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        disk.graph.on_notice(move |notice| {
            if let Notice::Damaged { damage, .. } = notice {
                tell.send(damage.bytes.clone()).unwrap_or_default();
            }
        });
        for _ in 0..2 {
            let (_, read) = disk.backend.read(64 << 10, BufMut::with_len(512)).await;
            assert!(read.unwrap_err().to_string().contains("active L1 table"));
        }
        assert_eq!(told.try_iter().collect::<Vec<_>>(), std::slice::from_ref(&place));
        disk.graph.detach(&disk.backend).await.unwrap();

        let disk = Disk::try_open(&path, Common::default()).await.unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        disk.graph.on_poison(move |_, error| {
            let damage = error.source().and_then(|cause| cause.downcast_ref::<Damage>());
            tell.send(damage.and_then(|damage| damage.bytes.clone())).unwrap_or_default();
        });
        for _ in 0..2 {
            disk.backend.write(64 << 10, Buf::from_slice(&[1; 512]), Request::GUEST).await.unwrap_err();
        }
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [place]);
        disk.graph.detach(&disk.backend).await.unwrap_err();
    });
}

#[test]
fn each_wrong_table_entry_is_an_error_that_names_it_and_marks_the_image_corrupt() {
    let l2_entries: [(u64, &str); 8] = [
        (1 << 63, "header"),
        (1 << 63 | 0x9_0200, "not aligned"),
        (1 << 63 | 0x4000_0000, "beyond the end"),
        (1 << 63 | 0x3_0000, "active L1 table"),
        (1 << 63 | 0x1_0000, "refcount table"),
        (1 << 63 | 0x4_0000, "active L2 table"),
        (1 << 58 | 0x5_0000, "reserved bits"),
        (1 << 63 | 1 << 62 | 0x5_0000, "compressed"),
    ];
    for (entry, words) in l2_entries {
        for write in [false, true] {
            let scratch = Scratch::new();
            let writes = ["write -P 1 0 64k", "write -P 3 128k 64k"];
            let Some(path) = peer_image(&scratch, "", "4M", &writes) else { return };
            let l2 = word_at(&path, 0x3_0000) & !(1 << 63);
            patch(&path, l2, &u64::to_be_bytes(entry));
            rt::block_on_control(async {
                // Reading an L2 table as data does no harm, so only a writable image looks for it.
                let harmless = words == "active L2 table";
                if !write && !harmless {
                    fails(&path, true, false, words).await;
                    assert!(!header(&path).unwrap().is_corrupt());
                }
                fails(&path, false, write, words).await;
                assert!(header(&path).unwrap().is_corrupt(), "{words}");
                // Marked: no more writers, readers still.
                let refused = Disk::try_open(&path, Common::default()).await.map(drop).unwrap_err();
                assert!(refused.to_string().contains("corrupt"), "{refused}");
                if !harmless {
                    fails(&path, true, false, words).await;
                }
            });
        }
    }
}

#[test]
fn each_wrong_l1_entry_is_an_error_that_names_it() {
    let entries: [(u64, &str); 6] = [
        (1 << 63, "header"),
        (1 << 63 | 0x9_0200, "not aligned"),
        (1 << 63 | 0x4000_0000, "beyond the end"),
        (1 << 63 | 0x3_0000, "active L1 table"),
        (1 << 63 | 0x1_0000, "refcount table"),
        (1 << 57 | 0x4_0000, "reserved bits"),
    ];
    for (entry, words) in entries {
        let scratch = Scratch::new();
        let Some(path) = peer_image(&scratch, "", "4M", &["write 0 64k"]) else { return };
        patch(&path, 0x3_0000, &u64::to_be_bytes(entry));
        rt::block_on_control(async {
            for (read_only, write) in [(true, false), (false, true)] {
                let disk = Disk::try_open(&path, Common { read_only, ..Common::default() }).await.unwrap();
                let error = if write {
                    disk.backend.write(0, Buf::from_slice(&[1; 512]), Request::GUEST).await.unwrap_err()
                } else {
                    disk.backend.read(0, BufMut::with_len(512)).await.1.unwrap_err()
                };
                assert!(error.to_string().contains(words), "{error}");
                assert_eq!(disk.graph.detach(&disk.backend).await.is_ok(), read_only);
            }
            assert!(header(&path).unwrap().is_corrupt());
        });
    }
}

#[test]
fn clusters_that_wrong_refcounts_call_free_are_not_overwritten_when_they_hold_metadata() {
    let scratch = Scratch::new();
    let Some(path) = peer_image(&scratch, "", "4M", &["write -P 1 0 64k"]) else { return };
    let before = std::fs::read(&path).unwrap();
    // Counts of header, refcount table, refcount block, L1 and L2: every one of them in turn.
    for cluster in 0..5 {
        std::fs::write(&path, &before).unwrap();
        patch(&path, 0x2_0000 + cluster * 2, &[0, 0]);
        rt::block_on_control(async {
            let disk = Disk::try_open(&path, Common::default()).await.unwrap();
            let data = Buf::from_slice(&[1; 512]);
            let error = disk.backend.write(1 << 20, data, Request::GUEST).await.unwrap_err();
            assert!(error.to_string().contains("free that overlap the"), "{error}");
            disk.graph.detach(&disk.backend).await.unwrap_err();
        });
        let after = std::fs::read(&path).unwrap();
        let same = (80..after.len()).filter(|at| before[*at] != after[*at]).collect::<Vec<_>>();
        assert_eq!(same, [(0x2_0000 + cluster * 2 + 1) as usize], "only the count that was patched differs");
    }
}

#[test]
fn a_check_that_is_turned_off_refuses_nothing() {
    let parts = |template: &str, part: &str, on: &str| {
        let parts = Options::new().with_str("template", template).with_str(part, on);
        Options::new().with("overlap-check", block::Opt::Dict(parts))
    };
    let scratch = Scratch::new();
    let Some(path) = peer_image(&scratch, "", "4M", &["write -P 1 0 64k"]) else { return };
    let before = std::fs::read(&path).unwrap();
    // The count of the L2 table is lost: whoever does not look for it gives its cluster away.
    let l2 = 4;
    for (options, refused) in [
        (Options::new(), true),
        (parts("all", "active-l2", "off"), false),
        (parts("none", "active-l2", "on"), true),
        (parts("constant", "refcount-block", "on"), false),
        (Options::new().with_str("overlap-check", "none"), false),
        (Options::new().with_str("overlap-check", "cached"), true),
    ] {
        std::fs::write(&path, &before).unwrap();
        patch(&path, 0x2_0000 + l2 * 2, &[0, 0]);
        rt::block_on_control(async {
            let disk = Disk::open_with(&path, Common::default(), options.clone()).await.unwrap();
            let data = Buf::from_slice(&[9; 512]);
            let written = disk.backend.write(1 << 20, data, Request::GUEST).await;
            assert_eq!(written.is_err(), refused, "{options:?}: {written:?}");
            let _closed = disk.graph.detach(&disk.backend).await;
        });
    }
}

#[test]
fn two_names_of_one_metadata_cluster_are_found_before_either_is_written() {
    let writes = ["write -P 1 0 64k", "write -P 2 512M 64k", "write -P 3 128k 64k"];
    // The L2 table of the second half is that of the first, or the refcount block.
    for (table, words) in [(0x4_0000u64, "active L2 table"), (0x2_0000, "refcount block")] {
        let scratch = Scratch::new();
        let Some(path) = peer_image(&scratch, "", "1G", &writes) else { return };
        assert_eq!(word_at(&path, 0x3_0000), 1 << 63 | 0x4_0000);
        patch(&path, 0x3_0008, &(1 << 63 | table).to_be_bytes());
        rt::block_on_control(async {
            let disk = Disk::open(&path).await;
            let before = std::fs::read(&path).unwrap();
            let flags = Request::GUEST;
            let error = disk.backend.write_zeroes((512 << 20) + (1 << 20), 65536, flags).await.unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            disk.graph.detach(&disk.backend).await.unwrap_err();
            let after = std::fs::read(&path).unwrap();
            assert!(before[table as usize..][..65536] == after[table as usize..][..65536]);
        });
        assert!(header(&path).unwrap().is_corrupt());
        if words != "active L2 table" {
            continue;
        }
        // Counted twice, and called so, it is like any table that is shared: copied before it changes.
        assert_eq!(peer("qemu-img", &["check", "-r", "all", path.to_str().unwrap()]).unwrap().0, 0);
        rt::block_on_control(async {
            let disk = Disk::open(&path).await;
            disk.write((512 << 20) + (1 << 20), &[7; 65536]).await;
            disk.write(1 << 20, &[8; 65536]).await;
            disk.backend.flush().await.unwrap();
            assert_eq!(disk.read((512 << 20) + (1 << 20), 65536).await[..], [7; 65536]);
            assert_eq!(disk.read(0, 512).await[..], [1; 512]);
            disk.close().await;
        });
        checked_by_peer(&path);
    }
}

#[test]
fn tables_of_the_header_that_overlap_are_found_before_the_first_write() {
    let scratch = Scratch::new();
    let Some(path) = peer_image(&scratch, "", "4M", &["write -P 1 0 64k"]) else { return };
    // The L1 table is where the refcount table is.
    patch(&path, 40, &0x1_0000u64.to_be_bytes());
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        let flags = Request::GUEST;
        let error = disk.backend.write_zeroes(0, 65536, flags).await.unwrap_err();
        assert!(error.to_string().contains("refcount table"), "{error}");
        disk.graph.detach(&disk.backend).await.unwrap_err();
    });
    assert!(header(&path).unwrap().is_corrupt());
}

#[test]
fn a_cluster_in_use_that_the_refcounts_call_free_is_read_but_never_written_in_place() {
    let scratch = Scratch::new();
    let Some(path) = peer_image(&scratch, "", "4M", &["write -P 1 0 64k", "write -P 3 128k 64k"]) else {
        return;
    };
    patch(&path, 0x2_0000 + 5 * 2, &[0, 0]);
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        assert_eq!(disk.read(0, 512).await[..], [1; 512]);
        let flags = Request::GUEST;
        let error = disk.backend.write(0, Buf::from_slice(&[9; 512]), flags).await.unwrap_err();
        assert!(error.to_string().contains("call the cluster free"), "{error}");
        assert_eq!(disk.read(0, 512).await[..], [1; 512]);
        disk.graph.detach(&disk.backend).await.unwrap_err();
    });
}

#[test]
fn a_snapshots_table_is_never_written_where_the_check_for_it_is_asked_for() {
    let dict = |name: &str| {
        Options::new().with("overlap-check", block::Opt::Dict(Options::new().with_str(name, "on")))
    };
    let all = || Options::new().with_str("overlap-check", "all");
    for options in [all(), dict("inactive-l2")] {
        let scratch = Scratch::new();
        let Some(path) = peer_image(&scratch, "", "4M", &["write -P 1 0 64k"]) else { return };
        let name = path.to_str().unwrap().to_owned();
        let before = word_at(&path, 0x3_0000);
        assert_eq!(peer("qemu-img", &["snapshot", "-c", "one", &name]).unwrap().0, 0);
        assert_eq!(peer("qemu-io", &["-c", "write -P 2 0 64k", &name]).unwrap().0, 0);
        let table = (before & !COPIED) as usize;
        rt::block_on_control(async {
            // A table that both share is no fault: it is copied before it is changed.
            let disk = Disk::open_with(&path, Common::default(), options.clone()).await.unwrap();
            disk.write(0, &[5; 512]).await;
            disk.close().await;
            patch(&path, 0x3_0000, &before.to_be_bytes());
            let kept = std::fs::read(&path).unwrap()[table..table + 0x1_0000].to_vec();
            let disk = Disk::open_with(&path, Common::default(), options.clone()).await.unwrap();
            let written = disk.backend.write(1 << 20, Buf::from_slice(&[7; 512]), Request::GUEST).await;
            let error = written.expect_err("the snapshot's table would change");
            assert!(error.to_string().contains("inactive L2 table"), "{error}");
            let _ = disk.graph.detach(&disk.backend).await;
            assert!(header(&path).unwrap().is_corrupt());
            assert_eq!(std::fs::read(&path).unwrap()[table..table + 0x1_0000], kept);
        });
    }
}

#[test]
fn an_entry_that_leads_nowhere_goes_when_its_cluster_is_cleared_and_what_it_names_is_left_alone() {
    let nowhere: [u64; 4] = [
        1 << 63 | 0x5_2a00,
        1 << 63 | 0x4000_0000,
        1 << 63 | 1 << 56 | 0x5_0000,
        1 << 63 | 1 << 62 | 0x5_0000,
    ];
    let somewhere: [u64; 3] = [1 << 63 | 0x2_0000, 1 << 63 | 0x3_0000, 1 << 63 | 0x4_0000];
    for entry in nowhere.into_iter().chain(somewhere) {
        for kind in 0..3 {
            let scratch = Scratch::new();
            let writes = ["write -P 1 0 64k", "write -P 3 128k 64k", "write -P 4 64k 64k"];
            let Some(path) = peer_image(&scratch, "", "4M", &writes) else { return };
            patch(&path, 0x4_0000, &entry.to_be_bytes());
            let clear = rt::block_on_control(async {
                let disk = Disk::open(&path).await;
                let flags = Request::GUEST.with_if(kind == 1, Flags::MAY_UNMAP);
                // The neighbours are cleared with it.
                let clear = match kind {
                    0 => disk.backend.discard(0, 128 << 10, Request::GUEST).await,
                    _ => disk.backend.write_zeroes(0, 128 << 10, flags).await,
                };
                if clear.is_ok() {
                    assert_eq!(disk.read(0, 128 << 10).await[..], [0; 128 << 10], "{entry:#x}");
                    disk.write(256 << 10, &[5; 512]).await;
                    assert_eq!(disk.read(128 << 10, 512).await[..], [3; 512]);
                }
                let closed = disk.graph.detach(&disk.backend).await;
                assert_eq!(closed.is_ok(), clear.is_ok(), "{entry:#x}: {closed:?}");
                clear
            });
            // What leads into metadata means that metadata may be overwritten: no more writes.
            assert_eq!(clear.is_ok(), nowhere.contains(&entry), "{entry:#x} {kind}: {clear:?}");
            assert_eq!(header(&path).unwrap().is_corrupt(), clear.is_err(), "{entry:#x}");
            if clear.is_ok() {
                let (code, text) = peer("qemu-img", &["check", path.to_str().unwrap()]).unwrap();
                assert!(matches!(code, 0 | 3), "only the cluster is leaked: {entry:#x} {kind}: {text}");
            }
        }
    }
}

#[test]
fn a_disk_shrinks_although_a_refcount_block_of_nothing_is_out_of_reach() {
    for (options, entry) in
        [("", 0x00ff_ffff_0000_0000u64), ("refcount_bits=1", 0x10_0000_0000), ("", 0x2_2a00)]
    {
        let scratch = Scratch::new();
        let Some(path) = peer_image(&scratch, options, "64M", &["write -P 1 0 64k", "write 40M 64k"]) else {
            return;
        };
        patch(&path, 0x1_0008, &entry.to_be_bytes());
        rt::block_on_control(async {
            let disk = Disk::open(&path).await;
            disk.graph.resize(&disk.backend.node(), 32 << 20, PreallocMode::Off).await.unwrap();
            assert_eq!(disk.read(0, 512).await[..], [1; 512]);
            disk.close().await;
        });
        assert_eq!(header(&path).unwrap().size, 32 << 20);
        assert!(!header(&path).unwrap().is_corrupt());
        rt::block_on_control(async {
            let disk = Disk::open(&path).await;
            let report =
                disk.backend.node().driver().checker().unwrap().check(block::Repair::All).await.unwrap();
            assert_eq!((report.corruptions, report.leaks), (0, 0), "{entry:#x}: {report:?}");
            disk.close().await;
        });
        checked_by_peer(&path);
    }
}
