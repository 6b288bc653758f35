//! vmdk through crashes: power cuts and kills at every moment a disk changes, with small grains so that tables are dense, and
//! both copies of them looked at. `VMDK_CRASH_SEED` runs one seed, `VMDK_CRASH_COUNT` so many.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{Opt, Options};
use sim::{Config, EIO, ENOSPC, OpKind, Plant, Rng};
use testkit::crash::{CrashTest, run_seeds};
use testkit::guest::{Faults, Mix, Plan};
use testkit::scope::{Op, SmallScope};
use testkit::stack::{Stack, TestImage};
use testkit::vmdk::inspect;

const DRIVERS: [&[block::DriverType]; 3] = [protocols::DRIVERS, filters::DRIVERS, formats::DRIVERS];

/// A sparse image of this seed's choice, over a raw image or not.
fn any_stack(rng: &mut Rng) -> Stack {
    let size = (32 << 10 << rng.below(3)) + 512 * rng.below(3);
    let zeroed = if rng.chance(1, 3) { "on" } else { "off" };
    let top = TestImage::new("vmdk", "/top", size).with("x-grain-size", "4096").with("zeroed_grain", zeroed);
    let mut images = vec![top];
    if rng.chance(1, 2) {
        images.insert(0, TestImage::new("raw", "/base", size >> rng.below(2) & !511));
    }
    stack(images)
}

fn stack(mut images: Vec<TestImage>) -> Stack {
    if let [_, top] = images.as_mut_slice() {
        // What is below is raw, whatever the descriptor could say of it.
        let file = Options::new().with_str("driver", "file").with_str("filename", "/base");
        let base = Options::new().with_str("driver", "raw").with("file", Opt::Dict(file));
        top.opened.set("backing", Opt::Dict(base));
    }
    let mut stack = Stack::of("vmdk", &DRIVERS, images);
    stack.resizes = false;
    stack
}

fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let stack = any_stack(&mut rng);
    let mix = match rng.below(2) {
        0 => Mix { read: 4, write: 10, zero: 5, discard: 4, flush: 4, resize: 0, fua: 10, compressed: 0 },
        // Allocation and freeing, over and over, on few grains.
        _ => Mix { read: 6, write: 8, zero: 6, discard: 6, flush: 3, resize: 0, fua: 10, compressed: 0 },
    };
    let (depth, span) = (1 + rng.below(6), if rng.chance(1, 3) { 16 } else { 0 });
    let plan = Plan { requests: 40 / depth, depth, mix, longest: 24, span, largest: 0, faults: Faults::None };
    CrashTest {
        config: Config { inline: rng.chance(3, 4), workers: 1 + rng.index(3), ..Config::seeded(0) },
        inspect: Some(inspect),
        ..CrashTest::new(stack, plan)
    }
}

#[test]
fn what_was_flushed_is_there_after_any_crash() {
    run_seeds("VMDK_CRASH", 200, any_test);
}

fn with_a_fault(seed: u64) -> CrashTest {
    let (mut test, mut rng) = (any_test(seed), Rng::new(!seed));
    let kinds = [OpKind::Sync, OpKind::Write, OpKind::Write, OpKind::Allocate, OpKind::SetLen, OpKind::Read];
    let kind = rng.pick(&kinds).unwrap_or(OpKind::Sync);
    let errno = if rng.chance(1, 3) && kind != OpKind::Sync { ENOSPC } else { EIO };
    test.faults = vec![Plant::nth_of(kind, rng.below(if kind == OpKind::Write { 80 } else { 20 }), errno)];
    test.plan.faults = if kind == OpKind::Sync { Faults::Syncs } else { Faults::Some };
    test
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("VMDK_FAULT", 200, with_a_fault);
}

fn on_a_full_file_system(seed: u64) -> CrashTest {
    let mut test = any_test(seed);
    test.plan.faults = Faults::Full;
    test.room = Some(Rng::new(!seed).below(5) * 4096);
    test
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("VMDK_FULL", 200, on_a_full_file_system);
}

/// A stream takes whole grains, each of them once.
#[test]
fn a_stream_has_after_any_crash_what_was_flushed_of_it() {
    let tasks: [&[&[Op]]; 3] = [
        &[&[Op::Write(0, 8), Op::Flush, Op::Write(8, 16), Op::Flush, Op::Write(24, 8)]],
        &[
            &[Op::Write(0, 16), Op::Write(16, 8)],
            &[Op::Flush, Op::Write(32, 8), Op::Flush],
            &[Op::Write(64, 1)],
        ],
        &[&[Op::Fua(8, 8), Op::Write(40, 8)], &[Op::Fua(0, 8)], &[Op::Write(24, 16), Op::Flush]],
    ];
    for before in [vec![], vec![Op::Write(56, 8)]] {
        for tasks in tasks {
            let image = TestImage::new("vmdk", "/top", (32 << 10) + 512);
            let image = image.with("subformat", "streamOptimized").with("x-grain-size", "4096");
            scopes(Stack { filled: false, ..stack(vec![image]) }, before.clone(), tasks);
        }
    }
}

fn scopes(stack: Stack, before: Vec<Op>, tasks: &[&[Op]]) {
    let scope = SmallScope {
        stack,
        inspect,
        before,
        tasks: tasks.iter().map(|ops| ops.to_vec()).collect(),
        most: 128,
        config: Config::seeded(0),
        plants: Vec::new(),
    };
    for seed in 1..=8 {
        scope.run(seed).unwrap();
    }
}

#[test]
fn requests_at_once_on_one_grain_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    let tasks: [&[&[Op]]; 3] = [
        &[&[Op::Write(6, 4)], &[Op::Zero(0, 16)], &[Op::Write(0, 8), Op::Flush]],
        &[&[Op::Fua(0, 12)], &[Op::Discard(0, 32)], &[Op::Write(14, 4)]],
        // What a discard gives up is what the next write would be given.
        &[&[Op::Discard(0, 16), Op::Write(48, 8), Op::Flush], &[Op::Discard(16, 8), Op::Write(56, 8)]],
    ];
    for tasks in tasks {
        let image = TestImage::new("vmdk", "/top", 64 << 10).with("x-grain-size", "4096");
        scopes(stack(vec![image]), vec![Op::Write(0, 32)], tasks);
    }
}
