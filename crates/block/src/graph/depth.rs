//! How deep a graph may become: bounds far below the depth at which the stack would overflow.
//!
//! A request goes down a chain of backing images in a loop, and into the file of a format by a call. So a chain may be
//! long, and files in files few.
use super::Graph;
use crate::edges::ChildRole;
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
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

/// How deep the graph is below a node.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Depth {
    /// Backing images, one below the other.
    layers: usize,
    /// Files inside of files.
    nesting: usize,
}

impl Depth {
    /// That of a node over children.
    pub(super) fn above(children: impl Iterator<Item = (ChildRole, Depth)>) -> Self {
        children.fold(Self::default(), |depth, (role, below)| {
            let (layers, nesting) = match role.has(ChildRole::BACKING) {
                true => (below.layers + 1, below.nesting),
                false => (below.layers, below.nesting + 1),
            };
            Self { layers: depth.layers.max(layers), nesting: depth.nesting.max(nesting) }
        })
    }

    /// Refuses what is too deep.
    pub(super) fn check(self) -> Result<()> {
        check_depth(self.layers, self.nesting)
    }
}

impl Graph {
    /// Refuses an overlay of `node` that would make a chain too long.
    pub fn check_room_above(&self, node: &Arc<Node>) -> Result<()> {
        check_depth(self.0.topology.read().depth(node).layers + 1, 0)
    }
}
