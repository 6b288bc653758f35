// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Protocols of the host: the options that each has of its own.

use super::*;
use crate::Dict;
use crate::codec::*;

/// The way of asynchronous I/O. All are served by the same engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevAioOptions {
    /// A pool of threads.
    Threads,
    /// The kernel's queue; needs cache.direct.
    Native,
    /// The kernel's rings.
    IoUring,
}

impl Enumeration for BlockdevAioOptions {
    const VALUES: &'static [(&'static str, Self)] =
        &[("threads", Self::Threads), ("native", Self::Native), ("io_uring", Self::IoUring)];
}
enumeration_codec!(BlockdevAioOptions);

/// A regular file or a block device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsFile {
    /// Its name.
    pub filename: String,
    /// Whether it is locked against other processes; where the host can, if absent.
    pub locking: Option<OnOffAuto>,
    /// The way of asynchronous I/O.
    pub aio: Option<BlockdevAioOptions>,
}

impl Object for BlockdevOptionsFile {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            filename: from.required("filename")?,
            locking: from.optional("locking")?,
            aio: from.optional("aio")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put_optional("locking", &self.locking);
        to.put_optional("aio", &self.aio);
    }
}
object_codec!(BlockdevOptionsFile);

/// A disk without content.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsNull {
    /// Its size in bytes; 1 GiB if absent.
    pub size: Option<i64>,
    /// How long each request takes, in nanoseconds.
    pub latency_ns: Option<u64>,
    /// Whether reads fill their buffer with zeros; not if absent.
    pub read_zeroes: Option<bool>,
}

impl Object for BlockdevOptionsNull {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            size: from.optional("size")?,
            latency_ns: from.optional("latency-ns")?,
            read_zeroes: from.optional("read-zeroes")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("size", &self.size);
        to.put_optional("latency-ns", &self.latency_ns);
        to.put_optional("read-zeroes", &self.read_zeroes);
    }
}
object_codec!(BlockdevOptionsNull);

/// A folder of the host as a disk with a FAT file system.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsVVFAT {
    /// The folder.
    pub dir: String,
    /// Bits of an entry of its table: 12, 16 or 32; 16, of a floppy disk 12, if absent or 0.
    pub fat_type: Option<i64>,
    /// Whether it is a floppy disk; a hard disk if absent.
    pub floppy: Option<bool>,
    /// Its label, of at most 11 bytes; QEMU VVFAT if absent.
    pub label: Option<String>,
    /// Whether the disk can be written to, and the folder follows; not if absent.
    pub rw: Option<bool>,
}

impl Object for BlockdevOptionsVVFAT {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            dir: from.required("dir")?,
            fat_type: from.optional("fat-type")?,
            floppy: from.optional("floppy")?,
            label: from.optional("label")?,
            rw: from.optional("rw")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("dir", &self.dir);
        to.put_optional("fat-type", &self.fat_type);
        to.put_optional("floppy", &self.floppy);
        to.put_optional("label", &self.label);
        to.put_optional("rw", &self.rw);
    }
}
object_codec!(BlockdevOptionsVVFAT);
