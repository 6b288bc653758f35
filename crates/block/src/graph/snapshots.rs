//! Internal snapshots of a node: no request is inside while one is made, applied, deleted or shown.
use super::{BackendRequest, Graph};
use crate::blockers::Operations;
use crate::error::{BlockError, ErrorKind, Result};
use crate::graph::GraphChange;
use crate::graph::topology::reachable;
use crate::node::Node;
use crate::perm::{Perms, Share};
use crate::snapshot::{NewSnapshot, SnapshotName, Snapshots, none_here};
use api::SnapshotInfo;
use rt::{Buf, BufMut};
use std::sync::Arc;

impl Graph {
    /// Makes an internal snapshot of what the node shows. `check` may refuse it, given the snapshots that there are.
    pub async fn create_snapshot(
        &self,
        node: &Arc<Node>,
        new: NewSnapshot,
        check: impl FnOnce(&[SnapshotInfo]) -> Result<()>,
    ) -> Result<SnapshotInfo> {
        let mut change = self.change().await;
        let created = change.create_snapshot(node, new, check).await;
        change.end(created).await
    }

    /// Deletes a snapshot, and tells what it was; `None` if there is no such.
    pub async fn delete_snapshot(
        &self,
        node: &Arc<Node>,
        which: &SnapshotName,
    ) -> Result<Option<SnapshotInfo>> {
        let mut change = self.change().await;
        let deleted = change.delete_snapshot(node, which).await;
        change.end(deleted).await
    }

    /// Warns of the images whose data are about to be committed to one below: what their internal snapshots do not hold
    /// themselves, they show from there.
    pub fn warn_of_snapshots(&self, committed: &[Arc<Node>]) {
        for image in committed.iter().filter(|image| !image.driver().info().snapshots.is_empty()) {
            self.notices().warn(&format!(
                "'{}' has internal snapshots: where they show the backing file, they show what is committed to it from now on",
                image.filename()
            ));
        }
    }

    /// Makes the node's disk what a snapshot of it shows, with the size that it had; tells whether there is such a snapshot.
    /// Users of the node who don't share its content and size are in the way, and dirty bitmaps.
    pub async fn apply_snapshot(&self, node: &Arc<Node>, which: &SnapshotName) -> Result<bool> {
        let mut change = self.change().await;
        let applied = change.apply_snapshot(node, which).await;
        change.end(applied).await
    }

    /// Shows a snapshot in place of the node's disk, as long as the node is open and not written to; tells whether there is
    /// such a snapshot.
    pub async fn show_snapshot(&self, node: &Arc<Node>, which: &SnapshotName) -> Result<bool> {
        let mut change = self.change().await;
        let shown = async {
            let keeper = node.snapshot_keeper().ok_or_else(|| none_here(node))?;
            change.quiesce(std::slice::from_ref(&keeper)).await?;
            let Some(index) = which.find(&keeper.driver.info().snapshots) else { return Ok(false) };
            snapshots_of(&keeper)?.show(index).await?;
            self.tell_length(&keeper);
            Ok(true)
        };
        let shown = shown.await;
        change.end(shown).await
    }

    /// Reads machine state that is kept behind the node's disk, from byte `offset` of it on.
    pub async fn read_state(&self, node: &Arc<Node>, offset: u64, len: usize) -> Result<BufMut> {
        let mut change = self.change().await;
        let read = async {
            let keeper = node.snapshot_keeper().ok_or_else(|| none_here(node))?;
            change.quiesce(std::slice::from_ref(&keeper)).await?;
            let (buf, result) = snapshots_of(&keeper)?.read_state(offset, BufMut::with_len(len)).await;
            result.map(|()| buf)
        };
        let read = read.await;
        change.end(read).await
    }

    /// Writes machine state behind the node's disk. Durable by the next flush; at once, where the node writes through.
    pub async fn write_state(&self, node: &Arc<Node>, offset: u64, data: Buf) -> Result<()> {
        let mut change = self.change().await;
        let written = change.write_state(node, offset, data).await;
        change.end(written).await
    }
}

impl GraphChange {
    /// [`Graph::create_snapshot`] as a part of a change, which does not undo it: see [`GraphChange::delete_snapshot`].
    pub async fn create_snapshot(
        &mut self,
        node: &Arc<Node>,
        new: NewSnapshot,
        check: impl FnOnce(&[SnapshotInfo]) -> Result<()>,
    ) -> Result<SnapshotInfo> {
        let keeper = self.keeper_to_change(node).await?;
        check(&keeper.driver.info().snapshots)?;
        snapshots_of(&keeper)?.create(new).await
    }

    /// [`Graph::delete_snapshot`] as a part of a change, which does not undo it.
    pub async fn delete_snapshot(
        &mut self,
        node: &Arc<Node>,
        which: &SnapshotName,
    ) -> Result<Option<SnapshotInfo>> {
        let keeper = self.keeper_to_change(node).await?;
        match which.find(&keeper.driver.info().snapshots) {
            Some(index) => snapshots_of(&keeper)?.delete(index).await.map(Some),
            None => Ok(None),
        }
    }

    /// [`Graph::apply_snapshot`] as a part of a change, which does not undo it.
    pub async fn apply_snapshot(&mut self, node: &Arc<Node>, which: &SnapshotName) -> Result<bool> {
        let graph = self.graph.clone();
        let keeper = self.keeper_to_change(node).await?;
        let mut shown = graph.nodes_to_be().into_iter().filter(|other| reachable(other, &keeper));
        if shown.any(|other| !other.bitmaps().all().is_empty()) {
            let text = "Device has active dirty bitmaps, which would miss what changes with the snapshot";
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        // A device may have its disk for itself: it goes back with it.
        let need = Share::READ.union(Share::RESIZE);
        let request = BackendRequest {
            label: "snapshot".to_owned(),
            node: keeper.clone(),
            perms: Perms { need, share: Share::ALL },
            pinned: true,
        };
        let entry = self.attach(request)?;
        let found = which.find(&keeper.driver.info().snapshots);
        if let Some(index) = found {
            snapshots_of(&keeper)?.apply(index).await?;
        }
        self.take_off(&entry);
        graph.tell_length(&keeper);
        Ok(found.is_some())
    }

    /// [`Graph::write_state`] as a part of a change.
    pub async fn write_state(&mut self, node: &Arc<Node>, offset: u64, data: Buf) -> Result<()> {
        let keeper = self.keeper_to_change(node).await?;
        snapshots_of(&keeper)?.write_state(offset, data).await?;
        if node.common().write_through { keeper.flush().await } else { Ok(()) }
    }

    /// The node that keeps the snapshots of what `node` shows, writable, with no request inside.
    async fn keeper_to_change(&mut self, node: &Arc<Node>) -> Result<Arc<Node>> {
        let keeper = node.snapshot_keeper().ok_or_else(|| none_here(node))?;
        keeper.check_operation(Operations::SNAPSHOT)?;
        if keeper.read_only() {
            let text = format!("Device '{}' is read only", keeper.name());
            return Err(BlockError::new(ErrorKind::ReadOnly, text));
        }
        self.quiesce(std::slice::from_ref(&keeper)).await?;
        keeper.writable()?;
        Ok(keeper)
    }
}

fn snapshots_of(keeper: &Node) -> Result<&dyn Snapshots> {
    keeper.driver.snapshots().ok_or_else(|| none_here(keeper))
}
