//! How long a request is made again, and when.

use super::error::HttpError;
use std::time::Duration;

/// Time before the second attempt; it doubles from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest time between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is left of the time in which a server may fail before that is told.
pub(super) struct Patience {
    timeout: Duration,
    until_ns: u64,
    pause: Duration,
    /// A connection that had been used before may have been closed since: that costs no pause, once in a row.
    stale: bool,
    /// A server that can't be reached is waited for.
    reaches: bool,
}

impl Patience {
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, until_ns: after(timeout), pause: FIRST_PAUSE, stale: true, reaches: true }
    }

    /// As long as nothing is known of the server: one that can't be reached is told of at once.
    pub fn at_open(timeout: Duration) -> Self {
        Self { reaches: false, ..Self::new(timeout) }
    }

    /// Something came: the time begins anew.
    pub fn renew(&mut self) {
        *self = Self::new(self.timeout);
    }

    /// Whether the time is over in which as many bytes as are the least have to come; `came` have.
    pub fn check(&self, came: usize, least: usize) -> Result<(), HttpError> {
        match rt::now_ns() < self.until_ns {
            true => Ok(()),
            false => Err(HttpError::slow(came, least, self.timeout)),
        }
    }

    /// So much time was not the server's.
    pub fn stand_still(&mut self, ns: u64) {
        self.until_ns = self.until_ns.saturating_add(ns);
    }

    /// Waits before the next attempt, or says that there is none. `reused`: the connection had been used before.
    pub async fn again(&mut self, error: HttpError, reused: bool) -> Result<(), HttpError> {
        if !error.is_passing() || (!self.reaches && error.is_of_reaching()) {
            return Err(error);
        }
        if reused && matches!(error, HttpError::Broken(_)) && std::mem::take(&mut self.stale) {
            return Ok(());
        }
        let pause = error.wait().map_or(self.pause, |wait| wait.max(self.pause));
        let left = Duration::from_nanos(self.until_ns.saturating_sub(rt::now_ns()));
        if pause >= left {
            return Err(error);
        }
        rt::sleep(pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

fn after(time: Duration) -> u64 {
    rt::now_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
