//! What a job does: the steps that its [`Job`] drives.
use crate::copy_mode::CopyMode;
use crate::job::Job;
use api::BlockdevOnError;
use block::{Node, Result};
use rt::BoxFuture;
use std::sync::Arc;

/// The work of one kind of job.
///
/// ```text
/// run ─▶ prepare ─┬─ all jobs of the group are prepared ─▶ commit ─┬─▶ end
///                 └─ one of them failed, or was cancelled ─▶ abort ┘
/// ```
///
/// `run` and `prepare` end early with an error when the job is cancelled (their pause points return it). `end` comes once,
/// whatever went before.
pub trait Work: Send + Sync {
    /// The long part. What it has done when it returns may stay as it is after a cancel, or is undone by `abort`.
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>>;

    /// Everything about the result that can fail. A job that is alone may let it take effect here, all of it durable
    /// when this returns; one that can be a member of a larger group leaves that to `commit`.
    fn prepare<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>>;

    /// Makes what was prepared take effect. It can't fail.
    fn commit(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Undoes what was done: the job, or another of its group, failed or was cancelled.
    fn abort(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// What it does when writing fails, where that is not what it does when reading fails.
    fn on_target_error(&self) -> Option<BlockdevOnError> {
        None
    }

    /// The image for whose user it works: it copies that, or takes what is below into it, or into one another.
    fn image(&self) -> Option<Arc<Node>> {
        None
    }

    /// How it copies, where that can be changed while it runs.
    fn copy_mode(&self) -> Option<Arc<CopyMode>> {
        None
    }

    /// Releases what the job held. A failure is only a warning: it does not change the job's result.
    fn end(&self) -> BoxFuture<'_, Result<()>>;
}
