//! What a driver holds back on purpose: a throttle's queue, requests that wait for a server to come back.
//!
//! Whoever waits for the requests inside a node tells it first ([`crate::Driver::drain`]). From then on, until it is told of
//! the end, nothing is held back: no drain can be stalled by what only time, or another machine, would let go.
use crate::node::Node;
use event_listener::Event;
use futures_util::future::{Either, select};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// Holds requests back, but not during a drain.
#[derive(Default)]
pub struct Holder {
    draining: AtomicBool,
    begun: Event,
}

impl Holder {
    /// To be called by [`crate::Driver::drain`].
    pub fn drain(&self, begins: bool) {
        self.draining.store(begins, SeqCst);
        if begins {
            self.begun.notify(usize::MAX);
        }
    }

    /// Waits for `over`, or for a drain; tells which of the two let it go: `true` for `over`.
    pub async fn hold(&self, over: impl Future<Output = ()>) -> bool {
        let drained = self.begun.listen();
        if self.draining.load(SeqCst) {
            return false;
        }
        matches!(select(pin!(over), drained).await, Either::Left(_))
    }
}

/// Nodes that let go what they hold back, as long as this is kept.
#[must_use]
pub struct Draining(Vec<Arc<Node>>);

impl Draining {
    /// Tells `nodes` that somebody waits for the requests inside.
    pub(crate) fn begin(nodes: Vec<Arc<Node>>) -> Self {
        nodes.iter().for_each(|node| node.drain(true));
        Self(nodes)
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        self.0.iter().for_each(|node| node.drain(false));
    }
}

impl Node {
    /// Several may wait at once: the driver is told of the first and of the last.
    fn drain(&self, begins: bool) {
        let mut drains = self.drains.lock();
        let before = *drains;
        *drains = if begins { before.saturating_add(1) } else { before.saturating_sub(1) };
        if (before == 0) == begins && before.max(*drains) == 1 {
            self.driver.drain(begins);
        }
    }
}
