//! What a job does: the steps that its [`Job`] drives.
use crate::job::Job;
use block::Result;
use rt::BoxFuture;

/// The work of one kind of job.
///
/// ```text
/// run ─▶ prepare ─┬─ all jobs of the group are prepared ─▶ commit ─┬─▶ end
///                 └─ one of them failed, or was cancelled ─▶ abort ┘
/// ```
///
/// `run` and `prepare` end early with an error when the job is cancelled (their pause points tell). `end` comes once,
/// whatever went before.
pub trait Work: Send + Sync {
    /// The long part. When it returns, nothing has taken effect yet that a cancel could not leave as it is.
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>>;

    /// Everything about the result that can fail. A job that is alone may let it take effect here, all of it durable
    /// when this returns; one that can be a member of a larger group leaves that to `commit`.
    fn prepare<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>>;

    /// Makes what was prepared take effect. It can't fail.
    fn commit(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Takes back what was done: the job, or another of its group, failed or was cancelled.
    fn abort(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Gives back what the job held. A failure is a warning: the result is what went before.
    fn end(&self) -> BoxFuture<'_, Result<()>>;
}
