//! Protocols: blkdebug, blklogwrites, blkverify, file, host_device, null-aio, null-co, nbd, quorum, vvfat.
//!
//! Each is one file or folder over the core's [`block::Driver`]; [`DRIVERS`] is the wing's registry.
#![forbid(unsafe_code)]

mod blkdebug;
mod blklogwrites;
mod blkverify;
mod file;
mod nbd;
mod null;
mod quorum;
// What follows uses it.
#[allow(unused)]
mod readahead;
mod vvfat;

use block::DriverType;

/// The drivers of this wing.
pub const DRIVERS: &[DriverType] = &[
    blkdebug::BLKDEBUG,
    blklogwrites::BLKLOGWRITES,
    blkverify::BLKVERIFY,
    file::FILE,
    file::HOST_DEVICE,
    null::NULL_AIO,
    null::NULL_CO,
    nbd::NBD,
    quorum::QUORUM,
    vvfat::VVFAT,
];
