//! `qcow`, the first version: clusters behind two levels of tables of big-endian offsets, compressed or not.
//!
//! ```text
//!  header │ backing file name │ L1 table ─▶ L2 table ─▶ 0: not in this image │ byte offset of the cluster
//!                                                     │ bit 63, length, byte offset: compressed
//! ```
//!
//! Its mapping and the order of its changes are those of [`crate::two_level`]; here are its header, how images are made, its
//! compressed clusters, and its encryption (AES by the secret itself, as qcow2 has it too).
mod compressed;
mod create;
mod driver;
mod header;

use block::{DriverType, Glimpse, Open};

/// The `qcow` driver.
pub const QCOW: DriverType = DriverType {
    name: "qcow",
    probe: Some(probe),
    adapt: Some(driver::adapt),
    open: &Open(driver::open),
    create: Some(&create::CREATE),
    create_options: create::OPTIONS,
    supports_backing: true,
    supports_compression: true,
    ..DriverType::FORMAT
};

fn probe(seen: &Glimpse<'_>) -> u32 {
    if seen.head.starts_with(header::MAGIC) { 100 } else { 0 }
}
