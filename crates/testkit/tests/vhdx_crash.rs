//! VHDX images through crashes: power cuts and kills at every moment the disk changes, with a reader that carries the log out.
//! Blocks are no smaller than 1 MiB, so that the disks are large and the seeds few.
//! `VHDX_CRASH_SEED` runs one seed, `VHDX_CRASH_COUNT` so many.

use sim::Rng;
use testkit::crash::{CrashTest, run_seeds};
use testkit::stack::{Stack, TestImage};
use testkit::vhdx::inspect;

const SEEDS: u64 = 16;

fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let state = if rng.chance(1, 4) { "off" } else { "on" };
    let image = TestImage::new("vhdx", "/top", (3 << 20) + 512)
        .with("block_size", "1M")
        .with("block_state_zero", state);
    let stack = Stack::of("vhdx", &[protocols::DRIVERS, formats::DRIVERS], vec![image]);
    CrashTest::by_chance(&mut rng, stack, inspect, 3000)
}

#[test]
fn what_was_flushed_is_there_after_any_crash() {
    run_seeds("VHDX_CRASH", SEEDS, any_test);
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("VHDX_FAULT", SEEDS, |seed| any_test(seed).with_a_fault(seed, 80));
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("VHDX_FULL", SEEDS, |seed| CrashTest {
        sparse: true,
        ..any_test(seed).on_a_full_file_system(seed)
    });
}
