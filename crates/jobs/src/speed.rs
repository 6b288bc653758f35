//! The rate limit of a job: a leaky bucket whose level may go negative, so that a piece larger than the bucket passes
//! and the job waits afterwards.
use parking_lot::Mutex;

/// Capacity of the bucket as a time: bursts up to it pass, the average rate holds.
const BURST_NS: u64 = 100_000_000;

/// A rate limit that can be changed at any time.
#[derive(Default)]
pub(crate) struct Speed {
    bucket: Mutex<Bucket>,
}

#[derive(Default)]
struct Bucket {
    /// Bytes a second, 0 for no limit.
    rate: u64,
    /// Nanoseconds of credit used up beyond `at_ns`.
    debt_ns: u64,
    at_ns: u64,
}

impl Bucket {
    /// Credits the time that has passed.
    fn settle(&mut self, now_ns: u64) {
        let passed = now_ns.saturating_sub(self.at_ns);
        self.debt_ns = self.debt_ns.saturating_sub(passed);
        self.at_ns = now_ns;
    }
}

impl Speed {
    /// The limit in bytes a second, 0 for none.
    pub(crate) fn rate(&self) -> u64 {
        self.bucket.lock().rate
    }

    /// Sets the limit; the level starts anew.
    pub(crate) fn set(&self, rate: u64, now_ns: u64) {
        *self.bucket.lock() = Bucket { rate, debt_ns: 0, at_ns: now_ns };
    }

    /// Uses so many bytes.
    pub(crate) fn take(&self, bytes: u64, now_ns: u64) {
        let mut bucket = self.bucket.lock();
        if bucket.rate > 0 {
            bucket.settle(now_ns);
            let cost = u128::from(bytes) * 1_000_000_000 / u128::from(bucket.rate);
            bucket.debt_ns = bucket.debt_ns.saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
        }
    }

    /// Nanoseconds until the next bytes may be used; 0: at once.
    pub(crate) fn wait_ns(&self, now_ns: u64) -> u64 {
        let mut bucket = self.bucket.lock();
        bucket.settle(now_ns);
        if bucket.rate == 0 { 0 } else { bucket.debt_ns.saturating_sub(BURST_NS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_a_second_no_more_than_the_rate_and_one_burst_and_one_piece_pass() {
        let speed = Speed::default();
        speed.set(10 << 20, 0);
        let (mut now, mut passed) = (0, 0);
        while now < 1_000_000_000 {
            match speed.wait_ns(now) {
                0 => {
                    speed.take(1 << 20, now);
                    passed += 1 << 20;
                }
                wait => now += wait,
            }
        }
        assert!((10 << 20..=12 << 20).contains(&passed), "{passed}");
    }

    #[test]
    fn without_a_limit_nothing_waits_and_a_new_limit_starts_anew() {
        let speed = Speed::default();
        speed.take(u64::MAX, 0);
        assert_eq!(speed.wait_ns(0), 0);
        speed.set(1, 0);
        speed.take(u64::MAX, 0);
        assert!(speed.wait_ns(0) > 0);
        speed.set(1 << 20, 0);
        assert_eq!(speed.wait_ns(0), 0);
    }
}
