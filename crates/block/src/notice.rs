//! Notices: what a person should know of an image although nothing fails, passed to the graph's listener.
use crate::damage::Damage;
use crate::driver::CheckReport;
use crate::error::BlockError;
use crate::node::Node;
use api::QuorumOpType;
use std::sync::{Arc, OnceLock};

/// One notice.
#[derive(Clone, Copy)]
pub enum Notice<'a> {
    /// A sentence that names the image.
    Warning(&'a str),
    /// An image was repaired because it was opened for writing.
    Repaired {
        /// Its file's name.
        image: &'a str,
        /// What was found and repaired.
        report: &'a CheckReport,
    },
    /// An image that is only read contradicts itself. Told once an image; one that is written to is poisoned instead
    /// ([`Graph::on_poison`](crate::Graph::on_poison)).
    Damaged {
        /// Its node.
        node: &'a Node,
        /// What was found first.
        damage: &'a Damage,
    },
    /// A write went beyond the node's threshold ([`Node::set_write_threshold`]). Told inside of the request: the listener must
    /// only take note.
    BeyondThreshold {
        /// The node.
        node: &'a Node,
        /// What the threshold was, in bytes.
        threshold: u64,
        /// By how many bytes the write's end lies beyond it.
        exceeded: u64,
    },
    /// A child of a quorum has failed, or was outvoted. Told inside of a request.
    QuorumBad {
        /// What was done.
        operation: QuorumOpType,
        /// The child.
        node: &'a Node,
        /// The bytes that it was about.
        offset: u64,
        /// How many.
        len: u64,
        /// Why it failed, if it did.
        error: Option<&'a BlockError>,
    },
    /// Too few children of a quorum agree. Told inside of a request.
    QuorumFailed {
        /// The quorum.
        node: &'a Node,
        /// The bytes that it was about.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// What a driver for tests compares has differed, as this sentence says: the program is to end. Told inside of a request.
    Diverged(&'a str),
}

type Listener = Box<dyn Fn(Notice<'_>) + Send + Sync>;

/// Where a graph's notices go; a handle, cheap to clone.
#[derive(Clone, Default)]
pub struct Notices(Arc<OnceLock<Listener>>);

impl Notices {
    /// Passes a notice to the listener; without one it is logged.
    pub fn tell(&self, notice: Notice<'_>) {
        match self.0.get() {
            Some(heard) => heard(notice),
            None => match notice {
                Notice::Warning(text) => tracing::warn!("{text}"),
                Notice::Diverged(text) => tracing::error!("{text}"),
                Notice::QuorumBad { node, .. } => tracing::warn!(node = node.name(), "failed or outvoted"),
                Notice::QuorumFailed { node, .. } => tracing::error!(node = node.name(), "no majority"),
                Notice::Repaired { image, .. } => tracing::warn!(image, "repaired at open"),
                Notice::Damaged { node, damage } => tracing::warn!(node = node.name(), %damage, "damaged"),
                Notice::BeyondThreshold { node, threshold, .. } => {
                    tracing::info!(node = node.name(), threshold, "a write went beyond the threshold");
                }
            },
        }
    }

    /// The same for a sentence.
    pub fn warn(&self, text: &str) {
        self.tell(Notice::Warning(text));
    }

    /// Sets the listener; only the first one counts.
    pub(crate) fn listen(&self, heard: Listener) {
        if self.0.set(heard).is_err() {
            tracing::warn!("there is a listener for notices already");
        }
    }
}
