//! Hooks: what others do about the changes of a node, in three phases.
//!
//! ```text
//!  before ─▶ ┬─ the change ─┬─▶ after ─▶ flush, if it is to be durable ─▶ answer
//!            └─ with ───────┘
//! ```
//!
//! - *before* may wait, and refuses by an error: what was there is copied away first (copy-before-write);
//! - *with* runs beside the change and has its data: an active mirror;
//! - *after* takes note, at once, also when the change failed, for some of it may have been done: dirty bitmaps, thresholds,
//!   statistics.
//!
//! Laws:
//! - each change of a node, whoever sends it and whichever way it takes, passes the hooks of that node once, and those of
//!   each node below that it reaches. What the core adds to fill a request up to the alignment shows nothing new and is no
//!   change; zeroes that are written as data are one change still;
//! - a node with hooks of the first two kinds is left by the inline path (its `slow` word says so); *after* applies there
//!   too, and costs one relaxed load where there is none;
//! - hooks come and go in a change of the graph, with the gates above closed by [`crate::GraphChange::quiesce`]: then no
//!   request is between its phases. A hook that is taken off without may still hear of requests that are inside.
use crate::bitmap::DirtyBitmap;
use crate::driver::MapChange;
use crate::error::Result;
use crate::lease::Leases;
use crate::node::{Node, Slow};
use crate::request::{Flags, Request};
use arc_swap::ArcSwap;
use futures_util::future::{join, join_all};
use rt::{BoxFuture, Buf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};

/// A change of a range of a node, as hooks see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeChange {
    /// Byte offset in the node.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Data, zeroes, or a discard.
    pub change: MapChange,
    /// Who changes it, and how.
    pub request: Request,
}

/// What a hook holds as long as a change is under way.
pub type Held = Option<Box<dyn Send>>;

/// Comes before a change.
pub trait BeforeChange: Send + Sync {
    /// Does what must be done first; an error refuses the change. What is returned is dropped when the change has ended.
    fn before(&self, change: NodeChange) -> BoxFuture<'_, Result<Held>>;
}

/// Runs beside a change.
pub trait WithChange: Send + Sync {
    /// The change is acknowledged when this has ended too. `data` are there if [`NodeChange::change`] says so. What fails
    /// here is the hook's own affair.
    fn with(&self, change: NodeChange, data: Option<Buf>) -> BoxFuture<'_, ()>;
}

/// Takes note of a change.
pub trait AfterChange: Send + Sync {
    /// Must not wait: it runs on the inline path too.
    fn after(&self, change: NodeChange);

    /// The change that [`AfterChange::after`] was just told of has failed: some of it may have been done, or nothing.
    fn failed(&self, _change: NodeChange) {}
}

/// A hook, by its phase.
#[derive(Clone)]
pub enum Hook {
    /// Comes before each change.
    Before(Arc<dyn BeforeChange>),
    /// Runs beside each change.
    With(Arc<dyn WithChange>),
    /// Takes note of each change.
    After(Arc<dyn AfterChange>),
}

/// The hooks of a node.
#[derive(Default)]
pub(crate) struct Hooks {
    before: List<dyn BeforeChange>,
    with: List<dyn WithChange>,
    after: List<dyn AfterChange>,
}

struct List<T: ?Sized> {
    hooks: ArcSwap<Vec<Arc<T>>>,
    /// How many there are, for a look without a load of the list.
    count: AtomicUsize,
}

impl<T: ?Sized> Default for List<T> {
    fn default() -> Self {
        Self { hooks: ArcSwap::default(), count: AtomicUsize::new(0) }
    }
}

impl<T: ?Sized> List<T> {
    fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    /// Adds a hook, or takes it off. Changes of the graph come one at a time.
    fn set(&self, hook: &Arc<T>, on: bool) {
        let mut hooks = Vec::clone(&self.hooks.load());
        match on {
            true => hooks.push(hook.clone()),
            false => hooks.retain(|other| !Arc::ptr_eq(other, hook)),
        }
        self.count.store(hooks.len(), Release);
        self.hooks.store(Arc::new(hooks));
    }
}

impl Node {
    /// Adds a hook, or takes it off.
    pub(crate) fn set_hook(&self, hook: &Hook, on: bool) {
        let hooks = &self.hooks;
        match hook {
            Hook::Before(hook) => hooks.before.set(hook, on),
            Hook::With(hook) => hooks.with.set(hook, on),
            Hook::After(hook) => hooks.after.set(hook, on),
        }
        self.set_slow(Slow::HOOKS, !hooks.before.is_empty() || !hooks.with.is_empty());
    }

    /// Whether a change must wait for hooks.
    pub(crate) fn waits_for_hooks(&self) -> bool {
        self.slow.load(Relaxed) & Slow::HOOKS != 0
    }

    /// What every change leaves behind: the highest offset, marks in bitmaps, and the notes of hooks.
    pub(crate) fn changed(&self, change: NodeChange) {
        self.highest.fetch_max(change.offset.saturating_add(change.len), Relaxed);
        self.look_at_threshold(change);
        self.bitmaps.mark(change, || self.length());
        if !self.hooks.after.is_empty() {
            self.hooks.after.hooks.load().iter().for_each(|hook| hook.after(change));
        }
    }

    /// What a change that failed leaves behind beside that.
    pub(crate) fn change_failed(&self, change: NodeChange) {
        if !self.hooks.after.is_empty() {
            self.hooks.after.hooks.load().iter().for_each(|hook| hook.failed(change));
        }
    }

    /// Carries out a change between the hooks before it and beside it; the outer error is that of a hook.
    pub(crate) fn hooked<'a, T: Send + 'a>(
        &'a self,
        change: NodeChange,
        data: Option<Buf>,
        work: impl Future<Output = T> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move {
            let mut held = Vec::new();
            for hook in self.hooks.before.hooks.load_full().iter() {
                held.push(hook.before(change).await?);
            }
            let with = self.hooks.with.hooks.load_full();
            let beside = join_all(with.iter().map(|hook| hook.with(change, data.clone())));
            Ok(join(work, beside).await.0)
        })
    }
}

impl AfterChange for DirtyBitmap {
    fn after(&self, change: NodeChange) {
        if !change.request.has(Flags::UNCHANGED) {
            self.mark(change.offset, change.len);
        }
    }
}

/// Gives requests that ask for it ([`Flags::SERIALISING`]) their range for themselves: they wait for the other changes of
/// it, and those for them. One serves the whole node.
#[derive(Default)]
pub struct Serialiser(Arc<Leases>);

impl BeforeChange for Serialiser {
    fn before(&self, change: NodeChange) -> BoxFuture<'_, Result<Held>> {
        Box::pin(async move {
            let alone = change.request.has(Flags::SERIALISING);
            let lease = self.0.lease(change.offset, change.offset.saturating_add(change.len), alone).await;
            Ok(Some(Box::new(lease) as Box<dyn Send>))
        })
    }
}
