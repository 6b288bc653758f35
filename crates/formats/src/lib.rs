//! Image formats, and the names of formats that are recognised only.
//!
//! Each is one file or folder over the core's [`block::Driver`]; [`DRIVERS`] is the wing's registry. Formats do not
//! know each other.
#![forbid(unsafe_code)]

mod block_table;
mod bochs;
mod cloop;
mod cow;
mod encryption;
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
mod recognised;
mod slots;
mod streams;
mod two_level;
mod vdi;
mod vhdx;
mod vmdk;
mod vpc;
mod windows;

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
    recognised::DMG,
    bochs::BOCHS,
    cloop::CLOOP,
    cow::COW,
];
