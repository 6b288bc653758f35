//! Snapshots, external and internal.
//!
//! An external one is an overlay over a node that is in use. A new image is made and opened while requests go on; only
//! putting it in place holds them back. An internal one is made and deleted by the image's format, with requests held back.
use super::{failed, lookup};
use crate::control::Control;
use api::{
    BlockSnapshotCommands, BlockdevSnapshot, BlockdevSnapshotDeleteInternalSyncArguments,
    BlockdevSnapshotInternal, BlockdevSnapshotSync, NewImageMode, QmpError, SnapshotInfo,
};
use block::{
    BlockError, DriverType, ErrorKind, GraphChange, NewSnapshot, Node, Operations, Opt, Options, Policy,
    SnapshotName, name_seen_from,
};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

impl BlockSnapshotCommands for Control {
    async fn blockdev_snapshot_sync(&self, arguments: BlockdevSnapshotSync) -> Result<(), QmpError> {
        let node = lookup(self.graph(), arguments.device.as_deref(), arguments.node_name.as_deref())?;
        let overlay = self.make_overlay(arguments, &node).await?;
        let inserted = self.graph().insert_overlay(&node, &overlay).await;
        self.release(&overlay).await;
        inserted.map_err(failed)
    }

    async fn blockdev_snapshot(&self, arguments: BlockdevSnapshot) -> Result<(), QmpError> {
        let node = self.graph().need_node(&arguments.node).map_err(failed)?;
        let overlay = self.graph().need_node(&arguments.overlay).map_err(failed)?;
        self.graph().insert_overlay(&node, &overlay).await.map_err(failed)
    }

    async fn blockdev_snapshot_internal_sync(
        &self,
        arguments: BlockdevSnapshotInternal,
    ) -> Result<(), QmpError> {
        let mut change = self.graph().change().await;
        let made = self.make_snapshot(arguments, &mut change).await;
        change.end(made).await.map(drop).map_err(failed)
    }

    async fn blockdev_snapshot_delete_internal_sync(
        &self,
        arguments: BlockdevSnapshotDeleteInternalSyncArguments,
    ) -> Result<SnapshotInfo, QmpError> {
        let BlockdevSnapshotDeleteInternalSyncArguments { device, id, name } = arguments;
        let node = self.root_node(&device).map_err(failed)?;
        if id.is_none() && name.is_none() {
            return Err(QmpError::generic("Name or id must be provided"));
        }
        let which = SnapshotName::Both { id: id.clone(), name: name.clone() };
        let deleted = self.graph().delete_snapshot(&node, &which).await.map_err(failed)?;
        deleted.ok_or_else(|| {
            let said = |text: Option<String>| text.unwrap_or_else(|| "null".to_owned());
            let (id, name) = (said(id), said(name));
            QmpError::generic(format!(
                "Snapshot with id '{id}' and name '{name}' does not exist on device '{device}'"
            ))
        })
    }
}

impl Control {
    /// Makes the overlay that a snapshot puts over `node`, where it is to be made, and opens it.
    pub(super) async fn make_overlay(
        &self,
        arguments: BlockdevSnapshotSync,
        node: &Arc<Node>,
    ) -> Result<Arc<Node>, QmpError> {
        let BlockdevSnapshotSync { device: _, node_name, snapshot_file, snapshot_node_name, format, mode } =
            arguments;
        let graph = self.graph();
        // What can be refused is refused before a file is made.
        node.check_operation(Operations::OVERLAY).map_err(failed)?;
        graph.check_room_above(node).map_err(failed)?;
        let driver = self.overlay_driver(format.as_deref().unwrap_or("qcow2"))?;
        match snapshot_node_name.as_deref() {
            None if node_name.is_some() => return Err(QmpError::generic("New overlay node-name missing")),
            Some(name) if graph.node(name).is_some() => {
                return Err(QmpError::generic("New overlay node-name already in use"));
            }
            _ => {}
        }
        self.not_in_use(&snapshot_file).await?;
        if mode.unwrap_or(NewImageMode::AbsolutePaths) == NewImageMode::AbsolutePaths {
            let options = Options::new()
                .with_str("backing_file", &name_seen_from(&snapshot_file, &node.exact_filename()))
                .with_str("backing_fmt", node.driver_name());
            self.make_image(driver.name, &snapshot_file, node.length(), options).await.map_err(failed)?;
        }
        self.open_overlay(node, driver, &snapshot_file, snapshot_node_name).await
    }

    /// Lets go of a node that lives as long as those that use it by now; if nobody does, it is closed here.
    pub(super) async fn release(&self, node: &Arc<Node>) {
        if let Err(error) = self.graph().release(node).await {
            tracing::warn!(node = node.name(), %error, "closing an unused node failed");
        }
    }

    /// Makes an internal snapshot as a part of a change, and answers the node with it.
    pub(super) async fn make_snapshot(
        &self,
        asked: BlockdevSnapshotInternal,
        change: &mut GraphChange,
    ) -> Result<(Arc<Node>, SnapshotInfo), BlockError> {
        let BlockdevSnapshotInternal { device, name } = asked;
        let node = self.root_node(&device)?;
        if name.is_empty() {
            return Err(BlockError::invalid("Name is empty"));
        }
        let date = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let new = NewSnapshot { name: name.clone(), date, ..NewSnapshot::default() };
        let is_new = |all: &[SnapshotInfo]| match all.iter().any(|snapshot| snapshot.name == name) {
            true => Err(BlockError::invalid(format!(
                "Snapshot with name '{name}' already exists on device '{device}'"
            ))),
            false => Ok(()),
        };
        let made = change.create_snapshot(&node, new, is_new).await?;
        Ok((node, made))
    }

    /// The node of this name, which has no node above it that would not know of a change.
    fn root_node(&self, device: &str) -> Result<Arc<Node>, BlockError> {
        let node = lookup(self.graph(), Some(device), Some(device))
            .map_err(|e| BlockError::new(ErrorKind::NotFound, e.desc))?;
        self.graph().check_root(&node)?;
        Ok(node)
    }

    /// Refuses a new image's name that leads to a file some node has open, by whatever name.
    pub(super) async fn not_in_use(&self, file: &str) -> Result<(), QmpError> {
        let graph = self.graph();
        let Some(identity) = graph.storage_of(file).await else { return Ok(()) };
        match graph.nodes().iter().find(|node| node.driver().identity().as_ref() == Some(&identity)) {
            Some(node) => Err(QmpError::generic(format!(
                "'{file}' is the file of node '{}'; a new image needs another one",
                node.name()
            ))),
            None => Ok(()),
        }
    }

    pub(super) fn overlay_driver(&self, format: &str) -> Result<&'static DriverType, QmpError> {
        let unknown = |format: &str| format!("Unknown file format '{format}'");
        let driver = self.graph().registry().find_or(format, unknown).map_err(failed)?;
        if !driver.supports_backing {
            return Err(QmpError::generic(format!("Backing file not supported for file format '{format}'")));
        }
        Ok(driver)
    }

    /// Opens the new image as the node is opened, with no backing image yet.
    async fn open_overlay(
        &self,
        node: &Arc<Node>,
        driver: &'static DriverType,
        file: &str,
        name: Option<String>,
    ) -> Result<Arc<Node>, QmpError> {
        let mut options = self.graph().image_options(file, Some(driver.name)).map_err(failed)?;
        options.set("backing", Opt::Null);
        if let Some(name) = name {
            options.set("node-name", Opt::Str(name));
        }
        self.graph().open_with(options, node.common(), Policy::FOLLOW).await.map_err(failed)
    }
}
