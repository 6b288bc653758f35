//! What is to be drawn: items, and links from each user to the nodes it uses.

use super::replies::{Replies, entries, is, number, word};
use crate::size;
use api::Value;
use std::collections::HashMap;
use std::fmt;

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A guest's device, or what QMP calls one.
    Device,
    /// An export.
    Export,
    /// A job.
    Job,
    /// Another user of nodes, which has no name.
    User,
    /// A block node.
    Node,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::Device => "device",
            Kind::Export => "export",
            Kind::Job => "job",
            Kind::User => "user",
            Kind::Node => "node",
        })
    }
}

/// A node or one of its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) kind: Kind,
    /// Its name; empty for a user without one.
    pub(super) name: String,
    /// What is told of it in a few words.
    pub(super) facts: Vec<String>,
    /// The file that a node is.
    pub(super) file: Option<String>,
}

/// That `from` uses `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    /// What `to` is to `from`; empty where `from` is no node.
    pub(super) role: String,
    /// What `from` does and lets others do, as `rw--/rwus`; empty if the server does not tell.
    pub(super) perms: String,
}

/// The graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    /// Devices, exports, jobs and other users, then nodes.
    pub(super) items: Vec<Item>,
    /// By the user's place in `items`.
    pub(super) links: Vec<Link>,
}

/// The permissions and their letters, in the order in which they are shown.
const PERMISSIONS: [(&str, char); 4] =
    [("consistent-read", 'r'), ("write", 'w'), ("write-unchanged", 'u'), ("resize", 's')];

impl Picture {
    /// Puts together what a server has told.
    pub(super) fn of(replies: &Replies) -> Picture {
        let mut picture = Picture::default();
        picture.items.extend(entries(&replies.devices).iter().map(device));
        picture.items.extend(entries(&replies.exports).iter().map(export));
        picture.items.extend(entries(&replies.jobs).iter().map(job));
        let users = picture.items.len();
        picture.items.extend(entries(&replies.nodes).iter().rev().map(node));
        let nodes: HashMap<String, usize> = picture
            .items
            .iter()
            .enumerate()
            .skip(users)
            .map(|(index, item)| (item.name.clone(), index))
            .collect();
        if entries(replies.graph.get("nodes").unwrap_or(&Value::Null)).is_empty() {
            picture.link_without_permissions(replies, &nodes);
        } else {
            picture.link(replies, &nodes);
        }
        picture.links.sort_by_key(|link| link.from);
        picture
    }

    /// The links to what an item uses.
    pub(super) fn links_of(&self, item: usize) -> &[Link] {
        let (begin, end) = (
            self.links.partition_point(|link| link.from < item),
            self.links.partition_point(|link| link.from <= item),
        );
        self.links.get(begin..end).unwrap_or_default()
    }

    /// Items that nobody uses: users, and nodes that only the monitor holds.
    pub(super) fn roots(&self) -> impl Iterator<Item = usize> + '_ {
        let mut used = vec![false; self.items.len()];
        for link in self.links.iter().filter(|link| link.from != link.to) {
            used.get_mut(link.to).into_iter().for_each(|used| *used = true);
        }
        used.into_iter().enumerate().filter(|(_, used)| !used).map(|(index, _)| index)
    }

    /// Links as `x-debug-query-block-graph` tells them. What it calls a backend is a device if it has the name of one,
    /// else the first export of its node that has none yet.
    fn link(&mut self, replies: &Replies, nodes: &HashMap<String, usize>) {
        let graph = |name| entries(replies.graph.get(name).unwrap_or(&Value::Null));
        // The last comes first.
        let edges: Vec<&Value> = graph("edges").iter().rev().collect();
        let by_number: HashMap<u64, &Value> =
            graph("nodes").iter().filter_map(|node| Some((number(node, "id")?, node))).collect();
        let mut known: HashMap<u64, usize> = HashMap::new();
        let mut exports_taken = vec![false; self.items.len()];
        for edge in edges {
            let (Some(parent), Some(child)) = (number(edge, "parent"), number(edge, "child")) else {
                continue;
            };
            let name_of = |number| by_number.get(&number).map(|node| word(node, "name")).unwrap_or_default();
            let Some(&to) = nodes.get(name_of(child)) else { continue };
            let kind = by_number.get(&parent).map(|node| word(node, "type")).unwrap_or_default();
            let from = match known.get(&parent) {
                Some(from) => *from,
                None => match self.parent(kind, name_of(parent), to, nodes, &mut exports_taken) {
                    Some(from) => from,
                    None => {
                        let name = name_of(parent).to_owned();
                        self.items.push(Item { kind: Kind::User, name, facts: Vec::new(), file: None });
                        self.items.len() - 1
                    }
                },
            };
            known.insert(parent, from);
            let role = match kind {
                "block-driver" => word(edge, "name").to_owned(),
                _ => String::new(),
            };
            let perms = format!("{}/{}", letters(edge, "perm"), letters(edge, "shared-perm"));
            self.links.push(Link { from, to, role, perms });
        }
    }

    /// The item that a user of the debugging command's answer is.
    fn parent(
        &self,
        kind: &str,
        name: &str,
        child: usize,
        nodes: &HashMap<String, usize>,
        exports_taken: &mut [bool],
    ) -> Option<usize> {
        let find = |wanted: Kind, named: &dyn Fn(&Item) -> bool| {
            self.items.iter().position(|item| item.kind == wanted && named(item))
        };
        match kind {
            "block-driver" => nodes.get(name).copied(),
            "block-job" => find(Kind::Job, &|item| item.name == name),
            _ if !name.is_empty() => {
                find(Kind::Device, &|item| item.name == name || item.name.split('/').any(|part| part == name))
            }
            _ => {
                let child = self.items.get(child)?.name.as_str();
                let free = |(index, item): &(usize, &Item)| {
                    item.kind == Kind::Export
                        && exports_taken.get(*index) == Some(&false)
                        && item.facts.first().is_some_and(|node| node == child)
                };
                let index = self.items.iter().enumerate().find(free)?.0;
                exports_taken.get_mut(index).into_iter().for_each(|taken| *taken = true);
                Some(index)
            }
        }
    }

    /// Links as other commands tell them.
    fn link_without_permissions(&mut self, replies: &Replies, nodes: &HashMap<String, usize>) {
        let mut add = |from: usize, role: &str, child: &str| {
            if let Some(&to) = nodes.get(child) {
                self.links.push(Link { from, to, role: role.to_owned(), perms: String::new() });
            }
        };
        for (index, device) in entries(&replies.devices).iter().enumerate() {
            let inserted = device.get("inserted").unwrap_or(&Value::Null);
            add(index, "", word(inserted, "node-name"));
        }
        let devices = entries(&replies.devices).len();
        for (index, export) in entries(&replies.exports).iter().enumerate() {
            add(devices + index, "", word(export, "node-name"));
        }
        for node in entries(&replies.nodes) {
            let Some(&from) = nodes.get(word(node, "node-name")) else { continue };
            for child in entries(node.get("children").unwrap_or(&Value::Null)) {
                add(from, word(child, "child"), word(child, "node-name"));
            }
        }
    }
}

fn device(device: &Value) -> Item {
    let (name, model) = (word(device, "device"), word(device, "qdev"));
    let mut facts = Vec::new();
    if !name.is_empty() && !model.is_empty() {
        facts.push(model.to_owned());
    }
    facts.extend(is(device, "removable").then(|| "removable".to_owned()));
    facts.extend(is(device, "tray_open").then(|| "tray open".to_owned()));
    facts.extend(device.get("inserted").is_none().then(|| "empty".to_owned()));
    let status = word(device, "io-status");
    facts.extend((!matches!(status, "" | "ok")).then(|| status.to_owned()));
    let name = if name.is_empty() { model } else { name };
    Item { kind: Kind::Device, name: name.to_owned(), facts, file: None }
}

/// Its first fact is the node's name, by which its link is found.
fn export(export: &Value) -> Item {
    let mut facts = vec![word(export, "node-name").to_owned(), word(export, "type").to_owned()];
    facts.extend(is(export, "shutting-down").then(|| "shutting down".to_owned()));
    Item { kind: Kind::Export, name: word(export, "id").to_owned(), facts, file: None }
}

fn job(job: &Value) -> Item {
    let mut facts = vec![word(job, "type").to_owned(), word(job, "status").to_owned()];
    if let (Some(done), Some(all)) = (number(job, "current-progress"), number(job, "total-progress")) {
        facts.push(format!("{} of {}", size::human(done), size::human(all)));
    }
    let error = word(job, "error");
    facts.extend((!error.is_empty()).then(|| error.to_owned()));
    Item { kind: Kind::Job, name: word(job, "id").to_owned(), facts, file: None }
}

fn node(node: &Value) -> Item {
    let mut facts = vec![word(node, "drv").to_owned()];
    facts.extend(is(node, "ro").then(|| "read-only".to_owned()));
    facts.extend((node.get("active").and_then(Value::as_bool) == Some(false)).then(|| "inactive".to_owned()));
    let image = node.get("image").unwrap_or(&Value::Null);
    facts.extend(number(image, "virtual-size").map(size::human));
    for bitmap in entries(node.get("dirty-bitmaps").unwrap_or(&Value::Null)) {
        let name = word(bitmap, "name");
        if !name.is_empty() {
            facts.push(format!("bitmap {name}"));
        }
    }
    let file = word(node, "file");
    let file = (!file.is_empty()).then(|| file.to_owned());
    Item { kind: Kind::Node, name: word(node, "node-name").to_owned(), facts, file }
}

fn letters(edge: &Value, name: &str) -> String {
    let set = entries(edge.get(name).unwrap_or(&Value::Null));
    let has = |word: &str| set.iter().any(|permission| permission.as_str() == Some(word));
    PERMISSIONS.iter().map(|(word, letter)| if has(word) { *letter } else { '-' }).collect()
}
