//! References that were given up, and when the blocks behind them may be used again.
//!
//! ```text
//!  given up (published in memory) ─epoch─▶ unmapped durably ─grace─▶ punched ─▶ dropped ─▶ free
//! ```
//!
//! Laws:
//! - a reference is dropped, and a block without references becomes free, only when the unmapping is durable, and when
//!   every request that was admitted before that has ended: a read or in-place write that still knows the old mapping
//!   never meets new content;
//! - a hole is punched before the block is free, so that it never meets new content either;
//! - what waits is bounded: an epoch of the image's own begins when much was given up, and when the file has grown by
//!   much while anything waits that could have been used instead ([`Order::release_early`]); where storage is full, what
//!   waits is freed before anybody is told so ([`Order::reclaim`]);
//! - what is lost on the way (a crash, a failed read) is a leak, never a dangling reference.
use super::codec::Codec;
use super::order::{Format, Order};
use super::space::Run;
use crate::common::Discard;
use crate::error::Result;
use futures_util::lock::{Mutex as AsyncMutex, MutexGuard};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

/// How long closed gates wait for requests elsewhere in the graph.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs that wait for an epoch before one begins by itself.
const MANY_RUNS: usize = 1 << 14;
/// Bytes that wait for an epoch, or that the file grows by, before one begins by itself; less on small disks.
const MUCH: u64 = 64 << 20;
/// Blocks that never make an epoch begin by themselves.
const FEW_BLOCKS: u64 = 16;
/// Runs that may wait for requests to end; what comes on top stays in use until a check frees it.
const MOST_UNMAPPED: usize = 1 << 20;

/// What a warning says of blocks that can't be freed.
const LEAKED: &str = "clusters that were given up stay in use until a check frees them";

/// Why blocks are given up: it decides whether their space is given back to the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A discard, or zeroes that may unmap.
    Discarded,
    /// New data took their place.
    Replaced,
    /// They held metadata, or guest data beyond a new, smaller end, or were never mapped.
    Dropped,
    /// An internal snapshot had them that is gone, or a disk that became what a snapshot shows.
    Snapshot,
}

/// One reference less to each block of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// The blocks.
    pub run: Run,
    /// Why.
    pub cause: Cause,
}

/// The right to release blocks.
pub type ReleaseTurn<'a> = MutexGuard<'a, ()>;

/// What was given up, and how far it has come.
#[derive(Default)]
pub struct Freed {
    /// By changes that are published in memory.
    published: Mutex<Published>,
    /// Taken by the epoch under way, or by one that failed.
    sealed: Mutex<Vec<GivenUp>>,
    unmapped: Mutex<Unmapped>,
    /// A task waits for requests to end.
    waiting: AtomicBool,
    /// An epoch of the image's own is under way.
    early: AtomicBool,
    /// One release at a time.
    turn: AsyncMutex<()>,
}

#[derive(Default)]
struct Published {
    list: Vec<GivenUp>,
    blocks: u64,
    /// Blocks at the end of the file that were handed out since the last epoch began.
    grown: u64,
}

#[derive(Default)]
struct Unmapped {
    list: VecDeque<GivenUp>,
    /// How many have left the list so far.
    left: u64,
}

impl Freed {
    /// Gives references up that nothing in memory has any more. The pages that had them are marked dirty before.
    pub fn give_up(&self, given_up: GivenUp) {
        let mut published = self.published.lock();
        published.blocks += given_up.run.count;
        let list = &mut published.list;
        match list.last_mut() {
            Some(last) if last.run.end() == given_up.run.start && last.cause == given_up.cause => {
                last.run.count += given_up.run.count
            }
            _ => list.push(given_up),
        }
    }

    /// The file grows by `blocks` blocks.
    pub fn grow(&self, blocks: u64) {
        self.published.lock().grown += blocks;
    }

    /// Takes what was given up into the epoch that begins now, before it seals its pages.
    pub(super) fn seal(&self) {
        let mut published = self.published.lock();
        (published.blocks, published.grown) = (0, 0);
        self.sealed.lock().append(&mut published.list);
    }

    /// Whether so much waits for an epoch, in units of `blocks` or [`MANY_RUNS`].
    fn waits(&self, times: usize, blocks: u64) -> bool {
        let published = self.published.lock();
        published.list.len() >= times * MANY_RUNS || published.blocks >= times as u64 * blocks
    }

    /// Whether anything waits while the file has grown by `blocks` blocks.
    fn waits_and_grows(&self, blocks: u64) -> bool {
        let published = self.published.lock();
        !published.list.is_empty() && published.grown >= blocks
    }

    /// Whether nothing waits for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.published.lock().list.is_empty() && self.none_sealed() && self.unmapped.lock().list.is_empty()
    }

    /// Whether the epoch has nothing to unmap.
    pub(super) fn none_sealed(&self) -> bool {
        self.sealed.lock().is_empty()
    }

    /// The epoch is durable.
    fn unmap_sealed(&self) {
        let mut sealed = std::mem::take(&mut *self.sealed.lock());
        let mut unmapped = self.unmapped.lock();
        let room = MOST_UNMAPPED.saturating_sub(unmapped.list.len());
        if sealed.len() > room {
            tracing::warn!(runs = sealed.len() - room, "{LEAKED}");
            sealed.truncate(room);
        }
        unmapped.list.extend(sealed);
    }

    /// What has been unmapped so far, to be released after a grace period.
    fn mark(&self) -> Option<u64> {
        let unmapped = self.unmapped.lock();
        (!unmapped.list.is_empty()).then_some(unmapped.left + unmapped.list.len() as u64)
    }

    fn take(&self, upto: u64) -> Vec<GivenUp> {
        let mut unmapped = self.unmapped.lock();
        let count = upto.saturating_sub(unmapped.left).min(unmapped.list.len() as u64);
        unmapped.left += count;
        unmapped.list.drain(..count as usize).collect()
    }

    fn next_release(&self) -> Option<u64> {
        self.mark().or_else(|| {
            self.waiting.store(false, Release);
            // What came in between found somebody waiting and started nobody.
            let upto = self.mark()?;
            (!self.waiting.swap(true, AcqRel)).then_some(upto)
        })
    }
}

/// Blocks that may wait for an epoch: an eighth of the disk, neither few nor more than [`MUCH`].
fn much<F: Format>(image: &F) -> u64 {
    ((image.size() / 8).min(MUCH) >> image.block_bits()).max(FEW_BLOCKS)
}

impl<C: Codec> Order<C> {
    /// After flush B: lets the unmapped blocks go when the requests of now have ended. Nobody waits for it.
    pub(super) fn release_unmapped<F: Format<Codec = C>>(image: &Arc<F>) {
        let order = image.order();
        order.freed.unmap_sealed();
        if order.freed.mark().is_none() || order.freed.waiting.swap(true, AcqRel) {
            return;
        }
        let (image, domain) = (Arc::downgrade(image), order.domain.clone());
        rt::spawn(async move {
            loop {
                let Some(upto) = image.upgrade().and_then(|i| i.order().freed.next_release()) else { return };
                domain.grace().await;
                let Some(image) = image.upgrade() else { return };
                image.order().release(&*image, upto).await;
            }
        })
        .detach();
    }

    /// Begins an epoch where much waits for one. Nobody waits for it.
    pub fn release_early<F: Format<Codec = C>>(image: &Arc<F>) {
        let (freed, much) = (&image.order().freed, much(&**image));
        let begin = freed.waits(1, much) || freed.waits_and_grows(much);
        if !begin || freed.early.swap(true, AcqRel) {
            return;
        }
        let image = image.clone();
        rt::spawn(async move {
            // Whoever flushes next meets the same failure, and is told.
            if let Err(e) = Self::flush(&image).await {
                tracing::debug!(image = image.order().file.name(), error = %e, "an early epoch failed");
            }
            image.order().freed.early.store(false, Release);
        })
        .detach();
    }

    /// Whether so much waits that a change has to wait for an epoch itself.
    pub fn too_much_waits<F: Format<Codec = C>>(&self, image: &F) -> bool {
        self.freed.waits(4, much(image))
    }

    /// Frees all that waits, because storage is full; tells whether anything did. The caller is inside no gate.
    pub async fn reclaim<F: Format<Codec = C>>(image: &Arc<F>) -> bool {
        let order = image.order();
        if !order.access.writable() {
            return false;
        }
        // What another one is about to free counts too.
        let being_freed = order.freed.turn.try_lock().is_none() || order.freed.waiting.load(Acquire);
        if order.freed.is_empty() && !being_freed {
            return false;
        }
        // Writes that failed may have stored a part of what they had; it is given back with the rest.
        for run in order.reservations.take_all_unused() {
            order.freed.give_up(GivenUp { run, cause: Cause::Dropped });
        }
        if let Err(e) = Self::flush(image).await {
            tracing::debug!(image = order.file.name(), error = %e, "no space could be freed");
            return false;
        }
        Self::release_all_in_time(image).await;
        true
    }

    /// Waits a bounded time for the requests of now to end, wherever in the graph, and then releases everything that is
    /// unmapped now; what is unmapped while this waits may be known to requests that began meanwhile. What can't be released
    /// in time is left to the task that waits on: the gates above may be closed meanwhile, and a request that hangs
    /// elsewhere must not keep them so. Tells whether nothing is left that waits for anything.
    pub async fn release_all_in_time<F: Format<Codec = C>>(image: &Arc<F>) -> bool {
        let order = image.order();
        let upto = order.freed.mark().unwrap_or(0);
        match rt::timeout(PATIENCE, order.domain.grace()).await {
            // Also where nothing is left to release: another one may be doing it.
            Ok(()) => {
                order.release(&**image, upto).await;
                order.freed.is_empty()
            }
            Err(_) => {
                let image = order.file.name();
                tracing::warn!(
                    image,
                    "requests elsewhere hold clusters that were given up; they are freed later, or by a check"
                );
                false
            }
        }
    }

    /// Releases everything that is unmapped. No request knows old mappings: they were drained, or waited for.
    pub async fn release_all<F: Format<Codec = C>>(&self, image: &F) {
        self.release(image, u64::MAX).await;
    }

    /// Nothing is released as long as what is returned is kept: for the end of an image's writing, which a release in the
    /// background could otherwise begin before and end after.
    pub async fn hold_releases(&self) -> ReleaseTurn<'_> {
        self.freed.turn.lock().await
    }

    async fn release<F: Format<Codec = C>>(&self, image: &F, upto: u64) {
        let _turn = self.freed.turn.lock().await;
        let given_up = self.freed.take(upto);
        if given_up.is_empty() {
            return;
        }
        if !self.access.writable() {
            // They came too late: nothing is written any more, and nobody may wait for it in vain.
            let clusters = given_up.iter().map(|g| g.run.count).sum::<u64>();
            tracing::warn!(image = self.file.name(), clusters, "{LEAKED}");
            return;
        }
        if let Err(e) = self.release_blocks(image, given_up).await {
            tracing::warn!(image = self.file.name(), error = %e, "{LEAKED}");
        }
    }

    /// Drops references at once: nothing on disk leads there by them any more, and no request knows that anything did.
    pub async fn release_blocks<F: Format<Codec = C>>(
        &self,
        image: &F,
        given_up: Vec<GivenUp>,
    ) -> Result<()> {
        let file = self.file.node()?;
        let holes = file.common().discard == Discard::Unmap;
        let mut last = image.drop_references(&given_up, |cause| holes && image.punches(cause)).await?;
        if last.is_empty() {
            return Ok(());
        }
        last.sort_unstable_by_key(|run| run.start);
        last.dedup_by(|b, a| {
            let adjacent = a.end() == b.start;
            if adjacent {
                a.count += b.count;
            }
            adjacent
        });
        for run in &last {
            let (offset, len) = (run.start << image.block_bits(), run.count << image.block_bits());
            if let Err(e) = file.discard(offset, len, crate::request::Request::DRIVER).await {
                tracing::debug!(offset, len, error = %e, "space given up could not be given back to the file system");
            }
        }
        let last: Vec<_> = last.into_iter().map(|run| GivenUp { run, cause: Cause::Dropped }).collect();
        image.drop_references(&last, |_| false).await.map(drop)
    }
}
