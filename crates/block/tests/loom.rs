//! Gates and leases under loom: the sources that run, compiled over loom's parts, in every interleaving of a few threads.
//!
//! Bounds: two requests, one change, at most two preemptions a run.
#![expect(clippy::duplicate_mod, reason = "the same source over two sets of parts is the point")]

use fenced::gate::{Closed, Gate};
use futures_util::FutureExt;
use loom::future::block_on;
use loom::sync::RwLock;
use loom::sync::atomic::{AtomicU64, Ordering::*};
use loom::thread;
use std::sync::Arc;

/// Loom's parts in the shape of `block::sync`.
mod parts {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    pub use loom::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

    /// Few, for loom tries every order of every load.
    pub const SLOTS: usize = 2;

    loom::thread_local! {
        static SLOT: std::cell::Cell<usize> = std::cell::Cell::new(0);
    }

    /// The counter of the calling thread.
    pub fn slot() -> usize {
        SLOT.with(|slot| slot.get())
    }

    /// This thread counts there from now on.
    pub fn set_slot(n: usize) {
        SLOT.with(|slot| slot.set(n));
    }

    #[derive(Default)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
        }
    }

    /// An event: a listener gets the next notification.
    #[derive(Default)]
    pub struct Event(Mutex<Vec<Arc<Mutex<Heard>>>>);

    #[derive(Default)]
    struct Heard {
        yes: bool,
        waker: Option<Waker>,
    }

    pub struct Listener(Arc<Mutex<Heard>>);

    impl Event {
        pub fn listen(&self) -> Listener {
            let heard = Arc::new(Mutex::default());
            self.0.lock().push(heard.clone());
            Listener(heard)
        }
    }

    pub fn notify_all(event: &Event) {
        let listeners = std::mem::take(&mut *event.0.lock());
        for listener in listeners {
            let waker = {
                let mut heard = listener.lock();
                heard.yes = true;
                heard.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }

    impl Future for Listener {
        type Output = ();

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            let mut heard = self.0.lock();
            if heard.yes {
                return Poll::Ready(());
            }
            heard.waker = Some(cx.waker().clone());
            Poll::Pending
        }
    }
}

/// The code as it is.
#[path = "../src"]
mod fenced {
    pub mod sync {
        pub use crate::parts::*;
        pub use loom::sync::atomic::fence;
    }
    #[path = "gate.rs"]
    pub mod gate;
    #[path = "lease.rs"]
    pub mod lease;
}

/// The same code without its fences.
#[path = "../src"]
mod unfenced {
    pub mod sync {
        pub use crate::parts::*;
        pub fn fence(_: Ordering) {}
    }
    #[path = "gate.rs"]
    pub mod gate;
}

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(model);
}

/// The models of a gate, over one copy of its source.
macro_rules! gate_models {
    ($copy:ident) => {
        pub mod $copy {
            use crate::explore;
            use crate::$copy::gate::{Closed, Gate};
            use loom::future::block_on;
            use loom::sync::atomic::{AtomicU64, Ordering::*};
            use loom::thread;
            use std::sync::Arc;

            /// What requests did before they ended is seen by the change, with nothing else to order the two.
            pub fn a_change_sees_what_requests_did() {
                explore(|| {
                    let (gate, done) = (Arc::new(Gate::new()), Arc::new(AtomicU64::new(0)));
                    let (theirs, their_done) = (gate.clone(), done.clone());
                    let request = thread::spawn(move || {
                        theirs.try_enter().is_some_and(|inside| {
                            their_done.store(1, Relaxed);
                            drop(inside);
                            true
                        })
                    });
                    let closed = block_on(Closed::all(vec![gate.clone()]));
                    let seen = done.load(Relaxed);
                    // The gate is still closed: an admitted request came before the change.
                    let admitted = request.join().unwrap_or(false);
                    assert!(!admitted || seen == 1, "the change overlaps a request");
                    drop(closed);
                    assert_eq!(gate.inside(), 0);
                });
            }

            /// A gate that comes to be during a change is closed as long as the others, and lets in who waits there.
            pub fn a_gate_that_joins_a_change_opens_with_it() {
                explore(|| {
                    let mut closed = block_on(Closed::all(vec![Arc::new(Gate::new())]));
                    let late = Arc::new(Gate::new());
                    closed.join(&late);
                    let theirs = late.clone();
                    let request = thread::spawn(move || drop(block_on(theirs.enter())));
                    assert!(late.try_enter().is_none(), "the gate is open during the change");
                    drop(closed);
                    assert!(request.join().is_ok());
                    assert_eq!(late.inside(), 0);
                });
            }

            /// A request that waits at a gate is refused when it is closed for good, whichever comes first.
            pub fn no_request_waits_at_a_gate_that_is_closed_for_good() {
                explore(|| {
                    let gate = Arc::new(Gate::new());
                    let theirs = gate.clone();
                    let request = thread::spawn(move || drop(block_on(theirs.enter())));
                    gate.retire();
                    assert!(request.join().is_ok());
                    assert!(block_on(gate.enter()).is_none(), "a gate that is closed for good lets in");
                });
            }

            /// A change waits for what goes on for a request that is answered already.
            pub fn a_change_waits_for_who_stays_inside() {
                explore(|| {
                    let (gate, done) = (Arc::new(Gate::new()), Arc::new(AtomicU64::new(0)));
                    let (theirs, their_done) = (gate.clone(), done.clone());
                    let request = block_on(gate.stay());
                    let work = thread::spawn(move || {
                        let goes_on = theirs.stay_inside();
                        drop(request);
                        their_done.store(1, SeqCst);
                        drop(goes_on);
                    });
                    let closed = block_on(Closed::all(vec![gate.clone()]));
                    assert_eq!(done.load(SeqCst), 1, "the change overlaps the work");
                    drop(closed);
                    assert!(work.join().is_ok());
                    assert_eq!(gate.inside(), 0);
                });
            }

            /// Nobody to wait for.
            pub fn a_grace_period_without_requests_ends() {
                explore(|| {
                    let gate = Gate::new();
                    block_on(gate.grace());
                    drop(block_on(gate.enter()));
                    assert_eq!(gate.inside(), 0);
                });
            }
        }
    };
}

mod models {
    gate_models!(fenced);
    gate_models!(unfenced);
}

#[test]
fn no_request_overlaps_a_change_and_none_is_forgotten_at_the_gate() {
    // Two requests, one of which waits where the gate is closed, and a change; `RwLock::try_*` tells of overlap.
    explore(|| {
        let (gate, edge) = (Arc::new(Gate::new()), Arc::new(RwLock::new(0u64)));
        let (theirs, changed) = (gate.clone(), edge.clone());
        let request = thread::spawn(move || {
            parts::set_slot(1);
            let inside = block_on(theirs.enter());
            assert!(changed.try_read().is_ok(), "a request overlaps the change");
            drop(inside);
        });
        let (theirs, changed) = (gate.clone(), edge.clone());
        let change = thread::spawn(move || {
            let closed = block_on(Closed::all(vec![theirs.clone()]));
            assert!(changed.try_write().is_ok(), "the change overlaps a request");
            drop(closed);
        });
        if let Some(inside) = gate.try_enter() {
            assert!(edge.try_read().is_ok(), "a request overlaps the change");
            drop(inside);
        }
        assert!(request.join().is_ok() && change.join().is_ok());
    });
}

#[test]
fn a_change_sees_what_the_requests_before_it_did() {
    models::fenced::a_change_sees_what_requests_did();
}

#[test]
fn a_change_waits_for_work_that_stays_inside() {
    models::fenced::a_change_waits_for_who_stays_inside();
}

#[test]
fn a_gate_that_joins_a_change_opens_with_it() {
    models::fenced::a_gate_that_joins_a_change_opens_with_it();
    models::unfenced::a_gate_that_joins_a_change_opens_with_it();
}

#[test]
fn no_request_waits_at_a_gate_that_is_closed_for_good() {
    models::fenced::no_request_waits_at_a_gate_that_is_closed_for_good();
    models::unfenced::no_request_waits_at_a_gate_that_is_closed_for_good();
}

#[test]
fn a_grace_period_ends_after_every_request_admitted_before_it() {
    // A cluster is unmapped, a grace period passes, and the cluster is used again: no request that found it mapped is
    // still at it.
    explore(|| {
        let (gate, cluster) = (Arc::new(Gate::new()), Arc::new(RwLock::new(0u64)));
        let mapped = Arc::new(AtomicU64::new(1));
        let (theirs, their_cluster, their_mapped) = (gate.clone(), cluster.clone(), mapped.clone());
        let request = thread::spawn(move || {
            parts::set_slot(1);
            let inside = block_on(theirs.enter());
            if their_mapped.load(Relaxed) == 1 {
                assert!(their_cluster.try_read().is_ok(), "the cluster is used again too early");
            }
            drop(inside);
        });
        mapped.store(0, Relaxed);
        block_on(gate.grace());
        assert!(cluster.try_write().is_ok(), "the cluster is used again too early");
        assert!(request.join().is_ok());
    });
}

#[test]
fn an_entry_that_was_led_elsewhere_needs_no_grace_period() {
    // The same, where the entry may be led away from the node meanwhile: by a change, which drains it first. Who finds it
    // elsewhere has nobody to wait for.
    explore(|| {
        let (gate, cluster) = (Arc::new(Gate::new()), Arc::new(RwLock::new(0u64)));
        let (mapped, reaches) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(1)));
        let (theirs, their_cluster, their_mapped) = (gate.clone(), cluster.clone(), mapped.clone());
        let their_root = reaches.clone();
        let request = thread::spawn(move || {
            parts::set_slot(1);
            let inside = block_on(theirs.enter());
            if their_root.load(Acquire) == 1 && their_mapped.load(Relaxed) == 1 {
                assert!(their_cluster.try_read().is_ok(), "the cluster is used again too early");
            }
            drop(inside);
        });
        let (theirs, root) = (gate.clone(), reaches.clone());
        let change = thread::spawn(move || {
            let closed = block_on(Closed::all(vec![theirs]));
            root.store(0, Release);
            drop(closed);
        });
        mapped.store(0, Relaxed);
        if reaches.load(Acquire) == 1 {
            block_on(gate.grace());
        }
        assert!(cluster.try_write().is_ok(), "the cluster is used again too early");
        assert!(request.join().is_ok() && change.join().is_ok());
    });
}

#[test]
fn a_grace_period_without_requests_ends_at_once() {
    models::fenced::a_grace_period_without_requests_ends();
    models::unfenced::a_grace_period_without_requests_ends();
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_fences_loom_finds_a_change_that_waits_for_who_has_left() {
    models::unfenced::a_change_waits_for_who_stays_inside();
}

#[test]
#[should_panic(expected = "overlaps")]
fn without_the_fences_loom_finds_a_change_that_does_not_see_a_request() {
    models::unfenced::a_change_sees_what_requests_did();
}

#[test]
fn exclusive_leases_exclude_and_a_waiter_that_gives_up_leaves_nothing_behind() {
    use fenced::lease::Leases;
    explore(|| {
        let (leases, range) = (Leases::new(), Arc::new(RwLock::new(0u64)));
        let (theirs, held) = (leases.clone(), range.clone());
        let other = thread::spawn(move || {
            let lease = block_on(theirs.lease(0, 10, true));
            assert!(held.try_write().is_ok(), "two hold one range");
            drop(lease);
        });
        let (theirs, held) = (leases.clone(), range.clone());
        let quitter = thread::spawn(move || {
            let mut wait = Box::pin(theirs.lease(5, 15, true));
            if let Some(lease) = (&mut wait).now_or_never() {
                assert!(held.try_write().is_ok(), "two hold one range");
                drop(lease);
            }
        });
        let lease = block_on(leases.lease(9, 20, false));
        assert!(range.try_read().is_ok(), "a reader beside a writer");
        drop(lease);
        assert!(other.join().is_ok() && quitter.join().is_ok());
        assert!(leases.try_lease(0, 100, true).is_some(), "a lease was left behind");
    });
}
