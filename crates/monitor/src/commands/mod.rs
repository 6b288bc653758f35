//! The handlers of the schema's commands, a file for each of its sections.
mod block_activity;
mod block_amend;
mod block_backup;
mod block_dirty_bitmap;
mod block_export;
mod block_graph;
mod block_job;
mod block_mirror;
mod block_nodes;
mod block_query;
mod block_snapshot;
mod block_stats;
mod block_stream;
mod blockdev_create;
mod descriptors;
mod device;
mod machine;
mod migration;
mod migration_settings;
mod qom;
mod throttle;
mod transaction;
mod yank;

pub use machine::device_properties;

use crate::control::Control;
use api::{IntrospectCommands, QmpError, ShutdownCause};
use block::{Graph, Node};
use std::sync::Arc;

/// An error of the core as a QMP error.
pub(crate) fn failed(error: impl std::fmt::Display) -> QmpError {
    QmpError::generic(error.to_string())
}

/// The node that a command names by device or node name.
fn lookup(graph: &Graph, device: Option<&str>, node_name: Option<&str>) -> Result<Arc<Node>, QmpError> {
    if let Some(device) = device.and_then(|name| graph.device(name)) {
        return device.need_node().map_err(failed);
    }
    node_name.and_then(|name| graph.node(name)).ok_or_else(|| {
        let (device, name) = (device.unwrap_or_default(), node_name.unwrap_or_default());
        QmpError::generic(format!("Cannot find device='{device}' nor node-name='{name}'"))
    })
}

/// The node that a job is to work on, by the name of a device or node. A device's job has its name, where no other is given.
fn node_of_job(graph: &Graph, device: &str, job_id: &mut Option<String>) -> Result<Arc<Node>, QmpError> {
    let node = lookup(graph, Some(device), Some(device))?;
    if job_id.is_none() {
        *job_id = graph.device(device).map(|device| device.name().to_owned());
    }
    Ok(node)
}

impl IntrospectCommands for Control {
    async fn quit(&self) -> Result<(), QmpError> {
        self.shut_down(ShutdownCause::HostQmpQuit);
        self.end().await.map_err(failed)
    }
}
