// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Transactions: several commands, of which all take effect or none.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// What an action of a transaction does; the names are those of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransactionActionKind {
    /// Fails.
    Abort,
    /// Adds a dirty bitmap.
    BlockDirtyBitmapAdd,
    /// Removes a dirty bitmap.
    BlockDirtyBitmapRemove,
    /// Clears a dirty bitmap.
    BlockDirtyBitmapClear,
    /// Has a dirty bitmap record changes.
    BlockDirtyBitmapEnable,
    /// Has a dirty bitmap record no more changes.
    BlockDirtyBitmapDisable,
    /// Merges dirty bitmaps into another one.
    BlockDirtyBitmapMerge,
    /// Begins a backup into a node.
    BlockdevBackup,
    /// Puts an overlay over a node.
    BlockdevSnapshot,
    /// Makes an internal snapshot.
    BlockdevSnapshotInternalSync,
    /// Puts a new overlay over a node.
    BlockdevSnapshotSync,
    /// Begins a backup into an image.
    DriveBackup,
}

impl Enumeration for TransactionActionKind {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("abort", Self::Abort),
        ("block-dirty-bitmap-add", Self::BlockDirtyBitmapAdd),
        ("block-dirty-bitmap-remove", Self::BlockDirtyBitmapRemove),
        ("block-dirty-bitmap-clear", Self::BlockDirtyBitmapClear),
        ("block-dirty-bitmap-enable", Self::BlockDirtyBitmapEnable),
        ("block-dirty-bitmap-disable", Self::BlockDirtyBitmapDisable),
        ("block-dirty-bitmap-merge", Self::BlockDirtyBitmapMerge),
        ("blockdev-backup", Self::BlockdevBackup),
        ("blockdev-snapshot", Self::BlockdevSnapshot),
        ("blockdev-snapshot-internal-sync", Self::BlockdevSnapshotInternalSync),
        ("blockdev-snapshot-sync", Self::BlockdevSnapshotSync),
        ("drive-backup", Self::DriveBackup),
    ];
}
enumeration_codec!(TransactionActionKind);

/// What is said of a failure: nothing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Abort {}

impl Object for Abort {
    fn take(_: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {})
    }

    fn put(&self, _: &mut Dict) {}
}
object_codec!(Abort);

/// An action that fails.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AbortWrapper {
    /// Nothing.
    pub data: Abort,
}

impl Object for AbortWrapper {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { data: from.required("data")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("data", &self.data);
    }
}
object_codec!(AbortWrapper);

/// An action on a dirty bitmap.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockDirtyBitmapWrapper {
    /// The bitmap.
    pub data: BlockDirtyBitmap,
}

impl Object for BlockDirtyBitmapWrapper {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { data: from.required("data")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("data", &self.data);
    }
}
object_codec!(BlockDirtyBitmapWrapper);

/// The action that adds a dirty bitmap.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockDirtyBitmapAddWrapper {
    /// The new bitmap.
    pub data: BlockDirtyBitmapAdd,
}

impl Object for BlockDirtyBitmapAddWrapper {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { data: from.required("data")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("data", &self.data);
    }
}
object_codec!(BlockDirtyBitmapAddWrapper);

/// The action that merges dirty bitmaps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockDirtyBitmapMergeWrapper {
    /// The bitmaps.
    pub data: BlockDirtyBitmapMerge,
}

impl Object for BlockDirtyBitmapMergeWrapper {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { data: from.required("data")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("data", &self.data);
    }
}
object_codec!(BlockDirtyBitmapMergeWrapper);

/// The action that makes an internal snapshot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevSnapshotInternalWrapper {
    /// The snapshot.
    pub data: BlockdevSnapshotInternal,
}

impl Object for BlockdevSnapshotInternalWrapper {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { data: from.required("data")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("data", &self.data);
    }
}
object_codec!(BlockdevSnapshotInternalWrapper);

/// The action that begins a backup into a node.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevBackupWrapper {
    /// The backup.
    pub data: BlockdevBackup,
}

impl Object for BlockdevBackupWrapper {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { data: from.required("data")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("data", &self.data);
    }
}
object_codec!(BlockdevBackupWrapper);

/// The action that puts an overlay over a node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevSnapshotWrapper {
    /// The nodes.
    pub data: BlockdevSnapshot,
}

impl Object for BlockdevSnapshotWrapper {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { data: from.required("data")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("data", &self.data);
    }
}
object_codec!(BlockdevSnapshotWrapper);

/// The action that puts a new overlay over a node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevSnapshotSyncWrapper {
    /// The overlay.
    pub data: BlockdevSnapshotSync,
}

impl Object for BlockdevSnapshotSyncWrapper {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { data: from.required("data")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("data", &self.data);
    }
}
object_codec!(BlockdevSnapshotSyncWrapper);

/// The action that begins a backup into an image.
#[derive(Debug, Clone, PartialEq)]
pub struct DriveBackupWrapper {
    /// The backup.
    pub data: DriveBackup,
}

impl Object for DriveBackupWrapper {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { data: from.required("data")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("data", &self.data);
    }
}
object_codec!(DriveBackupWrapper);

/// An action of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum TransactionAction {
    /// `abort`.
    Abort(AbortWrapper),
    /// `block-dirty-bitmap-add`.
    BlockDirtyBitmapAdd(BlockDirtyBitmapAddWrapper),
    /// `block-dirty-bitmap-remove`.
    BlockDirtyBitmapRemove(BlockDirtyBitmapWrapper),
    /// `block-dirty-bitmap-clear`.
    BlockDirtyBitmapClear(BlockDirtyBitmapWrapper),
    /// `block-dirty-bitmap-enable`.
    BlockDirtyBitmapEnable(BlockDirtyBitmapWrapper),
    /// `block-dirty-bitmap-disable`.
    BlockDirtyBitmapDisable(BlockDirtyBitmapWrapper),
    /// `block-dirty-bitmap-merge`.
    BlockDirtyBitmapMerge(BlockDirtyBitmapMergeWrapper),
    /// `blockdev-backup`.
    BlockdevBackup(BlockdevBackupWrapper),
    /// `blockdev-snapshot`.
    BlockdevSnapshot(BlockdevSnapshotWrapper),
    /// `blockdev-snapshot-internal-sync`.
    BlockdevSnapshotInternalSync(BlockdevSnapshotInternalWrapper),
    /// `blockdev-snapshot-sync`.
    BlockdevSnapshotSync(BlockdevSnapshotSyncWrapper),
    /// `drive-backup`.
    DriveBackup(DriveBackupWrapper),
}

impl TransactionAction {
    /// The value of `type` that goes with this branch.
    pub fn r#type(&self) -> TransactionActionKind {
        match self {
            Self::Abort(_) => TransactionActionKind::Abort,
            Self::BlockDirtyBitmapAdd(_) => TransactionActionKind::BlockDirtyBitmapAdd,
            Self::BlockDirtyBitmapRemove(_) => TransactionActionKind::BlockDirtyBitmapRemove,
            Self::BlockDirtyBitmapClear(_) => TransactionActionKind::BlockDirtyBitmapClear,
            Self::BlockDirtyBitmapEnable(_) => TransactionActionKind::BlockDirtyBitmapEnable,
            Self::BlockDirtyBitmapDisable(_) => TransactionActionKind::BlockDirtyBitmapDisable,
            Self::BlockDirtyBitmapMerge(_) => TransactionActionKind::BlockDirtyBitmapMerge,
            Self::BlockdevBackup(_) => TransactionActionKind::BlockdevBackup,
            Self::BlockdevSnapshot(_) => TransactionActionKind::BlockdevSnapshot,
            Self::BlockdevSnapshotInternalSync(_) => TransactionActionKind::BlockdevSnapshotInternalSync,
            Self::BlockdevSnapshotSync(_) => TransactionActionKind::BlockdevSnapshotSync,
            Self::DriveBackup(_) => TransactionActionKind::DriveBackup,
        }
    }

    fn take_branch(tag: TransactionActionKind, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            TransactionActionKind::Abort => Self::Abort(Object::take(from)?),
            TransactionActionKind::BlockDirtyBitmapAdd => Self::BlockDirtyBitmapAdd(Object::take(from)?),
            TransactionActionKind::BlockDirtyBitmapRemove => {
                Self::BlockDirtyBitmapRemove(Object::take(from)?)
            }
            TransactionActionKind::BlockDirtyBitmapClear => Self::BlockDirtyBitmapClear(Object::take(from)?),
            TransactionActionKind::BlockDirtyBitmapEnable => {
                Self::BlockDirtyBitmapEnable(Object::take(from)?)
            }
            TransactionActionKind::BlockDirtyBitmapDisable => {
                Self::BlockDirtyBitmapDisable(Object::take(from)?)
            }
            TransactionActionKind::BlockDirtyBitmapMerge => Self::BlockDirtyBitmapMerge(Object::take(from)?),
            TransactionActionKind::BlockdevBackup => Self::BlockdevBackup(Object::take(from)?),
            TransactionActionKind::BlockdevSnapshot => Self::BlockdevSnapshot(Object::take(from)?),
            TransactionActionKind::BlockdevSnapshotInternalSync => {
                Self::BlockdevSnapshotInternalSync(Object::take(from)?)
            }
            TransactionActionKind::BlockdevSnapshotSync => Self::BlockdevSnapshotSync(Object::take(from)?),
            TransactionActionKind::DriveBackup => Self::DriveBackup(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Abort(inner) => inner.put(to),
            Self::BlockDirtyBitmapAdd(inner) => inner.put(to),
            Self::BlockDirtyBitmapRemove(inner) => inner.put(to),
            Self::BlockDirtyBitmapClear(inner) => inner.put(to),
            Self::BlockDirtyBitmapEnable(inner) => inner.put(to),
            Self::BlockDirtyBitmapDisable(inner) => inner.put(to),
            Self::BlockDirtyBitmapMerge(inner) => inner.put(to),
            Self::BlockdevBackup(inner) => inner.put(to),
            Self::BlockdevSnapshot(inner) => inner.put(to),
            Self::BlockdevSnapshotInternalSync(inner) => inner.put(to),
            Self::BlockdevSnapshotSync(inner) => inner.put(to),
            Self::DriveBackup(inner) => inner.put(to),
        }
    }
}

impl Object for TransactionAction {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("type")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type());
        self.put_branch(to);
    }
}
object_codec!(TransactionAction);

/// How jobs that a transaction begins depend on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ActionCompletionMode {
    /// Not at all.
    Individual,
    /// All of them succeed, or none.
    Grouped,
}

impl Enumeration for ActionCompletionMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("individual", Self::Individual), ("grouped", Self::Grouped)];
}
enumeration_codec!(ActionCompletionMode);

/// How a transaction is carried out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TransactionProperties {
    /// How its jobs depend on each other; individual if absent.
    pub completion_mode: Option<ActionCompletionMode>,
}

impl Object for TransactionProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { completion_mode: from.optional("completion-mode")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("completion-mode", &self.completion_mode);
    }
}
object_codec!(TransactionProperties);

/// Arguments of `transaction`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TransactionArguments {
    /// The actions, in order.
    pub actions: Vec<TransactionAction>,
    /// How they are carried out.
    pub properties: Option<TransactionProperties>,
}

impl Object for TransactionArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { actions: from.required("actions")?, properties: from.optional("properties")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("actions", &self.actions);
        to.put_optional("properties", &self.properties);
    }
}
object_codec!(TransactionArguments);

/// The handlers of section `transaction`.
pub trait TransactionCommands: Send + Sync {
    /// Carries out actions at one point of time: all of them, or none.
    fn transaction(
        &self,
        arguments: TransactionArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
