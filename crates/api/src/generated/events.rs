// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What the server tells without being asked.

use super::*;
use crate::Dict;
use crate::codec::*;

/// Data of event `JOB_STATUS_CHANGE`.
///
/// A job has moved on.
#[derive(Debug, Clone, PartialEq)]
pub struct JobStatusChange {
    /// The job.
    pub id: String,
    /// Where it stands now.
    pub status: JobStatus,
}

impl Object for JobStatusChange {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")?, status: from.required("status")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
        to.put("status", &self.status);
    }
}
object_codec!(JobStatusChange);

/// Data of event `BLOCK_JOB_COMPLETED`.
///
/// A block job has ended, well or with an error.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockJobCompleted {
    /// What it did.
    pub r#type: JobType,
    /// The job.
    pub device: String,
    /// All its work in bytes.
    pub len: i64,
    /// Bytes done.
    pub offset: i64,
    /// Its limit in bytes per second.
    pub speed: i64,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Object for BlockJobCompleted {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            r#type: from.required("type")?,
            device: from.required("device")?,
            len: from.required("len")?,
            offset: from.required("offset")?,
            speed: from.required("speed")?,
            error: from.optional("error")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type);
        to.put("device", &self.device);
        to.put("len", &self.len);
        to.put("offset", &self.offset);
        to.put("speed", &self.speed);
        to.put_optional("error", &self.error);
    }
}
object_codec!(BlockJobCompleted);

/// Data of event `BLOCK_JOB_CANCELLED`.
///
/// A block job has been cancelled.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockJobCancelled {
    /// What it did.
    pub r#type: JobType,
    /// The job.
    pub device: String,
    /// All its work in bytes.
    pub len: i64,
    /// Bytes done.
    pub offset: i64,
    /// Its limit in bytes per second.
    pub speed: i64,
}

impl Object for BlockJobCancelled {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            r#type: from.required("type")?,
            device: from.required("device")?,
            len: from.required("len")?,
            offset: from.required("offset")?,
            speed: from.required("speed")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type);
        to.put("device", &self.device);
        to.put("len", &self.len);
        to.put("offset", &self.offset);
        to.put("speed", &self.speed);
    }
}
object_codec!(BlockJobCancelled);

/// Directions of I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IoOperationType {
    /// From the disk.
    Read,
    /// To the disk.
    Write,
}

impl Enumeration for IoOperationType {
    const VALUES: &'static [(&'static str, Self)] = &[("read", Self::Read), ("write", Self::Write)];
}
enumeration_codec!(IoOperationType);

/// What was done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockErrorAction {
    /// Nothing.
    Ignore,
    /// The request, or the job, fails.
    Report,
    /// Work has stopped until it is resumed.
    Stop,
}

impl Enumeration for BlockErrorAction {
    const VALUES: &'static [(&'static str, Self)] =
        &[("ignore", Self::Ignore), ("report", Self::Report), ("stop", Self::Stop)];
}
enumeration_codec!(BlockErrorAction);

/// Data of event `BLOCK_JOB_ERROR`.
///
/// A block job has met an I/O error.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockJobError {
    /// The job.
    pub device: String,
    /// What failed.
    pub operation: IoOperationType,
    /// What is done about it.
    pub action: BlockErrorAction,
}

impl Object for BlockJobError {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.required("device")?,
            operation: from.required("operation")?,
            action: from.required("action")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
        to.put("operation", &self.operation);
        to.put("action", &self.action);
    }
}
object_codec!(BlockJobError);

/// Data of event `BLOCK_JOB_READY`.
///
/// A block job can be completed.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockJobReady {
    /// What it does.
    pub r#type: JobType,
    /// The job.
    pub device: String,
    /// All its work in bytes.
    pub len: i64,
    /// Bytes done.
    pub offset: i64,
    /// Its limit in bytes per second.
    pub speed: i64,
}

impl Object for BlockJobReady {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            r#type: from.required("type")?,
            device: from.required("device")?,
            len: from.required("len")?,
            offset: from.required("offset")?,
            speed: from.required("speed")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type);
        to.put("device", &self.device);
        to.put("len", &self.len);
        to.put("offset", &self.offset);
        to.put("speed", &self.speed);
    }
}
object_codec!(BlockJobReady);

/// Data of event `BLOCK_JOB_PENDING`.
///
/// A block job waits to be finalized.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockJobPending {
    /// What it does.
    pub r#type: JobType,
    /// The job.
    pub id: String,
}

impl Object for BlockJobPending {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { r#type: from.required("type")?, id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type);
        to.put("id", &self.id);
    }
}
object_codec!(BlockJobPending);

/// Data of event `BLOCK_EXPORT_DELETED`.
///
/// An export is gone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockExportDeleted {
    /// The export.
    pub id: String,
}

impl Object for BlockExportDeleted {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(BlockExportDeleted);

/// Data of event `BLOCK_IO_ERROR`.
///
/// A request of a device or export has failed.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockIoError {
    /// Path of the device; empty for an export.
    pub qom_path: String,
    /// Name of the device; empty if it has none.
    pub device: String,
    /// The node.
    pub node_name: Option<String>,
    /// What failed.
    pub operation: IoOperationType,
    /// What is done about it.
    pub action: BlockErrorAction,
    /// Whether space ran out.
    pub nospace: Option<bool>,
    /// The error, for people.
    pub reason: String,
}

impl Object for BlockIoError {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            qom_path: from.required("qom-path")?,
            device: from.required("device")?,
            node_name: from.optional("node-name")?,
            operation: from.required("operation")?,
            action: from.required("action")?,
            nospace: from.optional("nospace")?,
            reason: from.required("reason")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("qom-path", &self.qom_path);
        to.put("device", &self.device);
        to.put_optional("node-name", &self.node_name);
        to.put("operation", &self.operation);
        to.put("action", &self.action);
        to.put_optional("nospace", &self.nospace);
        to.put("reason", &self.reason);
    }
}
object_codec!(BlockIoError);

/// Data of event `BLOCK_IMAGE_CORRUPTED`.
///
/// An image is damaged.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockImageCorrupted {
    /// Name of the device; empty if it has none.
    pub device: String,
    /// The node.
    pub node_name: Option<String>,
    /// What is wrong, for people.
    pub msg: String,
    /// Where in the file, in bytes.
    pub offset: Option<i64>,
    /// How many bytes.
    pub size: Option<i64>,
    /// Whether the image can't be used any further.
    pub fatal: bool,
}

impl Object for BlockImageCorrupted {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.required("device")?,
            node_name: from.optional("node-name")?,
            msg: from.required("msg")?,
            offset: from.optional("offset")?,
            size: from.optional("size")?,
            fatal: from.required("fatal")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
        to.put_optional("node-name", &self.node_name);
        to.put("msg", &self.msg);
        to.put_optional("offset", &self.offset);
        to.put_optional("size", &self.size);
        to.put("fatal", &self.fatal);
    }
}
object_codec!(BlockImageCorrupted);

/// Data of event `BLOCK_WRITE_THRESHOLD`.
///
/// A write went beyond the threshold of a node, which is none from now on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockWriteThreshold {
    /// The node.
    pub node_name: String,
    /// By how many bytes its end lies beyond the threshold.
    pub amount_exceeded: u64,
    /// The threshold in bytes.
    pub write_threshold: u64,
}

impl Object for BlockWriteThreshold {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node_name: from.required("node-name")?,
            amount_exceeded: from.required("amount-exceeded")?,
            write_threshold: from.required("write-threshold")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node-name", &self.node_name);
        to.put("amount-exceeded", &self.amount_exceeded);
        to.put("write-threshold", &self.write_threshold);
    }
}
object_codec!(BlockWriteThreshold);

/// What a quorum does with its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuorumOpType {
    /// Reads.
    Read,
    /// Writes, also zeroes.
    Write,
    /// Makes durable what was written.
    Flush,
}

impl Enumeration for QuorumOpType {
    const VALUES: &'static [(&'static str, Self)] =
        &[("read", Self::Read), ("write", Self::Write), ("flush", Self::Flush)];
}
enumeration_codec!(QuorumOpType);

/// Data of event `QUORUM_FAILURE`.
///
/// Too few children of a quorum agree: a request has failed. At most one in a second.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QuorumFailure {
    /// The device, or else the node.
    pub reference: String,
    /// The first sector of 512 bytes that the request was about.
    pub sector_num: i64,
    /// How many sectors.
    pub sectors_count: i64,
}

impl Object for QuorumFailure {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            reference: from.required("reference")?,
            sector_num: from.required("sector-num")?,
            sectors_count: from.required("sectors-count")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("reference", &self.reference);
        to.put("sector-num", &self.sector_num);
        to.put("sectors-count", &self.sectors_count);
    }
}
object_codec!(QuorumFailure);

/// Data of event `QUORUM_REPORT_BAD`.
///
/// A child of a quorum has failed, or was outvoted. At most one in a second for each child.
#[derive(Debug, Clone, PartialEq)]
pub struct QuorumReportBad {
    /// What was done.
    pub r#type: QuorumOpType,
    /// Why it failed; absent where it was outvoted.
    pub error: Option<String>,
    /// The child.
    pub node_name: String,
    /// The first sector of 512 bytes that the request was about.
    pub sector_num: i64,
    /// How many sectors.
    pub sectors_count: i64,
}

impl Object for QuorumReportBad {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            r#type: from.required("type")?,
            error: from.optional("error")?,
            node_name: from.required("node-name")?,
            sector_num: from.required("sector-num")?,
            sectors_count: from.required("sectors-count")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type);
        to.put_optional("error", &self.error);
        to.put("node-name", &self.node_name);
        to.put("sector-num", &self.sector_num);
        to.put("sectors-count", &self.sectors_count);
    }
}
object_codec!(QuorumReportBad);
