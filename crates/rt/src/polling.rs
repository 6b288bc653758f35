//! Whether a worker that ran out of work polls for more before it sleeps, and for how long.
//!
//! Waking a sleeping core costs more than a short poll: 30 µs of CPU and 55–90 µs of latency against about 20 µs of
//! polling. But a poll that finds nothing is lost, and one that keeps others from the core is worse. So:
//! - a poll is at most `max_ns` long, and only made soon after a socket was served;
//! - after much work in one go none is made: spread over a large batch a wake-up costs little (at depth 32, 3.5 µs of CPU
//!   a request without polling and 4.1 with, at the same rate);
//! - two misses in a row put polling off for a number of sleeps that doubles with further misses; only sleeps so
//!   short that a poll might have paid count;
//! - a gap between two looks (the thread was not running) puts polling off for a time that doubles with further gaps;
//! - at most half of the cores poll at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sys;

/// A gap between two looks that shows that others want the core, in ns.
pub(crate) const GAP_NS: u64 = 20_000;
/// How long after serving a socket polling makes sense, in ns.
const RECENT_NS: u64 = 1_000_000;

/// Work in one go, in ns, from which on a wake-up is cheap beside it.
const BUSY_NS: u64 = 50_000;

const FIRST_PENALTY_NS: u64 = 1_000_000;
const LAST_PENALTY_NS: u64 = 64_000_000;
const MISSES_FORGIVEN: u32 = 1;
const MOST_SKIPPED: u32 = 6;
/// Hits in a row after which gaps are forgotten.
const HITS_THAT_CLEAR: u32 = 16;

static POLLERS: AtomicUsize = AtomicUsize::new(0);

/// Permission to poll; there are half as many as cores.
pub(crate) struct Permit;

impl Permit {
    pub(crate) fn take() -> Option<Permit> {
        let most = (sys::cores() / 2).max(1);
        let taken =
            POLLERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < most).then_some(n + 1));
        taken.ok().map(|_| Permit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        POLLERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One worker's experience with polling. Times are ns of the monotonic clock.
pub(crate) struct Polling {
    max_ns: u64,
    served: u64,
    /// When the worker last came back from waiting.
    resumed: u64,
    misses: u32,
    hits: u32,
    /// Short sleeps to pass before the next poll.
    skip: u32,
    penalty: u64,
    off_until: u64,
}

impl Polling {
    pub(crate) fn new(max_ns: u64) -> Polling {
        Polling { max_ns, served: 0, resumed: 0, misses: 0, hits: 0, skip: 0, penalty: 0, off_until: 0 }
    }

    /// A socket was served.
    pub(crate) fn served(&mut self, now: u64) {
        self.served = now;
    }

    /// How long to poll now; `None` not at all.
    pub(crate) fn budget(&self, now: u64) -> Option<u64> {
        let recent = self.served != 0 && now.saturating_sub(self.served) < RECENT_NS;
        let little = now.saturating_sub(self.resumed) < BUSY_NS;
        (self.max_ns > 0 && recent && little && self.skip == 0 && now >= self.off_until)
            .then_some(self.max_ns)
    }

    /// The worker has work again after it polled or slept.
    pub(crate) fn resumed(&mut self, now: u64) {
        self.resumed = now;
    }

    /// A poll found work.
    pub(crate) fn hit(&mut self) {
        self.misses = 0;
        self.hits = self.hits.saturating_add(1);
        if self.hits >= HITS_THAT_CLEAR {
            self.penalty = 0;
        }
    }

    /// A poll ran out of its time.
    pub(crate) fn missed(&mut self) {
        self.hits = 0;
        self.misses = self.misses.saturating_add(1);
        if self.misses > MISSES_FORGIVEN {
            self.skip = 1 << (self.misses - MISSES_FORGIVEN).min(MOST_SKIPPED);
        }
    }

    /// A poll was interrupted by others who want the core.
    pub(crate) fn crowded(&mut self, now: u64) {
        self.hits = 0;
        self.penalty = (self.penalty * 2).clamp(FIRST_PENALTY_NS, LAST_PENALTY_NS);
        self.off_until = now.saturating_add(self.penalty);
    }

    /// A sleep was ended by a socket after `slept_ns`.
    pub(crate) fn slept(&mut self, slept_ns: u64) {
        // A sleep contains the peer's and our own wake-up, which a poll would have spared.
        if slept_ns < self.max_ns.saturating_mul(4) {
            self.skip = self.skip.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Polling {
        let mut polling = Polling::new(50_000);
        polling.served(1000);
        polling.resumed(1000);
        polling
    }

    #[test]
    fn nothing_is_polled_after_a_large_batch() {
        assert!(busy().budget(999 + BUSY_NS).is_some());
        assert!(busy().budget(1000 + BUSY_NS).is_none());
    }

    #[test]
    fn polling_is_for_workers_that_serve_sockets() {
        assert_eq!(Polling::new(50_000).budget(1000), None);
        assert_eq!(busy().budget(2000), Some(50_000));
        let mut idle = busy();
        idle.resumed(2000 + RECENT_NS);
        assert_eq!(idle.budget(2000 + RECENT_NS), None);
        let mut off = Polling::new(0);
        off.served(1000);
        assert_eq!(off.budget(2000), None);
    }

    #[test]
    fn misses_put_polling_off_until_enough_sleeps_were_short() {
        let mut polling = busy();
        polling.missed();
        assert!(polling.budget(2000).is_some());
        polling.missed();
        assert!(polling.budget(2000).is_none());
        polling.slept(10_000_000);
        polling.slept(100_000);
        assert!(polling.budget(2000).is_none());
        polling.slept(100_000);
        assert!(polling.budget(2000).is_some());
    }

    #[test]
    fn a_crowded_core_puts_polling_off_for_longer_each_time() {
        let mut polling = busy();
        polling.crowded(2000);
        polling.served(2000 + FIRST_PENALTY_NS);
        polling.resumed(2000 + FIRST_PENALTY_NS);
        assert!(polling.budget(2000 + FIRST_PENALTY_NS - 1).is_none());
        assert!(polling.budget(2000 + FIRST_PENALTY_NS).is_some());
        polling.crowded(2000);
        assert!(polling.budget(2000 + FIRST_PENALTY_NS).is_none());
    }

    #[test]
    fn no_more_than_half_of_the_cores_poll() {
        let permits: Vec<_> = std::iter::from_fn(Permit::take).take(1000).collect();
        assert_eq!(permits.len(), (sys::cores() / 2).max(1));
    }
}
