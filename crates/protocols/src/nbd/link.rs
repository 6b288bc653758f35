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
//! What a server still does with requests that it has received over a connection that is aborted can't be known: one that carries out
//! an old write after the new connection was made undoes newer ones. Servers give up requests whose connection is closed.

use super::connection::{Answer, Connection, Patience};
use super::location::Location;
use crate::unflushed::{self, Change, Keeper, Unflushed};
use crate::way::{self, Connection as _, LONGEST_PAUSE, Redial, Way, nanos, pauses};
use api::BlockdevOptionsNbd;
use block::{BlockError, ErrorKind, Result};
use nbd::client::Export;
use nbd::{Command, CommandFlags, TransmissionFlags};
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::time::Duration;
use tls::Credentials;

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
    way: Way<Connection>,
    unflushed: Unflushed,
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
            way: Way::new(connection),
            unflushed: Unflushed::default(),
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
        self.way.connection().extended()
    }

    /// The server tells what is allocated.
    pub fn tells_status(&self) -> bool {
        self.way.connection().tells_status()
    }

    /// Makes a request that changes nothing, as [`Connection::call`].
    pub async fn call(
        self: &Arc<Self>,
        command: Command,
        flags: CommandFlags,
        range: (u64, u64),
        data: Option<Buf>,
        buf: Option<BufMut>,
    ) -> Answer {
        let data = &data;
        way::request(self, buf, |connection, buf| async move {
            connection.call(command, flags, range, data.clone(), buf).await
        })
        .await
    }

    /// Writes to the export.
    pub async fn write(self: &Arc<Self>, flags: CommandFlags, offset: u64, data: Buf) -> Result<()> {
        // The copy keeps no larger buffer of somebody else's in memory.
        let change = || Change::Write(offset, Buf::from_slice(&data));
        let range = (offset, data.len() as u64);
        let call = self.call(Command::WRITE, flags, range, Some(data.clone()), None);
        self.change(flags, data.len(), change, call).await
    }

    /// Writes zeroes.
    pub async fn write_zeroes(
        self: &Arc<Self>,
        flags: CommandFlags,
        (offset, len): (u64, u64),
    ) -> Result<()> {
        let change = || Change::Zeroes(offset, len, !flags.contains(CommandFlags::NO_HOLE));
        let call = self.call(Command::WRITE_ZEROES, flags, (offset, len), None, None);
        self.change(flags, 0, change, call).await
    }

    /// Makes a change with so many bytes of data.
    async fn change(
        self: &Arc<Self>,
        flags: CommandFlags,
        data: usize,
        change: impl FnOnce() -> Change,
        call: impl Future<Output = Answer>,
    ) -> Result<()> {
        if !self.keeps_unflushed() {
            return call.await.1.map(drop);
        }
        let durable = flags.contains(CommandFlags::FUA);
        let room = unflushed::room(self, data).await?;
        self.unflushed.change(room, durable, change(), async { call.await.1.map(|_| ((), durable)) }).await
    }

    /// A server that has nothing to flush has lost nothing that it has answered.
    fn keeps_unflushed(&self) -> bool {
        !self.delays.reconnect.is_zero() && self.export.flags.contains(TransmissionFlags::SEND_FLUSH)
    }

    /// Has the server make durable what it has answered.
    pub async fn flush(self: &Arc<Self>) -> Result<()> {
        if !self.export.flags.contains(TransmissionFlags::SEND_FLUSH) {
            // Nothing to ask for, but what was written through a lost connection may not have arrived.
            let lost = self.way.connection().dead();
            return lost.filter(|_| self.delays.reconnect.is_zero()).map_or(Ok(()), Err);
        }
        if !self.keeps_unflushed() {
            return self.flush_once().await;
        }
        // A server that is gone has nothing that is not durable.
        self.unflushed.flush(|| self.way.is_lost(), self.flush_once()).await
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

    /// Gives the connection up because somebody wants it so. No other is made.
    pub fn cut(&self) {
        let text = format!("the connection to '{}' was given up on request", self.name);
        self.way.end(BlockError::new(ErrorKind::Io, text)).cut();
    }

    /// Ends the connection as the protocol has it. No other is made.
    pub fn close(&self) {
        self.way.end(self.closed()).leave();
    }
}

impl Redial for Link {
    type Connection = Connection;

    fn way(&self) -> &Way<Connection> {
        &self.way
    }

    fn delay(&self) -> Duration {
        self.delays.reconnect
    }

    fn closed(&self) -> BlockError {
        BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.name))
    }

    async fn connect(self: &Arc<Self>) -> Result<Arc<Connection>> {
        let credentials = self.credentials.as_ref();
        let (connection, export) =
            Connection::open(&self.location, credentials, &self.name, self.patience).await?;
        self.need_same(&connection, &export).inspect_err(|_| connection.leave())?;
        Ok(connection)
    }

    async fn restore(self: &Arc<Self>, connection: &Arc<Connection>) -> Result<()> {
        let make = |change| make(connection, change);
        let flush = connection.call(Command::FLUSH, CommandFlags::NONE, (0, 0), None, None);
        self.unflushed
            .make_again(|| connection.dead().is_some(), make, async { flush.await.1.map(drop) })
            .await
    }

    fn is_replaceable(&self) -> bool {
        !self.delays.reconnect.is_zero()
    }

    fn connected(&self) {
        tracing::info!(export = self.name, "connected to the NBD server again");
    }

    fn failed(&self, cause: BlockError) -> BlockError {
        tracing::warn!(export = self.name, error = %cause, "the NBD server can't be reached");
        cause
    }
}

impl Keeper for Link {
    type Answer = ();

    fn unflushed(&self) -> &Unflushed {
        &self.unflushed
    }

    async fn flush_once(self: &Arc<Self>) -> Result<()> {
        let answered = self.unflushed.answered();
        self.call(Command::FLUSH, CommandFlags::NONE, (0, 0), None, None).await.1?;
        self.unflushed.forget(&answered);
        Ok(())
    }
}

/// Makes a change on a connection.
async fn make(connection: &Connection, change: Change) -> Result<()> {
    let (command, flags, range, data) = match change {
        Change::Write(offset, data) => {
            (Command::WRITE, CommandFlags::NONE, (offset, data.len() as u64), Some(data))
        }
        Change::Zeroes(offset, len, unmap) => {
            let flags = CommandFlags::when(!unmap, CommandFlags::NO_HOLE);
            (Command::WRITE_ZEROES, flags, (offset, len), None)
        }
    };
    connection.call(command, flags, range, data, None).await.1.map(drop)
}
