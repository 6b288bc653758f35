//! Image formats.
//!
//! Each is one file or folder over the core's [`block::Driver`]; [`DRIVERS`] is the wing's registry. Formats do not
//! know each other.
#![forbid(unsafe_code)]

mod block_table;
mod bochs;
mod cloop;
mod cow;
mod dmg;
mod encryption;
mod field;
pub mod inspect;
mod inspection;
mod luks;
mod new_file;
mod overlay;
mod parallels;
mod qcow;
mod qcow2;
mod qed;
mod raw;
mod read_only;
mod slots;
mod streams;
mod two_level;
mod vdi;
mod vhdx;
mod vmdk;
mod vpc;
mod windows;

#[cfg(test)]
mod probing;

use block::DriverType;

/// The drivers of this wing.
pub const DRIVERS: &[DriverType] = &[
    raw::RAW,
    qcow2::QCOW2,
    luks::LUKS,
    vmdk::VMDK,
    vdi::VDI,
    vhdx::VHDX,
    vpc::VPC,
    qed::QED,
    qcow::QCOW,
    parallels::PARALLELS,
    dmg::DMG,
    bochs::BOCHS,
    cloop::CLOOP,
    cow::COW,
];
