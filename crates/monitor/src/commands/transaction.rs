//! Transactions: the gates above all nodes concerned are closed, the actions are carried out in order, and those that were are
//! undone, the last first, where one fails.
use super::failed;
use crate::control::Control;
use api::{
    BlockDirtyBitmap, QmpError, SnapshotInfo, TransactionAction, TransactionArguments, TransactionCommands,
};
use block::{BitmapRemoval, BlockError, DirtyBitmap, GraphChange, NamedBitmap, Node, SnapshotName};
use std::sync::Arc;

/// What undoes an action.
enum Undo {
    Added(Arc<Node>, Arc<NamedBitmap>),
    /// Undone by being dropped.
    Removed(BitmapRemoval),
    /// The bits that it had.
    Changed(Arc<NamedBitmap>, DirtyBitmap),
    Enabled(Arc<NamedBitmap>, bool),
    Snapshot(Arc<Node>, SnapshotInfo),
}

impl TransactionCommands for Control {
    async fn transaction(&self, arguments: TransactionArguments) -> Result<(), QmpError> {
        let actions = arguments.actions;
        let mut change = self.graph().change().await;
        // All users of what keeps a node's content wait, so that snapshots of several nodes are of one instant.
        let nodes: Vec<_> = actions
            .iter()
            .filter_map(node_of)
            .filter_map(|name| self.graph().node(name))
            .map(|node| node.snapshot_keeper().unwrap_or(node))
            .collect();
        let mut done = Vec::new();
        let carried_out = async {
            change.quiesce(&nodes).await?;
            for action in actions {
                if let Some(undo) = self.act(action, &mut change).await? {
                    done.push(undo);
                }
            }
            Ok::<_, BlockError>(())
        };
        let result = carried_out.await;
        if result.is_err() {
            while let Some(undo) = done.pop() {
                undo.undo(&mut change).await;
            }
        }
        done.into_iter().for_each(Undo::keep);
        change.end(result).await.map_err(failed)
    }
}

/// The node that an action is about.
fn node_of(action: &TransactionAction) -> Option<&str> {
    use TransactionAction::*;
    match action {
        Abort(_) => None,
        BlockDirtyBitmapAdd(add) => Some(&add.data.node),
        BlockDirtyBitmapRemove(of) | BlockDirtyBitmapClear(of) => Some(&of.data.node),
        BlockDirtyBitmapEnable(of) | BlockDirtyBitmapDisable(of) => Some(&of.data.node),
        BlockDirtyBitmapMerge(merge) => Some(&merge.data.node),
        BlockdevSnapshotInternalSync(make) => Some(&make.data.device),
    }
}

impl Control {
    async fn act(
        &self,
        action: TransactionAction,
        change: &mut GraphChange<'_>,
    ) -> Result<Option<Undo>, BlockError> {
        use TransactionAction::*;
        Ok(Some(match action {
            Abort(_) => return Err(BlockError::invalid("Transaction aborted using Abort action")),
            BlockDirtyBitmapAdd(add) => {
                let (node, bitmap) = self.add_bitmap(add.data)?;
                Undo::Added(node, bitmap)
            }
            BlockDirtyBitmapRemove(of) => {
                let (node, bitmap) = self.bitmap(&of.data)?;
                Undo::Removed(node.begin_removal(&bitmap).await?)
            }
            BlockDirtyBitmapClear(of) => {
                let (node, bitmap) = self.bitmap(&of.data)?;
                let bits = bitmap.bits().copied();
                node.clear_bitmap(&bitmap)?;
                Undo::Changed(bitmap, bits)
            }
            BlockDirtyBitmapEnable(of) => self.enable(&of.data, true)?,
            BlockDirtyBitmapDisable(of) => self.enable(&of.data, false)?,
            BlockDirtyBitmapMerge(merge) => {
                let ((node, bitmap), sources) = self.bitmaps_to_merge(merge.data)?;
                let bits = bitmap.bits().copied();
                node.merge_bitmaps(&bitmap, &sources)?;
                Undo::Changed(bitmap, bits)
            }
            BlockdevSnapshotInternalSync(make) => {
                let (node, made) = self.make_snapshot(make.data, change).await?;
                Undo::Snapshot(node, made)
            }
        }))
    }

    fn enable(&self, of: &BlockDirtyBitmap, on: bool) -> Result<Undo, BlockError> {
        let (_, bitmap) = self.bitmap(of)?;
        let old = bitmap.is_enabled();
        bitmap.enable(on)?;
        Ok(Undo::Enabled(bitmap, old))
    }
}

impl Undo {
    /// All actions were carried out.
    fn keep(self) {
        if let Undo::Removed(removal) = self {
            removal.finish();
        }
    }

    async fn undo(self, change: &mut GraphChange<'_>) {
        match self {
            Undo::Added(node, bitmap) => node.bitmaps().remove(&bitmap),
            Undo::Removed(removal) => drop(removal),
            Undo::Changed(bitmap, bits) => {
                bitmap.bits().clear();
                bitmap.bits().merge(&bits);
            }
            Undo::Enabled(bitmap, old) => bitmap.set_enabled(old),
            Undo::Snapshot(node, made) => {
                let which = SnapshotName::Both { id: Some(made.id), name: Some(made.name) };
                if let Err(error) = change.delete_snapshot(&node, &which).await {
                    tracing::error!(node = node.name(), %error, "a snapshot of a transaction that failed could not be deleted");
                }
            }
        }
    }
}
