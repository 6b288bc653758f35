//! Requests in flight, by id: how many there may be, how long each may take, and how each ends.

use block::{BlockError, Result};
use futures_channel::oneshot;
use parking_lot::Mutex;
use rt::BufMut;
use sftp::Attributes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most requests in flight on one connection.
const REQUESTS: usize = 64;

/// What a server answers, as far as it is an answer.
#[derive(Debug)]
pub(super) enum Answered {
    /// It was carried out.
    Done,
    /// There is nothing behind the end of the file.
    End,
    /// So many bytes are at the front of the buffer.
    Data(usize),
    /// The handle of a file.
    Handle(Vec<u8>),
    /// What is known of a file.
    Attributes(Attributes),
    /// What an extension says.
    Extended(Vec<u8>),
}

/// What a request ends with: the buffer of a read comes back.
pub(super) type Answer = (Option<BufMut>, Result<Answered>);

/// What a request is, for messages.
#[derive(Clone, Copy)]
pub(super) struct What {
    pub name: &'static str,
    pub offset: Option<u64>,
}

/// How long a request may take.
///
/// Many requests share a slow line, and each waits for those before it: as long as bytes move, either way, the server
/// lives. `longest` bounds what it may then take all the same.
#[derive(Clone, Copy)]
pub(super) struct Term {
    /// When the request was made.
    pub began: Instant,
    /// Longest silence of the connection.
    pub silence: Duration,
    /// Longest time in all.
    pub longest: Duration,
}

impl Term {
    /// How long the request has waited, if that is too long. `alive`: when bytes moved last.
    fn overdue(&self, now: Instant, alive: Instant) -> Option<Duration> {
        let waited = now.saturating_duration_since(self.began);
        let silent = now.saturating_duration_since(alive.max(self.began));
        (silent >= self.silence || waited >= self.longest).then_some(waited)
    }
}

/// A request that was handed to the connection.
pub(super) struct Pending {
    pub what: What,
    /// Where a read's data go.
    pub buf: Option<BufMut>,
    reply: oneshot::Sender<Answer>,
    term: Term,
    /// Its place among [`REQUESTS`].
    _place: Option<OwnedSemaphorePermit>,
}

impl Pending {
    /// Gives the answer to whoever asked.
    pub fn end(self, result: Result<Answered>) {
        // Whoever asked may have gone; the request was carried out all the same.
        let _ = self.reply.send((self.buf, result));
    }
}

/// The requests of a connection.
pub(super) struct InFlight {
    table: Mutex<Table>,
    places: Arc<Semaphore>,
}

struct Table {
    pending: HashMap<u32, Pending>,
    next_id: u32,
    /// The time limit of the request whose reply is being received; it is not among the others.
    receiving: Option<Term>,
    /// When bytes moved last.
    alive: Instant,
    /// Why the connection is of no more use.
    dead: Option<BlockError>,
}

impl InFlight {
    /// None yet.
    pub fn new() -> Self {
        let table =
            Table { pending: HashMap::new(), next_id: 0, receiving: None, alive: Instant::now(), dead: None };
        Self { table: Mutex::new(table), places: Arc::new(Semaphore::new(REQUESTS)) }
    }

    /// Waits until one more request may be made.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.places.clone().acquire_owned().await.ok()
    }

    /// Registers a request; `send` hands it over under its id, in the order of the ids.
    pub fn begin(
        &self,
        (what, term): (What, Term),
        place: Option<OwnedSemaphorePermit>,
        buf: Option<BufMut>,
        send: impl FnOnce(u32) -> Result<()>,
    ) -> Result<oneshot::Receiver<Answer>, (Option<BufMut>, BlockError)> {
        let mut table = self.table.lock();
        if let Some(dead) = &table.dead {
            return Err((buf, dead.clone()));
        }
        let mut id = table.next_id;
        while table.pending.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        table.next_id = id.wrapping_add(1);
        if let Err(error) = send(id) {
            return Err((buf, error));
        }
        let (reply, answer) = oneshot::channel();
        table.pending.insert(id, Pending { what, buf, reply, term, _place: place });
        Ok(answer)
    }

    /// Takes the request whose reply begins.
    pub fn take(&self, id: u32) -> Option<Pending> {
        let mut table = self.table.lock();
        let pending = table.pending.remove(&id)?;
        table.receiving = Some(pending.term);
        Some(pending)
    }

    /// Bytes have moved; `received`: the reply that was being received is whole.
    pub fn alive(&self, received: bool) {
        let mut table = self.table.lock();
        table.alive = Instant::now();
        if received {
            table.receiving = None;
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

    /// How long a request has waited that has had no answer for too long.
    pub fn overdue(&self) -> Option<Duration> {
        let (now, table) = (Instant::now(), self.table.lock());
        let terms = table.pending.values().map(|pending| pending.term).chain(table.receiving);
        terms.filter_map(|term| term.overdue(now, table.alive)).max()
    }
}
