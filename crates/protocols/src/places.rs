//! How many requests there may be on a connection at a time.

use event_listener::{Event, IntoNotification};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The places of a connection.
pub(crate) struct Places(Arc<Inner>);

struct Inner {
    most: usize,
    taken: AtomicUsize,
    freed: Event,
}

/// The place of a request; it is free again when this is dropped.
pub(crate) struct Place(Arc<Inner>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify(1.additional());
    }
}

impl Places {
    /// So many, all free.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, taken: AtomicUsize::new(0), freed: Event::new() }))
    }

    /// Waits until one more request may be made.
    pub async fn take(&self) -> Place {
        loop {
            if let Some(place) = self.try_take() {
                return place;
            }
            let freed = self.0.freed.listen();
            // It may have become free in between.
            if let Some(place) = self.try_take() {
                return place;
            }
            freed.await;
        }
    }

    fn try_take(&self) -> Option<Place> {
        let more = |taken: usize| (taken < self.0.most).then_some(taken + 1);
        let taken = self.0.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok().then(|| Place(self.0.clone()))
    }

    /// Whether no request has one.
    #[cfg(feature = "iscsi")]
    pub fn are_free(&self) -> bool {
        self.0.taken.load(Ordering::Acquire) == 0
    }
}
