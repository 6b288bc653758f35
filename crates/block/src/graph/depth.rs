//! How deep a graph may become: bounds far below what a stack carries.
//!
//! A request goes down a chain of backing images in a loop, and into the file of a format by a call. So a chain may be
//! long, and files in files few.
use super::Graph;
use super::topology::Topology;
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::{Node, Role};
use std::collections::HashMap;
use std::sync::Arc;

/// Most backing images below an image.
pub(crate) const MAX_LAYERS: usize = 1024;

/// Most nodes that are each the file of the one above.
pub(crate) const MAX_NESTING: usize = 64;

/// Refuses what is too deep.
pub(crate) fn check_depth(layers: usize, nesting: usize) -> Result<()> {
    let refuse = |text| Err(BlockError::new(ErrorKind::Limit, text));
    if layers > MAX_LAYERS {
        return refuse(format!(
            "a chain of more than {MAX_LAYERS} backing images is refused; commit some of them"
        ));
    }
    if nesting > MAX_NESTING {
        return refuse(format!(
            "more than {MAX_NESTING} nodes that are each the file of another are refused"
        ));
    }
    Ok(())
}

/// Layers and nesting below nodes.
#[derive(Default)]
pub(super) struct Depths(HashMap<*const Node, (usize, usize)>);

impl Depths {
    /// Those of `node`; each node below is looked at once.
    fn of(&mut self, node: &Arc<Node>) -> (usize, usize) {
        let mut todo = vec![node.clone()];
        while let Some(node) = todo.last().cloned() {
            let children = node.edges.all();
            let unknown = children.iter().filter(|(_, c)| !self.0.contains_key(&Arc::as_ptr(c)));
            let before = todo.len();
            todo.extend(unknown.map(|(_, child)| child.clone()));
            if todo.len() == before {
                todo.pop();
                self.0.insert(Arc::as_ptr(&node), self.above(&children));
            }
        }
        self.known(node)
    }

    fn known(&self, node: &Arc<Node>) -> (usize, usize) {
        self.0.get(&Arc::as_ptr(node)).copied().unwrap_or_default()
    }

    fn above(&self, children: &[(Role, Arc<Node>)]) -> (usize, usize) {
        children.iter().fold((0, 0), |(layers, nesting), (role, child)| {
            let (below, inside) = self.known(child);
            match role {
                Role::Backing => (layers.max(below + 1), nesting.max(inside)),
                Role::File | Role::Data => (layers.max(below), nesting.max(inside + 1)),
            }
        })
    }

    /// Refuses a topology in which something is too deep.
    pub(super) fn check(topology: &Topology) -> Result<()> {
        let mut depths = Self::default();
        topology.nodes.iter().try_for_each(|node| {
            let (layers, nesting) = depths.of(node);
            check_depth(layers, nesting)
        })
    }
}

impl Graph {
    /// Refuses an overlay of `node` that would make a chain too long.
    pub fn check_room_above(&self, node: &Arc<Node>) -> Result<()> {
        let (layers, _) = Depths::default().of(node);
        check_depth(layers + 1, 0)
    }
}
