//! cow through crashes. `COW_CRASH_SEED` runs one seed, `COW_CRASH_COUNT` so many.

use sim::{Config, EIO, ENOSPC, OpKind, Plant, Rng};
use testkit::cow::inspect;
use testkit::crash::{CrashTest, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::scope::{Op, SmallScope};
use testkit::stack::{Stack, TestImage};

const DRIVERS: [&[block::DriverType]; 3] = [protocols::DRIVERS, filters::DRIVERS, formats::DRIVERS];

fn cow(file: &'static str, size: u64) -> TestImage {
    TestImage::new("cow", file, size)
}

/// A stack of this seed's choice: alone, over a raw image, or over another one that is.
fn any_stack(rng: &mut Rng) -> Stack {
    let size = (32 << 10 << rng.below(4)) + 512 * rng.below(2);
    let below = rng.below(3);
    let mut images = Vec::new();
    if below > 0 {
        // As large as the top, or smaller.
        images.push(TestImage::new("raw", "/base", size >> rng.below(2)));
    }
    if below > 1 {
        images.push(cow("/middle", size).with("backing_file", "/base").with("backing_fmt", "raw"));
    }
    images.push(match below {
        0 => cow("/top", size),
        1 => cow("/top", size).with("backing_file", "/base").with("backing_fmt", "raw"),
        _ => cow("/top", size).with("backing_file", "/middle").with("backing_fmt", "cow"),
    });
    Stack::of("cow", &DRIVERS, images)
}

fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let mut stack = any_stack(&mut rng);
    // Its size never changes.
    stack.resizes = false;
    let depth = 1 + rng.below(8);
    let mix = match rng.below(2) {
        0 => Mix { resize: 0, ..Mix::ALL },
        _ => Mix { read: 4, write: 12, zero: 3, discard: 3, flush: 3, resize: 0, fua: 10, compressed: 0 },
    };
    let span = if rng.chance(1, 3) { 16 } else { 0 };
    let plan = Plan {
        requests: 48 / depth,
        depth,
        mix,
        longest: 1 + rng.below(30),
        span,
        largest: 0,
        faults: Faults::None,
    };
    let config = Config { inline: rng.chance(3, 4), workers: 1 + rng.index(3), ..Config::seeded(0) };
    CrashTest { config, inspect: Some(inspect), reopen_every: 10, ..CrashTest::new(stack, plan) }
}

#[test]
fn what_was_flushed_is_there_after_any_crash() {
    run_seeds("COW_CRASH", 300, any_test);
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("COW_FAULT", 300, |seed| {
        let (mut test, mut rng) = (any_test(seed), Rng::new(!seed));
        let kinds =
            [OpKind::Sync, OpKind::Write, OpKind::Write, OpKind::Allocate, OpKind::SetLen, OpKind::Read];
        let kind = rng.pick(&kinds).unwrap_or(OpKind::Sync);
        let errno = if rng.chance(1, 3) && kind != OpKind::Sync { ENOSPC } else { EIO };
        let nth = rng.below(if kind == OpKind::Write { 120 } else { 30 });
        test.faults = vec![Plant::nth_of(kind, nth, errno)];
        test.plan.faults = if kind == OpKind::Sync { Faults::Syncs } else { Faults::Some };
        test
    });
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("COW_FULL", 200, |seed| {
        let (mut test, mut rng) = (any_test(seed), Rng::new(!seed));
        test.plan.faults = Faults::Full;
        test.room = Some(rng.below(24) * 4096);
        test.prepare = rng.chance(1, 2).then_some(|_, disk| {
            disk.make_sparse("/top");
            Ok(())
        });
        test
    });
}

#[test]
fn requests_at_once_on_one_sector_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    let base = TestImage::new("raw", "/base", 32 << 10);
    let over = cow("/top", 32 << 10).with("backing_file", "/base").with("backing_fmt", "raw");
    let tasks: [&[&[Op]]; 3] = [
        &[&[Op::Write(1, 2)], &[Op::Zero(0, 8)], &[Op::Write(0, 1), Op::Flush]],
        &[&[Op::Fua(0, 9)], &[Op::Discard(0, 16)], &[Op::Write(6, 4)]],
        &[&[Op::Zero(0, 16), Op::Flush, Op::Write(9, 1)], &[Op::Fua(8, 8)]],
    ];
    for images in [vec![cow("/top", 32 << 10)], vec![base, over]] {
        for (before, tasks) in [vec![], vec![Op::Write(0, 8)]].iter().flat_map(|b| tasks.map(|t| (b, t))) {
            let scope = SmallScope {
                stack: Stack::of("cow", &DRIVERS, images.clone()),
                inspect,
                before: before.clone(),
                tasks: tasks.iter().map(|ops| ops.to_vec()).collect(),
                most: 128,
                config: Config::seeded(0),
                plants: Vec::new(),
            };
            for seed in 1..=8 {
                scope.run(seed).unwrap();
            }
        }
    }
}
