//! The work of a backup.
use super::check::Perf;
use crate::again::until_done;
use crate::job::Job;
use crate::ruled::{Ruled, Rules};
use crate::saved::Saved;
use crate::work::Work;
use api::{BitmapSyncMode, BlockdevOnError, Enumeration};
use block::{
    AfterError, Backend, BitmapSplit, Blocker, CopyControl, CopyError, CopyPlan, ErrorKind, Graph, Node,
    Perms, PointInTime, Result, copy,
};
use futures_util::future::select;
use parking_lot::Mutex;
use rt::BoxFuture;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

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
    /// Where what was copied is noted.
    pub(super) saved: Option<Saved>,
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
        let taken = until_done("taking a backup's filter away", || self.take_away(success)).await;
        taken.and(self.graph.detach(&self.entry).await)
    }

    async fn take_away(&self, success: bool) -> Result<()> {
        let mut change = self.graph.change().await;
        let taken = async {
            change.quiesce(&[self.source.clone(), self.filter.clone()]).await?;
            // What the last writers had copied away.
            if self.endless
                && let Err(error) = self.target.flush().await
            {
                tracing::warn!(node = self.target.name(), %error, "what was kept last is not durable");
            }
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

    /// Makes durable what is in the target.
    async fn flush(&self) -> Result<()> {
        let _inside = self.entry.stay().await?;
        self.target.flush().await
    }

    /// Copies the rest.
    async fn copy(&self, control: &Ruled<'_, Beside<'_>>) -> Result<()> {
        let notes = self.saved.as_ref().map(Saved::notes);
        let plan = CopyPlan { notes, ..self.disk.plan()? };
        let pieces = self.disk.pieces(self.entry.clone(), self.perf.chunk);
        copy(&Arc::new(plan), &pieces, self.perf.workers, control).await
    }

    /// Ends.
    async fn finish(&self, success: bool) {
        if let Err(error) = self.leave(success).await {
            tracing::warn!(node = self.filter.name(), %error, "ending a backup left a fault");
        }
        if let Some(saved) = &self.saved {
            saved.end(success).await;
        }
    }

    /// Keeps what is overwritten, until the job is cancelled.
    async fn keep(&self, job: &Job, control: &Ruled<'_, Beside<'_>>) -> Result<()> {
        loop {
            let news = self.disk.news();
            control.rules.tell(job);
            self.disk.check()?;
            job.pause_point().await?;
            select(pin!(job.idle(REST)), news).await;
            control.rules.tell(job);
        }
    }
}

impl Work for Backup {
    fn image(&self) -> Option<Arc<Node>> {
        Some(self.source.clone())
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let total = self.disk.left();
            job.set_len(total);
            let rules = Beside { backup: self, total, told: AtomicU64::new(0) };
            let control = Ruled { job, rules };
            if self.endless {
                let kept = self.keep(job, &control).await;
                // A long flush while guests still write, so that the one with the gates closed is short.
                return self.flush().await.and(kept);
            }
            let copied = match &self.saved {
                Some(saved) => saved.beside(&|| Box::pin(self.flush()), self.copy(&control)).await,
                None => self.copy(&control).await,
            };
            control.rules.tell(job);
            copied?;
            self.disk.check()?;
            self.flush().await?;
            // Clients of QEMU see it rest while requests are held back at its end.
            job.rest();
            Ok(())
        })
    }

    fn prepare<'a>(&'a self, _: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(self.disk.check()))
    }

    fn commit(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.finish(true))
    }

    fn abort(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.finish(false))
    }

    fn on_target_error(&self) -> Option<BlockdevOnError> {
        Some(self.on_target_error)
    }

    fn end(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// Writers copy too, so the job's progress is what is not left.
struct Beside<'b> {
    backup: &'b Backup,
    total: u64,
    told: AtomicU64,
}

impl Beside<'_> {
    fn tell(&self, job: &Job) {
        let done = self.total.saturating_sub(self.backup.disk.left());
        let told = self.told.fetch_max(done, Relaxed);
        job.progressed(done.saturating_sub(told));
    }
}

impl Rules for Beside<'_> {
    fn progressed(&self, job: &Job, _: u64) {
        self.tell(job);
    }

    fn on_error<'a>(&'a self, job: &'a Job, error: &'a CopyError) -> BoxFuture<'a, AfterError> {
        Box::pin(async move {
            // What was given up does not come back.
            if self.backup.disk.check().is_err() {
                return AfterError::Fail;
            }
            if error.error.kind() == ErrorKind::NoSpace && self.backup.entry.make_space().await {
                return AfterError::Retry;
            }
            job.on_error(error).await
        })
    }
}
