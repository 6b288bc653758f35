//! Clock, sleep and time-outs, all through the current worker.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::sys;
use crate::worker::{current, expect_current};

/// A wait took longer than it was allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

/// Monotonic clock in ns; the simulator's where one is current.
pub fn now_ns() -> u64 {
    match current() {
        Some(worker) => worker.now_ns(),
        None => sys::now_ns(),
    }
}

/// Processor time that this thread has taken, in ns, for what is to be measured on a machine that has other work too. A
/// worker's is its clock, which is the simulator's where one is current: measure on the threads that compute.
pub fn busy_ns() -> u64 {
    match current() {
        Some(worker) => worker.now_ns(),
        None => sys::busy_ns(),
    }
}

/// Waits for at least `duration`. Dropping it cancels the wait.
///
/// # Panics
/// Outside of a runtime.
pub async fn sleep(duration: Duration) {
    let worker = expect_current();
    let span = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    worker.sleep_until(worker.now_ns().saturating_add(span)).await;
}

/// Waits for `future` at most `duration`, then drops it: only for waits that are safe to drop.
///
/// # Panics
/// Outside of a runtime.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let mut future = pin!(future);
    let mut limit = pin!(sleep(duration));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(answer) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        limit.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_takes_no_processor_time() {
        let (busy, now) = (busy_ns(), now_ns());
        std::thread::sleep(Duration::from_millis(20));
        let (busy, passed) = (busy_ns() - busy, now_ns() - now);
        assert!(busy < passed, "{busy} ns of {passed}");
        let before = busy_ns();
        while busy_ns() == before {}
    }
}
