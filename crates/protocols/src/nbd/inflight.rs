//! Requests in flight, by cookie: how many there may be, and how each ends.

use block::{BlockError, Result};
use event_listener::{Event, IntoNotification};
use futures_channel::oneshot;
use nbd::ExtentFlags;
use nbd::client::Tracker;
use parking_lot::Mutex;
use rt::BufMut;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most requests in flight on one connection.
const REQUESTS: usize = 64;

/// What a request ends with: its buffer, and the extents of a block status.
pub(super) type Answer = (Option<BufMut>, Result<Vec<(u32, ExtentFlags)>>);

/// A request that was handed to the connection.
pub(super) struct Pending {
    pub tracker: Tracker,
    /// Where a read's data go.
    pub buf: Option<BufMut>,
    reply: oneshot::Sender<Answer>,
    /// When it is given up, on the runtime's clock.
    pub deadline_ns: u64,
    /// Nanoseconds that it may take between two signs of life.
    pub patience_ns: u64,
    /// Its place among [`REQUESTS`].
    _place: Place,
}

impl Pending {
    /// Gives the answer to whoever asked.
    pub fn end(self, result: Result<Vec<(u32, ExtentFlags)>>) {
        // Whoever asked may have gone; the request was carried out all the same.
        let _ = self.reply.send((self.buf, result));
    }

    /// The server has shown that it works on the request.
    pub fn progressed(&mut self) {
        self.deadline_ns = rt::now_ns().saturating_add(self.patience_ns);
    }
}

/// The requests of a connection.
#[derive(Default)]
pub(super) struct InFlight {
    table: Mutex<Table>,
    places: Arc<Places>,
}

#[derive(Default)]
struct Table {
    pending: HashMap<u64, Pending>,
    next_cookie: u64,
    /// Why the connection is of no more use.
    dead: Option<BlockError>,
}

#[derive(Default)]
struct Places {
    taken: AtomicUsize,
    freed: Event,
}

struct Place(Arc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify(1.additional());
    }
}

/// A place for a request that is about to be made.
pub(super) struct Ticket {
    place: Place,
    patience_ns: u64,
}

impl InFlight {
    /// Waits until one more request may be made.
    pub async fn ticket(&self, patience_ns: u64) -> Ticket {
        loop {
            let taken = &self.places.taken;
            let more = |n: usize| (n < REQUESTS).then_some(n + 1);
            let freed = self.places.freed.listen();
            if taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok() {
                return Ticket { place: Place(self.places.clone()), patience_ns };
            }
            freed.await;
        }
    }

    /// Registers a request under a cookie that `make` puts into it.
    pub fn begin(
        &self,
        ticket: Ticket,
        buf: Option<BufMut>,
        make: impl FnOnce(u64) -> Tracker,
    ) -> Result<(u64, oneshot::Receiver<Answer>), (Option<BufMut>, BlockError)> {
        let mut table = self.table.lock();
        if let Some(dead) = &table.dead {
            return Err((buf, dead.clone()));
        }
        let cookie = table.next_cookie;
        table.next_cookie = cookie.wrapping_add(1);
        let (reply, answer) = oneshot::channel();
        let Ticket { place, patience_ns } = ticket;
        let deadline_ns = rt::now_ns().saturating_add(patience_ns);
        let pending = Pending { tracker: make(cookie), buf, reply, deadline_ns, patience_ns, _place: place };
        table.pending.insert(cookie, pending);
        Ok((cookie, answer))
    }

    /// Takes the request of a reply; [`InFlight::put_back`] if the reply goes on.
    pub fn take(&self, cookie: u64) -> Option<Pending> {
        self.table.lock().pending.remove(&cookie)
    }

    /// The request's reply goes on.
    pub fn put_back(&self, cookie: u64, pending: Pending) {
        let mut table = self.table.lock();
        match table.dead.clone() {
            Some(dead) => {
                drop(table);
                pending.end(Err(dead));
            }
            None => drop(table.pending.insert(cookie, pending)),
        }
    }

    /// Ends all requests with `error`, and every later one. The first call counts.
    pub fn kill(&self, error: &BlockError) {
        let ended = {
            let mut table = self.table.lock();
            table.dead.get_or_insert_with(|| error.clone());
            std::mem::take(&mut table.pending)
        };
        for pending in ended.into_values() {
            pending.end(Err(error.clone()));
        }
    }

    /// Why the connection is of no more use, if so.
    pub fn dead(&self) -> Option<BlockError> {
        self.table.lock().dead.clone()
    }

    /// A request that has had no answer for too long, if there is one.
    pub fn overdue(&self, now_ns: u64) -> bool {
        self.table.lock().pending.values().any(|pending| pending.deadline_ns <= now_ns)
    }
}
