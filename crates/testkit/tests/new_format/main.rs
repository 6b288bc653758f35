//! A new format, with several files and a backing image, from outside of the crates: the driver is `spread.rs`; these are
//! the suites that it runs, and what one may ask of its children.
//!
//! What one has to write: `spread.rs` as a folder of `crates/formats`, its line in that crate's `DRIVERS`, its branch in
//! `schema/`, and a stack for the suites, with an independent reader of its files (`inspect`).
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod children;
mod spread;
mod storage;

use sim::{Config, Disk};
use spread::{CLUSTER, DATA, EXTENTS, Header, STATES, ZERO};
use testkit::conformance::Suite;
use testkit::crash::{CrashTest, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::scope::{ON_FOUR_SECTORS, Op, SmallScope};
use testkit::stack::{Stack, TestImage};

const SIZE: u64 = (24 << 10) + 512;
const FILES: [&str; EXTENTS as usize] = ["/x.0", "/x.1", "/x.2", "/x.3", "/x.4"];
const DRIVERS: [&[block::DriverType]; 3] = [protocols::DRIVERS, formats::DRIVERS, spread::DRIVERS];

/// A spread image, which makes its extents itself, over a raw image of this size, if any.
fn stack(base: Option<u64>) -> Stack {
    let mut images = Vec::new();
    let mut top = TestImage::new("spread", "/top", SIZE).with("extents", "/x");
    if let Some(size) = base {
        images.push(TestImage::new("raw", "/base", size));
        top = top.with("backing_file", "/base").with("backing_fmt", "raw");
    }
    images.push(top);
    let mut stack = Stack::of("spread", &DRIVERS, images);
    stack.resizes = false;
    stack
}

/// What the disk shows, read from its files.
fn inspect(_: &Stack, disk: &Disk, _settled: bool) -> Result<Vec<u8>, String> {
    let file = |name: &str| Ok(disk.content(name).ok_or(format!("{name} is gone"))?.to_vec());
    let top: Vec<u8> = file("/top")?;
    let header = Header::parse(&top).ok_or("no header")?;
    let mut shown = match &header.backing.filename {
        Some(name) => file(name)?,
        None => Vec::new(),
    };
    shown.resize(header.size as usize, 0);
    let extents = FILES.into_iter().map(file).collect::<Result<Vec<_>, String>>()?;
    for (cluster, bytes) in (0..).zip(shown.chunks_mut(CLUSTER as usize)) {
        let (extent, at) = spread::place(cluster);
        match top.get((STATES + cluster) as usize) {
            Some(&DATA) => bytes.copy_from_slice(&extents[extent][at as usize..][..bytes.len()]),
            Some(&ZERO) => bytes.fill(0),
            _ => {}
        }
    }
    Ok(shown)
}

fn plan() -> Plan {
    let mix = Mix { read: 4, write: 10, zero: 5, discard: 4, flush: 4, resize: 0, fua: 10, compressed: 0 };
    Plan { requests: 16, depth: 4, mix, longest: 9, span: 0, largest: 0, faults: Faults::None }
}

#[test]
fn the_laws_of_a_disk_hold() {
    Suite::of(stack(None), Some(inspect)).run();
    Suite::of(stack(Some(SIZE / 512 / 2 * 512)), Some(inspect)).run();
}

#[test]
fn what_was_flushed_is_there_after_any_crash() {
    run_seeds("SPREAD_CRASH", 60, |seed| CrashTest {
        config: Config { workers: 1 + seed as usize % 3, ..Config::seeded(0) },
        inspect: Some(inspect),
        ..CrashTest::new(stack(Some(SIZE).filter(|_| seed % 3 > 0)), plan())
    });
}

#[test]
fn requests_at_once_on_one_cluster_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    let scope = SmallScope::new(stack(Some(SIZE)), inspect);
    scope.run_each(&[&[], &[Op::Write(0, 4)]], &ON_FOUR_SECTORS, 8);
}
