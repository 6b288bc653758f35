//! VMDK: the disks of VMware's products, in one file or in many.
//!
//! ```text
//!  descriptor ─┬▶ extents.0   sectors 0 …        flat · sparse · a stream of compressed grains · of ESX hosts
//!              ├▶ extents.1   sectors n …
//!              └▶ backing     where the extents have holes
//! ```
//!
//! A descriptor is a file of its own, or stands in the one sparse file that it describes. An extent is known by its kind
//! alone; which files they are passes the open policy, as each file that an image names.
//!
//! Where things are: `descriptor` the text · `header` sparse files' headers · `tables` their tables · `grains` files written
//! in place · `stream` compressed ones, appended to · `se_sparse` those of today's ESX hosts · `extent` the parts of the disk ·
//! `open`, `image`, `driver` the whole · `create`, `check`.
mod check;
mod create;
mod descriptor;
mod driver;
mod extent;
mod grains;
mod header;
mod image;
pub mod inspect;
mod open;
mod se_sparse;
mod stream;
mod tables;

use block::{DriverType, Glimpse, Open};

/// The `vmdk` driver.
pub const VMDK: DriverType = DriverType {
    name: "vmdk",
    probe: Some(probe),
    open: &Open(open::open),
    create: Some(&create::CREATE),
    create_options: create::OPTIONS,
    supports_backing: true,
    supports_compression: true,
    streams: |options| options.get_str("subformat") == Some("streamOptimized"),
    ..DriverType::FORMAT
};

/// A sparse file (`KDMV`, or `COWD` of older hosts), or a descriptor in text.
fn probe(seen: &Glimpse<'_>) -> u32 {
    let sparse = seen.head.starts_with(b"KDMV") || seen.head.starts_with(b"COWD");
    if sparse || begins_as_descriptor(seen.head) { 100 } else { 0 }
}

/// A descriptor begins with a comment that says so, or with its version after comments and blank lines.
pub fn begins_as_descriptor(head: &[u8]) -> bool {
    const TITLE: &[u8] = b"# Disk DescriptorFile";
    if head.get(..TITLE.len()).is_some_and(|start| start.eq_ignore_ascii_case(TITLE)) {
        return true;
    }
    let mut lines = head.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let first = lines.find(|line| !line.starts_with(b"#") && !line.trim_ascii().is_empty());
    first.is_some_and(|line| {
        matches!(line.strip_suffix(b"\r").unwrap_or(line), b"version=1" | b"version=2" | b"version=3")
    })
}
