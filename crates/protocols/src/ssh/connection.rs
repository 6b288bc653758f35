//! One connection to a server: many requests at once, each found again by its id.
//!
//! ```text
//! callers ─▶ call ─▶ queue ─▶ send ─▶ channel ─▶ russh ─▶ socket       (the thread of SSH)
//! callers ◀─ answer ◀─ InFlight ◀─ receive ◀─ channel ◀─ russh ◀─ socket
//! ```
//!
//! Laws: a request that was handed over is carried out whether or not its caller waits; when the connection is lost,
//! every request in flight and every later one ends with an error that says so. Another connection is the caller's to make.
//!
//! Bounds: requests in flight as [`InFlight`] states, and with them what is queued; a server that keeps one waiting for
//! longer than [`Patience`] allows is given up, and the connection with it.

use super::receive::{Broken, Receiver};
use super::requests::{Answer, Answered, InFlight, What};
use super::thread;
use super::transport::{Established, Line};
use crate::inflight::Term;
use crate::way::nanos;
use block::{BlockError, ErrorKind, Result};
use bytes::Bytes;
use futures_channel::oneshot;
use rt::{Buf, BufMut};
use russh::ChannelMsg;
use sftp::{Limits, Request, Version};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// How long is waited for a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For all of the opening: to connect, to exchange keys, to log in, to begin SFTP.
    pub connect: Duration,
    /// Without a byte from or to a server that has requests.
    pub silence: Duration,
    /// For a request in all, and for the silence of a flush: everything written before may have to reach a disk.
    pub longest: Duration,
    /// For the end of a session to be sent.
    pub goodbye: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let silence = Duration::from_secs(30);
        Self { connect: silence, silence, longest: silence * 10, goodbye: Duration::from_secs(2) }
    }
}

impl Patience {
    fn term(&self, request: &Request<'_>) -> Term {
        let syncs = matches!(request, Request::Fsync { .. } | Request::SetSize { .. });
        let silence = if syncs { self.longest } else { self.silence };
        Term { began: rt::now_ns(), silence: nanos(silence), longest: nanos(self.longest) }
    }
}

/// What is sent.
enum Outgoing {
    /// A message, and the data behind it.
    Message(Vec<u8>, Option<Buf>),
    /// The end; told when it is on its way.
    Goodbye(oneshot::Sender<()>),
}

/// A buffer as the channel takes it: nothing is copied.
struct Shared(Buf);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A connection on which SFTP is spoken.
pub(super) struct Connection {
    /// The file, for messages.
    name: String,
    requests: Arc<InFlight>,
    queue: mpsc::UnboundedSender<Outgoing>,
    patience: Patience,
    version: Version,
    limits: Limits,
    tasks: Vec<AbortHandle>,
    line: Arc<Line>,
}

impl Connection {
    /// Begins SFTP on a channel. On the thread of SSH.
    pub async fn begin(name: &str, established: Established, patience: Patience) -> Result<Arc<Self>> {
        let Established { session, reader, writer, line, requests } = established;
        let (queue, outgoing) = mpsc::unbounded_channel();
        let (tell, version) = oneshot::channel();
        let mut first = Vec::new();
        sftp::init(&mut first);
        // The queue is new: it takes it.
        let _ = queue.send(Outgoing::Message(first, None));
        let ends = (requests.clone(), line.clone());
        let receiving = tokio::spawn(receive(reader, Receiver::new(tell), ends, name.to_owned()));
        let sending = tokio::spawn(send(outgoing, writer, session, requests.clone()));
        let mut connection = Self {
            name: name.to_owned(),
            requests,
            queue,
            patience,
            version: Version::default(),
            limits: Limits::default(),
            tasks: vec![receiving.abort_handle(), sending.abort_handle()],
            line,
        };
        connection.version = version.await.map_err(|_| connection.reason())?;
        if connection.version.version != sftp::VERSION {
            let text = format!("the server speaks version {} of SFTP, not 3", connection.version.version);
            return Err(BlockError::unsupported(text));
        }
        if connection.version.limits {
            // A server that refuses to tell is asked for what all take.
            if let (_, Ok(Answered::Extended(payload))) = connection.call(Request::Limits, None, None).await {
                connection.limits =
                    Limits::parse(&payload).map_err(|error| connection.lost(&Broken::from(error)))?;
            }
        }
        let connection = Arc::new(connection);
        tokio::spawn(watch(Arc::downgrade(&connection), patience.silence / 4));
        Ok(connection)
    }

    /// The file, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the server can do.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How long messages may be.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Makes a request and waits for its answer. `data` is what a write sends, `buf` where a read's data go.
    pub async fn call(&self, request: Request<'_>, data: Option<Buf>, buf: Option<BufMut>) -> Answer {
        let place = self.requests.place().await;
        let offset = match request {
            Request::Read { offset, .. } | Request::Write { offset, .. } => Some(offset),
            _ => None,
        };
        let what = What { name: request.name(), offset };
        let term = self.patience.term(&request);
        let begun =
            self.requests.begin(place, term, buf, |id| self.hand_over(id, &request, data).map(|()| what));
        let answer = match begun {
            Ok((_, answer)) => answer,
            Err((buf, error)) => return (buf, Err(error)),
        };
        match answer.await {
            Ok((buf, result)) => (buf, result.map_err(|error| self.explain(error, what))),
            // The receiving side ended in the middle of the reply.
            Err(_) => (None, Err(self.reason())),
        }
    }

    /// Has a file closed, and waits for nothing.
    pub fn forget(&self, handle: &[u8]) {
        let request = Request::Close { handle };
        let what = What { name: request.name(), offset: None };
        // A server that is gone has closed it.
        let term = self.patience.term(&request);
        let _ = self.requests.begin(None, term, None, |id| self.hand_over(id, &request, None).map(|()| what));
    }

    /// Queues a request.
    fn hand_over(&self, id: u64, request: &Request<'_>, data: Option<Buf>) -> Result<()> {
        let mut head = Vec::new();
        // Ids have 32 bits.
        request.encode(id as u32, &mut head).map_err(|error| BlockError::of(ErrorKind::Limit, error))?;
        self.queue.send(Outgoing::Message(head, data)).map_err(|_| self.lost(&Broken::Closed))
    }

    /// Tells which request of which file it was that the server refused.
    fn explain(&self, error: BlockError, what: What) -> BlockError {
        match self.requests.dead() {
            Some(_) => error,
            None => error.context(format!("the SSH server refused a {} of '{}'", what.name, self.name)),
        }
    }

    fn lost(&self, cause: &Broken) -> BlockError {
        lost(&self.name, cause)
    }

    /// Why nothing can be asked for any more, if so.
    pub fn dead(&self) -> Option<BlockError> {
        self.requests.dead()
    }

    /// Ends without waiting for the server.
    pub fn leave(&self) {
        self.end(&closed(&self.name));
    }

    /// Takes back what was sent and has not arrived, and ends.
    pub fn abort(&self) {
        self.lose(&self.reason());
    }

    fn reason(&self) -> BlockError {
        self.requests.dead().unwrap_or_else(|| self.lost(&Broken::Closed))
    }

    /// Ends; what was sent before may arrive. Does not wait.
    fn end(&self, error: &BlockError) {
        self.requests.kill(error);
        self.tasks.iter().for_each(AbortHandle::abort);
        self.line.cut();
    }

    /// Gives the connection up: what waits to be sent does not arrive any more, where it would undo what others write from now on.
    /// Does not wait.
    pub fn lose(&self, error: &BlockError) {
        // First of all: whoever sees the connection end gives another reason.
        self.requests.kill(error);
        self.line.abort();
        self.end(error);
    }

    /// Gives the connection up because somebody wants it so.
    pub fn cut(&self) {
        let text = format!("the connection to '{}' was given up on request", self.name);
        self.lose(&BlockError::new(ErrorKind::Io, text));
    }

    /// Ends the session as the protocol has it. Requests still in flight end with an error; there should be none.
    pub async fn close(&self) {
        let closed = closed(&self.name);
        self.requests.kill(&closed);
        let (tell, said) = oneshot::channel();
        if self.queue.send(Outgoing::Goodbye(tell)).is_ok() {
            let patience = self.patience.goodbye;
            // A server that does not listen any more is left without.
            let _ = thread::run(async move { tokio::time::timeout(patience, said).await }).await;
        }
        self.end(&closed);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The error of requests after the end.
fn closed(name: &str) -> BlockError {
    BlockError::new(ErrorKind::Closed, format!("'{name}' is closed"))
}

/// The error of a connection that is lost.
pub(super) fn lost(name: &str, cause: &(dyn std::error::Error + Send + Sync)) -> BlockError {
    BlockError::new(ErrorKind::Io, format!("the connection to '{name}' is lost: {cause}"))
}

/// Hands out what arrives until the connection ends.
async fn receive(
    mut reader: russh::ChannelReadHalf,
    mut receiver: Receiver,
    (requests, line): (Arc<InFlight>, Arc<Line>),
    name: String,
) {
    let cause = loop {
        match reader.wait().await {
            Some(ChannelMsg::Data { data }) => {
                if let Err(broken) = receiver.feed(&data, &requests) {
                    break broken;
                }
            }
            None | Some(ChannelMsg::Eof | ChannelMsg::Close) => break Broken::Closed,
            // What the server's programs say beside SFTP, and changes of the window.
            Some(_) => {}
        }
    };
    tracing::debug!(file = name, error = %cause, "SFTP connection ended");
    // Where the transport failed, or the connection was closed from here, that is known already.
    requests.kill(&lost(&name, &cause));
    if requests.dead().is_some_and(|error| error.kind() != ErrorKind::Closed) {
        line.abort();
    }
}

/// Bytes that are sent together: small messages share the channel's packets.
const TOGETHER: usize = 32 << 10;

/// Messages that are sent together, the last of them perhaps with data that are too large to be copied.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    data: Option<Buf>,
}

impl Batch {
    fn add(&mut self, head: &[u8], data: Option<Buf>) {
        self.bytes.extend_from_slice(head);
        match data {
            Some(small) if self.bytes.len() + small.len() <= TOGETHER => self.bytes.extend_from_slice(&small),
            data => self.data = data,
        }
    }

    fn is_full(&self) -> bool {
        self.data.is_some() || self.bytes.len() >= TOGETHER / 2
    }

    async fn send(self, writer: &russh::ChannelWriteHalf<russh::client::Msg>) -> Result<(), russh::Error> {
        writer.data_bytes(self.bytes).await?;
        let data = self.data.map(|data| Bytes::from_owner(Shared(data)));
        writer.data_bytes(data.unwrap_or_default()).await
    }
}

/// Sends what is queued until the connection ends.
async fn send(
    mut outgoing: mpsc::UnboundedReceiver<Outgoing>,
    writer: russh::ChannelWriteHalf<russh::client::Msg>,
    session: super::transport::Session,
    requests: Arc<InFlight>,
) {
    let mut goodbye = None;
    while goodbye.is_none()
        && let Some(first) = outgoing.recv().await
    {
        let (mut batch, mut next) = (Batch::default(), Some(first));
        while let Some(message) = next.take() {
            match message {
                Outgoing::Message(head, data) => batch.add(&head, data),
                Outgoing::Goodbye(said) => goodbye = Some(said),
            }
            if goodbye.is_none() && !batch.is_full() {
                next = outgoing.try_recv().ok();
            }
        }
        // What fails here is told by the receiving side.
        if batch.send(&writer).await.is_err() {
            return;
        }
        requests.alive();
    }
    // The server may be gone: then nobody hears it.
    let _ = writer.eof().await;
    let _ = session.disconnect(russh::Disconnect::ByApplication, "", "").await;
    let _ = session.await;
    if let Some(said) = goodbye {
        let _ = said.send(());
    }
}

/// Checks periodically for a request that has waited too long.
async fn watch(connection: Weak<Connection>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(connection) = connection.upgrade() else { return };
        if let Some(error) = connection.dead() {
            if error.kind() != ErrorKind::Closed {
                connection.lose(&error);
            }
            return;
        }
        if let Some(waited) = connection.requests.overdue() {
            let seconds = Duration::from_nanos(waited).as_secs_f32();
            let text = format!(
                "the connection to '{}' was given up: the server left a request unanswered for {seconds:.1} s",
                connection.name
            );
            tracing::warn!(
                file = connection.name,
                seconds,
                "SSH server does not answer; connection given up"
            );
            connection.lose(&BlockError::new(ErrorKind::Timeout, text));
            return;
        }
    }
}
