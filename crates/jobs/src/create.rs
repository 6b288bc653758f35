//! blockdev-create: an image that is made while everything else goes on.
use crate::job::Job;
use crate::register::{JobError, JobRequest, Jobs};
use crate::work::Work;
use api::{BlockdevOnError, JobType};
use block::{CopyControl, Graph, Options, Result};
use parking_lot::Mutex;
use rt::BoxFuture;

/// Starts to make an image of a driver by options ([`Graph::create_described`]). When it returns, the job runs; it waits to
/// be dismissed. Whatever is wrong with the options is the job's error.
pub async fn create(
    graph: &Graph,
    jobs: &Jobs,
    id: String,
    driver: String,
    options: Options,
) -> std::result::Result<(), JobError> {
    let work = Making { graph: graph.clone(), driver, options: Mutex::new(Some(options)) };
    let job = JobRequest {
        id,
        kind: JobType::Create,
        speed: 0,
        on_error: BlockdevOnError::Report,
        auto_finalize: true,
        auto_dismiss: false,
        group: None,
    };
    jobs.start(job, Box::new(work)).await.map(drop)
}

struct Making {
    graph: Graph,
    driver: String,
    options: Mutex<Option<Options>>,
}

impl Work for Making {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            job.set_len(1);
            job.wait_to_start().await?;
            let options = self.options.lock().take().unwrap_or_default();
            let made = self.graph.create_described(&self.driver, options).await;
            job.progressed(1);
            made
        })
    }

    fn prepare<'a>(&'a self, _: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn end(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}
