//! One connection to a server: many requests at once, each found again by its cookie.
//!
//! ```text
//! callers ─▶ submit ─send─▶ socket            (at once, from another worker than the pump's; what does not fit is queued)
//!                └▶ queue ─▶ pump ─send─▶ socket
//! callers ◀─ answer ◀─ InFlight ◀─ pump ◀─recv─ socket
//! ```
//!
//! Laws: a request that was submitted is carried out whether or not its caller waits; when the connection is lost,
//! every request in flight and every later one ends with an error that says so; it is never opened again.
//!
//! Bounds: requests in flight as [`InFlight`] states; a server that keeps one waiting for longer than [`Patience`]
//! allows is given up, and the connection with it.

use super::location::{Location, Server};
use super::receive::{Broken, Receiver};
use crate::inflight::{self, Term};
use crate::pump::{self, Pumped, Signals, Turn};
use crate::way::{self, Connection as _, nanos};
use block::{BlockError, ErrorKind, Result};
use nbd::client::{Export, Handshake, HandshakeError, Step, Tracker};
use nbd::{BASE_ALLOCATION, Command, CommandFlags, ExtentFlags, Headers, OptionCode, Request};
use parking_lot::Mutex;
use rt::net::Stream;
use rt::{Buf, BufMut, Target};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tls::{Channel, Credentials};

/// The requests of a connection, and the extents of a block status that one ends with.
pub(super) type InFlight = inflight::InFlight<Tracker, Vec<(u64, ExtentFlags)>>;
pub(super) type Pending = inflight::Pending<Tracker, Vec<(u64, ExtentFlags)>>;
pub(super) type Answer = inflight::Answer<Vec<(u64, ExtentFlags)>>;

/// How long is waited for a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// To connect, and to agree on an export.
    pub connect: Duration,
    /// Without a byte from or to a server that has requests.
    pub silence: Duration,
    /// For a request in all, and for the silence of a flush or of a durable write: everything written before may have to reach
    /// a disk.
    pub longest: Duration,
}

/// Bytes of zeroes or of a trim that a server may take a second for, where one request means many of them.
const SLOWEST: u64 = 1 << 20;

impl Default for Patience {
    fn default() -> Self {
        let silence = Duration::from_secs(30);
        Self { connect: silence, silence, longest: silence * 10 }
    }
}

impl Patience {
    /// How long a request that begins now may take. A server without fast zeroes may have to write every byte of
    /// them, and one request can mean a whole disk.
    pub fn term(&self, command: Command, flags: CommandFlags, length: u64) -> Term {
        let work = match command {
            Command::WRITE_ZEROES | Command::TRIM => Duration::from_secs(length / SLOWEST),
            _ => Duration::ZERO,
        };
        let syncs = command == Command::FLUSH || flags.contains(CommandFlags::FUA);
        let silence = if syncs { self.longest } else { self.silence };
        let (silence, longest) =
            (nanos(silence.saturating_add(work)), nanos(self.longest.saturating_add(work)));
        Term { began: rt::now_ns(), silence, longest }
    }
}

/// Parts of one vectored send.
const PARTS: usize = 32;

/// A connection in its transmission phase.
pub(super) struct Connection {
    stream: Channel,
    requests: InFlight,
    headers: Headers,
    /// ID of the context that tells block status, if the server has it.
    context: Option<u32>,
    patience: Patience,
    /// What waits to be sent by the pump.
    queue: Mutex<VecDeque<Buf>>,
    signals: Signals,
}

impl Connection {
    /// Connects and enters transmission. `name` is for messages.
    pub async fn open(
        location: &Location,
        credentials: Option<&Credentials>,
        name: &str,
        patience: Patience,
    ) -> Result<(Arc<Self>, Export)> {
        let Location { export, context, .. } = location;
        let wanted = context.as_deref().unwrap_or(BASE_ALLOCATION);
        let handshake = Handshake::connect(export, &[wanted]).map_err(|error| refusal(&error, name))?;
        let (stream, step, rest) = within(patience, location, credentials, handshake).await?;
        let Step::Ready(export) = step else { return Err(refusal(&HandshakeError::Ended, name)) };
        let context = export.contexts.iter().find(|(_, name)| name == wanted).map(|(id, _)| *id);
        let connection = Arc::new(Self {
            stream,
            requests: InFlight::new(name, 0, u64::MAX),
            headers: export.headers,
            context,
            patience,
            queue: Mutex::default(),
            signals: Signals::default(),
        });
        let mut receiver = Receiver::new(export.headers, &rest);
        if let Err(cause) = receiver.work_off(&connection.requests) {
            connection.broke(&cause);
        }
        pump::start(Target::LeastLoaded, connection.clone(), receiver);
        rt::spawn_on(Target::Control, watch(Arc::downgrade(&connection), patience.silence / 4)).detach();
        Ok((connection, export))
    }

    /// One request can mean more than 4 GiB.
    pub fn extended(&self) -> bool {
        self.headers.extended()
    }

    /// The server tells what is allocated.
    pub fn tells_status(&self) -> bool {
        self.context.is_some()
    }

    /// Makes a request and waits for its answer. `data` is what a write sends, `buf` where a read's data go.
    pub async fn call(
        &self,
        command: Command,
        flags: CommandFlags,
        (offset, length): (u64, u64),
        data: Option<Buf>,
        buf: Option<BufMut>,
    ) -> Answer {
        let place = self.requests.place().await;
        let term = self.patience.term(command, flags, length);
        let payload =
            CommandFlags::when(data.is_some() && self.headers.extended(), CommandFlags::PAYLOAD_LEN);
        let mut request = Request { flags: flags | payload, command, cookie: 0, offset, length };
        let (headers, context) = (self.headers, self.context.unwrap_or(0));
        let begun = self.requests.begin(place, term, buf, |cookie| {
            request.cookie = cookie;
            Ok(Tracker::new(request, headers, context))
        });
        let answer = match begun {
            Ok((_, answer)) => answer,
            Err((buf, error)) => return (buf, Err(error)),
        };
        if let Err(error) = self.submit(&request.encode(self.headers), data) {
            self.lose(&Broken::Io(error));
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) => (None, Err(self.dead().unwrap_or_else(|| self.lost(&Broken::Closed)))),
        }
    }

    /// Queues a request that is made on the pump's worker, which sends those of one turn together; from elsewhere sends at once, and queues
    /// what does not fit. Never waits, so that no request is half sent.
    fn submit(&self, header: &[u8], data: Option<Buf>) -> io::Result<()> {
        let mut queue = self.queue.lock();
        let body = data.as_deref().unwrap_or_default();
        let whole = header.len() + body.len();
        let mut sent = 0;
        let is_near = self.signals.is_near();
        while !is_near && queue.is_empty() && sent < whole {
            let head = header.get(sent..).unwrap_or_default();
            let tail = body.get(sent.saturating_sub(header.len())..).unwrap_or_default();
            match self.stream.try_send_vectored(&[IoSlice::new(head), IoSlice::new(tail)]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if sent == whole && self.is_flushed()? {
            return Ok(());
        }
        if let Some(head) = header.get(sent..).filter(|head| !head.is_empty()) {
            queue.push_back(Buf::from_slice(head));
        }
        if let Some(data) = data.filter(|_| sent < whole) {
            queue.push_back(data.slice(sent.saturating_sub(header.len())..));
        }
        self.signals.queue(true);
        Ok(())
    }

    /// All that was taken is on its way.
    fn is_flushed(&self) -> io::Result<bool> {
        match self.stream.try_flush() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn lost(&self, cause: &Broken) -> BlockError {
        BlockError::new(
            ErrorKind::Io,
            format!("the connection to '{}' is lost: {}", self.requests.name(), words(cause)),
        )
    }

    /// Gives the connection up.
    fn lose(&self, cause: &Broken) {
        let error = self.lost(cause);
        self.end(&error);
    }

    /// Gives the connection up because somebody wants it so.
    pub fn cut(&self) {
        self.lose(&Broken::Cut);
    }

    fn end(&self, error: &BlockError) {
        self.requests.kill(error);
        self.signals.close();
    }
}

impl way::Connection for Connection {
    fn dead(&self) -> Option<BlockError> {
        self.requests.dead()
    }

    /// Sends NBD_CMD_DISC. Requests still in flight end with an error; there should be none.
    fn leave(&self) {
        let goodbye =
            Request { flags: CommandFlags::NONE, command: Command::DISC, cookie: 0, offset: 0, length: 0 };
        if !self.signals.is_closing() {
            self.signals.leave();
            // If the server is gone, there is nothing to send.
            let _ = self.submit(&goodbye.encode(self.headers), None);
            let _ = self.send();
            let _ = self.stream.shutdown_write();
        }
        self.end(&BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.requests.name())));
    }

    fn abort(&self) {
        // It may be gone already.
        let _ = self.stream.abort();
    }
}

impl Pumped for Connection {
    type Receiver = Receiver;
    type Broken = Broken;

    fn signals(&self) -> &Signals {
        &self.signals
    }

    fn let_go(&self) {
        self.stream.let_go();
    }

    async fn turn(&self) -> Option<io::Result<Turn>> {
        self.signals.wait(self.stream.readable(), self.stream.writable()).await
    }

    fn rest(&self, receiver: &mut Receiver) {
        self.requests.receiving(receiver.term());
        receiver.rest();
    }

    fn receive(self: &Arc<Self>, receiver: &mut Receiver) -> Result<(), Broken> {
        receiver.receive(&self.stream, &self.requests)
    }

    fn send(&self) -> io::Result<()> {
        let mut queue = self.queue.lock();
        while !queue.is_empty() {
            let mut parts = [IoSlice::new(&[]); PARTS];
            let count =
                parts.iter_mut().zip(queue.iter()).map(|(part, buf)| *part = IoSlice::new(buf)).count();
            let mut n = match self.stream.try_send_vectored(parts.get(..count).unwrap_or_default()) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.requests.alive();
            while let Some(front) = queue.front_mut() {
                let taken = n.min(front.len());
                *front = front.slice(taken..);
                n -= taken;
                if !front.is_empty() {
                    break;
                }
                queue.pop_front();
            }
        }
        if self.is_flushed()? {
            self.signals.queue(false);
        }
        Ok(())
    }

    fn broke(&self, cause: &Broken) {
        if !self.signals.is_leaving() {
            tracing::warn!(export = self.requests.name(), error = %cause, "NBD connection lost");
        }
        self.lose(cause);
    }

    fn ended(&self, mut receiver: Receiver) {
        receiver.abandon(&self.dead().unwrap_or_else(|| self.lost(&Broken::Closed)));
        // It may be gone already.
        let _ = if self.signals.is_leaving() { self.stream.shutdown() } else { self.stream.abort() };
    }
}

/// Checks periodically for a request that has waited too long.
async fn watch(connection: Weak<Connection>, every: Duration) {
    loop {
        rt::sleep(every).await;
        let Some(connection) = connection.upgrade() else { return };
        if connection.signals.is_closing() {
            return;
        }
        if let Some(waited) = connection.requests.overdue() {
            let seconds = Duration::from_nanos(waited).as_secs_f32();
            let text = format!(
                "the connection to '{}' was given up: the server left a request unanswered for {seconds:.1} s",
                connection.requests.name()
            );
            tracing::warn!(
                export = connection.requests.name(),
                seconds,
                "NBD server does not answer; connection given up"
            );
            connection.end(&BlockError::new(ErrorKind::Timeout, text));
            return;
        }
    }
}

/// Connects and negotiates in bounded time: the stream, what was agreed on, and bytes that came behind it.
async fn within(
    patience: Patience,
    location: &Location,
    credentials: Option<&Credentials>,
    handshake: Handshake,
) -> Result<(Channel, Step, Vec<u8>)> {
    let server = &location.server;
    let place = server.to_string();
    let secure = credentials.map(|credentials| (credentials, location.hostname()));
    let work = async {
        let stream = match server {
            Server::At(address) => Stream::connect(address).await,
            Server::Socket(name) => rt::handed::named(name).and_then(Stream::from_connected),
        };
        let stream =
            stream.map_err(|error| BlockError::os(format!("Failed to connect to '{place}'"), &error))?;
        let channel = Channel::from(stream);
        let (step, rest) = negotiate(&channel, handshake, secure, &place).await?;
        Ok((channel, step, rest))
    };
    match rt::timeout(patience.connect, work).await {
        Ok(result) => result,
        Err(_) => {
            let seconds = patience.connect.as_secs_f32();
            let text = format!("the NBD server at '{place}' did not answer within {seconds} s");
            Err(BlockError::new(ErrorKind::Timeout, text))
        }
    }
}

/// Agrees on an export; in TLS with credentials and the name that the server's certificate has to be for.
async fn negotiate(
    stream: &Channel,
    mut handshake: Handshake,
    secure: Option<(&Credentials, Option<&str>)>,
    place: &str,
) -> Result<(Step, Vec<u8>)> {
    if secure.is_some() {
        handshake = handshake.with_tls();
    }
    let broken =
        |error| BlockError::os(format!("the NBD server at '{place}' broke off the handshake"), &error);
    let mut buf = vec![0; 16 << 10];
    let mut out = Vec::new();
    loop {
        let n = stream.recv(&mut buf).await.map_err(broken)?;
        if n == 0 {
            let text = format!(
                "the NBD server at '{place}' closed the connection during the handshake; it may not know the export"
            );
            return Err(BlockError::new(ErrorKind::Io, text));
        }
        let mut window = buf.get(..n).unwrap_or_default();
        while !window.is_empty() {
            out.clear();
            let (taken, step) = match handshake.advance(window, &mut out) {
                Ok(advanced) => advanced,
                Err(error) => {
                    // At most an ABORT is left to be sent; it does not matter if the server is gone.
                    let _ = stream.send_all(&out).await;
                    return Err(refusal(&error, place));
                }
            };
            window = window.get(taken..).unwrap_or_default();
            stream.send_all(&out).await.map_err(broken)?;
            match (step, secure) {
                (Step::More, _) => {}
                (Step::StartTls, Some((credentials, hostname))) => {
                    out.clear();
                    handshake.secured(window.len(), &mut out).map_err(|error| refusal(&error, place))?;
                    tls::connect(stream, credentials, hostname)
                        .await
                        .map_err(|error| BlockError::of(ErrorKind::Refused, error))?;
                    stream.send_all(&out).await.map_err(broken)?;
                }
                (step, _) => return Ok((step, window.to_vec())),
            }
        }
    }
}

fn refusal(error: &HandshakeError, place: &str) -> BlockError {
    let text = |error: &HandshakeError| format!("'{place}': {error}");
    match error {
        HandshakeError::Refused { code: nbd::ReplyType::ERR_UNKNOWN, message, .. } => {
            let mut text = "Requested export not available".to_owned();
            if !message.is_empty() {
                text.push_str(&format!("\nserver reported: {message}"));
            }
            BlockError::new(ErrorKind::NotFound, text)
        }
        HandshakeError::Refused { option: OptionCode::STARTTLS, message, .. } => {
            let mut text = format!("'{place}': the server does not begin TLS");
            if !message.is_empty() {
                text.push_str(&format!("\nserver reported: {message}"));
            }
            BlockError::new(ErrorKind::Refused, text)
        }
        HandshakeError::Refused { option, code: nbd::ReplyType::ERR_TLS_REQD, message, .. } => {
            let mut text = format!(
                "'{place}': the server requires TLS before option {option}\nDid you forget a valid tls-creds?"
            );
            if !message.is_empty() {
                text.push_str(&format!("\nserver reported: {message}"));
            }
            BlockError::new(ErrorKind::Refused, text)
        }
        HandshakeError::Refused { .. } => BlockError::new(ErrorKind::Refused, text(error)),
        HandshakeError::TooLarge { .. } => BlockError::new(ErrorKind::Limit, text(error)),
        error => BlockError::new(ErrorKind::Io, text(error)),
    }
}

/// A cause without Rust's "(os error N)".
fn words(cause: &Broken) -> String {
    match cause {
        Broken::Io(error) => BlockError::from_io(error).to_string(),
        other => other.to_string(),
    }
}
