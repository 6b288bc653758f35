//! A copy that a job rules: the job decides on pause, rate and errors, but for what one kind of job does its own way.
use crate::job::Job;
use block::{AfterError, CopyControl, CopyError, Result};
use rt::BoxFuture;

/// What a kind of job does its own way.
pub(crate) trait Rules: Send + Sync {
    /// So many bytes are done.
    fn progressed(&self, job: &Job, bytes: u64) {
        job.progressed(bytes);
    }

    /// Decides after an error.
    fn on_error<'a>(&'a self, job: &'a Job, error: &'a CopyError) -> BoxFuture<'a, AfterError>;
}

/// The control of a copy.
pub(crate) struct Ruled<'j, R> {
    pub(crate) job: &'j Job,
    pub(crate) rules: R,
}

impl<R: Rules> CopyControl for Ruled<'_, R> {
    fn on_hold(&self) -> bool {
        self.job.on_hold()
    }

    fn wait_to_start(&self) -> BoxFuture<'_, Result<()>> {
        self.job.wait_to_start()
    }

    fn started(&self, bytes: u64) {
        self.job.started(bytes);
    }

    fn progressed(&self, bytes: u64) {
        self.rules.progressed(self.job, bytes);
    }

    fn on_error<'a>(&'a self, error: &'a CopyError) -> BoxFuture<'a, AfterError> {
        self.rules.on_error(self.job, error)
    }
}
