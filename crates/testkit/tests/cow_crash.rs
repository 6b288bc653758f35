//! cow through crashes. `COW_CRASH_SEED` runs one seed, `COW_CRASH_COUNT` so many.

use sim::Rng;
use testkit::chance;
use testkit::cow::inspect;
use testkit::crash::{CrashTest, run_seeds};
use testkit::scope::{ON_TWO_CLUSTERS, Op, SmallScope};
use testkit::stack::{Stack, TestImage};

const DRIVERS: [&[block::DriverType]; 3] = [protocols::DRIVERS, filters::DRIVERS, formats::DRIVERS];

fn cow(file: &'static str, size: u64) -> TestImage {
    TestImage::new("cow", file, size)
}

fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let size = (32 << 10 << rng.below(4)) + 512 * rng.below(2);
    let stack = chance::overlay(&mut rng, &DRIVERS, size, |_, file, size| cow(file, size));
    CrashTest::by_chance(&mut rng, stack, inspect, 32)
}

#[test]
fn what_was_flushed_is_there_after_any_crash() {
    run_seeds("COW_CRASH", 300, any_test);
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("COW_FAULT", 300, |seed| any_test(seed).with_a_fault(seed, 120));
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("COW_FULL", 200, |seed| any_test(seed).on_a_full_file_system(seed));
}

#[test]
fn requests_at_once_on_one_sector_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    for stack in Stack::alone_and_over_raw(&DRIVERS, &cow("/top", 32 << 10)) {
        SmallScope::new(stack, inspect).run_each(&[&[], &[Op::Write(0, 8)]], &ON_TWO_CLUSTERS, 8);
    }
}
