//! Dynamic VHD images through crashes: power cuts and kills at every moment the disk changes, with small blocks.
//! `VPC_CRASH_SEED` runs one seed, `VPC_CRASH_COUNT` so many.

use sim::Rng;
use testkit::crash::{CrashTest, run_seeds};
use testkit::stack::{Stack, TestImage};
use testkit::vpc;

const BLOCKS: [&str; 3] = ["1024", "4096", "16384"];

fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let image = TestImage::new("small-vpc", "/top", (40 << 10) + 512).with("block", BLOCKS[rng.index(3)]);
    let stack = Stack::of("vpc", &[protocols::DRIVERS, vpc::drivers(formats::DRIVERS)], vec![image]);
    CrashTest::by_chance(&mut rng, stack, vpc::inspect, 32)
}

#[test]
fn what_was_flushed_is_there_after_any_crash() {
    run_seeds("VPC_CRASH", 200, any_test);
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("VPC_FAULT", 200, |seed| any_test(seed).with_a_fault(seed, 80));
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("VPC_FULL", 200, |seed| CrashTest {
        sparse: true,
        ..any_test(seed).on_a_full_file_system(seed)
    });
}

#[test]
fn sectors_that_another_program_left_out_are_zeroes_until_they_are_written() {
    run_seeds("VPC_ABSENT", 200, |seed| CrashTest {
        prepare: Some(vpc::forget_zero_sectors),
        ..any_test(seed)
    });
}
