//! Commit of the active layer, while it is in use.
//!
//! ```text
//!   dirty bitmap on the active layer ◀── every guest write, before it is acknowledged
//!        │ data of the layers above the base are marked as well
//!        ▼
//!   passes of copying ─▶ ready ─▶ passes … complete ─▶ little left · flush │ gates closed: rest · flush · swap
//! ```
//!
//! Laws:
//! - a bit is taken before its chunk is read, and the chunk is not in flight twice: what was written during a copy is
//!   copied again, so base equals active when the gates are closed and the bitmap is clean;
//! - the swap comes last; everything is durable before the job's end is reported.
use super::PARALLEL;
use super::hold::Hold;
use crate::job::Job;
use crate::work::Work;
use block::{
    AfterError, BlockError, CopyControl, CopyError, CopyPlan, DirtyBitmap, DirtyPieces, Endpoint, ErrorKind,
    GraphChange, Hook, Result, copy,
};
use rt::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// Granularity of the bitmap in bytes, on disks of up to [`MAX_BITS`] chunks of this size.
const GRANULARITY: u64 = 65536;

/// Most bits of the bitmap: 32 MiB of memory; larger disks get a coarser one.
const MAX_BITS: u64 = 1 << 28;

/// Most dirty bytes that are left to be copied with the gates closed.
const NEAR: u64 = 4 << 20;

/// How often a ready job looks for dirty chunks.
const LOOK: Duration = Duration::from_millis(50);

/// How long a switch-over that could not close the gates waits before it tries again.
const RETRY: Duration = Duration::from_secs(1);

/// An active commit.
pub(super) struct ActiveCommit {
    hold: Hold,
    plan: Arc<CopyPlan>,
    /// The copy with the gates closed: directly at the nodes.
    inner: Arc<CopyPlan>,
    bitmap: Arc<DirtyBitmap>,
}

impl ActiveCommit {
    /// Begins to track the active layer's writes.
    pub(super) async fn begin(hold: Hold) -> Result<Self> {
        let length = hold.top.length();
        let granularity = GRANULARITY.max((length / MAX_BITS).next_power_of_two());
        let bitmap = Arc::new(DirtyBitmap::new(length, granularity));
        let plan = |source, target| Arc::new(CopyPlan::above(&hold.base, source, target));
        let through = plan(Endpoint::Entry(hold.source.clone()), Endpoint::Entry(hold.target.clone()));
        let inner = plan(Endpoint::Inner(hold.top.clone()), Endpoint::Inner(hold.base.clone()));
        if let Err(e) = watch(&hold, &bitmap).await {
            give_back(&hold).await;
            return Err(e);
        }
        Ok(Self { hold, plan: through, inner, bitmap })
    }

    /// Marks the data that the layers above the base hold.
    async fn mark_allocated(&self, job: &Job) -> Result<()> {
        let (mut at, end) = (0, self.bitmap_end());
        while at < end {
            job.pause_point().await?;
            let status = self.hold.source.status_above(at, end - at, &self.hold.base).await?;
            if status.allocated {
                self.bitmap.mark(at, status.len);
            }
            at += status.len;
        }
        job.set_remaining(self.bitmap.dirty_bytes());
        Ok(())
    }

    fn bitmap_end(&self) -> u64 {
        self.hold.top.length()
    }

    /// One pass of copying. Whether source and target are almost in sync.
    async fn copy_dirty(&self, job: &Job) -> Result<bool> {
        let (before, failures) = (self.bitmap.dirty_bytes(), job.failures());
        copy(&self.plan, &DirtyPieces::new(self.bitmap.clone()), PARALLEL, job).await?;
        let left = self.bitmap.dirty_bytes();
        job.set_remaining(left);
        // Chunks that a guest keeps writing don't keep the job from becoming ready; chunks that could not be copied do.
        Ok(left == 0 || (before.max(left) <= NEAR && failures == job.failures()))
    }

    /// With the gates closed: copies the rest and makes it durable; then, unless the job ends in place, all users move to
    /// the base.
    async fn switch_over(&self, job: &Job) -> Result<()> {
        let mut change = self.hold.graph.change().await;
        let switched = self.switch(&mut change, job).await;
        if change.end(switched).await? {
            self.hold.filter.is_out();
            self.hold.base_stays_writable();
        }
        Ok(())
    }

    /// The steps of the switch-over. Whether all users moved.
    async fn switch(&self, change: &mut GraphChange<'_>, job: &Job) -> Result<bool> {
        let Hold { top, base, .. } = &self.hold;
        change.quiesce(&[top.clone(), base.clone()]).await?;
        let left = self.bitmap.dirty_bytes();
        copy(&self.inner, &DirtyPieces::new(self.bitmap.clone()), PARALLEL, &AtOnce).await?;
        job.progressed(left);
        job.set_remaining(0);
        base.flush().await?;
        if !self.bitmap.is_clean() {
            return Err(BlockError::new(
                ErrorKind::Io,
                format!(
                    "'{}' changed while its users were held back; the commit is given up, and it stays the active layer",
                    top.name()
                ),
            ));
        }
        if job.ends_in_place() {
            return Ok(false);
        }
        self.hold.hand_over(change).await?;
        Ok(true)
    }
}

impl Work for ActiveCommit {
    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.mark_allocated(job).await?;
            loop {
                let in_step = self.copy_dirty(job).await?;
                if in_step && !job.is_ready() {
                    self.hold.target.flush().await?;
                    job.ready();
                }
                if in_step && job.shall_end() {
                    return Ok(());
                }
                if self.bitmap.is_clean() {
                    job.idle(LOOK).await;
                }
                job.pause_point().await?;
            }
        })
    }

    fn prepare<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            loop {
                while !self.copy_dirty(job).await? {
                    job.pause_point().await?;
                }
                // A long flush while guests still write, so that the one with the gates closed is short.
                self.hold.target.flush().await?;
                job.pause_point().await?;
                match self.switch_over(job).await {
                    Err(e) if e.kind() == ErrorKind::Timeout => {
                        tracing::warn!(job = job.id(), error = %e, "the switch-over is tried again");
                        job.idle(RETRY).await;
                    }
                    other => return other,
                }
            }
        })
    }

    fn end(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut change = self.hold.graph.change().await;
            // Nobody needs to wait: what the bitmap still hears, nobody looks at.
            change.remove_hook(&self.hold.top, Hook::After(self.bitmap.clone()));
            let unwatched = change.end(Ok(())).await;
            unwatched.and(self.hold.give_back().await)
        })
    }
}

/// From here on `bitmap` is marked by every write to the top.
async fn watch(hold: &Hold, bitmap: &Arc<DirtyBitmap>) -> Result<()> {
    let mut change = hold.graph.change().await;
    change.quiesce(std::slice::from_ref(&hold.top)).await?;
    change.add_hook(&hold.top, Hook::After(bitmap.clone()));
    change.end(Ok(())).await
}

async fn give_back(hold: &Hold) {
    if let Err(e) = hold.give_back().await {
        tracing::warn!(node = hold.base.name(), error = %e, "ending a commit that failed left a fault");
    }
}

/// No rate limit, no pause, no second try: for the copy with the gates closed.
struct AtOnce;

impl CopyControl for AtOnce {
    fn on_hold(&self) -> bool {
        false
    }

    fn wait_to_start(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn started(&self, _bytes: u64) {}

    fn progressed(&self, _bytes: u64) {}

    fn on_error<'a>(&'a self, _error: &'a CopyError) -> BoxFuture<'a, AfterError> {
        Box::pin(std::future::ready(AfterError::Fail))
    }
}
