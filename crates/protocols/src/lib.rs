//! Protocols: blkdebug, blklogwrites, blkverify, file, ftp, ftps, host_cdrom, host_device, host_floppy, http, https, iscsi, nbd, nfs,
//! null-aio, null-co, quorum, rbd, s3, ssh, tftp, vvfat.
//!
//! Each is one file or folder over the core's [`block::Driver`]; [`DRIVERS`] is the wing's registry. Those that speak to servers are
//! features of this crate; where one is left out, its names stay known ([`absent`]). So do those of protocols that have ended
//! ([`retired`]).
#![forbid(unsafe_code)]

#[cfg(not(all(
    feature = "ftp",
    feature = "http",
    feature = "iscsi",
    feature = "nfs",
    feature = "rbd",
    feature = "ssh",
    feature = "tftp"
)))]
mod absent;
mod blkdebug;
mod blklogwrites;
mod blkverify;
mod calendar;
#[cfg(any(feature = "ftp", feature = "http", feature = "tftp"))]
mod ending;
mod file;
#[cfg(feature = "ftp")]
mod ftp;
#[cfg(feature = "http")]
mod http;
mod inflight;
#[cfg(feature = "iscsi")]
mod iscsi;
mod nbd;
#[cfg(feature = "nfs")]
mod nfs;
mod null;
mod places;
mod pump;
mod quorum;
#[cfg(feature = "rbd")]
mod rbd;
#[cfg(any(feature = "ftp", feature = "http", feature = "tftp"))]
mod readahead;
mod retired;
#[cfg(feature = "http")]
mod s3;
#[cfg(feature = "ssh")]
mod ssh;
#[cfg(feature = "tftp")]
mod tftp;
mod unflushed;
mod uri;
#[cfg(any(feature = "ftp", feature = "http", feature = "tftp"))]
mod url;
mod vvfat;
mod way;

#[cfg(not(feature = "ftp"))]
use absent as ftp;
#[cfg(not(feature = "http"))]
use absent as http;
#[cfg(not(feature = "iscsi"))]
use absent as iscsi;
#[cfg(not(feature = "nfs"))]
use absent as nfs;
#[cfg(not(feature = "rbd"))]
use absent as rbd;
#[cfg(not(feature = "http"))]
use absent as s3;
#[cfg(not(feature = "ssh"))]
use absent as ssh;
#[cfg(not(feature = "tftp"))]
use absent as tftp;
use block::DriverType;
#[cfg(feature = "ftp")]
pub use ftp::judge_replies;
#[cfg(feature = "http")]
pub use http::{judge_answer, judge_headers, judge_location};
#[cfg(feature = "tftp")]
pub use tftp::judge_packet;
pub use vvfat::judge_volume;

/// The drivers of this wing.
pub const DRIVERS: &[DriverType] = &[
    blkdebug::BLKDEBUG,
    blklogwrites::BLKLOGWRITES,
    blkverify::BLKVERIFY,
    file::FILE,
    file::HOST_CDROM,
    file::HOST_DEVICE,
    file::HOST_FLOPPY,
    ftp::FTP,
    ftp::FTPS,
    http::HTTP,
    http::HTTPS,
    iscsi::ISCSI,
    null::NULL_AIO,
    null::NULL_CO,
    nbd::NBD,
    nfs::NFS,
    quorum::QUORUM,
    rbd::RBD,
    retired::ARCHIPELAGO,
    retired::SHEEPDOG,
    s3::S3,
    ssh::SSH,
    tftp::TFTP,
    vvfat::VVFAT,
];
