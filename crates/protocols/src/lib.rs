//! Protocols: blkdebug, blklogwrites, blkverify, file, host_device, http, https, null-aio, null-co, nbd, quorum, s3, vvfat.
//!
//! Each is one file or folder over the core's [`block::Driver`]; [`DRIVERS`] is the wing's registry.
#![forbid(unsafe_code)]

#[cfg(not(all(
    feature = "ftp",
    feature = "http",
    feature = "iscsi",
    feature = "nfs",
    feature = "rbd",
    feature = "ssh"
)))]
mod absent;
mod blkdebug;
mod blklogwrites;
mod blkverify;
mod calendar;
#[cfg(feature = "http")]
mod ending;
mod file;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "iscsi")]
mod iscsi;
mod nbd;
#[cfg(feature = "nfs")]
mod nfs;
mod null;
mod quorum;
#[cfg(feature = "rbd")]
mod rbd;
#[cfg(feature = "http")]
mod readahead;
#[cfg(feature = "http")]
mod s3;
#[cfg(feature = "ssh")]
mod ssh;
mod unflushed;
mod uri;
#[cfg(feature = "http")]
mod url;
mod vvfat;

use block::DriverType;
use std::borrow::Cow;

/// The drivers of this wing.
pub const DRIVERS: &[DriverType] = &[
    blkdebug::BLKDEBUG,
    blklogwrites::BLKLOGWRITES,
    blkverify::BLKVERIFY,
    file::FILE,
    file::HOST_DEVICE,
    #[cfg(feature = "http")]
    http::HTTP,
    #[cfg(feature = "http")]
    http::HTTPS,
    #[cfg(not(feature = "http"))]
    absent::HTTP,
    #[cfg(not(feature = "http"))]
    absent::HTTPS,
    #[cfg(feature = "iscsi")]
    iscsi::ISCSI,
    #[cfg(not(feature = "iscsi"))]
    absent::ISCSI,
    null::NULL_AIO,
    null::NULL_CO,
    nbd::NBD,
    #[cfg(feature = "nfs")]
    nfs::NFS,
    #[cfg(not(feature = "nfs"))]
    absent::NFS,
    quorum::QUORUM,
    #[cfg(feature = "http")]
    s3::S3,
    #[cfg(not(feature = "http"))]
    absent::S3,
    #[cfg(feature = "rbd")]
    rbd::RBD,
    #[cfg(not(feature = "rbd"))]
    absent::RBD,
    #[cfg(feature = "ssh")]
    ssh::SSH,
    #[cfg(not(feature = "ssh"))]
    absent::SSH,
    vvfat::VVFAT,
];

/// The name of an image as messages show it: without a password or a key that it holds.
pub fn shown_name(name: &str) -> Cow<'_, str> {
    #[cfg(feature = "rbd")]
    if name.starts_with("rbd:") {
        return rbd::without_key(name).into();
    }
    block::hide_passwords(name)
}
