//! Leases on byte ranges: exclusive or shared, first come first served where they overlap.
//!
//! A format leases guest clusters while it changes their mapping; the core leases aligned ranges around padded
//! writes. Waiters are woken in the order they came, so none starves. The number of holders is bounded by the number
//! of requests under way, so a plain list serves.
use futures_channel::oneshot;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// The leases of one node.
#[derive(Default)]
pub struct Leases {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Vec<Range>,
    waiting: VecDeque<(Range, oneshot::Sender<()>)>,
    next_id: u64,
}

#[derive(Clone, Copy)]
struct Range {
    id: u64,
    start: u64,
    end: u64,
    exclusive: bool,
}

impl Range {
    fn conflicts(&self, other: &Range) -> bool {
        self.start < other.end && other.start < self.end && (self.exclusive || other.exclusive)
    }
}

/// A held range; given back when dropped.
#[must_use]
pub struct Lease {
    owner: Arc<Leases>,
    id: u64,
    granted: bool,
}

impl Leases {
    /// No leases.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Leases `start..end`, waiting for conflicting holders and earlier waiters.
    pub async fn lease(self: &Arc<Self>, start: u64, end: u64, exclusive: bool) -> Lease {
        let (mut lease, wait) = self.queue(start, end, exclusive);
        if let Some(wait) = wait {
            // The sender lives in the queue until it grants; it is never dropped unsent.
            let _granted = wait.await;
            lease.granted = true;
        }
        lease
    }

    /// Leases `start..end` if nobody is in the way.
    pub fn try_lease(self: &Arc<Self>, start: u64, end: u64, exclusive: bool) -> Option<Lease> {
        let mut state = self.state.lock();
        let range = Range { id: state.next_id, start, end, exclusive };
        if state.blocked(&range, state.waiting.len()) {
            return None;
        }
        state.next_id += 1;
        state.held.push(range);
        Some(Lease { owner: self.clone(), id: range.id, granted: true })
    }

    fn queue(
        self: &Arc<Self>,
        start: u64,
        end: u64,
        exclusive: bool,
    ) -> (Lease, Option<oneshot::Receiver<()>>) {
        let mut state = self.state.lock();
        let range = Range { id: state.next_id, start, end, exclusive };
        state.next_id += 1;
        let lease = |granted| Lease { owner: self.clone(), id: range.id, granted };
        if state.blocked(&range, state.waiting.len()) {
            let (grant, wait) = oneshot::channel();
            state.waiting.push_back((range, grant));
            return (lease(false), Some(wait));
        }
        state.held.push(range);
        (lease(true), None)
    }
}

impl State {
    /// Whether a holder or one of the first `ahead` waiters conflicts.
    fn blocked(&self, range: &Range, ahead: usize) -> bool {
        self.held.iter().any(|h| h.conflicts(range))
            || self.waiting.iter().take(ahead).any(|(w, _)| w.conflicts(range))
    }

    fn grant_waiters(&mut self) {
        let mut at = 0;
        while at < self.waiting.len() {
            let range = self.waiting[at].0;
            if self.blocked(&range, at) {
                at += 1;
                continue;
            }
            if let Some((range, grant)) = self.waiting.remove(at) {
                self.held.push(range);
                if grant.send(()).is_err() {
                    // Its future was dropped while it waited; the lease's own drop gives the range back.
                    continue;
                }
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.owner.state.lock();
        state.held.retain(|h| h.id != self.id);
        if !self.granted {
            state.waiting.retain(|(w, _)| w.id != self.id);
        }
        if !state.waiting.is_empty() {
            state.grant_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

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
    fn a_waiter_that_gives_up_blocks_nobody() {
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
}
