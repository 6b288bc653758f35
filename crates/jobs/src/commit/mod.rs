//! block-commit: moves the data of a chain's upper layers down into one of its lower layers.
//!
//! ```text
//!   active ─▶ mid ─▶ base        active commit: active+mid into base, then all users move to base
//!   active ─▶ top ─▶ mid ─▶ base        intermediate: top+mid into base, then active's backing file is base
//! ```
//!
//! Nodes of the chain are blocked meanwhile (`block::Blocker`), and `base` is writable in place. While the job runs, `base` changes only
//! where a layer above it has data of its own, so that what the active layer shows never changes.
mod active;
mod hold;
mod intermediate;
mod request;

pub use request::{CommitError, commit};

/// Ranges that a commit has in flight.
const PARALLEL: usize = 16;

/// Bytes that a commit below the active layer copies at once: a limited rate is kept in such steps.
const PIECE: u64 = 512 << 10;
