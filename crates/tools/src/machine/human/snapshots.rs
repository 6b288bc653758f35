//! `savevm`, `loadvm`, `delvm`, `info snapshots`: one snapshot of all images that are written to, with the machine's state in the
//! first of them. There is no processor: the state is a line that says so.

use super::{Asked, Told};
use crate::console::Console;
use crate::show;
use block::{BlockError, Graph, NewSnapshot, Node, SnapshotName};
use rt::Buf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is kept as the machine's state.
const STATE: &[u8] = b"the state of a machine without a processor\n";

/// The images that snapshots are of: what devices write to, each once.
fn images(graph: &Graph) -> Result<Vec<Arc<Node>>, Told> {
    let mut images: Vec<Arc<Node>> = Vec::new();
    for device in graph.devices() {
        let Some(node) = device.medium().map(|medium| medium.node()) else { continue };
        if node.read_only() {
            continue;
        }
        let keeper = node.snapshot_keeper();
        if keeper.as_ref().is_none_or(|keeper| keeper.driver().snapshots().is_none()) {
            let text = format!(
                "Device '{}' is writable but does not support snapshots",
                if device.name().is_empty() { node.name().to_owned() } else { device.shown() }
            );
            return Err(Told::error(text));
        }
        if !images.iter().any(|other| Arc::ptr_eq(other, &node)) {
            images.push(node);
        }
    }
    if images.is_empty() {
        return Err(Told::error("no block device can store vmstate for snapshot"));
    }
    Ok(images)
}

fn has(node: &Arc<Node>, which: &SnapshotName) -> bool {
    let keeper = node.snapshot_keeper();
    keeper.is_some_and(|keeper| which.find(&keeper.driver().info().snapshots).is_some())
}

pub(super) async fn save(asked: &Asked<'_>) -> Result<String, Told> {
    let graph = asked.control.graph();
    let images = images(graph)?;
    let date = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let name = match asked.words.get("tag") {
        Some(name) => name.to_owned(),
        None => format!("vm-{}", date.as_secs()),
    };
    // A second one of a name takes the place of the first.
    delete_from(graph, &images, &SnapshotName::Named(name.clone())).await?;
    for (index, node) in images.iter().enumerate() {
        let made = async {
            let vm_state_size = if index == 0 { STATE.len() as u64 } else { 0 };
            if index == 0 {
                graph.write_state(node, 0, Buf::from_slice(STATE)).await?;
            }
            let new = NewSnapshot { name: name.clone(), date, vm_state_size, ..NewSnapshot::default() };
            graph.create_snapshot(node, new, |_| Ok(())).await
        };
        let about = |error: BlockError| {
            Told::error(format!("Error while creating snapshot on '{}': {error}", node.name()))
        };
        made.await.map_err(about)?;
    }
    Ok(String::new())
}

pub(super) async fn load(asked: &Asked<'_>) -> Result<String, Told> {
    let graph = asked.control.graph();
    let which = SnapshotName::Named(asked.words.get("tag").unwrap_or_default().to_owned());
    let images = images(graph)?;
    if let Some(without) = images.iter().find(|node| !has(node, &which)) {
        let text = format!(
            "Device '{}' does not have the requested snapshot '{}'",
            without.name(),
            asked.words.get("tag").unwrap_or_default()
        );
        return Err(Told::error(text));
    }
    for node in &images {
        let about =
            |error| Told::error(format!("Error while loading snapshot on '{}': {error}", node.name()));
        graph.apply_snapshot(node, &which).await.map_err(about)?;
    }
    Ok(String::new())
}

pub(super) async fn delete(asked: &Asked<'_>) -> Result<String, Told> {
    let graph = asked.control.graph();
    let which = SnapshotName::Named(asked.words.get("tag").unwrap_or_default().to_owned());
    delete_from(graph, &images(graph)?, &which).await?;
    Ok(String::new())
}

async fn delete_from(graph: &Graph, images: &[Arc<Node>], which: &SnapshotName) -> Result<(), Told> {
    for node in images {
        let about =
            |error| Told::error(format!("Error while deleting snapshot on '{}': {error}", node.name()));
        while has(node, which) {
            graph.delete_snapshot(node, which).await.map_err(about)?;
        }
    }
    Ok(())
}

/// The snapshots of the first image, as `img snapshot -l` lists them.
pub(super) fn tell(asked: &Asked<'_>) -> Result<String, Told> {
    let images = images(asked.control.graph())?;
    let list = images.first().and_then(|node| node.snapshot_keeper());
    let list = list.map(|keeper| keeper.driver().info().snapshots).unwrap_or_default();
    if list.is_empty() {
        return Ok("There is no snapshot available.\n".to_owned());
    }
    let text = Console::kept(|console| show::snapshots(console, "", &list));
    // The list has another heading here.
    let lines = text.split_once('\n').map_or("", |(_, lines)| lines);
    Ok(format!("List of snapshots present on all disks:\n{lines}"))
}
