//! VDI through crashes, with small blocks so that the table changes often. `VDI_CRASH_SEED` runs one seed, `VDI_CRASH_COUNT`
//! so many.

use sim::{Config, Disk, EIO, ENOSPC, OpKind, Plant, Rng};
use testkit::crash::{CrashTest, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::scope::{Op, SmallScope};
use testkit::stack::{Stack, TestImage};
use testkit::vdi::inspect;

const DRIVERS: [&[block::DriverType]; 2] = [protocols::DRIVERS, formats::DRIVERS];

fn stack(size: u64) -> Stack {
    let mut stack = Stack::of("vdi", &DRIVERS, vec![TestImage::new("vdi", "/top", size)]);
    stack.resizes = false;
    stack
}

/// Gives the image blocks of so many bytes, in another order.
fn with_blocks(stack: &Stack, disk: &mut Disk, block: usize) -> Result<(), String> {
    let shown = inspect(stack, disk, true)?;
    disk.put("/top", &testkit::vdi::made(&shown, block));
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
    let depth = 1 + rng.below(8);
    let mix = match rng.below(2) {
        0 => Mix { read: 4, write: 10, zero: 5, discard: 4, flush: 4, resize: 0, fua: 10, compressed: 0 },
        _ => Mix { read: 2, write: 14, zero: 1, discard: 1, flush: 2, resize: 0, fua: 10, compressed: 0 },
    };
    let span = if rng.chance(1, 3) { 16 } else { 0 };
    let longest = 1 + rng.below(20);
    let plan = Plan { requests: 48 / depth, depth, mix, longest, span, largest: 0, faults: Faults::None };
    CrashTest {
        config: Config { inline: rng.chance(3, 4), workers: 1 + rng.index(3), ..Config::seeded(0) },
        inspect: Some(inspect),
        prepare: Some(if rng.chance(1, 2) { with_blocks_of_a_sector } else { with_blocks_of_a_page }),
        ..CrashTest::new(stack(size), plan)
    }
}

#[test]
fn what_was_flushed_is_there_after_any_crash_and_no_sector_shows_anothers_data() {
    run_seeds("VDI_CRASH", 200, any_test);
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("VDI_FAULT", 200, |seed| {
        let (mut test, mut rng) = (any_test(seed), Rng::new(!seed));
        let kinds =
            [OpKind::Sync, OpKind::Write, OpKind::Write, OpKind::Allocate, OpKind::SetLen, OpKind::Read];
        let kind = rng.pick(&kinds).unwrap_or(OpKind::Sync);
        let errno = if rng.chance(1, 3) && kind != OpKind::Sync { ENOSPC } else { EIO };
        test.faults =
            vec![Plant::nth_of(kind, rng.below(if kind == OpKind::Write { 80 } else { 20 }), errno)];
        test.plan.faults = if kind == OpKind::Sync { Faults::Syncs } else { Faults::Some };
        test
    });
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("VDI_FULL", 200, |seed| {
        let mut test = any_test(seed);
        test.plan.faults = Faults::Full;
        test.room = Some(Rng::new(!seed).below(5) * 4096);
        test.prepare = Some(|stack, disk| {
            with_blocks(stack, disk, 4096)?;
            disk.make_sparse("/top");
            Ok(())
        });
        test
    });
}

#[test]
fn requests_at_once_on_one_block_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    let tasks: [&[&[Op]]; 3] = [
        &[&[Op::Write(1, 2)], &[Op::Zero(0, 2)], &[Op::Write(0, 1), Op::Flush]],
        &[&[Op::Fua(0, 3)], &[Op::Discard(0, 4)], &[Op::Write(2, 2)]],
        &[&[Op::Zero(0, 4), Op::Flush, Op::Write(1, 1)], &[Op::Fua(3, 1)]],
    ];
    for before in [vec![], vec![Op::Write(0, 4)]] {
        for tasks in tasks {
            let scope = SmallScope {
                stack: stack((1 << 20) + 4096),
                inspect,
                before: before.clone(),
                tasks: tasks.iter().map(|ops| ops.to_vec()).collect(),
                most: 32,
                config: Config::seeded(0),
                plants: Vec::new(),
            };
            for seed in 1..=3 {
                scope.run(seed).unwrap();
            }
        }
    }
}
