//! Grace periods: when the requests that may still know an old mapping have ended.
//!
//! A node that takes space away from its old content may use it again when every request that could have learned of the old
//! mapping has ended. Only a request that can reach the node could: one that was admitted by an entry from which the node is
//! reached. So it waits for those, and a request that hangs elsewhere in the graph, or a slow guest of another disk, keeps
//! no space.
//!
//! Which entries these are is read from the topology at the beginning of the wait. That edges change meanwhile, or have
//! changed while a request was inside, is no hole:
//! - a request that learned of the old mapping was admitted when its entry reached the node. If the entry does not reach it
//!   any more, an edge or the entry's root has changed in between; such a change closes the gates of all entries that reach
//!   it by the old edges, and waits until nobody is inside ([`GraphChange::quiesce`](crate::GraphChange::quiesce)): the
//!   request has ended before the change was made;
//! - an entry that reaches the node only later was attached, or led there by such a change, after the unmapping: its
//!   requests are told the new mapping;
//! - a node that only now got its first user had none before, and one that lost its last has no requests.
//!
//! A request inside that waits for a grace period of its own node would wait for itself: nobody may.
use super::topology::Topology;
use crate::gate::{Gate, Inside};
use crate::node::Node;
use parking_lot::RwLock;
use std::sync::atomic::{Ordering::SeqCst, fence};
use std::sync::{Arc, OnceLock, Weak};

/// The requests that can reach one node.
#[derive(Default)]
pub struct Domain {
    topology: Weak<RwLock<Topology>>,
    node: OnceLock<Weak<Node>>,
}

impl Domain {
    /// For a node that is about to be opened.
    pub(super) fn new(topology: &Arc<RwLock<Topology>>) -> Arc<Self> {
        Arc::new(Self { topology: Arc::downgrade(topology), node: OnceLock::new() })
    }

    /// The node is there.
    pub(crate) fn belongs_to(&self, node: &Arc<Node>) {
        self.node.get_or_init(|| Arc::downgrade(node));
    }

    /// Waits until every request that was admitted before the call, and can reach the node, has ended. A request must not
    /// await this while it is inside a gate itself.
    pub async fn grace(&self) {
        for gate in self.gates() {
            gate.grace().await;
        }
    }

    /// How many requests that can reach the node are inside. One that began before the call, and has not ended, is among
    /// them, if it may know less than what was published before the call.
    pub fn inside(&self) -> i64 {
        // Pairs with the fence of a request that enters: it sees what was published, or is seen.
        fence(SeqCst);
        self.gates().iter().map(|gate| gate.inside()).sum()
    }

    /// Keeps whoever waits for the requests that can reach the node waiting, as long as what is returned lives. Called inside
    /// such a request, for work that goes on after its answer.
    pub fn stay(&self) -> Vec<Inside> {
        self.gates().iter().map(Gate::stay_inside).collect()
    }

    fn gates(&self) -> Vec<Arc<Gate>> {
        let node = self.node.get().and_then(Weak::upgrade);
        let (Some(node), Some(topology)) = (node, self.topology.upgrade()) else { return Vec::new() };
        let entries = topology.read().entries_above(&node);
        entries.iter().map(|entry| entry.gate.clone()).collect()
    }
}
