//! What can go wrong around exports. Requests of clients have errors of their own.

use block::BlockError;
use rt::net::Address;
use std::io;

/// An export or a server that could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The address can't be listened on.
    #[error("Failed to bind socket to {}: {}", address.place(), words(error))]
    Listen {
        /// Where.
        address: Address,
        /// Why not.
        error: io::Error,
    },
    /// There is no NBD server to add to.
    #[error("NBD server not running")]
    NotRunning,
    /// The server that was to carry the export stopped while the export was being made.
    #[error("the server of export '{0}' was stopped while the export was being made")]
    CutOff(String),
    /// The program ends.
    #[error("the program is ending")]
    Ending,
    /// There is only one server.
    #[error("NBD server already running")]
    AlreadyRunning,
    /// Not a valid id.
    #[error("Invalid block export id")]
    InvalidId,
    /// The id is another export's.
    #[error("Block export id '{0}' is already in use")]
    IdTaken(String),
    /// The name is another export's.
    #[error("NBD server already has export named '{0}'")]
    NameTaken(String),
    /// A text longer than the protocol allows.
    #[error("{what} '{text}' too long")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// Longer than a signed 64-bit number, as which many clients keep offsets.
    #[error("export '{name}' is {size} bytes large; NBD reaches only {}", ::nbd::limits::EXPORT_SIZE)]
    TooLarge {
        /// The export's name.
        name: String,
        /// Bytes.
        size: u64,
    },
    /// No worker of that name.
    #[error("iothread \"{0}\" not found")]
    NoIothread(String),
    /// The node takes no writes.
    #[error("Cannot export read-only node as writable")]
    ReadOnlyNode,
    /// Nothing of that id.
    #[error("Export '{0}' is not found")]
    NotFound(String),
    /// Clients use it.
    #[error("export '{0}' still in use")]
    InUse(String),
    /// The graph refused.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// What only the export's kind knows of.
    #[error(transparent)]
    Kind(Box<dyn std::error::Error + Send + Sync>),
}

impl ExportError {
    /// An error of a kind of export that the others do not have.
    pub fn of_kind(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Kind(cause.into())
    }
}

/// The error's text without Rust's "(os error N)".
pub(crate) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.rfind(" (os error ").and_then(|end| text.get(..end)).unwrap_or(&text).to_owned()
}
