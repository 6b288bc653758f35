//! The way to a file: a connection, and the next one when that is lost.
//!
//! ```text
//! lost ─▶ calls wait, at most for the delay ─▶ they fail
//!    └──▶ connect · COMMIT · write again what the server has lost ─▶ calls are made again
//! ```
//!
//! Laws: a call whose connection was lost is made again as it was: all that are made here can be carried out twice. Nobody uses a
//! new connection before what the server may have lost is written again ([`Unflushed`]): no read shows that something is missing.
//!
//! What a server still does with calls that it has received over a connection that is aborted can't be known: one that carries out
//! an old write after the new connection was made undoes newer ones.

use super::connection::Connection;
use super::mount::Server;
use super::progress::Progress;
use super::reply;
use super::unflushed::{Said, Unflushed};
use crate::unflushed::{self, Change, Keeper, side_by_side};
use crate::way::{self, Attempts, Connection as _, LONGEST_PAUSE, Redial, Way, nanos};
use block::{BlockError, ErrorKind, Result};
use futures_util::future::join_all;
use nfs::v3::{Attributes, Commit, CommitDone, Handle, Outcome, Stability, Verifier, Write};
use nfs::{Call, Status, Xdr};
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::time::Duration;

/// Time before a call is made again that the server is not ready for; it doubles too.
const NOT_READY: Duration = Duration::from_millis(250);
/// How often all is written again, when the server loses it each time.
const ROUNDS: usize = 4;

/// The way to a file.
pub(super) struct Link {
    server: Server,
    /// The file's name, for messages.
    name: String,
    pub handle: Handle,
    /// How long calls wait for a lost server.
    delay: Duration,
    way: Way<Connection>,
    unflushed: Unflushed,
    /// Told what is known of the file, as replies bring it.
    seen: Box<dyn Fn(&Attributes) + Send + Sync>,
}

impl Link {
    /// To a file that was found over a connection.
    pub fn new(
        server: Server,
        name: String,
        (handle, connection): (Handle, Arc<Connection>),
        delay: Duration,
        seen: impl Fn(&Attributes) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            server,
            name,
            handle,
            delay,
            way: Way::new(connection),
            unflushed: Unflushed::default(),
            seen: Box::new(seen),
        })
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a call that changes nothing, or nothing that a write does.
    pub async fn call<C, T, F>(self: &Arc<Self>, call: &C) -> Result<T>
    where
        C: Call<Reply = Outcome<T, F>>,
        T: Xdr,
        F: Xdr,
    {
        reply(self.transfer(call, true, None, None).await.1)
    }

    /// Makes a call, as [`Connection::transfer`], on this connection or on the next one.
    pub async fn transfer<C, T, F>(
        self: &Arc<Self>,
        call: &C,
        syncs: bool,
        data: Option<Buf>,
        buf: Option<BufMut>,
    ) -> (Option<BufMut>, Result<C::Reply>)
    where
        C: Call<Reply = Outcome<T, F>>,
        T: Xdr,
        F: Xdr,
    {
        let data = &data;
        way::request(self, buf, |connection, buf| async move {
            self.patiently(&connection, call, syncs, data.clone(), buf).await
        })
        .await
    }

    /// Makes a call on a connection, and again as long as the server says that it is not ready, for as long as calls wait.
    async fn patiently<C, T, F>(
        &self,
        connection: &Connection,
        call: &C,
        syncs: bool,
        data: Option<Buf>,
        mut buf: Option<BufMut>,
    ) -> (Option<BufMut>, Result<C::Reply>)
    where
        C: Call<Reply = Outcome<T, F>>,
        T: Xdr,
        F: Xdr,
    {
        let buffer = buf.as_ref().map(|buf| buf.len());
        let until_ns = rt::now_ns().saturating_add(nanos(self.delay));
        let mut pause = NOT_READY;
        loop {
            let (back, result) = connection.transfer(call, syncs, data.clone(), buf).await;
            let left = Duration::from_nanos(until_ns.saturating_sub(rt::now_ns()));
            if !matches!(&result, Ok(Outcome(Err((Status::JUKEBOX, _))))) || left.is_zero() {
                return (back, result);
            }
            rt::sleep(pause.min(left)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            buf = back.or_else(|| buffer.map(BufMut::zeroed));
        }
    }

    /// Writes to the file, at most as much as the server takes at a time.
    pub async fn write(self: &Arc<Self>, offset: u64, data: Buf, stability: Stability) -> Result<()> {
        let durable = stability != Stability::Unstable;
        let room = unflushed::room(self, data.len()).await?;
        // The copy keeps no larger buffer of somebody else's in memory.
        let change = Change::Write(offset, Buf::from_slice(&data));
        let mut is_durable = false;
        let make = async {
            let (became, verifier) = self.send(offset, &data, stability).await?;
            is_durable = became >= stability;
            Ok((Said::of(became, verifier), became != Stability::Unstable))
        };
        self.unflushed.change(room, durable, change, make).await?;
        if !is_durable {
            // It was not made durable although that was asked for. What fails here may be what others wrote before: it is no lack
            // of space of this write.
            self.flush().await.map_err(|e| BlockError::new(ErrorKind::Io, e.to_string()))?;
        }
        Ok(())
    }

    /// Writes all of `data`, however little the server takes at a time: how durable it is, and the verifier.
    async fn send(
        self: &Arc<Self>,
        offset: u64,
        data: &Buf,
        stability: Stability,
    ) -> Result<(Stability, Verifier)> {
        let (mut progress, mut told) = (Progress::new(data.len()), None);
        loop {
            let (at, piece) = (offset + progress.done as u64, data.slice(progress.done..));
            let call = write_of(&self.handle, at, &piece, stability);
            let syncs = stability != Stability::Unstable;
            let result = self.transfer(&call, syncs, Some(piece), None).await.1;
            let answer = reply(result).map_err(|e| self.failed("writing to", at, e))?;
            self.look(answer.change.after.as_ref());
            progress.took(answer.count).map_err(|what| self.wrong_count("wrote", what, at))?;
            let (became, verifier) = told.get_or_insert((answer.stability, answer.verifier));
            if *verifier != answer.verifier {
                // The server was started again in between: what it took first may be lost, or lie under what was written again.
                (progress.done, told) = (0, None);
                continue;
            }
            *became = answer.stability.min(*became);
            if progress.left() == 0 {
                return Ok((*became, *verifier));
            }
        }
    }

    /// The error of a server that did more or less than it can have.
    pub fn wrong_count(&self, did: &str, what: &str, at: u64) -> BlockError {
        let text = format!(
            "'{}': the server says that it {did} {what} at {at:#x}, and that this is no error",
            self.name
        );
        BlockError::new(ErrorKind::Io, text).at(at)
    }

    /// The error of a call about bytes of the file.
    pub fn failed(&self, what: &str, at: u64, error: BlockError) -> BlockError {
        let hint = match error.errno() == Status::STALE.errno() {
            true => " (the file was removed there, or is not exported any more)",
            false => "",
        };
        error.context(format_args!("{what} '{}' at {at:#x} failed{hint}", self.name)).at(at)
    }

    /// Notes what a reply says of the file.
    pub fn look(&self, attributes: Option<&Attributes>) {
        if let Some(attributes) = attributes {
            (self.seen)(attributes);
        }
    }

    /// Has the server make durable what it has answered.
    pub async fn flush(self: &Arc<Self>) -> Result<()> {
        self.unflushed.flush(|| true, self.flush_once()).await
    }

    /// The same, though no user has asked for it: one that fails is told to whoever flushes next.
    pub async fn flush_unasked(self: &Arc<Self>) -> Result<()> {
        self.unflushed.flush_unasked(|| self.unflushed.is_empty(), self.flush_once()).await
    }

    fn commit(&self) -> Commit {
        Commit { file: self.handle.clone(), offset: 0, count: 0 }
    }

    fn not_flushed(&self, error: BlockError) -> BlockError {
        error.context(format_args!("flushing '{}' failed", self.name))
    }

    fn loses(&self) -> BlockError {
        let text = "the server may have lost what it was sent, again and again: its write verifier changes each time";
        BlockError::new(ErrorKind::Io, text)
    }

    /// Writes again what was answered and not committed: side by side, but for changes that meet.
    async fn write_again(&self, connection: &Connection) -> Result<()> {
        let changes = self.unflushed.all_answered();
        for group in side_by_side(&changes, |(_, one), (_, other)| one.meets(other)) {
            let writes = group.iter().map(|(number, change)| self.make_again(connection, *number, change));
            for written in join_all(writes).await {
                written.map_err(|e| e.context("what was not flushed could not be written again"))?;
            }
        }
        Ok(())
    }

    async fn make_again(&self, connection: &Connection, number: u64, change: &Change) -> Result<()> {
        // Zeroes are written as data.
        let Change::Write(offset, data) = change else { return Ok(()) };
        let (mut progress, mut first) = (Progress::new(data.len()), None);
        while progress.left() > 0 {
            let (at, piece) = (offset + progress.done as u64, data.slice(progress.done..));
            let call = write_of(&self.handle, at, &piece, Stability::Unstable);
            let (_, result) = self.patiently(connection, &call, false, Some(piece), None).await;
            let answer = reply(result)?;
            progress.took(answer.count).map_err(|what| self.wrong_count("wrote", what, at))?;
            self.unflushed.answered_again(number, Said::Kept(*first.get_or_insert(answer.verifier)));
        }
        Ok(())
    }

    /// Makes sure over a new connection that nothing is missing that the server had answered.
    async fn commit_over(&self, connection: &Connection) -> Result<()> {
        for _ in 0..ROUNDS {
            let answered = self.unflushed.answered();
            if answered.is_empty() {
                return Ok(());
            }
            let (_, result) = self.patiently(connection, &self.commit(), true, None, None).await;
            let CommitDone { verifier, .. } = reply(result)?;
            if self.unflushed.committed(&answered, verifier) {
                return Ok(());
            }
            self.write_again(connection).await?;
        }
        Err(self.loses())
    }

    /// Gives the connection up because somebody wants it so. No other is made.
    pub fn cut(&self) {
        let text = format!("the connection to the server of '{}' was given up on request", self.name);
        self.way.end(BlockError::new(ErrorKind::Io, text)).cut();
    }

    /// Ends the connection. No other is made.
    pub fn close(&self) {
        self.way.end(self.closed()).leave();
    }
}

impl Keeper for Link {
    type Answer = Said;

    fn unflushed(&self) -> &Unflushed {
        &self.unflushed
    }

    /// Commits, and writes again what the server has lost, until all that was answered is durable.
    async fn flush_once(self: &Arc<Self>) -> Result<()> {
        let (mut rounds, mut attempts) = (0, Attempts::default());
        while rounds < ROUNDS {
            let answered = self.unflushed.answered();
            let done = self.call(&self.commit()).await.map_err(|e| self.not_flushed(e))?;
            self.look(done.change.after.as_ref());
            if self.unflushed.committed(&answered, done.verifier) {
                return Ok(());
            }
            tracing::warn!(
                file = self.name,
                "the NFS server has another verifier: what it may have lost is written again"
            );
            let _alone = self.unflushed.alone().await;
            let connection = self.way.connection();
            match self.write_again(&connection).await {
                // The next connection is not used before all of it is written again.
                Err(error) if connection.dead().is_some() => {
                    let reconnected = attempts.reconnected(self, &connection).await;
                    if !reconnected.map_err(|e| self.not_flushed(e))? {
                        return Err(self.not_flushed(error));
                    }
                }
                written => {
                    written.map_err(|e| self.not_flushed(e))?;
                    rounds += 1;
                }
            }
        }
        Err(self.not_flushed(self.loses()))
    }
}

impl Redial for Link {
    type Connection = Connection;

    fn way(&self) -> &Way<Connection> {
        &self.way
    }

    fn delay(&self) -> Duration {
        self.delay
    }

    fn closed(&self) -> BlockError {
        BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.name))
    }

    async fn connect(self: &Arc<Self>) -> Result<Arc<Connection>> {
        self.server.connect().await
    }

    async fn restore(self: &Arc<Self>, connection: &Arc<Connection>) -> Result<()> {
        self.commit_over(connection).await
    }

    fn connected(&self) {
        tracing::info!(file = self.name, "connected to the NFS server again");
    }

    fn failed(&self, cause: BlockError) -> BlockError {
        tracing::warn!(file = self.name, error = %cause, "the NFS server can't be reached");
        cause.context(format_args!("the connection to the server of '{}' is lost", self.name))
    }
}

fn write_of(file: &Handle, offset: u64, data: &Buf, stability: Stability) -> Write {
    // No more is sent at a time than a server takes, which it says in as many bits.
    let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
    Write { file: file.clone(), offset, count, stability }
}
