//! The suites must find bugs: a small correct driver passes all of them, and each of its broken versions, with one bug that
//! real block layers have had, is found.

mod toy;

use block::Opt;
use sim::{EIO, OpKind, Plant};
use testkit::conformance::Suite;
use testkit::crash::CrashTest;
use testkit::guest::{Faults, Mix, Plan};
use testkit::stack::{Stack, TestImage};
use toy::Bug;

const SIZE: u64 = 16 << 10;
const MIX: Mix = Mix { read: 4, write: 10, zero: 4, discard: 3, flush: 4, resize: 0, fua: 10, compressed: 0 };

fn stack(bug: Bug) -> Stack {
    let drivers = [protocols::DRIVERS, formats::DRIVERS, toy::DRIVERS];
    let mut stack = Stack::of("toy", &drivers, vec![TestImage::new("toy", "/toy", SIZE)]);
    stack.top.set("bug", Opt::Str(bug.name().to_owned()));
    stack.resizes = false;
    stack
}

fn suite(bug: Bug) -> Suite {
    // It can't tell the core that a flush failed for lack of space only: it is not a format that maps.
    Suite { errnos: vec![EIO], ..Suite::of(stack(bug), None) }
}

fn crash_test(bug: Bug) -> CrashTest {
    let plan =
        Plan { requests: 16, depth: 4, mix: MIX, longest: 6, span: 0, largest: 0, faults: Faults::None };
    CrashTest { reopen_every: 1, ..CrashTest::new(stack(bug), plan) }
}

/// Runs seeds until one fails; the text of its failure, or of the panic that a wrong read is.
fn found(test: &CrashTest, seeds: u64) -> Option<String> {
    (1..=seeds).find_map(|seed| quietly(|| test.run(seed).map(drop)).err())
}

/// Runs what may panic without printing that it did.
fn quietly(f: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
    let text = |panic: Box<dyn std::any::Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(_) => "a panic".to_owned(),
    };
    result.unwrap_or_else(|panic| Err(text(panic)))
}

fn finds(bug: Bug) -> String {
    found(&crash_test(bug), 60).unwrap_or_else(|| unreachable!("{} is not found", bug.name()))
}

#[test]
fn a_correct_driver_passes() {
    assert_eq!(found(&crash_test(Bug::None), 30), None);
    suite(Bug::None).run();
}

#[test]
fn the_oracle_finds_a_driver_that_maps_before_its_data_is_durable() {
    finds(Bug::MapsBeforeData);
}

#[test]
fn the_oracle_finds_a_driver_whose_flush_flushes_nothing() {
    finds(Bug::FlushesNothing);
}

#[test]
fn the_oracle_finds_a_driver_that_flushes_data_and_forgets_its_tables() {
    finds(Bug::ForgetsTables);
}

#[test]
fn the_oracle_finds_a_driver_that_reuses_a_cluster_before_its_unmapping_is_durable() {
    let text = finds(Bug::ReusesEarly);
    assert!(text.contains("data of sector") || text.contains("sector"), "{text}");
}

#[test]
fn the_oracle_finds_a_driver_without_leases_when_two_requests_change_one_cluster() {
    finds(Bug::NoLease);
}

#[test]
fn the_oracle_finds_a_driver_that_zeroes_the_neighbours_of_a_write_for_a_moment() {
    finds(Bug::ZeroesNeighbours);
}

#[test]
fn the_core_stops_writes_to_a_driver_that_goes_on_after_a_failed_flush() {
    for bug in [Bug::None, Bug::BelievesFailedFlush] {
        let test = |k| {
            let mut test = crash_test(bug);
            test.plan.faults = Faults::Syncs;
            test.faults = vec![Plant::nth_of(OpKind::Sync, k, EIO)];
            test
        };
        assert_eq!((0..6).find_map(|k| found(&test(k), 4)), None);
    }
}

#[test]
fn the_suite_finds_a_driver_that_swallows_an_error() {
    assert!(
        quietly(|| {
            suite(Bug::SwallowsErrors).run();
            Ok(())
        })
        .is_err()
    );
}

#[test]
fn the_suite_finds_a_driver_that_keeps_its_lease_when_a_request_fails() {
    let text = quietly(|| {
        suite(Bug::KeepsLease).run();
        Ok(())
    })
    .err();
    assert!(text.as_deref().is_some_and(|text| text.contains("deadlock")), "{text:?}");
}

#[test]
fn the_suite_finds_a_driver_whose_map_calls_data_zero() {
    let text = quietly(|| {
        suite(Bug::MapsDataAsZero).run();
        Ok(())
    })
    .err();
    assert!(text.as_deref().is_some_and(|text| text.contains("said to be zero")), "{text:?}");
}
