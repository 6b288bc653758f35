//! Commands that run with a failure at each of their disk requests in turn. A command that reports failure has changed
//! nothing; one that reports success, at most with a warning, has done all.

use crate::console::Console;
use crate::failure::Failure;
use rt::BoxFuture;
use std::cell::Cell;

use sim::{Config, Disk, OpKind, Sim};
use testkit::crash::flatten;
use testkit::stack::{Stack, TestImage};
use testkit::stamp::stamped;
use testkit::steps::{Failing, at_every_step};

/// Bytes of the small images.
pub const SIZE: u64 = 64 << 10;

/// A qcow2 image of [`SIZE`] bytes in small clusters.
pub fn image(file: &'static str) -> TestImage {
    TestImage::new("qcow2", file, SIZE).with("cluster_size", "1024")
}

/// The same over `/base`.
pub fn overlay(file: &'static str) -> TestImage {
    image(file).with("backing_file", "/base").with("backing_fmt", "qcow2")
}

/// A disk with these images, some data in each, in places that overlap in part.
pub fn disk_with(images: Vec<TestImage>) -> Disk {
    let sim = Sim::new(3);
    sim.run(async move {
        let stack = Stack::of("made", &[protocols::DRIVERS, formats::DRIVERS], images);
        stack.create().await.unwrap();
        for (image, write) in stack.images.iter().zip(1..) {
            let session = stack.open_image(image).await.unwrap();
            for first in [write * 3, 30 + write * 2, 50 + write * 20] {
                session.write(first * 512, &stamped(first, 4096, write), false).await.unwrap();
            }
            session.close().await.unwrap();
        }
    });
    sim.settle();
    sim.world().disk()
}

/// The guest's content of an image, or what is wrong with its metadata.
pub fn content_of(disk: &Disk, file: &str) -> Result<Vec<u8>, String> {
    flatten(disk, file, false)
}

/// Fails with `what` unless `holds`.
pub fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

/// What must hold of the disk.
pub type Condition<'a> = dyn Fn(&Disk) -> Result<(), String> + 'a;

/// Runs a command with a failure at each of its requests: `old` holds after a failure, `new` after a success. After a failed
/// flush it is unknown which of the two is on the disk. Returns how many failed flushes ended in a success with a warning.
pub fn fail_each_request(
    name: &str,
    disk: &Disk,
    command: fn(Console) -> BoxFuture<'static, Result<(), Failure>>,
    old: &Condition<'_>,
    new: &Condition<'_>,
) -> usize {
    let warned = Cell::new(0);
    let judge = |ended: Result<(), Failure>, disk: &Disk, failing: Option<Failing>| {
        let unknown = failing.is_some_and(|failing| failing.kind == OpKind::Sync || failing.lasting);
        // Nothing can be taken away again where no name is found any more.
        let stuck = failing.is_some_and(|f| f.lasting && matches!(f.kind, OpKind::Open | OpKind::Name));
        let judged = match &ended {
            Ok(()) => new(disk),
            Err(_) if stuck => Ok(()),
            Err(_) if unknown => old(disk).or_else(|old| new(disk).map_err(|new| format!("{old}; {new}"))),
            Err(_) => old(disk),
        };
        if ended.is_ok() && failing.is_some_and(|failing| failing.kind == OpKind::Sync) {
            warned.set(warned.get() + 1);
        }
        judged.map_err(|text| format!("it ended with {ended:?}: {text}"))
    };
    let act = move |fuse: testkit::steps::Fuse| -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async move {
            fuse.arm();
            let ended = command(Console::new("test")).await;
            fuse.disarm();
            ended
        })
    };
    at_every_step(name, disk, &act, &judge);
    warned.get()
}

/// Runs a command where the file system has room for so many pages more, from none to enough. What fails for lack of space
/// leaves the disk as `kept` demands, and succeeds when it is run again with room: then it is as `done` demands. Returns how
/// often there was too little room.
pub fn with_little_room(
    disk: &Disk,
    command: fn(Console) -> BoxFuture<'static, Result<(), Failure>>,
    kept: &Condition<'_>,
    done: &Condition<'_>,
) -> u64 {
    for pages in 0.. {
        let sim = Sim::boot(Config::seeded(pages), disk.clone());
        let world = sim.world().clone();
        world.limit_room(Some(pages * sim::PAGE));
        let ended = sim.run(command(Console::new("test")));
        sim.settle();
        let state = if ended.is_ok() { done } else { kept };
        for found in [world.disk(), world.disk().cut_keeping(|_| false)] {
            state(&found).unwrap_or_else(|text| panic!("{pages} pages, it ended with {ended:?}: {text}"));
        }
        if ended.is_ok() {
            return pages;
        }
        world.limit_room(None);
        let again = sim.run(command(Console::new("test")));
        sim.settle();
        let judged = again.map_err(|failure| failure.message().to_owned()).and_then(|()| done(&world.disk()));
        judged.unwrap_or_else(|text| panic!("{pages} pages, then room: {text}"));
    }
    0
}
