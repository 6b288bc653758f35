//! References that were given up, and when the clusters behind them may be used again.
//!
//! ```text
//!  given up (published in memory) ─epoch─▶ unmapped durably ─grace─▶ punched ─▶ counted down ─▶ free
//! ```
//!
//! Laws:
//! - a cluster is counted down only when its unmapping is durable, and when every request that was admitted before
//!   that has ended: a read or in-place write that still knows the old mapping never meets new content;
//! - a hole is punched before the count reaches zero, so that it never meets new content either;
//! - what waits is bounded: an epoch of the image's own begins when much was given up, and when the file has grown by
//!   much while anything waits that could have been used instead ([`Image::release_early`]); where storage is full, what waits is freed before anybody is told so ([`Image::reclaim`]);
//! - what is lost on the way (a crash, a failed read) is a leak, never a dangling reference.
use super::image::Image;
use block::{Discard, Request, Result};
use futures_util::lock::Mutex as AsyncMutex;
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
/// Clusters that never make an epoch begin by themselves.
const FEW_CLUSTERS: u64 = 16;
/// Runs that may wait for requests to end; what comes on top stays counted until a check frees it.
const MOST_UNMAPPED: usize = 1 << 20;

/// What a warning says of clusters that can't be freed.
const LEAKED: &str = "clusters that were given up stay counted until a check frees them";

/// Why clusters are given up: it decides whether their space is given back to the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// A discard, or zeroes that may unmap.
    Request,
    /// New data took their place.
    Other,
    /// They held metadata or guest data beyond a new, smaller end.
    Always,
}

/// One reference less to each of `count` host clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone {
    pub start: u64,
    pub count: u64,
    pub why: Why,
}

/// The lists.
#[derive(Default)]
pub(super) struct Freed {
    /// By changes that are published in memory.
    given_up: Mutex<GivenUp>,
    /// Taken by the epoch under way, or by one that failed.
    sealed: Mutex<Vec<Gone>>,
    unmapped: Mutex<Unmapped>,
    /// A task waits for requests to end.
    waiting: AtomicBool,
    /// An epoch of the image's own is under way.
    early: AtomicBool,
    /// One release at a time.
    turn: AsyncMutex<()>,
}

#[derive(Default)]
struct GivenUp {
    list: Vec<Gone>,
    clusters: u64,
    /// Clusters at the end of the file that were handed out since the last epoch began.
    grown: u64,
}

#[derive(Default)]
struct Unmapped {
    list: VecDeque<Gone>,
    /// How many have left the list so far.
    left: u64,
}

impl Freed {
    /// Gives references up that nothing in memory has any more. The pages that had them are marked dirty before.
    pub fn give_up(&self, gone: Gone) {
        let mut given_up = self.given_up.lock();
        given_up.clusters += gone.count;
        let list = &mut given_up.list;
        match list.last_mut() {
            Some(last) if last.start + last.count == gone.start && last.why == gone.why => {
                last.count += gone.count
            }
            _ => list.push(gone),
        }
    }

    /// Takes what was given up into the epoch that begins now, before it seals its pages.
    pub fn seal(&self) {
        let mut given_up = self.given_up.lock();
        (given_up.clusters, given_up.grown) = (0, 0);
        self.sealed.lock().append(&mut given_up.list);
    }

    /// The file grows by `clusters` clusters.
    pub fn grow(&self, clusters: u64) {
        self.given_up.lock().grown += clusters;
    }

    /// Whether so much waits for an epoch, in units of `clusters` or [`MANY_RUNS`].
    fn waits(&self, times: usize, clusters: u64) -> bool {
        let given_up = self.given_up.lock();
        given_up.list.len() >= times * MANY_RUNS || given_up.clusters >= times as u64 * clusters
    }

    /// Whether anything waits while the file has grown by `clusters` clusters.
    fn waits_and_grows(&self, clusters: u64) -> bool {
        let given_up = self.given_up.lock();
        !given_up.list.is_empty() && given_up.grown >= clusters
    }

    /// Whether nothing waits for anything.
    fn is_empty(&self) -> bool {
        self.given_up.lock().list.is_empty() && self.none_sealed() && self.unmapped.lock().list.is_empty()
    }

    /// Whether the epoch has nothing to unmap.
    pub fn none_sealed(&self) -> bool {
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

    fn take(&self, upto: u64) -> Vec<Gone> {
        let mut unmapped = self.unmapped.lock();
        let count = upto.saturating_sub(unmapped.left).min(unmapped.list.len() as u64);
        unmapped.left += count;
        unmapped.list.drain(..count as usize).collect()
    }
}

impl Image {
    /// After flush B: lets the unmapped clusters go when the requests of now have ended. Nobody waits for it.
    pub fn release_unmapped(self: &Arc<Self>) {
        self.freed.unmap_sealed();
        if self.freed.mark().is_none() || self.freed.waiting.swap(true, AcqRel) {
            return;
        }
        let (image, domain) = (Arc::downgrade(self), self.domain.clone());
        rt::spawn(async move {
            loop {
                let Some(upto) = image.upgrade().and_then(|i| i.next_release()) else { return };
                domain.grace().await;
                let Some(image) = image.upgrade() else { return };
                image.release(upto).await;
            }
        })
        .detach();
    }

    /// Clusters that may wait for an epoch: an eighth of the disk, neither few nor more than [`MUCH`].
    fn much(&self) -> u64 {
        let g = self.g();
        g.cluster((self.size() / 8).min(MUCH)).max(FEW_CLUSTERS)
    }

    /// Begins an epoch where much waits for one. Nobody waits for it.
    pub fn release_early(self: &Arc<Self>) {
        let much = self.much();
        let begin = self.freed.waits(1, much) || self.freed.waits_and_grows(much);
        if !begin || self.freed.early.swap(true, AcqRel) {
            return;
        }
        let image = self.clone();
        rt::spawn(async move {
            // Whoever flushes next meets the same failure, and is told.
            if let Err(e) = image.flush().await {
                tracing::debug!(image = image.file_name(), error = %e, "an early epoch failed");
            }
            image.freed.early.store(false, Release);
        })
        .detach();
    }

    /// Whether so much waits that a change has to wait for an epoch itself.
    pub fn too_much_waits(&self) -> bool {
        self.freed.waits(4, self.much())
    }

    /// Frees all that waits, because storage is full; tells whether anything did. The caller is inside no gate.
    pub async fn reclaim(self: &Arc<Self>) -> bool {
        if !self.writable.load(Acquire) {
            return false;
        }
        // What another one is about to free counts too.
        let being_freed = self.freed.turn.try_lock().is_none() || self.freed.waiting.load(Acquire);
        if self.freed.is_empty() && !being_freed {
            return false;
        }
        // Writes that failed may have stored a part of what they had; it is given back with the rest.
        for run in std::mem::take(&mut *self.returned.lock()) {
            self.freed.give_up(Gone { start: run.start, count: run.count, why: Why::Always });
        }
        if let Err(e) = self.flush().await {
            tracing::debug!(image = self.file_name(), error = %e, "no space could be freed");
            return false;
        }
        self.release_all_in_time().await;
        true
    }

    fn next_release(&self) -> Option<u64> {
        self.freed.mark().or_else(|| {
            self.freed.waiting.store(false, Release);
            // What came in between found somebody waiting and started nobody.
            let upto = self.freed.mark()?;
            (!self.freed.waiting.swap(true, AcqRel)).then_some(upto)
        })
    }

    /// Waits a bounded time for the requests of now to end, wherever in the graph, and then releases everything that is
    /// unmapped. What can't be released in time is left to the task that waits on: the gates above are closed
    /// meanwhile, and a request that hangs elsewhere must not keep them so.
    pub async fn release_all_in_time(self: &Arc<Self>) {
        match rt::timeout(PATIENCE, self.domain.grace()).await {
            Ok(()) => self.release_all().await,
            Err(_) => tracing::warn!(
                image = self.file_name(),
                "requests elsewhere hold clusters that were given up; they are freed later"
            ),
        }
    }

    /// Releases everything that is unmapped. No request knows old mappings: they were drained, or waited for.
    pub async fn release_all(&self) {
        self.release(u64::MAX).await;
    }

    async fn release(&self, upto: u64) {
        let _turn = self.freed.turn.lock().await;
        let gone = self.freed.take(upto);
        if gone.is_empty() {
            return;
        }
        if !self.writable.load(Acquire) {
            // They came too late: nothing is written any more, and nobody may wait for it in vain.
            let clusters = gone.iter().map(|g| g.count).sum::<u64>();
            tracing::warn!(image = self.file_name(), clusters, "{LEAKED}");
            return;
        }
        if let Err(e) = self.release_clusters(gone).await {
            tracing::warn!(image = self.file_name(), error = %e, "{LEAKED}");
        }
    }

    async fn release_clusters(&self, gone: Vec<Gone>) -> Result<()> {
        let mut last = self.drop_references(&gone, |why| self.punches(why)).await?;
        if last.is_empty() {
            return Ok(());
        }
        last.sort_unstable_by_key(|run| run.start);
        last.dedup_by(|b, a| {
            let adjacent = a.start + a.count == b.start;
            if adjacent {
                a.count += b.count;
            }
            adjacent
        });
        let file = self.file()?;
        for run in &last {
            let (offset, len) = (run.start << self.g().cluster_bits, run.count << self.g().cluster_bits);
            if let Err(e) = file.discard(offset, len, Request::DRIVER).await {
                tracing::debug!(offset, len, error = %e, "space given up could not be given back to the file system");
            }
        }
        let gone: Vec<_> =
            last.iter().map(|r| Gone { start: r.start, count: r.count, why: Why::Always }).collect();
        self.drop_references(&gone, |_| false).await.map(drop)
    }

    /// Whether clusters given up for this reason leave holes in the file.
    fn punches(&self, why: Why) -> bool {
        let settings = *self.settings.read();
        let wanted = match why {
            Why::Request => settings.pass_request,
            Why::Other => settings.pass_other,
            Why::Always => true,
        };
        wanted && self.file().is_ok_and(|f| f.common().discard == Discard::Unmap)
    }
}
