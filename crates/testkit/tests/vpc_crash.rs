//! Dynamic VHD images through crashes: power cuts and kills at every moment the disk changes, with small blocks.
//! `VPC_CRASH_SEED` runs one seed, `VPC_CRASH_COUNT` so many.

use sim::{Config, EIO, ENOSPC, OpKind, Plant, Rng};
use testkit::crash::{CrashTest, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::stack::{Stack, TestImage};
use testkit::vpc;

const BLOCKS: [&str; 3] = ["1024", "4096", "16384"];

fn crash_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let image = TestImage::new("small-vpc", "/top", (40 << 10) + 512).with("block", BLOCKS[rng.index(3)]);
    let mut stack = Stack::of("vpc", &[protocols::DRIVERS, vpc::drivers(formats::DRIVERS)], vec![image]);
    stack.resizes = false;
    let mix = match rng.below(2) {
        0 => Mix { read: 4, write: 10, zero: 5, discard: 4, flush: 4, resize: 0, fua: 10, compressed: 0 },
        // Allocation and freeing, over and over, on few blocks.
        _ => Mix { read: 6, write: 8, zero: 6, discard: 6, flush: 3, resize: 0, fua: 10, compressed: 0 },
    };
    let (depth, span) = (1 + rng.below(6), if rng.chance(1, 3) { 16 } else { 0 });
    let plan = Plan { requests: 40 / depth, depth, mix, longest: 24, span, largest: 0, faults: Faults::None };
    CrashTest {
        config: Config { inline: rng.chance(3, 4), workers: 1 + rng.index(3), ..Config::seeded(0) },
        inspect: Some(vpc::inspect),
        ..CrashTest::new(stack, plan)
    }
}

/// As `crash_test`, and one operation of the disk fails.
fn with_a_fault(seed: u64) -> CrashTest {
    let (mut test, mut rng) = (crash_test(seed), Rng::new(!seed));
    let kinds = [OpKind::Sync, OpKind::Write, OpKind::Write, OpKind::Allocate, OpKind::SetLen, OpKind::Read];
    let kind = rng.pick(&kinds).unwrap_or(OpKind::Sync);
    let errno = if rng.chance(1, 3) && kind != OpKind::Sync { ENOSPC } else { EIO };
    test.faults = vec![Plant::nth_of(kind, rng.below(if kind == OpKind::Write { 80 } else { 20 }), errno)];
    test.plan.faults = if kind == OpKind::Sync { Faults::Syncs } else { Faults::Some };
    test
}

/// As `crash_test`, on a file system that becomes full, and a file without space for its zeroes.
fn on_a_full_file_system(seed: u64) -> CrashTest {
    let mut test = crash_test(seed);
    test.plan.faults = Faults::Full;
    test.room = Some(Rng::new(!seed).below(5) * 4096);
    test.prepare = Some(|_, disk| {
        disk.make_sparse("/top");
        Ok(())
    });
    test
}

/// As `crash_test`, on an image in which sectors of blocks are not there.
fn with_absent_sectors(seed: u64) -> CrashTest {
    CrashTest { prepare: Some(vpc::forget_zero_sectors), ..crash_test(seed) }
}

#[test]
fn what_was_flushed_is_there_after_any_crash() {
    run_seeds("VPC_CRASH", 200, crash_test);
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("VPC_FAULT", 200, with_a_fault);
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("VPC_FULL", 200, on_a_full_file_system);
}

#[test]
fn sectors_that_another_program_left_out_are_zeroes_until_they_are_written() {
    run_seeds("VPC_ABSENT", 200, with_absent_sectors);
}
