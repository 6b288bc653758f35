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
