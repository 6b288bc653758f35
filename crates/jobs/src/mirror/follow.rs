//! Writes that are done on both sides before they are acknowledged (copy mode `write-blocking`).
//!
//! ```text
//!   guest's write ─▶ lease of its range ─▶ ┬─ source ───────────────────┬─▶ acknowledged
//!                                          └─ target, or: chunk dirty ──┘
//! ```
//!
//! Laws:
//! - who changes a range, and each piece that is copied in the background, has the range for itself from before it reads or
//!   writes until it has written: the target sees changes in the source's order;
//! - where a chunk is dirty anyway, where the target's gate is closed and where writing there fails, the chunk is dirty after
//!   it: no request fails or waits for long because of the target;
//! - a change that fails on the source leaves its chunks dirty: the target may have it.
use block::{
    AfterChange, Backend, BeforeChange, CopyError, CopyStep, DirtyBitmap, Flags, Held, Hook, Leases,
    MapChange, NodeChange, Request, Result, WithChange,
};
use parking_lot::Mutex;
use rt::{BoxFuture, Buf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// Does on the target what is done on the source.
pub(super) struct Follow {
    bitmap: Arc<DirtyBitmap>,
    target: Arc<Backend>,
    leases: Arc<Leases>,
    /// What failed on the target since it was last asked.
    failure: Mutex<Option<CopyError>>,
    /// Bytes that were written there since it was last asked.
    bytes: AtomicU64,
}

impl Follow {
    pub(super) fn new(bitmap: Arc<DirtyBitmap>, target: Arc<Backend>) -> Self {
        Self { bitmap, target, leases: Leases::new(), failure: Mutex::new(None), bytes: AtomicU64::new(0) }
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

    fn is_clean(&self, change: &NodeChange) -> bool {
        let granularity = self.bitmap.granularity();
        let end = change.offset.saturating_add(change.len).div_ceil(granularity);
        self.bitmap.is_clean_between(change.offset / granularity, end)
    }

    async fn follow(&self, change: NodeChange, data: Option<Buf>) {
        if change.request.has(Flags::UNCHANGED) || !self.is_clean(&change) {
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
