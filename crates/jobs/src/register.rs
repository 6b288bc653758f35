//! The register: all jobs by name, and what can be asked of them.
use crate::event::EventSink;
use crate::group::Group;
use crate::job::Job;
use crate::state::Verb;
use crate::work::Work;
use api::{BlockdevOnError, Enumeration, JobStatus, JobStatusChange, JobType, MirrorCopyMode};
use block::{BlockError, ErrorKind};
use futures_util::future::join_all;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use tracing::Instrument;

/// Most jobs at once, ended ones that wait for their dismissal included.
const MAX_JOBS: usize = 4096;

/// Why a job was not made, or did not accept a verb.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Asked through the verbs of block jobs.
    #[error("Block job '{0}' not found")]
    NoBlockJob(String),
    /// Asked through the verbs of all jobs.
    #[error("Job not found")]
    NoJob,
    /// Not in this status.
    #[error("Job '{id}' in state '{}' cannot accept command verb '{}'", status.name(), verb.name())]
    Verb {
        /// The job.
        id: String,
        /// Its status.
        status: JobStatus,
        /// What was asked.
        verb: Verb,
    },
    /// A second pause.
    #[error("Job is already paused")]
    AlreadyPaused,
    /// A resume without a pause.
    #[error("Can't resume a job that was not paused")]
    NotPaused,
    /// A soft cancel of a paused job.
    #[error("The block job for device '{0}' is currently paused")]
    CurrentlyPaused(String),
    /// It is ending another way already.
    #[error("The active block job '{0}' cannot be completed")]
    CannotComplete(String),
    /// There are no new jobs at the end of the program.
    #[error("the program is ending")]
    Ending,
    /// A negative rate limit.
    #[error("Parameter 'speed' expects a non-negative value")]
    NegativeSpeed,
    /// Nothing of it can be changed, or not so.
    #[error("Job '{id}' of type '{}' has no such options that can be changed", kind.name())]
    NoChange {
        /// The job.
        id: String,
        /// What it does.
        kind: JobType,
    },
    /// A mode that a job can't go back to.
    #[error("Change to copy mode '{}' is not implemented", .0.name())]
    CopyMode(MirrorCopyMode),
    /// Not a valid name.
    #[error("Invalid job ID '{0}'")]
    InvalidId(String),
    /// The name of another job.
    #[error("Job ID '{0}' already in use")]
    InUse(String),
    /// Too many.
    #[error("there are {MAX_JOBS} jobs already; dismiss some")]
    TooMany,
}

/// What a new job is made from.
pub struct JobRequest {
    /// Its name: letters, digits, `-`, `.`, `_`, a letter first.
    pub id: String,
    /// What it is.
    pub kind: JobType,
    /// Rate limit in bytes a second, 0 for none.
    pub speed: u64,
    /// What it does when a request fails.
    pub on_error: BlockdevOnError,
    /// Its result takes effect without `finalize`.
    pub auto_finalize: bool,
    /// It is dismissed by itself when it has ended.
    pub auto_dismiss: bool,
    /// Takes effect together with the jobs of this group; alone without one.
    pub group: Option<Group>,
}

/// All jobs; a handle, cheap to clone.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    jobs: Mutex<Vec<Arc<Job>>>,
    /// The program is ending: no job is made any more.
    ending: AtomicBool,
    sink: Arc<dyn EventSink>,
    /// Where the states of jobs are kept.
    states: OnceLock<PathBuf>,
}

/// Passes events on, and takes dismissed jobs off the list.
struct Listed {
    inner: std::sync::Weak<Inner>,
}

impl EventSink for Listed {
    fn tell(&self, event: api::Event) {
        let Some(inner) = self.inner.upgrade() else { return };
        if let api::Event::JobStatusChange(JobStatusChange { id, status: JobStatus::Null }) = &event {
            inner.jobs.lock().retain(|j| j.id() != id);
        }
        inner.sink.tell(event);
    }
}

impl Jobs {
    /// No jobs; events go to `sink`.
    pub fn new(sink: Arc<dyn EventSink>) -> Self {
        let (jobs, ending, states) = (Mutex::default(), AtomicBool::new(false), OnceLock::new());
        Self(Arc::new(Inner { jobs, ending, sink, states }))
    }

    /// Keeps in this directory what jobs have copied that can go on from there in another run of the program. A second
    /// one is refused.
    pub async fn keep_states_in(&self, dir: PathBuf) -> block::Result<()> {
        // A program that goes to the background changes its working directory.
        let dir = std::path::absolute(&dir).unwrap_or(dir);
        crate::saved::check_directory(&dir).await?;
        match self.0.states.set(dir) {
            Ok(()) => Ok(()),
            Err(_) => Err(block::BlockError::invalid("there is a directory for job states already")),
        }
    }

    /// Where the states of jobs are kept.
    pub(crate) fn states(&self) -> Option<&Path> {
        self.0.states.get().map(PathBuf::as_path)
    }

    /// Whether the program is ending.
    pub(crate) fn is_ending(&self) -> bool {
        self.0.ending.load(Relaxed)
    }

    /// All jobs, in the order they came.
    pub fn all(&self) -> Vec<Arc<Job>> {
        self.0.jobs.lock().clone()
    }

    /// The machine goes on: what jobs had stopped for is no longer told of them. They stay stopped until they are resumed.
    pub fn reset_io_status(&self) {
        self.all().iter().for_each(|job| job.reset_io_status());
    }

    /// The job of this name.
    pub fn find(&self, id: &str) -> Option<Arc<Job>> {
        self.0.jobs.lock().iter().find(|j| j.id() == id).cloned()
    }

    /// The job of this name; the error is that of `job-*` commands.
    pub fn need(&self, id: &str) -> Result<Arc<Job>, JobError> {
        self.find(id).ok_or(JobError::NoJob)
    }

    /// The job of this name; the error is that of `block-job-*` commands.
    pub fn need_block_job(&self, id: &str) -> Result<Arc<Job>, JobError> {
        self.find(id).filter(|job| job.is_block_job()).ok_or_else(|| JobError::NoBlockJob(id.to_owned()))
    }

    /// Whether a job of this name could be made now.
    pub fn check_id(&self, id: &str) -> Result<(), JobError> {
        if !well_formed(id) {
            return Err(JobError::InvalidId(id.to_owned()));
        }
        if self.find(id).is_some() {
            return Err(JobError::InUse(id.to_owned()));
        }
        Ok(())
    }

    /// The rate limit of a job that is about to be made, if it could be made now; a negative one refuses it.
    pub(crate) fn check_speed(&self, id: &str, speed: i64) -> Result<u64, JobError> {
        self.check_id(id)?;
        u64::try_from(speed).map_err(|_| {
            self.created_and_gone(id);
            JobError::NegativeSpeed
        })
    }

    /// A job is not made. If it is because others use its nodes, it was created and is gone, as clients know it.
    pub(crate) fn refused(&self, id: &str, error: &BlockError) {
        if error.kind() == ErrorKind::Busy {
            self.created_and_gone(id);
        }
    }

    fn created_and_gone(&self, id: &str) {
        for status in [JobStatus::Created, JobStatus::Null] {
            self.0.sink.tell(api::Event::JobStatusChange(JobStatusChange { id: id.to_owned(), status }));
        }
    }

    /// Makes a job and runs it. If the job can't be made, the work is ended.
    pub async fn start(&self, request: JobRequest, work: Box<dyn Work>) -> Result<Arc<Job>, JobError> {
        match self.add(request, work.as_ref()) {
            Ok(job) => {
                self.run(&job, work);
                Ok(job)
            }
            Err(e) => {
                if let Err(e) = work.end().await {
                    tracing::warn!(error = %e, "ending a job that was not made failed");
                }
                Err(e)
            }
        }
    }

    /// Runs a job that was made.
    pub(crate) fn run(&self, job: &Arc<Job>, work: Box<dyn Work>) {
        job.start();
        let span = tracing::info_span!("job", id = job.id());
        rt::spawn_on(rt::Target::Control, job.clone().drive(work).instrument(span)).detach();
    }

    /// Makes a job, which is to be run or given up then.
    pub(crate) fn add(&self, request: JobRequest, work: &dyn Work) -> Result<Arc<Job>, JobError> {
        let mut jobs = self.0.jobs.lock();
        if self.0.ending.load(Relaxed) {
            return Err(JobError::Ending);
        }
        if !well_formed(&request.id) {
            return Err(JobError::InvalidId(request.id));
        }
        if jobs.iter().any(|j| j.id() == request.id) {
            return Err(JobError::InUse(request.id));
        }
        if jobs.len() >= MAX_JOBS {
            return Err(JobError::TooMany);
        }
        let job = Job::new(request, work, Arc::new(Listed { inner: Arc::downgrade(&self.0) }));
        jobs.push(job.clone());
        Ok(job)
    }

    /// Makes the result of a pending job take effect, and waits until it has.
    pub async fn finalize(&self, id: &str) -> Result<(), JobError> {
        let job = self.need(id)?;
        job.finalize()?;
        job.concluded().await;
        Ok(())
    }

    /// Dismisses a job that has ended.
    pub fn dismiss(&self, id: &str) -> Result<(), JobError> {
        self.need(id)?.dismiss()
    }

    /// Cancels all jobs and waits for their ends: before the graph is closed. No job is made any more.
    pub async fn cancel_all(&self) {
        // Under the lock that a new job takes.
        let jobs = {
            let jobs = self.0.jobs.lock();
            self.0.ending.store(true, Relaxed);
            jobs.clone()
        };
        for job in &jobs {
            if let Err(e) = job.cancel(true) {
                tracing::debug!(job = job.id(), error = %e, "not cancelled: it is ending already");
            }
        }
        join_all(jobs.iter().map(|job| job.concluded())).await;
    }
}

fn well_formed(id: &str) -> bool {
    let mut chars = id.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}
