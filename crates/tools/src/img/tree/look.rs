//! What is found out of each file, and how they hang together.

use super::Args;
use super::scan::Found;
use crate::console::Console;
use crate::image::{Image, Source};
use api::{ImageInfoSpecific, ImageTreeEntry, ImageTreeUser};
use block::{BlockError, ChildRole, Node};
use rt::openers::{self, FileId};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Most ranges that are looked at to tell what a layer holds: beyond, nothing is told of it.
const RANGES: usize = 1 << 22;

/// An image as it was found, before it is known who stands on it.
struct Looked {
    id: FileId,
    entry: ImageTreeEntry,
    /// Shown though nothing stands on it.
    shown: bool,
    /// Somebody named it.
    named: bool,
    /// Where its backing name leads, as a file.
    stands_on: Option<FileId>,
    /// Its other files.
    files: Vec<FileId>,
}

/// The images among the files, each behind the one that it stands on.
pub(super) async fn entries(console: &mut Console, found: Vec<Found>, args: &Args) -> Vec<ImageTreeEntry> {
    let mut all = Vec::with_capacity(found.len());
    for file in &found {
        all.push(look(file, args).await);
    }
    let place: HashMap<FileId, usize> = all.iter().enumerate().map(|(at, looked)| (looked.id, at)).collect();
    let backing: Vec<_> =
        all.iter().map(|looked| looked.stands_on.and_then(|id| place.get(&id).copied())).collect();
    show_what_is_used(&mut all, &place);
    add_users(console, &mut all);
    add_dependents(&mut all, &backing, &place);
    for (at, above) in backing.iter().enumerate() {
        let name = above.and_then(|above| all.get(above)).map(|above| above.entry.filename.clone());
        if let Some(looked) = all.get_mut(at) {
            looked.entry.backing = name;
            if stands_on_itself(&backing, at) {
                looked.entry.problem.get_or_insert_with(|| "it stands on itself".to_owned());
            }
        }
    }
    all.into_iter().filter(|looked| looked.shown).map(|looked| looked.entry).collect()
}

/// Files that look raw are shown where an image stands on them. Those that an image has its data in are told with it, unless somebody
/// named them: what they look like is a guest's.
fn show_what_is_used(all: &mut [Looked], place: &HashMap<FileId, usize>) {
    let images: Vec<_> = all.iter().filter(|looked| looked.shown).collect();
    let parts: Vec<_> =
        images.iter().flat_map(|looked| &looked.files).filter_map(|id| place.get(id)).collect();
    let used: Vec<_> =
        images.iter().filter_map(|looked| looked.stands_on).filter_map(|id| place.get(&id)).collect();
    let changes = parts.into_iter().map(|at| (*at, false)).chain(used.into_iter().map(|at| (*at, true)));
    for (at, shown) in changes.collect::<Vec<_>>() {
        if let Some(looked) = all.get_mut(at) {
            looked.shown = shown || looked.named;
        }
    }
}

fn stands_on_itself(backing: &[Option<usize>], from: usize) -> bool {
    let mut at = from;
    for _ in 0..backing.len() {
        match backing.get(at).copied().flatten() {
            Some(next) if next == from => return true,
            Some(next) => at = next,
            None => return false,
        }
    }
    false
}

/// Tells each image which others break without it: those that stand on it, and whose data are in it.
fn add_dependents(all: &mut [Looked], backing: &[Option<usize>], place: &HashMap<FileId, usize>) {
    let mut breaks = vec![Vec::new(); all.len()];
    for (user, looked) in all.iter().enumerate().filter(|(_, looked)| looked.shown) {
        for id in &looked.files {
            if let Some(list) = place.get(id).and_then(|at| breaks.get_mut(*at)) {
                list.push(looked.entry.filename.clone());
            }
        }
        let mut at = user;
        // No chain is longer than there are images.
        for _ in 0..backing.len() {
            let Some(next) = backing.get(at).copied().flatten().filter(|next| *next != user) else { break };
            if let Some(list) = breaks.get_mut(next) {
                // What is there already is met again: images that stand on one another in a circle.
                if list.last() == Some(&looked.entry.filename) {
                    break;
                }
                list.push(looked.entry.filename.clone());
            }
            at = next;
        }
    }
    for (looked, breaks) in all.iter_mut().zip(breaks) {
        looked.entry.breaks = breaks;
    }
}

fn add_users(console: &mut Console, all: &mut [Looked]) {
    let shown: Vec<_> = all.iter().filter(|looked| looked.shown).map(|looked| looked.id).collect();
    let (mut openers, hidden) = openers::openers(&shown);
    if hidden > 0 {
        console.warning(format_args!(
            "{hidden} processes may not be looked at: who else has an image open is unknown"
        ));
    }
    for looked in all {
        let users = openers.remove(&looked.id).unwrap_or_default().into_iter();
        looked.entry.users = users
            .map(|user| ImageTreeUser { pid: user.pid, command: user.command, writes: user.writes })
            .collect();
    }
}

/// Looks at a file alone.
async fn look(file: &Found, args: &Args) -> Looked {
    let name = codec::filename::text(std::os::unix::ffi::OsStrExt::as_bytes(file.path.as_os_str()));
    let mut looked = Looked {
        id: file.id,
        entry: ImageTreeEntry { filename: name.clone(), ..ImageTreeEntry::default() },
        shown: true,
        named: file.named,
        stands_on: None,
        files: Vec::new(),
    };
    if let Err(error) = describe(&mut looked, &name, file.named, args).await {
        // What is no image at all can't be opened either, a file of a running database, say: only what has a format is one.
        looked.shown = file.named || looked.entry.format.is_some();
        looked.entry.problem = Some(error.to_string());
    }
    looked
}

async fn describe(looked: &mut Looked, name: &str, named: bool, args: &Args) -> Result<(), BlockError> {
    let source = Source::named(name).alone().without_content().force_share(true);
    let image = Image::open(&source).await?;
    let node = image.node();
    let result = describe_node(looked, &node, named, args).await;
    let held = match result {
        Ok(()) if looked.shown && !args.skip_content => held(&image).await,
        other => other.map(|()| None),
    };
    let closed = image.close().await;
    looked.entry.held = held?;
    closed
}

async fn describe_node(
    looked: &mut Looked,
    node: &std::sync::Arc<Node>,
    named: bool,
    args: &Args,
) -> Result<(), BlockError> {
    let info = node.driver().info();
    let entry = &mut looked.entry;
    looked.shown = named || args.all || !node.driver_type().fallback;
    entry.format = Some(node.driver_name().to_owned());
    entry.virtual_size = Some(node.length());
    entry.actual_size = node.allocated_size();
    entry.encrypted = info.encrypted.then_some(true);
    entry.snapshots = i64::try_from(info.snapshots.len()).ok().filter(|count| *count > 0);
    let further = node.edges().all().into_iter().filter(|child| !child.role.has(ChildRole::BACKING));
    let mut further: Vec<_> = further.map(|child| child.node.filename()).collect();
    if let Some(ImageInfoSpecific::Qcow2(qcow2)) = &info.specific {
        further.extend(qcow2.data_file.iter().map(|name| block::resolve_filename(&node.place(), name)));
    }
    for file in further {
        if let Some(id) = id_of(&file).filter(|id| *id != looked.id) {
            looked.files.push(id);
            entry.files.get_or_insert_default().push(file);
        }
    }
    let Some(stored) = info.backing_filename else { return Ok(()) };
    let full = block::resolve_filename(&node.place(), &stored);
    looked.stands_on = id_of(&full);
    // What is no file of this machine (a server's export) is not for this to judge.
    if looked.stands_on.is_none() && !full.contains(':') {
        entry.problem = Some(format!("its backing image '{full}' is not there"));
    }
    entry.full_backing_filename = Some(full);
    entry.backing_filename = Some(stored);
    Ok(())
}

fn id_of(name: &str) -> Option<FileId> {
    let file = fs::metadata(rt::fs::path(name)).ok()?;
    Some((file.dev(), file.ino()))
}

/// Bytes of the disk that the image itself says something of. Where it has no backing image, those of data.
async fn held(image: &Image) -> Result<Option<u64>, BlockError> {
    let (end, layered) = (image.backend.length(), image.node().driver_type().supports_backing);
    let (mut at, mut held, mut ranges) = (0, 0, 0);
    while at < end {
        at = image
            .backend
            .statuses(at..end, |status| {
                ranges += 1;
                if status.data || (layered && status.allocated) {
                    held += status.len;
                }
                true
            })
            .await?;
        if ranges > RANGES {
            return Ok(None);
        }
    }
    Ok(Some(held))
}
