//! Space that was given up comes back without a flush of the guest's: before a file grows without end, and before a full
//! file system is reported.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use std::sync::Arc;

use block::{ErrorKind, Flags, Request};
use sim::{Config, Disk, Sim};
use testkit::crash::inspect_qcow2;
use testkit::stack::{Session, Stack, TestImage};
use testkit::stamp::stamped;

const SIZE: u64 = 256 << 10;
const CLUSTER: u64 = 4096;

fn stack() -> Stack {
    let image = TestImage::new("qcow2", "/top", SIZE).with("cluster_size", "4096");
    Stack::of("qcow2", &[protocols::DRIVERS, formats::DRIVERS], vec![image])
}

/// Makes the stack on a machine of this seed, and lets `work` use it there with `room` bytes left.
fn with_room<F: Future<Output = ()> + Send + 'static>(
    seed: u64,
    room: Option<u64>,
    work: impl FnOnce(Session) -> F + Send + 'static,
) -> Disk {
    let sim = Sim::boot(Config { workers: 1 + seed as usize % 3, ..Config::seeded(seed) }, Disk::default());
    let world = sim.world().clone();
    sim.run(async move {
        stack().create().await.unwrap();
        let session = stack().open().await.unwrap();
        world.limit_room(room);
        work(session).await;
    });
    sim.settle();
    sim.world().disk()
}

fn is_sound(disk: &Disk) {
    inspect_qcow2(&stack(), disk, true).unwrap_or_else(|text| panic!("{text}"));
}

async fn write_and_trim(session: &Session, times: u64) {
    for write in 1..=times {
        session.write(0, &stamped(0, SIZE, write), false).await.unwrap();
        session.backend.discard(0, SIZE, Request::GUEST).await.unwrap();
    }
}

#[test]
fn a_disk_that_is_written_and_trimmed_without_a_flush_keeps_its_file_small() {
    for seed in 1..6 {
        let disk = with_room(seed, None, |session| async move {
            write_and_trim(&session, 100).await;
            session.close().await.unwrap();
        });
        is_sound(&disk);
        let length = disk.content("/top").map_or(0, |content| content.len());
        assert!(length <= 16 * CLUSTER, "seed {seed}: {length} bytes after a close");
    }
}

#[test]
fn the_file_of_a_disk_that_is_written_and_trimmed_grows_by_little_before_any_close() {
    for seed in 1..6 {
        let disk = with_room(seed, None, |session| async move {
            write_and_trim(&session, 100).await;
            std::mem::forget(session);
        });
        let length = disk.content("/top").map_or(0, |content| content.len());
        assert!(length <= 16 * SIZE, "seed {seed}: {length} bytes");
    }
}

#[test]
fn writes_and_trims_go_on_without_a_flush_where_the_disk_has_room_for_little_more_than_what_is_mapped() {
    for seed in 1..10 {
        let disk = with_room(seed, Some(SIZE + 2 * CLUSTER), |session| async move {
            write_and_trim(&session, 60).await;
            session.close().await.unwrap();
        });
        is_sound(&disk);
    }
}

#[test]
fn zeroes_that_unmap_make_room_for_several_writers_at_once() {
    for seed in 1..10 {
        let disk = with_room(seed, Some(SIZE + 2 * CLUSTER), |session| async move {
            let session = Arc::new(session);
            let part = SIZE / 4;
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let session = session.clone();
                    rt::spawn(async move {
                        let flags = Request::GUEST.with(Flags::MAY_UNMAP);
                        for write in 1..30 {
                            let data = stamped(writer * part / 512, part, write);
                            session.write(writer * part, &data, false).await.unwrap();
                            session.backend.write_zeroes(writer * part, part, flags).await.unwrap();
                        }
                    })
                })
                .collect();
            for writer in writers {
                writer.await.unwrap();
            }
            Session::clone(&session).close().await.unwrap();
        });
        is_sound(&disk);
    }
}

#[test]
fn lack_of_space_is_an_error_only_when_nothing_waits_to_be_freed() {
    let disk = with_room(1, Some(SIZE / 2), |session| async move {
        let error = session.write(0, &stamped(0, SIZE, 1), false).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSpace);
        session.backend.flush().await.unwrap();
        session.backend.discard(0, SIZE, Request::GUEST).await.unwrap();
        session.write(0, &stamped(0, SIZE / 4, 2), false).await.unwrap();
        session.close().await.unwrap();
    });
    is_sound(&disk);
}

/// A page of the table of refcounts lies in a hole of the file: it needs space too, and that is found out before a block is
/// made.
#[test]
fn a_refcount_block_that_the_table_has_no_space_to_name_is_not_made() {
    const CLUSTER: u64 = 8192;
    // What the first page of the table counts: 512 blocks of 64-bit counts.
    const COUNTED: u64 = 512 * (CLUSTER / 8) * CLUSTER;
    let size = COUNTED - 1100 * CLUSTER;
    let image = TestImage::new("qcow2", "/top", size).with("cluster_size", "8192");
    let image = image.with("refcount_bits", "64").with("preallocation", "metadata");
    let stack = Stack::of("a long table", &[protocols::DRIVERS, formats::DRIVERS], vec![image]);
    let sim = Sim::new(1);
    let (its, world) = (stack.clone(), sim.world().clone());
    sim.run(async move {
        its.create().await.unwrap();
        let session = its.open().await.unwrap();
        session.resize(COUNTED).await.unwrap();
        // The table for what is written there below.
        session.write(COUNTED - 65 * CLUSTER, &stamped(0, CLUSTER, 1), false).await.unwrap();
        session.backend.flush().await.unwrap();
        let length = world.disk().content("/top").map_or(0, |content| content.len());
        let left = (COUNTED - length) / CLUSTER;
        assert!((8..200).contains(&left), "{left} clusters are left of the last block");
        session.write(size, &stamped(size / 512, (left - 4) * CLUSTER, 1), false).await.unwrap();
        session.close().await.unwrap();
    });
    sim.settle();
    let mut disk = sim.world().disk();
    disk.make_sparse("/top");
    // The entry of the first block that the second page names.
    let entry = |disk: &Disk| {
        let word = |at: u64| {
            let mut word = [0; 8];
            disk.content("/top").unwrap().read(at, &mut word);
            u64::from_be_bytes(word)
        };
        word(word(48) + 512 * 8)
    };
    assert_eq!(entry(&disk), 0);
    // The room that there is for a first write, and what comes to it before the second, in pages of the file system.
    let mut made = false;
    for (room, more) in (0..6).flat_map(|room| (0..6).map(move |more| (room, more))) {
        let sim = Sim::boot(Config { workers: 1, ..Config::seeded(room) }, disk.clone());
        let (its, world) = (stack.clone(), sim.world().clone());
        let written = sim.run(async move {
            let session = its.open().await.unwrap();
            let at = COUNTED - 64 * CLUSTER;
            world.limit_room(Some(room * 4096));
            let first = session.write(at, &stamped(at / 512, 16 * CLUSTER, 2), false).await;
            assert_eq!(first.unwrap_err().kind(), ErrorKind::NoSpace);
            world.limit_room(Some(more * 4096));
            let second = session.write(at, &stamped(at / 512, CLUSTER, 3), false).await;
            // What was taken is durable when the flush is answered.
            session.backend.flush().await.unwrap();
            std::mem::forget(session);
            second
        });
        match written {
            Err(e) => assert_eq!(e.kind(), ErrorKind::NoSpace, "{room} pages and {more}: {e}"),
            Ok(()) => made |= entry(&sim.world().disk()) != 0,
        }
    }
    assert!(made, "the second page of the table never names a block");
}
