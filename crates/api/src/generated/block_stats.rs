// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What devices and nodes have done: counters, times, and the marks that are set for them.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// How many requests took how long.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockLatencyHistogramInfo {
    /// Times in nanoseconds between the bins.
    pub boundaries: Vec<u64>,
    /// Requests of each bin: the first holds those below the first boundary.
    pub bins: Vec<u64>,
}

impl Object for BlockLatencyHistogramInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { boundaries: from.required("boundaries")?, bins: from.required("bins")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("boundaries", &self.boundaries);
        to.put("bins", &self.bins);
    }
}
object_codec!(BlockLatencyHistogramInfo);

/// What a device or node has done. Times are in nanoseconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockDeviceStats {
    /// Bytes read.
    pub rd_bytes: i64,
    /// Bytes written.
    pub wr_bytes: i64,
    /// Bytes discarded.
    pub unmap_bytes: i64,
    /// Reads.
    pub rd_operations: i64,
    /// Writes.
    pub wr_operations: i64,
    /// Flushes.
    pub flush_operations: i64,
    /// Discards.
    pub unmap_operations: i64,
    /// Time spent in reads.
    pub rd_total_time_ns: i64,
    /// Time spent in writes.
    pub wr_total_time_ns: i64,
    /// Time spent in flushes.
    pub flush_total_time_ns: i64,
    /// Time spent in discards.
    pub unmap_total_time_ns: i64,
    /// End of the highest write, as an offset in bytes.
    pub wr_highest_offset: i64,
    /// Reads merged into others.
    pub rd_merged: i64,
    /// Writes merged into others.
    pub wr_merged: i64,
    /// Discards merged into others.
    pub unmap_merged: i64,
    /// Time since the last request, if there was one.
    pub idle_time_ns: Option<i64>,
    /// Reads that failed.
    pub failed_rd_operations: i64,
    /// Writes that failed.
    pub failed_wr_operations: i64,
    /// Flushes that failed.
    pub failed_flush_operations: i64,
    /// Discards that failed.
    pub failed_unmap_operations: i64,
    /// Reads refused as invalid.
    pub invalid_rd_operations: i64,
    /// Writes refused as invalid.
    pub invalid_wr_operations: i64,
    /// Flushes refused as invalid.
    pub invalid_flush_operations: i64,
    /// Discards refused as invalid.
    pub invalid_unmap_operations: i64,
    /// Whether invalid requests count for the time of the last request.
    pub account_invalid: bool,
    /// Whether failed requests count for times.
    pub account_failed: bool,
    /// Bytes appended to zones.
    pub zone_append_bytes: i64,
    /// Appends to zones.
    pub zone_append_operations: i64,
    /// Time spent in them.
    pub zone_append_total_time_ns: i64,
    /// Appends merged into others.
    pub zone_append_merged: i64,
    /// Appends that failed.
    pub failed_zone_append_operations: i64,
    /// Appends refused as invalid.
    pub invalid_zone_append_operations: i64,
    /// Figures of the intervals that were asked for when the device was made.
    pub timed_stats: Vec<BlockDeviceTimedStats>,
    /// How long reads took, if that was asked for.
    pub rd_latency_histogram: Option<BlockLatencyHistogramInfo>,
    /// How long writes took, if that was asked for.
    pub wr_latency_histogram: Option<BlockLatencyHistogramInfo>,
    /// How long appends to zones took; there are none.
    pub zone_append_latency_histogram: Option<BlockLatencyHistogramInfo>,
    /// How long flushes took, if that was asked for.
    pub flush_latency_histogram: Option<BlockLatencyHistogramInfo>,
}

impl Object for BlockDeviceStats {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            rd_bytes: from.required("rd_bytes")?,
            wr_bytes: from.required("wr_bytes")?,
            unmap_bytes: from.required("unmap_bytes")?,
            rd_operations: from.required("rd_operations")?,
            wr_operations: from.required("wr_operations")?,
            flush_operations: from.required("flush_operations")?,
            unmap_operations: from.required("unmap_operations")?,
            rd_total_time_ns: from.required("rd_total_time_ns")?,
            wr_total_time_ns: from.required("wr_total_time_ns")?,
            flush_total_time_ns: from.required("flush_total_time_ns")?,
            unmap_total_time_ns: from.required("unmap_total_time_ns")?,
            wr_highest_offset: from.required("wr_highest_offset")?,
            rd_merged: from.required("rd_merged")?,
            wr_merged: from.required("wr_merged")?,
            unmap_merged: from.required("unmap_merged")?,
            idle_time_ns: from.optional("idle_time_ns")?,
            failed_rd_operations: from.required("failed_rd_operations")?,
            failed_wr_operations: from.required("failed_wr_operations")?,
            failed_flush_operations: from.required("failed_flush_operations")?,
            failed_unmap_operations: from.required("failed_unmap_operations")?,
            invalid_rd_operations: from.required("invalid_rd_operations")?,
            invalid_wr_operations: from.required("invalid_wr_operations")?,
            invalid_flush_operations: from.required("invalid_flush_operations")?,
            invalid_unmap_operations: from.required("invalid_unmap_operations")?,
            account_invalid: from.required("account_invalid")?,
            account_failed: from.required("account_failed")?,
            zone_append_bytes: from.required("zone_append_bytes")?,
            zone_append_operations: from.required("zone_append_operations")?,
            zone_append_total_time_ns: from.required("zone_append_total_time_ns")?,
            zone_append_merged: from.required("zone_append_merged")?,
            failed_zone_append_operations: from.required("failed_zone_append_operations")?,
            invalid_zone_append_operations: from.required("invalid_zone_append_operations")?,
            timed_stats: from.required("timed_stats")?,
            rd_latency_histogram: from.optional("rd_latency_histogram")?,
            wr_latency_histogram: from.optional("wr_latency_histogram")?,
            zone_append_latency_histogram: from.optional("zone_append_latency_histogram")?,
            flush_latency_histogram: from.optional("flush_latency_histogram")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("rd_bytes", &self.rd_bytes);
        to.put("wr_bytes", &self.wr_bytes);
        to.put("unmap_bytes", &self.unmap_bytes);
        to.put("rd_operations", &self.rd_operations);
        to.put("wr_operations", &self.wr_operations);
        to.put("flush_operations", &self.flush_operations);
        to.put("unmap_operations", &self.unmap_operations);
        to.put("rd_total_time_ns", &self.rd_total_time_ns);
        to.put("wr_total_time_ns", &self.wr_total_time_ns);
        to.put("flush_total_time_ns", &self.flush_total_time_ns);
        to.put("unmap_total_time_ns", &self.unmap_total_time_ns);
        to.put("wr_highest_offset", &self.wr_highest_offset);
        to.put("rd_merged", &self.rd_merged);
        to.put("wr_merged", &self.wr_merged);
        to.put("unmap_merged", &self.unmap_merged);
        to.put_optional("idle_time_ns", &self.idle_time_ns);
        to.put("failed_rd_operations", &self.failed_rd_operations);
        to.put("failed_wr_operations", &self.failed_wr_operations);
        to.put("failed_flush_operations", &self.failed_flush_operations);
        to.put("failed_unmap_operations", &self.failed_unmap_operations);
        to.put("invalid_rd_operations", &self.invalid_rd_operations);
        to.put("invalid_wr_operations", &self.invalid_wr_operations);
        to.put("invalid_flush_operations", &self.invalid_flush_operations);
        to.put("invalid_unmap_operations", &self.invalid_unmap_operations);
        to.put("account_invalid", &self.account_invalid);
        to.put("account_failed", &self.account_failed);
        to.put("zone_append_bytes", &self.zone_append_bytes);
        to.put("zone_append_operations", &self.zone_append_operations);
        to.put("zone_append_total_time_ns", &self.zone_append_total_time_ns);
        to.put("zone_append_merged", &self.zone_append_merged);
        to.put("failed_zone_append_operations", &self.failed_zone_append_operations);
        to.put("invalid_zone_append_operations", &self.invalid_zone_append_operations);
        to.put("timed_stats", &self.timed_stats);
        to.put_optional("rd_latency_histogram", &self.rd_latency_histogram);
        to.put_optional("wr_latency_histogram", &self.wr_latency_histogram);
        to.put_optional("zone_append_latency_histogram", &self.zone_append_latency_histogram);
        to.put_optional("flush_latency_histogram", &self.flush_latency_histogram);
    }
}
object_codec!(BlockDeviceStats);

/// What a device has done in an interval.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockDeviceTimedStats {
    /// The interval in seconds.
    pub interval_length: i64,
    /// Shortest time of a read.
    pub min_rd_latency_ns: i64,
    /// Longest time of a read.
    pub max_rd_latency_ns: i64,
    /// Average time of a read.
    pub avg_rd_latency_ns: i64,
    /// Shortest time of a write.
    pub min_wr_latency_ns: i64,
    /// Longest time of a write.
    pub max_wr_latency_ns: i64,
    /// Average time of a write.
    pub avg_wr_latency_ns: i64,
    /// Shortest time of a append to a zone.
    pub min_zone_append_latency_ns: i64,
    /// Longest time of a append to a zone.
    pub max_zone_append_latency_ns: i64,
    /// Average time of a append to a zone.
    pub avg_zone_append_latency_ns: i64,
    /// Shortest time of a flush.
    pub min_flush_latency_ns: i64,
    /// Longest time of a flush.
    pub max_flush_latency_ns: i64,
    /// Average time of a flush.
    pub avg_flush_latency_ns: i64,
    /// Average number of reads at a time.
    pub avg_rd_queue_depth: f64,
    /// Average number of writes at a time.
    pub avg_wr_queue_depth: f64,
    /// Average number of appends to zones at a time.
    pub avg_zone_append_queue_depth: f64,
}

impl Object for BlockDeviceTimedStats {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            interval_length: from.required("interval_length")?,
            min_rd_latency_ns: from.required("min_rd_latency_ns")?,
            max_rd_latency_ns: from.required("max_rd_latency_ns")?,
            avg_rd_latency_ns: from.required("avg_rd_latency_ns")?,
            min_wr_latency_ns: from.required("min_wr_latency_ns")?,
            max_wr_latency_ns: from.required("max_wr_latency_ns")?,
            avg_wr_latency_ns: from.required("avg_wr_latency_ns")?,
            min_zone_append_latency_ns: from.required("min_zone_append_latency_ns")?,
            max_zone_append_latency_ns: from.required("max_zone_append_latency_ns")?,
            avg_zone_append_latency_ns: from.required("avg_zone_append_latency_ns")?,
            min_flush_latency_ns: from.required("min_flush_latency_ns")?,
            max_flush_latency_ns: from.required("max_flush_latency_ns")?,
            avg_flush_latency_ns: from.required("avg_flush_latency_ns")?,
            avg_rd_queue_depth: from.required("avg_rd_queue_depth")?,
            avg_wr_queue_depth: from.required("avg_wr_queue_depth")?,
            avg_zone_append_queue_depth: from.required("avg_zone_append_queue_depth")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("interval_length", &self.interval_length);
        to.put("min_rd_latency_ns", &self.min_rd_latency_ns);
        to.put("max_rd_latency_ns", &self.max_rd_latency_ns);
        to.put("avg_rd_latency_ns", &self.avg_rd_latency_ns);
        to.put("min_wr_latency_ns", &self.min_wr_latency_ns);
        to.put("max_wr_latency_ns", &self.max_wr_latency_ns);
        to.put("avg_wr_latency_ns", &self.avg_wr_latency_ns);
        to.put("min_zone_append_latency_ns", &self.min_zone_append_latency_ns);
        to.put("max_zone_append_latency_ns", &self.max_zone_append_latency_ns);
        to.put("avg_zone_append_latency_ns", &self.avg_zone_append_latency_ns);
        to.put("min_flush_latency_ns", &self.min_flush_latency_ns);
        to.put("max_flush_latency_ns", &self.max_flush_latency_ns);
        to.put("avg_flush_latency_ns", &self.avg_flush_latency_ns);
        to.put("avg_rd_queue_depth", &self.avg_rd_queue_depth);
        to.put("avg_wr_queue_depth", &self.avg_wr_queue_depth);
        to.put("avg_zone_append_queue_depth", &self.avg_zone_append_queue_depth);
    }
}
object_codec!(BlockDeviceTimedStats);

/// What only a file has done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockStatsSpecificFile {
    /// Discards that went well.
    pub discard_nb_ok: u64,
    /// Discards that failed.
    pub discard_nb_failed: u64,
    /// Bytes discarded.
    pub discard_bytes_ok: u64,
}

impl Object for BlockStatsSpecificFile {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            discard_nb_ok: from.required("discard-nb-ok")?,
            discard_nb_failed: from.required("discard-nb-failed")?,
            discard_bytes_ok: from.required("discard-bytes-ok")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("discard-nb-ok", &self.discard_nb_ok);
        to.put("discard-nb-failed", &self.discard_nb_failed);
        to.put("discard-bytes-ok", &self.discard_bytes_ok);
    }
}
object_codec!(BlockStatsSpecificFile);

/// What only nodes of one driver have done.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockStatsSpecific {
    /// `blkdebug`.
    Blkdebug,
    /// `blklogwrites`.
    Blklogwrites,
    /// `blkverify`.
    Blkverify,
    /// `bochs`.
    Bochs,
    /// `cloop`.
    Cloop,
    /// `compress`.
    Compress,
    /// `copy-before-write`.
    CopyBeforeWrite,
    /// `copy-on-read`.
    CopyOnRead,
    /// `cow`.
    Cow,
    /// `dmg`.
    Dmg,
    /// `file`.
    File(BlockStatsSpecificFile),
    /// `ftp`.
    Ftp,
    /// `ftps`.
    Ftps,
    /// `host_cdrom`.
    HostCdrom,
    /// `host_device`.
    HostDevice(BlockStatsSpecificFile),
    /// `host_floppy`.
    HostFloppy,
    /// `http`.
    Http,
    /// `https`.
    Https,
    /// `iscsi`.
    Iscsi,
    /// `luks`.
    Luks,
    /// `nbd`.
    Nbd,
    /// `nfs`.
    Nfs,
    /// `null-aio`.
    NullAio,
    /// `null-co`.
    NullCo,
    /// `parallels`.
    Parallels,
    /// `preallocate`.
    Preallocate,
    /// `qcow`.
    Qcow,
    /// `qcow2`.
    Qcow2,
    /// `qed`.
    Qed,
    /// `quorum`.
    Quorum,
    /// `raw`.
    Raw,
    /// `rbd`.
    Rbd,
    /// `s3`.
    S3,
    /// `snapshot-access`.
    SnapshotAccess,
    /// `ssh`.
    Ssh,
    /// `tftp`.
    Tftp,
    /// `throttle`.
    Throttle,
    /// `vdi`.
    Vdi,
    /// `vhdx`.
    Vhdx,
    /// `vmdk`.
    Vmdk,
    /// `vpc`.
    Vpc,
    /// `vvfat`.
    Vvfat,
}

impl BlockStatsSpecific {
    /// The value of `driver` that goes with this branch.
    pub fn driver(&self) -> BlockdevDriver {
        match self {
            Self::Blkdebug => BlockdevDriver::Blkdebug,
            Self::Blklogwrites => BlockdevDriver::Blklogwrites,
            Self::Blkverify => BlockdevDriver::Blkverify,
            Self::Bochs => BlockdevDriver::Bochs,
            Self::Cloop => BlockdevDriver::Cloop,
            Self::Compress => BlockdevDriver::Compress,
            Self::CopyBeforeWrite => BlockdevDriver::CopyBeforeWrite,
            Self::CopyOnRead => BlockdevDriver::CopyOnRead,
            Self::Cow => BlockdevDriver::Cow,
            Self::Dmg => BlockdevDriver::Dmg,
            Self::File(_) => BlockdevDriver::File,
            Self::Ftp => BlockdevDriver::Ftp,
            Self::Ftps => BlockdevDriver::Ftps,
            Self::HostCdrom => BlockdevDriver::HostCdrom,
            Self::HostDevice(_) => BlockdevDriver::HostDevice,
            Self::HostFloppy => BlockdevDriver::HostFloppy,
            Self::Http => BlockdevDriver::Http,
            Self::Https => BlockdevDriver::Https,
            Self::Iscsi => BlockdevDriver::Iscsi,
            Self::Luks => BlockdevDriver::Luks,
            Self::Nbd => BlockdevDriver::Nbd,
            Self::Nfs => BlockdevDriver::Nfs,
            Self::NullAio => BlockdevDriver::NullAio,
            Self::NullCo => BlockdevDriver::NullCo,
            Self::Parallels => BlockdevDriver::Parallels,
            Self::Preallocate => BlockdevDriver::Preallocate,
            Self::Qcow => BlockdevDriver::Qcow,
            Self::Qcow2 => BlockdevDriver::Qcow2,
            Self::Qed => BlockdevDriver::Qed,
            Self::Quorum => BlockdevDriver::Quorum,
            Self::Raw => BlockdevDriver::Raw,
            Self::Rbd => BlockdevDriver::Rbd,
            Self::S3 => BlockdevDriver::S3,
            Self::SnapshotAccess => BlockdevDriver::SnapshotAccess,
            Self::Ssh => BlockdevDriver::Ssh,
            Self::Tftp => BlockdevDriver::Tftp,
            Self::Throttle => BlockdevDriver::Throttle,
            Self::Vdi => BlockdevDriver::Vdi,
            Self::Vhdx => BlockdevDriver::Vhdx,
            Self::Vmdk => BlockdevDriver::Vmdk,
            Self::Vpc => BlockdevDriver::Vpc,
            Self::Vvfat => BlockdevDriver::Vvfat,
        }
    }

    fn take_branch(tag: BlockdevDriver, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            BlockdevDriver::Blkdebug => Self::Blkdebug,
            BlockdevDriver::Blklogwrites => Self::Blklogwrites,
            BlockdevDriver::Blkverify => Self::Blkverify,
            BlockdevDriver::Bochs => Self::Bochs,
            BlockdevDriver::Cloop => Self::Cloop,
            BlockdevDriver::Compress => Self::Compress,
            BlockdevDriver::CopyBeforeWrite => Self::CopyBeforeWrite,
            BlockdevDriver::CopyOnRead => Self::CopyOnRead,
            BlockdevDriver::Cow => Self::Cow,
            BlockdevDriver::Dmg => Self::Dmg,
            BlockdevDriver::File => Self::File(Object::take(from)?),
            BlockdevDriver::Ftp => Self::Ftp,
            BlockdevDriver::Ftps => Self::Ftps,
            BlockdevDriver::HostCdrom => Self::HostCdrom,
            BlockdevDriver::HostDevice => Self::HostDevice(Object::take(from)?),
            BlockdevDriver::HostFloppy => Self::HostFloppy,
            BlockdevDriver::Http => Self::Http,
            BlockdevDriver::Https => Self::Https,
            BlockdevDriver::Iscsi => Self::Iscsi,
            BlockdevDriver::Luks => Self::Luks,
            BlockdevDriver::Nbd => Self::Nbd,
            BlockdevDriver::Nfs => Self::Nfs,
            BlockdevDriver::NullAio => Self::NullAio,
            BlockdevDriver::NullCo => Self::NullCo,
            BlockdevDriver::Parallels => Self::Parallels,
            BlockdevDriver::Preallocate => Self::Preallocate,
            BlockdevDriver::Qcow => Self::Qcow,
            BlockdevDriver::Qcow2 => Self::Qcow2,
            BlockdevDriver::Qed => Self::Qed,
            BlockdevDriver::Quorum => Self::Quorum,
            BlockdevDriver::Raw => Self::Raw,
            BlockdevDriver::Rbd => Self::Rbd,
            BlockdevDriver::S3 => Self::S3,
            BlockdevDriver::SnapshotAccess => Self::SnapshotAccess,
            BlockdevDriver::Ssh => Self::Ssh,
            BlockdevDriver::Tftp => Self::Tftp,
            BlockdevDriver::Throttle => Self::Throttle,
            BlockdevDriver::Vdi => Self::Vdi,
            BlockdevDriver::Vhdx => Self::Vhdx,
            BlockdevDriver::Vmdk => Self::Vmdk,
            BlockdevDriver::Vpc => Self::Vpc,
            BlockdevDriver::Vvfat => Self::Vvfat,
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Blkdebug => {}
            Self::Blklogwrites => {}
            Self::Blkverify => {}
            Self::Bochs => {}
            Self::Cloop => {}
            Self::Compress => {}
            Self::CopyBeforeWrite => {}
            Self::CopyOnRead => {}
            Self::Cow => {}
            Self::Dmg => {}
            Self::File(inner) => inner.put(to),
            Self::Ftp => {}
            Self::Ftps => {}
            Self::HostCdrom => {}
            Self::HostDevice(inner) => inner.put(to),
            Self::HostFloppy => {}
            Self::Http => {}
            Self::Https => {}
            Self::Iscsi => {}
            Self::Luks => {}
            Self::Nbd => {}
            Self::Nfs => {}
            Self::NullAio => {}
            Self::NullCo => {}
            Self::Parallels => {}
            Self::Preallocate => {}
            Self::Qcow => {}
            Self::Qcow2 => {}
            Self::Qed => {}
            Self::Quorum => {}
            Self::Raw => {}
            Self::Rbd => {}
            Self::S3 => {}
            Self::SnapshotAccess => {}
            Self::Ssh => {}
            Self::Tftp => {}
            Self::Throttle => {}
            Self::Vdi => {}
            Self::Vhdx => {}
            Self::Vmdk => {}
            Self::Vpc => {}
            Self::Vvfat => {}
        }
    }
}

impl Object for BlockStatsSpecific {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("driver")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("driver", &self.driver());
        self.put_branch(to);
    }
}
object_codec!(BlockStatsSpecific);

/// What a device or node and those below it have done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockStats {
    /// Name of the device, if it is one.
    pub device: Option<String>,
    /// Path of the guest's device.
    pub qdev: Option<String>,
    /// Name of the node.
    pub node_name: Option<String>,
    /// The figures.
    pub stats: BlockDeviceStats,
    /// Figures that only nodes of its driver have.
    pub driver_specific: Option<BlockStatsSpecific>,
    /// The node that holds its image.
    pub parent: Option<Box<BlockStats>>,
    /// The backing image.
    pub backing: Option<Box<BlockStats>>,
}

impl Object for BlockStats {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.optional("device")?,
            qdev: from.optional("qdev")?,
            node_name: from.optional("node-name")?,
            stats: from.required("stats")?,
            driver_specific: from.optional("driver-specific")?,
            parent: from.optional("parent")?,
            backing: from.optional("backing")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("device", &self.device);
        to.put_optional("qdev", &self.qdev);
        to.put_optional("node-name", &self.node_name);
        to.put("stats", &self.stats);
        to.put_optional("driver-specific", &self.driver_specific);
        to.put_optional("parent", &self.parent);
        to.put_optional("backing", &self.backing);
    }
}
object_codec!(BlockStats);

/// Arguments of `query-blockstats`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryBlockstatsArguments {
    /// Whether nodes are meant; devices if absent.
    pub query_nodes: Option<bool>,
}

impl Object for QueryBlockstatsArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { query_nodes: from.optional("query-nodes")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("query-nodes", &self.query_nodes);
    }
}
object_codec!(QueryBlockstatsArguments);

/// Arguments of `block-set-write-threshold`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockSetWriteThresholdArguments {
    /// The node.
    pub node_name: String,
    /// The offset in bytes; 0 for none.
    pub write_threshold: u64,
}

impl Object for BlockSetWriteThresholdArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node_name: from.required("node-name")?,
            write_threshold: from.required("write-threshold")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node-name", &self.node_name);
        to.put("write-threshold", &self.write_threshold);
    }
}
object_codec!(BlockSetWriteThresholdArguments);

/// Arguments of `block-latency-histogram-set`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockLatencyHistogramSetArguments {
    /// The device.
    pub id: String,
    /// Times in nanoseconds between the bins, rising, of all kinds of requests.
    pub boundaries: Option<Vec<u64>>,
    /// Those of reads.
    pub boundaries_read: Option<Vec<u64>>,
    /// Those of writes.
    pub boundaries_write: Option<Vec<u64>>,
    /// Those of appends to zones.
    pub boundaries_zap: Option<Vec<u64>>,
    /// Those of flushes.
    pub boundaries_flush: Option<Vec<u64>>,
}

impl Object for BlockLatencyHistogramSetArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: from.required("id")?,
            boundaries: from.optional("boundaries")?,
            boundaries_read: from.optional("boundaries-read")?,
            boundaries_write: from.optional("boundaries-write")?,
            boundaries_zap: from.optional("boundaries-zap")?,
            boundaries_flush: from.optional("boundaries-flush")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
        to.put_optional("boundaries", &self.boundaries);
        to.put_optional("boundaries-read", &self.boundaries_read);
        to.put_optional("boundaries-write", &self.boundaries_write);
        to.put_optional("boundaries-zap", &self.boundaries_zap);
        to.put_optional("boundaries-flush", &self.boundaries_flush);
    }
}
object_codec!(BlockLatencyHistogramSetArguments);

/// The handlers of section `block-stats`.
pub trait BlockStatsCommands: Send + Sync {
    /// Tells what devices, or all nodes, have done.
    fn query_blockstats(
        &self,
        arguments: QueryBlockstatsArguments,
    ) -> impl Future<Output = Result<Vec<BlockStats>, QmpError>> + Send;

    /// Has a node tell, once, of a write that goes beyond an offset (BLOCK_WRITE_THRESHOLD).
    fn block_set_write_threshold(
        &self,
        arguments: BlockSetWriteThresholdArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Has a device count its requests by how long they take, from 0 on; without boundaries it does so no more.
    fn block_latency_histogram_set(
        &self,
        arguments: BlockLatencyHistogramSetArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
