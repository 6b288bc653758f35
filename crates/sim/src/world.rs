//! One boot of the simulated machine: its ready tasks, its clock, its operations under way.
//!
//! Everything lies under one lock that is never held while foreign code runs; wakers are called after it was released.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use rt::{BufMut, Runnable};

use crate::disk::Disk;
use crate::effect::{Effect, SECTOR};
use crate::fault::{EIO, ENOSPC, Fault, OpKind, Plant};
use crate::rng::Rng;

/// How the simulated machine is made.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Source of every choice.
    pub seed: u64,
    /// Data workers; their tasks interleave like those of threads, at awaits.
    pub workers: usize,
    /// Mean time of an operation in ns.
    pub latency_ns: u64,
    /// Whether inline calls are answered at all.
    pub inline: bool,
    /// Whether a write can be durable by itself ([`rt::RawFile::write_durably`]).
    pub durable_writes: bool,
    /// What files opened with O_DIRECT demand of offsets, lengths and memory, in bytes.
    pub direct_alignment: u32,
    /// Most steps of a run, against programs that never end.
    pub max_steps: u64,
}

impl Config {
    /// The usual machine with this seed.
    pub fn seeded(seed: u64) -> Config {
        Config {
            seed,
            workers: 2,
            latency_ns: 50_000,
            inline: true,
            durable_writes: true,
            direct_alignment: 512,
            max_steps: 50_000_000,
        }
    }
}

/// Called under the lock whenever the disk has changed: the moment's number, and the disk.
pub type Watch = Box<dyn FnMut(u64, &Disk) + Send>;

/// What is due at a time.
pub(crate) enum Due {
    Wake(u64),
    Apply(u64),
    Finish(u64),
    Job(Option<usize>, Box<dyn FnOnce() + Send>),
}

/// What an operation on a file does when it is applied and when it ends.
pub(crate) enum Body {
    /// Where each part of the buffer ends that is still to be filled; it begins where the one before it came to.
    Read { off: u64, buf: BufMut, parts: VecDeque<usize>, got: usize },
    /// Its effects lie with the disk.
    Change,
    /// As a change; at its end the write is durable. If its sync `fails`, that costs what it covers as well.
    Durable { covers: BTreeSet<u64>, fails: bool },
    /// What it covers.
    Sync(BTreeSet<u64>),
    /// What it covers, of names.
    SyncNames(BTreeSet<u64>),
    /// Nothing but time.
    Pause,
}

pub(crate) type Outcome = (Body, io::Result<usize>);

struct Op {
    ino: u64,
    errno: Option<i32>,
    body: Option<Body>,
    done: bool,
    waker: Option<Waker>,
    abandoned: bool,
}

/// A line of the log.
#[derive(Clone, Copy)]
struct LogLine {
    moment: u64,
    now: u64,
    what: &'static str,
    numbers: [u64; 3],
}

struct Lock {
    ino: u64,
    owner: u64,
    start: u64,
    end: u64,
    exclusive: bool,
}

#[derive(Default)]
struct Timer {
    fired: bool,
    waker: Option<Waker>,
}

pub(crate) struct Inner {
    pub(crate) rng: Rng,
    pub(crate) config: Config,
    pub(crate) now: u64,
    pub(crate) disk: Disk,
    moment: u64,
    last_id: u64,
    ready: Vec<(Option<usize>, Runnable)>,
    /// A waker of every task there was, in the order they came: how they are found when the machine dies.
    tasks: Vec<Waker>,
    known: HashSet<usize>,
    due: BTreeMap<(u64, u64), Due>,
    ops: BTreeMap<u64, Op>,
    timers: BTreeMap<u64, Timer>,
    locks: Vec<Lock>,
    plants: Vec<Plant>,
    counts: BTreeMap<OpKind, u64>,
    watch: Option<Watch>,
    watch_syncs: Option<Watch>,
    /// Bytes that all files together may take.
    room: Option<u64>,
    /// An operation failed because there was no room.
    lacked_room: bool,
    hash: u64,
    log: VecDeque<LogLine>,
    dead: bool,
}

/// Lines of the log that are kept.
const LOG: usize = 400;

pub(crate) struct Shared(pub(crate) Mutex<Inner>);

/// What one step did.
pub(crate) enum Step {
    Task(Option<usize>, Runnable),
    Job(Option<usize>, Box<dyn FnOnce() + Send>),
    Event(Option<Waker>),
    Nothing,
}

impl Inner {
    pub(crate) fn new(config: Config, disk: Disk) -> Inner {
        Inner {
            rng: Rng::new(config.seed),
            config,
            now: 1_000_000_000,
            disk,
            moment: 0,
            last_id: 0,
            ready: Vec::new(),
            tasks: Vec::new(),
            known: HashSet::new(),
            due: BTreeMap::new(),
            ops: BTreeMap::new(),
            timers: BTreeMap::new(),
            locks: Vec::new(),
            plants: Vec::new(),
            counts: BTreeMap::new(),
            watch: None,
            watch_syncs: None,
            room: None,
            lacked_room: false,
            hash: 0xcbf2_9ce4_8422_2325,
            log: VecDeque::new(),
            dead: false,
        }
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn dead(&self) -> bool {
        self.dead
    }

    /// The next moment's number: later than all that happened before.
    pub(crate) fn stamp(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    pub(crate) fn moment(&self) -> u64 {
        self.moment
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn plant(&mut self, plant: Plant) {
        self.plants.push(plant);
    }

    pub(crate) fn unplant(&mut self) {
        self.plants.clear();
    }

    /// Gives the file system room for so many bytes, in pages; any number, if none.
    pub(crate) fn set_room(&mut self, room: Option<u64>) {
        self.room = room;
    }

    /// Whether the file system has no room for a change of a file.
    pub(crate) fn lacks_room(&mut self, ino: u64, effect: &Effect) -> bool {
        let Some(room) = self.room else { return false };
        let more = self.disk.cache(ino).map_or(0, |content| effect.stores(content));
        let lacks = more > 0 && self.disk.allocated().saturating_add(more) > room;
        self.lacked_room |= lacks;
        lacks
    }

    pub(crate) fn lacked_room(&self) -> bool {
        self.lacked_room
    }

    pub(crate) fn set_watch(&mut self, watch: Option<Watch>) {
        self.watch = watch;
    }

    pub(crate) fn set_watch_syncs(&mut self, watch: Option<Watch>) {
        self.watch_syncs = watch;
    }

    pub(crate) fn count(&self, kind: Option<OpKind>) -> u64 {
        match kind {
            Some(kind) => self.counts.get(&kind).copied().unwrap_or(0),
            None => self.counts.values().sum(),
        }
    }

    /// Records what happens: for the hash that shows whether two runs were the same, and for the log.
    pub(crate) fn note(&mut self, what: &'static str, numbers: [u64; 3]) {
        for word in [what.len() as u64, self.now, numbers[0], numbers[1], numbers[2]] {
            self.mix(word);
        }
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back(LogLine { moment: self.moment, now: self.now, what, numbers });
    }

    /// Adds this to the hash.
    pub(crate) fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
    }

    pub(crate) fn log(&self) -> Vec<String> {
        let line = |s: &LogLine| {
            let [ino, off, len] = s.numbers;
            let path = self.disk.path_of(ino);
            format!(
                "{:>7} {:>9} µs  {:<12} {} {off:#x}+{len:#x}",
                s.moment,
                s.now / 1000,
                s.what,
                path.display()
            )
        };
        self.log.iter().map(line).collect()
    }

    /// The disk has changed.
    pub(crate) fn touched(&mut self) {
        let moment = self.stamp();
        if let Some(mut watch) = self.watch.take() {
            watch(moment, &self.disk);
            self.watch = Some(watch);
        }
    }

    /// A sync takes effect next.
    fn before_sync(&mut self) {
        if let Some(mut watch) = self.watch_syncs.take() {
            watch(self.stamp(), &self.disk);
            self.watch_syncs = Some(watch);
        }
    }

    // ---- tasks ----

    pub(crate) fn schedule(&mut self, worker: Option<usize>, task: Runnable) {
        let waker = task.waker();
        if self.known.insert(waker.data().addr()) {
            self.tasks.push(waker);
        }
        self.ready.push((worker, task));
    }

    /// What happens next: a ready task, any of them, or what is due first.
    pub(crate) fn step(&mut self) -> Step {
        // A ready task may have to wait for its core, but not for longer than an operation takes.
        let soon = self.now.saturating_add(self.config.latency_ns);
        let is_soon = self.due.first_key_value().is_some_and(|((time, _), _)| *time <= soon);
        let event_first = is_soon && self.rng.chance(1, 8);
        if !self.ready.is_empty() && !event_first {
            let (worker, task) = self.ready.swap_remove(self.rng.index(self.ready.len()));
            return Step::Task(worker, task);
        }
        let Some(((time, _), due)) = self.due.pop_first() else { return Step::Nothing };
        self.now = self.now.max(time);
        Step::Event(match due {
            Due::Wake(timer) => self.timers.get_mut(&timer).and_then(|timer| {
                timer.fired = true;
                timer.waker.take()
            }),
            Due::Apply(op) => {
                self.apply(op);
                None
            }
            Due::Finish(op) => self.finish(op),
            Due::Job(worker, job) => return Step::Job(worker, job),
        })
    }

    /// Everything that could hold a task alive, taken out; the machine is dead from now on.
    pub(crate) fn die(&mut self) -> (Vec<Waker>, impl Sized + use<>) {
        self.dead = true;
        (self.watch, self.watch_syncs) = (None, None);
        let held =
            (std::mem::take(&mut self.due), std::mem::take(&mut self.ops), std::mem::take(&mut self.timers));
        (std::mem::take(&mut self.tasks), held)
    }

    pub(crate) fn take_ready(&mut self) -> Vec<(Option<usize>, Runnable)> {
        std::mem::take(&mut self.ready)
    }

    // ---- time ----

    fn at(&mut self, time: u64, due: Due) {
        let id = self.next_id();
        self.due.insert((time, id), due);
    }

    /// How long an operation takes. One in ten takes so long that many others begin and end meanwhile: whoever still
    /// relies on what it knew at the start is found out.
    pub(crate) fn some_time(&mut self) -> u64 {
        let slow = if self.rng.chance(1, 10) { 30 } else { 1 };
        1 + self.rng.below(self.config.latency_ns.saturating_mul(2 * slow))
    }

    pub(crate) fn start_timer(&mut self, deadline: u64) -> u64 {
        let id = self.next_id();
        self.timers.insert(id, Timer::default());
        self.at(deadline, Due::Wake(id));
        id
    }

    pub(crate) fn start_job(&mut self, worker: Option<usize>, job: Box<dyn FnOnce() + Send>) {
        let time = self.now + self.some_time();
        self.at(time, Due::Job(worker, job));
    }

    // ---- operations ----

    /// Counts an operation; the fault that hits it.
    pub(crate) fn meet(&mut self, kind: OpKind, ino: u64) -> Option<Fault> {
        *self.counts.entry(kind).or_default() += 1;
        let disk = &self.disk;
        let mut met = None;
        for plant in &mut self.plants {
            met = plant.meets(kind, || disk.path_of(ino)).or(met);
        }
        if met.is_some() {
            self.note("fault", [ino, kind as u64, 0]);
        }
        met
    }

    /// Starts an operation that will take some time.
    pub(crate) fn issue(
        &mut self,
        kind: OpKind,
        ino: u64,
        what: &'static str,
        mut body: Body,
        effect: Option<Effect>,
    ) -> u64 {
        let id = self.next_id();
        let (mut errno, mut end) = (None, self.now + self.some_time());
        let mut met = self.meet(kind, ino);
        if let (None, Body::Durable { fails, .. }) = (met, &mut body) {
            met = self.meet(OpKind::Sync, ino);
            // A lack of room below: all open files are told of it, each once, which is not in this model.
            *fails = matches!(met, Some(Fault::Errno(n)) if n != ENOSPC);
        }
        match met {
            Some(Fault::Errno(n)) => errno = Some(n),
            Some(Fault::Stall(ns)) => end = end.saturating_add(ns),
            None if effect.as_ref().is_some_and(|effect| self.lacks_room(ino, effect)) => {
                errno = Some(ENOSPC)
            }
            None => {}
        }
        self.note(what, [ino, id, errno.unwrap_or(0) as u64]);
        let body = match (body, errno) {
            (Body::Read { off, buf, .. }, Some(_)) => Body::Read { off, buf, parts: VecDeque::new(), got: 0 },
            (body, _) => body,
        };
        let effect = match errno {
            // What a failed operation did of its work is any front part that there is room for, or nothing; all of it, where it did
            // not lack room.
            Some(n) => {
                let left = self.room.map_or(u64::MAX, |room| room.saturating_sub(self.disk.allocated()));
                effect.and_then(|e| e.front(n != ENOSPC, |n| self.rng.below(n.min(left / SECTOR + 1))))
            }
            None => effect,
        };
        let effects = effect.map(|e| self.split(e)).unwrap_or_default();
        let parts = if let Body::Read { parts, .. } = &body { parts.len() } else { effects.len() };
        for effect in effects {
            self.disk.begin(ino, id, effect);
        }
        for _ in 0..parts {
            let time = self.now + self.rng.below(end - self.now);
            self.at(time, Due::Apply(id));
        }
        self.at(end, Due::Finish(id));
        self.ops.insert(id, Op { ino, errno, body: Some(body), done: false, waker: None, abandoned: false });
        if parts > 0 && kind != OpKind::Read {
            self.touched();
        }
        id
    }

    /// Now and then an operation reaches the page cache in two parts, with time between them.
    fn split(&mut self, effect: Effect) -> Vec<Effect> {
        let (first, count) = effect.boundaries(crate::content::PAGE);
        if count == 0 || !self.rng.chance(1, 4) {
            return vec![effect];
        }
        let at = first + self.rng.below(count) * crate::content::PAGE;
        effect.split_at(at)
    }

    /// Where the parts end in which a read looks at the page cache.
    pub(crate) fn read_parts(&mut self, off: u64, len: usize) -> VecDeque<usize> {
        let page = crate::content::PAGE;
        let first = (page - off % page) as usize;
        if first < len && self.rng.chance(1, 4) {
            let at = first + self.rng.index((len - first).div_ceil(page as usize)) * page as usize;
            return VecDeque::from([at, len]);
        }
        VecDeque::from([len])
    }

    /// Does an operation's change at once.
    pub(crate) fn change_now(&mut self, ino: u64, what: &'static str, effect: Effect) {
        let id = self.next_id();
        self.note(what, [ino, id, 0]);
        self.disk.begin(ino, id, effect);
        self.disk.apply_next(ino, id);
        self.disk.end(ino, id);
        self.touched();
    }

    fn apply(&mut self, id: u64) {
        let Some(op) = self.ops.get_mut(&id) else { return };
        let ino = op.ino;
        match &mut op.body {
            Some(Body::Read { off, buf, parts, got }) => {
                let Some(to) = parts.pop_front() else { return };
                // Like the kernel's, a read goes on where it stopped: it leaves no gap if the file has grown.
                if let (Some(cache), Some(part)) = (self.disk.cache(ino), buf.get_mut(*got..to)) {
                    *got += cache.read(*off + *got as u64, part);
                }
            }
            _ => {
                self.disk.apply_next(ino, id);
                self.touched();
            }
        }
    }

    fn finish(&mut self, id: u64) -> Option<Waker> {
        if matches!(self.ops.get(&id)?.body, Some(Body::Sync(_) | Body::SyncNames(_) | Body::Durable { .. }))
        {
            self.before_sync();
        }
        let op = self.ops.get_mut(&id)?;
        op.done = true;
        let (ino, errno, waker, abandoned) = (op.ino, op.errno, op.waker.take(), op.abandoned);
        match (&op.body, errno) {
            (Some(Body::Sync(covered)), None) => self.disk.synced(ino, covered),
            (Some(Body::Sync(covered)), Some(_)) => self.disk.sync_failed(ino, covered, &mut self.rng),
            (Some(Body::SyncNames(covered)), None) => self.disk.names_synced(covered),
            (Some(Body::Change), _) => self.disk.end(ino, id),
            (Some(Body::Durable { covers, fails }), errno) => {
                self.disk.end(ino, id);
                if errno.is_none() {
                    self.disk.synced(ino, &BTreeSet::from([id]));
                } else if *fails {
                    let covered = covers.iter().copied().chain([id]).collect();
                    self.disk.sync_failed(ino, &covered, &mut self.rng);
                }
            }
            _ => {}
        }
        let changes = !matches!(op.body, Some(Body::Read { .. } | Body::Pause));
        if abandoned {
            self.ops.remove(&id);
        }
        self.note("ends", [ino, id, errno.unwrap_or(0) as u64]);
        if changes {
            self.touched();
        }
        waker
    }

    // ---- locks ----

    /// Takes bytes for `owner`, in place of what it holds of them; `false` when another is in the way.
    pub(crate) fn lock(&mut self, ino: u64, owner: u64, start: u64, len: u64, exclusive: bool) -> bool {
        if !self.may_lock(ino, owner, start, len, exclusive) {
            return false;
        }
        self.unlock(ino, owner, start, len);
        self.locks.push(Lock { ino, owner, start, end: lock_end(start, len), exclusive });
        true
    }

    pub(crate) fn may_lock(&self, ino: u64, owner: u64, start: u64, len: u64, exclusive: bool) -> bool {
        let end = lock_end(start, len);
        let overlaps = |l: &Lock| l.ino == ino && l.start < end && start < l.end;
        !self.locks.iter().any(|l| overlaps(l) && l.owner != owner && (l.exclusive || exclusive))
    }

    pub(crate) fn unlock(&mut self, ino: u64, owner: u64, start: u64, len: u64) {
        let end = lock_end(start, len);
        let mut kept = Vec::new();
        for lock in std::mem::take(&mut self.locks) {
            if lock.ino != ino || lock.owner != owner || lock.end <= start || end <= lock.start {
                kept.push(lock);
                continue;
            }
            for (from, to) in [(lock.start, start), (end, lock.end)] {
                if from < to {
                    kept.push(Lock { start: from, end: to, ..lock });
                }
            }
        }
        self.locks = kept;
    }
}

fn lock_end(start: u64, len: u64) -> u64 {
    if len == 0 { u64::MAX } else { start.saturating_add(len) }
}

/// An operation's answer to come. Dropping it abandons the answer, never the work.
pub(crate) struct Answer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: u64,
}

impl Future for Answer {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut inner = self.shared.0.lock();
        let Some(op) = inner.ops.get_mut(&self.id) else {
            return Poll::Ready((Body::Pause, Err(io::Error::from_raw_os_error(EIO))));
        };
        if !op.done {
            op.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let errno = op.errno;
        let body = op.body.take().unwrap_or(Body::Pause);
        inner.ops.remove(&self.id);
        let result = match errno {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(if let Body::Read { got, .. } = &body { *got } else { 0 }),
        };
        Poll::Ready((body, result))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut inner = self.shared.0.lock();
        let done = inner.ops.get_mut(&self.id).map(|op| {
            op.abandoned = true;
            op.done
        });
        if done == Some(true) {
            inner.ops.remove(&self.id);
        }
    }
}

/// A wait for the clock.
pub(crate) struct Sleep {
    pub(crate) shared: Arc<Shared>,
    pub(crate) deadline: u64,
    pub(crate) timer: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut inner = shared.0.lock();
        if inner.now >= self.deadline {
            return Poll::Ready(());
        }
        let id = match self.timer {
            Some(id) => id,
            None => inner.start_timer(self.deadline),
        };
        self.timer = Some(id);
        match inner.timers.get_mut(&id) {
            Some(timer) if !timer.fired => {
                timer.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.timer {
            let timer = self.shared.0.lock().timers.remove(&id);
            drop(timer);
        }
    }
}
