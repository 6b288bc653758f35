//! Tasks: spawn, join handles, and the containment of panics.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_task::FallibleTask;

use crate::local;
use crate::worker::{self, Target, Worker, expect_current};

/// Why a task gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// It panicked; the text is the panic's message.
    #[error("the task panicked: {0}")]
    Panicked(String),
    /// Its runtime ended before it did.
    #[error("the runtime ended before the task did")]
    Cancelled,
}

/// The answer of a task to come. Dropping it detaches the task, which runs on.
#[must_use = "await it, or call detach() to say that nobody waits"]
pub struct JoinHandle<T> {
    task: Option<FallibleTask<Result<T, JoinError>>>,
}

impl<T> JoinHandle<T> {
    /// Lets the task run on with nobody waiting: the same as dropping it, but explicit.
    pub fn detach(self) {}

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(|task| task.is_finished())
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(task) = self.task.as_mut() else {
            return Poll::Ready(Err(JoinError::Cancelled));
        };
        Pin::new(task).poll(cx).map(|answer| answer.unwrap_or(Err(JoinError::Cancelled)))
    }
}

/// A future whose panic becomes a value.
struct Contained<F> {
    future: F,
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `future` is structurally pinned: it is never moved out of, and `Contained` has no Drop and no Unpin
        // of its own.
        let future = unsafe { self.map_unchecked_mut(|contained| &mut contained.future) };
        // After a panic the future is never polled again, only dropped: broken invariants are not observed.
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
            Err(panic) => {
                let message = panic_message(panic.as_ref());
                tracing::error!(message, "a task panicked; it is abandoned, the others run on");
                Poll::Ready(Err(JoinError::Panicked(message)))
            }
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

fn spawn_to<F>(worker: Arc<dyn Worker>, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let contained = Contained { future };
    let (runnable, task) = async_task::spawn(contained, move |runnable| worker.schedule(runnable));
    runnable.schedule();
    JoinHandle { task: Some(task.fallible()) }
}

/// Starts a task on the current worker. A panic in it is logged and becomes [`JoinError::Panicked`].
///
/// # Panics
/// Outside of a runtime.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_to(expect_current(), future)
}

/// Starts a task on the worker that `target` names.
///
/// # Panics
/// Outside of a runtime.
pub fn spawn_on<F>(target: Target, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (worker, load) = expect_current().place(target);
    spawn_to(worker, async move {
        let _load = load;
        future.await
    })
}

/// Lets other ready tasks of this worker run first, and has it look at its sockets and timers.
pub async fn yield_now() {
    let mut yielded = false;
    local::end_turn();
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// For functions that may complete without ever waiting: every so often lets other tasks run first, so that a loop over
/// them does not starve the worker.
pub async fn cooperate() {
    if worker::spend() {
        yield_now().await;
    }
}
