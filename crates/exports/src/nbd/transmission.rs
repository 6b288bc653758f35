//! The transmission phase of one connection: everything that has arrived is served, then answered in one send.
//!
//! ```text
//!  socket ─recv─▶ input ─▶ Request ─▶ Rules ─▶ try_read / try_write ──────────▶ output ─send─▶ socket
//!                             │                    │ would wait                   ▲
//!                             └── refused ──▶──────┼──────────────────────────────┤
//!                                                  └─▶ task ─▶ background ─▶ reply ┘
//! ```
//!
//! A request that needs no wait is answered between the two system calls: no task, no lock, no allocation, and its
//! data are copied once, by the kernel. Replies come in whatever order they are ready.
//!
//! Bounds: a turn serves at most [`TURN_REQUESTS`] or [`TURN_BYTES`]; beyond [`OUTPUT`] bytes of replies that the
//! client does not take, nothing more is read from it; for what waits see [`Background`].
//!
//! Specification: "Transmission", "Request types".

use super::background::{Background, Task};
use super::export::NbdExport;
use super::input::{BLOCK, Input};
use super::output::Output;
use super::reply::Reply;
use super::waiting::Context;
use super::{sparse, waiting};
use ::nbd::server::Session;
use ::nbd::{Command, CommandFlags, ErrorCode, Headers, ReplyTo, Request, RequestError, limits};
use block::{Backend, BlockError};
use rt::BufMut;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use tls::Channel;

/// Most requests served before other connections are.
const TURN_REQUESTS: usize = 64;
/// Most bytes moved before other connections are served.
const TURN_BYTES: usize = 1 << 20;
/// Longest read or write that is tried inline.
const INLINE: usize = 1 << 20;
/// Bytes of unsent replies at which no more requests are taken.
const OUTPUT: usize = 1 << 20;

/// Why a connection ended other than by NBD_CMD_DISC.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("client announced {0} bytes of data with a request, too many even to be skipped")]
    Payload(u64),
}

/// What became of the front of the input.
enum Next {
    /// A request was served or passed on to the background.
    Served,
    /// More bytes are needed: so many in the window.
    Wants(usize),
    /// It must wait until the background or the output has room.
    Full,
}

/// Why no more requests are served for now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// No complete request is there.
    Starved,
    /// The client does not take its replies fast enough.
    Clogged,
    /// Too much is waiting in the background: its next reply makes room.
    Crowded,
    /// Other connections are to be served.
    TurnOver,
}

/// A write whose payload does not come through the input block.
enum Payload {
    /// Goes into a buffer of its own, of which so many bytes have come.
    Kept(BufMut, usize),
    /// Is discarded; so many bytes are still to come.
    Refused(usize, ErrorCode),
}

pub(super) struct Transmission<'a> {
    stream: &'a Channel,
    session: Session<Arc<NbdExport>>,
    headers: Headers,
    backend: Arc<Backend>,
    /// Every write is made durable before it is acknowledged.
    through: bool,
    input: Input,
    output: Output,
    background: Arc<Background>,
    /// The write that is being received.
    payload: Option<(Request, Payload)>,
    /// Bytes the window needs before its first request can be taken.
    wants: usize,
    /// The client has disconnected, or closed its sending direction.
    ended: bool,
    turn_requests: usize,
    turn_bytes: usize,
}

impl<'a> Transmission<'a> {
    /// `input` holds what the client sent behind its handshake.
    pub fn new(
        stream: &'a Arc<Channel>,
        session: Session<Arc<NbdExport>>,
        input: Input,
        most_bytes: usize,
    ) -> Self {
        Self {
            stream,
            backend: session.export.backend().clone(),
            through: session.export.writethrough(),
            headers: session.rules.headers,
            wants: session.rules.headers.request_len(),
            session,
            input,
            output: Output::default(),
            background: Background::new(stream.clone(), most_bytes),
            payload: None,
            ended: false,
            turn_requests: 0,
            turn_bytes: 0,
        }
    }

    /// Serves the client until it leaves, then waits for the requests that are still being worked on.
    pub async fn run(mut self) -> Result<(), Broken> {
        let result = self.serve().await;
        // The requests hold the backend: the export may only be closed when they have ended.
        while !self.background.is_idle() {
            // The socket is not used any more, so it can't fail.
            let _ = self.wait(false, false).await;
            while self.background.next().is_some() {}
        }
        result
    }

    async fn serve(&mut self) -> Result<(), Broken> {
        loop {
            let stop = self.take_turn()?;
            let sent = self.output.send(self.stream)?;
            if self.ended && sent && self.background.is_idle() {
                return Ok(());
            }
            if stop == Stop::TurnOver {
                rt::yield_now().await;
                (self.turn_requests, self.turn_bytes) = (0, 0);
                continue;
            }
            if stop == Stop::Clogged && sent {
                continue;
            }
            self.input.rest();
            self.output.rest();
            let reads = stop == Stop::Starved && !self.ended;
            if self.wait(reads, !sent).await? {
                self.receive()?;
            }
        }
    }

    /// Serves the requests there are; why no more.
    fn take_turn(&mut self) -> Result<Stop, Broken> {
        while let Some(reply) = self.background.next() {
            self.reply(reply);
        }
        while !self.ended {
            if self.turn_requests >= TURN_REQUESTS || self.turn_bytes >= TURN_BYTES {
                return Ok(Stop::TurnOver);
            }
            if self.output.backlog() >= OUTPUT {
                return Ok(Stop::Clogged);
            }
            match self.next()? {
                Next::Served => self.turn_requests += 1,
                Next::Wants(wants) => {
                    self.wants = wants;
                    return Ok(Stop::Starved);
                }
                Next::Full => return Ok(Stop::Crowded),
            }
        }
        Ok(Stop::Starved)
    }

    /// Waits until there is something to do; true if it is something to receive.
    async fn wait(&self, reads: bool, writes: bool) -> io::Result<bool> {
        let mut readable = pin!(self.stream.readable());
        let mut writable = pin!(self.stream.writable());
        poll_fn(|cx| {
            if reads && let Poll::Ready(result) = readable.as_mut().poll(cx) {
                return Poll::Ready(result.map(|()| true));
            }
            if writes && let Poll::Ready(result) = writable.as_mut().poll(cx) {
                return Poll::Ready(result.map(|()| false));
            }
            if self.background.poll_ready(cx) { Poll::Ready(Ok(false)) } else { Poll::Pending }
        })
        .await
    }

    fn receive(&mut self) -> io::Result<()> {
        let into = match &mut self.payload {
            // The payload's own buffer is next in the stream only when the window is empty, and it is.
            Some((_, Payload::Kept(buf, come))) => buf.get_mut(*come..).unwrap_or_default(),
            _ => self.input.room(self.wants),
        };
        match self.stream.try_recv(into) {
            Ok(0) => self.ended = true,
            Ok(n) => match &mut self.payload {
                Some((_, Payload::Kept(_, come))) => {
                    *come += n;
                    self.turn_bytes += n;
                }
                _ => self.input.received(n),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Works on the front of the input.
    fn next(&mut self) -> Result<Next, Broken> {
        if let Some((request, payload)) = self.payload.take() {
            return Ok(self.go_on(request, payload));
        }
        let Some(request) = Request::parse(self.input.window(), self.headers)? else {
            return Ok(Next::Wants(self.headers.request_len()));
        };
        tracing::debug!(export = self.session.name, ?request);
        if request.command == Command::DISC {
            self.ended = true;
            return Ok(Next::Served);
        }
        if self.session.rules.filters(&request) {
            return self.filtered_status(request);
        }
        if let Err(code) = self.session.rules.judge(&request) {
            return self.refuse(request, code);
        }
        match request.command {
            Command::READ => Ok(self.read(&request)),
            Command::WRITE => Ok(self.write(&request)),
            Command::BLOCK_STATUS => {
                let contexts = self.contexts(&self.session.contexts);
                Ok(self.status(&request, self.headers.request_len(), contexts))
            }
            _ => Ok(self.other(&request)),
        }
    }

    /// A block status request whose payload names the contexts it is about.
    fn filtered_status(&mut self, request: Request) -> Result<Next, Broken> {
        let header = self.headers.request_len();
        // Longer than one that names every context: not kept, but skipped.
        let longest = 8 + 4 * self.session.contexts.len() as u64;
        if request.length > longest {
            return self.refuse(request, ErrorCode::EINVAL);
        }
        let whole = header + request.length as usize; // at most `longest`
        let Some(payload) = self.input.window().get(header..whole) else { return Ok(Next::Wants(whole)) };
        let Some((query, contexts)) = request.filtered(payload, &self.session.contexts) else {
            return self.refuse(request, ErrorCode::EINVAL);
        };
        match self.session.rules.judge(&query) {
            Ok(()) => Ok(self.status(&query, whole, self.contexts(&contexts))),
            Err(code) => self.refuse(request, code),
        }
    }

    fn refuse(&mut self, request: Request, code: ErrorCode) -> Result<Next, Broken> {
        let payload = request.payload(self.headers);
        let most = if self.headers.extended() { limits::PAYLOAD } else { limits::PAYLOAD_SKIP };
        if payload > u64::from(most) {
            return Err(Broken::Payload(payload));
        }
        self.input.take(self.headers.request_len());
        Ok(self.go_on(request, Payload::Refused(payload as usize, code)))
    }

    fn reply(&mut self, reply: Reply) {
        match reply {
            Reply::Bytes(bytes) => self.output.put(&bytes),
            Reply::Data(data) => self.output.push(data),
            Reply::Chunks(chunks) => chunks.into_iter().for_each(|chunk| self.output.push(chunk)),
        }
    }

    fn fail(&mut self, request: &Request, error: &BlockError) {
        let reply = Reply::failed(request, self.headers, error);
        self.reply(reply);
    }

    fn acknowledge(&mut self, request: &Request) {
        self.output.put(&ReplyTo::new(request, self.headers).success());
    }

    /// Reads to right behind the reply's header.
    fn read(&mut self, request: &Request) -> Next {
        let reply = ReplyTo::new(request, self.headers);
        let length = request.length as usize; // the rules have bounded it
        if length == 0 {
            self.input.take(self.headers.request_len());
            self.output.put(&reply.nothing_read());
            return Next::Served;
        }
        if length > INLINE {
            return self.read_later(request, 0);
        }
        let header = self.headers.data_len();
        let sparse = sparse::allowed(request, self.headers);
        let room = if sparse { sparse::ROOM } else { 0 };
        let space = self.output.space(header + length + room);
        let got = match self.backend.try_read(request.offset, &mut space[header..header + length]) {
            Ok(got) => got,
            Err(error) => {
                self.input.take(self.headers.request_len());
                self.fail(request, &error);
                return Next::Served;
            }
        };
        if got < length {
            return self.read_later(request, got);
        }
        let kept = if sparse {
            sparse::arrange(request, self.headers, space, length)
        } else {
            space[..header].copy_from_slice(&reply.data(request.offset, length as u32, true));
            header + length
        };
        self.output.keep(kept);
        self.input.take(self.headers.request_len());
        self.turn_bytes += length;
        Next::Served
    }

    /// Passes a read on to the background, of which `got` bytes lie in the output's unused space.
    fn read_later(&mut self, request: &Request, got: usize) -> Next {
        let Some(task) = self.begin(request) else { return Next::Full };
        let header = self.headers.data_len();
        let done = if got == 0 { &[][..] } else { &self.output.space(header + got)[header..] };
        let buffer = waiting::ReadBuffer::new(request.length as usize, done);
        rt::spawn(waiting::read(task, self.backend.clone(), buffer)).detach();
        self.input.take(self.headers.request_len());
        Next::Served
    }

    /// Writes from the input block, or begins to receive a payload that does not fit there.
    fn write(&mut self, request: &Request) -> Next {
        let header = self.headers.request_len();
        let length = request.length as usize; // the rules have bounded it
        let whole = header + length;
        if whole > BLOCK {
            return self.begin_payload(request);
        }
        let Some(data) = self.input.window().get(header..whole) else { return Next::Wants(whole) };
        let got = match inline_write(&self.backend, self.through, request, data) {
            Ok(got) => got,
            Err(error) => {
                self.input.take(whole);
                self.fail(request, &error);
                return Next::Served;
            }
        };
        if got == length && !self.flushes(request) {
            self.acknowledge(request);
            self.turn_bytes += length;
        } else {
            let Some(task) = self.begin(request) else { return Next::Full };
            let rest = BufMut::from_slice(data.get(got..).unwrap_or_default()).freeze();
            rt::spawn(waiting::write(task, self.backend.clone(), rest, self.through)).detach();
        }
        self.input.take(whole);
        Next::Served
    }

    fn flushes(&self, request: &Request) -> bool {
        self.through || request.flags.contains(CommandFlags::FUA)
    }

    /// A long write: its payload is received to where it will be written from.
    fn begin_payload(&mut self, request: &Request) -> Next {
        // Room is made for it before its payload is taken from the socket.
        if !self.background.has_room(waiting::cost(request, self.headers)) {
            return Next::Full;
        }
        self.input.take(self.headers.request_len());
        let mut buf = BufMut::with_len(request.length as usize);
        let window = self.input.window();
        let come = window.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..come), window.get(..come)) {
            to.copy_from_slice(from);
        }
        self.input.take(come);
        self.go_on(*request, Payload::Kept(buf, come))
    }

    /// Goes on with a payload of which more may have come.
    fn go_on(&mut self, request: Request, payload: Payload) -> Next {
        match payload {
            Payload::Kept(buf, come) if come < buf.len() => {
                self.payload = Some((request, Payload::Kept(buf, come)));
                Next::Wants(0)
            }
            Payload::Kept(buf, _) => self.write_kept(&request, buf),
            Payload::Refused(left, code) => {
                let skipped = left.min(self.input.window().len());
                self.input.take(skipped);
                self.turn_bytes += skipped;
                if skipped < left {
                    self.payload = Some((request, Payload::Refused(left - skipped, code)));
                    return Next::Wants(1);
                }
                let words = refusal(&request, code);
                self.reply(Reply::error(&request, self.headers, code, words));
                Next::Served
            }
        }
    }

    fn write_kept(&mut self, request: &Request, buf: BufMut) -> Next {
        let got = match inline_write(&self.backend, self.through, request, &buf) {
            Ok(got) => got,
            Err(error) => {
                self.fail(request, &error);
                return Next::Served;
            }
        };
        if got == buf.len() && !self.flushes(request) {
            self.acknowledge(request);
            return Next::Served;
        }
        let Some(task) = self.begin(request) else {
            let come = buf.len();
            self.payload = Some((*request, Payload::Kept(buf, come)));
            return Next::Full;
        };
        let rest = buf.freeze().slice(got..);
        rt::spawn(waiting::write(task, self.backend.clone(), rest, self.through)).detach();
        Next::Served
    }

    /// What these contexts are about.
    fn contexts(&self, ids: &[u32]) -> Vec<Context> {
        ids.iter().map(|&id| Context { id, about: self.session.export.about(id) }).collect()
    }

    /// Block status is served in the background. `whole`: bytes of the request.
    fn status(&mut self, request: &Request, whole: usize, contexts: Vec<Context>) -> Next {
        let Some(task) = self.begin(request) else { return Next::Full };
        let block = u64::from(self.session.rules.minimum_block.max(1));
        rt::spawn(waiting::block_status(task, self.backend.clone(), contexts, block)).detach();
        self.input.take(whole);
        Next::Served
    }

    /// Everything else that is neither a read nor a write is served in the background too.
    fn other(&mut self, request: &Request) -> Next {
        let Some(task) = self.begin(request) else { return Next::Full };
        rt::spawn(waiting::other(task, self.backend.clone(), self.through)).detach();
        self.input.take(self.headers.request_len());
        Next::Served
    }

    /// Admission to the background, if there is room.
    fn begin(&self, request: &Request) -> Option<Task> {
        self.background.begin(request, self.headers, waiting::cost(request, self.headers))
    }
}

/// Writes inline, unless the write is to be durable: then it waits as a whole.
fn inline_write(backend: &Backend, through: bool, request: &Request, data: &[u8]) -> block::Result<usize> {
    if through || data.len() > INLINE || request.flags.contains(CommandFlags::FUA) {
        return Ok(0);
    }
    backend.try_write(request.offset, data, block::Request::GUEST)
}

/// The message of a request that the rules refused.
fn refusal(request: &Request, code: ErrorCode) -> &'static str {
    match (code, request.command) {
        (ErrorCode::EPERM, _) => "the export is read-only",
        (ErrorCode::ENOSPC, _) => "the request ends beyond the end of the export",
        (ErrorCode::EOVERFLOW, Command::READ) => "the request is longer than 32 MiB",
        (ErrorCode::EOVERFLOW, _) => "the request is longer than 4 GiB",
        (_, Command::BLOCK_STATUS) => {
            "no such metadata context was selected, or the range is outside the export"
        }
        _ => "the range, the flags or the command are not valid for this export",
    }
}
