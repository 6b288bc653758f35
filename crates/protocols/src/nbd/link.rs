//! The way to a server: a connection, and with a delay for reconnecting the next one when that is lost.
//!
//! ```text
//! lost ─▶ requests wait, at most for the delay ─▶ they fail
//!    └──▶ connect · compare the export · send again what was not flushed ─▶ requests are made again
//! ```
//!
//! Laws: a request whose connection was lost is made again as it was: all of them can be carried out twice. Nobody uses a
//! new connection before what the server may have lost is written again ([`Unflushed`]). An export that has changed
//! is not taken for the old one.
//!
//! What a server that is cut off still does with requests it has received can't be known: one that carries out an old
//! write after the new connection was made undoes newer ones. Servers give up requests whose connection is closed.

use super::connection::{Connection, Patience};
use super::inflight::Answer;
use super::location::Location;
use crate::unflushed::{Change, Unflushed};
use api::BlockdevOptionsNbd;
use arc_swap::ArcSwap;
use block::{BlockError, ErrorKind, Result};
use event_listener::{Event, IntoNotification};
use futures_util::future::join_all;
use futures_util::lock::Mutex as Lock;
use nbd::client::Export;
use nbd::{Command, CommandFlags, TransmissionFlags};
use parking_lot::Mutex;
use rt::{Buf, BufMut, Target};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tls::Credentials;

/// Time between the first two attempts to connect; it doubles from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest time between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// Changes that are written again side by side.
const SIDE_BY_SIDE: usize = 64;

/// How long is waited for a server that is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Delays {
    /// While an export is opened; zero: one attempt.
    pub open: Duration,
    /// By requests, when a connection was lost; zero: they fail, and no other is made.
    pub reconnect: Duration,
}

impl Delays {
    /// Those of the driver's options.
    pub fn of(options: &BlockdevOptionsNbd) -> Self {
        let seconds = |given: Option<u32>| Duration::from_secs(given.unwrap_or(0).into());
        Self { open: seconds(options.open_timeout), reconnect: seconds(options.reconnect_delay) }
    }
}

/// The way to an export.
pub(super) struct Link {
    location: Location,
    /// For TLS, where the location says so.
    credentials: Option<Credentials>,
    name: String,
    patience: Patience,
    delays: Delays,
    /// What the server offers.
    pub(super) export: Export,
    connection: ArcSwap<Connection>,
    state: Mutex<State>,
    changed: Event,
    unflushed: Unflushed,
    /// One sync is under way at a time, for a server tells of lost data once: what a flush failed with that nobody had asked
    /// for.
    syncing: Lock<Option<BlockError>>,
}

#[derive(Default)]
enum State {
    #[default]
    Connected,
    /// Since requests found the connection lost.
    Lost {
        until_ns: u64,
        error: BlockError,
        /// The next connection, while what may be lost is written on it.
        next: Option<Arc<Connection>>,
    },
    /// Nobody connects again.
    Ended(BlockError),
}

impl Link {
    /// Connects; tries again for as long as the delays say.
    pub async fn open(
        location: Location,
        credentials: Option<Credentials>,
        patience: Patience,
        delays: Delays,
    ) -> Result<Arc<Self>> {
        let name = location.filename();
        let until_ns = rt::now_ns().saturating_add(nanos(delays.open));
        let mut pauses = pauses();
        let (connection, export) = loop {
            match Connection::open(&location, credentials.as_ref(), &name, patience).await {
                Ok(opened) => break opened,
                Err(error) => {
                    let left = until_ns.saturating_sub(rt::now_ns());
                    if left == 0 {
                        return Err(error);
                    }
                    rt::sleep(pauses.next().unwrap_or(LONGEST_PAUSE).min(Duration::from_nanos(left))).await;
                }
            }
        };
        Ok(Arc::new(Self {
            location,
            credentials,
            name,
            patience,
            delays,
            export,
            connection: ArcSwap::new(connection),
            state: Mutex::default(),
            changed: Event::new(),
            unflushed: Unflushed::default(),
            syncing: Lock::default(),
        }))
    }

    /// Where it leads.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// How long is waited.
    pub fn delays(&self) -> Delays {
        self.delays
    }

    /// The name of the export.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One request can mean more than 4 GiB.
    pub fn extended(&self) -> bool {
        self.connection.load().extended()
    }

    /// The server tells what is allocated.
    pub fn tells_status(&self) -> bool {
        self.connection.load().tells_status()
    }

    /// Makes a request that changes nothing, as [`Connection::call`].
    pub async fn call(
        self: &Arc<Self>,
        command: Command,
        flags: CommandFlags,
        range: (u64, u64),
        data: Option<Buf>,
        mut buf: Option<BufMut>,
    ) -> Answer {
        let buffer = buf.as_ref().map(|buf| buf.len());
        let mut lost_at = None;
        loop {
            let connection = self.connection.load_full();
            let (back, result) = connection.call(command, flags, range, data.clone(), buf).await;
            if self.delays.reconnect.is_zero() || result.is_ok() || connection.dead().is_none() {
                return (back, result);
            }
            // A request that a server does not survive is not made for ever.
            match lost_at {
                None => lost_at = Some(rt::now_ns()),
                Some(at) if rt::now_ns().saturating_sub(at) > nanos(self.delays.reconnect) => {
                    return (back, result);
                }
                Some(_) => rt::sleep(FIRST_PAUSE).await,
            }
            if let Err(error) = self.reconnected(&connection).await {
                return (back, Err(error));
            }
            buf = back.or_else(|| buffer.map(BufMut::zeroed));
        }
    }

    /// Writes to the export.
    pub async fn write(self: &Arc<Self>, flags: CommandFlags, offset: u64, data: Buf) -> Result<()> {
        // The copy keeps no larger buffer of somebody else's in memory.
        let change = || Change::Write(offset, Buf::from_slice(&data));
        let range = (offset, data.len() as u64);
        self.change(
            flags.contains(CommandFlags::FUA),
            change,
            self.call(Command::WRITE, flags, range, Some(data.clone()), None),
        )
        .await
    }

    /// Writes zeroes.
    pub async fn write_zeroes(
        self: &Arc<Self>,
        flags: CommandFlags,
        (offset, len): (u64, u64),
    ) -> Result<()> {
        let change = || Change::Zeroes(offset, len, !flags.contains(CommandFlags::NO_HOLE));
        self.change(
            flags.contains(CommandFlags::FUA),
            change,
            self.call(Command::WRITE_ZEROES, flags, (offset, len), None, None),
        )
        .await
    }

    async fn change(
        self: &Arc<Self>,
        durable: bool,
        change: impl FnOnce() -> Change,
        call: impl Future<Output = Answer>,
    ) -> Result<()> {
        if !self.keeps_unflushed() {
            return call.await.1.map(drop);
        }
        if self.unflushed.is_full() {
            let link = self.clone();
            // To its end, also where this writer leaves: a server tells of lost data once.
            rt::spawn(async move { link.make_room().await }).await.unwrap_or_else(|_| Err(self.closed()))?;
        }
        let _alone = if durable { Some(self.syncing.lock().await) } else { None };
        let noted = self.unflushed.note(change());
        call.await.1?;
        noted.answered();
        Ok(())
    }

    /// Flushes so that less has to be kept. Whoever flushes for a user later is told of what was lost here.
    async fn make_room(self: &Arc<Self>) -> Result<()> {
        let mut failed = self.syncing.lock().await;
        if !self.unflushed.is_full() {
            return Ok(());
        }
        let flushed = self.flush_once().await;
        if let Err(error) = &flushed {
            failed.get_or_insert_with(|| error.clone());
        }
        flushed
    }

    /// A server that has nothing to flush has lost nothing that it has answered.
    fn keeps_unflushed(&self) -> bool {
        !self.delays.reconnect.is_zero() && self.export.flags.contains(TransmissionFlags::SEND_FLUSH)
    }

    fn is_lost(&self) -> bool {
        matches!(*self.state.lock(), State::Connected | State::Lost { .. })
            && self.connection.load().dead().is_some()
    }

    /// Has the server make durable what it has answered.
    pub async fn flush(self: &Arc<Self>) -> Result<()> {
        if !self.export.flags.contains(TransmissionFlags::SEND_FLUSH) {
            // Nothing to ask for, but what was written through a lost connection may not have arrived.
            let lost = self.connection.load().dead();
            return lost.filter(|_| self.delays.reconnect.is_zero()).map_or(Ok(()), Err);
        }
        if !self.keeps_unflushed() {
            return self.flush_once().await;
        }
        let failed = self.syncing.lock().await;
        match &*failed {
            Some(error) => Err(error.clone()),
            // A server that is gone has nothing that is not durable.
            None if self.unflushed.is_empty() && self.is_lost() => Ok(()),
            None => self.flush_once().await,
        }
    }

    async fn flush_once(self: &Arc<Self>) -> Result<()> {
        let answered = self.unflushed.answered();
        self.call(Command::FLUSH, CommandFlags::NONE, (0, 0), None, None).await.1?;
        self.unflushed.forget(&answered);
        Ok(())
    }

    /// Waits until there is another connection than this one, which is lost.
    async fn reconnected(self: &Arc<Self>, lost: &Arc<Connection>) -> Result<()> {
        loop {
            let changed = self.changed.listen();
            let until_ns = {
                let mut state = self.state.lock();
                if let State::Connected = *state {
                    if !Arc::ptr_eq(&self.connection.load(), lost) {
                        return Ok(());
                    }
                    let until_ns = rt::now_ns().saturating_add(nanos(self.delays.reconnect));
                    *state = State::Lost {
                        until_ns,
                        error: lost.dead().unwrap_or_else(|| self.closed()),
                        next: None,
                    };
                    rt::spawn_on(Target::Control, reconnect(Arc::downgrade(self))).detach();
                }
                match &*state {
                    State::Lost { until_ns, error, .. } if rt::now_ns() >= *until_ns => {
                        return Err(error.clone());
                    }
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

    /// A connection to the same export, on which nothing is missing that the old server had answered.
    async fn connect_again(self: &Arc<Self>) -> Result<Arc<Connection>> {
        let credentials = self.credentials.as_ref();
        let (connection, export) =
            Connection::open(&self.location, credentials, &self.name, self.patience).await?;
        let result = async {
            self.need_same(&connection, &export)?;
            // Whoever ends the link ends this too.
            match &mut *self.state.lock() {
                State::Lost { next, .. } => *next = Some(connection.clone()),
                State::Connected | State::Ended(_) => return Err(self.closed()),
            }
            self.write_again(&connection).await
        };
        match result.await {
            Ok(()) => Ok(connection),
            Err(error) => {
                connection.close();
                Err(error)
            }
        }
    }

    /// Writes what may be lost, and has it made durable: durable changes are among it. Side by side, but for changes that
    /// meet.
    async fn write_again(&self, connection: &Connection) -> Result<()> {
        let changes = self.unflushed.all();
        if changes.is_empty() {
            return Ok(());
        }
        let mut rest = changes.as_slice();
        while !rest.is_empty() {
            let meets = |at: usize| rest[..at].iter().any(|(_, other)| other.meets(&rest[at].1));
            let count = (1..rest.len().min(SIDE_BY_SIDE))
                .find(|at| meets(*at))
                .unwrap_or(rest.len().min(SIDE_BY_SIDE));
            let (batch, behind) = rest.split_at(count);
            let results = join_all(batch.iter().map(|(_, change)| make(connection, change))).await;
            for ((number, _), result) in batch.iter().zip(results) {
                // One that nobody was told of is made again by whoever waits for it, who then is told why it fails.
                let owed = connection.dead().is_some() || self.unflushed.is_answered(*number);
                result
                    .or_else(|error| if owed { Err(error) } else { Ok(()) })
                    .map_err(|error| error.context("what was not flushed could not be written again"))?;
            }
            rest = behind;
        }
        let answered = self.unflushed.answered();
        connection.call(Command::FLUSH, CommandFlags::NONE, (0, 0), None, None).await.1?;
        // Those that came meanwhile wait for this connection, and are not among them: numbers only grow.
        let last = changes.last().map(|(number, _)| *number);
        let known: Vec<_> = answered.into_iter().filter(|number| Some(*number) <= last).collect();
        self.unflushed.forget(&known);
        Ok(())
    }

    fn need_same(&self, connection: &Connection, export: &Export) -> Result<()> {
        let old = &self.export;
        let what = if export.size != old.size {
            "another size"
        } else if !export.flags.contains(old.flags)
            || export.flags.contains(TransmissionFlags::READ_ONLY)
                != old.flags.contains(TransmissionFlags::READ_ONLY)
        {
            "other features"
        } else if export.minimum_block != old.minimum_block || export.maximum_payload < old.maximum_payload {
            "other block sizes"
        } else if old.headers.extended() != export.headers.extended()
            || self.tells_status() != connection.tells_status()
        {
            "another way of answering"
        } else {
            return Ok(());
        };
        let text = format!("the export '{}' that is there now has {what}", self.name);
        Err(BlockError::new(ErrorKind::Io, text))
    }

    fn closed(&self) -> BlockError {
        BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.name))
    }

    /// Gives the connection up because somebody wants it so. No other is made.
    pub fn cut(&self) {
        let text = format!("the connection to '{}' was given up on request", self.name);
        let (connection, next) = self.end(BlockError::new(ErrorKind::Io, text));
        connection.cut();
        next.into_iter().for_each(|next| next.cut());
    }

    /// Ends the connection as the protocol has it. No other is made.
    pub fn close(&self) {
        let (connection, next) = self.end(self.closed());
        connection.close();
        next.into_iter().for_each(|next| next.cut());
    }

    /// The last connection, and the one that was being made ready.
    fn end(&self, error: BlockError) -> (Arc<Connection>, Option<Arc<Connection>>) {
        let mut state = self.state.lock();
        let next = match std::mem::replace(&mut *state, State::Ended(error)) {
            State::Lost { next, .. } => next,
            State::Connected | State::Ended(_) => None,
        };
        // From now on no other is put in its place.
        let connection = self.connection.load_full();
        drop(state);
        self.changed.notify(usize::MAX.additional());
        (connection, next)
    }
}

/// Makes a change on a connection.
async fn make(connection: &Connection, change: &Change) -> Result<()> {
    let (command, flags, range, data) = match change {
        Change::Write(offset, data) => {
            (Command::WRITE, CommandFlags::NONE, (*offset, data.len() as u64), Some(data.clone()))
        }
        Change::Zeroes(offset, len, unmap) => {
            let flags = CommandFlags::when(!unmap, CommandFlags::NO_HOLE);
            (Command::WRITE_ZEROES, flags, (*offset, *len), None)
        }
    };
    connection.call(command, flags, range, data, None).await.1.map(drop)
}

/// Connects again and again until it works, or nobody wants it any more.
async fn reconnect(link: Weak<Link>) {
    for pause in pauses() {
        let Some(link) = link.upgrade() else { return };
        let connected = link.connect_again().await;
        {
            let mut state = link.state.lock();
            let State::Lost { error, next, .. } = &mut *state else {
                drop(state);
                if let Ok(connection) = connected {
                    connection.close();
                }
                return;
            };
            match connected {
                Ok(connection) => {
                    link.connection.store(connection);
                    *state = State::Connected;
                    drop(state);
                    tracing::info!(export = link.name, "connected to the NBD server again");
                    link.changed.notify(usize::MAX.additional());
                    return;
                }
                Err(cause) => {
                    tracing::warn!(export = link.name, error = %cause, "the NBD server can't be reached");
                    (*error, *next) = (cause, None);
                }
            }
        }
        drop(link);
        rt::sleep(pause).await;
    }
}

/// The times between attempts, for ever.
fn pauses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(FIRST_PAUSE), |pause| Some((*pause * 2).min(LONGEST_PAUSE)))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
