//! `qed`: clusters behind two levels of tables of little-endian offsets.
//!
//! ```text
//!  header │ L1 table ─▶ L2 table ─▶ 0: not in this image │ 1: zeroes │ byte offset of the cluster
//! ```
//!
//! Its mapping and the order of its changes are those of [`crate::two_level`]; here are its header, how images are made, and
//! the check. Specification: QEMU's qed_spec.
mod check;
mod create;
mod driver;
mod header;

use block::{DriverType, Glimpse, Open};

/// The `qed` driver.
pub const QED: DriverType = DriverType {
    name: "qed",
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
