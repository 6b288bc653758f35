//! Parallels images of both versions through crashes, with small clusters so that the table changes often.
//! `PARALLELS_CRASH_SEED` runs one seed, `PARALLELS_CRASH_COUNT` so many.

use sim::{Config, Disk, EIO, ENOSPC, OpKind, Plant, Rng};
use testkit::crash::{CrashTest, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::parallels::Layout;
use testkit::parallels::inspect;
use testkit::scope::{Op, SmallScope};
use testkit::stack::{Stack, TestImage};

const DRIVERS: [&[block::DriverType]; 2] = [protocols::DRIVERS, formats::DRIVERS];

fn stack(size: u64, cluster: &str, growth: &str) -> Stack {
    let image = TestImage::new("parallels", "/top", size).with("cluster_size", cluster);
    let image = image.opened_with("prealloc-size", growth);
    let mut stack = Stack::of("parallels", &DRIVERS, vec![image]);
    stack.resizes = false;
    stack
}

/// Makes the image one of the old version, whose clusters are three sectors.
fn of_the_old_version(stack: &Stack, disk: &mut Disk) -> Result<(), String> {
    let shown = inspect(stack, disk, true)?;
    disk.put("/top", &testkit::parallels::made(&shown, Layout { cluster: 3, old: true }));
    Ok(())
}

/// Has the clusters lie in another order.
fn in_another_order(stack: &Stack, disk: &mut Disk) -> Result<(), String> {
    let shown = inspect(stack, disk, true)?;
    disk.put("/top", &testkit::parallels::made(&shown, Layout { cluster: 8, old: false }));
    Ok(())
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
    let cluster = rng.pick(&["512", "1536", "4096"]).unwrap_or("512");
    let growth = rng.pick(&["0", "8192", "1M"]).unwrap_or("0");
    CrashTest {
        config: Config { inline: rng.chance(3, 4), workers: 1 + rng.index(3), ..Config::seeded(0) },
        inspect: Some(inspect),
        prepare: match rng.below(3) {
            0 => None,
            1 => Some(of_the_old_version),
            _ => Some(in_another_order),
        },
        ..CrashTest::new(stack(size, cluster, growth), plan)
    }
}

#[test]
fn what_was_flushed_is_there_after_any_crash_and_no_sector_shows_anothers_data() {
    run_seeds("PARALLELS_CRASH", 200, any_test);
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("PARALLELS_FAULT", 200, |seed| {
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
    run_seeds("PARALLELS_FULL", 200, |seed| {
        let mut test = any_test(seed);
        test.plan.faults = Faults::Full;
        test.room = Some(Rng::new(!seed).below(5) * 4096);
        test.prepare = Some(|stack, disk| {
            in_another_order(stack, disk)?;
            disk.make_sparse("/top");
            Ok(())
        });
        test
    });
}

#[test]
fn requests_at_once_on_one_cluster_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    let tasks: [&[&[Op]]; 3] = [
        &[&[Op::Write(1, 2)], &[Op::Zero(0, 2)], &[Op::Write(0, 1), Op::Flush]],
        &[&[Op::Fua(0, 3)], &[Op::Discard(0, 4)], &[Op::Write(2, 2)]],
        &[&[Op::Zero(0, 4), Op::Flush, Op::Write(1, 1)], &[Op::Fua(3, 1)]],
    ];
    for before in [vec![], vec![Op::Write(0, 4)]] {
        for tasks in tasks {
            let scope = SmallScope {
                stack: stack(40 << 10, "4096", "8192"),
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
