//! qcow2: an image that grows as it is written, over a backing file if it has one.
//!
//! ```text
//!  header ─┬─▶ L1 table ─▶ L2 tables ─▶ clusters of guest data
//!          └─▶ refcount table ─▶ refcount blocks: how many references each host cluster has
//! ```
//!
//! Where things are: [`header`] the first cluster · `entry` what L2 entries mean · `cache`, `map` from a guest range to
//! its bytes · `uniform` tables of one thing, told at once · `alloc`, `refcount` host clusters and their counts · `io` changes
//! of mappings, `fill` zeroes where nothing is, `split` those of parts of a cluster, where L2 entries tell of `subclusters` · `kept`
//! places that must not be shown again yet · `data_file`
//! guest data in a file of its own · `order` what the shared crash order ([`block::metacache`]) is given · `overlap` what must not be
//! overwritten · `resize`, `empty`, `amend`, `create`, `measure`, `check`, `info`, `snapshots`, `bitmaps`, `compressed` by their names.
//!
//! Invariants (each argued where it is kept):
//! - at every instant on disk, count ≥ references: leak, never dangle;
//! - what an entry on disk leads to was durable before the entry was written;
//! - a freed cluster is used again only when its unmapping is durable and all earlier requests have ended;
//! - outside of a request's own bytes, live data is never overwritten in place;
//! - every change of a mapping leases its guest clusters, whatever its kind.
//!
//! Bounds: clusters of 512 bytes to 2 MiB, an L1 table of 32 MiB, a refcount table of 8 MiB; all tables are cached
//! by pages, so that neither time nor memory at open grows with the virtual size.
//! Specification: docs/interop/qcow2.rst of QEMU.
mod alloc;
mod amend;
mod bitmaps;
mod cache;
mod check;
mod compressed;
mod create;
mod data_file;
mod directory;
mod driver;
mod empty;
mod encryption;
mod entry;
mod fill;
pub mod header;
mod image;
mod info;
pub mod inspect;
mod io;
mod kept;
mod map;
mod measure;
mod options;
mod order;
mod overlap;
mod refcount;
mod reload;
mod resize;
mod snapshots;
mod split;
mod subclusters;
mod uniform;

#[cfg(test)]
mod tests;

use block::{DriverType, Glimpse, Open};

/// The `qcow2` driver.
pub const QCOW2: DriverType = DriverType {
    name: "qcow2",
    probe: Some(probe),
    adapt: Some(options::adapt),
    open: &Open(driver::open),
    create: Some(&create::CREATE),
    create_options: create::OPTIONS,
    amend_options: amend::OPTIONS,
    supports_backing: true,
    supports_compression: true,
    overlay: true,
    ..DriverType::FORMAT
};

/// The magic, and a version that there is.
fn probe(seen: &Glimpse<'_>) -> u32 {
    let magic = crate::field::be32(seen.head, 0) == Some(header::MAGIC);
    if magic && crate::field::be32(seen.head, 4).is_some_and(|version| version >= 2) { 100 } else { 0 }
}
