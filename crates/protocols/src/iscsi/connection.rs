//! One session with a target, over one connection: many commands at once, each found again by its tag.
//!
//! ```text
//! callers ─▶ submit ─▶ queue ─▶ pump ─send─▶ socket ◀─ data that the target asks for
//!                └───────────send─▶ socket            (at once, from another worker than the pump's)
//! callers ◀─ reply ◀─ Tasks ◀─ pump ◀─recv─ socket
//! ```
//!
//! Laws: commands are sent in the order of their numbers, and never more than the target has room for; each byte of a
//! command's data is sent once, in order; a command that was submitted is carried out whether or not its caller waits; when
//! the connection is lost, every command in flight and every later one ends with an error that says so.
//!
//! Bounds: commands in flight as [`Tasks`] states; a target that is silent for longer than [`Patience`] allows, though it is
//! asked whether it is there, is given up, and the connection with it; so is one that leaves a command unanswered for too long.

mod ending;

use super::location::Location;
use super::login::login;
use super::outgoing::{Burst, Outgoing};
use super::receive::{Broken, Receiver};
use super::tasks::{Outcome, Reply, Tasks, Term};
use crate::places::Place;
use crate::pump::{self, Pumped, Signals, Turn};
use crate::way::{Connection as _, nanos};
use block::{BlockError, ErrorKind, Result};
use event_listener::{Event, IntoNotification};
use futures_channel::oneshot;
use iscsi::{Agreed, Answer, AsyncEvent, Lun, NO_TAG, Numbers, Profile, Request, Transfer, serial};
use parking_lot::Mutex;
use rt::net::Stream;
use rt::{Buf, BufMut, Target};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// How long is waited for a target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// To connect, and to log in.
    pub connect: Duration,
    /// Without a byte from the target. After half of it the target is asked whether it is there.
    pub silence: Duration,
    /// For the answer to a command.
    pub answer: Duration,
    /// For the end of the session, when it is closed.
    pub logout: Duration,
}

impl Patience {
    /// The usual, with the time for an answer that was asked for.
    pub fn with_answer(answer: Duration) -> Self {
        let silence = Duration::from_secs(30).min(answer.max(Duration::from_secs(1)));
        Self { connect: silence, silence, answer, logout: Duration::from_secs(2) }
    }
}

/// The tag of what is no command: a question whether the target is there, and the logout. Commands have others.
const OWN_TAG: u32 = NO_TAG - 1;
/// Answers to questions of the target's that may wait to be sent.
const MOST_PONGS: usize = 64;

/// What a command moves: data for the target, and where its data go.
#[derive(Default)]
pub(super) struct Payload {
    pub data: Option<Buf>,
    pub buf: Option<BufMut>,
}

/// A command that is about to be sent.
struct Waiting {
    place: Place,
    term: Term,
    lun: Lun,
    block: [u8; 16],
    payload: Payload,
}

/// What became of it.
enum Submitted {
    Sent(oneshot::Receiver<Outcome>),
    /// The target has no room for it yet.
    NoRoom(Waiting),
    Refused(Option<BufMut>, BlockError),
}

/// A session.
pub(super) struct Connection {
    stream: Stream,
    /// The unit, for messages.
    name: String,
    lun: Lun,
    agreed: Agreed,
    patience: Patience,
    pub(super) tasks: Tasks,
    sending: Mutex<Sending>,
    /// The unit is known, and commands of users are sent.
    in_use: AtomicBool,
    /// Number of the answer that comes next.
    status: AtomicU32,
    /// The last command that the target has room for.
    room: AtomicU32,
    /// There is more room, or the connection has ended.
    roomier: Event,
    /// The target was asked whether it is there.
    asked: AtomicBool,
    /// The target has asked for the end of the session: the time that it gives, and whether that is measured.
    unwanted: OnceLock<Duration>,
    timed: AtomicBool,
    /// Nothing is sent or received any more.
    over: AtomicBool,
    /// It has just become so.
    ended: Event,
    receiving: Mutex<Option<Term>>,
    signals: Signals,
}

struct Sending {
    outgoing: Outgoing,
    /// Number of the next command.
    command: u32,
}

impl Connection {
    /// Connects and logs in.
    pub async fn open(location: &Location, profile: &Profile, patience: Patience) -> Result<Arc<Self>> {
        let (stream, agreed, numbers) = login(location, profile, patience.connect).await?;
        let sending = Sending { outgoing: Outgoing::new(&agreed), command: numbers.expected_command };
        let connection = Arc::new(Self {
            stream,
            name: location.name.clone(),
            lun: location.lun,
            agreed,
            patience,
            tasks: Tasks::default(),
            sending: Mutex::new(sending),
            in_use: AtomicBool::new(false),
            status: AtomicU32::new(numbers.stat.wrapping_add(1)),
            room: AtomicU32::new(numbers.most_command),
            roomier: Event::new(),
            asked: AtomicBool::new(false),
            unwanted: OnceLock::new(),
            timed: AtomicBool::new(false),
            over: AtomicBool::new(false),
            ended: Event::new(),
            receiving: Mutex::new(None),
            signals: Signals::default(),
        });
        connection.tasks.alive();
        let receiver = Receiver::new(agreed.header_digest, agreed.data_digest);
        pump::start(Target::LeastLoaded, connection.clone(), receiver);
        rt::spawn_on(Target::Control, watch(Arc::downgrade(&connection), patience.silence / 8)).detach();
        Ok(connection)
    }

    /// The unit, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of the unit.
    pub fn lun(&self) -> Lun {
        self.lun
    }

    /// How long is waited.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Makes a command and waits for its reply, whatever it says.
    pub async fn call(&self, lun: Lun, block: [u8; 16], payload: Payload, longest: Duration) -> Outcome {
        let place = self.tasks.place().await;
        // Waiting for others of our own is no fault of the target.
        let term = Term { began: rt::now_ns(), longest: nanos(longest) };
        let mut waiting = Waiting { place, term, lun, block, payload };
        let reply = loop {
            waiting = match self.submit(waiting) {
                Submitted::Sent(reply) => break reply,
                Submitted::Refused(buf, error) => return (buf, Err(error)),
                Submitted::NoRoom(waiting) => waiting,
            };
            let roomier = self.roomier.listen();
            waiting = match self.submit(waiting) {
                Submitted::Sent(reply) => break reply,
                Submitted::Refused(buf, error) => return (buf, Err(error)),
                Submitted::NoRoom(waiting) => waiting,
            };
            let left = Duration::from_nanos(term.left(rt::now_ns()));
            if rt::timeout(left, roomier).await.is_err() {
                self.give_up(term.longest);
            }
        };
        match reply.await {
            Ok(outcome) => outcome,
            Err(_) => (None, Err(self.dead().unwrap_or_else(|| self.lost(&Broken::Closed)))),
        }
    }

    /// Sends a command, where the target has room for it.
    fn submit(&self, waiting: Waiting) -> Submitted {
        let mut sending = self.sending.lock();
        let has_room = serial::up_to(sending.command, self.room.load(Ordering::Acquire));
        if !has_room && self.dead().is_none() {
            return Submitted::NoRoom(waiting);
        }
        let Waiting { place, term, lun, block, payload: Payload { data, buf } } = waiting;
        let (len, transfer) = match (&data, &buf) {
            (Some(data), _) => (data.len(), Transfer::Write),
            (None, Some(buf)) => (buf.len(), Transfer::Read),
            (None, None) => (0, Transfer::Nothing),
        };
        let Ok(expected) = u32::try_from(len) else {
            return Submitted::Refused(
                buf,
                BlockError::new(ErrorKind::Limit, "a command moves less than 4 GiB"),
            );
        };
        // Registered before it is sent, and sent in the order in which numbers are given.
        let (tag, reply) = match self.tasks.begin(place, term, data, buf) {
            Ok(begun) => begun,
            Err((buf, error)) => return Submitted::Refused(buf, error),
        };
        self.put_command(&mut sending, (lun, tag), block, transfer, expected);
        let sent = if self.signals.is_near() {
            self.signals.queue(true);
            Ok(())
        } else {
            self.send_some(&mut sending)
        };
        drop(sending);
        if let Err(error) = sent {
            self.lose(&Broken::Io(error));
        }
        Submitted::Sent(reply)
    }

    /// Queues a command, with as much of its data as may come unasked.
    fn put_command(
        &self,
        sending: &mut Sending,
        (lun, tag): (Lun, u32),
        block: [u8; 16],
        transfer: Transfer,
        expected: u32,
    ) {
        let Agreed { immediate_data, wait_for_ready, first_burst, segment, .. } = self.agreed;
        let writes = transfer == Transfer::Write;
        let unasked = if writes { expected.min(first_burst) } else { 0 };
        let immediate = if immediate_data { unasked.min(segment) } else { 0 };
        let unasked = if wait_for_ready { immediate } else { unasked };
        let data = self.tasks.next_data(tag, 0, immediate as usize);
        let request = Request::Command {
            lun,
            tag,
            block,
            transfer,
            expected,
            complete: unasked == immediate,
            command: sending.command,
            status: self.status.load(Ordering::Acquire),
        };
        sending.command = sending.command.wrapping_add(1);
        sending.outgoing.push(&request, data);
        if unasked > immediate {
            self.put_data(sending, tag, (lun, NO_TAG), immediate, unasked - immediate);
        }
    }

    /// Queues data of a command from `offset` on; whether they are what comes next.
    fn put_data(
        &self,
        sending: &mut Sending,
        tag: u32,
        (lun, target_tag): (Lun, u32),
        offset: u32,
        len: u32,
    ) -> bool {
        let Some(data) = self.tasks.next_data(tag, offset as usize, len as usize) else { return false };
        sending.outgoing.push_burst(Burst { lun, tag, target_tag, offset, data });
        true
    }

    /// Sends what there is room for.
    fn send_some(&self, sending: &mut Sending) -> io::Result<()> {
        sending.outgoing.send(&self.stream, self.status.load(Ordering::Acquire))?;
        self.signals.queue(!sending.outgoing.is_empty());
        Ok(())
    }

    /// Takes note of the numbers of an answer.
    pub(super) fn count(&self, answer: &Answer, numbers: Numbers) -> Result<(), Broken> {
        let expected = self.status.load(Ordering::Acquire);
        if answer.is_counted() {
            if numbers.stat != expected {
                return Err(Broken::Number { got: numbers.stat, expected });
            }
            self.status.store(expected.wrapping_add(1), Ordering::Release);
        }
        let Numbers { expected_command, most_command, .. } = numbers;
        let room = self.room.load(Ordering::Acquire);
        // Numbers that contradict each other are old ones (section 4.2.2.1).
        let sound = serial::up_to(expected_command.wrapping_sub(1), most_command);
        if sound && most_command != room && serial::up_to(room, most_command) {
            self.room.store(most_command, Ordering::Release);
            self.roomier.notify(usize::MAX.additional());
        }
        Ok(())
    }

    /// Takes an answer that is no command's end.
    pub(super) fn take_in(&self, answer: Answer) -> Result<(), Broken> {
        let mut sending = self.sending.lock();
        match answer {
            Answer::Ready { lun, tag, target_tag, offset, len, .. } => {
                if sending.outgoing.open_requests(tag) >= self.agreed.outstanding as usize {
                    return Err(Broken::Readies(self.agreed.outstanding));
                }
                let fits = len <= self.agreed.burst;
                if !fits || !self.put_data(&mut sending, tag, (lun, target_tag), offset, len) {
                    return Err(Broken::Ready { offset, len });
                }
            }
            Answer::Nop { tag: OWN_TAG, .. } => self.asked.store(false, Ordering::Release),
            Answer::Nop { target_tag: NO_TAG, .. } => {}
            Answer::Nop { lun, target_tag, .. } => {
                if sending.outgoing.pongs() >= MOST_PONGS {
                    return Err(Broken::Pings);
                }
                let (command, status) = (sending.command, self.status.load(Ordering::Acquire));
                sending.outgoing.push_pong(&Request::Nop { lun, tag: NO_TAG, target_tag, command, status });
            }
            Answer::Async(AsyncEvent::LogoutWanted(seconds) | AsyncEvent::NegotiationWanted(seconds)) => {
                self.retire(seconds);
            }
            Answer::Async(AsyncEvent::Dropped(_)) => return Err(Broken::Dropped),
            Answer::Async(AsyncEvent::Sense | AsyncEvent::Other(_)) => {
                tracing::info!(unit = self.name, "the iSCSI target reports an event");
            }
            Answer::Reject { reason } => return Err(Broken::Rejected(reason)),
            Answer::Logout { .. } => return Err(Broken::Closed),
            Answer::Text { .. } => return Err(Broken::Text),
            Answer::Login { .. } | Answer::Response { .. } | Answer::DataIn { .. } => {
                return Err(Broken::Login);
            }
        }
        Ok(self.send_some(&mut sending)?)
    }

    fn put_logout(&self, sending: &mut Sending) {
        let (command, status) = (sending.command, self.status.load(Ordering::Acquire));
        sending.outgoing.push(&Request::Logout { tag: OWN_TAG, command, status }, None);
    }

    /// Asks whether the target is there, unless it was asked already.
    fn ask(&self) {
        if self.asked.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut sending = self.sending.lock();
        let (command, status) = (sending.command, self.status.load(Ordering::Acquire));
        let lun = Lun::default();
        let question = Request::Nop { lun, tag: OWN_TAG, target_tag: NO_TAG, command, status };
        sending.outgoing.push(&question, None);
        let sent = self.send_some(&mut sending);
        drop(sending);
        if let Err(error) = sent {
            self.lose(&Broken::Io(error));
        }
    }

    fn lost(&self, cause: &Broken) -> BlockError {
        let cause = match cause {
            Broken::Io(error) => BlockError::from_io(error).to_string(),
            other => other.to_string(),
        };
        BlockError::new(ErrorKind::Io, format!("the connection to '{}' is lost: {cause}", self.name))
    }

    /// From now on commands of users are sent: a unit that was started anew has lost what they wrote.
    pub fn begin_use(&self) {
        self.in_use.store(true, Ordering::Release);
    }

    pub fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Acquire)
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
        *self.receiving.lock() = receiver.term();
        receiver.rest();
    }

    fn receive(self: &Arc<Self>, receiver: &mut Receiver) -> Result<(), Broken> {
        receiver.receive(&self.stream, self)?;
        self.step_down();
        Ok(())
    }

    fn send(&self) -> io::Result<()> {
        self.send_some(&mut self.sending.lock())
    }

    fn broke(&self, cause: &Broken) {
        if !self.signals.is_closing() && !self.signals.is_leaving() {
            tracing::warn!(unit = self.name, error = %cause, "iSCSI connection lost");
        }
        self.lose(cause);
    }

    fn ended(&self, mut receiver: Receiver) {
        receiver.abandon(&self.dead().unwrap_or_else(|| self.lost(&Broken::Closed)));
        // It may be gone already.
        let _ = if self.signals.is_leaving() { self.stream.shutdown() } else { self.stream.abort() };
        self.over.store(true, Ordering::Release);
        self.ended.notify(usize::MAX.additional());
    }
}

/// Looks periodically for a target that is silent, and for a command that has waited too long.
async fn watch(connection: Weak<Connection>, every: Duration) {
    loop {
        rt::sleep(every).await;
        let Some(connection) = connection.upgrade() else { return };
        if connection.signals.is_closing() {
            return;
        }
        let (silent, silence) = (connection.tasks.silent(), nanos(connection.patience.silence));
        let receiving = *connection.receiving.lock();
        let asked = connection.asked.load(Ordering::Acquire) || !connection.tasks.is_empty();
        match connection.tasks.overdue(receiving) {
            Some(waited) => connection.give_up(waited),
            None if silent >= silence && asked => connection.give_up(silent),
            None if silent >= silence / 2 => connection.ask(),
            None => {}
        }
    }
}

/// Whether all that a command asked for has come.
pub(super) fn is_whole(reply: &Reply, wanted: usize) -> bool {
    reply.received == wanted && reply.residual == iscsi::Residual::None
}
