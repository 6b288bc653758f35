//! Bounded pools for synchronous functions: calls that wait, and calls that compute.
//!
//! Bounds: [`MAX_BLOCKING`] threads for the first kind, one per core for the second; a thread that had nothing to
//! do for a while ends. A job always runs, also when nobody waits for its answer any more.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::Poll;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::worker::{Pool, enter, expect_current};

/// Most threads that wait in blocking calls at once; further calls queue.
pub const MAX_BLOCKING: usize = 16;

/// What a job leaves for its waiter.
struct Answer<T> {
    value: Mutex<Option<Result<T, Box<dyn Any + Send>>>>,
    waker: AtomicWaker,
}

async fn run_on<T, F>(pool: Pool, f: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let worker = expect_current();
    let answer = Arc::new(Answer { value: Mutex::new(None), waker: AtomicWaker::new() });
    let (theirs, handle) = (answer.clone(), worker.clone());
    let job = move || {
        let value = catch_unwind(AssertUnwindSafe(|| enter(handle, f)));
        *theirs.value.lock() = Some(value);
        theirs.waker.wake();
    };
    worker.run_blocking(pool, Box::new(job));
    let value = std::future::poll_fn(move |cx| {
        answer.waker.register(cx.waker());
        match answer.value.lock().take() {
            Some(value) => Poll::Ready(value),
            None => Poll::Pending,
        }
    })
    .await;
    match value {
        Ok(value) => value,
        // The job's panic is its caller's, as if it had been called in place.
        Err(panic) => resume_unwind(panic),
    }
}

/// Runs a call that may wait (open, lock, name resolution) off the worker.
///
/// # Panics
/// Outside of a runtime, and with the panic of `f` if it panics.
pub async fn blocking<T, F>(f: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    run_on(Pool::Blocking, f).await
}

/// Runs a call that computes for long (a codec, a key derivation) off the worker.
///
/// # Panics
/// Outside of a runtime, and with the panic of `f` if it panics.
pub async fn compute<T, F>(f: F) -> T
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    run_on(Pool::Compute, f).await
}
