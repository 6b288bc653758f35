//! The engine of mirrors: copies a node that is in use until the target is in step with it, and switches over.
//!
//! ```text
//!   dirty bitmap on the source ◀── every guest write, before it is acknowledged
//!        │ what is to be copied at first is marked as well
//!        ▼
//!   passes of copying ─▶ ready ─▶ passes … complete ─▶ little left · flush │ gates closed: rest · flush · swap
//! ```
//!
//! Laws:
//! - a bit is taken before its chunk is read, and the chunk is not in flight twice: what was written during a copy is
//!   copied again, so the target equals the source when the gates are closed and the bitmap is clean;
//! - the swap comes last; everything is durable before the job's end is reported;
//! - from the swap on nothing that is written to the source reaches the target.
//!
//! Bounds: [`MAX_BITS`] for the bitmap, and what [`Settings::parallel`] pieces hold.
use super::follow::Follow;
use crate::copy_mode::CopyMode;
use crate::job::Job;
use crate::ruled::{Ruled, Rules};
use crate::saved::Saved;
use crate::work::Work;
use api::{BlockdevOnError, MirrorCopyMode};
use block::{
    AfterError, AtOnce, Backend, BlockError, CopyControl, CopyError, CopyPlan, DirtyBitmap, DirtyPieces,
    Endpoint, ErrorKind, Graph, GraphChange, Hook, NextPiece, Node, Piece, Pieces, Result, copy,
};
use rt::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

/// Most bits of the bitmap: 32 MiB of memory if all of them are set; larger disks get a coarser one.
const MAX_BITS: u64 = 1 << 28;

/// Most dirty bytes that are left to be copied with the gates closed.
const NEAR: u64 = 4 << 20;

/// How often a ready job looks for dirty chunks.
const LOOK: Duration = Duration::from_millis(50);

/// The two ends of a mirror, and the job's entries there.
pub(crate) struct Ends {
    pub(crate) graph: Graph,
    /// Read from, and followed.
    pub(crate) from: Arc<Node>,
    /// Written to.
    pub(crate) to: Arc<Node>,
    pub(crate) source: Arc<Backend>,
    pub(crate) target: Arc<Backend>,
}

/// What a mirror holds while it works, and what its switch-over is.
pub(crate) trait Hold: Send + Sync {
    /// Its ends.
    fn ends(&self) -> &Ends;

    /// The node whose users hold back their requests during the switch-over, beside both ends.
    fn replaced(&self) -> Result<Arc<Node>> {
        Ok(self.ends().from.clone())
    }

    /// What the switch-over needs that takes long, before it begins.
    fn before_switch(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The steps of the switch-over: both ends are equal and durable, and requests are held back.
    fn hand_over<'a>(&'a self, change: &'a mut GraphChange) -> BoxFuture<'a, Result<()>>;

    /// The switch-over is in force.
    fn handed_over(&self) {}

    /// Gives everything back. Every step is tried; returns the first error.
    fn give_back(&self) -> BoxFuture<'_, Result<()>>;
}

/// What is copied at first.
pub(crate) enum Start {
    /// Nothing.
    Nothing,
    /// What the layers above this node hold.
    Above(Arc<Node>),
    /// What the topmost layer holds.
    Top,
    /// What does not read as zeroes, of a target that does.
    Data,
    /// Everything that is not zeroes on both sides.
    All,
}

/// How a mirror works.
pub(crate) struct Settings {
    pub(crate) start: Start,
    /// What is copied of a dirty chunk, and how, through the job's entries.
    pub(crate) plan: CopyPlan,
    /// Unit in which changes are tracked, in bytes, on disks of up to [`MAX_BITS`] such units; a power of two.
    pub(crate) granularity: u64,
    /// Ranges that are in flight at most.
    pub(crate) parallel: usize,
    /// The target has not got its backing node yet: each unit is copied whole.
    pub(crate) bare: bool,
    /// Both ends must have the same size.
    pub(crate) same_size: bool,
    pub(crate) on_target_error: Option<BlockdevOnError>,
    /// How it copies at first, where that can be changed.
    pub(crate) mode: Option<MirrorCopyMode>,
    /// Where what was copied is noted.
    pub(crate) saved: Option<Saved>,
}

/// A mirror.
pub(crate) struct Mirror<H> {
    hold: H,
    settings: Settings,
    plan: Arc<CopyPlan>,
    /// The copy while writes are done on both sides: directly at the nodes, by pieces that are inside the gates.
    guarded: Arc<CopyPlan>,
    /// The copy with the gates closed: directly at the nodes.
    inner: Arc<CopyPlan>,
    bitmap: Arc<DirtyBitmap>,
    follow: Arc<Follow>,
    mode: Option<Arc<CopyMode>>,
    /// Writes are done on both sides.
    follows: AtomicBool,
}

impl<H: Hold> Mirror<H> {
    /// Begins to track the source's writes.
    pub(crate) async fn begin(hold: H, settings: Settings) -> Result<Self> {
        let ends = hold.ends();
        let length = ends.from.length();
        let granularity = settings.granularity.max((length / MAX_BITS).next_power_of_two());
        let bitmap = Arc::new(DirtyBitmap::new(length, granularity));
        let plan = Arc::new(settings.plan.clone());
        let (source, target) = (Endpoint::Inner(ends.from.clone()), Endpoint::Inner(ends.to.clone()));
        let inner = Arc::new(CopyPlan { source, target, ..settings.plan.clone() });
        let follow = Arc::new(Follow::new(bitmap.clone(), ends.target.clone(), settings.bare));
        let guarded = Arc::new(CopyPlan { out_of_order: true, ..CopyPlan::clone(&inner) });
        let mode = settings.mode.map(|mode| Arc::new(CopyMode::new(mode, bitmap.clone())));
        let follows = AtomicBool::new(false);
        let this = Self { hold, settings, plan, guarded, inner, bitmap, follow, mode, follows };
        if let Err(e) = this.watch().await {
            if let Err(e) = this.hold.give_back().await {
                tracing::warn!(error = %e, "ending a job that failed to begin left a fault");
            }
            return Err(e);
        }
        Ok(this)
    }

    /// From here on every write to the source is noted, or done on both sides.
    async fn watch(&self) -> Result<()> {
        let ends = self.hold.ends();
        let follows = self.is_to_follow();
        let mut change = ends.graph.change().await;
        change.quiesce(std::slice::from_ref(&ends.from)).await?;
        match follows {
            true => self.follow.hooks().into_iter().for_each(|hook| change.add_hook(&ends.from, hook)),
            false => change.add_hook(&ends.from, Hook::After(self.bitmap.clone())),
        }
        change.end(Ok(())).await?;
        self.follows.store(follows, Release);
        Ok(())
    }

    /// Whether writes are to be done on both sides from here on.
    fn is_to_follow(&self) -> bool {
        let asked = self.mode.as_ref().map(|mode| mode.asked());
        asked == Some(MirrorCopyMode::WriteBlocking) && !self.follows.load(Acquire)
    }

    /// From here on writes are done on both sides. No piece is in flight: it could write what it read before.
    async fn begin_to_follow(&self) -> Result<()> {
        let ends = self.hold.ends();
        let mut change = ends.graph.change().await;
        let hooked = match change.quiesce(std::slice::from_ref(&ends.from)).await {
            Ok(()) => {
                self.unhook(&mut change);
                self.follow.hooks().into_iter().for_each(|hook| change.add_hook(&ends.from, hook));
                Ok(())
            }
            Err(e) => Err(e),
        };
        change.end(hooked).await?;
        self.follows.store(true, Release);
        Ok(())
    }

    /// Hears of no more writes.
    fn unhook(&self, change: &mut GraphChange) {
        let from = &self.hold.ends().from;
        match self.follows.load(Acquire) {
            true => self.follow.hooks().into_iter().for_each(|hook| change.remove_hook(from, hook)),
            false => change.remove_hook(from, Hook::After(self.bitmap.clone())),
        }
    }

    /// Marks what is to be copied at first.
    async fn mark(&self, job: &Job) -> Result<()> {
        let ends = self.hold.ends();
        let end = if matches!(self.settings.start, Start::Nothing) { 0 } else { ends.from.length() };
        let is_zero = matches!(self.settings.start, Start::All) && self.target_is_zero(end).await?;
        let mut at = 0;
        while at < end {
            job.pause_point().await?;
            let status = match &self.settings.start {
                Start::Above(base) => ends.source.status_above(at, end - at, base).await?,
                _ => ends.source.status(at, end - at).await?,
            };
            let mut len = status.len;
            match &self.settings.start {
                Start::Nothing => {}
                Start::Above(_) if !status.allocated => {}
                Start::Top if status.allocated && status.depth == 0 => self.bitmap.mark(at, len),
                Start::Top if self.goes_on() => {
                    // What the source has given up since is replaced too.
                    let there = ends.target.status(at, len).await?;
                    len = there.len;
                    if there.allocated && there.depth == 0 {
                        self.bitmap.mark(at, len);
                    }
                }
                Start::Top => {}
                Start::Data if status.zero => {}
                Start::All if status.zero && is_zero => {}
                Start::All if status.zero => {
                    let there = ends.target.status(at, len).await?;
                    len = there.len;
                    match there.zero {
                        true => job.progressed(len),
                        false => self.bitmap.mark(at, len),
                    }
                }
                _ => self.bitmap.mark(at, len),
            }
            at += len;
        }
        job.set_remaining(self.bitmap.dirty_bytes());
        Ok(())
    }

    /// Whether the target holds some of the copy already.
    fn goes_on(&self) -> bool {
        self.settings.saved.as_ref().is_some_and(Saved::goes_on)
    }

    /// Whether the target reads as zeroes, as far as that is known without a look at data.
    async fn target_is_zero(&self, length: u64) -> Result<bool> {
        let mut at = 0;
        while at < length {
            let status = self.hold.ends().target.status(at, length - at).await?;
            if !status.zero {
                return Ok(false);
            }
            at += status.len;
        }
        Ok(true)
    }

    /// One pass of copying. Whether source and target are almost in sync.
    async fn copy_dirty(&self, job: &Job) -> Result<bool> {
        if self.is_to_follow() {
            job.change_graph("the change of the copy mode", || self.begin_to_follow()).await?;
        }
        if let Some(failure) = self.follow.failure()
            && job.on_error(&failure).await == AfterError::Fail
        {
            return Err(failure.error);
        }
        let (before, failures) = (self.bitmap.dirty_bytes(), job.failures());
        if before > 0 {
            self.set_in_step(false);
            self.copy_once(job).await?;
        }
        let left = self.bitmap.dirty_bytes();
        job.progressed(self.follow.take_bytes());
        job.set_remaining(left);
        self.set_in_step(left == 0 && job.is_ready() && self.follows.load(Acquire));
        // Chunks that a guest keeps writing don't keep the job from becoming ready; chunks that could not be copied do.
        Ok(left == 0 || (before.max(left) <= NEAR && failures == job.failures()))
    }

    /// Copies what is dirty, once.
    async fn copy_once(&self, job: &Job) -> Result<()> {
        let dirty = DirtyPieces::new(self.bitmap.clone());
        let parallel = self.settings.parallel;
        if !self.follows.load(Acquire) {
            return copy(&self.plan, &Pass { mirror: self, dirty }, parallel, job).await;
        }
        let Ends { source, target, .. } = self.hold.ends();
        let dirty = dirty.alone(self.follow.leases(), source.clone(), target.clone());
        let control = Ruled { job, rules: Inside(target) };
        copy(&self.guarded, &Pass { mirror: self, dirty }, parallel, &control).await
    }

    fn set_in_step(&self, in_step: bool) {
        if let Some(mode) = &self.mode {
            mode.set_in_step(in_step);
        }
    }

    /// With the gates closed: copies the rest and makes it durable; then, unless the job ends in place, all users move to
    /// the target.
    async fn switch_over(&self, job: &Job) -> Result<()> {
        let mut change = self.hold.ends().graph.change().await;
        let switched = self.switch(&mut change, job).await;
        if change.end(switched).await? {
            self.hold.handed_over();
        }
        Ok(())
    }

    /// The steps of the switch-over. Whether all users moved.
    async fn switch(&self, change: &mut GraphChange, job: &Job) -> Result<bool> {
        let Ends { from, to, .. } = self.hold.ends();
        change.quiesce(&[from.clone(), to.clone(), self.hold.replaced()?]).await?;
        let left = self.bitmap.dirty_bytes();
        let rest = DirtyPieces::new(self.bitmap.clone());
        copy(&self.inner, &rest, self.settings.parallel, &AtOnce).await?;
        job.progressed(left.saturating_add(self.follow.take_bytes()));
        job.set_remaining(0);
        to.flush().await?;
        if !self.bitmap.is_clean() {
            return Err(BlockError::new(
                ErrorKind::Io,
                format!(
                    "'{}' changed while its users were held back; the job is given up, and they stay there",
                    from.name()
                ),
            ));
        }
        self.unhook(change);
        if job.ends_in_place()? {
            return Ok(false);
        }
        self.hold.hand_over(change).await?;
        Ok(true)
    }

    async fn follow_until_asked(&self, job: &Job) -> Result<()> {
        self.mark(job).await?;
        loop {
            let in_step = self.copy_dirty(job).await?;
            if in_step && !job.is_ready() {
                self.hold.ends().target.flush().await?;
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
    }

    /// What it has copied need not be known any more.
    async fn forget(&self, success: bool) {
        if let Some(saved) = &self.settings.saved {
            saved.end(success).await;
        }
    }

    fn check_sizes(&self) -> Result<()> {
        let Ends { from, to, .. } = self.hold.ends();
        match self.settings.same_size && from.length() != to.length() {
            true => Err(BlockError::invalid("Source and target image have different sizes")),
            false => Ok(()),
        }
    }
}

impl<H: Hold> Work for Mirror<H> {
    fn image(&self) -> Option<Arc<Node>> {
        Some(self.hold.ends().from.clone())
    }

    fn run<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.check_sizes()?;
            let work = self.follow_until_asked(job);
            match &self.settings.saved {
                Some(saved) => saved.beside(&|| Box::pin(self.hold.ends().target.flush()), work).await,
                None => work.await,
            }
        })
    }

    fn prepare<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if !job.ends_in_place()? {
                self.hold.before_switch().await?;
            }
            job.change_graph("the switch-over", || async {
                while !self.copy_dirty(job).await? {
                    job.pause_point().await?;
                }
                // A long flush while guests still write, so that the one with the gates closed is short.
                self.hold.ends().target.flush().await?;
                job.pause_point().await?;
                self.switch_over(job).await
            })
            .await
        })
    }

    fn commit(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.forget(true))
    }

    fn abort(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.forget(false))
    }

    fn on_target_error(&self) -> Option<BlockdevOnError> {
        self.settings.on_target_error
    }

    fn copy_mode(&self) -> Option<Arc<CopyMode>> {
        self.mode.clone()
    }

    fn end(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut change = self.hold.ends().graph.change().await;
            // Nobody needs to wait: what is still heard of, nobody looks at.
            self.unhook(&mut change);
            let unwatched = change.end(Ok(())).await;
            unwatched.and(self.hold.give_back().await)
        })
    }
}

/// The pieces of one pass, which ends early when the copy mode is to change.
struct Pass<'m, H> {
    mirror: &'m Mirror<H>,
    dirty: DirtyPieces,
}

impl<H: Hold> Pieces for Pass<'_, H> {
    fn next<'a>(&'a self, plan: &'a CopyPlan) -> BoxFuture<'a, std::result::Result<NextPiece, CopyError>> {
        if self.mirror.is_to_follow() {
            return Box::pin(std::future::ready(Ok(NextPiece::End)));
        }
        self.dirty.next(plan)
    }

    fn again(&self, piece: Piece) {
        self.dirty.again(piece);
    }
}

/// Of a copy whose pieces are inside the target's gate: what waits to be freed there may wait for them.
struct Inside<'t>(&'t Backend);

impl Rules for Inside<'_> {
    fn on_error<'a>(&'a self, job: &'a Job, error: &'a CopyError) -> BoxFuture<'a, AfterError> {
        Box::pin(async move {
            if error.error.kind() == ErrorKind::NoSpace && self.0.make_space().await {
                return AfterError::Retry;
            }
            job.on_error(error).await
        })
    }
}
