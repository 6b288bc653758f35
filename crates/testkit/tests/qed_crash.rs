//! qed through crashes: power cuts and kills at every moment a disk changes, with small clusters and tables. `QED_CRASH_SEED`
//! runs one seed, `QED_CRASH_COUNT` so many.

use sim::{Disk, Rng};
use testkit::chance;
use testkit::crash::{CrashTest, run_seeds};
use testkit::qed::inspect;
use testkit::scope::{ON_TWO_CLUSTERS, Op, SmallScope};
use testkit::stack::{Stack, TestImage};

const DRIVERS: [&[block::DriverType]; 3] = [protocols::DRIVERS, filters::DRIVERS, formats::DRIVERS];

fn qed(file: &'static str, size: u64) -> TestImage {
    TestImage::new("qed", file, size).with("cluster_size", "4096").with("table_size", "1")
}

fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let size = (32 << 10 << rng.below(4)) + 512 * rng.below(2);
    let stack = chance::overlay(&mut rng, &DRIVERS, size, |_, file, size| qed(file, size));
    CrashTest::by_chance(&mut rng, stack, inspect, 32)
}

#[test]
fn what_was_flushed_is_there_after_any_crash_and_nothing_is_there_twice() {
    run_seeds("QED_CRASH", 300, any_test);
}

/// Where a write has failed, its cluster may be one that nothing leads to.
fn inspect_with_leaks(stack: &Stack, disk: &Disk, _: bool) -> Result<Vec<u8>, String> {
    inspect(stack, disk, false)
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("QED_FAULT", 300, |seed| {
        let test = any_test(seed).with_a_fault(seed, 120);
        CrashTest { inspect: Some(inspect_with_leaks), ..test }
    });
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("QED_FULL", 200, |seed| {
        let test = any_test(seed).on_a_full_file_system(seed);
        CrashTest { inspect: Some(inspect_with_leaks), ..test }
    });
}

#[test]
fn requests_at_once_on_one_cluster_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    for stack in Stack::alone_and_over_raw(&DRIVERS, &qed("/top", 32 << 10)) {
        SmallScope::new(stack, inspect).run_each(&[&[], &[Op::Write(0, 8)]], &ON_TWO_CLUSTERS, 8);
    }
}
