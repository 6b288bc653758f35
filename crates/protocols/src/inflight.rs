//! Requests in flight on a connection, by number: how many there may be, how long each may take, and how each ends. Of nbd, nfs and ssh.

use crate::places::{Place, Places};
use block::{BlockError, Result};
use futures_channel::oneshot;
use parking_lot::Mutex;
use rt::BufMut;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most requests in flight on one connection.
const REQUESTS: usize = 64;

/// What a request ends with: its buffer, and what its reply says.
pub(crate) type Answer<R> = (Option<BufMut>, Result<R>);

/// A request that was made: its number, and its answer to come. Where it could not be made, its buffer comes back.
pub(crate) type Begun<R> = Result<(u64, oneshot::Receiver<Answer<R>>), (Option<BufMut>, BlockError)>;

/// A request that was handed to the connection. `T` is what its connection has to know of it.
pub(crate) struct Pending<T, R> {
    pub about: T,
    /// Where a read's data go.
    pub buf: Option<BufMut>,
    reply: oneshot::Sender<Answer<R>>,
    /// When it was made, and how long it may take.
    pub term: Term,
    /// Its place among [`REQUESTS`], unless nobody waits for it.
    _place: Option<Place>,
}

impl<T, R> Pending<T, R> {
    /// Gives the answer to whoever asked.
    pub fn end(self, result: Result<R>) {
        // Whoever asked may have gone; the request was carried out all the same.
        let _ = self.reply.send((self.buf, result));
    }
}

/// How long a request may take, in ns on the runtime's clock.
///
/// Many requests share a slow line, and each waits for those before it: as long as bytes move, either way, the server
/// lives. `longest` bounds what it may then take all the same.
#[derive(Clone, Copy)]
pub(crate) struct Term {
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
pub(crate) struct InFlight<T, R> {
    /// Where they go, for messages.
    name: String,
    table: Mutex<Table<T, R>>,
    places: Places,
    /// When bytes moved last.
    alive_ns: AtomicU64,
}

struct Table<T, R> {
    pending: HashMap<u64, Pending<T, R>>,
    next: u64,
    /// The time limit of the request whose reply is being received; it is not among the others.
    receiving: Option<Term>,
    /// Numbers have these bits.
    bits: u64,
    /// Why the connection is of no more use.
    dead: Option<BlockError>,
}

impl<T, R> InFlight<T, R> {
    /// None yet, towards `name`. The first number, and the bits that numbers have.
    pub fn new(name: &str, first: u64, bits: u64) -> Self {
        let table = Table { pending: HashMap::new(), next: first & bits, receiving: None, bits, dead: None };
        let (table, places) = (Mutex::new(table), Places::new(REQUESTS));
        Self { name: name.to_owned(), table, places, alive_ns: AtomicU64::new(0) }
    }

    /// Where they go, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until one more request may be made.
    pub async fn place(&self) -> Place {
        self.places.take().await
    }

    /// Registers a request under a number, which `make` is told: in the order of the numbers, and before any reply is looked for.
    pub fn begin(
        &self,
        place: impl Into<Option<Place>>,
        term: Term,
        buf: Option<BufMut>,
        make: impl FnOnce(u64) -> Result<T>,
    ) -> Begun<R> {
        let mut table = self.table.lock();
        if let Some(dead) = &table.dead {
            return Err((buf, dead.clone()));
        }
        let number = table.next;
        table.next = number.wrapping_add(1) & table.bits;
        let about = match make(number) {
            Ok(about) => about,
            Err(error) => return Err((buf, error)),
        };
        let (reply, answer) = oneshot::channel();
        let pending = Pending { about, buf, reply, term, _place: place.into() };
        table.pending.insert(number, pending);
        Ok((number, answer))
    }

    /// Takes the request of a reply; [`InFlight::put_back`] if the reply goes on.
    pub fn take(&self, number: u64) -> Option<Pending<T, R>> {
        self.table.lock().pending.remove(&number)
    }

    /// The request's reply goes on.
    pub fn put_back(&self, number: u64, pending: Pending<T, R>) {
        let mut table = self.table.lock();
        match table.dead.clone() {
            Some(dead) => {
                drop(table);
                pending.end(Err(dead));
            }
            None => drop(table.pending.insert(number, pending)),
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

    /// The time limit of the request whose reply is being received, if there is one.
    pub fn receiving(&self, term: Option<Term>) {
        self.table.lock().receiving = term;
    }

    /// How long a request has waited that has had no answer for too long.
    pub fn overdue(&self) -> Option<u64> {
        let (now, alive) = (rt::now_ns(), self.alive_ns.load(Ordering::Relaxed));
        let table = self.table.lock();
        let terms = table.pending.values().map(|pending| pending.term).chain(table.receiving);
        terms.filter_map(|term| term.overdue(now, alive)).max()
    }
}
