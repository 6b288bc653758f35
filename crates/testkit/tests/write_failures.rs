//! Storage that refuses writes for a while, and then takes them again: nothing has to be opened anew, what was held back is
//! written, and all that a flush has answered since is there after a power cut.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use api::PreallocMode;
use block::{ErrorKind, Link, NewBitmap, Opt, Options, Request};
use rt::BoxFuture;
use sim::{Config, Disk, OpKind, Sim};
use std::pin::pin;
use std::task::Poll;
use testkit::crash::inspect_qcow2;
use testkit::stack::{Session, Stack, TestImage};
use testkit::stamp::stamped;
use testkit::steps::{Failing, at_every_step};

const DRIVERS: &[&[block::DriverType]] = &[protocols::DRIVERS, formats::DRIVERS];
const SIZE: u64 = 192 << 10;

/// What the session shows after the storage has come back, and whether it takes changes.
struct Outcome {
    back: block::Result<()>,
    shown: Vec<u8>,
}

/// What is done while the storage fails, whether it succeeds or not.
type Change = for<'a> fn(&'a Session) -> BoxFuture<'a, ()>;

/// Changes of all kinds.
async fn change(session: &Session) {
    let _ = session.write(0, &stamped(0, 24 << 10, 1), false).await;
    let _ = session.backend.flush().await;
    let _ = session.backend.discard(4096, 8192, Request::GUEST).await;
    let _ = session.backend.write_zeroes(16 << 10, 3 << 10, Request::GUEST).await;
    let _ = session.write(9 << 10, &stamped(18, 60 << 10, 2), false).await;
    let _ = session.backend.flush().await;
    let _ = session.write(100 << 10, &stamped(200, 512, 3), false).await;
    let _ = session.graph.resize(&session.node, 2 * SIZE, PreallocMode::Off).await;
    let _ = session.backend.flush().await;
}

fn try_stack(stack: Stack) {
    let disk = made(&stack, &[]);
    try_change(stack, &disk, |session| Box::pin(change(session)));
}

/// The disk of a stack with some data, and with empty bitmaps in its image.
fn made(stack: &Stack, bitmaps: &'static [&str]) -> Disk {
    let sim = Sim::new(5);
    let its = stack.clone();
    sim.run(async move {
        its.create().await.unwrap();
        let session = its.open().await.unwrap();
        session.write(8 << 10, &stamped(16, 6 << 10, 9), false).await.unwrap();
        for name in bitmaps {
            let (name, granularity) = ((*name).to_owned(), Some(512));
            let new = NewBitmap { name, granularity, persistent: true, enabled: true };
            session.backend.node().add_bitmap(new).unwrap();
        }
        session.close().await.unwrap();
    });
    sim.settle();
    sim.world().disk()
}

fn try_change(stack: Stack, disk: &Disk, change: Change) {
    let (name, its) = (stack.name.clone(), stack.clone());
    let act = move |fuse: testkit::steps::Fuse| -> rt::BoxFuture<'static, Outcome> {
        let stack = its.clone();
        Box::pin(async move {
            let session = stack.open().await.unwrap();
            fuse.arm();
            change(&session).await;
            fuse.disarm();
            let last = SIZE - 4096;
            let written = session.write(last, &stamped(last / 512, 4096, 4), false).await;
            let back = written.and(session.backend.flush().await);
            let shown = session.read(0, session.backend.length()).await.unwrap();
            // It dies here, without a close.
            std::mem::forget(session);
            Outcome { back, shown }
        })
    };
    let judge = |outcome: Outcome, disk: &Disk, failing: Option<Failing>| {
        if failing.is_some_and(|failing| failing.kind == OpKind::Sync) {
            return inspect_qcow2(&stack, &disk.cut_keeping(|_| false), false).map(drop);
        }
        outcome.back.map_err(|e| format!("nothing is taken any more: {e}"))?;
        let cut = inspect_qcow2(&stack, &disk.cut_keeping(|_| false), false)?;
        if cut == outcome.shown { Ok(()) } else { Err("a flushed change is gone".to_owned()) }
    };
    at_every_step(&name, disk, &act, &judge);
}

fn qcow2(name: &str, options: &[(&str, &str)]) -> Stack {
    let image = TestImage::new("qcow2", "/top", SIZE);
    let image = options.iter().fold(image, |image, (name, value)| image.with(name, value));
    Stack::of(name, DRIVERS, vec![image])
}

#[test]
fn refcount_structures_that_grow_meanwhile() {
    try_stack(qcow2("narrow tables", &[("cluster_size", "512"), ("refcount_bits", "64")]));
}

#[test]
fn clusters_of_several_sectors() {
    try_stack(qcow2("usual tables", &[("cluster_size", "4096")]));
}

#[test]
fn subclusters() {
    try_stack(qcow2("subclusters", &[("cluster_size", "16384"), ("extended_l2", "on")]));
}

#[test]
fn counts_that_are_written_late() {
    try_stack(qcow2("lazy refcounts", &[("cluster_size", "1024"), ("lazy_refcounts", "on")]));
}

#[test]
fn an_image_over_another() {
    let base = TestImage::new("raw", "/base", SIZE);
    let top = TestImage::new("qcow2", "/top", SIZE).with("cluster_size", "2048");
    let top = top.with("backing_file", "/base").with("backing_fmt", "raw");
    try_stack(Stack::of("over another", DRIVERS, vec![base, top]));
}

#[test]
fn a_header_that_becomes_one_of_another_version_or_gets_another_backing_link() {
    for cluster_size in ["1024", "8192"] {
        let stack = qcow2("header", &[("cluster_size", cluster_size)]);
        let disk = made(&stack, &[]);
        try_change(stack, &disk, |session| {
            Box::pin(async move {
                let driver = session.node.driver();
                for level in ["0.10", "1.1", "0.10"] {
                    let options = Options::new().with("compat", Opt::Str(level.to_owned()));
                    let _ = session.graph.amend(&session.node, options, false, &|_, _| {}).await;
                }
                // What version there is decides whether they may become zero clusters.
                let _ = session.backend.write_zeroes(8 << 10, 8 << 10, Request::GUEST).await;
                let _ = driver.set_backing_link(Link { filename: None, format: None }).await;
            })
        });
    }
}

/// The header's extension lies in its first sector, and behind that.
#[test]
fn bitmaps_that_are_removed() {
    for cluster_size in ["1024", "8192"] {
        let stack = qcow2("bitmaps", &[("cluster_size", cluster_size)]);
        let disk = made(&stack, &["a", "b"]);
        try_change(stack, &disk, |session| {
            Box::pin(async move {
                let node = session.backend.node();
                for name in ["a", "b"] {
                    let _ = node.remove_bitmap(&node.need_bitmap(name).unwrap()).await;
                    let _ = session.write(20 << 10, &stamped(40, 24 << 10, 5), false).await;
                    let _ = session.backend.flush().await;
                }
            })
        });
    }
}

/// Drops a future when it has been polled so many times; tells whether it had come to its end.
async fn leave_after(polls: u32, future: impl Future) -> bool {
    let (mut future, mut left) = (pin!(future), polls);
    let polled = std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(cx).map(|_| true)
    });
    polled.await
}

/// Nobody waits for a write any more, at whatever step it is: blocks of refcounts and their table grow amid it.
#[test]
fn a_write_that_is_dropped_while_refcount_structures_grow() {
    const AREA: u64 = 64 << 10;
    let image = TestImage::new("qcow2", "/top", 4 << 20);
    let image = image.with("cluster_size", "512").with("refcount_bits", "64");
    let stack = Stack::of("dropped writes", DRIVERS, vec![image]);
    for filled in [24 * AREA, 29 * AREA] {
        let (sim, its) = (Sim::new(3), stack.clone());
        sim.run(async move {
            its.create().await.unwrap();
            let session = its.open().await.unwrap();
            session.write(0, &stamped(0, filled, 1), false).await.unwrap();
            session.close().await.unwrap();
        });
        sim.settle();
        let disk = sim.world().disk();
        for polls in 1.. {
            let (sim, its) = (
                Sim::boot(Config { workers: 1, ..Config::seeded(polls.into()) }, disk.clone()),
                stack.clone(),
            );
            let (ended, shown) = sim.run(async move {
                let session = its.open().await.unwrap();
                let dropped = stamped(filled / 512, 2 * AREA, 2);
                let ended = leave_after(polls, session.write(filled, &dropped, false)).await;
                let last = filled + 2 * AREA;
                session.write(last, &stamped(last / 512, 2 * AREA, 3), false).await.unwrap();
                session.backend.flush().await.unwrap();
                let shown = session.read(0, session.backend.length()).await.unwrap();
                // It dies here, without a close.
                std::mem::forget(session);
                (ended, shown)
            });
            let fault = match inspect_qcow2(&stack, &sim.world().disk().cut_keeping(|_| false), false) {
                Ok(cut) if cut == shown => None,
                Ok(_) => Some("a flushed change is gone".to_owned()),
                Err(e) => Some(e),
            };
            assert_eq!(fault, None, "{filled}, {polls}");
            if ended {
                println!("{filled}: {polls} steps");
                break;
            }
        }
    }
}

/// A disk has room for the data of a write, and for more and more of what their refcounts take: at last for a larger table.
#[test]
fn a_disk_that_is_too_small_for_a_larger_refcount_table() {
    const AREA: u64 = 64 << 10;
    const PAGE: u64 = 4096;
    let (filled, added) = (29 * AREA, 2 * AREA);
    let image = TestImage::new("qcow2", "/top", 4 << 20);
    let image = image.with("cluster_size", "512").with("refcount_bits", "64");
    let stack = Stack::of("a larger table", DRIVERS, vec![image]);
    let (sim, its) = (Sim::new(3), stack.clone());
    sim.run(async move {
        its.create().await.unwrap();
        let session = its.open().await.unwrap();
        session.write(0, &stamped(0, filled, 1), false).await.unwrap();
        session.close().await.unwrap();
    });
    sim.settle();
    let disk = sim.world().disk();
    let mut grown = false;
    for room in 0.. {
        let sim = Sim::boot(Config { workers: 1, ..Config::seeded(room) }, disk.clone());
        let (world, its) = (sim.world().clone(), stack.clone());
        let (written, shown) = sim.run(async move {
            let session = its.open().await.unwrap();
            world.limit_room(Some(room * PAGE));
            let written = session.write(filled, &stamped(filled / 512, added, 2), false).await;
            session.backend.flush().await.unwrap();
            world.limit_room(None);
            let last = filled + added;
            session.write(last, &stamped(last / 512, added, 3), false).await.unwrap();
            session.backend.flush().await.unwrap();
            let shown = session.read(0, session.backend.length()).await.unwrap();
            // It dies here, without a close.
            std::mem::forget(session);
            (written, shown)
        });
        let dead = sim.world().disk().cut_keeping(|_| false);
        assert!(
            inspect_qcow2(&stack, &dead, false).unwrap() == shown,
            "{room} pages: a flushed change is gone"
        );
        match written {
            Err(e) => assert_eq!(e.kind(), ErrorKind::NoSpace, "{room} pages: {e}"),
            Ok(()) => {
                grown = refcount_table(&dead) != refcount_table(&disk);
                println!("{room} pages are enough");
                break;
            }
        }
    }
    assert!(grown, "the table was never replaced");
}

/// Where the refcount table of the image is, and how many clusters it has.
fn refcount_table(disk: &Disk) -> (u64, u32) {
    let mut header = [0; 104];
    disk.content("/top").unwrap().read(0, &mut header);
    let word = |at: usize| header[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    (u64::from(word(48)) << 32 | u64::from(word(52)), word(56))
}
