//! What must be written, and in what order.

use std::fmt;

/// A step of a plan. Steps between two flushes may reach the disk in any order; a flush waits for all before it.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// Write these bytes.
    Write {
        /// Where, in bytes from the header's start.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Make durable what has been written.
    Flush,
}

impl Step {
    pub(crate) fn write(offset: u64, bytes: impl Into<Vec<u8>>) -> Step {
        Step::Write { offset, bytes: bytes.into() }
    }
}

/// Tells places, not content.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Write { offset, bytes } => write!(f, "Write({} bytes at {offset:#x})", bytes.len()),
            Step::Flush => f.write_str("Flush"),
        }
    }
}
