//! A disk as it was at one moment, while it goes on changing.
//!
//! ```text
//!  writer ─▶ filter ──"copied away?"──▶ source          what is about to change is copied to the target first, once
//!                         │ no: source ─copy─▶ target
//!  job    ── pieces, cluster by cluster: source ─copy─▶ target
//!  reader ── as of the moment: not copied yet? source : target
//! ```
//!
//! A filter above the source (`copy-before-write`) asks before each change that passes it; a job may copy the rest at the same
//! time; a reader sees the old disk, put together from both.
//!
//! Laws:
//! - a cluster is copied by one at a time, under an exclusive lease, and only as long as it is *uncopied*; it is so no more
//!   when its copy is complete, and not before. So a cluster that is uncopied has not changed since the moment, and one that is
//!   not need not be asked for again: it may be written to on the inline path;
//! - a reader takes no lease. It reads the source, then looks whether all of it is uncopied still: if not, it reads that part
//!   again, from the target. A cluster becomes copied once, so it does so once for each;
//! - whoever holds a lease is inside a gate and waits for nothing but storage. Jobs pass their gate first, then take the
//!   lease: a change of the graph that waits for a request here can't be what it waits for.
//!
//! Bounds: two bits a cluster.
mod copying;
mod pieces;
mod view;

use crate::bitmap::DirtyBitmap;
use crate::copy::{CopyZeroes, Existing};
use crate::edges::{ChildId, Edges};
use crate::error::{BlockError, ErrorKind, Result};
use crate::graph::Domain;
use crate::lease::Leases;
use crate::node::Node;
use event_listener::{Event, EventListener};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Least bytes that are copied together.
const CLUSTER: u64 = 65536;

/// What becomes of a write whose old content could not be copied away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenNotCopied {
    /// It fails.
    #[default]
    FailTheWrite,
    /// It goes on, and the old disk can't be read or copied any more.
    GiveUp,
}

/// How what changes is copied away.
#[derive(Debug, Clone, Default)]
pub struct CopyAway {
    /// What the target shows where nothing is copied; `None`: everything is copied.
    pub existing: Option<Existing>,
    /// How zeroes are written. They are left out only where the target will never show anything else there: not where it
    /// shows the disk itself, nor where it gets another backing image later.
    pub zeroes: CopyZeroes,
    /// Stored compressed.
    pub compress: bool,
    /// What was copied is discarded in the source.
    pub discard_source: bool,
}

/// A disk as it was at one moment.
pub struct PointInTime {
    edges: Arc<Edges>,
    source: ChildId,
    target: ChildId,
    domain: Arc<Domain>,
    when_not_copied: Mutex<WhenNotCopied>,
    /// How long a write waits for a copy.
    timeout: Option<Duration>,
    /// Clusters that only the source has, as they were.
    uncopied: DirtyBitmap,
    /// Clusters that nobody has as they were: they were not asked for, or are needed no more.
    unreadable: DirtyBitmap,
    leases: Arc<Leases>,
    how: Mutex<CopyAway>,
    discards_source: AtomicBool,
    /// Why the old disk can't be had any more.
    broken: OnceLock<BlockError>,
    /// Notified when clusters were copied for writers, and when it breaks.
    changed: Event,
}

impl PointInTime {
    /// For a filter with these edges to the disk, and to where old content goes. `least` is the least number of bytes, a power
    /// of two, that are copied together.
    pub fn new(
        edges: Arc<Edges>,
        (source, target): (ChildId, ChildId),
        domain: Arc<Domain>,
        least: u64,
        when_not_copied: WhenNotCopied,
        timeout: Option<Duration>,
    ) -> Result<Self> {
        let (from, to) = (edges.need(source)?, edges.need(target)?);
        let length = from.length();
        let cluster = least.max(CLUSTER).max(to.facts().cluster_size.unwrap_or(0).next_power_of_two());
        let uncopied = DirtyBitmap::new(length, cluster);
        uncopied.mark(0, length);
        Ok(Self {
            edges,
            source,
            target,
            domain,
            when_not_copied: Mutex::new(when_not_copied),
            timeout,
            uncopied,
            unreadable: DirtyBitmap::new(length, cluster),
            leases: Leases::new(),
            how: Mutex::default(),
            discards_source: AtomicBool::new(false),
            broken: OnceLock::new(),
            changed: Event::new(),
        })
    }

    // ---- before the moment: nobody is inside ----

    /// Only what is dirty in `bits` is kept.
    pub fn restrict(&self, bits: &DirtyBitmap) {
        self.unreadable.mark(0, self.length());
        self.uncopied.clear();
        self.uncopied.merge(bits);
        let runs: Vec<_> = self.uncopied.runs().collect();
        for (start, end) in runs {
            self.unreadable.take_run(start, end);
        }
    }

    /// Says how it is copied away, and what becomes of a write whose old content can't be.
    pub fn set_how(&self, how: CopyAway, when_not_copied: WhenNotCopied) {
        self.discards_source.store(how.discard_source, Release);
        *self.how.lock() = how;
        *self.when_not_copied.lock() = when_not_copied;
    }

    /// Whether the source is discarded: then the filter needs to write there.
    pub fn discards_source(&self) -> bool {
        self.discards_source.load(Acquire)
    }

    /// Whether the target shows the source where it holds nothing itself.
    pub fn shows_through(&self) -> bool {
        let (Ok(source), Ok(target)) = (self.node(self.source), self.node(self.target)) else { return false };
        let source = source.skip_filters();
        target.images().skip(1).any(|image| Arc::ptr_eq(&image, &source))
    }

    /// The node is in the graph.
    pub fn begin(&self) {
        if self.shows_through()
            && let Ok(target) = self.node(self.target)
        {
            target.skip_filters().look_again(true);
        }
    }

    /// Nothing is copied any more.
    pub fn end(&self) {
        let target = self.node(self.target).map(|target| target.skip_filters());
        if let Some(target) = target.ok().filter(|target| target.looks_again()) {
            target.look_again(false);
        }
    }

    // ---- facts ----

    /// Bytes of the disk.
    pub fn length(&self) -> u64 {
        self.uncopied.length()
    }

    /// Bytes that are copied together.
    pub fn cluster(&self) -> u64 {
        self.uncopied.granularity()
    }

    /// Bytes that only the source has.
    pub fn left(&self) -> u64 {
        self.uncopied.dirty_bytes()
    }

    /// The clusters that only the source has.
    pub fn uncopied(&self) -> &DirtyBitmap {
        &self.uncopied
    }

    /// Refuses when the old disk can't be had any more.
    pub fn check(&self) -> Result<()> {
        self.broken.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Waits for the next news: clusters were copied because they were about to change, or it broke.
    pub fn news(&self) -> EventListener {
        self.changed.listen()
    }

    /// Whether the range may change without being asked for.
    pub fn is_settled(&self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len).div_ceil(self.cluster());
        self.broken.get().is_some() || self.uncopied.is_clean_between(offset / self.cluster(), end)
    }

    /// Whether the start of a range may change without being asked for, and how many bytes of it are alike in that.
    pub fn look(&self, offset: u64, len: u64) -> (bool, u64) {
        if self.is_settled(offset, len) {
            return (true, len);
        }
        let (uncopied, end) = self.uncopied.run_at(offset, offset.saturating_add(len));
        (!uncopied, end.saturating_sub(offset).clamp(1, len.max(1)))
    }

    fn node(&self, child: ChildId) -> Result<Arc<Node>> {
        self.edges.need(child)
    }

    /// The clusters that a range touches.
    fn clusters(&self, offset: u64, len: u64) -> Range<u64> {
        let cluster = self.cluster();
        let end = offset.saturating_add(len).min(self.length());
        offset / cluster * cluster..end.checked_next_multiple_of(cluster).unwrap_or(end).min(self.length())
    }

    fn break_for(&self, cause: &BlockError) {
        let text =
            format!("the snapshot was given up, because old content could not be copied away: {cause}");
        let kind = if cause.kind() == ErrorKind::NoSpace { ErrorKind::NoSpace } else { ErrorKind::Io };
        if self.broken.set(BlockError::new(kind, text)).is_ok() {
            tracing::error!(error = %cause, "a snapshot was given up: old content could not be copied away");
        }
        self.changed.notify(usize::MAX);
    }
}
