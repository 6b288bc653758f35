//! What a stream holds: a filter over the node, an entry to it, blockers and entries on the layers below.
use crate::chain::chain;
use crate::filter::{JobFilter, STREAM_TOP};
use crate::job::Job;
use block::{Backend, BackendRequest, Blocker, Graph, GraphChange, Node, Operations, Perms, Result, Share};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// Who blocks the nodes.
const IN_USE: &str = "block device is in use by block job: stream";

/// The job's use of the node: what it shows stays as it is. Others may do anything but change its size.
const TOP: Perms = Perms {
    need: Share(Share::READ.0 | Share::WRITE_UNCHANGED.0),
    share: Share(Share::ALL.0 & !Share::RESIZE.0),
};

/// The job's use of the layers below: they stay as they are.
const LAYER: Perms = Perms { need: Share::NONE, share: Share(Share::READ.0 | Share::WRITE_UNCHANGED.0) };

/// The nodes of a stream and what the job holds on them.
pub(super) struct Hold {
    pub(super) graph: Graph,
    /// The image that takes the data: the node, without filters over it.
    pub(super) image: Arc<Node>,
    /// The lowest node that is not the base's.
    lowest: Arc<Node>,
    pub(super) entry: Arc<Backend>,
    layers: Vec<Arc<Backend>>,
    filter: JobFilter,
    blockers: Mutex<Vec<Blocker>>,
    /// To be made read-only again at the end.
    back_to_read_only: AtomicBool,
    /// What was below the image before the switch.
    left: Mutex<Option<Arc<Node>>>,
}

impl Hold {
    /// Takes the nodes of a chain from `top` down to `lowest` for the job `id`.
    pub(super) async fn take(
        graph: &Graph,
        id: &str,
        (top, lowest): (&Arc<Node>, &Arc<Node>),
        filter_name: Option<String>,
    ) -> Result<Self> {
        let mut nodes = chain(top);
        if let Some(end) = nodes.iter().position(|n| Arc::ptr_eq(n, lowest)) {
            nodes.truncate(end + 1);
        }
        let image = top.skip_filters();
        let mut change = graph.change().await;
        let seized = async {
            nodes.iter().try_for_each(|node| node.check_operation(Operations::JOB))?;
            let in_use = |node: &Arc<Node>| node.block(Operations::CHANGE, IN_USE);
            let blockers = Mutex::new(nodes.iter().map(in_use).collect());
            let filter = JobFilter::insert(&mut change, graph, top, (STREAM_TOP, filter_name), IN_USE)
                .await
                .map_err(|e| e.context("Could not create node"))?;
            let was_read_only = top.read_only();
            change.set_writable(top, true).await?;
            let mut enter = |node: &Arc<Node>, perms| {
                let (label, node) = (Job::entry_label(id), node.clone());
                change.attach(BackendRequest { label, node, perms, pinned: true })
            };
            let entry = enter(top, TOP)?;
            let below = nodes.iter().skip_while(|n| !Arc::ptr_eq(n, &image)).skip(1);
            let layers = below.map(|node| enter(node, LAYER)).collect::<Result<_>>()?;
            let (graph, image, lowest) = (graph.clone(), image.clone(), lowest.clone());
            let (back_to_read_only, left) = (AtomicBool::new(was_read_only), Mutex::new(None));
            Ok(Self { graph, image, lowest, entry, layers, filter, blockers, back_to_read_only, left })
        };
        let seized = seized.await;
        change.end(seized).await
    }

    /// The base, with the filters over it.
    pub(super) fn base(&self) -> Option<Arc<Node>> {
        self.lowest.next_in_chain()
    }

    /// Takes the filter out, as a step of the switch.
    pub(super) async fn take_out(&self, change: &mut GraphChange) -> Result<()> {
        self.filter.take_out(change).await
    }

    /// The switch has taken effect.
    pub(super) fn switched(&self, left: Option<Arc<Node>>) {
        self.filter.is_out();
        *self.left.lock() = left;
    }

    /// Gives everything back. Every step is tried; returns the first error.
    pub(super) async fn give_back(&self) -> Result<()> {
        let mut result = self.filter.remove().await;
        let top = self.entry.node();
        for layer in &self.layers {
            result = result.and(self.graph.detach(layer).await);
        }
        if self.back_to_read_only.load(Relaxed) {
            result = result.and(self.graph.set_writable(&top, false).await);
        }
        self.blockers.lock().clear();
        let left = self.left.lock().take();
        if let Some(left) = left {
            result = result.and(self.graph.release(&left).await);
        }
        result.and(self.graph.detach(&self.entry).await)
    }
}
