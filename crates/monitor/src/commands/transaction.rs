//! Transactions: what actions need is made, then the gates above all nodes concerned are closed, the actions are carried out in
//! order, and those that were are undone, the last first, where one fails. Jobs start when all of it has taken effect.
use super::{failed, lookup};
use crate::control::Control;
use api::{
    ActionCompletionMode, BlockDirtyBitmap, BlockdevBackup, Enumeration, NewImageMode, QmpError,
    SnapshotInfo, TransactionAction, TransactionArguments, TransactionCommands,
};
use block::{
    BitmapRemoval, BlockError, DirtyBitmap, GraphChange, Link, NamedBitmap, Node, SnapshotName,
    name_seen_from,
};
use futures_util::FutureExt as _;
use jobs::{BackupError, Group, PreparedBackup, prepare_backup};
use std::panic::{AssertUnwindSafe, resume_unwind};
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

/// An action, with what was made for it before anybody was held back.
enum Prepared {
    Act(TransactionAction),
    /// A node and what is put over it, with its file's name where that was made here.
    Overlay(Arc<Node>, Arc<Node>, Option<String>),
    Backup(BlockdevBackup, Arc<Node>, Arc<Node>),
}

impl TransactionCommands for Control {
    async fn transaction(&self, arguments: TransactionArguments) -> Result<(), QmpError> {
        let TransactionArguments { actions, properties } = arguments;
        let mode = properties.and_then(|properties| properties.completion_mode);
        let group = (mode == Some(ActionCompletionMode::Grouped)).then(Group::new);
        if let Some(action) = actions.iter().find(|action| group.is_some() && !begins_job(action)) {
            let text = format!(
                "Action '{}' ends at once and has no part in the completion-mode 'grouped'",
                action.r#type().name()
            );
            return Err(QmpError::generic(text));
        }
        // Nodes that are made here. They live as long as those that use them afterwards.
        let mut made = Vec::new();
        let result = match self.prepare(actions, &mut made).await {
            Ok(prepared) => self.carry_out(prepared, group).await.map_err(failed),
            Err(error) => Err(error),
        };
        for node in made {
            self.release(&node).await;
        }
        result
    }
}

impl Prepared {
    /// The nodes whose users are held back.
    fn nodes(&self, control: &Control) -> Vec<Arc<Node>> {
        match self {
            Prepared::Act(action) => {
                let node =
                    node_of(action).and_then(|name| lookup(control.graph(), Some(name), Some(name)).ok());
                node.map(|node| node.snapshot_keeper().unwrap_or(node)).into_iter().collect()
            }
            Prepared::Overlay(node, ..) => vec![node.clone()],
            Prepared::Backup(_, source, target) => vec![source.clone(), target.clone()],
        }
    }
}

/// Whether the action begins a job, which ends later.
fn begins_job(action: &TransactionAction) -> bool {
    matches!(action, TransactionAction::BlockdevBackup(_) | TransactionAction::DriveBackup(_))
}

/// The node that an action is about, of those that need nothing before.
fn node_of(action: &TransactionAction) -> Option<&str> {
    use TransactionAction::*;
    match action {
        BlockDirtyBitmapAdd(add) => Some(&add.data.node),
        BlockDirtyBitmapRemove(of) | BlockDirtyBitmapClear(of) => Some(&of.data.node),
        BlockDirtyBitmapEnable(of) | BlockDirtyBitmapDisable(of) => Some(&of.data.node),
        BlockDirtyBitmapMerge(merge) => Some(&merge.data.node),
        BlockdevSnapshotInternalSync(make) => Some(&make.data.device),
        Abort(_) | BlockdevBackup(_) | BlockdevSnapshot(_) | BlockdevSnapshotSync(_) | DriveBackup(_) => None,
    }
}

impl Control {
    /// Makes and opens what actions need, in their order; `made` gets the nodes.
    async fn prepare(
        &self,
        actions: Vec<TransactionAction>,
        made: &mut Vec<Arc<Node>>,
    ) -> Result<Vec<Prepared>, QmpError> {
        use TransactionAction::*;
        let mut prepared = Vec::with_capacity(actions.len());
        for action in actions {
            prepared.push(match action {
                BlockdevBackup(mut backup) => {
                    let (source, target) = self.backup_nodes(&mut backup.data)?;
                    let source = self.node_by_then(&backup.data.device, source, &prepared);
                    Prepared::Backup(backup.data, source, target)
                }
                DriveBackup(backup) => {
                    let (backup, source, target) = self.image_for_backup(backup.data).await?;
                    made.push(target.clone());
                    Prepared::Backup(backup, source, target)
                }
                BlockdevSnapshotSync(snapshot) => {
                    let snapshot = snapshot.data;
                    let (device, name) = (snapshot.device.as_deref(), snapshot.node_name.as_deref());
                    let node = lookup(self.graph(), device, name)?;
                    let node = self.node_by_then(device.unwrap_or_default(), node, &prepared);
                    let file = (snapshot.mode != Some(NewImageMode::Existing))
                        .then(|| snapshot.snapshot_file.clone());
                    let overlay = self.make_overlay(snapshot, &node).await?;
                    made.push(overlay.clone());
                    // A long flush while requests go on, so that the one with the gates closed is short.
                    node.flush().await.map_err(failed)?;
                    Prepared::Overlay(node, overlay, file)
                }
                BlockdevSnapshot(snapshot) => {
                    let name = &snapshot.data.node;
                    let node = self.graph().need_node(name).map_err(failed)?;
                    let node = self.node_by_then(name, node, &prepared);
                    let overlay = self.graph().need_node(&snapshot.data.overlay).map_err(failed)?;
                    node.flush().await.map_err(failed)?;
                    Prepared::Overlay(node, overlay, None)
                }
                other => Prepared::Act(other),
            });
        }
        Ok(prepared)
    }

    /// The node that a name means when an action's turn comes: where it is a device's, one that an action before it puts over
    /// `now`, which it means now.
    fn node_by_then(&self, name: &str, now: Arc<Node>, before: &[Prepared]) -> Arc<Node> {
        if self.graph().device(name).is_none() {
            return now;
        }
        before.iter().fold(now, |top, action| match action {
            Prepared::Overlay(node, overlay, _) if Arc::ptr_eq(node, &top) => overlay.clone(),
            _ => top,
        })
    }

    /// All actions at one moment, or none.
    async fn carry_out(&self, prepared: Vec<Prepared>, group: Option<Group>) -> Result<(), BlockError> {
        let mut change = self.graph().change().await;
        // All users of all nodes wait, so that what is done with several nodes is of one moment.
        let nodes: Vec<_> = prepared.iter().flat_map(|action| action.nodes(self)).collect();
        let (mut done, mut backups) = (Vec::new(), Vec::new());
        let carried_out = async {
            change.quiesce(&nodes).await?;
            for action in prepared {
                match action {
                    Prepared::Act(action) => done.push(self.act(action, &mut change).await?),
                    Prepared::Overlay(node, overlay, file) => {
                        if let Some(link) = file.and_then(|file| new_link(&file, &node, &overlay)) {
                            change.set_backing_link(&overlay, link).await?;
                        }
                        change.insert_overlay(&node, &overlay).await?;
                    }
                    Prepared::Backup(request, source, target) => {
                        let nodes = (&source, &target);
                        let (graph, group) = (self.graph(), group.clone());
                        let begun = prepare_backup(graph, self.jobs(), &mut change, request, nodes, group);
                        backups.push(begun.await.map_err(BackupError::into_block)?);
                    }
                }
            }
            change.settle()
        };
        // A defect in one action must not leave the others in force.
        let (result, panic) = match AssertUnwindSafe(carried_out).catch_unwind().await {
            Ok(result) => (result, None),
            Err(panic) => (Err(BlockError::invalid("the program has a defect")), Some(panic)),
        };
        if result.is_err() {
            // First, for a node that was put below another one takes no writes.
            change.roll_back().await;
            backups.iter().for_each(PreparedBackup::let_go);
            while let Some(undo) = done.pop() {
                undo.undo(&mut change).await;
            }
        }
        done.into_iter().for_each(Undo::keep);
        let result = change.end(result).await;
        for backup in backups {
            match &result {
                Ok(()) => backup.start(),
                Err(_) => backup.give_up().await,
            }
        }
        if let Some(group) = group {
            group.close();
        }
        match panic {
            Some(panic) => resume_unwind(panic),
            None => result,
        }
    }

    async fn act(&self, action: TransactionAction, change: &mut GraphChange) -> Result<Undo, BlockError> {
        use TransactionAction::*;
        Ok(match action {
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
            Abort(_) | BlockdevBackup(_) | BlockdevSnapshot(_) | BlockdevSnapshotSync(_) | DriveBackup(_) => {
                return Err(BlockError::invalid("Transaction aborted using Abort action"));
            }
        })
    }

    fn enable(&self, of: &BlockDirtyBitmap, on: bool) -> Result<Undo, BlockError> {
        let (_, bitmap) = self.bitmap(of)?;
        let old = bitmap.is_enabled();
        bitmap.enable(on)?;
        Ok(Undo::Enabled(bitmap, old))
    }
}

/// The name that a new image at `file` must have for the node below it, unless it has it: a node that has itself been put over
/// another one meanwhile is no more what the image was made for.
fn new_link(file: &str, node: &Arc<Node>, overlay: &Node) -> Option<Link> {
    let filename = Some(name_seen_from(file, &node.exact_filename()));
    let format = Some(node.driver_name().to_owned());
    (overlay.driver().info().backing_filename != filename).then_some(Link { filename, format })
}

impl Undo {
    /// All actions were carried out.
    fn keep(self) {
        if let Undo::Removed(removal) = self {
            removal.finish();
        }
    }

    async fn undo(self, change: &mut GraphChange) {
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
