//! The sessions of a file: few of them, each with a queue of reads.
//!
//! ```text
//! read ─▶ goes on where a session's last read ends ─▶ its queue         (one stream carries a run of reads)
//!      └▶ anywhere else ─▶ the session that rests longest, a new one, or that with the shortest queue
//! ```
//!
//! Laws:
//! - Each session is a task of its own: a read that is dropped leaves no command half said.
//! - A read whose session breaks goes on on another one, until nothing has come for the time-out, with pauses that double; a file
//!   that has changed by then is not taken for the old one.
//! - A server that refuses a further session keeps those that it has: no others are asked for.
//!
//! Bounds: [`MOST_SESSIONS`]; sessions that nobody uses end after [`IDLE`].

use super::failure::Failure;
use super::location::Location;
use super::session::{Facts, SKIP, STEP, Session};
use crate::ending::Ending;
use crate::readahead::Remote;
use block::{BlockError, Result, Secret};
use futures_channel::{mpsc, oneshot};
use futures_util::StreamExt;
use parking_lot::Mutex;
use rt::{BoxFuture, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tls::Trust;

/// Sessions that there are at most: servers allow few from one address.
const MOST_SESSIONS: usize = 4;
/// How long a session waits for something to do.
const IDLE: Duration = Duration::from_secs(30);
/// The pause before a read is made again; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A read that waits for its session.
struct Read {
    offset: u64,
    buf: BufMut,
    /// Bytes that have come already.
    filled: usize,
    answer: oneshot::Sender<Answer>,
}

/// The buffer of a read, how many bytes of it have come, and whether those were all.
type Answer = (BufMut, usize, Result<(), Failure>);

/// What all sessions know.
struct Shared {
    location: Location,
    password: Secret,
    trust: Option<Trust>,
    ending: Ending,
    /// A session in which a transfer was ended before its time has no other: servers that demand that data connections go on with
    /// the control connection's session of TLS forget it then.
    ends_with_transfer: AtomicBool,
    sessions: Mutex<Sessions>,
}

struct Sessions {
    all: Vec<Entry>,
    most: usize,
    clock: u64,
}

/// A session's task, as those see it that give it something to do.
struct Entry {
    number: u64,
    reads: mpsc::UnboundedSender<Read>,
    /// Reads that were given to it and are not done.
    waiting: Arc<AtomicUsize>,
    /// Where the last of them ends.
    next: u64,
    last_used: u64,
}

/// A file on a server, and the sessions that read it.
pub(super) struct Pool {
    shared: Arc<Shared>,
    facts: Facts,
}

impl Pool {
    /// Opens the first session, which tells what the file is.
    pub async fn open(location: Location, password: Secret, trust: Option<Trust>) -> Result<Self> {
        let sessions = Sessions { all: Vec::new(), most: MOST_SESSIONS, clock: 0 };
        let shared = Arc::new(Shared {
            location,
            password,
            trust,
            ending: Ending::default(),
            ends_with_transfer: AtomicBool::new(false),
            sessions: Mutex::new(sessions),
        });
        let (known, opened) = oneshot::channel();
        shared.sessions.lock().add(&shared, Purpose::First(known));
        let facts = match opened.await {
            Ok(facts) => facts.map_err(|failure| failure.told(&shared.location))?,
            Err(_) => return Err(Failure::GivenUp(None).told(&shared.location)),
        };
        Ok(Self { shared, facts })
    }

    /// What the server tells of the file.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.shared.location
    }

    /// Refuses what comes after the end.
    pub fn check(&self) -> Result<()> {
        self.shared.ending.check()
    }

    /// Ends all sessions; whoever waits is told why.
    pub fn end(&self, why: BlockError) {
        self.shared.ending.come(why);
        self.shared.sessions.lock().all.clear();
    }

    async fn read(&self, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
        let (shared, len) = (&self.shared, buf.len());
        let (mut filled, mut mark) = (0, 0);
        let mut patience = Patience::new(shared.location.timeout);
        loop {
            if let Err(why) = shared.ending.check() {
                return (buf, Err(why));
            }
            let (answer, answered) = oneshot::channel();
            shared.sessions.lock().give(shared, &self.facts, Read { offset, buf, filled, answer });
            let (back, came, result) = match shared.ending.unless(answered).await {
                Err(why) => return (BufMut::zeroed(len), Err(why)),
                // The session ended just then.
                Ok(Err(_)) => (BufMut::zeroed(len), 0, Err(Failure::GivenUp(None))),
                Ok(Ok(answer)) => answer,
            };
            let Err(failure) = result else { return (back, Ok(())) };
            if came.saturating_sub(mark) >= STEP {
                mark = came;
                patience = Patience::new(shared.location.timeout);
            }
            (buf, filled) = (back, came);
            match patience.pause().filter(|_| failure.is_passing()) {
                None => return (buf, Err(failure.told(&shared.location).at(offset))),
                // Others are there, or can be had at once.
                Some(_) if matches!(failure, Failure::GivenUp(_)) => {}
                Some(pause) => {
                    tracing::debug!(file = shared.location.url, offset, %failure, "a read is made again");
                    if let Err(why) = shared.ending.unless(rt::sleep(pause)).await {
                        return (buf, Err(why));
                    }
                }
            }
        }
    }
}

/// What is left of the time in which nothing may come.
struct Patience {
    until_ns: u64,
    pause: Duration,
}

impl Patience {
    fn new(timeout: Duration) -> Self {
        let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Self { until_ns: rt::now_ns().saturating_add(timeout), pause: FIRST_PAUSE }
    }

    /// How long is waited before the next attempt, if there is one.
    fn pause(&mut self) -> Option<Duration> {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        (rt::now_ns() < self.until_ns).then_some(pause)
    }
}

impl Remote for Pool {
    fn read_at(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(self.read(offset, buf))
    }
}

impl Sessions {
    /// Gives a read to a session.
    fn give(&mut self, shared: &Arc<Shared>, facts: &Facts, read: Read) {
        let at =
            self.choose(read.offset).unwrap_or_else(|| self.add(shared, Purpose::Further(facts.clone())));
        self.clock += 1;
        let Some(entry) = self.all.get_mut(at) else { return };
        entry.next = read.offset + read.buf.len() as u64;
        entry.last_used = self.clock;
        entry.waiting.fetch_add(1, Ordering::Relaxed);
        // One that has just ended drops it: then it is made again.
        let _ = entry.reads.unbounded_send(read);
    }

    /// Where the session stands that is to make a read; none: a new one.
    fn choose(&self, offset: u64) -> Option<usize> {
        let all = || self.all.iter().enumerate();
        let goes_on = |entry: &Entry| (entry.next..=entry.next.saturating_add(SKIP)).contains(&offset);
        if let Some((at, _)) = all().find(|(_, entry)| goes_on(entry)) {
            return Some(at);
        }
        // The one that was used last may be in the middle of a run.
        let last = self.all.iter().map(|entry| entry.last_used).max();
        let rests =
            |entry: &Entry| entry.waiting.load(Ordering::Relaxed) == 0 && Some(entry.last_used) != last;
        let resting = all().filter(|(_, entry)| rests(entry)).min_by_key(|(_, entry)| entry.last_used);
        if resting.is_some() || self.all.len() < self.most {
            return resting.map(|(at, _)| at);
        }
        let queue = |entry: &Entry| (entry.waiting.load(Ordering::Relaxed), entry.last_used);
        all().min_by_key(|(_, entry)| queue(entry)).map(|(at, _)| at)
    }

    /// Begins a session; where it stands.
    fn add(&mut self, shared: &Arc<Shared>, purpose: Purpose) -> usize {
        self.clock += 1;
        let (number, waiting) = (self.clock, Arc::<AtomicUsize>::default());
        let (reads, to_make) = mpsc::unbounded();
        // Nothing goes on from before the first byte.
        let entry = Entry { number, reads, waiting: waiting.clone(), next: u64::MAX, last_used: number };
        self.all.push(entry);
        rt::spawn_on(rt::Target::LeastLoaded, run(shared.clone(), number, purpose, to_make, waiting))
            .detach();
        self.all.len() - 1
    }
}

/// What a session is begun for.
enum Purpose {
    /// To know the file.
    First(oneshot::Sender<Result<Facts, Failure>>),
    /// To read the file that is known.
    Further(Facts),
}

/// A session from its beginning to its end.
async fn run(
    shared: Arc<Shared>,
    number: u64,
    purpose: Purpose,
    mut reads: mpsc::UnboundedReceiver<Read>,
    waiting: Arc<AtomicUsize>,
) {
    let opened = begin(&shared, purpose).await;
    let is_refused = matches!(opened, Err(Failure::Refused { .. } | Failure::NotLetIn(_)));
    let result = match opened {
        Ok(session) => serve(&shared, session, &mut reads, &waiting).await,
        Err(failure) => Err(failure),
    };
    let mut sessions = shared.sessions.lock();
    sessions.all.retain(|entry| entry.number != number);
    // Those that are there will do it.
    let is_too_many = is_refused && !sessions.all.is_empty();
    if is_too_many {
        sessions.most = sessions.all.len();
    }
    drop(sessions);
    reads.close();
    while let Ok(Read { buf, filled, answer, .. }) = reads.try_recv() {
        let failure = match &result {
            Err(failure) if !is_too_many => failure.clone(),
            _ => Failure::GivenUp(None),
        };
        // Whoever waits may have left.
        let _ = answer.send((buf, filled, Err(failure)));
    }
}

/// Opens a session, and tells what the file is, or sees to it that it is the same.
async fn begin(shared: &Shared, purpose: Purpose) -> Result<Session, Failure> {
    let open = Session::open(&shared.location, &shared.password, shared.trust.as_ref());
    let opened = shared.ending.unless(open).await.unwrap_or(Err(Failure::GivenUp(None)));
    match (purpose, opened) {
        (Purpose::First(known), opened) => {
            let facts = opened.as_ref().map(|session| session.facts().clone());
            // Whoever opens the file may have left.
            let _ = known.send(facts.map_err(Failure::clone));
            opened
        }
        (Purpose::Further(facts), Ok(session)) if !facts.agree(session.facts()) => {
            session.close().await;
            Err(Failure::Changed)
        }
        (Purpose::Further(_), opened) => opened,
    }
}

/// Makes a read; in another session, where this one has had its transfer and can have no other.
async fn make(
    shared: &Shared,
    session: &mut Session,
    offset: u64,
    buf: &mut BufMut,
    filled: &mut usize,
) -> Result<(), Failure> {
    let (location, trust) = (&shared.location, shared.trust.as_ref());
    let is_fresh = session.is_fresh();
    let ends = shared.ends_with_transfer.load(Ordering::Relaxed);
    if is_fresh || !ends || session.comes_to(offset + *filled as u64) {
        match session.read_at(location, trust, offset, buf, filled).await {
            Err(failure) if !is_fresh && failure.is_of_old_sessions() => {
                shared.ends_with_transfer.fetch_or(failure.demands_session(), Ordering::Relaxed);
            }
            result => return result,
        }
    }
    let another = Session::open(location, &shared.password, trust).await?;
    if !session.facts().agree(another.facts()) {
        return Err(Failure::Changed);
    }
    std::mem::replace(session, another).leave().await;
    session.read_at(location, trust, offset, buf, filled).await
}

/// Makes reads until nobody wants any more, or the session is of no use.
async fn serve(
    shared: &Shared,
    mut session: Session,
    reads: &mut mpsc::UnboundedReceiver<Read>,
    waiting: &AtomicUsize,
) -> Result<(), Failure> {
    while session.is_usable() {
        let next = rt::timeout(IDLE, reads.next()).await;
        let Ok(Some(Read { offset, mut buf, mut filled, answer })) = next else { break };
        if !answer.is_canceled() {
            let made = shared.ending.unless(make(shared, &mut session, offset, &mut buf, &mut filled));
            let result = made.await.unwrap_or(Err(Failure::GivenUp(None)));
            let failure = result.as_ref().err().cloned();
            // Whoever waits may have left.
            let _ = answer.send((buf, filled, result));
            if let Some(failure) = failure {
                waiting.fetch_sub(1, Ordering::Relaxed);
                // Others may be luckier than this one.
                return Err(match failure.is_passing() {
                    true => Failure::GivenUp(Some(failure.into())),
                    false => failure,
                });
            }
        }
        waiting.fetch_sub(1, Ordering::Relaxed);
    }
    session.close().await;
    Ok(())
}
