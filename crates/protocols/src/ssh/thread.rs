//! The thread on which SSH runs: `russh` needs tokio, which nothing else here does. It starts with the first node that needs
//! it and stays.
//!
//! ```text
//! any executor ─▶ run(future) ──▶ the thread     dropped before its end: the work is given up
//!              ◀── its output ──┘
//! ```
//!
//! What goes over besides are messages: requests through a queue, and their answers through one-shot channels that any
//! executor can wait for. Data cross as they are, in buffers that change hands.

use block::{BlockError, ErrorKind, Result};
use parking_lot::Mutex;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;

static RUNTIME: Mutex<Option<Handle>> = Mutex::new(None);

/// Work that ends with whoever waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let failed = |_| BlockError::new(ErrorKind::Io, "work for an SSH connection ended unexpectedly");
        Pin::new(&mut self.0).poll(cx).map(|result| result.map_err(failed))
    }
}

/// Has the work done on the thread, and waits for its end.
pub(super) async fn run<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let task = Task(handle()?.spawn(work));
    task.await
}

fn handle() -> Result<Handle> {
    let mut running = RUNTIME.lock();
    if let Some(handle) = &*running {
        return Ok(handle.clone());
    }
    let failed = |error| BlockError::os("the thread for SSH could not be started", &error);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let handle = runtime.handle().clone();
    let forever = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("ssh".to_owned()).spawn(forever).map_err(failed)?;
    *running = Some(handle.clone());
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::oneshot;

    #[test]
    fn any_executor_waits_for_work_on_the_thread_and_gives_it_up_by_leaving() {
        rt::block_on_control(async {
            let name = run(async { std::thread::current().name().map(str::to_owned) }).await.unwrap();
            assert_eq!(name.as_deref(), Some("ssh"));
            let (gone, left) = oneshot::channel::<()>();
            let held = Arc::new(gone);
            let work = run(async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
            assert!(rt::timeout(std::time::Duration::from_millis(1), work).await.is_err());
            // What the work held is dropped.
            assert!(left.await.is_err());
        });
    }

    #[test]
    fn a_panic_of_the_work_is_an_error_and_the_thread_lives() {
        rt::block_on_control(async {
            assert!(run(async { panic!("on purpose") }).await.is_err());
            assert_eq!(run(async { 7 }).await.unwrap(), 7);
        });
    }
}
