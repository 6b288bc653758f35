//! The end of a node's use of its server: whoever waits for the server then, or comes later, is told why.

use block::{BlockError, Result};
use event_listener::Event;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::OnceLock;
use std::task::Poll;

/// Whether it has come, and why.
#[derive(Default)]
pub(crate) struct Ending {
    why: OnceLock<BlockError>,
    event: Event,
}

impl Ending {
    /// It has come; the first reason counts.
    pub fn come(&self, why: BlockError) {
        // Set already: that was the first one.
        let _ = self.why.set(why);
        self.event.notify(usize::MAX);
    }

    /// Refuses what comes after it.
    pub fn check(&self) -> Result<()> {
        self.why.get().map_or(Ok(()), |why| Err(why.clone()))
    }

    /// Waits for `work`, or for the end.
    pub async fn unless<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let mut end = pin!(self.event.listen());
        self.check()?;
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            match (end.as_mut().poll(cx), self.why.get()) {
                (Poll::Ready(()), Some(why)) => Poll::Ready(Err(why.clone())),
                _ => Poll::Pending,
            }
        })
        .await
    }
}
