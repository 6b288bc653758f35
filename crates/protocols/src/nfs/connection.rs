//! One connection to a program of a server: many calls at once, each found again by its number.
//!
//! ```text
//! callers ─▶ submit ─send─▶ socket            (at once, from another worker than the pump's; what does not fit is queued)
//!                └▶ queue ─▶ pump ─send─▶ socket
//! callers ◀─ answer ◀─ InFlight ◀─ pump ◀─recv─ socket
//! ```
//!
//! Laws: a call that was submitted is carried out whether or not its caller waits; when the connection is lost, every call in flight
//! and every later one ends with an error that says so; it is never opened again.
//!
//! Bounds: calls in flight as [`InFlight`] states; a server that keeps one waiting for longer than [`Patience`] allows is given up,
//! and the connection with it.

use super::receive::{Broken, Receiver};
use crate::inflight::{self, Term};
use crate::pump::{self, Pumped, Signals, Turn};
use crate::way::{self, Connection as _, nanos};
use block::{BlockError, ErrorKind, Result};
use nfs::rpc::{AuthStatus, Refusal, ReplyHead};
use nfs::{Call, Credential, Reader, Xdr, rpc, v3, xdr};
use parking_lot::Mutex;
use rt::net::{Dial, Stream};
use rt::{Buf, BufMut, Target};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Parts of one vectored send.
const PARTS: usize = 32;
/// Zeroes that pad data.
const PADDING: [u8; 3] = [0; 3];

/// The calls of a connection, and the reply that one ends with, without the bytes that are in its buffer.
pub(super) type InFlight = inflight::InFlight<(), Vec<u8>>;
pub(super) type Pending = inflight::Pending<(), Vec<u8>>;
pub(super) type Answer = inflight::Answer<Vec<u8>>;

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

impl Patience {
    /// How long a call that begins now may take. `syncs`: everything that was written before may have to reach a disk.
    fn term(&self, syncs: bool) -> Term {
        let silence = if syncs { self.longest } else { self.silence };
        Term { began: rt::now_ns(), silence: nanos(silence), longest: nanos(self.longest) }
    }
}

/// Where a program is, and how it is spoken to.
#[derive(Clone)]
pub(super) struct Peer {
    /// The server.
    pub host: String,
    /// Who calls.
    pub credential: Credential,
    /// How connections are made.
    pub dial: Dial,
    /// The port of its portmapper.
    pub portmapper: u16,
    /// How long is waited.
    pub patience: Patience,
    /// The file, for messages.
    pub name: Arc<str>,
}

/// A connection.
pub(super) struct Connection {
    peer: Peer,
    stream: Stream,
    calls: InFlight,
    /// What waits to be sent by the pump.
    queue: Mutex<VecDeque<Buf>>,
    signals: Signals,
}

impl Connection {
    /// Connects to a port of the server. `service` names it in messages.
    pub async fn open(peer: &Peer, port: u16, service: &str) -> Result<Arc<Self>> {
        let place = rt::net::Address::Tcp { host: peer.host.clone(), port }.place();
        let connect = rt::timeout(peer.patience.connect, Stream::dial_tcp(&peer.host, port, peer.dial)).await;
        let stream = match connect {
            Ok(stream) => stream.map_err(|error| {
                let what = format!("could not connect to the {service} at '{place}'");
                BlockError::os(what, &error)
            })?,
            Err(_) => {
                let seconds = peer.patience.connect.as_secs_f32();
                let text = format!("the {service} at '{place}' did not answer within {seconds} s");
                return Err(BlockError::new(ErrorKind::Timeout, text));
            }
        };
        let connection = Arc::new(Self {
            peer: peer.clone(),
            stream,
            // Numbers begin anywhere: a server may remember those of an earlier connection from the same port.
            calls: InFlight::new(&peer.name, rt::random_u64(), u64::from(u32::MAX)),
            queue: Mutex::default(),
            signals: Signals::default(),
        });
        pump::start(Target::LeastLoaded, connection.clone(), Receiver::default());
        rt::spawn_on(Target::Control, watch(Arc::downgrade(&connection), peer.patience.silence / 4)).detach();
        Ok(connection)
    }

    /// Makes a call without data.
    pub async fn call<C: Call>(&self, call: &C) -> Result<C::Reply> {
        self.transfer(call, false, None, None).await.1
    }

    /// Makes a call and waits for its reply. `syncs`: it may have to wait for a disk. `data` is what a write sends, `buf` where a
    /// read's data go.
    pub async fn transfer<C: Call>(
        &self,
        call: &C,
        syncs: bool,
        data: Option<Buf>,
        buf: Option<BufMut>,
    ) -> (Option<BufMut>, Result<C::Reply>) {
        let place = self.calls.place().await;
        let term = self.peer.patience.term(syncs);
        let (xid, answer) = match self.calls.begin(place, term, buf, |_| Ok(())) {
            Ok(begun) => begun,
            Err((buf, error)) => return (buf, Err(error)),
        };
        let head = rpc::message(xid as u32, &self.peer.credential, call, data.as_ref().map(Buf::len));
        let sent = match head {
            Some(head) => self.submit(&head, data),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "the call is too long")),
        };
        if let Err(error) = sent {
            self.lose(&Broken::Io(error));
        }
        let (buf, result): Answer = match answer.await {
            Ok(answer) => answer,
            Err(_) => (None, Err(self.dead().unwrap_or_else(|| self.lost(&Broken::Closed)))),
        };
        (buf, result.and_then(|reply| self.understand::<C>(&reply)))
    }

    /// What a reply says; the records of a connection stay in step whatever that is.
    fn understand<C: Call>(&self, reply: &[u8]) -> Result<C::Reply> {
        let name = &self.peer.name;
        let mut reader = Reader::new(reply);
        let wrong = |error: nfs::Malformed| {
            let text = format!("'{name}': the server's reply to {} makes no sense: {error}", C::NAME);
            BlockError::new(ErrorKind::Io, text)
        };
        match ReplyHead::take(&mut reader).map_err(wrong)?.outcome {
            Ok(()) => C::Reply::take(&mut reader).map_err(wrong),
            Err(Refusal::NoVersion(low, high)) if C::PROGRAM == v3::PROGRAM && low > v3::VERSION => {
                let versions = if low == high { low.to_string() } else { format!("{low} to {high}") };
                let text = format!(
                    "'{name}': the server speaks only version {versions} of NFS, which is not supported; \
                     have it offer version 3, over TCP and with its mount service"
                );
                Err(BlockError::unsupported(text))
            }
            Err(refusal) => Err(refused(name, C::NAME, refusal)),
        }
    }

    /// Queues a call that is made on the pump's worker, which sends those of one turn together; from elsewhere sends at once, and queues
    /// what does not fit. Never waits, so that no call is half sent.
    fn submit(&self, head: &[u8], data: Option<Buf>) -> io::Result<()> {
        let mut queue = self.queue.lock();
        let body = data.as_deref().unwrap_or_default();
        let pad = PADDING.get(..xdr::padding(body.len())).unwrap_or_default();
        let behind = head.len() + body.len();
        let whole = behind + pad.len();
        let mut sent = 0;
        let is_near = self.signals.is_near();
        while !is_near && queue.is_empty() && sent < whole {
            let parts = [(head, 0), (body, head.len()), (pad, behind)]
                .map(|(part, at)| IoSlice::new(part.get(sent.saturating_sub(at)..).unwrap_or_default()));
            match self.stream.try_send_vectored(&parts) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if sent == whole {
            return Ok(());
        }
        let rest =
            |part: &[u8], at: usize| Buf::from_slice(part.get(sent.saturating_sub(at)..).unwrap_or_default());
        queue.push_back(rest(head, 0));
        if let Some(data) = &data {
            queue.push_back(data.slice(sent.saturating_sub(head.len())..));
        }
        if !pad.is_empty() {
            queue.push_back(rest(pad, behind));
        }
        self.signals.queue(true);
        Ok(())
    }

    fn lost(&self, cause: &Broken) -> BlockError {
        let text = format!("the connection to the server of '{}' is lost: {}", self.peer.name, words(cause));
        BlockError::new(ErrorKind::Io, text)
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
        self.calls.kill(error);
        self.signals.close();
    }
}

impl way::Connection for Connection {
    fn dead(&self) -> Option<BlockError> {
        self.calls.dead()
    }

    /// Calls still in flight end with an error; there should be none.
    fn leave(&self) {
        // What waits on a connection that was given up was told to have failed, and must not arrive later.
        if !self.signals.is_closing() {
            self.signals.leave();
            // If the server is gone, there is nothing to send.
            let _ = self.send();
        }
        self.end(&BlockError::new(ErrorKind::Closed, format!("'{}' is closed", self.peer.name)));
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
        self.calls.receiving(receiver.term());
        receiver.rest();
    }

    fn receive(self: &Arc<Self>, receiver: &mut Receiver) -> Result<(), Broken> {
        receiver.receive(&self.stream, &self.calls)
    }

    fn send(&self) -> io::Result<()> {
        let mut queue = self.queue.lock();
        loop {
            while queue.front().is_some_and(|front| front.is_empty()) {
                queue.pop_front();
            }
            if queue.is_empty() {
                self.signals.queue(false);
                return Ok(());
            }
            let mut parts = [IoSlice::new(&[]); PARTS];
            let count =
                parts.iter_mut().zip(queue.iter()).map(|(part, buf)| *part = IoSlice::new(buf)).count();
            let mut n = match self.stream.try_send_vectored(parts.get(..count).unwrap_or_default()) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.calls.alive();
            for part in queue.iter_mut() {
                let taken = n.min(part.len());
                *part = part.slice(taken..);
                n -= taken;
                if n == 0 {
                    break;
                }
            }
        }
    }

    fn broke(&self, cause: &Broken) {
        if !self.signals.is_leaving() {
            tracing::warn!(file = &*self.peer.name, error = %cause, "NFS connection lost");
        }
        self.lose(cause);
    }

    fn ended(&self, mut receiver: Receiver) {
        receiver.abandon(&self.dead().unwrap_or_else(|| self.lost(&Broken::Closed)));
        // It may be gone already.
        let _ = if self.signals.is_leaving() { self.stream.shutdown() } else { self.stream.abort() };
    }
}

/// Checks periodically for a call that has waited too long.
async fn watch(connection: Weak<Connection>, every: Duration) {
    loop {
        rt::sleep(every).await;
        let Some(connection) = connection.upgrade() else { return };
        if connection.signals.is_closing() {
            return;
        }
        if let Some(waited) = connection.calls.overdue() {
            let seconds = Duration::from_nanos(waited).as_secs_f32();
            let name = &connection.peer.name;
            let text = format!(
                "the connection to the server of '{name}' was given up: it left a call unanswered for {seconds:.1} s"
            );
            tracing::warn!(file = &**name, seconds, "NFS server does not answer; connection given up");
            connection.end(&BlockError::new(ErrorKind::Timeout, text));
            return;
        }
    }
}

/// The error of a call that was not carried out, with what can be done about it.
fn refused(name: &str, call: &str, refusal: Refusal) -> BlockError {
    let text = format!("'{name}': the server does not carry out {call}: {refusal}");
    match refusal {
        Refusal::Credentials(AuthStatus::TOO_WEAK) => BlockError::new(
            ErrorKind::Permission,
            format!(
                "{text}; it may want Kerberos, which is not supported, or a privileged port, which needs root"
            ),
        ),
        Refusal::Credentials(_) => BlockError::new(ErrorKind::Permission, text),
        Refusal::NoProgram | Refusal::NoVersion(..) | Refusal::NoProcedure | Refusal::Rpc(..) => {
            BlockError::unsupported(format!("{text}; NFS version 3 over TCP is needed"))
        }
        Refusal::Arguments | Refusal::Failed => BlockError::new(ErrorKind::Io, text),
    }
}

/// The words of a cause, without Rust's number of the system's error.
fn words(cause: &Broken) -> String {
    match cause {
        Broken::Io(error) => BlockError::from_io(error).message(),
        other => other.to_string(),
    }
}
