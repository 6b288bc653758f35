//! What an image is opened as, and what it turns into.
use super::*;

#[test]
fn an_image_that_was_left_dirty_is_repaired_when_it_is_opened_for_writing() {
    let scratch = Scratch::new();
    let Some(path) = peer_image(&scratch, "lazy_refcounts=on", "4M", &["write -P 1 0 64k"]) else { return };
    // As lazy refcounts leave an image: dirty, the data cluster not counted.
    patch(&path, 79, &[1]);
    patch(&path, 0x2_0000 + 5 * 2, &[0, 0]);
    rt::block_on_control(async {
        let disk = Disk::try_open(&path, Common { read_only: true, ..Common::default() }).await.unwrap();
        assert_eq!(disk.read(0, 512).await[..], [1; 512]);
        disk.close().await;
        assert!(header(&path).unwrap().is_dirty());
        let disk = Disk::open(&path).await;
        disk.write(1 << 20, &[2; 512]).await;
        assert_eq!(disk.read(0, 512).await[..], [1; 512]);
        disk.close().await;
    });
    assert!(!header(&path).unwrap().is_dirty());
    checked_by_peer(&path);
}

#[test]
fn a_node_turns_read_only_and_writable_again_in_place() {
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    create(&path, 4 << 20, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        for round in 1..4u8 {
            disk.write(u64::from(round) << 18, &[round; 4096]).await;
            disk.backend.discard(0, 1 << 18, Request::GUEST).await.unwrap();
            // A writer may not be there while the node is read-only.
            disk.graph.set_perms(&disk.backend, Perms::READER).await.unwrap();
            disk.graph.set_writable(&disk.backend.node(), false).await.unwrap();
            checked_by_peer(&path);
            let (data, flags) = (Buf::from_slice(&[9; 512]), Request::GUEST);
            disk.backend.write(0, data, flags).await.unwrap_err();
            assert_eq!(disk.read(u64::from(round) << 18, 4096).await[..], [round; 4096]);
            disk.graph.set_writable(&disk.backend.node(), true).await.unwrap();
            disk.write(0, &[round; 70_000]).await;
        }
        disk.close().await;
    });
    checked_by_peer(&path);
}

/// Where the file holds a guest offset's byte.
async fn host(disk: &Disk, offset: u64) -> Option<u64> {
    disk.backend.status(offset, 512).await.unwrap().host.map(|(_, at)| at)
}

#[test]
fn a_cluster_freed_by_a_trim_is_not_reused_before_its_unmapping_is_durable() {
    const CLUSTER: u64 = 65536;
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    create(&path, 16 << 20, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.write(0, &[1; 512]).await;
        let freed = host(&disk, 0).await.unwrap();
        disk.backend.flush().await.unwrap();
        disk.backend.discard(0, CLUSTER, Request::GUEST).await.unwrap();
        for at in 1..5 {
            disk.write(at * CLUSTER, &[2; 512]).await;
            assert_ne!(host(&disk, at * CLUSTER).await, Some(freed));
        }
        disk.backend.flush().await.unwrap();
        // Durable now, and once the requests of then have ended it is used again.
        let mut reused = false;
        for at in 5..200 {
            rt::yield_now().await;
            disk.write(at * CLUSTER, &[3; 512]).await;
            reused |= host(&disk, at * CLUSTER).await == Some(freed);
        }
        assert!(reused);
        disk.close().await;
    });
    checked_by_peer(&path);
}

#[test]
fn a_write_and_zeroes_at_once_on_one_cluster_end_in_one_reference_each() {
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    create(&path, 16 << 20, &[("cluster_size", "4096")]).unwrap();
    rt::block_on_control(async {
        for round in 0..30u64 {
            let disk = Disk::open(&path).await;
            let mut tasks = Vec::new();
            for i in 0..32u64 {
                let (backend, at) = (disk.backend.clone(), (i / 4 + round * 7) * 4096);
                tasks.push(rt::spawn(async move {
                    match i % 4 {
                        0 => backend.write(at, Buf::from_slice(&[1; 512]), Request::GUEST).await,
                        1 => backend.write_zeroes(at, 4096, Request::GUEST).await,
                        2 => backend.write(at + 1024, Buf::from_slice(&[2; 2048]), Request::GUEST).await,
                        _ => backend.discard(at, 4096, Request::GUEST).await,
                    }
                }));
            }
            for task in tasks {
                task.await.unwrap().unwrap();
            }
            disk.close().await;
            checked_by_peer(&path);
        }
    });
}

#[test]
fn a_failed_change_of_the_backing_link_changes_nothing_and_a_good_one_is_seen_by_the_peer() {
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    create(&path, 1 << 20, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.write(0, &[7; 4096]).await;
        let node = disk.backend.node();
        let long = block::Link { filename: Some("x".repeat(2000)), format: None };
        node.driver().set_backing_link(long).await.unwrap_err();
        assert_eq!(header(&path).unwrap().backing_name, None);
        let link = block::Link { filename: Some("base.raw".to_owned()), format: Some("raw".to_owned()) };
        node.driver().set_backing_link(link).await.unwrap();
        assert_eq!(node.driver().info().backing_filename.as_deref(), Some("base.raw"));
        // What was written before is durable with the header, though nobody flushed.
        assert_eq!(word_at(&path, header(&path).unwrap().l1_offset) >> 63, 1);
        disk.write(1 << 19, &[8; 4096]).await;
        disk.close().await;
    });
    assert_eq!(header(&path).unwrap().backing_format().as_deref(), Some("raw"));
    std::fs::write(scratch.path("base.raw"), vec![5; 1 << 20]).unwrap();
    checked_by_peer(&path);
}

#[test]
fn lazy_refcounts_are_late_under_the_dirty_bit_and_right_after_a_clean_close() {
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    create(&path, 4 << 20, &[("lazy_refcounts", "on")]).unwrap();
    let killed = scratch.path("killed.qcow2");
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        assert!(!header(&path).unwrap().is_dirty(), "nothing is written yet");
        disk.write(0, &[7; 70_000]).await;
        disk.backend.flush().await.unwrap();
        assert!(header(&path).unwrap().is_dirty());
        std::fs::copy(&path, &killed).unwrap();
        // Read-only again: what is on disk is whole.
        disk.graph.set_perms(&disk.backend, Perms::READER).await.unwrap();
        disk.graph.set_writable(&disk.backend.node(), false).await.unwrap();
        assert!(!header(&path).unwrap().is_dirty());
        checked_by_peer(&path);
        disk.graph.set_writable(&disk.backend.node(), true).await.unwrap();
        disk.write(1 << 20, &[8; 512]).await;
        assert!(header(&path).unwrap().is_dirty());
        disk.close().await;
        assert!(!header(&path).unwrap().is_dirty());
        checked_by_peer(&path);

        // As a kill leaves it: counts behind, repaired by whoever writes next, us or the peer.
        let theirs = scratch.path("theirs.qcow2");
        std::fs::copy(&killed, &theirs).unwrap();
        let disk = Disk::open(&killed).await;
        assert!(!header(&killed).unwrap().is_dirty());
        assert_eq!(disk.read(69_000, 1000).await[..], [7; 1000]);
        disk.close().await;
        checked_by_peer(&killed);
        let name = theirs.to_str().unwrap();
        if let Some((code, text)) = peer("qemu-io", &["-c", "read -P 7 0 70000", "-c", "write 2M 1M", name]) {
            assert_eq!(code, 0, "{text}");
            checked_by_peer(&theirs);
        }
    });
}

#[test]
fn lazy_refcounts_stay_under_the_dirty_bit_when_the_first_change_is_to_delete_a_snapshot() {
    let scratch = Scratch::new();
    let (path, killed) = (scratch.path("image.qcow2"), scratch.path("killed.qcow2"));
    create(&path, 4 << 20, &[("lazy_refcounts", "on")]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.write(0, &[7; 70_000]).await;
        let new = block::NewSnapshot { name: "s".to_owned(), ..Default::default() };
        disk.graph.create_snapshot(&disk.backend.node(), new, |_| Ok(())).await.unwrap();
        disk.close().await;

        let disk = Disk::open(&path).await;
        let which = block::SnapshotName::Named("s".to_owned());
        assert!(disk.graph.delete_snapshot(&disk.backend.node(), &which).await.unwrap().is_some());
        disk.write(1 << 20, &[8; 200_000]).await;
        disk.backend.flush().await.unwrap();
        assert!(header(&path).unwrap().is_dirty(), "counts are late");
        std::fs::copy(&path, &killed).unwrap();
        disk.close().await;
        assert!(!header(&path).unwrap().is_dirty());
        checked_by_peer(&path);
        let disk = Disk::open(&killed).await;
        assert_eq!(disk.read(1 << 20, 200_000).await[..], [8; 200_000]);
        disk.close().await;
        checked_by_peer(&killed);
    });
}

#[test]
fn a_discard_gives_a_preallocated_zero_cluster_back_and_discard_no_unref_keeps_every_cluster() {
    const CLUSTER: u64 = 65536;
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    for keep in [false, true] {
        create(&path, 4 << 20, &[]).unwrap();
        rt::block_on_control(async {
            let own = Options::new().with_str("discard-no-unref", if keep { "on" } else { "off" });
            let common = Common { discard: Discard::Unmap, ..Common::default() };
            let disk = Disk::open_with(&path, common, own).await.unwrap();
            let zero = |unmap| Request::GUEST.with_if(unmap, Flags::MAY_UNMAP);
            disk.write(0, &[1; 3 * CLUSTER as usize]).await;
            disk.backend.write_zeroes(0, CLUSTER, zero(false)).await.unwrap();
            assert!(host(&disk, 0).await.is_some(), "zeroes that may not unmap keep their cluster");
            disk.backend.discard(0, 2 * CLUSTER, Request::GUEST).await.unwrap();
            disk.backend.write_zeroes(2 * CLUSTER, CLUSTER, zero(true)).await.unwrap();
            for cluster in 0..3 {
                assert_eq!(host(&disk, cluster * CLUSTER).await.is_some(), keep, "{cluster}");
            }
            assert!(disk.read(0, 3 * CLUSTER as usize).await.iter().all(|b| *b == 0));
            disk.close().await;
        });
        checked_by_peer(&path);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_cluster_given_up_is_used_again_while_the_file_grows_and_nobody_flushes() {
    const MIB: u64 = 1 << 20;
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 64 * MIB, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.write(0, &vec![1; MIB as usize]).await;
        // Little enough to wait for a flush as far as its own size goes.
        disk.backend.discard(0, MIB, Request::GUEST).await.unwrap();
        for at in 1..16 {
            disk.write(at * MIB, &vec![2; MIB as usize]).await;
        }
        // The epoch goes on beside the guest, and gets time enough.
        let mut reused = false;
        for at in (16 * MIB..64 * MIB).step_by(65536) {
            disk.write(at, &vec![3; 65536]).await;
            let host = disk.backend.status(at, 65536).await.unwrap().host;
            reused = host.is_some_and(|(_, offset)| offset < MIB);
            if reused {
                break;
            }
            rt::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(reused, "the first MiB of the file was never used again");
        disk.close().await;
    });
}

#[test]
fn an_open_that_is_refused_has_written_nothing() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 4 << 20, &[("lazy_refcounts", "on")]).unwrap();
    let bitmap =
        block::NewBitmap { name: "b0".to_owned(), granularity: None, persistent: true, enabled: true };
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.backend.node().add_bitmap(bitmap).unwrap();
        disk.close().await;
        let before = std::fs::read(&path).unwrap();
        for (option, value) in [("no-such-option", "1"), ("node-name", "no name")] {
            let options = Options::new().with_str(option, value);
            assert!(Disk::open_with(&path, Common::default(), options).await.is_err());
            assert!(std::fs::read(&path).unwrap() == before, "{option}");
        }
        // Another user's: it is not closed, and must not be repaired.
        let disk = Disk::open(&path).await;
        disk.write(0, &[1; 512]).await;
        disk.backend.flush().await.unwrap();
        assert!(header(&path).unwrap().is_dirty());
        let before = std::fs::read(&path).unwrap();
        assert!(Disk::try_open(&path, Common::default()).await.is_err());
        assert!(std::fs::read(&path).unwrap() == before);
        disk.close().await;
    });
    assert!(!header(&path).unwrap().is_dirty());
}
