//! Commands of which each request of the disk fails once: told failed, and everything is as it was, or told done (with a
//! warning at most), and all of it is in force.

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
pub fn made(images: Vec<TestImage>) -> Disk {
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

/// What an image shows, which no fault is found with.
pub fn shown(disk: &Disk, file: &str) -> Result<Vec<u8>, String> {
    flatten(disk, file, false)
}

/// Fails with `what` where it is not so.
pub fn so(is: bool, what: &str) -> Result<(), String> {
    if is { Ok(()) } else { Err(what.to_owned()) }
}

/// The disk before a command and after it.
pub type State<'a> = dyn Fn(&Disk) -> Result<(), String> + 'a;

/// Runs a command with a failure at each of its requests. After a failed flush it is unknown what is on the disk: one of the
/// two, whole. Returns how many failed flushes were told as done, with a warning.
pub fn try_command(
    name: &str,
    disk: &Disk,
    command: fn(Console) -> BoxFuture<'static, Result<(), Failure>>,
    old: &State<'_>,
    new: &State<'_>,
) -> usize {
    let warned = Cell::new(0);
    let judge = |told: Result<(), Failure>, disk: &Disk, failing: Option<Failing>| {
        let unknown = failing.is_some_and(|failing| failing.kind == OpKind::Sync || failing.lasting);
        // Nothing can be taken away again where no name is found any more.
        let stuck = failing.is_some_and(|f| f.lasting && matches!(f.kind, OpKind::Open | OpKind::Name));
        let judged = match &told {
            Ok(()) => new(disk),
            Err(_) if stuck => Ok(()),
            Err(_) if unknown => old(disk).or_else(|old| new(disk).map_err(|new| format!("{old}; {new}"))),
            Err(_) => old(disk),
        };
        if told.is_ok() && failing.is_some_and(|failing| failing.kind == OpKind::Sync) {
            warned.set(warned.get() + 1);
        }
        judged.map_err(|text| format!("told {told:?}: {text}"))
    };
    let act = move |fuse: testkit::steps::Fuse| -> BoxFuture<'static, Result<(), Failure>> {
        Box::pin(async move {
            fuse.arm();
            let told = command(Console::new("told")).await;
            fuse.disarm();
            told
        })
    };
    at_every_step(name, disk, &act, &judge);
    warned.get()
}

/// Runs a command where the file system has room for so many pages more, from none to enough. What fails for lack of space
/// leaves the disk as `kept` demands, and succeeds when it is run again with room: then it is as `done` demands. Returns how
/// often there was too little room.
pub fn try_with_little_room(
    disk: &Disk,
    command: fn(Console) -> BoxFuture<'static, Result<(), Failure>>,
    kept: &State<'_>,
    done: &State<'_>,
) -> u64 {
    for pages in 0.. {
        let sim = Sim::boot(Config::seeded(pages), disk.clone());
        let world = sim.world().clone();
        world.limit_room(Some(pages * sim::PAGE));
        let told = sim.run(command(Console::new("told")));
        sim.settle();
        let state = if told.is_ok() { done } else { kept };
        for found in [world.disk(), world.disk().cut_keeping(|_| false)] {
            state(&found).unwrap_or_else(|text| panic!("{pages} pages, told {told:?}: {text}"));
        }
        if told.is_ok() {
            return pages;
        }
        world.limit_room(None);
        let again = sim.run(command(Console::new("told")));
        sim.settle();
        let judged = again.map_err(|failure| failure.message().to_owned()).and_then(|()| done(&world.disk()));
        judged.unwrap_or_else(|text| panic!("{pages} pages, then room: {text}"));
    }
    0
}
