// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Mirrors: copies of a node that follow it while it is in use.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// What a copy begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MirrorSyncMode {
    /// What the topmost image holds by itself.
    Top,
    /// Everything.
    Full,
    /// Nothing; only what is written from then on is copied.
    None,
    /// What a dirty bitmap says.
    Incremental,
    /// What a dirty bitmap says; what becomes of the bitmap is said too.
    Bitmap,
}

impl Enumeration for MirrorSyncMode {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("top", Self::Top),
        ("full", Self::Full),
        ("none", Self::None),
        ("incremental", Self::Incremental),
        ("bitmap", Self::Bitmap),
    ];
}
enumeration_codec!(MirrorSyncMode);

/// When what is written to the source reaches the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MirrorCopyMode {
    /// Some time later.
    Background,
    /// Before the write is acknowledged.
    WriteBlocking,
}

impl Enumeration for MirrorCopyMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("background", Self::Background), ("write-blocking", Self::WriteBlocking)];
}
enumeration_codec!(MirrorCopyMode);

/// Arguments of `blockdev-mirror`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevMirrorArguments {
    /// Identifier of the job; the device's name if absent.
    pub job_id: Option<String>,
    /// The device or root node that is copied.
    pub device: String,
    /// The node that is written to. It has the same size.
    pub target: String,
    /// The node whose users move to the target, if that is not the source: a node that it shows unchanged.
    pub replaces: Option<String>,
    /// What the copy begins with.
    pub sync: MirrorSyncMode,
    /// Limit in bytes per second; 0 is none.
    pub speed: Option<i64>,
    /// Unit in bytes, a power of 2 from 512 to 64 MiB, in which changes are tracked. If absent or 0, the
    /// target's cluster size, but no less than 4 KiB and no more than 64 KiB.
    pub granularity: Option<u32>,
    /// Most bytes in flight.
    pub buf_size: Option<i64>,
    /// What to do when reading fails; report if absent.
    pub on_source_error: Option<BlockdevOnError>,
    /// What to do when writing fails; report if absent.
    pub on_target_error: Option<BlockdevOnError>,
    /// Name of the job's own node above the source.
    pub filter_node_name: Option<String>,
    /// When what is written reaches the target; background if absent.
    pub copy_mode: Option<MirrorCopyMode>,
    /// Whether it takes effect without being asked; it does if absent.
    pub auto_finalize: Option<bool>,
    /// Whether it is forgotten without being asked; it is if absent.
    pub auto_dismiss: Option<bool>,
    /// Says that the target reads as zeroes, so that zeroes need not be written to it at first.
    pub target_is_zero: Option<bool>,
}

impl Object for BlockdevMirrorArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            job_id: from.optional("job-id")?,
            device: from.required("device")?,
            target: from.required("target")?,
            replaces: from.optional("replaces")?,
            sync: from.required("sync")?,
            speed: from.optional("speed")?,
            granularity: from.optional("granularity")?,
            buf_size: from.optional("buf-size")?,
            on_source_error: from.optional("on-source-error")?,
            on_target_error: from.optional("on-target-error")?,
            filter_node_name: from.optional("filter-node-name")?,
            copy_mode: from.optional("copy-mode")?,
            auto_finalize: from.optional("auto-finalize")?,
            auto_dismiss: from.optional("auto-dismiss")?,
            target_is_zero: from.optional("target-is-zero")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("job-id", &self.job_id);
        to.put("device", &self.device);
        to.put("target", &self.target);
        to.put_optional("replaces", &self.replaces);
        to.put("sync", &self.sync);
        to.put_optional("speed", &self.speed);
        to.put_optional("granularity", &self.granularity);
        to.put_optional("buf-size", &self.buf_size);
        to.put_optional("on-source-error", &self.on_source_error);
        to.put_optional("on-target-error", &self.on_target_error);
        to.put_optional("filter-node-name", &self.filter_node_name);
        to.put_optional("copy-mode", &self.copy_mode);
        to.put_optional("auto-finalize", &self.auto_finalize);
        to.put_optional("auto-dismiss", &self.auto_dismiss);
        to.put_optional("target-is-zero", &self.target_is_zero);
    }
}
object_codec!(BlockdevMirrorArguments);

/// A mirror to an image that is named by its file.
#[derive(Debug, Clone, PartialEq)]
pub struct DriveMirror {
    /// Identifier of the job; the device's name if absent.
    pub job_id: Option<String>,
    /// The device or root node that is copied.
    pub device: String,
    /// The file of the image that is written to.
    pub target: String,
    /// Its format. If absent, the source's for a new image; that of an existing one is found.
    pub format: Option<String>,
    /// Name of its node.
    pub node_name: Option<String>,
    /// The node whose users move to the target, if that is not the source: a node that it shows unchanged. The
    /// target needs a node name then.
    pub replaces: Option<String>,
    /// What the copy begins with.
    pub sync: MirrorSyncMode,
    /// Whether the image is made; it is if absent.
    pub mode: Option<NewImageMode>,
    /// Limit in bytes per second; 0 is none.
    pub speed: Option<i64>,
    /// Unit in bytes, a power of 2 from 512 to 64 MiB, in which changes are tracked. If absent or 0, the
    /// target's cluster size, but no less than 4 KiB and no more than 64 KiB.
    pub granularity: Option<u32>,
    /// Most bytes in flight.
    pub buf_size: Option<i64>,
    /// What to do when reading fails; report if absent.
    pub on_source_error: Option<BlockdevOnError>,
    /// What to do when writing fails; report if absent.
    pub on_target_error: Option<BlockdevOnError>,
    /// Whether the target may give up space where the source has zeroes; it may if absent.
    pub unmap: Option<bool>,
    /// When what is written reaches the target; background if absent.
    pub copy_mode: Option<MirrorCopyMode>,
    /// Whether it takes effect without being asked; it does if absent.
    pub auto_finalize: Option<bool>,
    /// Whether it is forgotten without being asked; it is if absent.
    pub auto_dismiss: Option<bool>,
}

impl Object for DriveMirror {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            job_id: from.optional("job-id")?,
            device: from.required("device")?,
            target: from.required("target")?,
            format: from.optional("format")?,
            node_name: from.optional("node-name")?,
            replaces: from.optional("replaces")?,
            sync: from.required("sync")?,
            mode: from.optional("mode")?,
            speed: from.optional("speed")?,
            granularity: from.optional("granularity")?,
            buf_size: from.optional("buf-size")?,
            on_source_error: from.optional("on-source-error")?,
            on_target_error: from.optional("on-target-error")?,
            unmap: from.optional("unmap")?,
            copy_mode: from.optional("copy-mode")?,
            auto_finalize: from.optional("auto-finalize")?,
            auto_dismiss: from.optional("auto-dismiss")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("job-id", &self.job_id);
        to.put("device", &self.device);
        to.put("target", &self.target);
        to.put_optional("format", &self.format);
        to.put_optional("node-name", &self.node_name);
        to.put_optional("replaces", &self.replaces);
        to.put("sync", &self.sync);
        to.put_optional("mode", &self.mode);
        to.put_optional("speed", &self.speed);
        to.put_optional("granularity", &self.granularity);
        to.put_optional("buf-size", &self.buf_size);
        to.put_optional("on-source-error", &self.on_source_error);
        to.put_optional("on-target-error", &self.on_target_error);
        to.put_optional("unmap", &self.unmap);
        to.put_optional("copy-mode", &self.copy_mode);
        to.put_optional("auto-finalize", &self.auto_finalize);
        to.put_optional("auto-dismiss", &self.auto_dismiss);
    }
}
object_codec!(DriveMirror);

/// Which job is changed.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockJobChangeOptionsBase {
    /// The job.
    pub id: String,
    /// What it does.
    pub r#type: JobType,
}

impl Object for BlockJobChangeOptionsBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")?, r#type: from.required("type")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
        to.put("type", &self.r#type);
    }
}
object_codec!(BlockJobChangeOptionsBase);

/// What can be changed of a mirror.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockJobChangeOptionsMirror {
    /// When what is written reaches the target: only from background to write-blocking.
    pub copy_mode: MirrorCopyMode,
}

impl Object for BlockJobChangeOptionsMirror {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { copy_mode: from.required("copy-mode")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("copy-mode", &self.copy_mode);
    }
}
object_codec!(BlockJobChangeOptionsMirror);

/// The part of [`BlockJobChangeOptions`] that depends on `type`.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockJobChangeOptionsBranch {
    /// `amend`.
    Amend,
    /// `backup`.
    Backup,
    /// `commit`.
    Commit,
    /// `create`.
    Create,
    /// `mirror`.
    Mirror(BlockJobChangeOptionsMirror),
    /// `stream`.
    Stream,
}

impl BlockJobChangeOptionsBranch {
    /// The value of `type` that goes with this branch.
    pub fn r#type(&self) -> JobType {
        match self {
            Self::Amend => JobType::Amend,
            Self::Backup => JobType::Backup,
            Self::Commit => JobType::Commit,
            Self::Create => JobType::Create,
            Self::Mirror(_) => JobType::Mirror,
            Self::Stream => JobType::Stream,
        }
    }

    fn take_branch(tag: JobType, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            JobType::Amend => Self::Amend,
            JobType::Backup => Self::Backup,
            JobType::Commit => Self::Commit,
            JobType::Create => Self::Create,
            JobType::Mirror => Self::Mirror(Object::take(from)?),
            JobType::Stream => Self::Stream,
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Amend => {}
            Self::Backup => {}
            Self::Commit => {}
            Self::Create => {}
            Self::Mirror(inner) => inner.put(to),
            Self::Stream => {}
        }
    }
}

/// A change of a job; only mirrors have something to be changed.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockJobChangeOptions {
    /// The job.
    pub id: String,
    /// What depends on `type`.
    pub branch: BlockJobChangeOptionsBranch,
}

impl Object for BlockJobChangeOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let id = from.required("id")?;
        let tag = from.required("type")?;
        let branch = BlockJobChangeOptionsBranch::take_branch(tag, from)?;
        Ok(Self { id, branch })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
        to.put("type", &self.branch.r#type());
        self.branch.put_branch(to);
    }
}
object_codec!(BlockJobChangeOptions);

/// The handlers of section `block-mirror`.
pub trait BlockMirrorCommands: Send + Sync {
    /// Copies a node to another one, follows what is written to it, and, when completed, lets all its users move to the
    /// other one.
    fn blockdev_mirror(
        &self,
        arguments: BlockdevMirrorArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Copies a node to an image, which it may make, follows what is written to it, and, when completed, lets all its users
    /// move to the image.
    fn drive_mirror(&self, arguments: DriveMirror) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Changes a job while it runs.
    fn block_job_change(
        &self,
        arguments: BlockJobChangeOptions,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
