//! How many requests may be under way that could not be answered at once.
//!
//! Bounds: [`REQUESTS`] of them, whose data are together at most [`BYTES`], except that one is always admitted.

use event_listener::{Event, IntoNotification};
use parking_lot::Mutex;
use std::sync::Arc;

const REQUESTS: usize = 128;
const BYTES: usize = 16 << 20;

/// The room of one device.
#[derive(Default)]
pub(super) struct Room {
    taken: Mutex<Taken>,
    /// A request has left.
    left: Event,
}

#[derive(Default)]
struct Taken {
    requests: usize,
    bytes: usize,
}

/// One request's place; it leaves when this is dropped.
pub(super) struct Place {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// Waits until there is room for a request with so many bytes of data.
    pub async fn take(self: &Arc<Self>, bytes: usize) -> Place {
        loop {
            let left = self.left.listen();
            if let Some(place) = self.try_take(bytes) {
                return place;
            }
            left.await;
        }
    }

    fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Place> {
        let mut taken = self.taken.lock();
        if taken.requests > 0 && (taken.requests >= REQUESTS || taken.bytes + bytes > BYTES) {
            return None;
        }
        taken.requests += 1;
        taken.bytes += bytes;
        Some(Place { room: self.clone(), bytes })
    }

    /// Returns when no request is under way.
    pub async fn empty(&self) {
        loop {
            let left = self.left.listen();
            if self.taken.lock().requests == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock();
        taken.requests -= 1;
        taken.bytes -= self.bytes;
        drop(taken);
        self.room.left.notify(usize::MAX.additional());
    }
}
