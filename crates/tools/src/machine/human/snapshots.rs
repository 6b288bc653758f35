//! `savevm`, `loadvm`, `delvm`, `info snapshots`: one snapshot of all images that are written to, with the machine's state in the
//! first of them. There is no processor: the state is a line that says so.

use super::{Asked, Told};
use crate::console::Console;
use crate::show;
use api::SnapshotInfo;
use block::{BlockError, Graph, GraphChange, NewSnapshot, Node, SnapshotName};
use rt::Buf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is kept as the machine's state.
const STATE: &[u8] = b"the state of a machine without a processor\n";

/// The images that snapshots are of: what devices write to, each once.
fn images(graph: &Graph) -> Result<Vec<Arc<Node>>, Told> {
    let mut images: Vec<Arc<Node>> = Vec::new();
    for device in graph.devices() {
        let Some(node) = device.node() else { continue };
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
    // One moment, of all of them or none.
    let mut change = graph.change().await;
    let mut made = Vec::new();
    let saved = async {
        quiesce(&mut change, &images).await?;
        for (index, node) in images.iter().enumerate() {
            let about = |error: BlockError| {
                error.context(format!("Error while creating snapshot on '{}'", node.name()))
            };
            let vm_state_size = if index == 0 { STATE.len() as u64 } else { 0 };
            if index == 0 {
                change.write_state(node, 0, Buf::from_slice(STATE)).await.map_err(about)?;
            }
            let new = NewSnapshot { name: name.clone(), date, vm_state_size, ..NewSnapshot::default() };
            let snapshot = change.create_snapshot(node, new, |_| Ok(())).await.map_err(about)?;
            made.push((node, snapshot.id));
        }
        Ok(())
    };
    let saved = saved.await;
    // A second one of a name takes the place of the first, which is deleted when the second one is there. Where it is not there
    // on all images, it is on none.
    let is_new = |node: &Arc<Node>, id: &str| made.iter().any(|(of, new)| Arc::ptr_eq(of, node) && new == id);
    let to_go = |node: &Arc<Node>, snapshot: &SnapshotInfo| match saved.is_ok() {
        true => snapshot.name == name && !is_new(node, &snapshot.id),
        false => is_new(node, &snapshot.id),
    };
    let tidied = delete_from(&mut change, &images, to_go).await;
    change.end(saved.and(tidied)).await.map_err(Told::error)?;
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
    let mut change = graph.change().await;
    let loaded = async {
        quiesce(&mut change, &images).await?;
        for node in &images {
            let about = |error: BlockError| {
                error.context(format!("Error while loading snapshot on '{}'", node.name()))
            };
            change.apply_snapshot(node, &which).await.map_err(about)?;
        }
        Ok(())
    };
    let loaded = loaded.await;
    change.end(loaded).await.map_err(Told::error)?;
    Ok(String::new())
}

pub(super) async fn delete(asked: &Asked<'_>) -> Result<String, Told> {
    let graph = asked.control.graph();
    let name = asked.words.get("tag").unwrap_or_default();
    let images = images(graph)?;
    let mut change = graph.change().await;
    let deleted = delete_from(&mut change, &images, |_, snapshot| snapshot.name == name).await;
    change.end(deleted).await.map_err(Told::error)?;
    Ok(String::new())
}

/// Lets no request into any of the images.
async fn quiesce(change: &mut GraphChange, images: &[Arc<Node>]) -> block::Result<()> {
    let keepers: Vec<_> = images.iter().filter_map(Node::snapshot_keeper).collect();
    change.quiesce(&keepers).await
}

/// Deletes the snapshots that are `to_go` from the images.
async fn delete_from(
    change: &mut GraphChange,
    images: &[Arc<Node>],
    to_go: impl Fn(&Arc<Node>, &SnapshotInfo) -> bool,
) -> block::Result<()> {
    for node in images {
        let all = node.snapshot_keeper().map(|keeper| keeper.driver().info().snapshots).unwrap_or_default();
        for snapshot in all.into_iter().filter(|snapshot| to_go(node, snapshot)) {
            let which = SnapshotName::Both { id: Some(snapshot.id), name: Some(snapshot.name) };
            let deleted = change.delete_snapshot(node, &which).await;
            let about = format!("Error while deleting snapshot on '{}'", node.name());
            deleted.map_err(|error| error.context(about))?;
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

#[cfg(test)]
mod tests {
    use super::super::HumanMonitor;
    use block::{Node, Operations, Options, Policy};
    use monitor::{Control, Human};
    use std::sync::Arc;

    fn names(node: &Arc<Node>) -> Vec<String> {
        let snapshots = node.snapshot_keeper().unwrap().driver().info().snapshots;
        snapshots.into_iter().map(|snapshot| snapshot.name).collect()
    }

    #[test]
    fn a_snapshot_is_of_all_images_or_none_and_a_second_one_takes_the_place_of_the_first() {
        rt::block_on_control(async {
            let control = Control::new(crate::image::registry());
            let (graph, human) = (control.graph(), HumanMonitor::new("machine"));
            let folder = crate::testing::Faces::new();
            let mut images = Vec::new();
            for name in ["a", "b"] {
                let file = folder.path(name).to_string_lossy().into_owned();
                graph.create("qcow2", &file, 1 << 20, Options::new()).await.unwrap();
                let file = Options::new().with_str("driver", "file").with_str("filename", &file);
                let options = Options::new().with_str("driver", "qcow2").with("file", block::Opt::Dict(file));
                let node = graph.open(options, Policy::FOLLOW).await.unwrap();
                let device = graph.add_device(name).unwrap();
                graph.put_in(&device, node.clone()).await.unwrap();
                images.push(node);
            }
            let all = || images.iter().map(names).collect::<Vec<_>>();
            let state =
                || images.first().map(|node| node.snapshot_keeper().unwrap().driver().info().snapshots);
            assert_eq!(human.command(&control, "savevm s").await, "");
            assert_eq!(all(), [["s"], ["s"]]);
            let first = state();
            let held = images[1].block(Operations::SNAPSHOT, "it is at work");
            let refused = human.command(&control, "savevm s").await;
            assert!(refused.starts_with("Error: Error while creating snapshot on '"), "{refused}");
            assert_eq!(state(), first, "the old one is there, and nothing else");
            assert!(human.command(&control, "loadvm s").await.starts_with("Error: Error while loading"));
            drop(held);
            assert_eq!(human.command(&control, "savevm s").await, "");
            assert_eq!(all(), [["s"], ["s"]]);
            assert_ne!(state(), first);
            assert_eq!(human.command(&control, "loadvm s").await, "");
            assert_eq!(human.command(&control, "delvm s").await, "");
            assert!(all().concat().is_empty());
            control.end().await.unwrap();
        });
    }
}
