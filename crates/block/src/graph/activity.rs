//! Active and inactive nodes: which of several programs an image belongs to.
//!
//! Programs that hand an image over have it open at once. At each moment it is active in at most one of them; in the others
//! the node is there, with its users, and waits.
//!
//! ```text
//!  one:   active ── flush · bitmaps stored · locks given back ──▶ inactive
//!  other: inactive ─────────────────── locks taken · all read again ──▶ active
//! ```
//!
//! Laws:
//! - an inactive node is read, as it was when it was last looked at, and never written, whoever asks. It holds no lock, needs
//!   nothing of others and shares everything;
//! - all that an inactive node's users ever wrote is durable, with what its driver keeps beside the data; its image's dirty bitmaps
//!   are in the image, and not in memory;
//! - no active node has an inactive child: nodes become inactive from above, and active from below. What is below goes along unless
//!   somebody active uses it;
//! - while images are handed over ([`HandedOver`]), nobody takes one over here;
//! - a node becomes inactive only if its users let it ([`Backend::tolerate_inactive`]), which guests do; all go, or none;
//! - locks are taken before anything is read again.
use super::topology::below;
use super::transaction::Step;
use super::{BackendRequest, Graph};
use crate::GraphChange;
use crate::backend::Backend;
use crate::bitmaps::NamedBitmap;
use crate::blockers::Operations;
use crate::driver::Undo;
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::{Node, Slow};
use crate::perm::Share;
use crate::registry::{DriverKind, DriverType};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// What nobody does with an inactive node.
const CHANGES: Share = Share::WRITE.union(Share::WRITE_UNCHANGED).union(Share::RESIZE);

/// Images that were let go for another program, which is about to take them over. As long as this is kept nobody takes an image over
/// here, nor does afterwards who asked for that before.
#[must_use = "images may be taken over here when this is dropped"]
pub struct HandedOver {
    graph: Graph,
    nodes: Vec<Arc<Node>>,
}

impl HandedOver {
    fn begin(graph: &Graph) -> Self {
        graph.0.hand_overs.begun.fetch_add(1, SeqCst);
        Self { graph: graph.clone(), nodes: Vec::new() }
    }

    /// Takes back what was let go, and nothing else. The other program does not have it, and will not.
    pub async fn take_back(mut self) -> Result<()> {
        let (graph, nodes) = (self.graph.clone(), std::mem::take(&mut self.nodes));
        let mut change = graph.change().await;
        drop(self);
        let activated = change.activate(&nodes, graph.0.hand_overs.asked()).await;
        change.end(activated).await
    }
}

impl Drop for HandedOver {
    fn drop(&mut self) {
        self.graph.0.hand_overs.ended.fetch_add(1, SeqCst);
    }
}

/// How often images were let go for another program.
#[derive(Default)]
pub(super) struct HandOvers {
    begun: AtomicU64,
    ended: AtomicU64,
}

impl HandOvers {
    /// What an image may be taken over by that is asked for now: the number of hand-overs so far, or none while one is under way.
    fn asked(&self) -> u64 {
        let begun = self.begun.load(SeqCst);
        if self.ended.load(SeqCst) == begun { begun } else { u64::MAX }
    }

    /// Refuses to take images over where that was [asked](Self::asked) for before a hand-over, or during one.
    fn check_none_since(&self, asked: u64) -> Result<()> {
        if asked != u64::MAX && self.asked() == asked {
            return Ok(());
        }
        let text = "the images are being handed over to another program";
        Err(BlockError::new(ErrorKind::Busy, text))
    }
}

impl Graph {
    /// Whether new nodes are inactive unless their options say otherwise.
    pub fn opens_inactive(&self) -> bool {
        self.0.opens_inactive.load(Acquire)
    }

    /// New nodes are inactive unless their options say otherwise, as long as the state of another machine is awaited.
    pub fn open_inactive(&self, on: bool) {
        self.0.opens_inactive.store(on, Release);
    }

    /// Takes over an image, with those below it.
    pub async fn activate(&self, node: &Arc<Node>) -> Result<()> {
        self.take_over(|| vec![node.clone()]).await
    }

    /// Takes over all images, or none.
    pub async fn activate_all(&self) -> Result<()> {
        self.take_over(|| self.nodes()).await
    }

    async fn take_over(&self, nodes: impl FnOnce() -> Vec<Arc<Node>>) -> Result<()> {
        let asked = self.0.hand_overs.asked();
        let mut change = self.change().await;
        let activated = change.activate(&nodes(), asked).await;
        change.end(activated).await
    }

    /// Lets an image go, with those below it that nobody else uses.
    pub async fn inactivate(&self, node: &Arc<Node>) -> Result<()> {
        // A first, long flush while requests still run, so that the one with the gates closed is short.
        node.flush().await?;
        let mut change = self.change().await;
        let inactivated = change.inactivate(std::slice::from_ref(node)).await;
        change.end(inactivated).await.map(drop)
    }

    /// Lets all images go, or none.
    pub async fn inactivate_all(&self) -> Result<()> {
        let mut change = self.change().await;
        let inactivated = change.inactivate(&self.tops()).await;
        change.end(inactivated).await.map(drop)
    }

    /// Lets all images go, or none, for another program that is about to take them over.
    pub async fn hand_over_all(&self) -> Result<HandedOver> {
        let mut change = self.change().await;
        // From here on, for those who wait for their turn too.
        let mut handed_over = HandedOver::begin(self);
        let inactivated = change.inactivate(&self.tops()).await;
        handed_over.nodes = change.end(inactivated).await?;
        Ok(handed_over)
    }

    fn tops(&self) -> Vec<Arc<Node>> {
        self.nodes().into_iter().filter(|node| self.parents(node).is_empty()).collect()
    }

    /// Attaches an entry that copes with a node that is, or becomes, inactive.
    pub async fn attach_tolerant(&self, request: BackendRequest) -> Result<Arc<Backend>> {
        let mut change = self.change().await;
        let entry = change.attach_tolerant(request);
        change.end(entry).await
    }

    /// The guest runs from now on: its devices share no more than they say. One that can't have that goes on sharing.
    pub async fn guest_runs(&self) {
        for entry in self.entries().into_iter().filter(|entry| entry.waits.load(Acquire)) {
            let mut change = self.change().await;
            entry.waits.store(false, Release);
            change.unsettled.push(entry.node());
            let settled = change.settle();
            if let Err(error) = &settled {
                tracing::warn!(entry = entry.label(), %error, "it shares its medium with others although it was to have it alone");
                entry.waits.store(true, Release);
            }
            // After a failure the locks go back to what sharing means.
            let _ = change.end(settled).await;
        }
    }
}

impl GraphChange {
    /// Lets images go, with those below them that nobody else uses; tells which.
    pub async fn inactivate(&mut self, tops: &[Arc<Node>]) -> Result<Vec<Arc<Node>>> {
        let tops: Vec<_> = tops.iter().filter(|node| node.is_active()).cloned().collect();
        for top in &tops {
            if self.graph.parents(top).iter().any(|parent| parent.node.is_active()) {
                return Err(BlockError::new(ErrorKind::Permission, "Node has active parent node"));
            }
        }
        let leaving = self.leaving(&tops);
        leaving.iter().try_for_each(|node| self.check_let_go(node))?;
        self.quiesce(&leaving).await?;
        for node in &leaving {
            node.flush().await?;
        }
        for node in &leaving {
            let undo = match is_switched(node) {
                true => Some(node.driver.set_writable(false).await?),
                false => None,
            };
            let bitmaps = node.bitmaps.forget_those_of_image();
            node.set_slow(Slow::INACTIVE, true);
            self.unsettled.push(node.clone());
            self.done.push(Step::Inactive(node.clone(), bitmaps, undo));
        }
        self.settle().map(|()| leaving)
    }

    /// The active nodes that become inactive with `tops`, each before what is below it.
    fn leaving(&self, tops: &[Arc<Node>]) -> Vec<Arc<Node>> {
        let mut known: HashSet<_> = tops.iter().map(Arc::as_ptr).collect();
        let (mut leaving, mut at) = (tops.to_vec(), 0);
        while let Some(node) = leaving.get(at).cloned() {
            at += 1;
            for child in node.edges.all().into_iter().map(|child| child.node) {
                let stays = |parent: &Arc<Node>| parent.is_active() && !known.contains(&Arc::as_ptr(parent));
                let used = self.graph.parents(&child).iter().any(|parent| stays(&parent.node));
                if child.is_active() && !used && known.insert(Arc::as_ptr(&child)) {
                    leaving.push(child);
                }
            }
        }
        leaving
    }

    /// Refuses to let a node go that a user goes on writing to, or using a bitmap of.
    fn check_let_go(&self, node: &Arc<Node>) -> Result<()> {
        let entries = self.graph.entries();
        let writes = |entry: &&Arc<Backend>| {
            Arc::ptr_eq(&entry.node(), node)
                && entry.perms().need.meets(CHANGES)
                && !entry.tolerant.load(Acquire)
        };
        if let Some(writer) = entries.iter().find(writes) {
            let text = format!("{} goes on writing to '{}'", writer.label(), node.name());
            return Err(BlockError::new(ErrorKind::Permission, text));
        }
        node.check_operation(Operations::LET_GO)?;
        node.bitmaps.check_none_of_image_is_used()
    }

    /// Takes images over, with those below them. `asked`: see [`HandOvers::asked`].
    async fn activate(&mut self, nodes: &[Arc<Node>], asked: u64) -> Result<()> {
        let mut coming = upwards(nodes);
        coming.retain(|node| !node.is_active());
        if coming.is_empty() {
            return Ok(());
        }
        self.graph.0.hand_overs.check_none_since(asked)?;
        self.quiesce(&coming).await?;
        for node in &coming {
            node.set_slow(Slow::INACTIVE, false);
            self.unsettled.push(node.clone());
            self.done.push(Step::Active(node.clone()));
        }
        self.settle()?;
        for node in &coming {
            let before = node.length();
            let named = |error: BlockError| error.context(format!("'{}' can't be taken over", node.name()));
            node.driver.reload(&node.common()).await.map_err(named)?;
            let writable = is_switched(node);
            self.done.push(Step::TakenOver(node.clone(), writable));
            if writable {
                // What undoes it is undone with all of it.
                let _undo = node.driver.set_writable(true).await.map_err(named)?;
            }
            node.bitmaps.all().iter().for_each(|bitmap| bitmap.hand_over(false));
            node.take_alignment();
            node.fit_bitmaps();
            if node.length() != before {
                self.graph.tell_length(node);
            }
        }
        Ok(())
    }

    /// Undoes that a node was let go. Nobody else can have had it: its locks were held.
    pub(super) fn keep(&mut self, node: &Arc<Node>, bitmaps: &[Arc<NamedBitmap>], undo: Option<Undo>) {
        node.bitmaps.put_back(bitmaps);
        if let Some(undo) = undo {
            undo();
        }
        node.set_slow(Slow::INACTIVE, false);
        self.unsettled.push(node.clone());
    }

    /// Undoes what was read of a node, and begun to be written.
    pub(super) async fn give_back(&mut self, node: &Arc<Node>, writable: bool) -> Result<()> {
        let ended = if writable { node.driver.set_writable(false).await.map(drop) } else { Ok(()) };
        node.bitmaps.forget_those_of_image();
        ended
    }

    /// Undoes that a node became active.
    pub(super) fn leave_inactive(&mut self, node: Arc<Node>) {
        node.set_slow(Slow::INACTIVE, true);
        self.unsettled.push(node);
    }
}

impl Node {
    /// The error of what an inactive node does not do.
    pub(crate) fn inactive_error(&self) -> BlockError {
        let text = format!("'{}' is inactive: another program has the image", self.name);
        // EPERM, not the EACCES of other permissions: clients of exports are told so.
        BlockError::os(text, &rt::Errno::PERM.into()).at_node(&self.name)
    }

    /// Before a read of an inactive node: its owner may have made its files longer, and have put there what is about to be looked up.
    pub(crate) async fn look_at_files(self: &Arc<Self>) {
        let files = below(std::slice::from_ref(self));
        // The length of an active one is its users' to change.
        let is_file = |file: &&Arc<Node>| file.driver_type.kind == DriverKind::Protocol && !file.is_active();
        for file in files.iter().filter(is_file) {
            if let Err(error) = file.driver.reload(&file.common()).await {
                tracing::debug!(node = file.name(), %error, "an inactive file can't be looked at");
            }
        }
    }

    /// Refuses what nobody may do with an inactive node.
    pub(crate) fn check_possible(&self, need: Share) -> Result<()> {
        let changes = Share(need.0 & CHANGES.0);
        if changes == Share::NONE {
            return Ok(());
        }
        let text = format!("Permission '{}' unavailable on inactive node", changes.names());
        Err(BlockError::new(ErrorKind::Permission, text).at_node(&self.name))
    }
}

/// Whether drivers of this type are switched when their nodes are taken over or let go. One of a file or server writes nothing by itself:
/// it is as its node is at all times.
pub(super) fn switches(of: &DriverType) -> bool {
    of.kind != DriverKind::Protocol
}

/// Whether the driver of a node is one, and the node may write.
fn is_switched(node: &Node) -> bool {
    !node.read_only() && switches(node.driver_type)
}

/// `nodes` and all below them, each after what is below it.
fn upwards(nodes: &[Arc<Node>]) -> Vec<Arc<Node>> {
    let (mut known, mut ordered, mut todo) = (HashSet::new(), Vec::new(), nodes.to_vec());
    while let Some(node) = todo.last().cloned() {
        let before = todo.len();
        let children = node.edges.all().into_iter().map(|child| child.node);
        todo.extend(children.filter(|child| !known.contains(&Arc::as_ptr(child))));
        if todo.len() == before {
            todo.pop();
            if known.insert(Arc::as_ptr(&node)) {
                ordered.push(node);
            }
        }
    }
    ordered
}
