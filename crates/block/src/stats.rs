//! Counters of an entry: one set a worker, summed when asked for. What costs more than a few additions (histograms, figures
//! of intervals) is kept only where somebody asked for it ([`latency`](crate::latency)).
use crate::error::Result;
use crate::latency::{IntervalFigures, Latencies, LatencyHistogram};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

const SLOTS: usize = 8;

/// How many kinds of requests there are.
pub(crate) const KINDS: usize = 5;

/// What a request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoKind {
    /// A read.
    Read = 0,
    /// A write, or zeroes.
    Write = 1,
    /// A flush.
    Flush = 2,
    /// A discard.
    Unmap = 3,
    /// An append to a zone. There are none, but they have figures.
    ZoneAppend = 4,
}

#[derive(Default)]
#[repr(align(128))]
struct Slot {
    ops: [AtomicU64; KINDS],
    bytes: [AtomicU64; KINDS],
    ns: [AtomicU64; KINDS],
    failed: [AtomicU64; KINDS],
    invalid: [AtomicU64; KINDS],
    /// When the last request ended, by the runtime's clock; 0 if there was none.
    last_ns: AtomicU64,
}

/// What an entry, or a device over all its media, has done.
#[derive(Default)]
pub struct Account {
    slots: [Slot; SLOTS],
    // What follows is only read by requests: no worker takes it away from the others.
    /// Requests that failed have not taken time, and were no activity.
    ignore_failed: AtomicBool,
    /// Requests that were refused were no activity.
    ignore_invalid: AtomicBool,
    /// There is something in `latencies`.
    detailed: AtomicBool,
    latencies: Mutex<Latencies>,
}

/// What an entry counts beside the usual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounting {
    /// Requests that failed count in times and as activity.
    pub failed: bool,
    /// Requests that were refused count as activity.
    pub invalid: bool,
    /// The lengths of the intervals in seconds for which figures are kept.
    pub intervals: Vec<u32>,
}

impl Default for Accounting {
    fn default() -> Self {
        Self { failed: true, invalid: true, intervals: Vec::new() }
    }
}

/// The counters of an entry.
#[derive(Debug, Clone, Copy, Default)]
pub struct BackendStats {
    /// Reads.
    pub read: OpCount,
    /// Writes and write-zeroes.
    pub write: OpCount,
    /// Flushes.
    pub flush: OpCount,
    /// Discards.
    pub unmap: OpCount,
    /// Nanoseconds since the last request ended.
    pub idle_ns: Option<u64>,
}

/// Sums of one kind of request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpCount {
    /// Requests that ended well.
    pub ops: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The time that requests have taken in nanoseconds.
    pub ns: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that were refused for their range.
    pub invalid: u64,
}

impl Account {
    fn slot(&self) -> &Slot {
        &self.slots[rt::current_worker().map_or(0, |w| w + 1) % SLOTS]
    }

    pub(crate) fn done(&self, kind: IoKind, bytes: u64, started_ns: u64) {
        let now = rt::now_ns();
        let (slot, at) = (self.slot(), kind as usize);
        let took = now.saturating_sub(started_ns);
        slot.ops[at].fetch_add(1, Relaxed);
        slot.bytes[at].fetch_add(bytes, Relaxed);
        slot.ns[at].fetch_add(took, Relaxed);
        slot.last_ns.store(now, Relaxed);
        self.note(kind, now, took, true);
    }

    /// A request has come so far, and goes on as another.
    pub(crate) fn part(&self, kind: IoKind, bytes: u64) {
        if bytes > 0 {
            self.slot().bytes[kind as usize].fetch_add(bytes, Relaxed);
        }
    }

    pub(crate) fn failed(&self, kind: IoKind, started_ns: u64) {
        let now = rt::now_ns();
        let (slot, took, counts) =
            (self.slot(), now.saturating_sub(started_ns), !self.ignore_failed.load(Relaxed));
        slot.failed[kind as usize].fetch_add(1, Relaxed);
        if counts {
            slot.ns[kind as usize].fetch_add(took, Relaxed);
            slot.last_ns.store(now, Relaxed);
        }
        self.note(kind, now, took, counts);
    }

    /// Counts a request that was refused before it was begun: its arguments made no sense.
    pub fn invalid(&self, kind: IoKind) {
        let slot = self.slot();
        slot.invalid[kind as usize].fetch_add(1, Relaxed);
        if !self.ignore_invalid.load(Relaxed) {
            slot.last_ns.store(rt::now_ns(), Relaxed);
        }
    }

    fn note(&self, kind: IoKind, now: u64, took: u64, in_intervals: bool) {
        if self.detailed.load(Relaxed) {
            self.latencies.lock().note(kind, now, took, in_intervals);
        }
    }

    fn sum(&self, kind: IoKind) -> OpCount {
        let add = |f: fn(&Slot) -> &[AtomicU64; KINDS]| {
            self.slots.iter().map(|s| f(s)[kind as usize].load(Relaxed)).sum()
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
    fn idle_ns(&self) -> Option<u64> {
        let last = self.slots.iter().map(|slot| slot.last_ns.load(Relaxed)).max().unwrap_or(0);
        (last != 0).then(|| rt::now_ns().saturating_sub(last))
    }

    /// The counters.
    pub fn stats(&self) -> BackendStats {
        BackendStats {
            read: self.sum(IoKind::Read),
            write: self.sum(IoKind::Write),
            flush: self.sum(IoKind::Flush),
            unmap: self.sum(IoKind::Unmap),
            idle_ns: self.idle_ns(),
        }
    }

    /// Changes what is counted beside the usual. Figures of intervals begin anew.
    pub fn set_accounting(&self, accounting: &Accounting) {
        self.ignore_failed.store(!accounting.failed, Relaxed);
        self.ignore_invalid.store(!accounting.invalid, Relaxed);
        let mut latencies = self.latencies.lock();
        latencies.set_intervals(&accounting.intervals);
        self.detailed.store(latencies.wanted(), Relaxed);
    }

    /// What is counted beside the usual.
    pub fn accounting(&self) -> Accounting {
        Accounting {
            failed: !self.ignore_failed.load(Relaxed),
            invalid: !self.ignore_invalid.load(Relaxed),
            intervals: self.latencies.lock().intervals(),
        }
    }

    /// Counts requests of one kind by how long they take, from 0 on, or does so no more. Boundaries are times in
    /// nanoseconds that rise from above 0.
    pub fn set_histogram(&self, kind: IoKind, boundaries: Option<Vec<u64>>) -> Result<()> {
        let mut latencies = self.latencies.lock();
        latencies.set_histogram(kind, boundaries)?;
        self.detailed.store(latencies.wanted(), Relaxed);
        Ok(())
    }

    /// How long requests of one kind took, if they are counted by that.
    pub fn histogram(&self, kind: IoKind) -> Option<LatencyHistogram> {
        self.latencies.lock().histogram(kind)
    }

    /// The figures of the intervals of its accounting, in their order.
    pub fn interval_figures(&self) -> Vec<IntervalFigures> {
        self.latencies.lock().interval_figures(rt::now_ns())
    }
}
