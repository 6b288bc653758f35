//! Who uses what: the nodes and entries of a graph, and whether their permissions agree.
use super::depth::Depths;
use crate::backend::Backend;
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::{Node, Role};
use crate::perm::{Perms, Share};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// All nodes and entries, in the order they came.
#[derive(Default)]
pub(super) struct Topology {
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) entries: Vec<Arc<Backend>>,
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

impl Topology {
    /// Refuses a node that was deleted meanwhile.
    pub(super) fn has(&self, node: &Arc<Node>) -> Result<()> {
        if self.nodes.iter().any(|n| Arc::ptr_eq(n, node)) {
            return Ok(());
        }
        Err(BlockError::new(ErrorKind::NotFound, format!("Node '{}' was deleted meanwhile", node.name())))
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

    /// Who uses the node: what to call them, and their permissions.
    pub(super) fn users(&self, node: &Arc<Node>) -> Vec<(String, Perms)> {
        let mut uses = Uses::of(self);
        uses.users(node).into_iter().map(|(user, perms)| (user.label(), perms)).collect()
    }

    pub(super) fn moved_users(&self, node: &Arc<Node>) -> Moved {
        Moved {
            parents: self.parents(node),
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
        Depths::check(self)?;
        let mut uses = Uses::of(self);
        let mut plan = Vec::new();
        for node in below(nodes) {
            let users = uses.users(&node);
            conflict_free(&node, &users)?;
            plan.push((node, Perms::together(users.into_iter().map(|(_, p)| p))));
        }
        for (node, perms) in plan.iter().filter(|(n, _)| !n.common.read().force_share) {
            node.driver.set_perms(*perms).map_err(|e| e.at_node(node.name()))?;
        }
        Ok(())
    }

    /// Settles nodes that have lost a user: fewer needs can't conflict, and locks are given back here.
    pub(super) fn settle_left(&self, nodes: &[Arc<Node>]) {
        if let Err(e) = self.settle(nodes) {
            tracing::warn!(error = %e, "giving permissions back failed");
        }
    }
}

/// A user of a node.
enum User {
    Parent(Arc<Node>, Role),
    Entry(Arc<Backend>),
}

impl User {
    fn label(&self) -> String {
        match self {
            Self::Parent(parent, role) => format!("node '{}' (as '{}')", parent.name(), role.name()),
            Self::Entry(entry) => entry.label.clone(),
        }
    }
}

/// The topology seen from below. What a user needs follows from its own users, so each node is asked once: a long
/// chain, or a node that is reached in many ways, costs no more than its edges.
struct Uses {
    parents: HashMap<*const Node, Vec<(Arc<Node>, Role)>>,
    entries: HashMap<*const Node, Vec<Arc<Backend>>>,
    together: HashMap<*const Node, Perms>,
}

impl Uses {
    fn of(topology: &Topology) -> Self {
        let (mut parents, mut entries) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for parent in &topology.nodes {
            for (role, child) in parent.edges.all() {
                parents.entry(Arc::as_ptr(&child)).or_default().push((parent.clone(), role));
            }
        }
        for entry in &topology.entries {
            entries.entry(Arc::as_ptr(&entry.root.load())).or_default().push(entry.clone());
        }
        Self { parents, entries, together: HashMap::new() }
    }

    fn users(&mut self, node: &Arc<Node>) -> Vec<(User, Perms)> {
        self.judge_above(node);
        self.judged_users(node)
    }

    /// The users of a node whose parents are judged already.
    fn judged_users(&self, node: &Arc<Node>) -> Vec<(User, Perms)> {
        let mut users = Vec::new();
        for (parent, role) in self.parents.get(&Arc::as_ptr(node)).cloned().unwrap_or_default() {
            let above = self.together.get(&Arc::as_ptr(&parent)).copied().unwrap_or(Perms::IDLE);
            let perms = match parent.common.read().force_share {
                true => Perms { need: Share::NONE, share: Share::ALL },
                false => parent.driver.child_perms(role, above, parent.read_only()),
            };
            users.push((User::Parent(parent, role), perms));
        }
        for entry in self.entries.get(&Arc::as_ptr(node)).into_iter().flatten() {
            users.push((User::Entry(entry.clone()), *entry.perms.read()));
        }
        users
    }

    /// Finds what is asked of each node above `node`, the topmost first.
    fn judge_above(&mut self, node: &Arc<Node>) {
        let mut todo = self.unjudged_parents(node);
        while let Some(node) = todo.last().cloned() {
            let above = self.unjudged_parents(&node);
            if !above.is_empty() {
                todo.extend(above);
                continue;
            }
            todo.pop();
            let perms = Perms::together(self.judged_users(&node).into_iter().map(|(_, p)| p));
            self.together.insert(Arc::as_ptr(&node), perms);
        }
    }

    fn unjudged_parents(&self, node: &Arc<Node>) -> Vec<Arc<Node>> {
        let parents = self.parents.get(&Arc::as_ptr(node)).into_iter().flatten().map(|(parent, _)| parent);
        parents.filter(|p| !self.together.contains_key(&Arc::as_ptr(p))).cloned().collect()
    }
}

fn conflict_free(node: &Arc<Node>, users: &[(User, Perms)]) -> Result<()> {
    for (i, (who, perms)) in users.iter().enumerate() {
        for (j, (other, theirs)) in users.iter().enumerate() {
            let denied = perms.denied_by(*theirs);
            if i != j && denied != Share::NONE {
                let text = format!(
                    "Permission conflict on node '{}': {} needs '{}', which {} does not share",
                    node.name(),
                    who.label(),
                    denied.names(),
                    other.label()
                );
                return Err(BlockError::new(ErrorKind::Busy, text));
            }
        }
    }
    Ok(())
}

/// `nodes` and everything below them, each once.
fn below(nodes: &[Arc<Node>]) -> Vec<Arc<Node>> {
    let (mut seen, mut found, mut todo) = (HashSet::new(), Vec::new(), nodes.to_vec());
    while let Some(node) = todo.pop() {
        if seen.insert(Arc::as_ptr(&node)) {
            todo.extend(node.edges.all().into_iter().map(|(_, child)| child));
            found.push(node);
        }
    }
    found
}

/// Whether `node` is `from` or below it.
pub(super) fn reachable(from: &Arc<Node>, node: &Arc<Node>) -> bool {
    below(std::slice::from_ref(from)).iter().any(|n| Arc::ptr_eq(n, node))
}
