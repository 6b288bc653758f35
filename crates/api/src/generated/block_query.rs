// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Nodes and devices: what they are.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// How a node uses the host's page cache.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevCacheInfo {
    /// Whether a write may be answered before it is durable.
    pub writeback: bool,
    /// Whether the page cache is bypassed.
    pub direct: bool,
    /// Whether flushes are left out.
    pub no_flush: bool,
}

impl Object for BlockdevCacheInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            writeback: from.required("writeback")?,
            direct: from.required("direct")?,
            no_flush: from.required("no-flush")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("writeback", &self.writeback);
        to.put("direct", &self.direct);
        to.put("no-flush", &self.no_flush);
    }
}
object_codec!(BlockdevCacheInfo);

/// A node that another one uses.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevChild {
    /// What it is to its parent: file, backing, …
    pub child: String,
    /// The node.
    pub node_name: String,
}

impl Object for BlockdevChild {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { child: from.required("child")?, node_name: from.required("node-name")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("child", &self.child);
        to.put("node-name", &self.node_name);
    }
}
object_codec!(BlockdevChild);

/// A dirty bitmap.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockDirtyInfo {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Bytes that have changed, by its granularity.
    pub count: i64,
    /// Bytes a bit.
    pub granularity: u32,
    /// Whether it records changes.
    pub recording: bool,
    /// Whether something uses it, so that it can't be changed or removed.
    pub busy: bool,
    /// Whether the image keeps it.
    pub persistent: bool,
    /// Whether changes may be missing in it, so that it can only be removed; not if absent.
    pub inconsistent: Option<bool>,
}

impl Object for BlockDirtyInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.optional("name")?,
            count: from.required("count")?,
            granularity: from.required("granularity")?,
            recording: from.required("recording")?,
            busy: from.required("busy")?,
            persistent: from.required("persistent")?,
            inconsistent: from.optional("inconsistent")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("name", &self.name);
        to.put("count", &self.count);
        to.put("granularity", &self.granularity);
        to.put("recording", &self.recording);
        to.put("busy", &self.busy);
        to.put("persistent", &self.persistent);
        to.put_optional("inconsistent", &self.inconsistent);
    }
}
object_codec!(BlockDirtyInfo);

/// A node.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockDeviceInfo {
    /// File name of its image, or a description in JSON.
    pub file: String,
    /// Its name.
    pub node_name: Option<String>,
    /// Whether it is read-only.
    pub ro: bool,
    /// Its driver.
    pub drv: String,
    /// The backing file's name, if it has one.
    pub backing_file: Option<String>,
    /// Images below it in the chain.
    pub backing_file_depth: i64,
    /// Whether it is in use here, not handed over to another process.
    pub active: bool,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// What becomes of written zeros.
    pub detect_zeroes: BlockdevDetectZeroesOptions,
    /// Limit in bytes per second; 0 is none.
    pub bps: i64,
    /// Limit of reads in bytes per second.
    pub bps_rd: i64,
    /// Limit of writes in bytes per second.
    pub bps_wr: i64,
    /// Limit in requests per second.
    pub iops: i64,
    /// Limit of reads per second.
    pub iops_rd: i64,
    /// Limit of writes per second.
    pub iops_wr: i64,
    /// The image.
    pub image: ImageInfo,
    /// How it uses the host's page cache.
    pub cache: BlockdevCacheInfo,
    /// Offset in bytes beyond which a write is told of; 0 is none.
    pub write_threshold: i64,
    /// Limit in bytes per second of a burst.
    pub bps_max: Option<i64>,
    /// The same of reads.
    pub bps_rd_max: Option<i64>,
    /// The same of writes.
    pub bps_wr_max: Option<i64>,
    /// Limit in requests per second of a burst.
    pub iops_max: Option<i64>,
    /// The same of reads.
    pub iops_rd_max: Option<i64>,
    /// The same of writes.
    pub iops_wr_max: Option<i64>,
    /// Longest burst of bytes in seconds.
    pub bps_max_length: Option<i64>,
    /// The same of reads.
    pub bps_rd_max_length: Option<i64>,
    /// The same of writes.
    pub bps_wr_max_length: Option<i64>,
    /// Longest burst of requests in seconds.
    pub iops_max_length: Option<i64>,
    /// The same of reads.
    pub iops_rd_max_length: Option<i64>,
    /// The same of writes.
    pub iops_wr_max_length: Option<i64>,
    /// Bytes up to which a request counts as one.
    pub iops_size: Option<i64>,
    /// The throttle group it is in.
    pub group: Option<String>,
    /// Its dirty bitmaps, the newest first, if it has any.
    pub dirty_bitmaps: Option<Vec<BlockDirtyInfo>>,
    /// The nodes it uses; a machine does not tell of them, as in QEMU 10.0.
    pub children: Option<Vec<BlockdevChild>>,
    /// Whether the key of an encrypted image is missing: never. QEMU had it up to version 5.2; told by a program
    /// that answers as QEMU 2.1 did.
    pub encryption_key_missing: Option<bool>,
}

impl Object for BlockDeviceInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            file: from.required("file")?,
            node_name: from.optional("node-name")?,
            ro: from.required("ro")?,
            drv: from.required("drv")?,
            backing_file: from.optional("backing_file")?,
            backing_file_depth: from.required("backing_file_depth")?,
            active: from.required("active")?,
            encrypted: from.required("encrypted")?,
            detect_zeroes: from.required("detect_zeroes")?,
            bps: from.required("bps")?,
            bps_rd: from.required("bps_rd")?,
            bps_wr: from.required("bps_wr")?,
            iops: from.required("iops")?,
            iops_rd: from.required("iops_rd")?,
            iops_wr: from.required("iops_wr")?,
            image: from.required("image")?,
            cache: from.required("cache")?,
            write_threshold: from.required("write_threshold")?,
            bps_max: from.optional("bps_max")?,
            bps_rd_max: from.optional("bps_rd_max")?,
            bps_wr_max: from.optional("bps_wr_max")?,
            iops_max: from.optional("iops_max")?,
            iops_rd_max: from.optional("iops_rd_max")?,
            iops_wr_max: from.optional("iops_wr_max")?,
            bps_max_length: from.optional("bps_max_length")?,
            bps_rd_max_length: from.optional("bps_rd_max_length")?,
            bps_wr_max_length: from.optional("bps_wr_max_length")?,
            iops_max_length: from.optional("iops_max_length")?,
            iops_rd_max_length: from.optional("iops_rd_max_length")?,
            iops_wr_max_length: from.optional("iops_wr_max_length")?,
            iops_size: from.optional("iops_size")?,
            group: from.optional("group")?,
            dirty_bitmaps: from.optional("dirty-bitmaps")?,
            children: from.optional("children")?,
            encryption_key_missing: from.optional("encryption_key_missing")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("file", &self.file);
        to.put_optional("node-name", &self.node_name);
        to.put("ro", &self.ro);
        to.put("drv", &self.drv);
        to.put_optional("backing_file", &self.backing_file);
        to.put("backing_file_depth", &self.backing_file_depth);
        to.put("active", &self.active);
        to.put("encrypted", &self.encrypted);
        to.put("detect_zeroes", &self.detect_zeroes);
        to.put("bps", &self.bps);
        to.put("bps_rd", &self.bps_rd);
        to.put("bps_wr", &self.bps_wr);
        to.put("iops", &self.iops);
        to.put("iops_rd", &self.iops_rd);
        to.put("iops_wr", &self.iops_wr);
        to.put("image", &self.image);
        to.put("cache", &self.cache);
        to.put("write_threshold", &self.write_threshold);
        to.put_optional("bps_max", &self.bps_max);
        to.put_optional("bps_rd_max", &self.bps_rd_max);
        to.put_optional("bps_wr_max", &self.bps_wr_max);
        to.put_optional("iops_max", &self.iops_max);
        to.put_optional("iops_rd_max", &self.iops_rd_max);
        to.put_optional("iops_wr_max", &self.iops_wr_max);
        to.put_optional("bps_max_length", &self.bps_max_length);
        to.put_optional("bps_rd_max_length", &self.bps_rd_max_length);
        to.put_optional("bps_wr_max_length", &self.bps_wr_max_length);
        to.put_optional("iops_max_length", &self.iops_max_length);
        to.put_optional("iops_rd_max_length", &self.iops_rd_max_length);
        to.put_optional("iops_wr_max_length", &self.iops_wr_max_length);
        to.put_optional("iops_size", &self.iops_size);
        to.put_optional("group", &self.group);
        to.put_optional("dirty-bitmaps", &self.dirty_bitmaps);
        to.put_optional("children", &self.children);
        to.put_optional("encryption_key_missing", &self.encryption_key_missing);
    }
}
object_codec!(BlockDeviceInfo);

/// Arguments of `query-named-block-nodes`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryNamedBlockNodesArguments {
    /// Whether backing images are left out of each entry; not if absent.
    pub flat: Option<bool>,
}

impl Object for QueryNamedBlockNodesArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { flat: from.optional("flat")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("flat", &self.flat);
    }
}
object_codec!(QueryNamedBlockNodesArguments);

/// A device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockInfo {
    /// Its name.
    pub device: String,
    /// Path of the guest's device.
    pub qdev: Option<String>,
    /// Always "unknown".
    pub r#type: String,
    /// Whether its medium can be removed.
    pub removable: bool,
    /// Whether the guest has locked the medium in.
    pub locked: bool,
    /// The medium, if there is one.
    pub inserted: Option<BlockDeviceInfo>,
    /// Whether its tray is open, if it has one.
    pub tray_open: Option<bool>,
    /// How the last request ended, where the device stops at errors.
    pub io_status: Option<BlockDeviceIoStatus>,
    /// Those of the medium. QEMU had it up to version 5.2; told by a program that answers as QEMU 2.1 did.
    pub dirty_bitmaps: Option<Vec<BlockDirtyInfo>>,
}

impl Object for BlockInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.required("device")?,
            qdev: from.optional("qdev")?,
            r#type: from.required("type")?,
            removable: from.required("removable")?,
            locked: from.required("locked")?,
            inserted: from.optional("inserted")?,
            tray_open: from.optional("tray_open")?,
            io_status: from.optional("io-status")?,
            dirty_bitmaps: from.optional("dirty-bitmaps")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
        to.put_optional("qdev", &self.qdev);
        to.put("type", &self.r#type);
        to.put("removable", &self.removable);
        to.put("locked", &self.locked);
        to.put_optional("inserted", &self.inserted);
        to.put_optional("tray_open", &self.tray_open);
        to.put_optional("io-status", &self.io_status);
        to.put_optional("dirty-bitmaps", &self.dirty_bitmaps);
    }
}
object_codec!(BlockInfo);

/// The handlers of section `block-query`.
pub trait BlockQueryCommands: Send + Sync {
    /// Lists all nodes, the newest first.
    fn query_named_block_nodes(
        &self,
        arguments: QueryNamedBlockNodesArguments,
    ) -> impl Future<Output = Result<Vec<BlockDeviceInfo>, QmpError>> + Send;

    /// Lists all devices. A node without a device is not one.
    fn query_block(&self) -> impl Future<Output = Result<Vec<BlockInfo>, QmpError>> + Send;
}
