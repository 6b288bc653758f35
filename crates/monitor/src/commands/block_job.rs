//! Jobs: the verbs of both generations, queries, and block-commit.
use super::failed;
use crate::control::Control;
use crate::events::{int, job_status};
use api::*;
use jobs::{CommitError, CommitRequest, Job, JobError, JobSnapshot, OnError, Verb};

/// A refused verb in QMP's words.
fn refused(error: JobError) -> QmpError {
    match error {
        JobError::NoBlockJob(id) => QmpError::job_not_found(&id),
        other => failed(other),
    }
}

fn speed(speed: i64) -> Result<u64, QmpError> {
    u64::try_from(speed).map_err(|_| QmpError::generic("Parameter 'speed' expects a non-negative value"))
}

fn kind(job: &JobSnapshot) -> JobType {
    match job.kind {
        jobs::JobKind::Commit => JobType::Commit,
    }
}

fn job_info(job: &Job) -> JobInfo {
    let job = job.snapshot();
    JobInfo {
        r#type: kind(&job),
        status: job_status(job.status),
        current_progress: int(job.offset),
        total_progress: int(job.len),
        error: job.error,
        id: job.id,
    }
}

fn block_job_info(job: &Job) -> BlockJobInfo {
    let job = job.snapshot();
    BlockJobInfo {
        r#type: kind(&job),
        len: int(job.len),
        offset: int(job.offset),
        busy: job.busy,
        paused: job.paused,
        speed: int(job.speed),
        io_status: match job.io_status {
            jobs::IoStatus::Ok => BlockDeviceIoStatus::Ok,
            jobs::IoStatus::Failed => BlockDeviceIoStatus::Failed,
            jobs::IoStatus::NoSpace => BlockDeviceIoStatus::Nospace,
        },
        ready: job.ready,
        status: job_status(job.status),
        auto_finalize: job.auto_finalize,
        auto_dismiss: job.auto_dismiss,
        error: job.error,
        device: job.id,
    }
}

fn on_error(policy: Option<BlockdevOnError>) -> OnError {
    match policy {
        None | Some(BlockdevOnError::Report) => OnError::Report,
        Some(BlockdevOnError::Ignore) => OnError::Ignore,
        Some(BlockdevOnError::Enospc | BlockdevOnError::Auto) => OnError::Enospc,
        Some(BlockdevOnError::Stop) => OnError::Stop,
    }
}

impl Control {
    /// Does something to a job named by the verbs of all jobs.
    fn to_job(&self, id: &str, verb: impl FnOnce(&Job) -> Result<(), JobError>) -> Result<(), QmpError> {
        self.jobs().need(id).and_then(|job| verb(&job)).map_err(refused)
    }

    /// Does something to a job named by the verbs of block jobs.
    fn to_block_job(
        &self,
        id: &str,
        verb: impl FnOnce(&Job) -> Result<(), JobError>,
    ) -> Result<(), QmpError> {
        self.jobs().need_block_job(id).and_then(|job| verb(&job)).map_err(refused)
    }
}

impl BlockJobCommands for Control {
    async fn query_jobs(&self) -> Result<Vec<JobInfo>, QmpError> {
        Ok(self.jobs().all().iter().map(|job| job_info(job)).collect())
    }

    async fn job_pause(&self, arguments: JobPauseArguments) -> Result<(), QmpError> {
        self.to_job(&arguments.id, Job::pause)
    }

    async fn job_resume(&self, arguments: JobResumeArguments) -> Result<(), QmpError> {
        self.to_job(&arguments.id, Job::resume)
    }

    async fn job_cancel(&self, arguments: JobCancelArguments) -> Result<(), QmpError> {
        self.to_job(&arguments.id, |job| job.cancel(true))
    }

    async fn job_complete(&self, arguments: JobCompleteArguments) -> Result<(), QmpError> {
        self.to_job(&arguments.id, Job::complete)
    }

    async fn job_finalize(&self, arguments: JobFinalizeArguments) -> Result<(), QmpError> {
        self.jobs().finalize(&arguments.id).await.map_err(refused)
    }

    async fn job_dismiss(&self, arguments: JobDismissArguments) -> Result<(), QmpError> {
        self.jobs().dismiss(&arguments.id).map_err(refused)
    }

    async fn query_block_jobs(&self) -> Result<Vec<BlockJobInfo>, QmpError> {
        Ok(self.jobs().all().iter().map(|job| block_job_info(job)).collect())
    }

    async fn block_job_set_speed(&self, arguments: BlockJobSetSpeedArguments) -> Result<(), QmpError> {
        let BlockJobSetSpeedArguments { device, speed: bytes } = arguments;
        let job = self.jobs().need_block_job(&device).map_err(refused)?;
        job.accepts(Verb::SetSpeed).map_err(refused)?;
        job.set_speed(speed(bytes)?).map_err(refused)
    }

    async fn block_job_cancel(&self, arguments: BlockJobCancelArguments) -> Result<(), QmpError> {
        self.to_block_job(&arguments.device, |job| job.cancel(arguments.force.unwrap_or(false)))
    }

    async fn block_job_pause(&self, arguments: BlockJobPauseArguments) -> Result<(), QmpError> {
        self.to_block_job(&arguments.device, Job::pause)
    }

    async fn block_job_resume(&self, arguments: BlockJobResumeArguments) -> Result<(), QmpError> {
        self.to_block_job(&arguments.device, Job::resume)
    }

    async fn block_job_complete(&self, arguments: BlockJobCompleteArguments) -> Result<(), QmpError> {
        self.to_block_job(&arguments.device, Job::complete)
    }

    async fn block_job_finalize(&self, arguments: BlockJobFinalizeArguments) -> Result<(), QmpError> {
        self.jobs().need_block_job(&arguments.id).map_err(refused)?;
        self.jobs().finalize(&arguments.id).await.map_err(refused)
    }

    async fn block_job_dismiss(&self, arguments: BlockJobDismissArguments) -> Result<(), QmpError> {
        self.jobs().need_block_job(&arguments.id).map_err(refused)?;
        self.jobs().dismiss(&arguments.id).map_err(refused)
    }

    async fn block_commit(&self, arguments: BlockCommitArguments) -> Result<(), QmpError> {
        // Before everything else: clients tell an unknown device by the class of the error.
        if self.graph().node(&arguments.device).is_none() {
            return Err(QmpError::device_not_found(&arguments.device));
        }
        let request = CommitRequest {
            job_id: arguments.job_id,
            device: arguments.device,
            base_node: arguments.base_node,
            base: arguments.base,
            top_node: arguments.top_node,
            top: arguments.top,
            backing_file: arguments.backing_file,
            mask_protocol: arguments.backing_mask_protocol.unwrap_or(false),
            filter_node_name: arguments.filter_node_name,
            speed: speed(arguments.speed.unwrap_or(0))?,
            on_error: on_error(arguments.on_error),
            auto_finalize: arguments.auto_finalize.unwrap_or(true),
            auto_dismiss: arguments.auto_dismiss.unwrap_or(true),
        };
        jobs::commit(self.graph(), self.jobs(), request).await.map_err(|e| match e {
            CommitError::NoDevice(device) => QmpError::device_not_found(&device),
            other => failed(other),
        })
    }
}
