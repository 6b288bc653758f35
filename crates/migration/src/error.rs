//! Why a machine can't be handed over, or taken over.
use block::BlockError;
use std::io;

/// Why a machine can't be handed over, or taken over.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MigrationError {
    /// What it is to go through is described wrongly.
    #[error("{0}")]
    Invalid(String),
    /// The stream ended before the machine was there.
    #[error(
        "the stream ended before everything had arrived: the other machine has given up, and keeps what it has"
    )]
    Incomplete,
    /// The stream is none of a machine, or damaged.
    #[error("the stream can't be taken over: {0}")]
    Damaged(String),
    /// A bitmap can't be sent.
    #[error("Cannot migrate bitmap '{name}' on node '{node}': {why}")]
    Bitmap {
        /// The bitmap.
        name: String,
        /// Its node.
        node: String,
        /// Why.
        why: String,
    },
    /// The block layer refuses it, or what it goes through failed.
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl MigrationError {
    /// What it goes through failed.
    pub(crate) fn channel(what: impl std::fmt::Display, cause: &io::Error) -> Self {
        Self::Block(BlockError::os(what, cause))
    }
}
