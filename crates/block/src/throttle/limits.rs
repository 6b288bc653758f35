//! What a group is limited to, as users give it.
use crate::error::{BlockError, Result};
use api::ThrottleLimits;

/// Highest rate, and highest volume of a burst, in bytes or requests.
pub const MAX_LIMIT: i64 = 1_000_000_000_000_000;

/// A rate with its burst, in bytes or requests. Not negative once it is checked ([`IoLimits::check`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// What may go through in a second on average; 0: no limit.
    pub average: i64,
    /// What may go through in a second of a burst; 0: as much as the average.
    pub burst: i64,
    /// For how many seconds a burst may last.
    pub burst_seconds: i64,
}

/// Rates of reads, of writes, and of both together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Of both together.
    pub total: Rate,
    /// Of reads.
    pub read: Rate,
    /// Of writes.
    pub write: Rate,
}

/// All limits of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoLimits {
    /// Bytes a second.
    pub bytes: Rates,
    /// Requests a second.
    pub requests: Rates,
    /// A request of more bytes counts as several; 0: each counts as one.
    pub request_size: i64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { average: 0, burst: 0, burst_seconds: 1 }
    }
}

impl Rates {
    /// Total, reads, writes.
    pub(super) fn all(&self) -> [Rate; 3] {
        [self.total, self.read, self.write]
    }

    fn contradicts(&self) -> bool {
        let both =
            |of: fn(&Rate) -> i64| of(&self.total) != 0 && (of(&self.read) != 0 || of(&self.write) != 0);
        both(|rate| rate.average) || both(|rate| rate.burst)
    }
}

impl Rate {
    fn check(&self) -> Result<()> {
        let Self { average, burst, burst_seconds } = *self;
        let allowed = 0..=MAX_LIMIT;
        let refused = |text: &str| Err(BlockError::invalid(text));
        if !allowed.contains(&average) || !allowed.contains(&burst) {
            return Err(BlockError::invalid(format!("bps/iops/max values must be within [0, {MAX_LIMIT}]")));
        }
        if burst_seconds == 0 {
            return refused("the burst length cannot be 0");
        }
        if burst_seconds != 1 && burst == 0 {
            return refused("burst length set without burst rate");
        }
        if !(0..=i64::from(u32::MAX)).contains(&burst_seconds) || burst > MAX_LIMIT / burst_seconds {
            return refused("burst length too high for this burst rate");
        }
        if burst != 0 && average == 0 {
            return refused("bps_max/iops_max require corresponding bps/iops values");
        }
        if burst != 0 && burst < average {
            return refused("bps_max/iops_max cannot be lower than bps/iops");
        }
        Ok(())
    }
}

impl IoLimits {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.rates().any(|rate| rate.average != 0)
    }

    /// All rates: bytes, then requests.
    pub(super) fn rates(&self) -> impl Iterator<Item = Rate> {
        self.bytes.all().into_iter().chain(self.requests.all())
    }

    /// Refuses what contradicts itself.
    pub fn check(&self) -> Result<()> {
        if self.bytes.contradicts() || self.requests.contradicts() {
            return Err(BlockError::invalid(
                "bps/iops/max total values and read/write values cannot be used at the same time",
            ));
        }
        if self.request_size < 0 {
            return Err(BlockError::invalid("iops size values cannot be negative"));
        }
        if self.request_size != 0 && self.requests.all().iter().all(|rate| rate.average == 0) {
            return Err(BlockError::invalid("iops size requires an iops value to be set"));
        }
        self.rates().try_for_each(|rate| rate.check())
    }

    /// The same with those that are given.
    #[must_use]
    pub fn with(mut self, given: &ThrottleLimits) -> Self {
        let mut rate = |rate: fn(&mut Self) -> &mut Rate, given: [Option<i64>; 3]| {
            let Rate { average, burst, burst_seconds } = rate(&mut self);
            for (to, given) in [average, burst, burst_seconds].into_iter().zip(given) {
                *to = given.unwrap_or(*to);
            }
        };
        let l = given;
        rate(|l| &mut l.bytes.total, [l.bps_total, l.bps_total_max, l.bps_total_max_length]);
        rate(|l| &mut l.bytes.read, [l.bps_read, l.bps_read_max, l.bps_read_max_length]);
        rate(|l| &mut l.bytes.write, [l.bps_write, l.bps_write_max, l.bps_write_max_length]);
        rate(|l| &mut l.requests.total, [l.iops_total, l.iops_total_max, l.iops_total_max_length]);
        rate(|l| &mut l.requests.read, [l.iops_read, l.iops_read_max, l.iops_read_max_length]);
        rate(|l| &mut l.requests.write, [l.iops_write, l.iops_write_max, l.iops_write_max_length]);
        self.request_size = given.iops_size.unwrap_or(self.request_size);
        self
    }
}

impl From<IoLimits> for ThrottleLimits {
    fn from(limits: IoLimits) -> Self {
        let IoLimits { bytes, requests, request_size } = limits;
        Self {
            iops_total: Some(requests.total.average),
            iops_total_max: Some(requests.total.burst),
            iops_total_max_length: Some(requests.total.burst_seconds),
            iops_read: Some(requests.read.average),
            iops_read_max: Some(requests.read.burst),
            iops_read_max_length: Some(requests.read.burst_seconds),
            iops_write: Some(requests.write.average),
            iops_write_max: Some(requests.write.burst),
            iops_write_max_length: Some(requests.write.burst_seconds),
            bps_total: Some(bytes.total.average),
            bps_total_max: Some(bytes.total.burst),
            bps_total_max_length: Some(bytes.total.burst_seconds),
            bps_read: Some(bytes.read.average),
            bps_read_max: Some(bytes.read.burst),
            bps_read_max_length: Some(bytes.read.burst_seconds),
            bps_write: Some(bytes.write.average),
            bps_write_max: Some(bytes.write.burst),
            bps_write_max_length: Some(bytes.write.burst_seconds),
            iops_size: Some(request_size),
        }
    }
}
