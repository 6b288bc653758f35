//! Gates and leases in simple cases; interleavings of threads are in `loom.rs`.

use block::{Gate, Leases};
use futures_util::FutureExt;

#[test]
fn a_closed_gate_admits_and_counts_no_request() {
    let gate = Gate::new();
    let inside = gate.try_enter().unwrap();
    gate.close();
    assert!(gate.try_enter().is_none());
    assert_eq!(gate.inside(), 1);
    drop(inside);
    assert_eq!(gate.inside(), 0);
    gate.open();
    assert!(gate.try_enter().is_some());
}

#[test]
fn overlapping_exclusive_leases_wait_in_order_and_disjoint_ones_do_not() {
    let leases = Leases::new();
    let a = leases.lease(0, 10, true).now_or_never().unwrap();
    let mut b = Box::pin(leases.lease(5, 15, true));
    let mut c = Box::pin(leases.lease(12, 20, true));
    assert!(b.as_mut().now_or_never().is_none());
    assert!(c.as_mut().now_or_never().is_none(), "c may not overtake b");
    assert!(leases.lease(20, 30, true).now_or_never().is_some());
    drop(a);
    let b = b.now_or_never().unwrap();
    assert!(c.as_mut().now_or_never().is_none());
    drop(b);
    assert!(c.now_or_never().is_some());
}

#[test]
fn shared_leases_overlap_and_keep_an_exclusive_one_out() {
    let leases = Leases::new();
    let a = leases.try_lease(0, 10, false).unwrap();
    let b = leases.try_lease(0, 10, false).unwrap();
    assert!(leases.try_lease(9, 10, true).is_none());
    drop((a, b));
    assert!(leases.try_lease(9, 10, true).is_some());
}

#[test]
fn a_waiter_that_gives_up_blocks_no_other() {
    let leases = Leases::new();
    let a = leases.try_lease(0, 10, true).unwrap();
    let b = {
        let mut b = Box::pin(leases.lease(0, 10, true));
        assert!(b.as_mut().now_or_never().is_none());
        b
    };
    drop(b);
    drop(a);
    assert!(leases.try_lease(0, 10, true).is_some());
}
