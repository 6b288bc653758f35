//! Internal snapshots: what a format that keeps them does ([`Snapshots`]), and how one is named ([`SnapshotName`]).
//!
//! The commands are the graph's ([`Graph::create_snapshot`](crate::Graph::create_snapshot) and its kin): they find the node
//! that keeps the snapshots, and hold back all requests that could reach it.
use crate::error::{BlockError, Result};
use crate::node::Node;
use api::SnapshotInfo;
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;
use std::time::Duration;

/// What a new snapshot says of itself; its id is the format's choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewSnapshot {
    /// Its name. Several may have the same.
    pub name: String,
    /// When it is made, since the beginning of 1970, UTC.
    pub date: Duration,
    /// How long the machine had run.
    pub vm_clock: Duration,
    /// Bytes of machine state that are its own from now on, and no longer the disk's.
    pub vm_state_size: u64,
    /// Instruction count of record and replay, where there is one.
    pub icount: Option<u64>,
}

/// Which snapshot is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotName {
    /// The one with this id, else the first of this name.
    Any(String),
    /// The first of this name.
    Named(String),
    /// The first that has both, where both are given.
    Both {
        /// Its id.
        id: Option<String>,
        /// Its name.
        name: Option<String>,
    },
}

impl SnapshotName {
    /// Where it is among `all`.
    pub fn find(&self, all: &[SnapshotInfo]) -> Option<usize> {
        let first = |wanted: &dyn Fn(&SnapshotInfo) -> bool| all.iter().position(wanted);
        match self {
            Self::Any(text) => first(&|s| s.id == *text).or_else(|| first(&|s| s.name == *text)),
            Self::Named(name) => first(&|s| s.name == *name),
            Self::Both { id, name } => first(&|s| {
                id.as_ref().is_none_or(|id| s.id == *id) && name.as_ref().is_none_or(|name| s.name == *name)
            }),
        }
    }
}

/// Internal snapshots of a format, and the machine state that lies behind its disk. Snapshots are meant by their place in
/// [`DriverInfo::snapshots`](crate::DriverInfo::snapshots).
///
/// No request is inside the node during any of these calls, and one call is under way at a time. What changes the image
/// is durable when it returns. After an error the disk and the snapshots are what they were, save for space that may be
/// lost until a check frees it.
pub trait Snapshots: Send + Sync {
    /// Makes a snapshot of the disk as it is.
    fn create(&self, new: NewSnapshot) -> BoxFuture<'_, Result<SnapshotInfo>>;

    /// Makes the disk what a snapshot shows, with the size it had; what was written since is gone.
    fn apply(&self, index: usize) -> BoxFuture<'_, Result<()>>;

    /// Deletes a snapshot, and tells what it was. After an error it may be gone, and what it held still in use.
    fn delete(&self, index: usize) -> BoxFuture<'_, Result<SnapshotInfo>>;

    /// Shows a snapshot instead of the disk, as long as the image is open. Only of an image that is not written to.
    fn show(&self, index: usize) -> BoxFuture<'_, Result<()>>;

    /// Reads machine state from byte `offset` of it on: zeroes where nothing was written.
    fn read_state(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)>;

    /// Writes machine state. Durable by the next flush.
    fn write_state(&self, offset: u64, data: Buf) -> BoxFuture<'_, Result<()>>;
}

impl Node {
    /// The node that keeps the snapshots of what this one shows: itself, or the node that holds its content, where it shows
    /// that unchanged.
    pub fn snapshot_keeper(self: &Arc<Self>) -> Option<Arc<Node>> {
        let mut node = self.clone();
        loop {
            if node.driver.snapshots().is_some() {
                return Some(node);
            }
            node = node.shown_whole()?;
        }
    }
}

/// An error for a driver without snapshots.
pub(crate) fn none_here(node: &Node) -> BlockError {
    BlockError::unsupported(format!(
        "Block format '{}' used by device '{}' does not support internal snapshots",
        node.driver_name(),
        node.name()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_found_by_id_before_name() {
        let all: Vec<_> = [("1", "two"), ("2", "one"), ("3", "1"), ("4", "one")]
            .map(|(id, name)| SnapshotInfo {
                id: id.to_owned(),
                name: name.to_owned(),
                ..SnapshotInfo::default()
            })
            .into();
        let any = |text: &str| SnapshotName::Any(text.to_owned()).find(&all);
        assert_eq!((any("1"), any("one"), any("nine")), (Some(0), Some(1), None));
        assert_eq!(SnapshotName::Named("1".to_owned()).find(&all), Some(2));
        let both = |id: Option<&str>, name: Option<&str>| {
            SnapshotName::Both { id: id.map(str::to_owned), name: name.map(str::to_owned) }.find(&all)
        };
        assert_eq!((both(Some("4"), Some("one")), both(Some("3"), Some("one"))), (Some(3), None));
        assert_eq!((both(Some("4"), None), both(None, Some("one"))), (Some(3), Some(1)));
    }
}
