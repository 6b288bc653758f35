//! Parallels images of both versions through crashes, with small clusters so that the table changes often.
//! `PARALLELS_CRASH_SEED` runs one seed, `PARALLELS_CRASH_COUNT` so many.

use sim::{Disk, Rng};
use testkit::crash::{CrashTest, run_seeds};
use testkit::parallels::{Layout, inspect, made};
use testkit::scope::{ON_FOUR_SECTORS, Op, SmallScope};
use testkit::stack::{Stack, TestImage};

fn stack(size: u64, cluster: &str, growth: &str) -> Stack {
    let image = TestImage::new("parallels", "/top", size).with("cluster_size", cluster);
    let image = image.opened_with("prealloc-size", growth);
    Stack::of("parallels", &[protocols::DRIVERS, formats::DRIVERS], vec![image])
}

/// Makes the image one of the old version, whose clusters are three sectors.
fn of_the_old_version(stack: &Stack, disk: &mut Disk) -> Result<(), String> {
    let shown = inspect(stack, disk, true)?;
    disk.put("/top", &made(&shown, Layout { cluster: 3, old: true }));
    Ok(())
}

/// Has the clusters lie in another order.
fn in_another_order(stack: &Stack, disk: &mut Disk) -> Result<(), String> {
    let shown = inspect(stack, disk, true)?;
    disk.put("/top", &made(&shown, Layout { cluster: 8, old: false }));
    Ok(())
}

fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let size = (16 << 10 << rng.below(4)) + 512 * rng.below(8);
    let cluster = rng.pick(&["512", "1536", "4096"]).unwrap_or("512");
    let growth = rng.pick(&["0", "8192", "1M"]).unwrap_or("0");
    let mut test = CrashTest::by_chance(&mut rng, stack(size, cluster, growth), inspect, 32);
    test.prepare = match rng.below(3) {
        0 => None,
        1 => Some(of_the_old_version),
        _ => Some(in_another_order),
    };
    test
}

#[test]
fn what_was_flushed_is_there_after_any_crash_and_no_sector_shows_anothers_data() {
    run_seeds("PARALLELS_CRASH", 200, any_test);
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("PARALLELS_FAULT", 200, |seed| any_test(seed).with_a_fault(seed, 80));
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("PARALLELS_FULL", 200, |seed| {
        let test = any_test(seed).on_a_full_file_system(seed);
        CrashTest { prepare: Some(in_another_order), sparse: true, ..test }
    });
}

#[test]
fn requests_at_once_on_one_cluster_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    let scope = SmallScope { most: 32, ..SmallScope::new(stack(40 << 10, "4096", "8192"), inspect) };
    scope.run_each(&[&[], &[Op::Write(0, 4)]], &ON_FOUR_SECTORS, 3);
}
