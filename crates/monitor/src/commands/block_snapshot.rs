//! External snapshots: an overlay over a node that is in use.
//!
//! A new image is made and opened while requests go on; only putting it in place holds them back.
use super::{failed, lookup};
use crate::control::Control;
use api::{
    BlockSnapshotCommands, BlockdevSnapshotArguments, BlockdevSnapshotSyncArguments, NewImageMode, QmpError,
};
use block::{DriverType, Node, Operations, Opt, Options, Policy, name_seen_from};
use std::sync::Arc;

impl BlockSnapshotCommands for Control {
    async fn blockdev_snapshot_sync(&self, arguments: BlockdevSnapshotSyncArguments) -> Result<(), QmpError> {
        let BlockdevSnapshotSyncArguments {
            device,
            node_name,
            snapshot_file,
            snapshot_node_name,
            format,
            mode,
        } = arguments;
        let graph = self.graph();
        let node = lookup(graph, device.as_deref(), node_name.as_deref())?;
        // What can be refused is refused before a file is made.
        node.check_operation(Operations::OVERLAY).map_err(failed)?;
        graph.check_room_above(&node).map_err(failed)?;
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
            graph.create(driver.name, &snapshot_file, node.length(), options).await.map_err(failed)?;
        }
        let overlay = self.open_overlay(&node, driver, &snapshot_file, snapshot_node_name).await?;
        let inserted = graph.insert_overlay(&node, &overlay).await;
        // The overlay lives as long as the users that moved to it; if the node had none, it is closed here.
        if let Err(error) = graph.release(&overlay).await {
            tracing::warn!(node = overlay.name(), %error, "closing an unused overlay failed");
        }
        inserted.map_err(failed)
    }

    async fn blockdev_snapshot(&self, arguments: BlockdevSnapshotArguments) -> Result<(), QmpError> {
        let node = self.graph().need_node(&arguments.node).map_err(failed)?;
        let overlay = self.graph().need_node(&arguments.overlay).map_err(failed)?;
        self.graph().insert_overlay(&node, &overlay).await.map_err(failed)
    }
}

impl Control {
    /// Refuses a new image's name that leads to a file some node has open, by whatever name.
    async fn not_in_use(&self, file: &str) -> Result<(), QmpError> {
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

    fn overlay_driver(&self, format: &str) -> Result<&'static DriverType, QmpError> {
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
