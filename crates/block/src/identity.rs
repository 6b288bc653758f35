//! The identity of an image's storage, independent of its name: it shows loops, and files that are in use already.
use crate::edges::{Child, ChildRole};
use crate::node::Node;
use crate::options::Options;
use std::sync::Arc;

/// The storage that a node shows, by something that no other name of it changes.
#[derive(Debug, Clone, PartialEq)]
pub enum Identity {
    /// A regular file.
    File {
        /// The file system's device number.
        device: u64,
        /// The inode number there.
        inode: u64,
    },
    /// A block or character device.
    Device {
        /// The device's own number.
        number: u64,
    },
    /// An export of a server, by its address and the name there.
    Served(String),
    /// A part of another storage, by the options that say which part.
    Part(Box<Identity>, Options),
}

impl Identity {
    /// That of a file or device of this machine.
    pub fn of_file(stat: &rt::FileStat) -> Self {
        match stat.kind {
            rt::FileKind::Block | rt::FileKind::Char => Self::Device { number: stat.rdev },
            _ => Self::File { device: stat.dev, inode: stat.ino },
        }
    }
}

impl Node {
    /// Whether two nodes show the same disk for certain: the same formats over the same storage, all the way down.
    pub fn shows_what(self: &Arc<Self>, other: &Arc<Node>) -> bool {
        let (mut one, mut other) = (self.images(), other.images());
        loop {
            match (one.next(), other.next()) {
                (None, None) => return true,
                (Some(one), Some(other)) if same_layer(&one, &other) => {}
                _ => return false,
            }
        }
    }

    /// Whether the file that names the node is this storage.
    pub fn stored_at(self: &Arc<Self>, storage: &Identity) -> bool {
        let mut node = self.clone();
        while let Some(below) = node.primary() {
            node = below;
        }
        node.driver().identity().as_ref() == Some(storage)
    }

    /// The storage that the node shows, if the protocol at its bottom knows. A format whose content differs from its file's
    /// has none.
    pub fn identity(self: &Arc<Self>) -> Option<Identity> {
        let (mut node, mut windows) = (self.clone(), Vec::new());
        while node.facts().transparent {
            windows.push(node.driver().naming_options());
            node = node.primary()?;
        }
        let whole = node.driver().identity()?;
        let part = |whole, window: Options| match window.is_empty() {
            true => whole,
            false => Identity::Part(Box::new(whole), window),
        };
        Some(windows.into_iter().rfold(whole, part))
    }
}

/// Whether two nodes have the same storage and read it in the same way; backing images are not compared.
fn same_layer(one: &Arc<Node>, other: &Arc<Node>) -> bool {
    let (a, b) = (one.driver(), other.driver());
    if one.driver_name() != other.driver_name() || a.naming_options() != b.naming_options() {
        return false;
    }
    let own = |child: &Child| !child.role.has(ChildRole::BACKING);
    let (ones, others) = (one.edges().all(), other.edges().all());
    let (mut ones, mut others) =
        (ones.iter().filter(|c| own(c)).peekable(), others.iter().filter(|c| own(c)));
    if ones.peek().is_none() {
        return a.identity().is_some_and(|identity| Some(identity) == b.identity());
    }
    ones.all(|one| {
        others.next().is_some_and(|other| one.name == other.name && same_layer(&one.node, &other.node))
    }) && others.next().is_none()
}
