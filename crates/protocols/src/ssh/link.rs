//! The way to a file: a session in which it is opened, and with a delay for reconnecting the next one when that is lost.
//!
//! ```text
//! lost ─▶ requests wait, at most for the delay ─▶ they fail
//!    └──▶ log in · open the file · compare it · write again what was not flushed ─▶ requests are made again
//! ```
//!
//! Laws: a request whose session was lost is made again as it was: all of them can be carried out twice. Nobody uses a new
//! session before what the server may have lost is written again ([`Unflushed`]). No session takes the place of one on which
//! something was changed that is not noted: without a delay, with `cache.no-flush`, or where the server can't flush.
//!
//! What a server still does with requests that it has received over a session that is aborted can't be known: one that carries out
//! an old write after the new session began undoes newer ones. Servers give up requests whose session has ended.

use super::connection::{Connection, Patience};
use super::file::{RemoteFile, connect};
use super::location::Location;
use super::login::Keys;
use crate::unflushed::{self, Change, Keeper, Unflushed};
use crate::way::{self, Attempts, Redial, Way};
use arc_swap::ArcSwap;
use block::{BlockError, ErrorKind, Result, Undo};
use futures_util::lock::Mutex as Lock;
use rt::{Buf, BufMut};
use sftp::Attributes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::Duration;

/// Looks at two files until they are taken for two.
const LOOKS: usize = 3;

/// Who logs in where.
pub(super) struct Login {
    pub location: Location,
    /// Also kept so that the objects are not deleted: the node's options name them.
    pub keys: Keys,
    pub patience: Patience,
}

/// A session in which the file is opened.
pub(super) struct Session {
    connection: Arc<Connection>,
    /// Another one when access is switched.
    file: ArcSwap<RemoteFile>,
    /// What it is opened for.
    writable: AtomicBool,
}

impl Session {
    fn new(connection: Arc<Connection>, file: RemoteFile, writable: bool) -> Arc<Self> {
        let file = ArcSwap::from_pointee(file);
        Arc::new(Self { connection, file, writable: AtomicBool::new(writable) })
    }

    fn file(&self) -> Arc<RemoteFile> {
        self.file.load_full()
    }
}

impl way::Connection for Session {
    fn dead(&self) -> Option<BlockError> {
        self.connection.dead()
    }

    fn leave(&self) {
        self.connection.leave();
    }

    fn abort(&self) {
        self.connection.abort();
    }
}

/// The way to a file.
pub(super) struct Link {
    login: Login,
    /// The file, for messages.
    name: String,
    way: Way<Session>,
    unflushed: Unflushed,
    /// Bytes of the file.
    length: AtomicU64,
    /// Where it ends at least: what was flushed stays.
    durable: AtomicU64,
    /// Where it ends at most: a write may have been carried out whose answer nobody saw.
    furthest: AtomicU64,
    /// It is a regular file: what it grows by is zero.
    pub(super) regular: bool,
    /// What the file is to be opened for.
    writable: AtomicBool,
    /// Held while access is switched, and while a new session opens the file.
    switching: Lock<()>,
    /// Nothing has to be durable (`cache.no-flush`).
    no_flush: AtomicBool,
    unnoted: Unnoted,
}

/// Changes of which there is no note.
#[derive(Default)]
struct Unnoted {
    begun: AtomicU64,
    under_way: AtomicU64,
    /// So many were begun, and none was under way, before the last flush.
    durable: AtomicU64,
}

/// A change under way.
struct Changing<'u>(&'u Unnoted);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, SeqCst);
    }
}

impl Unnoted {
    fn begin(&self) -> Changing<'_> {
        // In this order: who sees that it has begun sees that it is under way.
        self.under_way.fetch_add(1, SeqCst);
        self.begun.fetch_add(1, SeqCst);
        Changing(self)
    }

    /// Whether a server may lose some.
    fn are_there(&self) -> bool {
        self.begun.load(SeqCst) != self.durable.load(SeqCst)
    }

    /// What a flush that begins now makes durable: all, or it can't be told.
    fn before_flush(&self) -> Option<u64> {
        let begun = self.begun.load(SeqCst);
        (self.under_way.load(SeqCst) == 0).then_some(begun)
    }
}

impl Link {
    /// The way to a file that was opened on a connection.
    ///
    /// # Errors
    /// It is none that can be a disk, or the connection is lost.
    pub async fn new(
        login: Login,
        connection: Arc<Connection>,
        file: RemoteFile,
        writable: bool,
        no_flush: bool,
    ) -> Result<Arc<Self>> {
        let attributes = file.attributes().await?;
        let path = &login.location.path;
        if attributes.is_directory() {
            return Err(BlockError::invalid(format!("the remote file '{path}' is a directory")));
        }
        let size = size(&attributes, path)?;
        Ok(Arc::new(Self {
            name: connection.name().to_owned(),
            login,
            way: Way::new(Session::new(connection, file, writable)),
            unflushed: Unflushed::default(),
            length: AtomicU64::new(size),
            durable: AtomicU64::new(size),
            furthest: AtomicU64::new(size),
            regular: attributes.is_regular(),
            writable: AtomicBool::new(writable),
            switching: Lock::default(),
            no_flush: AtomicBool::new(no_flush),
            unnoted: Unnoted::default(),
        }))
    }

    /// Where it leads.
    pub fn location(&self) -> &Location {
        &self.login.location
    }

    /// The file, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.length.load(Acquire)
    }

    /// Whether anything has to be durable from now on.
    pub fn set_no_flush(&self, no_flush: bool) {
        self.no_flush.store(no_flush, Relaxed);
    }

    /// The session is lost.
    #[cfg(test)]
    pub fn lose(&self) {
        self.way.connection().connection.lose(&BlockError::new(ErrorKind::Io, "lost by a test"));
    }

    /// Before a change that is not noted, after which no other session may come: waits for one that is not lost, if that is
    /// possible.
    async fn live(self: &Arc<Self>) -> Result<()> {
        let mut attempts = Attempts::default();
        loop {
            let session = self.way.connection();
            if session.connection.dead().is_none() || !attempts.again(self, &session).await? {
                return Ok(());
            }
        }
    }

    /// Makes a request of the file, on this session or a later one.
    async fn request<T, F>(self: &Arc<Self>, make: impl Fn(Arc<RemoteFile>) -> F + Send + Sync) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
    {
        let on_file = |session: Arc<Session>, _| {
            let answer = make(session.file());
            async { (None, answer.await) }
        };
        way::request(self, None, on_file).await.1
    }

    /// Asks for the size anew.
    pub async fn reload(self: &Arc<Self>) -> Result<()> {
        let attributes = self.request(|file| async move { file.attributes().await }).await?;
        let size = size(&attributes, &self.location().path)?;
        // Others may have changed it.
        self.durable.fetch_min(size, AcqRel);
        self.furthest.fetch_max(size, AcqRel);
        self.length.store(size, Release);
        Ok(())
    }

    /// Reads from inside the file.
    pub async fn read(self: &Arc<Self>, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        let len = buf.len();
        let room = move |buf: Option<BufMut>| buf.unwrap_or_else(|| BufMut::zeroed(len));
        let (back, result) = way::request(self, Some(buf), |session, buf| async move {
            let (back, result) = session.file().read(offset, room(buf)).await;
            (Some(back), result)
        })
        .await;
        (room(back), result)
    }

    /// Writes; the file ends at `end`, at least, when that is done.
    pub async fn write(self: &Arc<Self>, offset: u64, data: Buf, end: u64) -> Result<()> {
        self.furthest.fetch_max(offset.saturating_add(data.len() as u64), AcqRel);
        let call = self.request(|file| {
            let data = data.clone();
            async move { file.write(offset, data).await }
        });
        if self.keeps_unflushed() {
            let room = unflushed::room(self, data.len()).await?;
            // The copy keeps no larger buffer of somebody else's in memory.
            let change = Change::Write(offset, Buf::from_slice(&data));
            self.unflushed.change(room, false, change, async { call.await.map(|()| ((), false)) }).await?;
        } else {
            self.live().await?;
            let _changing = self.unnoted.begin();
            call.await?;
        }
        self.length.fetch_max(end, AcqRel);
        Ok(())
    }

    /// Gives the file another size.
    pub async fn resize(self: &Arc<Self>, size: u64) -> Result<()> {
        self.live().await?;
        self.durable.fetch_min(size, AcqRel);
        self.furthest.fetch_max(size, AcqRel);
        {
            // Until it is durable no other session takes the place of this one.
            let _changing = self.unnoted.begin();
            self.request(|file| async move { file.set_size(size).await }).await?;
        }
        self.length.store(size, Release);
        self.furthest.store(size, Release);
        match self.keeps_unflushed() {
            true => self.unflushed.flush_unasked(|| false, self.flush_once()).await,
            false => Ok(()),
        }
    }

    /// What a server may lose is kept where another session may come, and a flush can tell what is durable.
    fn keeps_unflushed(&self) -> bool {
        !self.location().reconnect.is_zero() && !self.no_flush.load(Relaxed) && self.can_flush()
    }

    fn can_flush(&self) -> bool {
        self.way.connection().connection.version().fsync
    }

    /// Has the server make durable what it has answered.
    pub async fn flush(self: &Arc<Self>) -> Result<()> {
        self.need_flush()?;
        // A server that is gone, and will be waited for, has nothing that is not durable.
        let needless = || self.is_replaceable() && self.way.is_lost();
        self.unflushed.flush(needless, self.flush_once()).await
    }

    fn need_flush(&self) -> Result<()> {
        if !self.can_flush() {
            let text = format!(
                "the SSH server can't make durable what is written to '{}': it has no fsync@openssh.com \
                 (OpenSSH has it since 6.3); with cache.no-flush=on it is written without",
                self.name
            );
            return Err(BlockError::unsupported(text));
        }
        Ok(())
    }

    /// Opens the file for other access, in the same session.
    pub async fn set_writable(self: &Arc<Self>, writable: bool) -> Result<Undo> {
        let is_owed = self.unnoted.are_there() || !self.unflushed.is_empty();
        if !writable && is_owed && !self.no_flush.load(Relaxed) {
            self.need_flush()?;
            self.unflushed.flush_unasked(|| false, self.flush_once()).await?;
        }
        let mut attempts = Attempts::default();
        loop {
            let session = self.way.connection();
            let switched = {
                let _switching = self.switching.lock().await;
                self.switch(&session, writable).await
            };
            match switched {
                Ok(undo) => return Ok(undo),
                Err(error) if !attempts.again(self, &session).await? => return Err(error),
                Err(_) => {}
            }
        }
    }

    async fn switch(self: &Arc<Self>, session: &Arc<Session>, writable: bool) -> Result<Undo> {
        let path = &self.location().path;
        let file = RemoteFile::open(&session.connection, path, writable).await?;
        if !self.is_same(&session.file(), &file).await? {
            let text = format!(
                "the remote file '{path}' is another one than it was, has another size, or is being changed"
            );
            return Err(BlockError::new(ErrorKind::Io, text));
        }
        let file_before = session.file.swap(Arc::new(file));
        session.writable.store(writable, SeqCst);
        let before = self.writable.swap(writable, SeqCst);
        let (link, session) = (self.clone(), session.clone());
        Ok(Box::new(move || {
            session.file.store(file_before);
            session.writable.store(before, SeqCst);
            link.writable.store(before, SeqCst);
            link.need_access();
        }))
    }

    /// Whether another opening of the path is of the file that is open, as far as the protocol tells: size, owner, permissions and
    /// time of the last change. Somebody may change it between two looks.
    async fn is_same(&self, own: &RemoteFile, other: &RemoteFile) -> Result<bool> {
        let sizes = self.length()..=self.furthest.load(Acquire);
        for _ in 0..LOOKS {
            let (now, there) = (own.attributes().await?, other.attributes().await?);
            if now == there {
                return Ok(there.size.is_some_and(|size| sizes.contains(&size)));
            }
        }
        Ok(false)
    }

    /// Ends a session whose file is opened for something else than it is to be: the next one is not. Whoever exchanges the session, and
    /// whoever changes what it is to be opened for, looks after that.
    fn need_access(&self) {
        let session = self.way.connection();
        if session.writable.load(SeqCst) != self.writable.load(SeqCst) {
            let text = format!("access to '{}' was switched while it was opened again", self.name);
            session.connection.lose(&BlockError::new(ErrorKind::Io, text));
        }
    }

    /// Gives the session up because somebody wants it so. No other is begun.
    pub fn cut(&self) {
        let text = format!("the connection to '{}' was given up on request", self.name);
        self.way.end(BlockError::new(ErrorKind::Io, text)).connection.cut();
    }

    /// Ends the session as the protocol has it. No other is begun.
    pub async fn close(&self) {
        self.way.end(self.closed()).connection.close().await;
    }

    /// Whether the file that is there now may be the one that was there, as far as the protocol can tell.
    async fn need_same(&self, file: &RemoteFile) -> Result<()> {
        let attributes = file.attributes().await?;
        let path = &self.location().path;
        let size = size(&attributes, path)?;
        let (least, most) = (self.durable.load(Acquire), self.furthest.load(Acquire));
        if attributes.is_regular() != self.regular || !(least..=most).contains(&size) {
            let text = format!(
                "the remote file '{path}' is another one than it was: it has {size} bytes, not {least} to {most}"
            );
            return Err(BlockError::new(ErrorKind::Io, text));
        }
        Ok(())
    }
}

impl Redial for Link {
    type Connection = Session;

    fn way(&self) -> &Way<Session> {
        &self.way
    }

    fn delay(&self) -> Duration {
        self.location().reconnect
    }

    fn closed(&self) -> BlockError {
        BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.name))
    }

    async fn connect(self: &Arc<Self>) -> Result<Arc<Session>> {
        let Login { location, keys, patience } = &self.login;
        let connection = connect(location, keys, &self.name, *patience).await?;
        let _switching = self.switching.lock().await;
        let writable = self.writable.load(SeqCst);
        match RemoteFile::open(&connection, &location.path, writable).await {
            Ok(file) => Ok(Session::new(connection, file, writable)),
            Err(error) => {
                connection.leave();
                Err(error)
            }
        }
    }

    /// Writes what may be lost, and has it made durable.
    async fn restore(self: &Arc<Self>, session: &Arc<Session>) -> Result<()> {
        let file = session.file();
        self.need_same(&file).await?;
        if !self.unflushed.is_empty() && !session.connection.version().fsync {
            return Err(BlockError::unsupported("the server that is there now has no fsync@openssh.com"));
        }
        let make = |change| make(file.clone(), change);
        self.unflushed.make_again(|| session.connection.dead().is_some(), make, file.sync()).await?;
        let path = &self.location().path;
        if size(&file.attributes().await?, path)? < self.length() {
            let text = format!("the remote file '{path}' has become shorter");
            return Err(BlockError::new(ErrorKind::Io, text));
        }
        Ok(())
    }

    /// Whether everything that the server may lose is noted, and is to be written again.
    fn is_replaceable(&self) -> bool {
        let stale = self.no_flush.load(Relaxed) && !self.unflushed.is_empty();
        !self.location().reconnect.is_zero() && !self.unnoted.are_there() && !stale
    }

    fn connected(&self) {
        self.need_access();
        tracing::info!(file = self.name, "connected to the SSH server again");
    }

    fn failed(&self, cause: BlockError) -> BlockError {
        tracing::warn!(file = self.name, error = %cause, "the SSH server can't be reached");
        cause.context(format!("the connection to '{}' is lost", self.name))
    }
}

impl Keeper for Link {
    type Answer = ();

    fn unflushed(&self) -> &Unflushed {
        &self.unflushed
    }

    async fn flush_once(self: &Arc<Self>) -> Result<()> {
        let (answered, unnoted, length) =
            (self.unflushed.answered(), self.unnoted.before_flush(), self.length());
        self.request(|file| async move { file.sync().await }).await?;
        self.unflushed.forget(&answered);
        self.durable.store(length, Release);
        if let Some(unnoted) = unnoted {
            self.unnoted.durable.store(unnoted, SeqCst);
        }
        Ok(())
    }
}

/// Makes a change of the file again.
async fn make(file: Arc<RemoteFile>, change: Change) -> Result<()> {
    match change {
        Change::Write(offset, data) => file.write(offset, data).await,
        Change::Zeroes(offset, ..) => {
            Err(BlockError::unsupported("SFTP has no request that makes zeroes").at(offset))
        }
    }
}

fn size(attributes: &Attributes, path: &str) -> Result<u64> {
    let size = attributes.size.filter(|size| i64::try_from(*size).is_ok());
    let text = || format!("the SSH server tells no size of '{path}' that can be");
    size.ok_or_else(|| BlockError::new(ErrorKind::Io, text()))
}
