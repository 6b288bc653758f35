//! `commit`: what an image holds goes to the image below, and the image is emptied, while all requests wait.

use super::{Asked, Told};
use crate::copy::{CopyRun, PARALLEL};
use block::{
    Backend, BlockError, CopyPlan, Endpoint, ErrorKind, Graph, GraphChange, Node, Operations, Share,
};
use std::sync::Arc;

pub(super) async fn commit(asked: &Asked<'_>) -> Result<String, Told> {
    let (name, graph) = (asked.words.get("device").unwrap_or_default(), asked.control.graph());
    if name == "all" {
        for device in graph.devices() {
            if let Some(node) = device.node()
                && node.skip_filters().backing().is_some()
            {
                into_backing(graph, &node).await.map_err(|error| about(&device.shown(), &error))?;
            }
        }
        return Ok(String::new());
    }
    let Some(device) = graph.device(name) else { return Err(Told(format!("Device '{name}' not found\n"))) };
    let medium = device.medium().ok_or_else(|| Told(format!("Device '{name}' has no medium\n")))?;
    into_backing(graph, &medium.node()).await.map_err(|error| about(name, &error))?;
    Ok(String::new())
}

fn about(name: &str, error: &BlockError) -> Told {
    Told(format!("'commit' error for '{name}': {error}\n"))
}

async fn into_backing(graph: &Graph, node: &Arc<Node>) -> Result<(), BlockError> {
    let top = node.skip_filters();
    let none = || BlockError::new(ErrorKind::Unsupported, "No medium found");
    let base = top.backing().ok_or_else(none)?;
    let mut change = graph.change().await;
    let committed = copy_down(graph, &mut change, &top, &base).await;
    change.end(committed).await
}

async fn copy_down(
    graph: &Graph,
    change: &mut GraphChange,
    top: &Arc<Node>,
    base: &Arc<Node>,
) -> Result<(), BlockError> {
    top.check_operation(Operations::JOB)?;
    base.check_operation(Operations::JOB)?;
    for_itself(graph, top, base)?;
    graph.warn_of_snapshots(std::slice::from_ref(top));
    change.quiesce(std::slice::from_ref(top)).await?;
    let was_read_only = base.read_only();
    change.set_writable(base, true).await?;
    let length = top.length();
    if base.length() < length {
        base.set_length(length, api::PreallocMode::Off).await?;
    }
    let plan = CopyPlan::above(base, Endpoint::Inner(top.clone()), Endpoint::Inner(base.clone()));
    let copied = CopyRun::new(None, length).copy(plan, 0..length, PARALLEL).await;
    copied.map_err(|failed| failed.error)?;
    base.flush().await?;
    top.driver().make_empty().await?;
    if was_read_only {
        change.set_writable(base, false).await?;
    }
    Ok(())
}

/// Refuses a base whose content others count on beside the image above it: it is about to change.
fn for_itself(graph: &Graph, top: &Arc<Node>, base: &Arc<Node>) -> Result<(), BlockError> {
    let image = base.skip_filters();
    let used =
        |by: &str| Err(BlockError::new(ErrorKind::Busy, format!("'{}' is in use by {by}", base.name())));
    if let Some(other) = graph.overlays(&image).iter().find(|parent| !Arc::ptr_eq(&parent.node, top)) {
        return used(&format!("node '{}'", other.node.name()));
    }
    let counts_on_it = |entry: &&Arc<Backend>| {
        Arc::ptr_eq(&entry.node().skip_filters(), &image) && !entry.perms().share.has(Share::WRITE)
    };
    match graph.entries().iter().find(counts_on_it) {
        Some(entry) => used(entry.label()),
        None => Ok(()),
    }
}
