//! Edges: a node's children, each by its name, with what it is to its parent.
//!
//! A driver declares its edges while it is opened and is given a [`ChildId`] for each, by which its mappings name the
//! child. Edges are added, never taken away; one may lead nowhere (an image without a backing file). Which node an edge
//! leads to is read without a lock on the data path, and changed only by the graph, with the gates above closed.
use crate::chain::Chain;
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
use arc_swap::{ArcSwapOption, Guard};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Which of its parent's edges leads to a child; valid for the parent that gave it only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChildId(usize);

/// What a child is to its parent: a set, for a child may be several things at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildRole(u8);

impl ChildRole {
    /// Holds data of the guest.
    pub const DATA: Self = Self(1);
    /// Holds tables of the format.
    pub const METADATA: Self = Self(2);
    /// Shows through where the parent holds nothing itself.
    pub const BACKING: Self = Self(4);
    /// Shows the same content as the parent, which is a filter.
    pub const FILTERED: Self = Self(8);
    /// Names the parent: its file name and allocated size are this child's.
    pub const PRIMARY: Self = Self(16);
    /// Is an image by itself: where options do not tell its format, that is found.
    pub const IMAGE: Self = Self(32);
    /// Has to be told of where options name the parent, as the primary child is.
    pub const NAMED: Self = Self(64);
    /// The one file of an image.
    pub const FILE: Self = Self::DATA.union(Self::METADATA).union(Self::PRIMARY);

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A child's name, as in options and in answers: `file`, `backing`, or one of a list (`children.2`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChildName {
    /// The name, or that of the list.
    pub name: &'static str,
    /// Its place in the list.
    pub index: Option<u32>,
}

impl fmt::Display for ChildName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            None => f.write_str(self.name),
            Some(index) => write!(f, "{}.{index}", self.name),
        }
    }
}

impl From<&'static str> for ChildName {
    fn from(name: &'static str) -> Self {
        Self { name, index: None }
    }
}

/// One edge.
pub struct Edge {
    name: ChildName,
    role: ChildRole,
    node: ArcSwapOption<Node>,
}

impl Edge {
    /// Its name.
    pub fn name(&self) -> ChildName {
        self.name
    }

    /// What the child is to the parent.
    pub fn role(&self) -> ChildRole {
        self.role
    }
}

/// A child as it was when it was asked for.
pub struct Child {
    /// The edge that leads to it.
    pub id: ChildId,
    /// Its name.
    pub name: ChildName,
    /// What it is to the parent.
    pub role: ChildRole,
    /// The child.
    pub node: Arc<Node>,
}

/// A parent of a node, with the edge that leads there.
#[derive(Clone)]
pub struct Parent {
    /// The parent.
    pub node: Arc<Node>,
    /// Which of its edges.
    pub id: ChildId,
    /// What the child is to it.
    pub role: ChildRole,
}

/// A node's edges.
#[derive(Default)]
pub struct Edges {
    list: boxcar::Vec<Edge>,
    backing: OnceLock<ChildId>,
    primary: OnceLock<ChildId>,
    filtered: OnceLock<ChildId>,
    chain: Arc<Chain>,
}

impl fmt::Debug for Edges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all().into_iter().map(|child| child.node)).finish()
    }
}

impl Edges {
    /// Adds an edge that leads nowhere yet.
    pub(crate) fn declare(&self, name: ChildName, role: ChildRole) -> ChildId {
        let id = ChildId(self.list.push(Edge { name, role, node: ArcSwapOption::empty() }));
        let found = [
            (ChildRole::BACKING, &self.backing),
            (ChildRole::PRIMARY, &self.primary),
            (ChildRole::FILTERED, &self.filtered),
        ];
        for (_, first) in found.into_iter().filter(|(part, _)| role.has(*part)) {
            first.get_or_init(|| id);
        }
        id
    }

    /// The edge.
    pub fn edge(&self, id: ChildId) -> Option<&Edge> {
        self.list.get(id.0)
    }

    /// All edges, also those that lead nowhere.
    pub(crate) fn ids(&self) -> Vec<ChildId> {
        self.list.iter().map(|(at, _)| ChildId(at)).collect()
    }

    /// The edge of this name.
    pub fn find(&self, name: ChildName) -> Option<ChildId> {
        self.list.iter().find(|(_, edge)| edge.name == name).map(|(at, _)| ChildId(at))
    }

    /// The edge to the backing child, if the parent can have one.
    pub fn backing(&self) -> Option<ChildId> {
        self.backing.get().copied()
    }

    /// The edge to the child that names the parent.
    pub fn primary(&self) -> Option<ChildId> {
        self.primary.get().copied()
    }

    /// The edge to what a filter filters.
    pub fn filtered(&self) -> Option<ChildId> {
        self.filtered.get().copied()
    }

    /// The child that an edge leads to.
    pub fn get(&self, id: ChildId) -> Option<Arc<Node>> {
        self.edge(id)?.node.load_full()
    }

    /// The child that an edge leads to; a driver that was opened with one can't be without it.
    pub fn need(&self, id: ChildId) -> Result<Arc<Node>> {
        self.get(id).ok_or_else(|| {
            let name = self.edge(id).map(|edge| edge.name.to_string()).unwrap_or_default();
            BlockError::new(ErrorKind::Closed, format!("the node has no '{name}' child"))
        })
    }

    /// Runs `f` on the child without touching its reference count: the inline path's way.
    pub fn with<T>(&self, id: ChildId, f: impl FnOnce(Option<&Arc<Node>>) -> T) -> T {
        match self.edge(id) {
            Some(edge) => f(edge.node.load().as_ref()),
            None => f(None),
        }
    }

    /// The backing child, on the inline path: at most two of these are held at a time.
    pub(crate) fn look_at_backing(&self) -> Option<Guard<Option<Arc<Node>>>> {
        Some(self.edge(self.backing()?)?.node.load())
    }

    /// What the node knows of the chain below it.
    pub(crate) fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    pub(crate) fn set(&self, id: ChildId, node: Option<Arc<Node>>) {
        let Some(edge) = self.edge(id) else { return };
        if edge.role.has(ChildRole::BACKING)
            && let Some(node) = &node
        {
            // It will be read through the parent: what it knows itself would only take space.
            node.edges.chain.forget_own();
        }
        edge.node.store(node);
        self.chain.forget();
    }

    /// All children, in the order of their edges.
    pub fn all(&self) -> Vec<Child> {
        let child = |(at, edge): (usize, &Edge)| {
            let node = edge.node.load_full()?;
            Some(Child { id: ChildId(at), name: edge.name, role: edge.role, node })
        };
        self.list.iter().filter_map(child).collect()
    }

    /// Removes all children.
    pub(crate) fn take_all(&self) -> Vec<Arc<Node>> {
        let children = self.list.iter().filter_map(|(_, edge)| edge.node.swap(None)).collect();
        self.chain.forget();
        children
    }
}

impl Drop for Edges {
    /// Drops the nodes below one by one: a chain may be longer than the stack is deep.
    fn drop(&mut self) {
        let mut below = self.take_all();
        while let Some(node) = below.pop() {
            if let Some(node) = Arc::into_inner(node) {
                below.extend(node.edges.take_all());
            }
        }
    }
}
