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
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Most requests in flight on one connection.
const REQUESTS: usize = 64;

/// What a request ends with: its buffer, and the extents of a block status.
pub(super) type Answer = (Option<BufMut>, Result<Vec<(u64, ExtentFlags)>>);

/// A request that was handed to the connection.
pub(super) struct Pending {
    pub tracker: Tracker,
    /// Where a read's data go.
    pub buf: Option<BufMut>,
    reply: oneshot::Sender<Answer>,
    /// When it was made, and how long it may take.
    pub term: Term,
    /// Its place among [`REQUESTS`].
    _place: Place,
}

impl Pending {
    /// Gives the answer to whoever asked.
    pub fn end(self, result: Result<Vec<(u64, ExtentFlags)>>) {
        // Whoever asked may have gone; the request was carried out all the same.
        let _ = self.reply.send((self.buf, result));
    }
}

/// How long a request may take, in ns on the runtime's clock.
///
/// Many requests share a slow line, and each waits for those before it: as long as bytes move, either way, the server
/// lives. `longest` bounds what it may then take all the same.
#[derive(Clone, Copy)]
pub(super) struct Term {
    /// When the request was made.
    pub began: u64,
    /// Longest silence of the connection.
    pub silence: u64,
    /// Longest time in all.
    pub longest: u64,
}

impl Term {
    /// How long the request has waited, if that is too long. `alive`: when bytes moved last.
    pub fn overdue(&self, now: u64, alive: u64) -> Option<u64> {
        let waited = now.saturating_sub(self.began);
        let silent = now.saturating_sub(alive.max(self.began));
        (silent >= self.silence || waited >= self.longest).then_some(waited)
    }
}

/// The requests of a connection.
pub(super) struct InFlight {
    /// The export, for messages.
    name: String,
    table: Mutex<Table>,
    places: Arc<Places>,
    /// When bytes moved last.
    alive_ns: AtomicU64,
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
}

impl InFlight {
    /// None yet, towards the export `name`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            table: Mutex::default(),
            places: Arc::default(),
            alive_ns: AtomicU64::new(0),
        }
    }

    /// The export, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until one more request may be made.
    pub async fn ticket(&self) -> Ticket {
        loop {
            let taken = &self.places.taken;
            let more = |n: usize| (n < REQUESTS).then_some(n + 1);
            let freed = self.places.freed.listen();
            if taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok() {
                return Ticket { place: Place(self.places.clone()) };
            }
            freed.await;
        }
    }

    /// Registers a request under a cookie that `make` puts into it.
    pub fn begin(
        &self,
        ticket: Ticket,
        term: Term,
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
        let pending = Pending { tracker: make(cookie), buf, reply, term, _place: ticket.place };
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

    /// Bytes have moved.
    pub fn alive(&self) {
        self.alive_ns.store(rt::now_ns(), Ordering::Relaxed);
    }

    /// How long a request has waited that has had no answer for too long; `receiving` is the one that is being
    /// answered now, and not in the table.
    pub fn overdue(&self, receiving: Option<Term>) -> Option<u64> {
        let (now, alive) = (rt::now_ns(), self.alive_ns.load(Ordering::Relaxed));
        let table = self.table.lock();
        let terms = table.pending.values().map(|pending| pending.term).chain(receiving);
        terms.filter_map(|term| term.overdue(now, alive)).max()
    }
}
