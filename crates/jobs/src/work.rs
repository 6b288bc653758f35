//! What a job does: three steps that its [`Job`] drives.
use crate::job::Job;
use block::Result;
use rt::BoxFuture;

/// The work of one kind of job.
///
/// `run` and `finish` end early with an error when the job is cancelled (their pause points tell). `end` comes once,
/// whatever went before.
pub trait Work: Send + Sync {
    /// The long part. When it returns, nothing has taken effect yet that a cancel could not leave as it is.
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>>;

    /// Makes the result take effect. When it returns, all of it is durable.
    fn finish<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>>;

    /// Gives back what the job held. A failure is a warning: the result is what `finish` made of it.
    fn end(&self) -> BoxFuture<'_, Result<()>>;
}
