//! Metadata of an image in memory: pages of words, which of them are dirty, and whose turn it is to flush.
//!
//! ```text
//!  Cache ── key ─▶ Page { place in the file, words } ◀── Dirty ── seal ─▶ Sealed { place, copy of the words }
//!  try_map: a read lock of one shard        change: set words, mark        flush: write the copies, then settle
//! ```
mod cache;
mod codec;
mod dirty;
mod group;
mod page;

pub use cache::Cache;
pub use codec::{Be32, Be64, Codec, Le32, Le64, Raw, Word};
pub use dirty::{Dirty, Sealed};
pub use group::GroupCommit;
pub use page::{Page, UNPLACED, may_lie_in_a_hole};
