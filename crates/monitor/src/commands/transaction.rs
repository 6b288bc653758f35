//! Transactions: the gates above all nodes concerned are closed, the actions are carried out in order, and those that were are
//! undone, the last first, where one fails.
use super::failed;
use crate::control::Control;
use api::{BlockDirtyBitmap, QmpError, TransactionAction, TransactionArguments, TransactionCommands};
use block::{BlockError, DirtyBitmap, NamedBitmap, Node};
use std::sync::Arc;

/// What undoes an action.
enum Undo {
    Added(Arc<Node>, Arc<NamedBitmap>),
    Removed(Arc<Node>, Arc<NamedBitmap>),
    /// The bits that it had.
    Changed(Arc<NamedBitmap>, DirtyBitmap),
    Enabled(Arc<Node>, Arc<NamedBitmap>, bool),
}

impl TransactionCommands for Control {
    async fn transaction(&self, arguments: TransactionArguments) -> Result<(), QmpError> {
        let actions = arguments.actions;
        let mut change = self.graph().change().await;
        let nodes: Vec<_> =
            actions.iter().filter_map(node_of).filter_map(|name| self.graph().node(name)).collect();
        let mut done = Vec::new();
        let carried_out = async {
            change.quiesce(&nodes).await?;
            for action in actions {
                if let Some(undo) = self.act(action).await? {
                    done.push(undo);
                }
            }
            Ok::<_, BlockError>(())
        };
        let result = carried_out.await;
        if result.is_err() {
            while let Some(undo) = done.pop() {
                undo.undo();
            }
        }
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
    }
}

impl Control {
    async fn act(&self, action: TransactionAction) -> Result<Option<Undo>, BlockError> {
        use TransactionAction::*;
        Ok(Some(match action {
            Abort(_) => return Err(BlockError::invalid("Transaction aborted using Abort action")),
            BlockDirtyBitmapAdd(add) => {
                let (node, bitmap) = self.add_bitmap(add.data)?;
                Undo::Added(node, bitmap)
            }
            BlockDirtyBitmapRemove(of) => {
                let (node, bitmap) = self.bitmap(&of.data)?;
                node.remove_bitmap(&bitmap).await?;
                Undo::Removed(node, bitmap)
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
        }))
    }

    fn enable(&self, of: &BlockDirtyBitmap, on: bool) -> Result<Undo, BlockError> {
        let (node, bitmap) = self.bitmap(of)?;
        let old = bitmap.is_enabled();
        node.enable_bitmap(&bitmap, on)?;
        Ok(Undo::Enabled(node, bitmap, old))
    }
}

impl Undo {
    fn undo(self) {
        match self {
            Undo::Added(node, bitmap) => node.bitmaps().remove(&bitmap),
            // The image gets it again when it is closed.
            Undo::Removed(node, bitmap) => node.bitmaps().put_back(&bitmap),
            Undo::Changed(bitmap, bits) => {
                bitmap.bits().clear();
                bitmap.bits().merge(&bits);
            }
            Undo::Enabled(node, bitmap, old) => {
                if let Err(error) = node.enable_bitmap(&bitmap, old) {
                    tracing::error!(bitmap = bitmap.name(), %error, "a change that failed could not be undone");
                }
            }
        }
    }
}
