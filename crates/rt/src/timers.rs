//! The timers of one worker, by deadline. Any thread may set and cancel them; the worker fires them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::Mutex;

/// No timer is set.
pub(crate) const NEVER: u64 = u64::MAX;

#[derive(Default)]
struct Waiting {
    by_deadline: BTreeMap<(u64, u64), Waker>,
    last_id: u64,
}

pub(crate) struct Timers {
    waiting: Mutex<Waiting>,
    /// The earliest deadline, so that a turn without due timers takes no lock.
    next: AtomicU64,
}

impl Timers {
    pub(crate) fn new() -> Timers {
        Timers { waiting: Mutex::default(), next: AtomicU64::new(NEVER) }
    }

    /// The earliest deadline, or [`NEVER`].
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    fn publish(&self, waiting: &Waiting) {
        let first = waiting.by_deadline.keys().next();
        self.next.store(first.map_or(NEVER, |&(deadline, _)| deadline), Ordering::SeqCst);
    }

    /// Sets a timer; its id, and whether it is now the earliest.
    pub(crate) fn set(&self, deadline: u64, waker: &Waker) -> (u64, bool) {
        let mut waiting = self.waiting.lock();
        waiting.last_id += 1;
        let id = waiting.last_id;
        waiting.by_deadline.insert((deadline, id), waker.clone());
        let earlier = deadline < self.next.load(Ordering::SeqCst);
        self.publish(&waiting);
        (id, earlier)
    }

    /// Replaces the waker of a timer; `false` when it has fired.
    pub(crate) fn update(&self, deadline: u64, id: u64, waker: &Waker) -> bool {
        match self.waiting.lock().by_deadline.get_mut(&(deadline, id)) {
            Some(old) => {
                old.clone_from(waker);
                true
            }
            None => false,
        }
    }

    pub(crate) fn cancel(&self, deadline: u64, id: u64) {
        let mut waiting = self.waiting.lock();
        let waker = waiting.by_deadline.remove(&(deadline, id));
        self.publish(&waiting);
        drop(waiting);
        // Dropping a waker may drop a task and all it owns, timers included: not under the lock.
        drop(waker);
    }

    /// Wakes all that are due at `now`, earliest first.
    pub(crate) fn fire(&self, now: u64) {
        while self.next() <= now {
            let mut waiting = self.waiting.lock();
            let Some((_, waker)) = waiting.by_deadline.pop_first() else { break };
            self.publish(&waiting);
            drop(waiting);
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Wake;

    struct Note(u64, Arc<Mutex<Vec<u64>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().push(self.0);
        }
    }

    #[test]
    fn timers_fire_when_due_in_order_and_those_cancelled_never() {
        let (timers, fired) = (Timers::new(), Arc::new(Mutex::new(Vec::new())));
        let set = |deadline| timers.set(deadline, &Waker::from(Arc::new(Note(deadline, fired.clone()))));
        assert_eq!([30, 10, 20, 15].map(set).map(|(_, earliest)| earliest), [true, true, false, false]);
        let (id, _) = set(12);
        timers.cancel(12, id);
        timers.fire(9);
        assert!(fired.lock().is_empty());
        timers.fire(20);
        assert_eq!((fired.lock().as_slice(), timers.next()), ([10, 15, 20].as_slice(), 30));
        assert!(!timers.update(12, id, Waker::noop()), "it is gone");
        timers.fire(NEVER - 1);
        assert_eq!((fired.lock().as_slice(), timers.next()), ([10, 15, 20, 30].as_slice(), NEVER));
    }
}
