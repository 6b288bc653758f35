//! The way to a unit: a session, and the next one when that is lost.
//!
//! ```text
//! lost ─▶ requests wait, at most for the delay ─▶ they fail
//!    └──▶ log in · compare the unit · write again what was not flushed ─▶ requests are made again
//! ```
//!
//! Laws: a request whose session was lost is made again as it was: all of them can be carried out twice. Nobody uses a
//! new session before what the target may have lost is written again ([`Unflushed`]). A unit that has changed is not taken for
//! the old one. A new session has the number of the old one, so that a target that still carries out old commands ends them
//! first (RFC 7143, section 6.3.5).

use super::connection::{Connection, Patience, Payload, is_whole};
use super::execute::{Command, Phase, execute};
use super::location::{Delays, Location};
use super::tasks::{Outcome, Reply};
use super::unit::Unit;
use crate::unflushed::{self, Change, Keeper, Unflushed};
use crate::way::{self, Connection as _, Redial, Way};
use block::{BlockError, ErrorKind, Result};
use iscsi::Profile;
use iscsi::scsi::command::Width;
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Bytes of zeroes or of given back space that a unit may take a second for.
const SLOWEST: u64 = 1 << 20;

/// The way to a unit.
pub(super) struct Link {
    location: Location,
    profile: Profile,
    patience: Patience,
    /// What the unit is.
    pub(super) unit: Unit,
    /// What it has answered may not be durable yet. That is never taken back: what was kept meanwhile is for a flush.
    cached: AtomicBool,
    /// It says so itself.
    says_cached: AtomicBool,
    /// It has a cache, and knows no command that empties it. That is never taken back either.
    can_not_flush: AtomicBool,
    /// A block of zeroes.
    zeroes: Buf,
    pub(super) way: Way<Connection>,
    unflushed: Unflushed,
}

impl Link {
    /// Logs in and asks the unit what it is, once.
    pub async fn open(location: Location, profile: Profile, patience: Patience) -> Result<Arc<Self>> {
        let connection = Connection::open(&location, &profile, patience).await?;
        let unit = match Unit::ask(&connection).await {
            Ok(unit) => unit,
            Err(error) => {
                connection.close().await;
                return Err(error);
            }
        };
        connection.begin_use();
        let zeroes = BufMut::zeroed(unit.capacity.block_size as usize).freeze();
        let link = Self {
            location,
            profile,
            patience,
            cached: AtomicBool::new(false),
            says_cached: AtomicBool::new(false),
            can_not_flush: AtomicBool::new(false),
            unit,
            zeroes,
            way: Way::new(connection),
            unflushed: Unflushed::default(),
        };
        link.note_cache(&link.unit);
        Ok(Arc::new(link))
    }

    /// Takes note of whether the unit has a cache now.
    fn note_cache(&self, unit: &Unit) {
        self.cached.fetch_or(unit.is_cached(), Ordering::AcqRel);
        self.says_cached.fetch_or(unit.control.cached == Some(true), Ordering::AcqRel);
        self.can_not_flush.fetch_or(unit.can_not_flush(), Ordering::AcqRel);
    }

    /// It has a cache, and knows no command that empties it, as far as is known.
    pub fn can_not_flush(&self) -> bool {
        self.can_not_flush.load(Ordering::Acquire)
    }

    fn is_cached(&self) -> bool {
        self.cached.load(Ordering::Acquire)
    }

    /// What can't be flushed need not be kept: nobody is told that it is durable.
    fn keeps_unflushed(&self) -> bool {
        self.is_cached() && !self.can_not_flush()
    }

    /// Where it leads.
    pub fn location(&self) -> &Location {
        &self.location
    }

    fn delays(&self) -> Delays {
        self.location.delays
    }

    /// The name of the unit.
    pub fn name(&self) -> &str {
        &self.location.name
    }

    /// Makes a request that changes nothing, or may be made twice, on this session or a later one.
    pub async fn run(self: &Arc<Self>, command: &Command, payload: Payload) -> Outcome {
        let Payload { data, buf } = payload;
        let data = &data;
        way::request(self, buf, |connection, buf| async move {
            let payload = Payload { data: data.clone(), buf };
            execute(&connection, command, payload, Phase::InUse).await
        })
        .await
    }

    /// Reads whole blocks.
    pub async fn read(self: &Arc<Self>, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        let len = buf.len();
        let block = self.unit.width.read(self.blocks(offset, len as u64));
        let (back, result) =
            self.run(&Command::at("read", block, offset), Payload { data: None, buf: Some(buf) }).await;
        let result = result.and_then(|reply| self.need_whole(&reply, len, offset));
        (back.unwrap_or_else(|| BufMut::zeroed(len)), result)
    }

    fn need_whole(&self, reply: &Reply, len: usize, offset: u64) -> Result<()> {
        if is_whole(reply, len) {
            return Ok(());
        }
        let text = format!("'{}' gave {} of {len} bytes", self.name(), reply.received);
        Err(BlockError::new(ErrorKind::Io, text).at(offset))
    }

    /// Places and lengths are multiples of the size of a block, and pieces have less than 2³² of them.
    fn blocks(&self, offset: u64, len: u64) -> (u64, u32) {
        let size = self.unit.block_size();
        (offset / size, u32::try_from(len / size).unwrap_or(u32::MAX))
    }

    /// Writes whole blocks.
    pub async fn write(self: &Arc<Self>, offset: u64, data: Buf, durable: bool) -> Result<()> {
        // The copy keeps no larger buffer of somebody else's in memory.
        let change = || Change::Write(offset, Buf::from_slice(&data));
        self.change(durable, data.len(), change, self.writing(offset, data.clone(), durable)).await
    }

    fn writing(&self, offset: u64, data: Buf, durable: bool) -> (Command, Payload) {
        let block = self.unit.width.write(self.blocks(offset, data.len() as u64), durable);
        (Command::at("write", block, offset), Payload { data: Some(data), buf: None })
    }

    /// Makes zeroes of at most [`Unit::most_same`] blocks, by writing one many times; whether they may lose their space.
    pub async fn zero(self: &Arc<Self>, (offset, len): (u64, u64), unmap: bool) -> Result<()> {
        let change = || Change::Zeroes(offset, len, unmap);
        self.change(false, 0, change, self.zeroing((offset, len), unmap)).await
    }

    fn zeroing(&self, (offset, len): (u64, u64), unmap: bool) -> (Command, Payload) {
        let block = self.unit.width.write_same(self.blocks(offset, len), unmap);
        let command = Command { work: work(len), ..Command::at("write of zeroes", block, offset) };
        (command, Payload { data: Some(self.zeroes.clone()), buf: None })
    }

    /// Gives back the space of at most [`Unit::most_unmap`] blocks.
    pub async fn unmap(self: &Arc<Self>, (offset, len): (u64, u64)) -> Result<()> {
        let (block, parameters) = iscsi::scsi::command::unmap(&[self.blocks(offset, len)]);
        let command = Command { work: work(len), ..Command::at("discard", block, offset) };
        let payload = Payload { data: Some(Buf::from_slice(&parameters)), buf: None };
        self.run(&command, payload).await.1.map(drop)
    }

    /// Makes a change with so many bytes of data.
    async fn change(
        self: &Arc<Self>,
        durable: bool,
        data: usize,
        change: impl FnOnce() -> Change,
        (command, payload): (Command, Payload),
    ) -> Result<()> {
        let again = Payload { data: payload.data.clone(), buf: None };
        if !self.keeps_unflushed() {
            self.taken(self.run(&command, payload).await.1?)?;
            if !self.keeps_unflushed() {
                return Ok(());
            }
            // The unit has been given a cache meanwhile: whether this was stored before or after nobody knows.
        }
        let room = match unflushed::room(self, data).await {
            // That it can't flush was just seen.
            Err(_) if self.can_not_flush() => return self.taken(self.run(&command, again).await.1?),
            room => room?,
        };
        let make = async {
            self.taken(self.run(&command, again).await.1?)?;
            Ok(((), durable))
        };
        let made = self.unflushed.change(room, durable, change(), make).await;
        // Before the writer hears of it, and may write there again.
        self.drop_what_no_flush_frees();
        made
    }

    /// For a unit that can't flush nothing is noted. What was noted before that was seen must not stay: written again for the next
    /// session, it would undo later changes.
    fn drop_what_no_flush_frees(&self) {
        if self.can_not_flush() {
            self.unflushed.forget(&self.unflushed.answered());
        }
    }

    /// A change is whole, or it has failed: a unit that took more or less of it than was sent is not what it was.
    fn taken(&self, reply: Reply) -> Result<()> {
        match reply.residual {
            iscsi::Residual::None => Ok(()),
            _ => Err(BlockError::new(
                ErrorKind::Io,
                format!("'{}' took another length than was sent", self.name()),
            )),
        }
    }

    /// Has the unit make durable what it has answered.
    pub async fn flush(self: &Arc<Self>) -> Result<()> {
        if !self.is_cached() {
            // What is answered is durable.
            return Ok(());
        }
        if self.can_not_flush() {
            return Err(self.unflushable());
        }
        // A target that is gone has nothing that is not durable.
        self.unflushed.flush(|| self.way.is_lost(), self.flush_once()).await
    }

    /// What came of a flush. A unit that does not know how to flush has nothing that it could lose, unless it says otherwise.
    fn flushed(&self, result: Result<Reply>) -> Result<()> {
        match result {
            Err(error) if error.kind() != ErrorKind::Unsupported => Err(error),
            Err(_) if self.says_cached.load(Ordering::Acquire) => {
                self.can_not_flush.store(true, Ordering::Release);
                tracing::warn!(
                    unit = self.name(),
                    "the iSCSI unit has a cache that it can't be told to empty"
                );
                Err(self.unflushable())
            }
            _ => Ok(()),
        }
    }

    /// The error of a flush that can't be.
    pub fn unflushable(&self) -> BlockError {
        let text = format!(
            "'{}' has a write cache, and knows no command that empties it: what is written may be lost with its power. \
             Have its cache switched off, or use cache.no-flush=on where that does not matter",
            self.name()
        );
        BlockError::new(ErrorKind::Io, text)
    }

    /// Writes what may be lost, and has it made durable.
    async fn write_again(&self, connection: &Connection) -> Result<()> {
        let flush = async {
            let flush =
                async |width| execute(connection, &flushing(width), Payload::default(), Phase::InUse).await.1;
            let mut result = flush(Width::Ten).await;
            if is_unknown(&result) {
                result = flush(Width::Sixteen).await;
            }
            match self.flushed(result) {
                // Nobody will be told that it is durable.
                Err(_) if self.can_not_flush() => Ok(()),
                result => result,
            }
        };
        let make = |change| self.make(connection, change);
        self.unflushed.make_again(|| connection.dead().is_some(), make, flush).await
    }

    /// Makes a change on a session.
    async fn make(&self, connection: &Connection, change: Change) -> Result<()> {
        let (command, payload) = match change {
            Change::Write(offset, data) => self.writing(offset, data, false),
            Change::Zeroes(offset, len, unmap) => self.zeroing((offset, len), unmap),
        };
        self.taken(execute(connection, &command, payload, Phase::InUse).await.1?)
    }

    /// Gives the session up because somebody wants it so. No other is made.
    pub fn cut(&self) {
        let text = format!("the connection to '{}' was given up on request", self.name());
        self.way.end(BlockError::new(ErrorKind::Io, text)).cut();
    }

    /// Ends the session as the protocol has it. No other is made.
    pub async fn close(&self) {
        self.way.end(self.closed()).close().await;
    }

    /// The same without waiting for the target.
    pub fn leave(&self) {
        self.way.end(self.closed()).leave();
    }
}

impl Redial for Link {
    type Connection = Connection;

    fn way(&self) -> &Way<Connection> {
        &self.way
    }

    fn delay(&self) -> Duration {
        self.delays().reconnect
    }

    fn closed(&self) -> BlockError {
        BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.name()))
    }

    async fn connect(self: &Arc<Self>) -> Result<Arc<Connection>> {
        self.way.connection().retired().await;
        Connection::open(&self.location, &self.profile, self.patience).await
    }

    async fn restore(self: &Arc<Self>, connection: &Arc<Connection>) -> Result<()> {
        let unit = Unit::ask(connection).await?;
        if let Some(what) = self.unit.differs(&unit) {
            let text = format!("the unit '{}' that is there now has {what}", self.name());
            return Err(BlockError::new(ErrorKind::Io, text));
        }
        self.note_cache(&unit);
        connection.begin_use();
        self.write_again(connection).await
    }

    fn connected(&self) {
        tracing::info!(unit = self.name(), "logged in to the iSCSI target again");
    }

    fn failed(&self, cause: BlockError) -> BlockError {
        tracing::warn!(unit = self.name(), error = %cause, "the iSCSI target can't be reached");
        match cause.kind() {
            // To whoever waits for the next session this would say that the unit refuses the request.
            ErrorKind::Unsupported => BlockError::new(ErrorKind::Io, cause.to_string()),
            _ => cause,
        }
    }
}

impl Keeper for Link {
    type Answer = ();

    fn unflushed(&self) -> &Unflushed {
        &self.unflushed
    }

    async fn flush_once(self: &Arc<Self>) -> Result<()> {
        let answered = self.unflushed.answered();
        let mut result = self.run(&flushing(Width::Ten), Payload::default()).await.1;
        if is_unknown(&result) {
            result = self.run(&flushing(Width::Sixteen), Payload::default()).await.1;
        }
        let flushed = self.flushed(result);
        if flushed.is_ok() {
            self.unflushed.forget(&answered);
        }
        self.drop_what_no_flush_frees();
        flushed
    }
}

/// The flush of a whole unit. Units know the form of ten bytes, whatever their size; the other one not always.
fn flushing(width: Width) -> Command {
    Command::of("flush", width.synchronize())
}

fn is_unknown(result: &Result<Reply>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unsupported)
}

fn work(len: u64) -> Duration {
    Duration::from_secs(len / SLOWEST)
}
