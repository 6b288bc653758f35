//! Calls in flight, by their numbers: how many there may be, and how each ends.

use block::{BlockError, Result};
use event_listener::{Event, IntoNotification};
use futures_channel::oneshot;
use parking_lot::Mutex;
use rt::BufMut;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Most calls in flight on one connection.
const CALLS: usize = 64;

/// How long is waited for a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// To connect, to be told a port, to mount.
    pub connect: Duration,
    /// Without a byte from or to a server that has calls.
    pub silence: Duration,
    /// For a call in all, and for the silence of one that has to reach a disk.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let silence = Duration::from_secs(30);
        Self { connect: silence, silence, longest: silence * 10 }
    }
}

/// What a call ends with: the buffer of a read, and the reply without the bytes that are in there.
pub(super) type Answer = (Option<BufMut>, Result<Vec<u8>>);

/// A call that was handed to the connection.
pub(super) struct Pending {
    /// Where a read's bytes go.
    pub buf: Option<BufMut>,
    reply: oneshot::Sender<Answer>,
    term: Term,
    /// Its place among [`CALLS`].
    _place: Place,
}

impl Pending {
    /// Gives the answer to whoever asked.
    pub fn end(self, result: Result<Vec<u8>>) {
        // Whoever asked may have gone; the call was carried out all the same.
        let _ = self.reply.send((self.buf, result));
    }

    /// How long it may take.
    pub fn term(&self) -> Term {
        self.term
    }
}

/// How long a call may take, in ns on the runtime's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    began: u64,
    silence: u64,
    longest: u64,
}

impl Term {
    /// That of a call which begins now. `syncs`: everything that was written before may have to reach a disk.
    pub fn begin(patience: Patience, syncs: bool) -> Self {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let silence = if syncs { patience.longest } else { patience.silence };
        Self { began: rt::now_ns(), silence: nanos(silence), longest: nanos(patience.longest) }
    }

    /// How long the call has waited, if that is too long. `alive`: when bytes moved last.
    fn overdue(&self, now: u64, alive: u64) -> Option<u64> {
        let waited = now.saturating_sub(self.began);
        let silent = now.saturating_sub(alive.max(self.began));
        (silent >= self.silence || waited >= self.longest).then_some(waited)
    }
}

/// The calls of a connection.
pub(super) struct InFlight {
    table: Mutex<Table>,
    places: Arc<Places>,
    /// When bytes moved last.
    alive_ns: AtomicU64,
}

struct Table {
    pending: HashMap<u32, Pending>,
    next: u32,
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

/// A place for a call that is about to be made.
pub(super) struct Ticket(Place);

impl InFlight {
    /// None yet. Numbers begin anywhere: a server may remember those of an earlier connection from the same port.
    pub fn new() -> Self {
        let table = Table { pending: HashMap::new(), next: rt::random_u64() as u32, dead: None };
        Self { table: Mutex::new(table), places: Arc::default(), alive_ns: AtomicU64::new(0) }
    }

    /// Waits until one more call may be made.
    pub async fn ticket(&self) -> Ticket {
        loop {
            let more = |n: usize| (n < CALLS).then_some(n + 1);
            let freed = self.places.freed.listen();
            if self.places.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok() {
                return Ticket(Place(self.places.clone()));
            }
            freed.await;
        }
    }

    /// Registers a call: its number, and its answer to come.
    pub fn begin(
        &self,
        ticket: Ticket,
        term: Term,
        buf: Option<BufMut>,
    ) -> Result<(u32, oneshot::Receiver<Answer>), (Option<BufMut>, BlockError)> {
        let mut table = self.table.lock();
        if let Some(dead) = &table.dead {
            return Err((buf, dead.clone()));
        }
        let xid = table.next;
        table.next = xid.wrapping_add(1);
        let (reply, answer) = oneshot::channel();
        table.pending.insert(xid, Pending { buf, reply, term, _place: ticket.0 });
        Ok((xid, answer))
    }

    /// Takes the call of a reply.
    pub fn take(&self, xid: u32) -> Option<Pending> {
        self.table.lock().pending.remove(&xid)
    }

    /// Ends all calls with `error`, and every later one. The first time counts.
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

    /// How long a call has waited that has had no answer for too long; `receiving` is the one that is being answered now, and not
    /// in the table.
    pub fn overdue(&self, receiving: Option<Term>) -> Option<u64> {
        let (now, alive) = (rt::now_ns(), self.alive_ns.load(Ordering::Relaxed));
        let table = self.table.lock();
        let terms = table.pending.values().map(|pending| pending.term).chain(receiving);
        terms.filter_map(|term| term.overdue(now, alive)).max()
    }
}
