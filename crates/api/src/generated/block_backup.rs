// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Backups: a disk as it was at one moment, copied or shown while it goes on changing.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// What becomes of a write whose old content could not be copied away before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum OnCbwError {
    /// It fails.
    BreakGuestWrite,
    /// It goes on. The old disk can't be read or copied any more.
    BreakSnapshot,
}

impl Enumeration for OnCbwError {
    const VALUES: &'static [(&'static str, Self)] =
        &[("break-guest-write", Self::BreakGuestWrite), ("break-snapshot", Self::BreakSnapshot)];
}
enumeration_codec!(OnCbwError);

/// How a copy-before-write filter keeps what its disk was.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CbwOptions {
    /// Only what is dirty in this bitmap, at the time when the filter is added, is kept; everything if absent.
    pub bitmap: Option<BlockDirtyBitmap>,
    /// What becomes of a write whose old content could not be copied away; it fails if absent.
    pub on_cbw_error: Option<OnCbwError>,
    /// Seconds that a write waits for such a copy at most, until that is an error; 0, or if absent: as long as it
    /// takes.
    pub cbw_timeout: Option<u32>,
    /// Least bytes that are copied together, a power of two; at least 65536, and a cluster of the target.
    pub min_cluster_size: Option<Size>,
}

impl Object for CbwOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            bitmap: from.optional("bitmap")?,
            on_cbw_error: from.optional("on-cbw-error")?,
            cbw_timeout: from.optional("cbw-timeout")?,
            min_cluster_size: from.optional("min-cluster-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("bitmap", &self.bitmap);
        to.put_optional("on-cbw-error", &self.on_cbw_error);
        to.put_optional("cbw-timeout", &self.cbw_timeout);
        to.put_optional("min-cluster-size", &self.min_cluster_size);
    }
}
object_codec!(CbwOptions);

/// A filter that copies to another node what is about to change.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsCbw {
    /// Only what is dirty in this bitmap, at the time when the filter is added, is kept; everything if absent.
    pub bitmap: Option<BlockDirtyBitmap>,
    /// What becomes of a write whose old content could not be copied away; it fails if absent.
    pub on_cbw_error: Option<OnCbwError>,
    /// Seconds that a write waits for such a copy at most, until that is an error; 0, or if absent: as long as it
    /// takes.
    pub cbw_timeout: Option<u32>,
    /// Least bytes that are copied together, a power of two; at least 65536, and a cluster of the target.
    pub min_cluster_size: Option<Size>,
    /// The disk.
    pub file: BlockdevRef,
    /// Where old content goes.
    pub target: BlockdevRef,
}

impl Object for BlockdevOptionsCbw {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            bitmap: from.optional("bitmap")?,
            on_cbw_error: from.optional("on-cbw-error")?,
            cbw_timeout: from.optional("cbw-timeout")?,
            min_cluster_size: from.optional("min-cluster-size")?,
            file: from.required("file")?,
            target: from.required("target")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("bitmap", &self.bitmap);
        to.put_optional("on-cbw-error", &self.on_cbw_error);
        to.put_optional("cbw-timeout", &self.cbw_timeout);
        to.put_optional("min-cluster-size", &self.min_cluster_size);
        to.put("file", &self.file);
        to.put("target", &self.target);
    }
}
object_codec!(BlockdevOptionsCbw);

/// What becomes of a job's bitmap when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BitmapSyncMode {
    /// After success it holds what was written since the job began; else it is as if there had been no job.
    OnSuccess,
    /// It is as if there had been no job.
    Never,
    /// It holds what was written since the job began, and what was not copied.
    Always,
}

impl Enumeration for BitmapSyncMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("on-success", Self::OnSuccess), ("never", Self::Never), ("always", Self::Always)];
}
enumeration_codec!(BitmapSyncMode);

/// How a backup uses the machine.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BackupPerf {
    /// Whether the host may copy by itself. A hint; not used.
    pub use_copy_range: Option<bool>,
    /// Most copies at a time; 64 if absent. A smaller number of them is kept anyway, to bound memory.
    pub max_workers: Option<i64>,
    /// Most bytes of one copy; 0 or absent: as suits.
    pub max_chunk: Option<i64>,
    /// Least bytes that are copied together, a power of two.
    pub min_cluster_size: Option<Size>,
}

impl Object for BackupPerf {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            use_copy_range: from.optional("use-copy-range")?,
            max_workers: from.optional("max-workers")?,
            max_chunk: from.optional("max-chunk")?,
            min_cluster_size: from.optional("min-cluster-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("use-copy-range", &self.use_copy_range);
        to.put_optional("max-workers", &self.max_workers);
        to.put_optional("max-chunk", &self.max_chunk);
        to.put_optional("min-cluster-size", &self.min_cluster_size);
    }
}
object_codec!(BackupPerf);

/// What all backups have.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupCommon {
    /// Identifier of the job; the device's name if absent.
    pub job_id: Option<String>,
    /// The device or node that is copied.
    pub device: String,
    /// What of it is copied.
    pub sync: MirrorSyncMode,
    /// Limit in bytes per second; 0 is none. What is copied because it is about to be overwritten is not limited.
    pub speed: Option<i64>,
    /// A dirty bitmap of the device. It says what is copied, with the modes that need one; with others it is set up anew for
    /// the next backup.
    pub bitmap: Option<String>,
    /// What becomes of the bitmap at the end.
    pub bitmap_mode: Option<BitmapSyncMode>,
    /// Whether data are stored compressed, where the target can; not if absent.
    pub compress: Option<bool>,
    /// What to do when the source can't be read; the job fails if absent.
    pub on_source_error: Option<BlockdevOnError>,
    /// What to do when the target can't be written; the job fails if absent.
    pub on_target_error: Option<BlockdevOnError>,
    /// What becomes of a write whose old content could not be copied away; it fails if absent.
    pub on_cbw_error: Option<OnCbwError>,
    /// Whether it takes effect without being asked; it does if absent.
    pub auto_finalize: Option<bool>,
    /// Whether it is forgotten without being asked; it is if absent.
    pub auto_dismiss: Option<bool>,
    /// Name of the filter that is above the device as long as the job runs.
    pub filter_node_name: Option<String>,
    /// Whether what was copied is discarded in the source: for a source that is a snapshot; not if absent.
    pub discard_source: Option<bool>,
    /// How it uses the machine.
    pub x_perf: Option<BackupPerf>,
}

impl Object for BackupCommon {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            job_id: from.optional("job-id")?,
            device: from.required("device")?,
            sync: from.required("sync")?,
            speed: from.optional("speed")?,
            bitmap: from.optional("bitmap")?,
            bitmap_mode: from.optional("bitmap-mode")?,
            compress: from.optional("compress")?,
            on_source_error: from.optional("on-source-error")?,
            on_target_error: from.optional("on-target-error")?,
            on_cbw_error: from.optional("on-cbw-error")?,
            auto_finalize: from.optional("auto-finalize")?,
            auto_dismiss: from.optional("auto-dismiss")?,
            filter_node_name: from.optional("filter-node-name")?,
            discard_source: from.optional("discard-source")?,
            x_perf: from.optional("x-perf")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("job-id", &self.job_id);
        to.put("device", &self.device);
        to.put("sync", &self.sync);
        to.put_optional("speed", &self.speed);
        to.put_optional("bitmap", &self.bitmap);
        to.put_optional("bitmap-mode", &self.bitmap_mode);
        to.put_optional("compress", &self.compress);
        to.put_optional("on-source-error", &self.on_source_error);
        to.put_optional("on-target-error", &self.on_target_error);
        to.put_optional("on-cbw-error", &self.on_cbw_error);
        to.put_optional("auto-finalize", &self.auto_finalize);
        to.put_optional("auto-dismiss", &self.auto_dismiss);
        to.put_optional("filter-node-name", &self.filter_node_name);
        to.put_optional("discard-source", &self.discard_source);
        to.put_optional("x-perf", &self.x_perf);
    }
}
object_codec!(BackupCommon);

/// A backup into an image.
#[derive(Debug, Clone, PartialEq)]
pub struct DriveBackup {
    /// Identifier of the job; the device's name if absent.
    pub job_id: Option<String>,
    /// The device or node that is copied.
    pub device: String,
    /// What of it is copied.
    pub sync: MirrorSyncMode,
    /// Limit in bytes per second; 0 is none. What is copied because it is about to be overwritten is not limited.
    pub speed: Option<i64>,
    /// A dirty bitmap of the device. It says what is copied, with the modes that need one; with others it is set up anew for
    /// the next backup.
    pub bitmap: Option<String>,
    /// What becomes of the bitmap at the end.
    pub bitmap_mode: Option<BitmapSyncMode>,
    /// Whether data are stored compressed, where the target can; not if absent.
    pub compress: Option<bool>,
    /// What to do when the source can't be read; the job fails if absent.
    pub on_source_error: Option<BlockdevOnError>,
    /// What to do when the target can't be written; the job fails if absent.
    pub on_target_error: Option<BlockdevOnError>,
    /// What becomes of a write whose old content could not be copied away; it fails if absent.
    pub on_cbw_error: Option<OnCbwError>,
    /// Whether it takes effect without being asked; it does if absent.
    pub auto_finalize: Option<bool>,
    /// Whether it is forgotten without being asked; it is if absent.
    pub auto_dismiss: Option<bool>,
    /// Name of the filter that is above the device as long as the job runs.
    pub filter_node_name: Option<String>,
    /// Whether what was copied is discarded in the source: for a source that is a snapshot; not if absent.
    pub discard_source: Option<bool>,
    /// How it uses the machine.
    pub x_perf: Option<BackupPerf>,
    /// File name of the image.
    pub target: String,
    /// Its format; if absent, that of the device, or of an existing image what it looks like.
    pub format: Option<String>,
    /// Whether it is there already; it is made if absent.
    pub mode: Option<NewImageMode>,
}

impl Object for DriveBackup {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            job_id: from.optional("job-id")?,
            device: from.required("device")?,
            sync: from.required("sync")?,
            speed: from.optional("speed")?,
            bitmap: from.optional("bitmap")?,
            bitmap_mode: from.optional("bitmap-mode")?,
            compress: from.optional("compress")?,
            on_source_error: from.optional("on-source-error")?,
            on_target_error: from.optional("on-target-error")?,
            on_cbw_error: from.optional("on-cbw-error")?,
            auto_finalize: from.optional("auto-finalize")?,
            auto_dismiss: from.optional("auto-dismiss")?,
            filter_node_name: from.optional("filter-node-name")?,
            discard_source: from.optional("discard-source")?,
            x_perf: from.optional("x-perf")?,
            target: from.required("target")?,
            format: from.optional("format")?,
            mode: from.optional("mode")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("job-id", &self.job_id);
        to.put("device", &self.device);
        to.put("sync", &self.sync);
        to.put_optional("speed", &self.speed);
        to.put_optional("bitmap", &self.bitmap);
        to.put_optional("bitmap-mode", &self.bitmap_mode);
        to.put_optional("compress", &self.compress);
        to.put_optional("on-source-error", &self.on_source_error);
        to.put_optional("on-target-error", &self.on_target_error);
        to.put_optional("on-cbw-error", &self.on_cbw_error);
        to.put_optional("auto-finalize", &self.auto_finalize);
        to.put_optional("auto-dismiss", &self.auto_dismiss);
        to.put_optional("filter-node-name", &self.filter_node_name);
        to.put_optional("discard-source", &self.discard_source);
        to.put_optional("x-perf", &self.x_perf);
        to.put("target", &self.target);
        to.put_optional("format", &self.format);
        to.put_optional("mode", &self.mode);
    }
}
object_codec!(DriveBackup);

/// A backup into a node.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevBackup {
    /// Identifier of the job; the device's name if absent.
    pub job_id: Option<String>,
    /// The device or node that is copied.
    pub device: String,
    /// What of it is copied.
    pub sync: MirrorSyncMode,
    /// Limit in bytes per second; 0 is none. What is copied because it is about to be overwritten is not limited.
    pub speed: Option<i64>,
    /// A dirty bitmap of the device. It says what is copied, with the modes that need one; with others it is set up anew for
    /// the next backup.
    pub bitmap: Option<String>,
    /// What becomes of the bitmap at the end.
    pub bitmap_mode: Option<BitmapSyncMode>,
    /// Whether data are stored compressed, where the target can; not if absent.
    pub compress: Option<bool>,
    /// What to do when the source can't be read; the job fails if absent.
    pub on_source_error: Option<BlockdevOnError>,
    /// What to do when the target can't be written; the job fails if absent.
    pub on_target_error: Option<BlockdevOnError>,
    /// What becomes of a write whose old content could not be copied away; it fails if absent.
    pub on_cbw_error: Option<OnCbwError>,
    /// Whether it takes effect without being asked; it does if absent.
    pub auto_finalize: Option<bool>,
    /// Whether it is forgotten without being asked; it is if absent.
    pub auto_dismiss: Option<bool>,
    /// Name of the filter that is above the device as long as the job runs.
    pub filter_node_name: Option<String>,
    /// Whether what was copied is discarded in the source: for a source that is a snapshot; not if absent.
    pub discard_source: Option<bool>,
    /// How it uses the machine.
    pub x_perf: Option<BackupPerf>,
    /// The node.
    pub target: String,
}

impl Object for BlockdevBackup {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            job_id: from.optional("job-id")?,
            device: from.required("device")?,
            sync: from.required("sync")?,
            speed: from.optional("speed")?,
            bitmap: from.optional("bitmap")?,
            bitmap_mode: from.optional("bitmap-mode")?,
            compress: from.optional("compress")?,
            on_source_error: from.optional("on-source-error")?,
            on_target_error: from.optional("on-target-error")?,
            on_cbw_error: from.optional("on-cbw-error")?,
            auto_finalize: from.optional("auto-finalize")?,
            auto_dismiss: from.optional("auto-dismiss")?,
            filter_node_name: from.optional("filter-node-name")?,
            discard_source: from.optional("discard-source")?,
            x_perf: from.optional("x-perf")?,
            target: from.required("target")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("job-id", &self.job_id);
        to.put("device", &self.device);
        to.put("sync", &self.sync);
        to.put_optional("speed", &self.speed);
        to.put_optional("bitmap", &self.bitmap);
        to.put_optional("bitmap-mode", &self.bitmap_mode);
        to.put_optional("compress", &self.compress);
        to.put_optional("on-source-error", &self.on_source_error);
        to.put_optional("on-target-error", &self.on_target_error);
        to.put_optional("on-cbw-error", &self.on_cbw_error);
        to.put_optional("auto-finalize", &self.auto_finalize);
        to.put_optional("auto-dismiss", &self.auto_dismiss);
        to.put_optional("filter-node-name", &self.filter_node_name);
        to.put_optional("discard-source", &self.discard_source);
        to.put_optional("x-perf", &self.x_perf);
        to.put("target", &self.target);
    }
}
object_codec!(BlockdevBackup);

/// The handlers of section `block-backup`.
pub trait BlockBackupCommands: Send + Sync {
    /// Copies a device, as it is now, into an image, while it goes on changing.
    ///
    /// Features:
    fn drive_backup(&self, arguments: DriveBackup) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Copies a device, as it is now, into a node, while it goes on changing.
    fn blockdev_backup(&self, arguments: BlockdevBackup)
    -> impl Future<Output = Result<(), QmpError>> + Send;
}
