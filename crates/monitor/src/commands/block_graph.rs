//! The graph as a whole: nodes, their users, and the permissions of every use.
use crate::control::Control;
use api::{
    BlockGraphCommands, BlockPermission, QmpError, XDbgBlockGraph, XDbgBlockGraphEdge, XDbgBlockGraphNode,
    XDbgBlockGraphNodeType,
};
use block::{Backend, Device, Node, NodeUse, NodeUser, Perms, Share};
use jobs::Job;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// What an entry's use of its node is called.
const ROOT: &str = "root";

/// The permissions, in the order in which they are listed.
const PERMISSIONS: [(Share, BlockPermission); 4] = [
    (Share::RESIZE, BlockPermission::Resize),
    (Share::WRITE_UNCHANGED, BlockPermission::WriteUnchanged),
    (Share::WRITE, BlockPermission::Write),
    (Share::READ, BlockPermission::ConsistentRead),
];

/// What has a number.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Node(*const Node),
    Entry(*const Backend),
    Device(*const Device),
    Job(String),
}

/// The answer, as it is put together: numbers are given in the order in which things are met.
#[derive(Default)]
struct Picture {
    numbers: HashMap<Key, u64>,
    nodes: Vec<XDbgBlockGraphNode>,
    edges: Vec<XDbgBlockGraphEdge>,
}

impl BlockGraphCommands for Control {
    async fn x_debug_query_block_graph(&self) -> Result<XDbgBlockGraph, QmpError> {
        let mut picture = Picture::default();
        let devices = self.graph().devices();
        let jobs: Vec<_> =
            self.jobs().all().iter().map(|job| (Job::entry_label(job.id()), job.id().to_owned())).collect();
        let (of_entries, of_nodes): (Vec<_>, Vec<_>) =
            self.graph().uses().into_iter().partition(|used| matches!(used.user, NodeUser::Entry(_)));
        // Jobs come after other users, as in QEMU.
        let mut of_jobs = Vec::new();
        for NodeUse { user, node, perms } in of_entries {
            let NodeUser::Entry(entry) = user else { continue };
            // The entries of a job are labelled by it.
            if let Some((_, job)) = jobs.iter().find(|(label, _)| entry.label() == label) {
                of_jobs.push((job.clone(), node, perms));
                continue;
            }
            let is_in =
                |device: &&Arc<Device>| device.medium().is_some_and(|medium| Arc::ptr_eq(&medium, &entry));
            let name = devices.iter().find(is_in).map(|device| device.shown()).unwrap_or_default();
            let parent = picture.met(Key::Entry(Arc::as_ptr(&entry)));
            picture.add(parent, XDbgBlockGraphNodeType::BlockBackend, &name);
            picture.edge(parent, ROOT, &node, perms);
        }
        for device in devices.iter().filter(|device| device.medium().is_none()) {
            let number = picture.met(Key::Device(Arc::as_ptr(device)));
            picture.add(number, XDbgBlockGraphNodeType::BlockBackend, &device.shown());
        }
        for (job, node, perms) in of_jobs {
            let is_new = !picture.numbers.contains_key(&Key::Job(job.clone()));
            let parent = picture.met(Key::Job(job.clone()));
            if is_new {
                picture.add(parent, XDbgBlockGraphNodeType::BlockJob, &job);
            }
            picture.edge(parent, ROOT, &node, perms);
        }
        self.add_nodes(&mut picture, of_nodes);
        Ok(picture.finish())
    }
}

impl Control {
    fn add_nodes(&self, picture: &mut Picture, uses: Vec<NodeUse>) {
        let mut children: HashMap<*const Node, Vec<NodeUse>> = HashMap::new();
        for used in uses {
            if let NodeUser::Parent(parent, _) = &used.user {
                children.entry(Arc::as_ptr(parent)).or_default().push(used);
            }
        }
        for node in self.graph().nodes() {
            let parent = picture.met(Key::Node(Arc::as_ptr(&node)));
            picture.add(parent, XDbgBlockGraphNodeType::BlockDriver, node.name());
            for NodeUse { user, node, perms } in
                children.remove(&Arc::as_ptr(&node)).into_iter().flatten().rev()
            {
                if let NodeUser::Parent(_, name) = user {
                    picture.edge(parent, &name.to_string(), &node, perms);
                }
            }
        }
    }
}

impl Picture {
    /// Its number, from now on if it has none yet.
    fn met(&mut self, key: Key) -> u64 {
        let next = self.numbers.len() as u64 + 1;
        match self.numbers.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => *place.insert(next),
        }
    }

    fn add(&mut self, id: u64, r#type: XDbgBlockGraphNodeType, name: &str) {
        self.nodes.push(XDbgBlockGraphNode { id, r#type, name: name.to_owned() });
    }

    fn edge(&mut self, parent: u64, name: &str, node: &Arc<Node>, perms: Perms) {
        let child = self.met(Key::Node(Arc::as_ptr(node)));
        self.edges.push(XDbgBlockGraphEdge {
            parent,
            child,
            name: name.to_owned(),
            perm: permissions(perms.need),
            shared_perm: permissions(perms.share),
        });
    }

    /// The last comes first in QEMU's answers.
    fn finish(mut self) -> XDbgBlockGraph {
        self.nodes.reverse();
        self.edges.reverse();
        XDbgBlockGraph { nodes: self.nodes, edges: self.edges }
    }
}

fn permissions(share: Share) -> Vec<BlockPermission> {
    PERMISSIONS.iter().filter(|(bit, _)| share.has(*bit)).map(|(_, permission)| *permission).collect()
}
