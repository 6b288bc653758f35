//! qcow, of the first version, through crashes. `QCOW_CRASH_SEED` runs one seed, `QCOW_CRASH_COUNT` so many.

use sim::Rng;
use testkit::chance;
use testkit::crash::{CrashTest, run_seeds};
use testkit::qcow::inspect;
use testkit::scope::{ON_TWO_CLUSTERS, Op, SmallScope};
use testkit::stack::{Stack, TestImage};

const DRIVERS: [&[block::DriverType]; 3] = [protocols::DRIVERS, filters::DRIVERS, formats::DRIVERS];

fn qcow(file: &'static str, size: u64) -> TestImage {
    TestImage::new("qcow", file, size)
}

fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let size = (32 << 10 << rng.below(4)) + 512 * rng.below(2);
    let stack = chance::overlay(&mut rng, &DRIVERS, size, |_, file, size| qcow(file, size));
    CrashTest::by_chance(&mut rng, stack, inspect, 32)
}

#[test]
fn what_was_flushed_is_there_after_any_crash_and_nothing_is_there_twice() {
    run_seeds("QCOW_CRASH", 300, any_test);
}

fn with_compression(seed: u64) -> CrashTest {
    let mut test = any_test(seed);
    test.plan.mix.compressed = 60;
    test
}

#[test]
fn compressed_clusters_share_their_space_and_come_and_go_through_any_crash() {
    run_seeds("QCOW_COMPRESSED", 200, with_compression);
}

#[test]
fn an_encrypted_image_keeps_what_was_flushed_through_every_crash() {
    run_seeds("QCOW_ENCRYPTED", 40, |seed| {
        let mut test = any_test(seed);
        if let Some(top) = test.stack.images.pop() {
            let top = top.with("encrypt.format", "aes").with("encrypt.key-secret", "s");
            let top = top.opened_with("encrypt.key-secret", "s");
            let images = [test.stack.images, vec![top]].concat();
            let stack = Stack::of("encrypted qcow", &DRIVERS, images);
            test.stack = Stack { secrets: vec![("s", "a passphrase")], ..stack };
        }
        CrashTest { inspect: None, moments: 12, reopen_every: 1, ..test }
    });
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost() {
    run_seeds("QCOW_FAULT", 300, |seed| {
        let test = if seed.is_multiple_of(2) { any_test(seed) } else { with_compression(seed) };
        test.with_a_fault(seed, 120)
    });
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("QCOW_FULL", 200, |seed| any_test(seed).on_a_full_file_system(seed));
}

#[test]
fn requests_at_once_on_one_cluster_leave_nothing_that_none_of_them_wrote_whatever_a_crash_keeps() {
    for stack in Stack::alone_and_over_raw(&DRIVERS, &qcow("/top", 32 << 10)) {
        SmallScope::new(stack, inspect).run_each(&[&[], &[Op::Write(0, 8)]], &ON_TWO_CLUSTERS, 8);
    }
}
