//! Disks that two levels of tables map, and whose clusters have one reference each: what qed and qcow have in common.
//!
//! ```text
//!  header ── L1 table ─▶ L2 table ─▶ cluster of the guest's data │ zeroes │ compressed data
//! ```
//!
//! Laws:
//! - changes become durable in the order of [`block::metacache`]: nothing on disk leads to what is not durable;
//! - nothing in such an image says which clusters are in use. A walk through all tables finds it before the first write
//!   (`used`); an image that leads somewhere twice, or to where it can't, is not written to;
//! - a cluster keeps its place once it has one, unless it is stored compressed anew. Zeroes and discards go to that place, so
//!   that a check by any program finds no leaks. What a crash leaves behind is free at the next walk;
//! - an entry that leads nowhere fails the requests of its range, and no others.
//!
//! Bounds: tables are loaded by pages of [`PAGE_ENTRIES`] entries, at most [`CACHE`] bytes of them; the walk holds a bit
//! a cluster in use.
mod geometry;
mod image;
mod map;
mod plan;
mod resize;
mod tables;
mod used;

pub(crate) use geometry::{Entry, Geometry};
pub(crate) use image::{Children, Image};
pub(crate) use plan::Leased;
pub(crate) use tables::{wrong_entry, wrong_table};
pub(crate) use used::fixed_runs;

use block::Result;
use block::metacache::{Codec, MetadataFile};

/// Entries of a page.
const PAGE_ENTRIES: u64 = 512;
/// Bytes of memory for pages.
const CACHE: usize = 8 << 20;

/// What a format has of its own.
pub(crate) trait Layout: Send + Sync + 'static {
    /// How entries are stored.
    type Codec: Codec<Word = u64>;

    /// The format's name.
    const NAME: &'static str;

    /// The L2 entry of a cluster that reads as zeroes, where there is such a thing.
    const ZERO: Option<u64>;

    /// Whether the first data that a table is made for lie before it in the file, as other programs lay images out.
    const DATA_BEFORE_TABLE: bool;

    /// What a person can do about a damaged image.
    const ADVICE: &'static str;

    /// What an L2 entry says.
    fn entry(word: u64, geometry: &Geometry) -> Entry;

    /// Has the header say what it must before the first write, durably.
    fn make_header_ready(&self, file: &MetadataFile) -> impl Future<Output = Result<()>> + Send;
}
