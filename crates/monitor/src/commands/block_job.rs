//! Jobs: the verbs of both generations, queries, and block-commit.
use super::{failed, node_of_job};
use crate::control::Control;
use crate::generation::Generation;
use api::*;
use jobs::{CommitError, Job, JobError, Verb};

/// A refused verb as a QMP error.
fn refused(error: JobError) -> QmpError {
    match error {
        JobError::NoBlockJob(id) => QmpError::job_not_found(&id),
        other => failed(other),
    }
}

fn speed(speed: i64) -> Result<u64, QmpError> {
    u64::try_from(speed).map_err(|_| QmpError::generic("Parameter 'speed' expects a non-negative value"))
}

impl Control {
    /// Applies a `job-*` command.
    fn to_job(&self, id: &str, verb: impl FnOnce(&Job) -> Result<(), JobError>) -> Result<(), QmpError> {
        self.jobs().need(id).and_then(|job| verb(&job)).map_err(refused)
    }

    /// Applies a `block-job-*` command.
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
        Ok(self.jobs().all().iter().map(|job| job.info()).collect())
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
        Ok(self.jobs().all().iter().filter(|job| job.is_block_job()).map(|job| job.block_info()).collect())
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
        self.to_block_job(&arguments.device, |job| self.generation().of_verb(job.pause()))
    }

    async fn block_job_resume(&self, arguments: BlockJobResumeArguments) -> Result<(), QmpError> {
        self.to_block_job(&arguments.device, |job| self.generation().of_verb(job.resume()))
    }

    async fn block_job_complete(&self, arguments: BlockJobCompleteArguments) -> Result<(), QmpError> {
        let job = self.jobs().need_block_job(&arguments.device).map_err(refused)?;
        if self.generation() == Generation::First && job.status() == JobStatus::Standby {
            let text = format!("The active block job for device '{}' cannot be completed", arguments.device);
            return Err(QmpError::generic(text));
        }
        job.complete().map_err(refused)
    }

    async fn block_job_finalize(&self, arguments: BlockJobFinalizeArguments) -> Result<(), QmpError> {
        self.jobs().need_block_job(&arguments.id).map_err(refused)?;
        self.jobs().finalize(&arguments.id).await.map_err(refused)
    }

    async fn block_job_dismiss(&self, arguments: BlockJobDismissArguments) -> Result<(), QmpError> {
        self.jobs().need_block_job(&arguments.id).map_err(refused)?;
        self.jobs().dismiss(&arguments.id).map_err(refused)
    }

    async fn block_commit(&self, mut arguments: BlockCommitArguments) -> Result<(), QmpError> {
        let device = &arguments.device;
        // Before everything else: clients tell an unknown device by the class of the error.
        if self.graph().device(device).is_none() && self.graph().node(device).is_none() {
            return Err(QmpError::device_not_found(device));
        }
        let node = node_of_job(self.graph(), device, &mut arguments.job_id)?;
        node.name().clone_into(&mut arguments.device);
        jobs::commit(self.graph(), self.jobs(), arguments).await.map_err(|e| match e {
            CommitError::NoDevice(device) => QmpError::device_not_found(&device),
            other => failed(other),
        })
    }
}
