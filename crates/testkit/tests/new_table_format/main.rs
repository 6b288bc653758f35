//! A new format on the shared crash order, from outside of the crates: a table of little-endian u32 entries, one a block.
//! `image.rs` is what such a format has to write: its trait `Format`, its mapping, its plans, its header; the order in which
//! changes become durable, when a freed block is used again, and what happens when writing fails comes with
//! `block::metacache`. `driver.rs` is the shell around it.
//!
//! The suites that it runs are below, with an independent reader of its files; and each of its broken versions, which
//! uses a part of the crash order wrongly, is found by them.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod driver;
mod header;
mod image;

use block::Opt;
use header::{BLOCK, Header, TABLE};
use sim::{Disk, Rng};
use testkit::conformance::Suite;
use testkit::crash::{CrashTest, run_seeds};
use testkit::scope::{ON_FOUR_SECTORS, Op, SmallScope};
use testkit::stack::{Stack, TestImage};

const SIZE: u64 = (40 << 10) + 512;
const DRIVERS: [&[block::DriverType]; 3] = [protocols::DRIVERS, formats::DRIVERS, driver::DRIVERS];

/// The one way in which the driver is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// None: it is right.
    None,
    /// Entries are written before the flush that makes durable what they lead to.
    EntriesBeforeData,
    /// A block is handed out again when its unmapping is published.
    FreeAtOnce,
    /// A block is handed out again when its unmapping is durable, while requests still know it.
    NoGrace,
    /// The header does not say that the image is being written.
    NotCalledInUse,
    /// The file need not be as long as its blocks.
    FileTooShort,
    /// Tables have no space before they are changed.
    NoSpaceForTable,
    /// Changes of one block are not kept apart.
    NoLease,
}

impl Bug {
    const ALL: [Bug; 8] = [
        Bug::None,
        Bug::EntriesBeforeData,
        Bug::FreeAtOnce,
        Bug::NoGrace,
        Bug::NotCalledInUse,
        Bug::FileTooShort,
        Bug::NoSpaceForTable,
        Bug::NoLease,
    ];

    fn named(name: &str) -> Bug {
        Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name).unwrap_or(Bug::None)
    }
}

fn stack(bug: Bug) -> Stack {
    let mut stack = Stack::of("u32table", &DRIVERS, vec![TestImage::new("u32table", "/top", SIZE)]);
    stack.top.set("bug", Opt::Str(format!("{bug:?}")));
    stack.resizes = false;
    stack
}

/// What the disk shows, read from the file; and all that the format promises of it.
fn inspect(_: &Stack, disk: &Disk, settled: bool) -> Result<Vec<u8>, String> {
    let file = disk.content("/top").ok_or("the file is gone")?.to_vec();
    let header = Header::parse(&file).ok_or("no header")?;
    let table = &file[TABLE as usize..][..header.entries() as usize * 4];
    if settled && header.in_use {
        return Err("it was closed and is called in use".to_owned());
    }
    if !header.in_use && header.sum != header::sum(table) {
        return Err("the table has changed and the image is not called in use".to_owned());
    }
    let (mut shown, mut known) = (vec![0; header.size as usize], vec![0; header.first_block() as usize]);
    for ((n, to), entry) in (0..).zip(shown.chunks_mut(BLOCK as usize)).zip(table.chunks(4)) {
        let block = u32::from_le_bytes(entry.try_into().unwrap());
        if block == 0 {
            continue;
        }
        known.resize(known.len().max(block as usize + 1), -1);
        let there = file.get((u64::from(block) * BLOCK) as usize..).and_then(|from| from.get(..to.len()));
        match (known[block as usize], there) {
            (-1, Some(from)) => to.copy_from_slice(from),
            (-1, None) => return Err(format!("entry {n}: the file ends before block {block} does")),
            (other, _) => return Err(format!("entry {n}: block {block} is that of entry {other} too")),
        }
        known[block as usize] = n;
    }
    Ok(shown)
}

fn crash_test(bug: Bug, seed: u64) -> CrashTest {
    CrashTest::by_chance(&mut Rng::new(seed), stack(bug), inspect, 24)
}

/// As `crash_test`, on a file system that becomes full, and a file without space for its zeroes.
fn on_a_full_file_system(bug: Bug, seed: u64) -> CrashTest {
    CrashTest { sparse: true, ..crash_test(bug, seed).on_a_full_file_system(seed) }
}

/// Requests at once on few blocks.
fn small_scopes(bug: Bug) -> Vec<SmallScope> {
    // What a discard gives up is what the next write would be given.
    let reuse: &[&[Op]] =
        &[&[Op::Discard(0, 2), Op::Write(30, 2), Op::Flush], &[Op::Discard(2, 2), Op::Write(34, 2)]];
    let scope = |before: &[Op], tasks: &[&[Op]]| SmallScope {
        before: before.to_vec(),
        tasks: tasks.iter().map(|ops| ops.to_vec()).collect(),
        ..SmallScope::new(stack(bug), inspect)
    };
    let empty = Op::Discard(0, SIZE / 512);
    let all = || ON_FOUR_SECTORS.into_iter().chain([reuse]);
    let after = |before: &[Op]| all().map(|tasks| scope(before, tasks)).collect();
    let scopes: [Vec<_>; 2] = [after(&[empty]), after(&[empty, Op::Write(0, 4)])];
    scopes.concat()
}

#[test]
fn the_laws_of_a_disk_hold() {
    Suite::of(stack(Bug::None), Some(inspect)).run();
}

#[test]
fn what_was_flushed_is_there_after_any_crash() {
    run_seeds("TABLE_CRASH", 200, |seed| crash_test(Bug::None, seed));
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("TABLE_FAULT", 200, |seed| crash_test(Bug::None, seed).with_a_fault(seed, 80));
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("TABLE_FULL", 200, |seed| on_a_full_file_system(Bug::None, seed));
}

#[test]
fn requests_at_once_on_one_block_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    for scope in small_scopes(Bug::None) {
        for seed in 1..=8 {
            scope.run(seed).unwrap();
        }
    }
}

/// What a test finds of a bug, or the panic that a wrong read is.
fn found(seeds: u64, run: impl Fn(u64) -> Result<(), String>) -> Option<String> {
    (1..=seeds).find_map(|seed| {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
        let text = |panic: Box<dyn std::any::Any + Send>| match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(_) => "a panic".to_owned(),
        };
        result.unwrap_or_else(|panic| Err(text(panic))).err()
    })
}

#[test]
fn each_wrong_use_of_the_crash_order_is_found() {
    let crashes = |bug: Bug| found(120, |seed| crash_test(bug, seed).run(seed).map(drop));
    let full = |bug: Bug| found(400, |seed| on_a_full_file_system(bug, seed).run(seed).map(drop));
    for bug in Bug::ALL.into_iter().filter(|bug| *bug != Bug::None) {
        let text = if bug == Bug::NoSpaceForTable { full(bug) } else { crashes(bug) };
        println!("{bug:?}: {text:?}");
        assert!(text.is_some(), "{bug:?} is not found");
    }
}

#[test]
fn small_scopes_find_what_is_written_in_the_wrong_order() {
    for bug in [Bug::EntriesBeforeData, Bug::FreeAtOnce, Bug::NotCalledInUse] {
        let all = |seed| small_scopes(bug).iter().try_for_each(|scope| scope.run(seed).map(drop));
        let text = found(8, all);
        println!("{bug:?}: {text:?}");
        assert!(text.is_some(), "{bug:?} is not found");
    }
}
