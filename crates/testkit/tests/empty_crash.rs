//! An overlay is emptied after its data have been committed: whenever the machine dies, the overlay shows the same, from itself
//! or from below; and whatever fails, nothing is corrupt.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use std::sync::Arc;

use block::Repair;
use parking_lot::Mutex;
use sim::{Disk, OpKind, Rng, Sim};
use testkit::crash::{flatten, inspect_qcow2};
use testkit::stack::{Stack, TestImage};
use testkit::stamp::stamped;
use testkit::steps::{Failing, Fuse, at_every_step};

const DRIVERS: &[&[block::DriverType]] = &[protocols::DRIVERS, formats::DRIVERS];
const SIZE: u64 = 96 << 10;

/// Power cuts at each moment.
const CUTS: usize = 12;

fn stack(name: &str, options: &[(&str, &str)]) -> Stack {
    let base = TestImage::new("raw", "/base", SIZE);
    let top = options
        .iter()
        .fold(TestImage::new("qcow2", "/top", SIZE), |top, (name, value)| top.with(name, value));
    let top = top.with("backing_file", "/base").with("backing_fmt", "raw");
    Stack::of(name, DRIVERS, vec![base, top])
}

/// Both layers hold the same, as after a commit.
fn made(stack: &Stack) -> Disk {
    let (sim, stack) = (Sim::new(11), stack.clone());
    sim.run(async move {
        stack.create().await.unwrap();
        for image in &stack.images {
            let session = stack.open_image(image).await.unwrap();
            session.write(3 << 10, &stamped(6, 50 << 10, 1), false).await.unwrap();
            session.write(80 << 10, &stamped(160, 9 << 10, 2), false).await.unwrap();
            session.close().await.unwrap();
        }
    });
    sim.settle();
    sim.world().disk()
}

/// Opens what is left after a crash, writes to it and closes it: it is sound, and shows the same but for that.
fn goes_on(stack: &Stack, disk: Disk, shown: &[u8]) -> Result<(), String> {
    let (sim, its) = (Sim::boot(sim::Config::seeded(3), disk), stack.clone());
    let report = sim.run(async move {
        let session = its.open().await?;
        session.write(0, &stamped(0, 4096, 7), false).await?;
        let report = session.check(Repair::No).await.unwrap()?;
        session.close().await?;
        Ok::<_, block::BlockError>(report)
    });
    let report = report.map_err(|e| e.to_string())?;
    sim.settle();
    if report.corruptions + report.check_errors > 0 {
        return Err(format!("{:?}", report.messages));
    }
    let found = flatten(&sim.world().disk(), "/top", false)?;
    let same = found.get(4096..) == shown.get(4096..);
    if same { Ok(()) } else { Err("it shows something else after that".to_owned()) }
}

fn every_moment(stack: &Stack) {
    let disk = made(stack);
    let shown = flatten(&disk, "/top", true).unwrap();
    let moments: Arc<Mutex<Vec<Disk>>> = Arc::default();
    let sim = Sim::boot(sim::Config { workers: 1, ..sim::Config::seeded(5) }, disk);
    let (its, world, seen) = (stack.clone(), sim.world().clone(), moments.clone());
    sim.run(async move {
        let session = its.open().await.unwrap();
        world.watch(Some(Box::new(move |_, disk| seen.lock().push(disk.clone()))));
        session.node.driver().make_empty().await.unwrap();
        session.close().await.unwrap();
    });
    sim.settle();
    let done = sim.world().disk();
    assert!(
        inspect_qcow2(stack, &done, true).unwrap() == shown,
        "{}: emptied, it shows something else",
        stack.name
    );
    let moments = std::mem::take(&mut *moments.lock());
    let mut rng = Rng::new(9);
    for (at, disk) in moments.iter().chain([&done]).enumerate() {
        for cut in 0..CUTS {
            let dead = if cut == 0 { disk.cut_keeping(|_| false) } else { disk.power_cut(&mut rng) };
            let found = flatten(&dead, "/top", false);
            let judged = found.and_then(|found| {
                if found == shown { Ok(()) } else { Err("it shows something else".to_owned()) }
            });
            let judged = judged.and_then(|()| if cut < 3 { goes_on(stack, dead, &shown) } else { Ok(()) });
            judged.unwrap_or_else(|text| panic!("{}, moment {at}, cut {cut}: {text}", stack.name));
        }
    }
    println!("{}: {} moments", stack.name, moments.len());
}

fn every_failure(stack: &Stack) {
    let disk = made(stack);
    let shown = flatten(&disk, "/top", true).unwrap();
    let its = stack.clone();
    let act = move |fuse: Fuse| -> rt::BoxFuture<'static, ()> {
        let stack = its.clone();
        Box::pin(async move {
            let session = stack.open().await.unwrap();
            fuse.arm();
            let _ = session.node.driver().make_empty().await;
            fuse.disarm();
            let _ = session.close().await;
        })
    };
    let judge = |(): (), disk: &Disk, failing: Option<Failing>| {
        // What a failed sync covered is lost in part, also what was written.
        let disks = [disk.clone(), disk.cut_keeping(|_| false)];
        for disk in disks.into_iter().skip(usize::from(failing.is_some_and(|f| f.kind == OpKind::Sync))) {
            if flatten(&disk, "/top", false)? != shown {
                return Err("it shows something else".to_owned());
            }
            goes_on(stack, disk, &shown)?;
        }
        Ok(())
    };
    at_every_step(&stack.name, &disk, &act, &judge);
}

fn try_all(name: &str, options: &[(&str, &str)]) {
    let stack = stack(name, options);
    every_moment(&stack);
    every_failure(&stack);
}

#[test]
fn an_image_of_one_sector_a_cluster_begins_anew() {
    try_all("narrow", &[("cluster_size", "512")]);
}

#[test]
fn an_image_of_larger_clusters_begins_anew() {
    try_all("larger", &[("cluster_size", "4096"), ("refcount_bits", "1")]);
}

#[test]
fn an_image_with_lazy_refcounts_begins_anew() {
    try_all("lazy", &[("cluster_size", "1024"), ("lazy_refcounts", "on")]);
}

#[test]
fn an_image_of_version_2_is_emptied_table_by_table() {
    try_all("version 2", &[("cluster_size", "1024"), ("compat", "0.10")]);
}

/// The file of the image has holes where a new one has its tables, and the file system has no room, or very little.
#[test]
fn an_image_is_emptied_and_written_to_whatever_room_there_was() {
    let stack = stack("no room", &[("cluster_size", "16384")]);
    let mut disk = made(&stack);
    disk.make_sparse("/top");
    let shown = flatten(&disk, "/top", true).unwrap();
    for room in 0..24 {
        let sim = Sim::boot(sim::Config::seeded(room), disk.clone());
        let (its, world) = (stack.clone(), sim.world().clone());
        sim.run(async move {
            let session = its.open().await.unwrap();
            world.limit_room(Some(room * 4096));
            session.node.driver().make_empty().await.unwrap();
            world.limit_room(None);
            session.write(0, &stamped(0, 4096, 5), false).await.unwrap();
            session.backend.flush().await.unwrap();
            // It dies here, without a close.
            std::mem::forget(session);
        });
        let dead = sim.world().disk().cut_keeping(|_| false);
        let kept = |found: Vec<u8>| found.get(..4096) == Some(&stamped(0, 4096, 5));
        assert!(flatten(&dead, "/top", false).is_ok_and(kept), "{room} pages");
        goes_on(&stack, dead, &shown).unwrap_or_else(|text| panic!("{room} pages: {text}"));
    }
}
