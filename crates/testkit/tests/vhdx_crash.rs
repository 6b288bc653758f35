//! VHDX images through crashes: power cuts and kills at every moment the disk changes, with a reader that carries the log out.
//! Blocks are no smaller than 1 MiB, so that the disks are large and the seeds few.
//! `VHDX_CRASH_SEED` runs one seed, `VHDX_CRASH_COUNT` so many.

use sim::{Config, EIO, ENOSPC, OpKind, Plant, Rng};
use testkit::crash::{CrashTest, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::stack::{Stack, TestImage};
use testkit::vhdx;

const MIB: u64 = 1 << 20;
const SEEDS: u64 = 16;

fn crash_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let state = if rng.chance(1, 4) { "off" } else { "on" };
    let image = TestImage::new("vhdx", "/top", 3 * MIB + 512)
        .with("block_size", "1M")
        .with("block_state_zero", state);
    let mut stack = Stack::of("vhdx", &[protocols::DRIVERS, formats::DRIVERS], vec![image]);
    stack.resizes = false;
    let mix = match rng.below(2) {
        0 => Mix { read: 4, write: 10, zero: 5, discard: 4, flush: 4, resize: 0, fua: 10, compressed: 0 },
        // Allocation and freeing, over and over, on few blocks.
        _ => Mix { read: 6, write: 8, zero: 6, discard: 6, flush: 3, resize: 0, fua: 10, compressed: 0 },
    };
    let (depth, span) = (1 + rng.below(6), if rng.chance(1, 3) { 2048 } else { 0 });
    let plan =
        Plan { requests: 40 / depth, depth, mix, longest: 1500, span, largest: 0, faults: Faults::None };
    CrashTest {
        config: Config { inline: rng.chance(3, 4), workers: 1 + rng.index(3), ..Config::seeded(0) },
        inspect: Some(vhdx::inspect),
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

#[test]
fn what_was_flushed_is_there_after_any_crash() {
    run_seeds("VHDX_CRASH", SEEDS, crash_test);
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("VHDX_FAULT", SEEDS, with_a_fault);
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("VHDX_FULL", SEEDS, on_a_full_file_system);
}
