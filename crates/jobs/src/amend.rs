//! x-blockdev-amend: an image with other options of its format, or with other passphrases.
use crate::job::Job;
use crate::register::{JobError, JobRequest, Jobs};
use crate::work::Work;
use api::{BlockdevOnError, JobType};
use block::{
    Backend, BackendRequest, BlockError, CopyControl, Graph, Operations, Options, Perms, Result, Share,
};
use parking_lot::Mutex;
use rt::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why an amend did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AmendError {
    /// The request or its node is refused.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The job can't be made.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// Starts a change of an image by options of its driver. When it returns, the job runs; it waits to be dismissed.
pub async fn amend(
    graph: &Graph,
    jobs: &Jobs,
    id: String,
    node_name: &str,
    options: Options,
    force: bool,
) -> std::result::Result<(), AmendError> {
    jobs.check_id(&id)?;
    let node = graph.need_node(node_name)?;
    node.check_operation(Operations::JOB)?;
    let perms = Perms { need: Share::READ.union(Share::WRITE), share: Share::ALL };
    let request = BackendRequest { label: Job::entry_label(&id), node, perms, pinned: true };
    let entry = graph.attach(request).await?;
    let work = Amend { graph: graph.clone(), entry, options: Mutex::new(Some(options)), force };
    let job = JobRequest {
        id,
        kind: JobType::Amend,
        speed: 0,
        on_error: BlockdevOnError::Report,
        auto_finalize: true,
        auto_dismiss: false,
        group: None,
    };
    jobs.start(job, Box::new(work)).await?;
    Ok(())
}

struct Amend {
    graph: Graph,
    entry: Arc<Backend>,
    options: Mutex<Option<Options>>,
    force: bool,
}

impl Work for Amend {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            job.wait_to_start().await?;
            let done = AtomicU64::new(0);
            let progress = |part: u64, whole: u64| {
                job.set_len(whole);
                job.progressed(part.saturating_sub(done.swap(part, Relaxed)));
            };
            let options = self.options.lock().take().unwrap_or_default();
            self.graph.amend(&self.entry.node(), options, self.force, &progress).await?;
            progress(1, 1);
            Ok(())
        })
    }

    fn prepare<'a>(&'a self, _: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn end(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.graph.detach(&self.entry))
    }
}
