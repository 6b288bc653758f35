//! How often a folder follows its disk while nobody asks for a flush: at once, as long as that takes little of the time.

/// Time that may be spent at once, and which part of the time in the long run.
const BURST_NS: i64 = 2_000_000_000;
const SHARE: i64 = 4;

pub struct Pace {
    /// Time that may be spent now; what is owed is negative.
    allowance: i64,
    /// When it was counted.
    counted: u64,
}

impl Pace {
    pub fn new(now_ns: u64) -> Self {
        Self { allowance: BURST_NS, counted: now_ns }
    }

    /// How long to wait; `None` where there is no need to.
    pub fn wait_ns(&mut self, now_ns: u64) -> Option<u64> {
        let passed = i64::try_from(now_ns.saturating_sub(self.counted)).unwrap_or(i64::MAX);
        self.counted = now_ns;
        self.allowance = self.allowance.saturating_add(passed / SHARE).min(BURST_NS);
        // No sooner than a hundredth of it is there again.
        let missing = (BURST_NS / 100).saturating_sub(self.allowance);
        (self.allowance <= 0).then(|| missing.saturating_mul(SHARE).unsigned_abs())
    }

    pub fn spent(&mut self, ns: u64) {
        self.allowance = self.allowance.saturating_sub(i64::try_from(ns).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_a_quarter_of_the_time_is_spent_in_the_long_run() {
        let mut pace = Pace::new(0);
        let (mut now, mut spent) = (0, 0);
        for _ in 0..1000 {
            if let Some(wait) = pace.wait_ns(now) {
                now += wait;
                assert_eq!(pace.wait_ns(now), None);
            }
            pace.spent(50_000_000);
            (now, spent) = (now + 50_000_000, spent + 50_000_000);
        }
        assert!(spent <= now / 4 + 2_100_000_000, "{spent} of {now}");
        assert!(spent > now / 5, "{spent} of {now}");
    }
}
