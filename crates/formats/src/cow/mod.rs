//! `cow`: a bitmap of the sectors that are in the image, each at the place that it has in the disk. A format of the first years
//! of QEMU, which has dropped it after version 2.1.
//!
//! ```text
//!  header (1056 bytes) │ bitmap: a bit a sector, the lowest first │ up to a sector's end │ the disk's sectors
//! ```
//!
//! Laws:
//! - a bit is set on disk when its sector is durable, in the order of [`block::metacache`]. Bits are only ever set;
//! - a sector that has its bit is written in place, also by zeroes and discards.
//!
//! Bounds: the bitmap comes by pages of 4 KiB, at most [`CACHE`] bytes of them.
//! The layout is that of x86-64, where the header's fields are aligned to their sizes.
mod create;
mod driver;
mod header;
mod image;

use block::{DriverType, Glimpse, Open};

/// Bytes of memory for pages.
const CACHE: usize = 4 << 20;

/// The `cow` driver.
pub const COW: DriverType = DriverType {
    name: "cow",
    probe: Some(probe),
    open: &Open(driver::open),
    create: Some(&create::CREATE),
    create_options: create::OPTIONS,
    supports_backing: true,
    ..DriverType::FORMAT
};

fn probe(seen: &Glimpse<'_>) -> u32 {
    if seen.head.starts_with(header::MAGIC) { 100 } else { 0 }
}
