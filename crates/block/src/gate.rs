//! Gates: how requests are admitted at an entry, and how a change waits until none is inside.
//!
//! ```text
//! request:  count + 1 · fence · closed?  ──no──▶ work ──▶ count − 1 · fence · watched? ──▶ wake
//! change:   closed = true · fence · wait until every count is 0
//! ```
//!
//! Counts are kept per slot (one a worker, to keep cache lines apart) and per *parity*, which gives disk clusters a
//! grace period: [`Gate::grace`] flips the parity of the gate twice and waits each time for the old one to
//! drain, so that every request admitted before the call has ended when it returns. Two flips, because a request may
//! have read the parity before a flip and counted itself after it.
//!
//! Both fences are needed: without either a request can miss `closed` while the change misses its count (the loom
//! test in `tests/loom.rs` finds it).
use super::sync::{AtomicBool, AtomicI64, AtomicUsize, Event, Ordering::*, SLOTS, fence, notify_all, slot};
use std::sync::Arc;

#[derive(Default)]
#[repr(align(128))]
struct Slot {
    count: [AtomicI64; 2],
}

/// The gate of one entry.
#[derive(Default)]
pub struct Gate {
    slots: [Slot; SLOTS],
    parity: AtomicUsize,
    closed: AtomicUsize,
    /// Closed for good.
    retired: AtomicBool,
    watched: AtomicBool,
    drained: Event,
    opened: Event,
    /// One grace period at a time: two that flip the parity would each wait for the other's new one.
    grace: futures_util::lock::Mutex<()>,
}

/// An admitted request's token: dropping it decrements the count.
#[must_use]
pub struct Entered<'a> {
    gate: &'a Gate,
    slot: usize,
    parity: usize,
}

/// An admitted request's token that keeps its gate, for work that outlives the call that began it.
#[must_use]
pub struct Inside {
    gate: Arc<Gate>,
    slot: usize,
    parity: usize,
}

impl Gate {
    /// A gate that stands open.
    pub fn new() -> Self {
        Self::default()
    }

    /// Admits a request without waiting, or says that the gate is closed.
    #[inline]
    pub fn try_enter(&self) -> Option<Entered<'_>> {
        let slot = slot();
        let parity = self.parity.load(Relaxed) & 1;
        self.slots[slot].count[parity].fetch_add(1, Relaxed);
        fence(SeqCst);
        let entered = Entered { gate: self, slot, parity };
        // If the gate is closed, dropping the token decrements the count.
        (self.closed.load(Relaxed) == 0).then_some(entered)
    }

    /// Admits a request, waiting while the gate is closed; `None` once it is closed for good.
    pub async fn enter(&self) -> Option<Entered<'_>> {
        loop {
            if let Some(entered) = self.try_enter() {
                return Some(entered);
            }
            let listener = self.opened.listen();
            if self.retired.load(SeqCst) {
                return None;
            }
            if self.closed.load(SeqCst) > 0 {
                listener.await;
            }
        }
    }

    /// As [`Gate::enter`], with a token that keeps the gate.
    pub async fn stay(self: &Arc<Self>) -> Option<Inside> {
        let entered = self.enter().await?;
        Some(entered.keep(self))
    }

    /// A token beside one that its holder has already: the gate counts a request more, also if it is closed by now.
    pub(crate) fn stay_inside(self: &Arc<Self>) -> Inside {
        let (slot, parity) = (slot(), self.parity.load(Relaxed) & 1);
        self.slots[slot].count[parity].fetch_add(1, Relaxed);
        fence(SeqCst);
        Inside { gate: self.clone(), slot, parity }
    }

    /// Ends a request.
    fn leave(&self, slot: usize, parity: usize) {
        self.slots[slot].count[parity].fetch_sub(1, Release);
        fence(SeqCst);
        if self.watched.load(Relaxed) {
            self.watched.store(false, Relaxed);
            notify_all(&self.drained);
        }
    }

    /// Closes the gate to new requests; closings nest. The requests inside go on: see [`Gate::drained`].
    pub fn close(&self) {
        self.closed.fetch_add(1, SeqCst);
        fence(SeqCst);
    }

    /// Undoes one [`Gate::close`].
    pub fn open(&self) {
        if self.closed.fetch_sub(1, SeqCst) == 1 {
            notify_all(&self.opened);
        }
    }

    /// Closes the gate for good: requests that wait there, and later ones, are refused instead of waiting for ever.
    pub fn retire(&self) {
        self.close();
        self.retired.store(true, SeqCst);
        notify_all(&self.opened);
    }

    /// Requests inside, over both parities.
    pub fn inside(&self) -> i64 {
        self.count(0) + self.count(1)
    }

    fn count(&self, parity: usize) -> i64 {
        self.slots.iter().map(|s| s.count[parity & 1].load(SeqCst)).sum()
    }

    /// Waits until no request is inside. Useful on a closed gate only.
    pub async fn drained(&self) {
        self.wait_until(|| self.inside() == 0).await;
    }

    async fn wait_until(&self, done: impl Fn() -> bool) {
        loop {
            if done() {
                return;
            }
            let listener = self.drained.listen();
            self.watched.store(true, SeqCst);
            fence(SeqCst);
            if done() {
                return;
            }
            listener.await;
        }
    }

    /// Waits until every request that was admitted before the call has ended.
    pub async fn grace(&self) {
        let _turn = self.grace.lock().await;
        for _ in 0..2 {
            let old = self.parity.fetch_add(1, SeqCst) & 1;
            fence(SeqCst);
            self.wait_until(|| self.count(old) == 0).await;
        }
    }
}

impl Entered<'_> {
    /// The same token, which keeps its gate.
    pub(crate) fn keep(self, gate: &Arc<Gate>) -> Inside {
        let inside = Inside { gate: gate.clone(), slot: self.slot, parity: self.parity };
        std::mem::forget(self);
        inside
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.gate.leave(self.slot, self.parity);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.gate.leave(self.slot, self.parity);
    }
}

/// Closed gates; they open again when it is dropped.
#[must_use]
pub struct Closed(Vec<Arc<Gate>>);

impl Closed {
    /// Closes `gates`. The requests inside go on: see [`Closed::drained`].
    pub(crate) fn close(gates: Vec<Arc<Gate>>) -> Self {
        gates.iter().for_each(|g| g.close());
        Self(gates)
    }

    /// Closes `gates` and waits until no request is inside any of them.
    pub async fn all(gates: Vec<Arc<Gate>>) -> Self {
        let closed = Self::close(gates);
        closed.drained().await;
        closed
    }

    /// Waits until no request is inside any of the gates.
    pub(crate) async fn drained(&self) {
        for gate in &self.0 {
            gate.drained().await;
        }
    }

    /// Closes a new gate, through which no request has gone yet, until the others open.
    pub(crate) fn join(&mut self, gate: &Arc<Gate>) {
        gate.close();
        self.0.push(gate.clone());
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.iter().for_each(|g| g.open());
    }
}
