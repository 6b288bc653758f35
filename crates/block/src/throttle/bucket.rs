//! A leaky bucket: one limit, with its burst.
//!
//! What goes through is put in; it leaks at the average rate. Without a burst the bucket holds a tenth of a second's worth;
//! with one, what a burst of its length brings. A burst of more than one second has its own bucket beside, which leaks at the
//! burst's rate and holds a tenth of a second's worth of it: else all of the burst could go through at once.
//!
//! Amounts are counted in billionths of a byte or request, so that a rate times a time in nanoseconds is exact. They stay
//! far below 2^128: a rate is at most 10^15, a time less than 2^64 ns.
use super::limits::Rate;

/// Billionths of one.
pub(super) const ONE: u128 = 1_000_000_000;

/// What a bucket without a burst holds: the worth of this many nanoseconds.
const BRIM_NS: u128 = 100_000_000;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bucket {
    average: Level,
    /// Of a burst that lasts longer than a second.
    burst: Option<Level>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Level {
    /// What leaks in a second; never 0 in a bucket that is used.
    rate: u128,
    brim: u128,
    level: u128,
}

impl Level {
    fn leak(&mut self, ns: u64) {
        self.level = self.level.saturating_sub(self.rate * u128::from(ns));
    }

    /// Nanoseconds until it is not above the brim.
    fn wait_ns(&self) -> u64 {
        let above = self.level.saturating_sub(self.brim);
        u64::try_from(above.div_ceil(self.rate.max(1))).unwrap_or(u64::MAX)
    }
}

impl Bucket {
    /// An empty bucket for a checked rate; `None` where there is no limit.
    pub(super) fn new(rate: Rate) -> Option<Self> {
        let of = |n: i64| u128::from(n.unsigned_abs());
        let Rate { average, burst, burst_seconds } = rate;
        let (average, burst, seconds) = (of(average), of(burst), of(burst_seconds));
        if average == 0 {
            return None;
        }
        let brim = if burst == 0 { average * BRIM_NS } else { burst * seconds * ONE };
        let beside =
            (burst != 0 && seconds > 1).then_some(Level { rate: burst, brim: burst * BRIM_NS, level: 0 });
        Some(Self { average: Level { rate: average, brim, level: 0 }, burst: beside })
    }

    /// Time passes.
    pub(super) fn leak(&mut self, ns: u64) {
        self.average.leak(ns);
        self.burst.iter_mut().for_each(|burst| burst.leak(ns));
    }

    /// Nanoseconds until something may go through; 0: now.
    pub(super) fn wait_ns(&self) -> u64 {
        self.average.wait_ns().max(self.burst.map_or(0, |burst| burst.wait_ns()))
    }

    /// So many billionths go through.
    pub(super) fn fill(&mut self, amount: u128) {
        self.average.level = self.average.level.saturating_add(amount);
        self.burst.iter_mut().for_each(|burst| burst.level = burst.level.saturating_add(amount));
    }
}
