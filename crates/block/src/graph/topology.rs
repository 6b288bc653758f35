//! Who uses what: the nodes and entries of a graph, and whether their permissions agree.
use crate::backend::Backend;
use crate::error::{BlockError, ErrorKind, Result};
use crate::gate::{Closed, Closing, Gate};
use crate::node::{Node, Role};
use crate::perm::{Perms, Share};
use std::sync::{Arc, Weak};

/// All nodes and entries, in the order they came.
#[derive(Default)]
pub(super) struct Topology {
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) entries: Vec<Arc<Backend>>,
    /// Changes under way, each with the nodes that nobody may reach meanwhile.
    closings: Vec<(Weak<Closing>, Vec<Arc<Node>>)>,
}

/// Users of a node that a change moves.
pub(super) struct Moved {
    parents: Vec<(Arc<Node>, Role)>,
    entries: Vec<Arc<Backend>>,
}

impl Moved {
    pub(super) fn point_to(&self, node: &Arc<Node>) {
        self.parents.iter().for_each(|(p, role)| p.edges.set(*role, Some(node.clone())));
        self.entries.iter().for_each(|e| e.root.store(node.clone()));
    }
}

impl BlockError {
    /// After a change was undone: locks go back to what the old topology needs; that can't fail in a way to act on.
    pub(super) fn and_settle(self, topology: &Topology, nodes: &[Arc<Node>]) -> Self {
        if let Err(e) = topology.settle(nodes) {
            tracing::error!(error = %e, "file locks could not be put back after an undone change");
        }
        self
    }
}

impl Topology {
    /// Refuses a node that was deleted meanwhile.
    pub(super) fn has(&self, node: &Arc<Node>) -> Result<()> {
        if self.nodes.iter().any(|n| Arc::ptr_eq(n, node)) {
            return Ok(());
        }
        Err(BlockError::new(ErrorKind::NotFound, format!("Node '{}' was deleted meanwhile", node.name())))
    }

    /// Closes the gates of `entries` for a change of `nodes`; entries that come later join until it ends.
    pub(super) fn close(&mut self, entries: &[Arc<Backend>], nodes: &[Arc<Node>]) -> Closed {
        let closed = Closed::close(entries.iter().map(|e| e.gate.clone()).collect());
        self.closings.retain(|(closing, _)| closing.strong_count() > 0);
        self.closings.push((closed.closing(), nodes.to_vec()));
        closed
    }

    /// Closes the gate of a new entry on `node` for the changes under way that concern it.
    pub(super) fn join_closings(&self, node: &Arc<Node>, gate: &Arc<Gate>) {
        for (closing, nodes) in &self.closings {
            if let Some(closing) = closing.upgrade()
                && nodes.iter().any(|n| reachable(node, n))
            {
                closing.join(gate);
            }
        }
    }

    pub(super) fn parents(&self, node: &Arc<Node>) -> Vec<(Arc<Node>, Role)> {
        let mut parents = Vec::new();
        for parent in &self.nodes {
            for role in Role::ALL {
                if parent.edges.with(role, |c| c.is_some_and(|c| Arc::ptr_eq(c, node))) {
                    parents.push((parent.clone(), role));
                }
            }
        }
        parents
    }

    pub(super) fn users(&self, node: &Arc<Node>) -> Vec<(String, Perms)> {
        let mut users = Vec::new();
        for (parent, role) in self.parents(node) {
            let above = Perms::together(self.users(&parent).into_iter().map(|(_, p)| p));
            let perms = if parent.common.read().force_share {
                Perms { need: Share::NONE, share: Share::ALL }
            } else {
                parent.driver.child_perms(role, above, parent.read_only())
            };
            users.push((format!("node '{}' (as '{}')", parent.name(), role.name()), perms));
        }
        for entry in self.entries.iter().filter(|e| Arc::ptr_eq(&e.root.load(), node)) {
            users.push((entry.label.clone(), *entry.perms.read()));
        }
        users
    }

    pub(super) fn moved_users(&self, node: &Arc<Node>, choose: impl Fn(&Arc<Node>) -> bool) -> Moved {
        Moved {
            parents: self.parents(node).into_iter().filter(|(p, _)| choose(p)).collect(),
            entries: self
                .entries
                .iter()
                .filter(|e| !e.pinned && Arc::ptr_eq(&e.root.load(), node))
                .cloned()
                .collect(),
        }
    }

    /// Checks the permissions of `nodes` and everything below them, then lets the drivers take the locks they mean.
    pub(super) fn settle(&self, nodes: &[Arc<Node>]) -> Result<()> {
        let mut below: Vec<Arc<Node>> = Vec::new();
        let mut todo = nodes.to_vec();
        while let Some(node) = todo.pop() {
            if !below.iter().any(|n| Arc::ptr_eq(n, &node)) {
                todo.extend(node.edges.all().into_iter().map(|(_, c)| c));
                below.push(node);
            }
        }
        let mut plan = Vec::with_capacity(below.len());
        for node in below {
            let users = self.users(&node);
            conflict_free(&node, &users)?;
            plan.push((node, Perms::together(users.into_iter().map(|(_, p)| p))));
        }
        for (node, perms) in plan.iter().filter(|(n, _)| !n.common.read().force_share) {
            node.driver.set_perms(*perms).map_err(|e| e.at_node(node.name()))?;
        }
        Ok(())
    }
}

fn conflict_free(node: &Arc<Node>, users: &[(String, Perms)]) -> Result<()> {
    for (i, (who, perms)) in users.iter().enumerate() {
        for (j, (other, theirs)) in users.iter().enumerate() {
            let denied = perms.denied_by(*theirs);
            if i != j && denied != Share::NONE {
                let (node, denied) = (node.name(), denied.names());
                let text = format!(
                    "Permission conflict on node '{node}': {who} needs '{denied}', which {other} does not share"
                );
                return Err(BlockError::new(ErrorKind::Busy, text));
            }
        }
    }
    Ok(())
}

/// Whether `node` is `from` or below it.
pub(super) fn reachable(from: &Arc<Node>, node: &Arc<Node>) -> bool {
    Arc::ptr_eq(from, node) || from.edges.all().iter().any(|(_, child)| reachable(child, node))
}
