//! How long a disk may be.

use crate::error::{BlockError, ErrorKind, Result};

/// Longest disk, in bytes: ends of requests on it, rounded up to any alignment there is, stay below 2^63.
pub const MAX_LENGTH: u64 = (1 << 63) - (1 << 30);

/// Refuses a length that no disk may have.
pub(crate) fn check_length(length: u64) -> Result<()> {
    if length <= MAX_LENGTH {
        return Ok(());
    }
    let text = format!("a disk of {length} bytes is too large: at most {MAX_LENGTH} are possible");
    Err(BlockError::new(ErrorKind::Limit, text))
}
