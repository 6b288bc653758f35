//! `amend` of qcow2 images through power cuts: at every instant the image opens, is the old one or the new one or on its way
//! step by step, and the disk and its snapshots show what they showed.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{NewSnapshot, Opt, Options};
use parking_lot::Mutex;
use sim::{Config, Disk, EIO, OpKind, Plant, Rng, Sim};
use std::sync::Arc;
use testkit::qcow2::{self, Findings};
use testkit::stack::{Session, Stack, TestImage};

const SIZE: u64 = 64 << 10;

/// Power cuts tried at each moment at which the disk changes.
const CUTS: usize = 3;

/// An image that is to be amended.
#[derive(Clone, Copy, Debug)]
struct Case {
    cluster: &'static str,
    created: &'static [(&'static str, &'static str)],
    backing: bool,
    snapshots: usize,
}

impl Case {
    fn stack(self) -> Stack {
        let base = TestImage::new("raw", "/base", SIZE);
        let image = TestImage::new("qcow2", "/image", SIZE).with("cluster_size", self.cluster);
        let image = self.created.iter().fold(image, |image, (name, value)| image.with(name, value));
        let drivers = [protocols::DRIVERS, formats::DRIVERS];
        let images = match self.backing {
            true => vec![base, image.with("backing_file", "/base").with("backing_fmt", "raw")],
            false => vec![image],
        };
        Stack::of(&format!("{self:?}"), &drivers, images)
    }

    /// The disk of a new image with data, zeroes and snapshots in it.
    fn made(self) -> Disk {
        let sim = boot(&Disk::default(), 1);
        sim.run(async move {
            let stack = self.stack();
            stack.create().await.unwrap();
            if self.backing {
                let base = stack.open_image(&stack.images[0]).await.unwrap();
                base.write(0, &[9; SIZE as usize], true).await.unwrap();
                base.close().await.unwrap();
            }
            let session = stack.open().await.unwrap();
            session.write(512, &[1; 9000], false).await.unwrap();
            session.write(40 << 10, &[2; 5000], false).await.unwrap();
            zero(&session, 16 << 10, 8 << 10).await;
            zero(&session, 4 << 10, 2 << 10).await;
            for i in 0..self.snapshots {
                let name = format!("s{i}");
                session.graph.create_snapshot(&session.node, snapshot(&name), |_| Ok(())).await.unwrap();
                session.write(20 << 10, &[3 + i as u8; 3000], false).await.unwrap();
                zero(&session, (40 + 2 * i as u64) << 10, 1 << 10).await;
            }
            session.close().await.unwrap();
        });
        sim.world().disk()
    }
}

fn snapshot(name: &str) -> NewSnapshot {
    NewSnapshot { name: name.to_owned(), ..NewSnapshot::default() }
}

async fn zero(session: &Session, offset: u64, len: u64) {
    session.backend.write_zeroes(offset, len, block::Request::GUEST).await.unwrap();
}

fn boot(disk: &Disk, seed: u64) -> Sim {
    Sim::boot(Config::seeded(seed), disk.clone())
}

fn bytes(disk: &Disk, file: &str) -> Vec<u8> {
    disk.content(file).map(|content| content.to_vec()).unwrap_or_default()
}

fn number(name: &str, value: u64) -> (String, Opt) {
    (name.to_owned(), Opt::Uint(value))
}

fn text(name: &str, value: &str) -> (String, Opt) {
    (name.to_owned(), Opt::Str(value.to_owned()))
}

fn switch(name: &str, value: bool) -> (String, Opt) {
    (name.to_owned(), Opt::Bool(value))
}

/// Amends an image; answers the disks that power cuts on the way leave, the last one, and what came of it.
fn amended(
    disk: &Disk,
    case: Case,
    options: &[(String, Opt)],
    fault: Option<Plant>,
    seed: u64,
) -> (Vec<Disk>, Disk, bool) {
    let sim = boot(disk, seed);
    let left = Arc::new(Mutex::new(Vec::new()));
    let (kept, mut rng) = (left.clone(), Rng::new(seed));
    let options = options.iter().fold(Options::new(), |all, (name, value)| all.with(name, value.clone()));
    let world = sim.world().clone();
    let done = sim.run(async move {
        let session = case.stack().open().await.unwrap();
        world.watch(Some(Box::new(move |_, disk| {
            kept.lock().extend((0..CUTS).map(|_| disk.power_cut(&mut rng)));
        })));
        if let Some(fault) = fault {
            world.plant(fault);
        }
        let changed = session.graph.amend(&session.node, options, false, &|_, _| {}).await;
        let closed = session.close().await;
        world.watch(None);
        changed.and(closed).is_ok()
    });
    let disks = std::mem::take(&mut *left.lock());
    (disks, sim.world().disk(), done)
}

/// What a guest sees of the disk and of every snapshot, as the independent reader has it.
fn shown(disk: &Disk) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let (image, base) = (bytes(disk, "/image"), bytes(disk, "/base"));
    let below = if qcow2::backing_of(&image).is_some() { base } else { Vec::new() };
    (qcow2::read(&image, &below).unwrap(), qcow2::read_snapshots(&image, &below).unwrap())
}

fn looked_at(disk: &Disk, what: &str) -> Findings {
    let found = qcow2::inspect(&bytes(disk, "/image")).map_err(|e| format!("{what}: {e}")).unwrap();
    assert!(found.corruptions.is_empty(), "{what}: {:?}", found.corruptions);
    found
}

/// That a disk shows what the old one showed, as far as both go, and zeroes beyond it.
fn assert_same(disk: &Disk, old: &Disk, what: &str) {
    let ((new_disk, new_snapshots), (old_disk, old_snapshots)) = (shown(disk), shown(old));
    let both = new_disk.len().min(old_disk.len());
    assert!(new_disk[..both] == old_disk[..both], "{what}: the disk");
    assert!(new_disk[both..].iter().all(|byte| *byte == 0), "{what}: behind the old end");
    assert_eq!(new_snapshots.len(), old_snapshots.len(), "{what}");
    for ((name, new), (_, old)) in new_snapshots.iter().zip(&old_snapshots) {
        assert!(new == old, "{what}: snapshot {name}");
    }
}

/// Amends an image, with a look at what every power cut leaves; then with an error at one operation after the other.
fn explore(case: Case, options: &[(String, Opt)]) -> Disk {
    let disk = case.made();
    let what = format!("{case:?} {options:?}");
    let (left, new, done) = amended(&disk, case, options, None, 3);
    assert!(done && left.len() > 2 * CUTS, "{what}: {}", left.len());
    for (i, cut) in left.iter().enumerate() {
        let what = format!("{what}: cut {i}");
        looked_at(cut, &what);
        assert_same(cut, &disk, &what);
        if i % 9 == 0 {
            let (_, again, done) = amended(cut, case, options, None, 5);
            assert!(done, "{what}: amended again");
            looked_at(&again, &what);
            assert_same(&again, &disk, &what);
        }
    }
    let found = looked_at(&new, &what);
    assert!(found.leaks.is_empty() && !found.dirty, "{what}: {:?}", found.leaks);
    assert_same(&new, &disk, &what);
    for kind in [OpKind::Write, OpKind::Sync] {
        for after in 0..40 {
            let fault = Plant::nth_of(kind, after, EIO);
            let (_, failed, done) = amended(&disk, case, options, Some(fault), 7);
            let what = format!("{what}: error at {kind:?} {after}");
            looked_at(&failed, &what);
            assert_same(&failed, &disk, &what);
            if done {
                break;
            }
        }
    }
    new
}

const OLD: Case = Case { cluster: "512", created: &[("compat", "0.10")], backing: false, snapshots: 0 };
const NEW: Case = Case { created: &[], ..OLD };

/// Fields of an image's header.
#[derive(Debug, PartialEq)]
struct Header {
    version: u32,
    size: u64,
    refcount_bits: u64,
    lazy: bool,
}

fn header(disk: &Disk) -> Header {
    let image = bytes(disk, "/image");
    let half = |at: usize| u32::from_be_bytes(image[at..at + 4].try_into().unwrap());
    let version = half(4);
    Header {
        version,
        size: u64::from(half(24)) << 32 | u64::from(half(28)),
        refcount_bits: if version < 3 { 16 } else { 1 << half(96) },
        lazy: version >= 3 && half(84) & 1 != 0,
    }
}

#[test]
fn an_image_becomes_one_of_version_3() {
    for cluster in ["512", "4096", "8192"] {
        for (backing, snapshots) in [(false, 0), (true, 2)] {
            let case = Case { cluster, backing, snapshots, ..OLD };
            let new = header(&explore(case, &[text("compat", "1.1")]));
            assert_eq!(new, Header { version: 3, size: SIZE, refcount_bits: 16, lazy: false });
        }
    }
    let new = explore(OLD, &[text("compat", "v3"), switch("lazy_refcounts", true), number("size", 2 * SIZE)]);
    assert_eq!(header(&new), Header { version: 3, size: 2 * SIZE, refcount_bits: 16, lazy: true });
}

#[test]
fn lazy_refcounts_are_switched() {
    let new = explore(NEW, &[switch("lazy_refcounts", true)]);
    assert!(header(&new).lazy);
    let lazy = Case { created: &[("lazy_refcounts", "on")], ..NEW };
    assert!(!header(&explore(lazy, &[switch("lazy_refcounts", false)])).lazy);
}

#[test]
fn refcounts_get_another_width() {
    for (from, to) in [("16", 1), ("1", 64), ("64", 8), ("16", 32), ("2", 16)] {
        let snapshots = if from == "1" || to == 1 { 0 } else { 2 };
        for cluster in ["512", "4096"] {
            let created: &'static [(&str, &str)] = match from {
                "1" => &[("refcount_bits", "1")],
                "2" => &[("refcount_bits", "2")],
                "64" => &[("refcount_bits", "64")],
                _ => &[],
            };
            let case = Case { cluster, created, snapshots, ..NEW };
            assert_eq!(header(&explore(case, &[number("refcount_bits", to)])).refcount_bits, to);
        }
    }
}

#[test]
fn an_image_becomes_one_of_version_2() {
    for cluster in ["512", "4096"] {
        for (backing, snapshots) in [(false, 0), (false, 2), (true, 0), (true, 2)] {
            let case = Case { cluster, backing, snapshots, ..NEW };
            let new = header(&explore(case, &[text("compat", "0.10")]));
            assert_eq!(new, Header { version: 2, size: SIZE, refcount_bits: 16, lazy: false });
        }
    }
    let wide = Case { cluster: "8192", created: &[("refcount_bits", "64"), ("lazy_refcounts", "on")], ..NEW };
    let new = explore(wide, &[text("compat", "v2"), number("refcount_bits", 16), number("size", 2 * SIZE)]);
    assert_eq!(header(&new), Header { version: 2, size: 2 * SIZE, refcount_bits: 16, lazy: false });
}

#[test]
fn what_can_not_be_had_is_refused_before_anything_is_written() {
    let snapshots = Case { snapshots: 2, ..NEW };
    for (case, options) in [
        (OLD, vec![switch("lazy_refcounts", true)]),
        (OLD, vec![number("refcount_bits", 32)]),
        (OLD, vec![text("compat", "1.1"), number("refcount_bits", 3)]),
        (OLD, vec![text("compat", "1.1"), number("refcount_bits", 128)]),
        (OLD, vec![text("compat", "1.1"), text("cluster_size", "65536")]),
        (OLD, vec![text("compat", "1.1"), text("backing_file", "/other")]),
        (OLD, vec![text("compat", "1.1"), number("size", 1000)]),
        (OLD, vec![text("compat", "1.1"), number("size", 1 << 62)]),
        (OLD, vec![text("compat", "1.1"), text("encrypt.state", "active")]),
        (OLD, vec![text("compat", "1.1"), text("data_file", "/other")]),
        (NEW, vec![number("refcount_bits", 8), switch("data_file_raw", true)]),
        (NEW, vec![text("compat", "2.0")]),
        (NEW, vec![text("compat", "0.10"), switch("lazy_refcounts", true)]),
        (NEW, vec![text("compat", "0.10"), number("refcount_bits", 8)]),
        (Case { created: &[("refcount_bits", "8")], ..NEW }, vec![text("compat", "0.10")]),
        (Case { created: &[("compression_type", "zstd")], ..NEW }, vec![text("compat", "0.10")]),
        (Case { cluster: "16384", created: &[("extended_l2", "on")], ..NEW }, vec![text("compat", "0.10")]),
        (snapshots, vec![text("compat", "0.10"), number("size", 2 * SIZE)]),
        (snapshots, vec![switch("lazy_refcounts", true), number("refcount_bits", 1)]),
        (Case { snapshots: 1, ..OLD }, vec![number("size", 2 * SIZE)]),
    ] {
        let disk = case.made();
        let (left, new, done) = amended(&disk, case, &options, None, 3);
        assert!(!done && bytes(&new, "/image") == bytes(&disk, "/image"), "{case:?} {options:?}");
        assert!(
            left.iter().all(|cut| bytes(cut, "/image") == bytes(&disk, "/image")),
            "{case:?} {options:?}"
        );
    }
}
