//! change-backing-file: another name in an image's header, for the same backing image.
use crate::chain::{is_in_chain, link_to, named};
use block::{BlockError, Graph, Node, Operations, Result};
use std::sync::Arc;

/// Stores `backing_file` as the name of the backing image in the header of the image `name`, which is in the chain of
/// `device`; durable when it returns. The format that is stored beside it is that of the backing node.
pub async fn change_backing_file(
    graph: &Graph,
    device: &Arc<Node>,
    name: &str,
    backing_file: &str,
) -> Result<()> {
    if !graph.parents(device).is_empty() || device.check_operation(Operations::JOB).is_err() {
        return Err(BlockError::invalid("Need a root block node"));
    }
    let node = named(graph, name)?;
    let Some(backing) = node.backing() else {
        let text = "not allowing backing file change on an image without a backing file";
        return Err(BlockError::invalid(text));
    };
    if !is_in_chain(device, &node) {
        let text = format!("'{}' and image file are not in the same chain", device.name());
        return Err(BlockError::invalid(text));
    }
    let mut change = graph.change().await;
    let changed = async {
        node.check_operation(Operations::REOPEN)?;
        let was_read_only = node.read_only();
        change.set_writable(&node, true).await?;
        let link = link_to(graph, &node, &backing, (Some(backing_file), false));
        change.set_backing_link(&node, link).await?;
        if was_read_only {
            change.set_writable(&node, false).await?;
        }
        Ok(())
    };
    let changed = changed.await;
    let what = || format!("Could not change backing file to '{backing_file}'");
    change.end(changed).await.map_err(|e| e.context(what()))
}
