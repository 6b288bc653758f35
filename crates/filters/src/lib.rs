//! Filters: drivers that show one child as it is, and do something beside.
//!
//! Each is one file or folder over the core's [`block::Filtered`]; [`DRIVERS`] is the wing's registry. Filters do not know
//! each other.
#![forbid(unsafe_code)]

mod compress;
mod copy_before_write;
mod copy_on_read;
mod preallocate;
mod snapshot_access;
mod throttle;

use block::DriverType;

/// The drivers of this wing.
pub const DRIVERS: &[DriverType] = &[
    compress::COMPRESS,
    copy_before_write::COPY_BEFORE_WRITE,
    copy_on_read::COPY_ON_READ,
    preallocate::PREALLOCATE,
    snapshot_access::SNAPSHOT_ACCESS,
    throttle::THROTTLE,
];
