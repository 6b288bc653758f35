//! vmdk through crashes: power cuts and kills at every moment a disk changes, with small grains so that tables are dense, and
//! both copies of them looked at. `VMDK_CRASH_SEED` runs one seed, `VMDK_CRASH_COUNT` so many.

use block::{Opt, Options};
use sim::Rng;
use testkit::crash::{CrashTest, run_seeds};
use testkit::scope::{Op, SmallScope};
use testkit::stack::{Stack, TestImage};
use testkit::vmdk::inspect;

fn vmdk(size: u64) -> TestImage {
    TestImage::new("vmdk", "/top", size).with("x-grain-size", "4096")
}

fn stack(mut images: Vec<TestImage>) -> Stack {
    if let [_, top] = images.as_mut_slice() {
        // What is below is raw, whatever the descriptor could say of it.
        let file = Options::new().with_str("driver", "file").with_str("filename", "/base");
        let base = Options::new().with_str("driver", "raw").with("file", Opt::Dict(file));
        top.opened.set("backing", Opt::Dict(base));
    }
    Stack::of("vmdk", &[protocols::DRIVERS, filters::DRIVERS, formats::DRIVERS], images)
}

/// A sparse image of this seed's choice, over a raw image or not.
fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let size = (32 << 10 << rng.below(3)) + 512 * rng.below(3);
    let zeroed = if rng.chance(1, 3) { "on" } else { "off" };
    let mut images = vec![vmdk(size).with("zeroed_grain", zeroed)];
    if rng.chance(1, 2) {
        images.insert(0, TestImage::new("raw", "/base", size >> rng.below(2) & !511));
    }
    CrashTest::by_chance(&mut rng, stack(images), inspect, 32)
}

#[test]
fn what_was_flushed_is_there_after_any_crash() {
    run_seeds("VMDK_CRASH", 200, any_test);
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("VMDK_FAULT", 200, |seed| any_test(seed).with_a_fault(seed, 80));
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("VMDK_FULL", 200, |seed| any_test(seed).on_a_full_file_system(seed));
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
    let stack = stack(vec![vmdk((32 << 10) + 512).with("subformat", "streamOptimized")]);
    let scope = SmallScope::new(Stack { filled: false, ..stack }, inspect);
    scope.run_each(&[&[], &[Op::Write(56, 8)]], &tasks, 8);
}

#[test]
fn requests_at_once_on_one_grain_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    let tasks: [&[&[Op]]; 3] = [
        &[&[Op::Write(6, 4)], &[Op::Zero(0, 16)], &[Op::Write(0, 8), Op::Flush]],
        &[&[Op::Fua(0, 12)], &[Op::Discard(0, 32)], &[Op::Write(14, 4)]],
        // What a discard gives up is what the next write would be given.
        &[&[Op::Discard(0, 16), Op::Write(48, 8), Op::Flush], &[Op::Discard(16, 8), Op::Write(56, 8)]],
    ];
    SmallScope::new(stack(vec![vmdk(64 << 10)]), inspect).run_each(&[&[Op::Write(0, 32)]], &tasks, 8);
}
