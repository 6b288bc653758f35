//! The way to a server: a connection, and the next one when that is lost. Of nbd, iscsi, nfs and ssh.
//!
//! ```text
//! lost ─▶ requests wait, at most for the delay ─▶ they fail
//!    └──▶ abort · `connect` · `restore`, again and again, with growing pauses ─▶ requests are made again
//! ```
//!
//! Laws: a request whose connection was lost is made again as it was, so that only such are made here as can be carried out twice.
//! Nobody uses a new connection before whoever makes it says that nothing is missing on it. A connection that is lost is aborted
//! before the next one is made, or comes to its end in order: what waits to be sent on it never reaches the server, where it would
//! undo what is sent later. What the server has received it may still carry out.

use arc_swap::ArcSwap;
use block::{BlockError, Result};
use event_listener::{Event, IntoNotification};
use parking_lot::Mutex;
use rt::{BufMut, Target};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Time between the first two attempts to connect; it doubles from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest time between two attempts.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// The times between attempts, for ever.
pub(crate) fn pauses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(FIRST_PAUSE), |pause| Some((*pause * 2).min(LONGEST_PAUSE)))
}

/// Nanoseconds, as far as they can be counted.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What can be lost.
pub(crate) trait Connection: Send + Sync + 'static {
    /// Why nothing can be asked for any more, if so.
    fn dead(&self) -> Option<BlockError>;

    /// Ends it as the protocol has it, without waiting.
    fn leave(&self);

    /// Takes back what was sent on it and has not arrived; nobody needs it any more.
    fn abort(&self);

    /// Whether it comes to its end by itself, in order: nothing more is asked for on it, and what was is answered.
    /// [`Redial::connect`] waits for that.
    fn is_retiring(&self) -> bool {
        false
    }
}

/// Whoever has a [`Way`], and can make another connection.
pub(crate) trait Redial: Send + Sync + Sized + 'static {
    /// What is lost and made again.
    type Connection: Connection;

    /// The way.
    fn way(&self) -> &Way<Self::Connection>;

    /// How long requests wait for another connection.
    fn delay(&self) -> Duration;

    /// The error of requests after the end.
    fn closed(&self) -> BlockError;

    /// Another connection to the same server.
    fn connect(self: &Arc<Self>) -> impl Future<Output = Result<Arc<Self::Connection>>> + Send;

    /// Makes sure that it leads to the same disk, and that nothing is missing there.
    fn restore(
        self: &Arc<Self>,
        connection: &Arc<Self::Connection>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Whether another connection may take the place of one that is lost: everything that this one carried out can be carried out
    /// there again.
    fn is_replaceable(&self) -> bool {
        true
    }

    /// Notes that there is another connection.
    fn connected(&self);

    /// Notes that there is none yet: the error with which requests fail meanwhile.
    fn failed(&self, cause: BlockError) -> BlockError;
}

enum State<C> {
    Connected,
    /// Since requests found the connection lost.
    Lost {
        until_ns: u64,
        error: BlockError,
        /// The next connection, while what may be lost is written on it.
        next: Option<Arc<C>>,
    },
    /// Nobody connects again.
    Ended(BlockError),
}

/// The way to a server.
pub(crate) struct Way<C> {
    connection: ArcSwap<C>,
    state: Mutex<State<C>>,
    changed: Event,
}

impl<C: Connection> Way<C> {
    pub fn new(connection: Arc<C>) -> Self {
        let connection = ArcSwap::new(connection);
        Self { connection, state: Mutex::new(State::Connected), changed: Event::new() }
    }

    /// The connection that requests are made on.
    pub fn connection(&self) -> Arc<C> {
        self.connection.load_full()
    }

    /// The connection is lost, and was not ended from here.
    pub fn is_lost(&self) -> bool {
        let is_open = !matches!(*self.state.lock(), State::Ended(_));
        is_open && self.connection.load().dead().is_some()
    }

    /// Notes a connection that is being made ready: whoever ends the way ends this too. False: nobody waits for it any more.
    fn prepare(&self, connection: &Arc<C>) -> bool {
        match &mut *self.state.lock() {
            State::Lost { next, .. } => {
                *next = Some(connection.clone());
                true
            }
            State::Connected | State::Ended(_) => false,
        }
    }

    /// Ends the way with an error for later requests: the last connection is the caller's to end. No other is made, and one that was
    /// being made ready is aborted: what is written again on it must not arrive when others use the disk.
    pub fn end(&self, error: BlockError) -> Arc<C> {
        let mut state = self.state.lock();
        let next = match std::mem::replace(&mut *state, State::Ended(error)) {
            State::Lost { next, .. } => next,
            State::Connected | State::Ended(_) => None,
        };
        // From now on no other is put in its place.
        let connection = self.connection.load_full();
        drop(state);
        self.changed.notify(usize::MAX.additional());
        if let Some(next) = next {
            next.abort();
            next.leave();
        }
        connection
    }
}

/// How long a request has been made again: one that a server does not survive is not made for ever.
#[derive(Default)]
pub(crate) struct Attempts {
    first_failed_ns: Option<u64>,
}

impl Attempts {
    /// Counts an attempt that has failed: whether it was the first one; `None` after longer than the delay.
    pub fn count(&mut self, delay: Duration) -> Option<bool> {
        let now_ns = rt::now_ns();
        match self.first_failed_ns {
            None => {
                self.first_failed_ns = Some(now_ns);
                Some(true)
            }
            Some(first_ns) if now_ns.saturating_sub(first_ns) > nanos(delay) => None,
            Some(_) => Some(false),
        }
    }

    /// After an attempt that has failed: whether it is to be made again, for its connection was lost and there is another one.
    ///
    /// # Errors
    /// There is no other connection in time.
    pub async fn again<L: Redial>(&mut self, link: &Arc<L>, used: &Arc<L::Connection>) -> Result<bool> {
        // In this order: what is carried out on a connection that lives after this is seen by what follows, or was never sent.
        let is_lost = used.dead().is_some();
        let is_replaced = !Arc::ptr_eq(&link.way().connection.load(), used);
        Ok(is_lost && (is_replaced || link.is_replaceable()) && self.reconnected(link, used).await?)
    }

    /// After an attempt whose connection was lost: waits for another one. False: it is not to be made again.
    ///
    /// # Errors
    /// There is no other connection in time.
    pub async fn reconnected<L: Redial>(&mut self, link: &Arc<L>, lost: &Arc<L::Connection>) -> Result<bool> {
        let Some(is_first) = self.count(link.delay()) else { return Ok(false) };
        if !is_first {
            rt::sleep(FIRST_PAUSE).await;
        }
        reconnected(link, lost).await.map(|()| true)
    }
}

/// Makes a request that can be carried out twice, on this connection or on a later one. `make` is given the buffer that an answer's
/// data go to, and gives it back.
pub(crate) async fn request<L: Redial, T, F: Future<Output = (Option<BufMut>, Result<T>)>>(
    link: &Arc<L>,
    mut buf: Option<BufMut>,
    make: impl Fn(Arc<L::Connection>, Option<BufMut>) -> F,
) -> (Option<BufMut>, Result<T>) {
    let room = buf.as_ref().map(BufMut::len);
    let mut attempts = Attempts::default();
    loop {
        let connection = link.way().connection();
        let (back, result) = make(connection.clone(), buf).await;
        if result.is_ok() {
            return (back, result);
        }
        match attempts.again(link, &connection).await {
            Ok(true) => buf = back.or_else(|| room.map(BufMut::zeroed)),
            Ok(false) => return (back, result),
            Err(error) => return (back, Err(error)),
        }
    }
}

/// Waits until there is another connection than this one, which is lost.
async fn reconnected<L: Redial>(link: &Arc<L>, lost: &Arc<L::Connection>) -> Result<()> {
    let way = link.way();
    loop {
        let changed = way.changed.listen();
        let until_ns = {
            let mut state = way.state.lock();
            if let State::Connected = *state {
                if !Arc::ptr_eq(&way.connection.load(), lost) {
                    return Ok(());
                }
                let until_ns = rt::now_ns().saturating_add(nanos(link.delay()));
                let error = lost.dead().unwrap_or_else(|| link.closed());
                *state = State::Lost { until_ns, error, next: None };
                if !lost.is_retiring() {
                    lost.abort();
                }
                rt::spawn_on(Target::Control, reconnect(Arc::downgrade(link))).detach();
            }
            match &*state {
                State::Lost { until_ns, error, .. } if rt::now_ns() >= *until_ns => return Err(error.clone()),
                State::Lost { until_ns, .. } => *until_ns,
                State::Ended(error) => return Err(error.clone()),
                State::Connected => return Ok(()),
            }
        };
        let left = Duration::from_nanos(until_ns.saturating_sub(rt::now_ns()));
        // Whichever comes first: the state tells.
        let _ = rt::timeout(left, changed).await;
    }
}

/// Connects again and again until it works, or nobody wants it any more.
async fn reconnect<L: Redial>(link: Weak<L>) {
    for pause in pauses() {
        let Some(link) = link.upgrade() else { return };
        let connected = connect_again(&link).await;
        {
            let way = link.way();
            let mut state = way.state.lock();
            let State::Lost { error, next, .. } = &mut *state else {
                drop(state);
                if let Ok(connection) = connected {
                    connection.leave();
                }
                return;
            };
            match connected {
                Ok(connection) => {
                    way.connection.store(connection);
                    *state = State::Connected;
                    drop(state);
                    link.connected();
                    way.changed.notify(usize::MAX.additional());
                    return;
                }
                Err(cause) => (*error, *next) = (link.failed(cause), None),
            }
        }
        drop(link);
        rt::sleep(pause).await;
    }
}

/// Another connection, on which nothing is missing.
async fn connect_again<L: Redial>(link: &Arc<L>) -> Result<Arc<L::Connection>> {
    let connection = link.connect().await?;
    if !link.way().prepare(&connection) {
        connection.leave();
        return Err(link.closed());
    }
    match link.restore(&connection).await {
        Ok(()) => Ok(connection),
        Err(error) => {
            // What was written on it must not come after what the next one writes.
            connection.abort();
            connection.leave();
            Err(error)
        }
    }
}
