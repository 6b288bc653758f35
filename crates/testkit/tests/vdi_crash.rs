//! VDI through crashes, with small blocks so that the table changes often. `VDI_CRASH_SEED` runs one seed, `VDI_CRASH_COUNT`
//! so many.

use sim::{Disk, Rng};
use testkit::crash::{CrashTest, run_seeds};
use testkit::scope::{ON_FOUR_SECTORS, Op, SmallScope};
use testkit::stack::{Stack, TestImage};
use testkit::vdi::{inspect, made};

fn stack(size: u64) -> Stack {
    Stack::of("vdi", &[protocols::DRIVERS, formats::DRIVERS], vec![TestImage::new("vdi", "/top", size)])
}

/// Gives the image blocks of so many bytes, in another order.
fn with_blocks(stack: &Stack, disk: &mut Disk, block: usize) -> Result<(), String> {
    let shown = inspect(stack, disk, true)?;
    disk.put("/top", &made(&shown, block));
    Ok(())
}

fn with_blocks_of_a_sector(stack: &Stack, disk: &mut Disk) -> Result<(), String> {
    with_blocks(stack, disk, 512)
}

fn with_blocks_of_a_page(stack: &Stack, disk: &mut Disk) -> Result<(), String> {
    with_blocks(stack, disk, 4096)
}

fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let size = (16 << 10 << rng.below(4)) + 512 * rng.below(8);
    let prepare = if rng.chance(1, 2) { with_blocks_of_a_sector } else { with_blocks_of_a_page };
    CrashTest { prepare: Some(prepare), ..CrashTest::by_chance(&mut rng, stack(size), inspect, 32) }
}

#[test]
fn what_was_flushed_is_there_after_any_crash_and_no_sector_shows_anothers_data() {
    run_seeds("VDI_CRASH", 200, any_test);
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("VDI_FAULT", 200, |seed| any_test(seed).with_a_fault(seed, 80));
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("VDI_FULL", 200, |seed| {
        let test = any_test(seed).on_a_full_file_system(seed);
        CrashTest { prepare: Some(with_blocks_of_a_page), sparse: true, ..test }
    });
}

#[test]
fn requests_at_once_on_one_block_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    let scope = SmallScope { most: 32, ..SmallScope::new(stack((1 << 20) + 4096), inspect) };
    scope.run_each(&[&[], &[Op::Write(0, 4)]], &ON_FOUR_SECTORS, 3);
}
