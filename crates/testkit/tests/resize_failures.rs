//! A resize fails and nothing has changed, or succeeds and all has: with a failure at each of its requests to the disk.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use api::PreallocMode;
use block::Opt;
use sim::{Disk, OpKind, Rng, Sim};
use testkit::crash::flatten;
use testkit::stack::{Stack, TestImage};
use testkit::stamp::stamped;
use testkit::steps::{Failing, at_every_step};

const DRIVERS: &[&[block::DriverType]] = &[protocols::DRIVERS, formats::DRIVERS];

/// A resize: of which image, to how many bytes, with which preallocation.
#[derive(Clone)]
struct Case {
    name: &'static str,
    stack: Stack,
    size: u64,
    preallocation: PreallocMode,
}

/// What outcome of it.
struct Outcome {
    reported: block::Result<()>,
    /// What the node says and shows afterwards, before it is closed.
    length: u64,
    content: Vec<u8>,
    /// Whether a write was taken afterwards, and kept by a flush.
    written: bool,
}

/// The largest clusters of the images, in bytes.
const CLUSTER: usize = 4096;

/// A disk with the images, and some writes in each.
fn made(stack: &Stack) -> Disk {
    let sim = Sim::new(3);
    let stack = stack.clone();
    sim.run(async move {
        stack.create().await.unwrap();
        let mut rng = Rng::new(11);
        for (image, write) in stack.images.iter().zip(1..) {
            let session = stack.open_image(image).await.unwrap();
            for _ in 0..3 {
                let first = rng.below(image.size / 512);
                let count = (image.size / 512 - first).min(40);
                session.write(first * 512, &stamped(first, count * 512, write), false).await.unwrap();
            }
            session.close().await.unwrap();
        }
    });
    sim.settle();
    sim.world().disk()
}

fn shown(stack: &Stack, disk: &Disk, settled: bool) -> Result<Vec<u8>, String> {
    let top = stack.images.last().unwrap();
    match top.format {
        "raw" => Ok(disk.content(top.file).unwrap().to_vec()),
        _ => flatten(disk, top.file, settled),
    }
}

fn try_case(case: &Case) {
    let disk = made(&case.stack);
    let before = shown(&case.stack, &disk, true).unwrap();
    let mut after = before.clone();
    after.resize(case.size as usize, 0);
    let (stack, size, preallocation) = (case.stack.clone(), case.size, case.preallocation);
    let judge = |outcome: Outcome, disk: &Disk, failing: Option<Failing>| {
        let expected = if outcome.reported.is_ok() { &after } else { &before };
        if outcome.length != expected.len() as u64 {
            return Err(format!(
                "reported {:?}, and the node has {} bytes",
                outcome.reported, outcome.length
            ));
        }
        // A sync that failed may have lost the copy of the cluster that the end is in; on disk the old one still holds.
        let lost = failing.is_some_and(|failing| failing.kind == OpKind::Sync);
        let sure = if lost { before.len().min(after.len()) / CLUSTER * CLUSTER } else { expected.len() };
        if outcome.content.get(..sure) != expected.get(..sure) {
            return Err(format!("reported {:?}, and the node shows something else", outcome.reported));
        }
        let unknown = failing.is_some_and(|failing| failing.kind == OpKind::Sync || failing.lasting);
        if !outcome.written && failing.is_none_or(|failing| !outcome.poisons(failing)) {
            return Err(format!("reported {:?}, and nothing is written any more", outcome.reported));
        }
        let cut = disk.cut_keeping(|_| false);
        for (disk, what) in [(disk, "afterwards"), (&cut, "after a power cut")] {
            let found = shown(&case.stack, disk, false).map_err(|text| format!("{what}: {text}"))?;
            // A sync that failed leaves unknown what is on the disk: either, whole.
            let either = outcome.reported.is_err() && (unknown || what != "afterwards");
            // A plain file's length is durable with the next flush.
            let lags = what != "afterwards" && case.stack.images.last().unwrap().format == "raw";
            let fits = |expected: &Vec<u8>| {
                *expected == found || outcome.written && same_but_start(expected, &found)
            };
            if !(fits(expected) || (either || lags) && (fits(&before) || fits(&after))) {
                return Err(format!(
                    "reported {:?}; {what}: {} bytes that are not it",
                    outcome.reported,
                    found.len()
                ));
            }
        }
        Ok(())
    };
    at_every_step(
        case.name,
        &disk,
        &move |fuse| {
            let stack = stack.clone();
            Box::pin(async move {
                let session = stack.open().await.unwrap();
                session.read(0, 512).await.unwrap();
                fuse.arm();
                let reported = session.graph.resize(&session.node, size, preallocation).await;
                fuse.disarm();
                let length = session.node.length();
                let content = session.read(0, length).await.unwrap();
                let written = session.write(0, &stamped(0, 512, 99), false).await.is_ok()
                    && session.backend.flush().await.is_ok();
                let _ = session.close().await;
                Outcome { reported, length, content, written }
            })
        },
        &judge,
    );
}

impl Outcome {
    /// Whether this failure may keep all later writes out.
    fn poisons(&self, failing: Failing) -> bool {
        match failing.kind {
            OpKind::Sync | OpKind::Write => true,
            _ => failing.lasting,
        }
    }
}

/// The same but for the first sector, which was written afterwards.
fn same_but_start(expected: &[u8], found: &[u8]) -> bool {
    expected.len() == found.len() && expected.get(512..) == found.get(512..)
}

fn alone(cluster: &str, size: u64) -> Stack {
    Stack::of("qcow2", DRIVERS, vec![TestImage::new("qcow2", "/top", size).with("cluster_size", cluster)])
}

fn over(cluster: &str, size: u64, base: u64) -> Stack {
    let image = TestImage::new("qcow2", "/top", size).with("cluster_size", cluster);
    let image = image.with("backing_file", "/base").with("backing_fmt", "qcow2");
    Stack::of("qcow2 over qcow2", DRIVERS, vec![TestImage::new("qcow2", "/base", base), image])
}

fn lazy(cluster: &str, size: u64) -> Stack {
    let mut stack = alone(cluster, size);
    for image in &mut stack.images {
        image.options.set("lazy_refcounts", Opt::Str("on".to_owned()));
    }
    stack
}

fn raw(size: u64) -> Stack {
    Stack::of("raw", DRIVERS, vec![TestImage::new("raw", "/top", size)])
}

#[test]
fn growing_a_qcow2_disk_succeeds_or_leaves_it_as_it_was() {
    for preallocation in [PreallocMode::Off, PreallocMode::Metadata, PreallocMode::Falloc, PreallocMode::Full]
    {
        for (name, stack) in [
            ("a larger L1 table", alone("512", 48 << 10)),
            ("grown within its L1 table", alone("4096", 63 << 10)),
            ("grown over a longer backing image", over("4096", 62 << 10, 90 << 10)),
            ("grown with lazy refcounts", lazy("1024", 48 << 10)),
        ] {
            let name = format!("{name}, {preallocation}").leak();
            try_case(&Case { name, stack, size: 80 << 10, preallocation });
        }
    }
}

#[test]
fn shrinking_a_qcow2_disk_succeeds_or_leaves_it_as_it_was() {
    for (name, stack) in [
        ("shrunk", alone("512", 96 << 10)),
        ("shrunk in one table", alone("4096", 96 << 10)),
        ("shrunk over a backing image", over("1024", 96 << 10, 96 << 10)),
        ("shrunk with lazy refcounts", lazy("1024", 96 << 10)),
    ] {
        try_case(&Case { name, stack, size: 21 << 10, preallocation: PreallocMode::Off });
    }
}

#[test]
fn resizing_a_raw_disk_succeeds_or_leaves_it_as_it_was() {
    for preallocation in [PreallocMode::Off, PreallocMode::Falloc, PreallocMode::Full] {
        let name = format!("raw grown, {preallocation}").leak();
        try_case(&Case { name, stack: raw(48 << 10), size: 80 << 10, preallocation });
    }
    try_case(&Case {
        name: "raw shrunk",
        stack: raw(96 << 10),
        size: 21 << 10,
        preallocation: PreallocMode::Off,
    });
}
