//! What gates and leases synchronise with. `tests/loom.rs` compiles their sources with a module of this shape whose parts
//! are loom's, so that it tries the interleavings of the code that runs.
use event_listener::IntoNotification;

pub(crate) use event_listener::Event;
pub(crate) use parking_lot::Mutex;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering, fence};

/// Counters of a gate: workers share one only where there are more of them.
pub(crate) const SLOTS: usize = 8;

/// The counter of the calling worker.
pub(crate) fn slot() -> usize {
    rt::current_worker().map_or(0, |worker| worker + 1) % SLOTS
}

/// Wakes all that listen now.
pub(crate) fn notify_all(event: &Event) {
    event.notify(usize::MAX.additional());
}
