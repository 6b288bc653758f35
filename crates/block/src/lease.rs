//! Leases on byte ranges: exclusive or shared, in order of arrival where they overlap.
//!
//! A format leases guest clusters while it changes their mapping; the core leases aligned ranges around padded
//! writes. Waiters are woken in the order they came, so none starves. The number of holders is bounded by the number
//! of requests under way, so a plain list serves.
use super::sync::Mutex;
use futures_channel::oneshot;
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

/// A held range; released when dropped.
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

    /// Leases `start..end` if no holder or waiter conflicts.
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
                    // Its future was dropped while it waited; dropping the lease releases the range.
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
