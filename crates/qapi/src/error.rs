//! What is wrong with a schema, and where.

use std::fmt;
use std::sync::Arc;

/// A line of a schema file, for messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    /// The file as the loader names it.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A schema that is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct Error {
    /// Where it was noticed.
    pub at: Location,
    /// What is wrong, as a sentence without a full stop.
    pub message: String,
}

impl Error {
    pub(crate) fn new(at: &Location, message: impl Into<String>) -> Self {
        Self { at: at.clone(), message: message.into() }
    }
}
