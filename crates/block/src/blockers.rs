//! Blockers: which operations on a node are refused while something, as a job, works on it.
//!
//! Permissions ([`crate::Perms`]) say what users of a node do with its *data*, and follow the edges. Blockers say which
//! operations on the *node itself* are refused meanwhile, and by whom: a job holds one for each node it works on, for as long
//! as it works. Code that begins an operation asks [`Node::check_operation`]; the error names the node and the holder.
//!
//! Neither says which users move when a node is replaced by another: that is a property of each entry
//! ([`crate::BackendRequest::pinned`]).
//!
//! Laws:
//! - a blocker holds until it is dropped; those of one node are independent of each other;
//! - a node may be put over one that nobody may read; then nobody may read it either, as long as that lasts;
//! - a blocker stops operations that begin after it was made. Its holder checks afterwards for what began before; during a
//!   change of the graph that can only be nodes that were opened meanwhile.
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// Operations on a node that can be blocked: a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operations(u8);

impl Operations {
    /// A change of its size.
    pub const RESIZE: Self = Self(1);
    /// A change of its options.
    pub const REOPEN: Self = Self(2);
    /// Putting an overlay over it, or using it as the overlay of another node.
    pub const OVERLAY: Self = Self(4);
    /// Its deletion.
    pub const DELETE: Self = Self(8);
    /// Another job.
    pub const JOB: Self = Self(16);
    /// A new entry that reads what the node shows by itself.
    pub const READ: Self = Self(32);
    /// Making, applying or deleting an internal snapshot.
    pub const SNAPSHOT: Self = Self(64);
    /// Letting its image go to another program.
    pub const LET_GO: Self = Self(128);
    /// All that changes the node or its place in the graph; new users may come.
    pub const CHANGE: Self = Self(
        Self::RESIZE.0 | Self::REOPEN.0 | Self::OVERLAY.0 | Self::DELETE.0 | Self::JOB.0 | Self::SNAPSHOT.0,
    );

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the sets have something in common.
    const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// What one holder blocks.
struct Block {
    operations: Operations,
    holder: String,
}

/// What is blocked on a node.
#[derive(Default)]
pub(crate) struct Blockers(Mutex<Vec<Weak<Block>>>);

/// Keeps operations on a node from beginning until it is dropped.
#[must_use = "the operations are blocked until it is dropped"]
pub struct Blocker {
    _block: Arc<Block>,
}

impl Blockers {
    /// What is blocked, oldest first.
    fn all(&self) -> Vec<Arc<Block>> {
        let mut blocks = self.0.lock();
        blocks.retain(|block| block.strong_count() > 0);
        blocks.iter().filter_map(Weak::upgrade).collect()
    }

    /// Of a node that is put over `child`: as long as nobody may read the one, nobody may read the other.
    pub(crate) fn share_with(&self, child: &Node) {
        let shared = child.blockers.all().into_iter().filter(|block| block.operations == Operations::READ);
        self.0.lock().extend(shared.map(|block| Arc::downgrade(&block)));
    }
}

impl Node {
    /// Blocks `operations`. `holder` says who blocks them, as the end of a sentence that begins "Node 'x' is busy:".
    pub fn block(&self, operations: Operations, holder: impl Into<String>) -> Blocker {
        let block = Arc::new(Block { operations, holder: holder.into() });
        self.blockers.0.lock().push(Arc::downgrade(&block));
        Blocker { _block: block }
    }

    /// Refuses an operation that is blocked.
    pub fn check_operation(&self, operation: Operations) -> Result<()> {
        match self.blockers.all().iter().find(|block| block.operations.meets(operation)) {
            None => Ok(()),
            Some(block) => {
                let text = format!("Node '{}' is busy: {}", self.name, block.holder);
                Err(BlockError::new(ErrorKind::Busy, text))
            }
        }
    }

    /// The holders that block operations on the node, oldest first.
    pub fn blocked_by(&self) -> Vec<String> {
        self.blockers.all().iter().map(|block| block.holder.clone()).collect()
    }
}
