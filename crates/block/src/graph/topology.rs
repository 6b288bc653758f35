//! Who uses what: the nodes and entries of a graph, and whether their permissions agree.
use super::depth::Depth;
use crate::backend::Backend;
use crate::edges::{Child, ChildId, ChildName, Parent};
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
use crate::perm::{Perms, Share};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// All nodes, also those that are not started yet, and all entries, in the order they came.
#[derive(Default)]
pub(super) struct Topology {
    pub(super) nodes: Vec<Arc<Node>>,
    pub(super) entries: Vec<Arc<Backend>>,
    records: HashMap<Key, Record>,
    /// How many nodes there have been.
    pub(super) so_far: u64,
}

/// What is known of a node of the topology, so that the cost of a change depends on what it changes and not on the size of
/// the graph: a chain of a thousand images is opened layer by layer.
#[derive(Default)]
struct Record {
    /// Nodes that have it as a child.
    parents: Vec<Parent>,
    /// Its driver is started: it is found, and has users.
    started: bool,
    /// How many nodes there had been before it.
    number: u64,
    /// The combined permissions of its users when it, and all below it, was last settled.
    settled: Option<Perms>,
    depth: Depth,
}

/// A node, by its address.
type Key = usize;

fn key(node: &Arc<Node>) -> Key {
    Arc::as_ptr(node).addr()
}

/// Users of a node that a change moves.
pub(super) struct Moved {
    parents: Vec<Parent>,
    entries: Vec<Arc<Backend>>,
}

impl Moved {
    pub(super) fn entry(entry: &Arc<Backend>) -> Self {
        Self { parents: Vec::new(), entries: vec![entry.clone()] }
    }

    pub(super) fn point_to(&self, node: &Arc<Node>, topology: &mut Topology) {
        self.parents.iter().for_each(|p| topology.set_child(&p.node, p.id, Some(node.clone())));
        self.entries.iter().for_each(|e| e.root.store(node.clone()));
    }
}

impl Topology {
    /// The node of this name, started or not.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.name() == name)
    }

    /// Refuses a name that a node has, started or not.
    pub(super) fn check_free(&self, name: &str) -> Result<()> {
        match self.named(name) {
            Some(_) => Err(BlockError::invalid(format!("Duplicate nodes with node-name='{name}'"))),
            None => Ok(()),
        }
    }

    /// The nodes that are found, in the order they came.
    pub(super) fn started(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter().filter(|node| self.has(node).is_ok())
    }

    /// From now on the node is found.
    pub(super) fn start(&mut self, node: &Arc<Node>) {
        self.records.entry(key(node)).and_modify(|record| record.started = true);
    }

    /// Refuses a node that was deleted meanwhile, or is not started yet.
    pub(super) fn has(&self, node: &Arc<Node>) -> Result<()> {
        let (kind, why) = match self.records.get(&key(node)) {
            Some(record) if record.started => return Ok(()),
            Some(_) => (ErrorKind::Busy, "is being opened"),
            None => (ErrorKind::NotFound, "was deleted meanwhile"),
        };
        Err(BlockError::new(kind, format!("Node '{}' {why}", node.name())))
    }

    /// Adds a node that was just opened, whose children are in the topology. It has its name and uses its children, but nobody
    /// finds it before it is started. `since`: how many nodes there had been when its open began.
    pub(super) fn add(&mut self, node: &Arc<Node>, since: u64) -> Result<()> {
        let children = node.edges.all();
        let at = self.place_of(node, since);
        self.nodes.insert(at, node.clone());
        let depth = self.depth_above(&children);
        self.records.insert(key(node), Record { depth, number: self.so_far, ..Record::default() });
        self.so_far += 1;
        children.iter().for_each(|child| self.add_parent(&child.node, node, child.id));
        let added = depth.check().and_then(|()| self.settle(std::slice::from_ref(node)));
        if added.is_err() {
            self.remove(node);
            self.settle_left(&children.into_iter().map(|child| child.node).collect::<Vec<_>>());
        }
        added
    }

    /// An image comes before the backing images that were opened with it: clients see the order.
    fn place_of(&self, node: &Arc<Node>, since: u64) -> usize {
        let is_new = |node: &Arc<Node>| self.records.get(&key(node)).is_some_and(|r| r.number >= since);
        let backing = node.backing().filter(is_new);
        let files = std::iter::successors(backing, |node| node.primary().filter(is_new));
        let first = files.last().and_then(|first| self.nodes.iter().rposition(|n| Arc::ptr_eq(n, &first)));
        first.unwrap_or(self.nodes.len())
    }

    /// Removes a node without users. The caller settles its children.
    pub(super) fn remove(&mut self, node: &Arc<Node>) {
        self.nodes.retain(|n| !Arc::ptr_eq(n, node));
        self.records.remove(&key(node));
        node.edges.all().iter().for_each(|child| self.remove_parent(&child.node, node, child.id));
    }

    /// Sets a child of a node.
    pub(super) fn set_child(&mut self, node: &Arc<Node>, id: ChildId, child: Option<Arc<Node>>) {
        if self.records.contains_key(&key(node)) {
            node.edges.get(id).iter().for_each(|old| self.remove_parent(old, node, id));
            child.iter().for_each(|new| self.add_parent(new, node, id));
        }
        node.edges.set(id, child);
    }

    fn add_parent(&mut self, child: &Arc<Node>, parent: &Arc<Node>, id: ChildId) {
        let Some(role) = parent.edges.edge(id).map(|edge| edge.role()) else { return };
        if let Some(record) = self.records.get_mut(&key(child)) {
            record.parents.push(Parent { node: parent.clone(), id, role });
        }
    }

    fn remove_parent(&mut self, child: &Arc<Node>, parent: &Arc<Node>, id: ChildId) {
        if let Some(record) = self.records.get_mut(&key(child)) {
            record.parents.retain(|p| p.id != id || !Arc::ptr_eq(&p.node, parent));
        }
    }

    /// Nodes that have this one as a child, and as what.
    pub(super) fn parents(&self, node: &Arc<Node>) -> &[Parent] {
        self.records.get(&key(node)).map_or(&[], |record| &record.parents)
    }

    /// The entries from which the node is reached.
    pub(super) fn entries_above(&self, node: &Arc<Node>) -> Vec<Arc<Backend>> {
        let (mut above, mut todo) = (HashSet::new(), vec![node.clone()]);
        while let Some(node) = todo.pop() {
            if above.insert(key(&node)) {
                todo.extend(self.parents(&node).iter().map(|parent| parent.node.clone()));
            }
        }
        self.entries.iter().filter(|entry| above.contains(&key(&entry.root.load()))).cloned().collect()
    }

    /// The node's users: labels and permissions.
    pub(super) fn users(&self, node: &Arc<Node>) -> Vec<(String, Perms)> {
        let mut uses = Uses::of(self);
        uses.users(node).into_iter().map(|(user, perms)| (user.label(), perms)).collect()
    }

    /// All uses of nodes: those by entries, in the order they came, then those by nodes, each with its children in order.
    pub(super) fn uses(&self) -> Vec<NodeUse> {
        let mut uses = Uses::of(self);
        let entry = |entry: &Arc<Backend>| NodeUse {
            user: NodeUser::Entry(entry.clone()),
            node: entry.root.load_full(),
            perms: *entry.perms.read(),
        };
        let mut found: Vec<_> = self.entries.iter().map(entry).collect();
        for parent in self.started() {
            for Child { id, name, node, .. } in parent.edges.all() {
                uses.judge_above(&node);
                let perms = uses.of_parent(parent, id).map_or(Perms::IDLE, |(_, perms)| perms);
                found.push(NodeUse { user: NodeUser::Parent(parent.clone(), name), node, perms });
            }
        }
        found
    }

    /// A user that writes to the node, if there is one.
    pub(super) fn writer_of(&self, node: &Arc<Node>) -> Option<String> {
        let users = self.users(node);
        users.into_iter().find(|(_, perms)| perms.need.has(Share::WRITE)).map(|(label, _)| label)
    }

    /// Refuses a node that takes no writes and has a user that writes.
    pub(super) fn check_writers(&self, node: &Arc<Node>) -> Result<()> {
        match self.writer_of(node).filter(|_| node.read_only()) {
            None => Ok(()),
            Some(writer) => {
                let text = format!("Block node '{}' is read-only, and {writer} writes to it", node.name());
                Err(BlockError::new(ErrorKind::ReadOnly, text))
            }
        }
    }

    /// The users of a node that move to another one. Edges of nodes that `to` is made of stay.
    pub(super) fn moved_users(&self, node: &Arc<Node>, to: &Arc<Node>) -> Moved {
        let part_of_it: HashSet<_> = below(std::slice::from_ref(to)).iter().map(key).collect();
        let moves = |parent: &&Parent| !part_of_it.contains(&key(&parent.node));
        Moved {
            parents: self.parents(node).iter().filter(moves).cloned().collect(),
            entries: self
                .entries
                .iter()
                .filter(|e| !e.pinned && Arc::ptr_eq(&e.root.load(), node))
                .cloned()
                .collect(),
        }
    }

    // ---- depths ----

    fn depth_above(&self, children: &[Child]) -> Depth {
        let depth = |child| self.records.get(&key(child)).map_or(Depth::default(), |record| record.depth);
        Depth::above(children.iter().map(|child| (child.role, depth(&child.node))))
    }

    /// How deep the graph is below `node`.
    pub(super) fn depth(&self, node: &Arc<Node>) -> Depth {
        self.records.get(&key(node)).map_or(Depth::default(), |record| record.depth)
    }

    /// Measures all depths anew, and refuses what is too deep.
    pub(super) fn check_depths(&mut self) -> Result<()> {
        let mut known = HashSet::new();
        let mut checked = Ok(());
        for node in self.nodes.clone() {
            let mut todo = vec![node];
            while let Some(node) = todo.last().cloned() {
                let children = node.edges.all();
                let before = todo.len();
                todo.extend(children.iter().map(|c| &c.node).filter(|c| !known.contains(&key(c))).cloned());
                if todo.len() == before {
                    todo.pop();
                    known.insert(key(&node));
                    let depth = self.depth_above(&children);
                    checked = checked.and(depth.check());
                    self.records.entry(key(&node)).and_modify(|record| record.depth = depth);
                }
            }
        }
        checked
    }

    // ---- permissions ----

    /// Checks the permissions of `nodes` and everything below them, then lets the drivers take the locks they mean. What
    /// is below a node whose users need what they did before, and that is none of `nodes`, is settled already.
    pub(super) fn settle(&mut self, nodes: &[Arc<Node>]) -> Result<()> {
        let plan = self.plan(nodes)?;
        for (node, perms) in &plan {
            let told = match node.common.read().force_share {
                true => Ok(()),
                false => node.driver.set_perms(*perms),
            };
            if let Err(e) = told {
                // It is not known how far the others' locks were taken.
                plan.iter().for_each(|(node, _)| self.set_settled(node, None));
                return Err(e);
            }
        }
        plan.iter().for_each(|(node, perms)| self.set_settled(node, Some(*perms)));
        Ok(())
    }

    /// The nodes whose permissions may have changed, each once, with what they are now.
    fn plan(&self, nodes: &[Arc<Node>]) -> Result<Vec<(Arc<Node>, Perms)>> {
        let mut uses = Uses::of(self);
        let changed = nodes.iter().map(key).collect::<HashSet<_>>();
        let (mut seen, mut plan, mut todo) = (HashSet::new(), Vec::new(), nodes.to_vec());
        while let Some(node) = todo.pop() {
            if !seen.insert(key(&node)) {
                continue;
            }
            let users = uses.users(&node);
            self.check_activity(&node)?;
            conflict_free(&node, &users)?;
            let perms = Perms::together(users.into_iter().map(|(_, p)| p));
            let settled = self.records.get(&key(&node)).and_then(|record| record.settled);
            if settled != Some(perms) || changed.contains(&key(&node)) {
                todo.extend(node.edges.all().into_iter().map(|child| child.node));
                plan.push((node, perms));
            }
        }
        Ok(plan)
    }

    /// Refuses an inactive node below an active one.
    fn check_activity(&self, node: &Arc<Node>) -> Result<()> {
        let above = self.parents(node).iter().filter(|parent| parent.node.is_active());
        let Some(Parent { node: parent, id, .. }) = above.into_iter().next().filter(|_| !node.is_active())
        else {
            return Ok(());
        };
        let edge = parent.edges.edge(*id).map(|edge| edge.name().to_string()).unwrap_or_default();
        let text =
            format!("Inactive '{}' can't be a {edge} child of active '{}'", node.name(), parent.name());
        Err(BlockError::new(ErrorKind::Permission, text))
    }

    fn set_settled(&mut self, node: &Arc<Node>, perms: Option<Perms>) {
        if let Some(record) = self.records.get_mut(&key(node)) {
            record.settled = perms;
        }
    }

    /// Settles nodes that have lost a user: fewer needs can't conflict, and locks are given back here.
    pub(super) fn settle_left(&mut self, nodes: &[Arc<Node>]) {
        if let Err(e) = self.settle(nodes) {
            tracing::warn!(error = %e, "releasing permissions failed");
        }
    }
}

/// A user of a node.
pub enum NodeUser {
    /// A node, that has it as the child of this name.
    Parent(Arc<Node>, ChildName),
    /// An entry.
    Entry(Arc<Backend>),
}

/// A use of a node.
pub struct NodeUse {
    /// Who uses it.
    pub user: NodeUser,
    /// The node.
    pub node: Arc<Node>,
    /// What the user does with it, and what it shares.
    pub perms: Perms,
}

impl NodeUser {
    fn label(&self) -> String {
        match self {
            Self::Parent(parent, child) => format!("node '{}' (as '{child}')", parent.name()),
            Self::Entry(entry) => entry.label.clone(),
        }
    }
}

/// Permissions computed upwards from a node. What a parent needs follows from its own users, and is computed once: a long
/// chain, or a node that is reached in many ways, costs no more than its edges.
struct Uses<'t> {
    topology: &'t Topology,
    together: HashMap<Key, Perms>,
}

impl<'t> Uses<'t> {
    fn of(topology: &'t Topology) -> Self {
        Self { topology, together: HashMap::new() }
    }

    fn users(&mut self, node: &Arc<Node>) -> Vec<(NodeUser, Perms)> {
        self.judge_above(node);
        self.judged_users(node)
    }

    /// The users of a node whose parents are computed already.
    fn judged_users(&self, node: &Arc<Node>) -> Vec<(NodeUser, Perms)> {
        let mut users = Vec::new();
        for Parent { node: parent, id, .. } in self.topology.parents(node) {
            let Some((name, perms)) = self.of_parent(parent, *id) else { continue };
            users.push((NodeUser::Parent(parent.clone(), name), perms));
        }
        for entry in self.topology.entries.iter().filter(|e| Arc::ptr_eq(&e.root.load(), node)) {
            users.push((NodeUser::Entry(entry.clone()), entry.perms_now()));
        }
        users
    }

    /// What a node that is computed already does with one of its children.
    fn of_parent(&self, parent: &Arc<Node>, id: ChildId) -> Option<(ChildName, Perms)> {
        let edge = parent.edges.edge(id)?;
        let above = self.together.get(&key(parent)).copied().unwrap_or(Perms::IDLE);
        let perms = match parent.common.read().force_share || !parent.is_active() {
            true => Perms { need: Share::NONE, share: Share::ALL },
            false => parent.driver.child_perms(edge, above, parent.read_only()),
        };
        Some((edge.name(), perms))
    }

    /// Computes the permissions of each node above `node`, the topmost first.
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
            self.together.insert(key(&node), perms);
        }
    }

    fn unjudged_parents(&self, node: &Arc<Node>) -> Vec<Arc<Node>> {
        let parents = self.topology.parents(node).iter().map(|parent| &parent.node);
        parents.filter(|p| !self.together.contains_key(&key(p))).cloned().collect()
    }
}

fn conflict_free(node: &Arc<Node>, users: &[(NodeUser, Perms)]) -> Result<()> {
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
pub(super) fn below(nodes: &[Arc<Node>]) -> Vec<Arc<Node>> {
    let (mut seen, mut found, mut todo) = (HashSet::new(), Vec::new(), nodes.to_vec());
    while let Some(node) = todo.pop() {
        if seen.insert(Arc::as_ptr(&node)) {
            todo.extend(node.edges.all().into_iter().map(|child| child.node));
            found.push(node);
        }
    }
    found
}

/// Whether `node` is `from` or below it.
pub(super) fn reachable(from: &Arc<Node>, node: &Arc<Node>) -> bool {
    below(std::slice::from_ref(from)).iter().any(|n| Arc::ptr_eq(n, node))
}
