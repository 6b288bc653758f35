//! blockdev-snapshot-sync: a new image over a node that is in use.
//!
//! The image is made and opened while requests go on; only the exchange itself stops them.
use super::{failed, lookup};
use crate::control::Control;
use api::{BlockdevSnapshotSyncArguments, NewImageMode, QmpError};
use block::{DriverType, Node, Opt, Options, Policy, name_seen_from};
use std::sync::Arc;

impl Control {
    pub(super) async fn snapshot_sync(
        &self,
        arguments: BlockdevSnapshotSyncArguments,
    ) -> Result<(), QmpError> {
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
        node.not_busy().map_err(failed)?;
        let driver = self.overlay_driver(format.as_deref().unwrap_or("qcow2"))?;
        match snapshot_node_name.as_deref() {
            None if node_name.is_some() => return Err(QmpError::generic("New overlay node-name missing")),
            Some(name) if graph.node(name).is_some() => {
                return Err(QmpError::generic("New overlay node-name already in use"));
            }
            _ => {}
        }
        if mode.unwrap_or(NewImageMode::AbsolutePaths) == NewImageMode::AbsolutePaths {
            let options = Options::new()
                .with_str("backing_file", &name_seen_from(&snapshot_file, &node.filename()))
                .with_str("backing_fmt", node.driver_name());
            graph.create(driver.name, &snapshot_file, node.length(), options).await.map_err(failed)?;
        }
        let overlay = self.open_overlay(&node, driver, &snapshot_file, snapshot_node_name).await?;
        let inserted = graph.insert_overlay(&node, &overlay).await;
        // Nobody but those who used the node keeps the overlay; a node that nobody used gets none.
        let released = graph.release(&overlay).await;
        inserted.and(released).map_err(failed)
    }

    fn overlay_driver(&self, format: &str) -> Result<&'static DriverType, QmpError> {
        let unknown = || QmpError::generic(format!("Unknown file format '{format}'"));
        let driver = self.graph().registry().find(format).ok_or_else(unknown)?;
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
