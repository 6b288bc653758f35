//! Protocols: blkdebug, file, host_device, null-co, nbd.
//!
//! Each is one file or folder over the core's [`block::Driver`]; [`DRIVERS`] is the wing's registry.
#![forbid(unsafe_code)]

mod blkdebug;
mod file;
mod nbd;
mod null;

use block::DriverType;

/// The drivers of this wing.
pub const DRIVERS: &[DriverType] =
    &[blkdebug::BLKDEBUG, file::FILE, file::HOST_DEVICE, null::NULL_CO, nbd::NBD];
