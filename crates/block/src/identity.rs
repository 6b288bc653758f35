//! What an image is, whatever it is called: by this loops are found, and files that are in use already.
use crate::node::{Node, Role};
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
    /// What a server has, by its address and the name there.
    Served(String),
    /// A part of another one, by the options that say which.
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
    /// What the node shows, where the protocol at its bottom can tell. Formats whose content is another one than that of
    /// their file have none.
    pub fn identity(self: &Arc<Self>) -> Option<Identity> {
        let (mut node, mut windows) = (self.clone(), Vec::new());
        while node.facts().transparent {
            windows.push(node.driver().naming_options());
            node = node.child(Role::File)?;
        }
        let whole = node.driver().identity()?;
        let part = |whole, window: Options| match window.is_empty() {
            true => whole,
            false => Identity::Part(Box::new(whole), window),
        };
        Some(windows.into_iter().rfold(whole, part))
    }
}
