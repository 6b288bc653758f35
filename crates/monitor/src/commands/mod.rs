//! The handlers of the schema's commands, a file for each of its sections.
mod block_amend;
mod block_backup;
mod block_core;
mod block_dirty_bitmap;
mod block_export;
mod block_job;
mod block_mirror;
mod block_query;
mod block_snapshot;
mod block_stream;
mod blockdev_create;
mod descriptors;
mod device;
mod machine;
mod qom;
mod throttle;
mod transaction;

pub use machine::device_properties;

use crate::control::Control;
use api::{IntrospectCommands, QmpError, ShutdownCause};
use block::{Device, Graph, Node};
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

/// The device that a command names by its own name, or by that of the model at it.
fn find_device(graph: &Graph, name: Option<&str>, id: Option<&str>) -> Result<Arc<Device>, QmpError> {
    let (found, called) = match (name, id) {
        (Some(name), None) => (graph.device(name), name),
        (None, Some(id)) => (graph.device_of_model(id), id),
        _ => return Err(QmpError::generic("Need exactly one of 'device' and 'id'")),
    };
    found.ok_or_else(|| QmpError::device_not_found(called))
}

impl IntrospectCommands for Control {
    async fn quit(&self) -> Result<(), QmpError> {
        self.shut_down(ShutdownCause::HostQmpQuit);
        self.end().await.map_err(failed)
    }
}
