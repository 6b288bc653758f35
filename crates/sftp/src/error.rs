//! What can be wrong with a message.

/// A message that is not as the protocol has it. The connection is of no more use after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Its length leaves no room for its own head.
    #[error("a message of {0} bytes is too short to be one")]
    Short(u32),
    /// It is longer than any that was asked for.
    #[error("a message of {0} bytes is longer than any that was asked for")]
    Long(u32),
    /// Its type is not that of a reply, or of a request.
    #[error("a message of type {0} has no place here")]
    Kind(u8),
    /// Its fields do not fill it.
    #[error("the fields of a message ({0}) do not fit in it")]
    Fields(&'static str),
}

/// A path or a handle that is longer than [`crate::limits`] allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} of {length} bytes is too long for SFTP")]
pub struct TooLong {
    /// What is too long.
    pub what: &'static str,
    /// Its bytes.
    pub length: usize,
}
