//! The work of a backup.
use super::check::Perf;
use crate::job::Job;
use crate::work::Work;
use api::{BitmapSyncMode, BlockdevOnError, Enumeration};
use block::{
    AfterError, Backend, BitmapSplit, Blocker, CopyControl, CopyError, ErrorKind, Graph, Node, Perms,
    PointInTime, Result, copy,
};
use futures_util::future::select;
use parking_lot::Mutex;
use rt::BoxFuture;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long a change that could not close the gates waits before it tries again.
const RETRY: Duration = Duration::from_secs(1);

/// How long a job that only keeps what is overwritten rests, if nothing is.
const REST: Duration = Duration::from_secs(3600);

/// A backup.
pub(super) struct Backup {
    pub(super) graph: Graph,
    pub(super) source: Arc<Node>,
    pub(super) target: Arc<Node>,
    pub(super) filter: Arc<Node>,
    /// The job's, above the filter.
    pub(super) entry: Arc<Backend>,
    pub(super) disk: Arc<PointInTime>,
    /// It copies what is overwritten, and nothing else, until it is cancelled.
    pub(super) endless: bool,
    pub(super) perf: Perf,
    pub(super) on_target_error: BlockdevOnError,
    pub(super) outcome: Outcome,
}

/// What is held until the job ends.
pub(super) struct Outcome(Mutex<Option<Held>>);

struct Held {
    bitmap: Option<(BitmapSplit, BitmapSyncMode)>,
    _blockers: Vec<Blocker>,
}

impl Outcome {
    pub(super) fn new(bitmap: Option<(BitmapSplit, BitmapSyncMode)>, blockers: Vec<Blocker>) -> Self {
        Self(Mutex::new(Some(Held { bitmap, _blockers: blockers })))
    }

    /// As if nothing had begun.
    pub(super) fn forget(&self) {
        drop(self.0.lock().take());
    }

    /// What becomes of the bitmap, with nobody inside the source. What it holds is given back.
    fn settle(&self, success: bool, disk: &PointInTime) {
        let Some(Held { bitmap, .. }) = self.0.lock().take() else { return };
        let Some((split, mode)) = bitmap else { return };
        tracing::debug!(success, mode = mode.name(), "a bitmap is one again");
        match (mode, success) {
            (BitmapSyncMode::OnSuccess | BitmapSyncMode::Always, true) => split.renew(None),
            (BitmapSyncMode::Always, false) => split.renew(Some(disk.uncopied())),
            // It takes back what was recorded apart.
            (BitmapSyncMode::OnSuccess, false) | (BitmapSyncMode::Never, _) => drop(split),
        }
    }
}

impl Backup {
    /// Takes the filter away; gives up the target.
    async fn leave(&self, success: bool) -> Result<()> {
        loop {
            match self.take_away(success).await {
                Err(e) if e.kind() == ErrorKind::Timeout => {
                    tracing::warn!(node = self.filter.name(), error = %e, "taking a backup's filter away is tried again");
                    rt::sleep(RETRY).await;
                }
                other => return other.and(self.graph.detach(&self.entry).await),
            }
        }
    }

    async fn take_away(&self, success: bool) -> Result<()> {
        let mut change = self.graph.change().await;
        let taken = async {
            change.quiesce(&[self.source.clone(), self.filter.clone()]).await?;
            change.set_perms(&self.entry, Perms::IDLE);
            change.take_out_filter(&self.filter).await?;
            change.settle()
        };
        let taken = taken.await;
        if taken.is_ok() {
            self.outcome.settle(success, &self.disk);
        }
        change.end(taken).await
    }

    /// Keeps what is overwritten, until the job is cancelled.
    async fn keep(&self, job: &Job, control: &Control<'_>) -> Result<()> {
        loop {
            let news = self.disk.news();
            control.tell();
            self.disk.check()?;
            job.pause_point().await?;
            select(pin!(job.idle(REST)), news).await;
            control.tell();
        }
    }
}

impl Work for Backup {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let total = self.disk.left();
            job.set_len(total);
            let control = Control { job, backup: self, total, told: AtomicU64::new(0) };
            if self.endless {
                return self.keep(job, &control).await;
            }
            let pieces = self.disk.pieces(self.entry.clone(), self.perf.chunk);
            let copied = copy(&Arc::new(self.disk.plan()?), &pieces, self.perf.workers, &control).await;
            control.tell();
            copied?;
            self.disk.check()?;
            let _inside = self.entry.stay().await?;
            self.target.flush().await
        })
    }

    fn prepare<'a>(&'a self, _: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(self.disk.check()))
    }

    fn commit(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Err(error) = self.leave(true).await {
                tracing::warn!(node = self.filter.name(), %error, "ending a backup left a fault");
            }
        })
    }

    fn abort(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Err(error) = self.leave(false).await {
                tracing::warn!(node = self.filter.name(), %error, "ending a backup left a fault");
            }
        })
    }

    fn on_target_error(&self) -> Option<BlockdevOnError> {
        Some(self.on_target_error)
    }

    fn end(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// The job as the ruler of its copy: writers copy too, so its progress is what is not left.
struct Control<'a> {
    job: &'a Job,
    backup: &'a Backup,
    total: u64,
    told: AtomicU64,
}

impl Control<'_> {
    fn tell(&self) {
        let done = self.total.saturating_sub(self.backup.disk.left());
        let told = self.told.fetch_max(done, Relaxed);
        self.job.progressed(done.saturating_sub(told));
    }
}

impl CopyControl for Control<'_> {
    fn on_hold(&self) -> bool {
        self.job.on_hold()
    }

    fn wait_to_start(&self) -> BoxFuture<'_, Result<()>> {
        self.job.wait_to_start()
    }

    fn started(&self, bytes: u64) {
        self.job.started(bytes);
    }

    fn progressed(&self, _: u64) {
        self.tell();
    }

    fn on_error<'a>(&'a self, error: &'a CopyError) -> BoxFuture<'a, AfterError> {
        Box::pin(async move {
            // What was given up does not come back.
            if self.backup.disk.check().is_err() {
                return AfterError::Fail;
            }
            if error.error.kind() == ErrorKind::NoSpace && self.backup.entry.make_space().await {
                return AfterError::Retry;
            }
            self.job.on_error(error).await
        })
    }
}
