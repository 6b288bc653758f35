//! What tells the task that moves a connection's bytes what there is to do.

use futures_util::task::AtomicWaker;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

/// What others tell the task.
#[derive(Default)]
pub(crate) struct Signals {
    queued: AtomicBool,
    leaving: AtomicBool,
    closing: AtomicBool,
    waker: AtomicWaker,
}

impl Signals {
    /// Whether something waits to be sent.
    pub fn queue(&self, waits: bool) {
        if self.queued.swap(waits, Ordering::AcqRel) != waits && waits {
            self.waker.wake();
        }
    }

    /// The connection is about to be ended from here, as the protocol has it: whatever ends it from now on is no loss.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether it is.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// The connection has ended.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it has.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Waits for something to receive or to send, by the futures of the stream; true: to receive. `None` when the connection has
    /// ended.
    pub async fn wait(
        &self,
        readable: impl Future<Output = io::Result<()>>,
        writable: impl Future<Output = io::Result<()>>,
    ) -> Option<io::Result<bool>> {
        let mut readable = pin!(readable);
        let mut writable = pin!(writable);
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.is_closing() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(result) = readable.as_mut().poll(cx) {
                return Poll::Ready(Some(result.map(|()| true)));
            }
            if self.queued.load(Ordering::Acquire)
                && let Poll::Ready(result) = writable.as_mut().poll(cx)
            {
                return Poll::Ready(Some(result.map(|()| false)));
            }
            Poll::Pending
        })
        .await
    }
}
