// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Snapshots: external ones, where an overlay is put on top of a node, and internal ones, which an image keeps itself.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// Where the image of a new node comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NewImageMode {
    /// It exists and is used as it is.
    Existing,
    /// It is made, and names its backing file as that was opened.
    AbsolutePaths,
}

impl Enumeration for NewImageMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("existing", Self::Existing), ("absolute-paths", Self::AbsolutePaths)];
}
enumeration_codec!(NewImageMode);

/// A new image on top of a device or node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevSnapshotSync {
    /// The device.
    pub device: Option<String>,
    /// The node.
    pub node_name: Option<String>,
    /// The new image.
    pub snapshot_file: String,
    /// Name of the new node.
    pub snapshot_node_name: Option<String>,
    /// Format of the new image; qcow2 if absent.
    pub format: Option<String>,
    /// Whether the image is made; it is if absent.
    pub mode: Option<NewImageMode>,
}

impl Object for BlockdevSnapshotSync {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.optional("device")?,
            node_name: from.optional("node-name")?,
            snapshot_file: from.required("snapshot-file")?,
            snapshot_node_name: from.optional("snapshot-node-name")?,
            format: from.optional("format")?,
            mode: from.optional("mode")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("device", &self.device);
        to.put_optional("node-name", &self.node_name);
        to.put("snapshot-file", &self.snapshot_file);
        to.put_optional("snapshot-node-name", &self.snapshot_node_name);
        to.put_optional("format", &self.format);
        to.put_optional("mode", &self.mode);
    }
}
object_codec!(BlockdevSnapshotSync);

/// An existing node on top of another.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevSnapshot {
    /// The node to protect.
    pub node: String,
    /// The node that takes the writes; it has no backing image before.
    pub overlay: String,
}

impl Object for BlockdevSnapshot {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { node: from.required("node")?, overlay: from.required("overlay")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node", &self.node);
        to.put("overlay", &self.overlay);
    }
}
object_codec!(BlockdevSnapshot);

/// An internal snapshot to be made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevSnapshotInternal {
    /// The device or node.
    pub device: String,
    /// Name of the snapshot; no other has it.
    pub name: String,
}

impl Object for BlockdevSnapshotInternal {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { device: from.required("device")?, name: from.required("name")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
        to.put("name", &self.name);
    }
}
object_codec!(BlockdevSnapshotInternal);

/// Arguments of `blockdev-snapshot-delete-internal-sync`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevSnapshotDeleteInternalSyncArguments {
    /// The device or node.
    pub device: String,
    /// Its identifier.
    pub id: Option<String>,
    /// Its name. One of the two is needed; where both are given, both are its own.
    pub name: Option<String>,
}

impl Object for BlockdevSnapshotDeleteInternalSyncArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { device: from.required("device")?, id: from.optional("id")?, name: from.optional("name")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
        to.put_optional("id", &self.id);
        to.put_optional("name", &self.name);
    }
}
object_codec!(BlockdevSnapshotDeleteInternalSyncArguments);

/// The handlers of section `block-snapshot`.
pub trait BlockSnapshotCommands: Send + Sync {
    /// Puts a new image on top of a device or node; writes go to the new one from then on.
    fn blockdev_snapshot_sync(
        &self,
        arguments: BlockdevSnapshotSync,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Puts an existing node on top of another; writes go to it from then on.
    fn blockdev_snapshot(
        &self,
        arguments: BlockdevSnapshot,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Makes an internal snapshot of a node's image.
    fn blockdev_snapshot_internal_sync(
        &self,
        arguments: BlockdevSnapshotInternal,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Deletes an internal snapshot of a node's image, and tells what it was.
    fn blockdev_snapshot_delete_internal_sync(
        &self,
        arguments: BlockdevSnapshotDeleteInternalSyncArguments,
    ) -> impl Future<Output = Result<SnapshotInfo, QmpError>> + Send;
}
