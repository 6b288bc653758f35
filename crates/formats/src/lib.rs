//! Image formats: raw, qcow2.
//!
//! Each is one file or folder over the core's [`block::Driver`]; [`DRIVERS`] is the wing's registry. Formats do not
//! know each other.
#![forbid(unsafe_code)]

mod qcow2;
mod raw;

use block::DriverType;

/// The drivers of this wing.
pub const DRIVERS: &[DriverType] = &[raw::RAW, qcow2::QCOW2];
