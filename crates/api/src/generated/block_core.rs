// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Nodes: what they are made of, and how they are changed.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError, Value};

/// The drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevDriver {
    /// A regular file.
    File,
    /// A block device of the host.
    HostDevice,
    /// A disk that an NBD server offers.
    Nbd,
    /// Nothing: writes vanish.
    NullCo,
    /// An image in the qcow2 format.
    Qcow2,
    /// A disk as it is, or a part of one.
    Raw,
}

impl Enumeration for BlockdevDriver {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("file", Self::File),
        ("host_device", Self::HostDevice),
        ("nbd", Self::Nbd),
        ("null-co", Self::NullCo),
        ("qcow2", Self::Qcow2),
        ("raw", Self::Raw),
    ];
}
enumeration_codec!(BlockdevDriver);

/// What a discard does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevDiscardOptions {
    /// Nothing.
    Ignore,
    /// Gives the space back.
    Unmap,
}

impl Enumeration for BlockdevDiscardOptions {
    const VALUES: &'static [(&'static str, Self)] = &[("ignore", Self::Ignore), ("unmap", Self::Unmap)];
}
enumeration_codec!(BlockdevDiscardOptions);

/// What becomes of written zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevDetectZeroesOptions {
    /// They are written.
    Off,
    /// They are written the quick way.
    On,
    /// Their space is given back, if discards do so.
    Unmap,
}

impl Enumeration for BlockdevDetectZeroesOptions {
    const VALUES: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("on", Self::On), ("unmap", Self::Unmap)];
}
enumeration_codec!(BlockdevDetectZeroesOptions);

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

/// How the host's page cache is used.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevCacheOptions {
    /// Whether it is bypassed; not if absent.
    pub direct: Option<bool>,
    /// Whether flushes are left out; not if absent.
    pub no_flush: Option<bool>,
}

impl Object for BlockdevCacheOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { direct: from.optional("direct")?, no_flush: from.optional("no-flush")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("direct", &self.direct);
        to.put_optional("no-flush", &self.no_flush);
    }
}
object_codec!(BlockdevCacheOptions);

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

/// An image in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsGenericFormat {
    /// The file.
    pub file: BlockdevRef,
}

impl Object for BlockdevOptionsGenericFormat {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { file: from.required("file")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("file", &self.file);
    }
}
object_codec!(BlockdevOptionsGenericFormat);

/// An image in a file, over a backing image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsGenericCOWFormat {
    /// The file.
    pub file: BlockdevRef,
    /// The backing image; the one that the image names, if absent; none, if null.
    pub backing: Option<BlockdevRefOrNull>,
}

impl Object for BlockdevOptionsGenericCOWFormat {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { file: from.required("file")?, backing: from.optional("backing")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("file", &self.file);
        to.put_optional("backing", &self.backing);
    }
}
object_codec!(BlockdevOptionsGenericCOWFormat);

/// What a raw disk is opened with, beside its file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawOptions {
    /// First byte of the part; 0 if absent.
    pub offset: Option<i64>,
    /// Bytes of the part; up to the end if absent.
    pub size: Option<i64>,
}

impl Object for RawOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { offset: from.optional("offset")?, size: from.optional("size")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("offset", &self.offset);
        to.put_optional("size", &self.size);
    }
}
object_codec!(RawOptions);

/// A disk as it is, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsRaw {
    /// First byte of the part; 0 if absent.
    pub offset: Option<i64>,
    /// Bytes of the part; up to the end if absent.
    pub size: Option<i64>,
    /// The file.
    pub file: BlockdevRef,
}

impl Object for BlockdevOptionsRaw {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            offset: from.optional("offset")?,
            size: from.optional("size")?,
            file: from.required("file")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("offset", &self.offset);
        to.put_optional("size", &self.size);
        to.put("file", &self.file);
    }
}
object_codec!(BlockdevOptionsRaw);

/// Which structures a metadata write is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qcow2OverlapCheckMode {
    /// None.
    None,
    /// Those whose place does not depend on the image's size.
    Constant,
    /// Those that need no reading.
    Cached,
    /// All.
    All,
}

impl Enumeration for Qcow2OverlapCheckMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("constant", Self::Constant), ("cached", Self::Cached), ("all", Self::All)];
}
enumeration_codec!(Qcow2OverlapCheckMode);

/// Which structures a metadata write is checked against, one by one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Qcow2OverlapCheckFlags {
    /// What holds where nothing is said.
    pub template: Option<Qcow2OverlapCheckMode>,
    /// The header.
    pub main_header: Option<bool>,
    /// The active L1 table.
    pub active_l1: Option<bool>,
    /// The active L2 tables.
    pub active_l2: Option<bool>,
    /// The refcount table.
    pub refcount_table: Option<bool>,
    /// The refcount blocks.
    pub refcount_block: Option<bool>,
    /// The snapshot table.
    pub snapshot_table: Option<bool>,
    /// The L1 tables of snapshots.
    pub inactive_l1: Option<bool>,
    /// The L2 tables of snapshots.
    pub inactive_l2: Option<bool>,
    /// The bitmap directory.
    pub bitmap_directory: Option<bool>,
}

impl Object for Qcow2OverlapCheckFlags {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            template: from.optional("template")?,
            main_header: from.optional("main-header")?,
            active_l1: from.optional("active-l1")?,
            active_l2: from.optional("active-l2")?,
            refcount_table: from.optional("refcount-table")?,
            refcount_block: from.optional("refcount-block")?,
            snapshot_table: from.optional("snapshot-table")?,
            inactive_l1: from.optional("inactive-l1")?,
            inactive_l2: from.optional("inactive-l2")?,
            bitmap_directory: from.optional("bitmap-directory")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("template", &self.template);
        to.put_optional("main-header", &self.main_header);
        to.put_optional("active-l1", &self.active_l1);
        to.put_optional("active-l2", &self.active_l2);
        to.put_optional("refcount-table", &self.refcount_table);
        to.put_optional("refcount-block", &self.refcount_block);
        to.put_optional("snapshot-table", &self.snapshot_table);
        to.put_optional("inactive-l1", &self.inactive_l1);
        to.put_optional("inactive-l2", &self.inactive_l2);
        to.put_optional("bitmap-directory", &self.bitmap_directory);
    }
}
object_codec!(Qcow2OverlapCheckFlags);

/// Overlap checks as a mode or one by one.
#[derive(Debug, Clone, PartialEq)]
pub enum Qcow2OverlapChecks {
    /// One by one.
    Flags(Box<Qcow2OverlapCheckFlags>),
    /// A mode.
    Mode(Qcow2OverlapCheckMode),
}

impl Decode for Qcow2OverlapChecks {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::Dict(_) => Ok(Self::Flags(Decode::decode(value, at)?)),
            Value::String(_) => Ok(Self::Mode(Decode::decode(value, at)?)),
            _ => Err(at.wrong_type("Qcow2OverlapChecks")),
        }
    }
}

impl Encode for Qcow2OverlapChecks {
    fn encode(&self) -> Value {
        match self {
            Self::Flags(inner) => inner.encode(),
            Self::Mode(inner) => inner.encode(),
        }
    }
}

/// What a qcow2 image is opened with, beside its children.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Qcow2Options {
    /// Whether reference counts may be stale while the image is open; as the image says, if absent.
    pub lazy_refcounts: Option<bool>,
    /// Whether a guest's discard reaches the file; as `discard` says, if absent.
    pub pass_discard_request: Option<bool>,
    /// Whether what a deleted snapshot held is discarded in the file; it is if absent.
    pub pass_discard_snapshot: Option<bool>,
    /// Whether whatever else becomes free is discarded in the file; not if absent.
    pub pass_discard_other: Option<bool>,
    /// Whether discarded clusters stay allocated, to keep the image in order; not if absent.
    pub discard_no_unref: Option<bool>,
    /// Which structures a metadata write is checked against.
    pub overlap_check: Option<Qcow2OverlapChecks>,
    /// Most bytes of tables in memory.
    pub cache_size: Option<i64>,
    /// Most bytes of L2 tables in memory.
    pub l2_cache_size: Option<i64>,
    /// Bytes of an L2 table that are loaded at once.
    pub l2_cache_entry_size: Option<i64>,
    /// Most bytes of refcount blocks in memory.
    pub refcount_cache_size: Option<i64>,
    /// Seconds after which unused tables leave memory; 0 is never.
    pub cache_clean_interval: Option<i64>,
}

impl Object for Qcow2Options {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            lazy_refcounts: from.optional("lazy-refcounts")?,
            pass_discard_request: from.optional("pass-discard-request")?,
            pass_discard_snapshot: from.optional("pass-discard-snapshot")?,
            pass_discard_other: from.optional("pass-discard-other")?,
            discard_no_unref: from.optional("discard-no-unref")?,
            overlap_check: from.optional("overlap-check")?,
            cache_size: from.optional("cache-size")?,
            l2_cache_size: from.optional("l2-cache-size")?,
            l2_cache_entry_size: from.optional("l2-cache-entry-size")?,
            refcount_cache_size: from.optional("refcount-cache-size")?,
            cache_clean_interval: from.optional("cache-clean-interval")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("lazy-refcounts", &self.lazy_refcounts);
        to.put_optional("pass-discard-request", &self.pass_discard_request);
        to.put_optional("pass-discard-snapshot", &self.pass_discard_snapshot);
        to.put_optional("pass-discard-other", &self.pass_discard_other);
        to.put_optional("discard-no-unref", &self.discard_no_unref);
        to.put_optional("overlap-check", &self.overlap_check);
        to.put_optional("cache-size", &self.cache_size);
        to.put_optional("l2-cache-size", &self.l2_cache_size);
        to.put_optional("l2-cache-entry-size", &self.l2_cache_entry_size);
        to.put_optional("refcount-cache-size", &self.refcount_cache_size);
        to.put_optional("cache-clean-interval", &self.cache_clean_interval);
    }
}
object_codec!(Qcow2Options);

/// An image in the qcow2 format.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsQcow2 {
    /// Whether reference counts may be stale while the image is open; as the image says, if absent.
    pub lazy_refcounts: Option<bool>,
    /// Whether a guest's discard reaches the file; as `discard` says, if absent.
    pub pass_discard_request: Option<bool>,
    /// Whether what a deleted snapshot held is discarded in the file; it is if absent.
    pub pass_discard_snapshot: Option<bool>,
    /// Whether whatever else becomes free is discarded in the file; not if absent.
    pub pass_discard_other: Option<bool>,
    /// Whether discarded clusters stay allocated, to keep the image in order; not if absent.
    pub discard_no_unref: Option<bool>,
    /// Which structures a metadata write is checked against.
    pub overlap_check: Option<Qcow2OverlapChecks>,
    /// Most bytes of tables in memory.
    pub cache_size: Option<i64>,
    /// Most bytes of L2 tables in memory.
    pub l2_cache_size: Option<i64>,
    /// Bytes of an L2 table that are loaded at once.
    pub l2_cache_entry_size: Option<i64>,
    /// Most bytes of refcount blocks in memory.
    pub refcount_cache_size: Option<i64>,
    /// Seconds after which unused tables leave memory; 0 is never.
    pub cache_clean_interval: Option<i64>,
    /// The file.
    pub file: BlockdevRef,
    /// The backing image; the one that the image names, if absent; none, if null.
    pub backing: Option<BlockdevRefOrNull>,
}

impl Object for BlockdevOptionsQcow2 {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            lazy_refcounts: from.optional("lazy-refcounts")?,
            pass_discard_request: from.optional("pass-discard-request")?,
            pass_discard_snapshot: from.optional("pass-discard-snapshot")?,
            pass_discard_other: from.optional("pass-discard-other")?,
            discard_no_unref: from.optional("discard-no-unref")?,
            overlap_check: from.optional("overlap-check")?,
            cache_size: from.optional("cache-size")?,
            l2_cache_size: from.optional("l2-cache-size")?,
            l2_cache_entry_size: from.optional("l2-cache-entry-size")?,
            refcount_cache_size: from.optional("refcount-cache-size")?,
            cache_clean_interval: from.optional("cache-clean-interval")?,
            file: from.required("file")?,
            backing: from.optional("backing")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("lazy-refcounts", &self.lazy_refcounts);
        to.put_optional("pass-discard-request", &self.pass_discard_request);
        to.put_optional("pass-discard-snapshot", &self.pass_discard_snapshot);
        to.put_optional("pass-discard-other", &self.pass_discard_other);
        to.put_optional("discard-no-unref", &self.discard_no_unref);
        to.put_optional("overlap-check", &self.overlap_check);
        to.put_optional("cache-size", &self.cache_size);
        to.put_optional("l2-cache-size", &self.l2_cache_size);
        to.put_optional("l2-cache-entry-size", &self.l2_cache_entry_size);
        to.put_optional("refcount-cache-size", &self.refcount_cache_size);
        to.put_optional("cache-clean-interval", &self.cache_clean_interval);
        to.put("file", &self.file);
        to.put_optional("backing", &self.backing);
    }
}
object_codec!(BlockdevOptionsQcow2);

/// A disk that an NBD server offers.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsNbd {
    /// Where the server listens.
    pub server: SocketAddress,
    /// Name of the disk; the server's default if absent.
    pub export: Option<String>,
    /// Seconds for which requests wait for a lost server; 0 if absent: they fail at once.
    pub reconnect_delay: Option<u32>,
    /// Seconds for which opening tries again; 0 if absent: it tries once.
    pub open_timeout: Option<u32>,
}

impl Object for BlockdevOptionsNbd {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            server: from.required("server")?,
            export: from.optional("export")?,
            reconnect_delay: from.optional("reconnect-delay")?,
            open_timeout: from.optional("open-timeout")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("server", &self.server);
        to.put_optional("export", &self.export);
        to.put_optional("reconnect-delay", &self.reconnect_delay);
        to.put_optional("open-timeout", &self.open_timeout);
    }
}
object_codec!(BlockdevOptionsNbd);

/// What every node may be told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevCommonOptions {
    /// What a discard does; it is ignored if absent.
    pub discard: Option<BlockdevDiscardOptions>,
    /// How the host's page cache is used; children take it over where they say nothing.
    pub cache: Option<BlockdevCacheOptions>,
    /// Whether it can't be written; it can if absent.
    pub read_only: Option<bool>,
    /// Whether it may become read-only by itself where writing is not allowed; not if absent.
    pub auto_read_only: Option<bool>,
    /// Whether others may do with the image whatever they like; only for read-only nodes.
    pub force_share: Option<bool>,
    /// What becomes of written zeros.
    pub detect_zeroes: Option<BlockdevDetectZeroesOptions>,
}

impl Object for BlockdevCommonOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            discard: from.optional("discard")?,
            cache: from.optional("cache")?,
            read_only: from.optional("read-only")?,
            auto_read_only: from.optional("auto-read-only")?,
            force_share: from.optional("force-share")?,
            detect_zeroes: from.optional("detect-zeroes")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("discard", &self.discard);
        to.put_optional("cache", &self.cache);
        to.put_optional("read-only", &self.read_only);
        to.put_optional("auto-read-only", &self.auto_read_only);
        to.put_optional("force-share", &self.force_share);
        to.put_optional("detect-zeroes", &self.detect_zeroes);
    }
}
object_codec!(BlockdevCommonOptions);

/// What every node has.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsBase {
    /// What a discard does; it is ignored if absent.
    pub discard: Option<BlockdevDiscardOptions>,
    /// How the host's page cache is used; children take it over where they say nothing.
    pub cache: Option<BlockdevCacheOptions>,
    /// Whether it can't be written; it can if absent.
    pub read_only: Option<bool>,
    /// Whether it may become read-only by itself where writing is not allowed; not if absent.
    pub auto_read_only: Option<bool>,
    /// Whether others may do with the image whatever they like; only for read-only nodes.
    pub force_share: Option<bool>,
    /// What becomes of written zeros.
    pub detect_zeroes: Option<BlockdevDetectZeroesOptions>,
    /// Its driver.
    pub driver: BlockdevDriver,
    /// Its name; needed for a node that is not written inside another.
    pub node_name: Option<String>,
}

impl Object for BlockdevOptionsBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            discard: from.optional("discard")?,
            cache: from.optional("cache")?,
            read_only: from.optional("read-only")?,
            auto_read_only: from.optional("auto-read-only")?,
            force_share: from.optional("force-share")?,
            detect_zeroes: from.optional("detect-zeroes")?,
            driver: from.required("driver")?,
            node_name: from.optional("node-name")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("discard", &self.discard);
        to.put_optional("cache", &self.cache);
        to.put_optional("read-only", &self.read_only);
        to.put_optional("auto-read-only", &self.auto_read_only);
        to.put_optional("force-share", &self.force_share);
        to.put_optional("detect-zeroes", &self.detect_zeroes);
        to.put("driver", &self.driver);
        to.put_optional("node-name", &self.node_name);
    }
}
object_codec!(BlockdevOptionsBase);

/// The part of [`BlockdevOptions`] that depends on `driver`.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevOptionsBranch {
    /// `file`.
    File(BlockdevOptionsFile),
    /// `host_device`.
    HostDevice(BlockdevOptionsFile),
    /// `nbd`.
    Nbd(BlockdevOptionsNbd),
    /// `null-co`.
    NullCo(BlockdevOptionsNull),
    /// `qcow2`.
    Qcow2(BlockdevOptionsQcow2),
    /// `raw`.
    Raw(BlockdevOptionsRaw),
}

impl BlockdevOptionsBranch {
    /// The value of `driver` that goes with this branch.
    pub fn driver(&self) -> BlockdevDriver {
        match self {
            Self::File(_) => BlockdevDriver::File,
            Self::HostDevice(_) => BlockdevDriver::HostDevice,
            Self::Nbd(_) => BlockdevDriver::Nbd,
            Self::NullCo(_) => BlockdevDriver::NullCo,
            Self::Qcow2(_) => BlockdevDriver::Qcow2,
            Self::Raw(_) => BlockdevDriver::Raw,
        }
    }

    fn take_branch(tag: BlockdevDriver, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            BlockdevDriver::File => Self::File(Object::take(from)?),
            BlockdevDriver::HostDevice => Self::HostDevice(Object::take(from)?),
            BlockdevDriver::Nbd => Self::Nbd(Object::take(from)?),
            BlockdevDriver::NullCo => Self::NullCo(Object::take(from)?),
            BlockdevDriver::Qcow2 => Self::Qcow2(Object::take(from)?),
            BlockdevDriver::Raw => Self::Raw(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::File(inner) => inner.put(to),
            Self::HostDevice(inner) => inner.put(to),
            Self::Nbd(inner) => inner.put(to),
            Self::NullCo(inner) => inner.put(to),
            Self::Qcow2(inner) => inner.put(to),
            Self::Raw(inner) => inner.put(to),
        }
    }
}

/// What a node is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptions {
    /// What a discard does; it is ignored if absent.
    pub discard: Option<BlockdevDiscardOptions>,
    /// How the host's page cache is used; children take it over where they say nothing.
    pub cache: Option<BlockdevCacheOptions>,
    /// Whether it can't be written; it can if absent.
    pub read_only: Option<bool>,
    /// Whether it may become read-only by itself where writing is not allowed; not if absent.
    pub auto_read_only: Option<bool>,
    /// Whether others may do with the image whatever they like; only for read-only nodes.
    pub force_share: Option<bool>,
    /// What becomes of written zeros.
    pub detect_zeroes: Option<BlockdevDetectZeroesOptions>,
    /// Its name; needed for a node that is not written inside another.
    pub node_name: Option<String>,
    /// What depends on `driver`.
    pub branch: BlockdevOptionsBranch,
}

impl Object for BlockdevOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let discard = from.optional("discard")?;
        let cache = from.optional("cache")?;
        let read_only = from.optional("read-only")?;
        let auto_read_only = from.optional("auto-read-only")?;
        let force_share = from.optional("force-share")?;
        let detect_zeroes = from.optional("detect-zeroes")?;
        let tag = from.required("driver")?;
        let node_name = from.optional("node-name")?;
        let branch = BlockdevOptionsBranch::take_branch(tag, from)?;
        Ok(Self { discard, cache, read_only, auto_read_only, force_share, detect_zeroes, node_name, branch })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("discard", &self.discard);
        to.put_optional("cache", &self.cache);
        to.put_optional("read-only", &self.read_only);
        to.put_optional("auto-read-only", &self.auto_read_only);
        to.put_optional("force-share", &self.force_share);
        to.put_optional("detect-zeroes", &self.detect_zeroes);
        to.put("driver", &self.branch.driver());
        to.put_optional("node-name", &self.node_name);
        self.branch.put_branch(to);
    }
}
object_codec!(BlockdevOptions);

/// A node: one that exists, or one to be made.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevRef {
    /// What it is to be made of.
    Definition(Box<BlockdevOptions>),
    /// The name of one that exists.
    Reference(String),
}

impl Decode for BlockdevRef {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::Dict(_) => Ok(Self::Definition(Decode::decode(value, at)?)),
            Value::String(_) => Ok(Self::Reference(Decode::decode(value, at)?)),
            _ => Err(at.wrong_type("BlockdevRef")),
        }
    }
}

impl Encode for BlockdevRef {
    fn encode(&self) -> Value {
        match self {
            Self::Definition(inner) => inner.encode(),
            Self::Reference(inner) => inner.encode(),
        }
    }
}

/// A node, or explicitly none.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevRefOrNull {
    /// What it is to be made of.
    Definition(Box<BlockdevOptions>),
    /// The name of one that exists.
    Reference(String),
    /// None.
    Null,
}

impl Decode for BlockdevRefOrNull {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::Dict(_) => Ok(Self::Definition(Decode::decode(value, at)?)),
            Value::String(_) => Ok(Self::Reference(Decode::decode(value, at)?)),
            Value::Null => Ok(Self::Null),
            _ => Err(at.wrong_type("BlockdevRefOrNull")),
        }
    }
}

impl Encode for BlockdevRefOrNull {
    fn encode(&self) -> Value {
        match self {
            Self::Definition(inner) => inner.encode(),
            Self::Reference(inner) => inner.encode(),
            Self::Null => Value::Null,
        }
    }
}

/// Arguments of `blockdev-del`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevDelArguments {
    /// The node.
    pub node_name: String,
}

impl Object for BlockdevDelArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { node_name: from.required("node-name")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node-name", &self.node_name);
    }
}
object_codec!(BlockdevDelArguments);

/// Arguments of `blockdev-reopen`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevReopenArguments {
    /// The nodes with all their options.
    pub options: Vec<BlockdevOptions>,
}

impl Object for BlockdevReopenArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { options: from.required("options")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("options", &self.options);
    }
}
object_codec!(BlockdevReopenArguments);

/// Arguments of `block_resize`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockResizeArguments {
    /// The device.
    pub device: Option<String>,
    /// The node.
    pub node_name: Option<String>,
    /// The new size in bytes.
    pub size: i64,
}

impl Object for BlockResizeArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.optional("device")?,
            node_name: from.optional("node-name")?,
            size: from.required("size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("device", &self.device);
        to.put_optional("node-name", &self.node_name);
        to.put("size", &self.size);
    }
}
object_codec!(BlockResizeArguments);

/// Where the image of a new node comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NewImageMode {
    /// It exists and is used as it is.
    Existing,
    /// It is made, and names its backing file as that was opened.
    AbsolutePaths,
}

impl Enumeration for NewImageMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("existing", Self::Existing), ("absolute-paths", Self::AbsolutePaths)];
}
enumeration_codec!(NewImageMode);

/// Arguments of `blockdev-snapshot-sync`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevSnapshotSyncArguments {
    /// The device.
    pub device: Option<String>,
    /// The node.
    pub node_name: Option<String>,
    /// The new image.
    pub snapshot_file: String,
    /// Name of the new node.
    pub snapshot_node_name: Option<String>,
    /// Format of the new image; qcow2 if absent.
    pub format: Option<String>,
    /// Whether the image is made; it is if absent.
    pub mode: Option<NewImageMode>,
}

impl Object for BlockdevSnapshotSyncArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.optional("device")?,
            node_name: from.optional("node-name")?,
            snapshot_file: from.required("snapshot-file")?,
            snapshot_node_name: from.optional("snapshot-node-name")?,
            format: from.optional("format")?,
            mode: from.optional("mode")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("device", &self.device);
        to.put_optional("node-name", &self.node_name);
        to.put("snapshot-file", &self.snapshot_file);
        to.put_optional("snapshot-node-name", &self.snapshot_node_name);
        to.put_optional("format", &self.format);
        to.put_optional("mode", &self.mode);
    }
}
object_codec!(BlockdevSnapshotSyncArguments);

/// Arguments of `blockdev-snapshot`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevSnapshotArguments {
    /// The node to protect.
    pub node: String,
    /// The node that takes the writes; it has no backing image before.
    pub overlay: String,
}

impl Object for BlockdevSnapshotArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { node: from.required("node")?, overlay: from.required("overlay")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node", &self.node);
        to.put("overlay", &self.overlay);
    }
}
object_codec!(BlockdevSnapshotArguments);

/// The handlers of section `block-core`.
pub trait BlockCoreCommands: Send + Sync {
    /// Makes a node, and those written inside it.
    fn blockdev_add(&self, arguments: BlockdevOptions) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Removes a node that nothing uses.
    fn blockdev_del(
        &self,
        arguments: BlockdevDelArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Gives nodes new options, all of them or none. An option that is left out gets its default.
    fn blockdev_reopen(
        &self,
        arguments: BlockdevReopenArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Changes the size of a device or node. Data beyond a smaller size is lost.
    fn block_resize(
        &self,
        arguments: BlockResizeArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Puts a new image on top of a device or node; writes go to the new one from then on.
    fn blockdev_snapshot_sync(
        &self,
        arguments: BlockdevSnapshotSyncArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Puts an existing node on top of another; writes go to it from then on.
    fn blockdev_snapshot(
        &self,
        arguments: BlockdevSnapshotArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
