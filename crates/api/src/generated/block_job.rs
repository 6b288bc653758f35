// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Long-running work on nodes.

use crate::codec::*;
use crate::{Dict, QmpError};

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobType {
    /// Changes options of an image's format.
    Amend,
    /// Copies a disk as it was at one moment.
    Backup,
    /// Writes the data of a part of a chain into its base.
    Commit,
    /// Makes an image.
    Create,
    /// Copies a node and follows it.
    Mirror,
    /// Copies the data of lower images of a chain into an upper one.
    Stream,
}

impl Enumeration for JobType {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("amend", Self::Amend),
        ("backup", Self::Backup),
        ("commit", Self::Commit),
        ("create", Self::Create),
        ("mirror", Self::Mirror),
        ("stream", Self::Stream),
    ];
}
enumeration_codec!(JobType);

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobStatus {
    /// Not made yet.
    Undefined,
    /// Made, not started.
    Created,
    /// At work.
    Running,
    /// Stopped for a while.
    Paused,
    /// Has converged and goes on until it is completed.
    Ready,
    /// Ready, and stopped for a while.
    Standby,
    /// Its work is done; others of its group are not.
    Waiting,
    /// Waits to be finalized.
    Pending,
    /// Has failed or been cancelled and cleans up.
    Aborting,
    /// Has ended and waits to be dismissed.
    Concluded,
    /// Gone.
    Null,
}

impl Enumeration for JobStatus {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("undefined", Self::Undefined),
        ("created", Self::Created),
        ("running", Self::Running),
        ("paused", Self::Paused),
        ("ready", Self::Ready),
        ("standby", Self::Standby),
        ("waiting", Self::Waiting),
        ("pending", Self::Pending),
        ("aborting", Self::Aborting),
        ("concluded", Self::Concluded),
        ("null", Self::Null),
    ];
}
enumeration_codec!(JobStatus);

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobInfo {
    /// Its identifier.
    pub id: String,
    /// What it does.
    pub r#type: JobType,
    /// Where it stands.
    pub status: JobStatus,
    /// Work done, in the job's own unit.
    pub current_progress: i64,
    /// Estimate of all work, in the same unit; it may grow.
    pub total_progress: i64,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Object for JobInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: from.required("id")?,
            r#type: from.required("type")?,
            status: from.required("status")?,
            current_progress: from.required("current-progress")?,
            total_progress: from.required("total-progress")?,
            error: from.optional("error")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
        to.put("type", &self.r#type);
        to.put("status", &self.status);
        to.put("current-progress", &self.current_progress);
        to.put("total-progress", &self.total_progress);
        to.put_optional("error", &self.error);
    }
}
object_codec!(JobInfo);

/// Arguments of `job-pause`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobPauseArguments {
    /// The job.
    pub id: String,
}

impl Object for JobPauseArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(JobPauseArguments);

/// Arguments of `job-resume`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobResumeArguments {
    /// The job.
    pub id: String,
}

impl Object for JobResumeArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(JobResumeArguments);

/// Arguments of `job-cancel`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobCancelArguments {
    /// The job.
    pub id: String,
}

impl Object for JobCancelArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(JobCancelArguments);

/// Arguments of `job-complete`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobCompleteArguments {
    /// The job.
    pub id: String,
}

impl Object for JobCompleteArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(JobCompleteArguments);

/// Arguments of `job-finalize`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobFinalizeArguments {
    /// The job.
    pub id: String,
}

impl Object for JobFinalizeArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(JobFinalizeArguments);

/// Arguments of `job-dismiss`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobDismissArguments {
    /// The job.
    pub id: String,
}

impl Object for JobDismissArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(JobDismissArguments);

/// What to do at an I/O error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevOnError {
    /// Fail.
    Report,
    /// Go on as if nothing had happened.
    Ignore,
    /// Stop when space ran out, otherwise fail.
    Enospc,
    /// Stop until resumed.
    Stop,
    /// What the device's own setting says.
    Auto,
}

impl Enumeration for BlockdevOnError {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("report", Self::Report),
        ("ignore", Self::Ignore),
        ("enospc", Self::Enospc),
        ("stop", Self::Stop),
        ("auto", Self::Auto),
    ];
}
enumeration_codec!(BlockdevOnError);

/// How the last request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockDeviceIoStatus {
    /// Well.
    Ok,
    /// With an error.
    Failed,
    /// For want of space.
    Nospace,
}

impl Enumeration for BlockDeviceIoStatus {
    const VALUES: &'static [(&'static str, Self)] =
        &[("ok", Self::Ok), ("failed", Self::Failed), ("nospace", Self::Nospace)];
}
enumeration_codec!(BlockDeviceIoStatus);

/// A block job.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockJobInfo {
    /// What it does.
    pub r#type: JobType,
    /// Its identifier.
    pub device: String,
    /// Estimate of all work in bytes; it may grow.
    pub len: i64,
    /// Bytes done.
    pub offset: i64,
    /// Whether it is at work just now.
    pub busy: bool,
    /// Whether it is or will soon be paused.
    pub paused: bool,
    /// Its limit in bytes per second; 0 is none.
    pub speed: i64,
    /// How its last request ended.
    pub io_status: BlockDeviceIoStatus,
    /// Whether it can be completed.
    pub ready: bool,
    /// Where it stands.
    pub status: JobStatus,
    /// Whether it takes effect without being asked.
    pub auto_finalize: bool,
    /// Whether it is forgotten without being asked.
    pub auto_dismiss: bool,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Of a mirror: whether source and target are equal, and stay so with each write.
    pub actively_synced: Option<bool>,
}

impl Object for BlockJobInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            r#type: from.required("type")?,
            device: from.required("device")?,
            len: from.required("len")?,
            offset: from.required("offset")?,
            busy: from.required("busy")?,
            paused: from.required("paused")?,
            speed: from.required("speed")?,
            io_status: from.required("io-status")?,
            ready: from.required("ready")?,
            status: from.required("status")?,
            auto_finalize: from.required("auto-finalize")?,
            auto_dismiss: from.required("auto-dismiss")?,
            error: from.optional("error")?,
            actively_synced: from.optional("actively-synced")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type);
        to.put("device", &self.device);
        to.put("len", &self.len);
        to.put("offset", &self.offset);
        to.put("busy", &self.busy);
        to.put("paused", &self.paused);
        to.put("speed", &self.speed);
        to.put("io-status", &self.io_status);
        to.put("ready", &self.ready);
        to.put("status", &self.status);
        to.put("auto-finalize", &self.auto_finalize);
        to.put("auto-dismiss", &self.auto_dismiss);
        to.put_optional("error", &self.error);
        to.put_optional("actively-synced", &self.actively_synced);
    }
}
object_codec!(BlockJobInfo);

/// Arguments of `block-job-set-speed`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockJobSetSpeedArguments {
    /// The job.
    pub device: String,
    /// Bytes per second; 0 is no limit.
    pub speed: i64,
}

impl Object for BlockJobSetSpeedArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { device: from.required("device")?, speed: from.required("speed")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
        to.put("speed", &self.speed);
    }
}
object_codec!(BlockJobSetSpeedArguments);

/// Arguments of `block-job-cancel`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockJobCancelArguments {
    /// The job.
    pub device: String,
    /// End at once, also when paused or ready.
    pub force: Option<bool>,
}

impl Object for BlockJobCancelArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { device: from.required("device")?, force: from.optional("force")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
        to.put_optional("force", &self.force);
    }
}
object_codec!(BlockJobCancelArguments);

/// Arguments of `block-job-pause`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockJobPauseArguments {
    /// The job.
    pub device: String,
}

impl Object for BlockJobPauseArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { device: from.required("device")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
    }
}
object_codec!(BlockJobPauseArguments);

/// Arguments of `block-job-resume`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockJobResumeArguments {
    /// The job.
    pub device: String,
}

impl Object for BlockJobResumeArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { device: from.required("device")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
    }
}
object_codec!(BlockJobResumeArguments);

/// Arguments of `block-job-complete`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockJobCompleteArguments {
    /// The job.
    pub device: String,
}

impl Object for BlockJobCompleteArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { device: from.required("device")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("device", &self.device);
    }
}
object_codec!(BlockJobCompleteArguments);

/// Arguments of `block-job-finalize`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockJobFinalizeArguments {
    /// The job.
    pub id: String,
}

impl Object for BlockJobFinalizeArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(BlockJobFinalizeArguments);

/// Arguments of `block-job-dismiss`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockJobDismissArguments {
    /// The job.
    pub id: String,
}

impl Object for BlockJobDismissArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(BlockJobDismissArguments);

/// Arguments of `block-commit`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockCommitArguments {
    /// Identifier of the job; the device's name if absent.
    pub job_id: Option<String>,
    /// The device or root node of the chain.
    pub device: String,
    /// The node to write into; the last of the chain if absent.
    pub base_node: Option<String>,
    /// File name of that node's image.
    pub base: Option<String>,
    /// The topmost node whose data is written; the active one if absent.
    pub top_node: Option<String>,
    /// File name of that node's image.
    pub top: Option<String>,
    /// What the image above top gets as its backing file's name.
    pub backing_file: Option<String>,
    /// Whether the format stored beside that name is raw where base is a file of no format; it is
    /// the protocol's if absent.
    pub backing_mask_protocol: Option<bool>,
    /// Limit in bytes per second; 0 is none.
    pub speed: Option<i64>,
    /// What to do at an I/O error.
    pub on_error: Option<BlockdevOnError>,
    /// Name of the node that the job puts over the topmost node whose data is written.
    pub filter_node_name: Option<String>,
    /// Whether it takes effect without being asked; it does if absent.
    pub auto_finalize: Option<bool>,
    /// Whether it is forgotten without being asked; it is if absent.
    pub auto_dismiss: Option<bool>,
}

impl Object for BlockCommitArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            job_id: from.optional("job-id")?,
            device: from.required("device")?,
            base_node: from.optional("base-node")?,
            base: from.optional("base")?,
            top_node: from.optional("top-node")?,
            top: from.optional("top")?,
            backing_file: from.optional("backing-file")?,
            backing_mask_protocol: from.optional("backing-mask-protocol")?,
            speed: from.optional("speed")?,
            on_error: from.optional("on-error")?,
            filter_node_name: from.optional("filter-node-name")?,
            auto_finalize: from.optional("auto-finalize")?,
            auto_dismiss: from.optional("auto-dismiss")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("job-id", &self.job_id);
        to.put("device", &self.device);
        to.put_optional("base-node", &self.base_node);
        to.put_optional("base", &self.base);
        to.put_optional("top-node", &self.top_node);
        to.put_optional("top", &self.top);
        to.put_optional("backing-file", &self.backing_file);
        to.put_optional("backing-mask-protocol", &self.backing_mask_protocol);
        to.put_optional("speed", &self.speed);
        to.put_optional("on-error", &self.on_error);
        to.put_optional("filter-node-name", &self.filter_node_name);
        to.put_optional("auto-finalize", &self.auto_finalize);
        to.put_optional("auto-dismiss", &self.auto_dismiss);
    }
}
object_codec!(BlockCommitArguments);

/// The handlers of section `block-job`.
pub trait BlockJobCommands: Send + Sync {
    /// Lists all jobs.
    fn query_jobs(&self) -> impl Future<Output = Result<Vec<JobInfo>, QmpError>> + Send;

    /// Stops a job for a while.
    fn job_pause(&self, arguments: JobPauseArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lets a paused job go on.
    fn job_resume(&self, arguments: JobResumeArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Makes a job end at once, without its effect.
    fn job_cancel(&self, arguments: JobCancelArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Makes a ready job end with its effect.
    fn job_complete(
        &self,
        arguments: JobCompleteArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lets a pending job, and its group, take effect.
    fn job_finalize(
        &self,
        arguments: JobFinalizeArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Forgets a concluded job.
    fn job_dismiss(
        &self,
        arguments: JobDismissArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lists the jobs that work on a device or node.
    fn query_block_jobs(&self) -> impl Future<Output = Result<Vec<BlockJobInfo>, QmpError>> + Send;

    /// Limits the speed of a job.
    fn block_job_set_speed(
        &self,
        arguments: BlockJobSetSpeedArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Makes a job end. One that is ready ends well, without switching over, unless forced.
    fn block_job_cancel(
        &self,
        arguments: BlockJobCancelArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Stops a job for a while.
    fn block_job_pause(
        &self,
        arguments: BlockJobPauseArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lets a paused job go on and clears its error.
    fn block_job_resume(
        &self,
        arguments: BlockJobResumeArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Makes a ready job switch over and end.
    fn block_job_complete(
        &self,
        arguments: BlockJobCompleteArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lets a pending job, and its group, take effect.
    fn block_job_finalize(
        &self,
        arguments: BlockJobFinalizeArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Forgets a concluded job.
    fn block_job_dismiss(
        &self,
        arguments: BlockJobDismissArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Writes what the images between base and top (included) hold into base. If top is the active image, the job becomes
    /// ready and waits to be completed; base is the active image then.
    fn block_commit(
        &self,
        arguments: BlockCommitArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
