//! A change of the graph: several steps, all of them or none.
//!
//! ```text
//! turn ─▶ steps that may take long ─▶ quiesce: gates closed ─▶ steps on edges ─▶ end ─┬─ all agree ─▶ in force
//!                                                                                    └─ not ─▶ undone, last first
//! ```
//!
//! Laws:
//! - one change at a time, in turn; code inside a change must not begin another one, and code that holds a request's token
//!   must not wait for one;
//! - steps on edges and permissions take effect at once, but requests that they concern are admitted only after the end.
//!   There the permissions of the resulting topology are checked, and file locks taken accordingly;
//! - what is undone is what the steps did, and nothing else;
//! - a change that is abandoned, because who made it has panicked or was dropped, is undone by a task of its own.
use super::activity;
use super::topology::{Moved, Topology, below, reachable};
use super::{Graph, QUIESCE_TIMEOUT};
use crate::backend::Backend;
use crate::bitmaps::NamedBitmap;
use crate::blockers::Operations;
use crate::driver::{Link, Undo};
use crate::edges::{ChildId, ChildRole};
use crate::error::{BlockError, ErrorKind, Result};
use crate::gate::{Closed, Gate};
use crate::graph::BackendRequest;
use crate::hold::Draining;
use crate::hooks::Hook;
use crate::node::Node;
use crate::perm::{Perms, Share};
use crate::stats::Account;
use futures_channel::oneshot;
use futures_util::lock::OwnedMutexGuard;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// A change under way: its turn, the gates it closed, and its steps so far.
#[must_use = "a change takes effect by its end"]
pub struct GraphChange {
    pub(super) graph: Graph,
    pub(super) done: Vec<Step>,
    /// Nodes whose users have changed since the permissions were last judged.
    pub(super) unsettled: Vec<Arc<Node>>,
    /// All nodes whose locks may have changed.
    touched: Vec<Arc<Node>>,
    /// Nodes to be closed if the change takes effect.
    leaving: Vec<Arc<Node>>,
    // Ended, and opened, before the turn is given up.
    renewed: Vec<Renewed>,
    draining: Vec<Draining>,
    closed: Vec<Closed>,
    turn: Option<OwnedMutexGuard<()>>,
}

/// Nodes that may be others afterwards: nothing that was known of their mappings is known any more, before and after.
struct Renewed(Vec<Arc<Node>>);

impl Renewed {
    fn begin(nodes: Vec<Arc<Node>>) -> Self {
        nodes.iter().for_each(|node| node.edges.chain().forget());
        Self(nodes)
    }
}

impl Drop for Renewed {
    fn drop(&mut self) {
        self.0.iter().for_each(|node| node.edges.chain().forget());
    }
}

/// A step that was done, with what undoes it.
pub(super) enum Step {
    Attached(Arc<Backend>),
    Perms(Arc<Backend>, Perms),
    Moved(Moved, Arc<Node>),
    Child(Arc<Node>, ChildId, Option<Arc<Node>>),
    Access(Arc<Node>, bool, Undo),
    Link(Arc<Node>, Link),
    Hooked(Arc<Node>, Hook, bool),
    Made(Arc<Node>),
    Inactive(Arc<Node>, Vec<Arc<NamedBitmap>>, Option<Undo>),
    Active(Arc<Node>),
    TakenOver(Arc<Node>, bool),
}

impl Graph {
    /// Begins a change, after the one under way.
    pub async fn change(&self) -> GraphChange {
        GraphChange::new(self, self.0.change.clone().lock_owned().await)
    }

    /// A user that writes to the node, if there is one.
    fn writer_of(&self, node: &Arc<Node>) -> Option<String> {
        self.0.topology.read().writer_of(node)
    }
}

impl Drop for GraphChange {
    fn drop(&mut self) {
        if self.done.is_empty() {
            return;
        }
        // Who made the change is gone. Outside of a runtime, everything is.
        if rt::current().is_none() {
            return tracing::error!("a change of the graph was left half done: nothing runs any more");
        }
        tracing::error!("a change of the graph was abandoned half way; it is undone");
        let Some(turn) = self.turn.take() else { return };
        let mut change = Self::new(&self.graph, turn);
        change.done = std::mem::take(&mut self.done);
        change.unsettled = std::mem::take(&mut self.unsettled);
        change.touched = std::mem::take(&mut self.touched);
        change.closed = std::mem::take(&mut self.closed);
        change.draining = std::mem::take(&mut self.draining);
        change.renewed = std::mem::take(&mut self.renewed);
        rt::spawn(async move { change.roll_back().await }).detach();
    }
}

impl GraphChange {
    fn new(graph: &Graph, turn: OwnedMutexGuard<()>) -> Self {
        Self {
            graph: graph.clone(),
            done: Vec::new(),
            unsettled: Vec::new(),
            touched: Vec::new(),
            leaving: Vec::new(),
            renewed: Vec::new(),
            draining: Vec::new(),
            closed: Vec::new(),
            turn: Some(turn),
        }
    }

    /// Closes the gates of all entries from which one of `nodes` can be reached, until the end, and waits for their
    /// requests. On time-out the error names the entries that are stuck.
    pub async fn quiesce(&mut self, nodes: &[Arc<Node>]) -> Result<()> {
        // No entry is added meanwhile: that would be another change.
        let mut entries = self.graph.entries();
        entries.retain(|e| nodes.iter().any(|n| reachable(&e.node(), n)));
        let closed = Closed::close(entries.iter().map(|e| e.gate.clone()).collect());
        let roots: Vec<_> = entries.iter().map(|e| e.node()).collect();
        let draining = Draining::begin(below(&roots));
        if rt::timeout(QUIESCE_TIMEOUT, closed.drained()).await.is_err() {
            let stuck: Vec<_> = entries.iter().filter(|e| e.in_flight() > 0).map(|e| e.label()).collect();
            let text =
                format!("requests of {} did not end within 30 s; nothing was changed", stuck.join(", "));
            return Err(BlockError::new(ErrorKind::Timeout, text));
        }
        self.closed.push(closed);
        self.draining.push(draining);
        self.renewed.push(Renewed::begin(nodes.to_vec()));
        Ok(())
    }

    // ---- steps ----

    /// Attaches an entry, after a check of its permissions against all other users.
    pub fn attach(&mut self, request: BackendRequest) -> Result<Arc<Backend>> {
        self.attach_entry(request, Arc::default(), false)
    }

    /// The same for one that copes with a node that is, or becomes, inactive.
    pub fn attach_tolerant(&mut self, request: BackendRequest) -> Result<Arc<Backend>> {
        self.attach_entry(request, Arc::default(), true)
    }

    /// The same for one whose requests count in `account`. `tolerant`: it copes with a node that is, or becomes, inactive.
    pub(crate) fn attach_entry(
        &mut self,
        request: BackendRequest,
        account: Arc<Account>,
        tolerant: bool,
    ) -> Result<Arc<Backend>> {
        let (node, perms) = (request.node.clone(), request.perms);
        if perms.need.has(Share::WRITE) && node.read_only() {
            return Err(BlockError::new(
                ErrorKind::ReadOnly,
                format!("Block node '{}' is read-only", node.name()),
            ));
        }
        if perms.need.has(Share::READ) {
            node.check_operation(Operations::READ)?;
        }
        let gate = Arc::new(Gate::new());
        let entry = Arc::new(Backend::new(request, gate, account));
        entry.tolerant.store(tolerant, Release);
        // A guest whose state is awaited writes nothing yet.
        entry.waits.store(tolerant && self.graph.opens_inactive(), Release);
        {
            let mut topology = self.graph.0.topology.write();
            topology.has(&node)?;
            self.closed.iter_mut().for_each(|closed| closed.join(&entry.gate));
            topology.entries.push(entry.clone());
        }
        self.done.push(Step::Attached(entry.clone()));
        self.unsettled.push(node.clone());
        self.settle()?;
        if !node.is_active() && !tolerant {
            node.check_possible(entry.perms().need)?;
        }
        Ok(entry)
    }

    /// Takes an entry off, none of whose requests is inside.
    pub(super) fn take_off(&mut self, entry: &Arc<Backend>) {
        self.graph.0.topology.write().entries.retain(|e| !Arc::ptr_eq(e, entry));
        self.done.retain(|step| !matches!(step, Step::Attached(e) if Arc::ptr_eq(e, entry)));
        self.unsettled.push(entry.node());
    }

    /// Changes what an entry needs and shares.
    pub fn set_perms(&mut self, entry: &Arc<Backend>, perms: Perms) {
        let old = std::mem::replace(&mut *entry.perms.write(), perms);
        self.done.push(Step::Perms(entry.clone(), old));
        self.unsettled.push(entry.node());
    }

    /// A node was made, which is closed if the change is undone.
    pub(super) fn made(&mut self, node: &Arc<Node>) {
        self.done.push(Step::Made(node.clone()));
        self.unsettled.push(node.clone());
    }

    /// A node is closed when the change has taken effect, if it has no user then.
    pub(super) fn done_with(&mut self, node: &Arc<Node>) {
        self.leaving.push(node.clone());
    }

    /// Moves all users of `from` to `to`, which may be below it, or above it. Entries that are pinned stay, and so do edges
    /// of `to` and of what is below it, which would close a loop.
    pub fn replace(&mut self, from: &Arc<Node>, to: &Arc<Node>) -> Result<()> {
        let mut topology = self.graph.0.topology.write();
        topology.has(from)?;
        topology.has(to)?;
        let moved = topology.moved_users(from, to);
        moved.point_to(to, &mut topology);
        self.done.push(Step::Moved(moved, from.clone()));
        self.unsettled.extend([from.clone(), to.clone()]);
        Ok(())
    }

    /// Leads an entry to another node.
    pub fn lead(&mut self, entry: &Arc<Backend>, node: &Arc<Node>) -> Result<()> {
        let from = entry.node();
        let mut topology = self.graph.0.topology.write();
        topology.has(node)?;
        let moved = Moved::entry(entry);
        moved.point_to(node, &mut topology);
        self.done.push(Step::Moved(moved, from.clone()));
        self.unsettled.extend([from, node.clone()]);
        Ok(())
    }

    /// Sets the backing child of `node`.
    pub fn set_backing(&mut self, node: &Arc<Node>, backing: Option<Arc<Node>>) -> Result<()> {
        let edge = node.edges.backing().ok_or_else(|| {
            BlockError::unsupported(format!("'{}' can have no backing image", node.name()))
                .at_node(node.name())
        })?;
        self.set_child(node, edge, backing)
    }

    /// Sets a child of `node`.
    pub(super) fn set_child(
        &mut self,
        node: &Arc<Node>,
        edge: ChildId,
        child: Option<Arc<Node>>,
    ) -> Result<()> {
        let mut topology = self.graph.0.topology.write();
        topology.has(node)?;
        if let Some(child) = &child {
            topology.has(child)?;
            child.check_operation(Operations::READ)?;
            if reachable(child, node) {
                let name = node.edges.edge(edge).map(|edge| edge.name().to_string()).unwrap_or_default();
                return Err(BlockError::invalid(format!(
                    "Making '{}' a {name} child of '{}' would create a cycle",
                    child.name(),
                    node.name()
                )));
            }
        }
        let old = node.edges.get(edge);
        topology.set_child(node, edge, child.clone());
        self.unsettled.extend([Some(node.clone()), old.clone(), child].into_iter().flatten());
        self.done.push(Step::Child(node.clone(), edge, old));
        Ok(())
    }

    /// Stores a new backing link in the header of `node`, durable when it returns.
    pub async fn set_backing_link(&mut self, node: &Arc<Node>, link: Link) -> Result<()> {
        let info = node.driver.info();
        let old = Link { filename: info.backing_filename, format: info.backing_format };
        node.driver.set_backing_link(link).await?;
        self.done.push(Step::Link(node.clone(), old));
        Ok(())
    }

    /// Makes a node, with the files below it, writable or read-only in place. Files that others use too, or that the
    /// monitor opened, are not made read-only.
    pub async fn set_writable(&mut self, node: &Arc<Node>, writable: bool) -> Result<()> {
        if node.read_only() != writable {
            return Ok(());
        }
        let files = node.edges.all().into_iter().filter(|child| !child.role.has(ChildRole::BACKING));
        let files: Vec<_> = files.map(|child| child.node).collect();
        if writable {
            for file in &files {
                Box::pin(self.set_writable(file, true)).await?;
            }
            return self.switch(node, true).await;
        }
        if let Some(writer) = self.graph.writer_of(node) {
            let text = format!(
                "Read-only block node '{}' cannot support read-write users: {writer} writes to it",
                node.name()
            );
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        self.switch(node, false).await?;
        for file in &files {
            let parents = self.graph.parents(file);
            let shared = parents.iter().any(|parent| !Arc::ptr_eq(&parent.node, node));
            if !shared && !file.monitor_owned() {
                Box::pin(self.set_writable(file, false)).await?;
            }
        }
        Ok(())
    }

    /// Makes one node writable or read-only.
    async fn switch(&mut self, node: &Arc<Node>, writable: bool) -> Result<()> {
        let undo = if !node.is_active() && activity::switches(node.driver_type) {
            // Its driver writes nothing, and is switched when the image is taken over.
            node.mark_writable(writable);
            Box::new(|| {}) as Undo
        } else if writable {
            // The writer's locks are taken first; released again if another process is in the way.
            node.mark_writable(true);
            let locked = self.graph.0.topology.write().settle(std::slice::from_ref(node));
            let opened = match locked {
                Ok(()) => node.driver.set_writable(true).await,
                Err(e) => Err(e),
            };
            match opened {
                Ok(undo) => undo,
                Err(e) => {
                    node.mark_writable(false);
                    self.graph.0.topology.write().settle(std::slice::from_ref(node))?;
                    return Err(e);
                }
            }
        } else {
            let undo = node.driver.set_writable(false).await?;
            node.mark_writable(false);
            undo
        };
        self.done.push(Step::Access(node.clone(), !writable, undo));
        self.unsettled.push(node.clone());
        // It may have been repaired.
        node.edges.chain().forget();
        Ok(())
    }

    /// Puts a hook on a node.
    pub fn add_hook(&mut self, node: &Arc<Node>, hook: Hook) {
        node.set_hook(&hook, true);
        self.done.push(Step::Hooked(node.clone(), hook, true));
    }

    /// Takes a hook off a node.
    pub fn remove_hook(&mut self, node: &Arc<Node>, hook: Hook) {
        node.set_hook(&hook, false);
        self.done.push(Step::Hooked(node.clone(), hook, false));
    }

    // ---- the end ----

    /// Checks the permissions of the topology so far, and takes the file locks that they mean. After a failure the end fails
    /// too.
    pub fn settle(&mut self) -> Result<()> {
        let mut topology = self.graph.0.topology.write();
        topology.check_depths()?;
        self.unsettled.iter().try_for_each(|node| topology.check_writers(node))?;
        topology.settle(&self.unsettled)?;
        self.touched.append(&mut self.unsettled);
        Ok(())
    }

    /// Ends it: what was done takes effect if `result` is good and all permissions agree, else all of it is undone.
    /// Then the gates open.
    pub async fn end<T>(mut self, result: Result<T>) -> Result<T> {
        let result = match result {
            Ok(value) => self.settle().map(|()| value),
            Err(e) => Err(e),
        };
        if result.is_err() {
            self.undo_all().await;
            return result;
        }
        self.done.clear();
        for node in std::mem::take(&mut self.leaving) {
            if let Err(e) = self.graph.release(&node).await {
                tracing::warn!(node = node.name(), error = %e, "closing a node that left the graph failed");
            }
        }
        result
    }

    /// Undoes it, to the end also where nobody waits for that any more.
    async fn undo_all(mut self) {
        if self.done.is_empty() {
            return self.roll_back().await;
        }
        let (told, undone) = oneshot::channel();
        let undo = async move {
            self.roll_back().await;
            drop(self);
            told.send(()).unwrap_or_default();
        };
        rt::spawn(undo).detach();
        undone.await.unwrap_or_default();
    }

    /// Undoes its steps, last first, with the gates closed still: what the caller did beside them can be undone then, for the nodes
    /// are what they were. It is to end with an error.
    pub async fn roll_back(&mut self) {
        while let Some(step) = self.done.pop() {
            if let Err(e) = self.undo(step).await {
                tracing::error!(error = %e, "a step of a change that failed could not be undone");
            }
        }
        // Locks go back to what the old topology needs; that can't fail in a way to act on.
        self.unsettled.append(&mut self.touched);
        if let Err(e) = self.settle() {
            tracing::error!(error = %e, "file locks could not be restored after an undone change");
        }
    }

    async fn undo(&mut self, step: Step) -> Result<()> {
        let entries = |topology: &mut Topology, gone: &Arc<Backend>| {
            topology.entries.retain(|e| !Arc::ptr_eq(e, gone));
        };
        match step {
            Step::Attached(entry) => entries(&mut self.graph.0.topology.write(), &entry),
            Step::Perms(entry, old) => *entry.perms.write() = old,
            Step::Moved(moved, from) => moved.point_to(&from, &mut self.graph.0.topology.write()),
            Step::Child(node, edge, old) => self.graph.0.topology.write().set_child(&node, edge, old),
            Step::Hooked(node, hook, added) => node.set_hook(&hook, !added),
            Step::Link(node, old) => node.driver.set_backing_link(old).await?,
            Step::Made(node) => self.graph.release(&node).await?,
            Step::Inactive(node, bitmaps, undo) => self.keep(&node, &bitmaps, undo),
            Step::Active(node) => self.leave_inactive(node),
            Step::TakenOver(node, writable) => self.give_back(&node, writable).await?,
            Step::Access(node, writable, undo) => {
                // Through the driver if that works, so that it ends in order what it began as a writer.
                let ended = if writable || !node.is_active() {
                    Ok(())
                } else {
                    node.driver.set_writable(false).await.map(drop)
                };
                if writable || ended.is_err() {
                    undo();
                }
                node.mark_writable(writable);
                self.unsettled.push(node);
                ended?;
            }
        }
        Ok(())
    }
}
