//! Counters of an entry: one set a worker, summed when asked for.
use std::sync::atomic::{AtomicU64, Ordering::*};

const SLOTS: usize = 8;

/// What a request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Read = 0,
    Write = 1,
    Flush = 2,
    Unmap = 3,
}

#[derive(Default)]
#[repr(align(128))]
struct Slot {
    ops: [AtomicU64; 4],
    bytes: [AtomicU64; 4],
    ns: [AtomicU64; 4],
    failed: [AtomicU64; 4],
    invalid: [AtomicU64; 4],
}

/// Counters of one entry.
#[derive(Default)]
pub(crate) struct Stats {
    slots: [Slot; SLOTS],
    last_ns: AtomicU64,
}

/// Sums of one kind of request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpCount {
    /// Requests that ended well.
    pub ops: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their time in nanoseconds.
    pub ns: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that were refused for their range.
    pub invalid: u64,
}

impl Stats {
    fn slot(&self) -> &Slot {
        &self.slots[rt::current_worker().map_or(0, |w| w + 1) % SLOTS]
    }

    pub(crate) fn done(&self, op: Op, bytes: u64, started_ns: u64) {
        let now = rt::now_ns();
        let (slot, op) = (self.slot(), op as usize);
        slot.ops[op].fetch_add(1, Relaxed);
        slot.bytes[op].fetch_add(bytes, Relaxed);
        slot.ns[op].fetch_add(now.saturating_sub(started_ns), Relaxed);
        self.last_ns.store(now, Relaxed);
    }

    /// A request has come so far, and goes on as another.
    pub(crate) fn part(&self, op: Op, bytes: u64) {
        if bytes > 0 {
            self.slot().bytes[op as usize].fetch_add(bytes, Relaxed);
        }
    }

    pub(crate) fn failed(&self, op: Op) {
        self.slot().failed[op as usize].fetch_add(1, Relaxed);
        self.last_ns.store(rt::now_ns(), Relaxed);
    }

    pub(crate) fn invalid(&self, op: Op) {
        self.slot().invalid[op as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn sum(&self, op: Op) -> OpCount {
        let add = |f: fn(&Slot) -> &[AtomicU64; 4]| {
            self.slots.iter().map(|s| f(s)[op as usize].load(Relaxed)).sum()
        };
        OpCount {
            ops: add(|s| &s.ops),
            bytes: add(|s| &s.bytes),
            ns: add(|s| &s.ns),
            failed: add(|s| &s.failed),
            invalid: add(|s| &s.invalid),
        }
    }

    /// Nanoseconds since the last request ended; `None` before the first.
    pub(crate) fn idle_ns(&self) -> Option<u64> {
        let last = self.last_ns.load(Relaxed);
        (last != 0).then(|| rt::now_ns().saturating_sub(last))
    }
}
