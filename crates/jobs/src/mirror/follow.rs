//! Writes that are done on both sides before they are acknowledged (copy mode `write-blocking`).
//!
//! ```text
//!   guest's write ─▶ lease of its range ─▶ ┬─ source ───────────────────┬─▶ acknowledged
//!                                          └─ target, or: chunk dirty ──┘
//! ```
//!
//! Laws:
//! - who changes a range, and each piece that is copied in the background, has the range for itself from before it reads or
//!   writes until it has written: the target sees changes in the source's order. Who waits for a range is inside a gate: whoever
//!   has it waits at none;
//! - where all chunks are dirty anyway nothing is written, and they stay so; where the target's gate is closed and where
//!   writing there fails, they are dirty after it: no request fails or waits for long because of the target. What is written
//!   there makes no chunk dirty, so those that are become fewer, however much a guest writes;
//! - of a target that has not got its backing node yet, a part of a chunk is written only where the target holds all of that
//!   chunk: it would fill up the rest with zeroes;
//! - a change that fails on the source leaves its chunks dirty: the target may have it.
use block::{
    AfterChange, Backend, BeforeChange, CopyError, CopyStep, DirtyBitmap, Flags, Held, Hook, Leases,
    MapChange, Node, NodeChange, Request, Result, WithChange,
};
use parking_lot::Mutex;
use rt::{BoxFuture, Buf};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// Does on the target what is done on the source.
pub(super) struct Follow {
    bitmap: Arc<DirtyBitmap>,
    target: Arc<Backend>,
    leases: Arc<Leases>,
    /// The target has not got its backing node yet.
    bare: bool,
    /// What failed on the target since it was last asked.
    failure: Mutex<Option<CopyError>>,
    /// Bytes that were written there since it was last asked.
    bytes: AtomicU64,
}

impl Follow {
    pub(super) fn new(bitmap: Arc<DirtyBitmap>, target: Arc<Backend>, bare: bool) -> Self {
        Self {
            bitmap,
            target,
            bare,
            leases: Leases::new(),
            failure: Mutex::new(None),
            bytes: AtomicU64::new(0),
        }
    }

    /// The leases that a piece copied in the background takes too.
    pub(super) fn leases(&self) -> Arc<Leases> {
        self.leases.clone()
    }

    /// What it is on the source.
    pub(super) fn hooks(self: &Arc<Self>) -> [Hook; 3] {
        [Hook::Before(self.clone()), Hook::With(self.clone()), Hook::After(self.clone())]
    }

    /// The first failure since the last call.
    pub(super) fn failure(&self) -> Option<CopyError> {
        self.failure.lock().take()
    }

    /// How many bytes were done on the target since the last call.
    pub(super) fn take_bytes(&self) -> u64 {
        self.bytes.swap(0, Relaxed)
    }

    /// Whether each chunk that the change touches is still to be copied.
    fn is_all_dirty(&self, change: &NodeChange) -> bool {
        let change_end = change.offset.saturating_add(change.len);
        let (dirty, end) = self.bitmap.run_at(change.offset, change_end);
        dirty && end >= change_end
    }

    async fn follow(&self, change: NodeChange, data: Option<Buf>) {
        if change.request.has(Flags::UNCHANGED) || self.is_all_dirty(&change) {
            return;
        }
        if !self.repeat(change, data).await {
            self.bitmap.mark(change.offset, change.len);
        }
    }

    /// Does a change on the target; `false` where it is not done, or not for sure.
    async fn repeat(&self, change: NodeChange, data: Option<Buf>) -> bool {
        // Whether the source takes it, or what it shows afterwards, is not known here.
        if change.request.has(Flags::IF_UNALLOCATED) {
            return false;
        }
        let Some((_inside, node)) = self.target.try_enter() else { return false };
        if self.bare && !self.holds_edges(&node, &change).await {
            return false;
        }
        let done = match (change.change, data) {
            (MapChange::Data, Some(data)) => node.write(change.offset, data, Request::JOB).await,
            (MapChange::Zero, _) => {
                let unmaps = change.request.has(Flags::MAY_UNMAP);
                let request = Request::JOB.with_if(unmaps, Flags::MAY_UNMAP);
                node.write_zeroes(change.offset, change.len, request).await
            }
            (MapChange::Data | MapChange::Discard, _) => return false,
        };
        if let Err(error) = done {
            let failure = CopyError { step: CopyStep::Write, offset: change.offset, error };
            self.failure.lock().get_or_insert(failure);
            return false;
        }
        self.bytes.fetch_add(change.len, Relaxed);
        true
    }
}

impl Follow {
    /// Whether the target holds all of the chunks that the change touches in part.
    async fn holds_edges(&self, node: &Arc<Node>, change: &NodeChange) -> bool {
        let (unit, length) = (self.bitmap.granularity(), self.bitmap.length());
        let (start, end) = (change.offset, change.offset.saturating_add(change.len));
        let (first, last) = (start - start % unit, end.next_multiple_of(unit).min(length));
        let head = if first < start { first..(first + unit).min(length) } else { start..start };
        let tail = if end < last { end - end % unit..last } else { end..end };
        self.holds(node, head).await && self.holds(node, tail).await
    }

    async fn holds(&self, node: &Arc<Node>, range: Range<u64>) -> bool {
        let mut at = range.start;
        while at < range.end {
            match node.status(at, range.end - at, None).await {
                Ok(status) if status.allocated => at += status.len,
                _ => return false,
            }
        }
        true
    }
}

impl BeforeChange for Follow {
    fn before(&self, change: NodeChange) -> BoxFuture<'_, Result<Held>> {
        Box::pin(async move {
            let end = change.offset.saturating_add(change.len);
            let lease = self.leases.lease(change.offset, end, true).await;
            Ok(Some(Box::new(lease) as Box<dyn Send>))
        })
    }
}

impl WithChange for Follow {
    fn with(&self, change: NodeChange, data: Option<Buf>) -> BoxFuture<'_, ()> {
        Box::pin(self.follow(change, data))
    }
}

impl AfterChange for Follow {
    fn after(&self, _: NodeChange) {}

    fn failed(&self, change: NodeChange) {
        self.bitmap.mark(change.offset, change.len);
    }
}
