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
