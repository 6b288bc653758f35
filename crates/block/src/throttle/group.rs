//! A group: buckets that its members share, and whose turn it is.
use super::bucket::{Bucket, ONE};
use super::limits::IoLimits;
use super::member::IoDirection;
use crate::error::Result;
use crate::objects::Object;
use event_listener::Event;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// Limits that several nodes and entries share.
pub struct ThrottleGroup {
    name: String,
    /// There are limits.
    limited: AtomicBool,
    state: Mutex<State>,
}

impl Object for ThrottleGroup {
    const KIND: &'static str = "throttle-group";
}

#[derive(Default)]
struct State {
    limits: IoLimits,
    /// Bytes, then requests: total, reads, writes.
    buckets: [Option<Bucket>; 6],
    leaked_at: u64,
    members: Vec<Queues>,
    last_id: u64,
    /// Of reads, and of writes.
    turns: [Turn; 2],
}

/// Whose turn it is.
#[derive(Default)]
struct Turn {
    /// Where in the list of members the search for the next one begins: at that of the first request, or behind the last one.
    next: usize,
    /// The first request of its member, which goes through when it is due.
    first: Option<First>,
}

#[derive(Clone, Copy)]
struct First {
    member: u64,
    due_ns: u64,
}

/// What of one member waits: reads, and writes.
struct Queues {
    id: u64,
    waiting: [VecDeque<Arc<Waiter>>; 2],
}

/// A request that waits.
pub(super) struct Waiter {
    bytes: u64,
    through: AtomicBool,
    pub(super) woken: Event,
}

/// What a waiting request is told.
pub(super) enum Answer {
    /// It goes through.
    Through,
    /// It is the next, at this time of the runtime's clock.
    At(u64),
    /// Others come first.
    Later,
}

impl ThrottleGroup {
    /// A group without limits.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), limited: AtomicBool::new(false), state: Mutex::default() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The limits.
    pub fn limits(&self) -> IoLimits {
        self.state.lock().limits
    }

    /// Whether there are limits.
    pub fn limited(&self) -> bool {
        self.limited.load(Acquire)
    }

    /// Changes the limits: the buckets are empty then, and those that wait go on under the new limits.
    pub fn set_limits(&self, limits: IoLimits) -> Result<()> {
        limits.check()?;
        let mut state = self.state.lock();
        state.limits = limits;
        state.buckets = [None; 6];
        state.buckets.iter_mut().zip(limits.rates()).for_each(|(bucket, rate)| *bucket = Bucket::new(rate));
        state.leaked_at = rt::now_ns();
        self.limited.store(limits.any(), Release);
        IoDirection::BOTH.into_iter().for_each(|direction| state.find_next(direction));
        Ok(())
    }

    pub(super) fn join(&self) -> u64 {
        let mut state = self.state.lock();
        state.last_id += 1;
        let id = state.last_id;
        state.members.push(Queues { id, waiting: Default::default() });
        id
    }

    pub(super) fn leave(&self, member: u64) {
        let mut state = self.state.lock();
        let Some(at) = state.position(member) else { return };
        state.members.remove(at);
        for turn in &mut state.turns {
            turn.next -= usize::from(turn.next > at);
        }
    }

    /// A request comes. It goes through now (`None`), or waits for its turn.
    pub(super) fn come(
        &self,
        member: u64,
        direction: IoDirection,
        bytes: u64,
        hold: bool,
    ) -> Option<Arc<Waiter>> {
        let mut state = self.state.lock();
        state.leak();
        let turn = state.turn(direction);
        let free = turn.first.is_none() && state.wait_ns(direction) == 0;
        if free || !hold {
            state.fill(direction, bytes);
            return None;
        }
        let waiter = Arc::new(Waiter { bytes, through: AtomicBool::new(false), woken: Event::new() });
        let alone = state.turn(direction).first.is_none();
        let queue = state.queue(member, direction)?;
        queue.push_back(waiter.clone());
        if alone {
            state.find_next(direction);
        }
        Some(waiter)
    }

    /// Tells a request that waits how it stands; if it is due, it goes through.
    pub(super) fn ask(&self, member: u64, direction: IoDirection, waiter: &Arc<Waiter>) -> Answer {
        if waiter.through.load(Acquire) {
            return Answer::Through;
        }
        let mut state = self.state.lock();
        if waiter.through.load(Acquire) {
            return Answer::Through;
        }
        let first = state.turn(direction).first.filter(|first| first.member == member);
        let front = state.queue(member, direction).and_then(|queue| queue.front().cloned());
        match first.filter(|_| front.is_some_and(|front| Arc::ptr_eq(&front, waiter))) {
            None => Answer::Later,
            Some(first) if first.due_ns > rt::now_ns() => Answer::At(first.due_ns),
            Some(_) => {
                state.leak();
                state.let_through(member, direction);
                state.turn(direction).next += 1;
                state.find_next(direction);
                Answer::Through
            }
        }
    }

    /// A request does not wait any more, through or not.
    pub(super) fn gone(&self, member: u64, direction: IoDirection, waiter: &Arc<Waiter>) {
        if waiter.through.load(Acquire) {
            return;
        }
        let mut state = self.state.lock();
        if let Some(queue) = state.queue(member, direction) {
            queue.retain(|other| !Arc::ptr_eq(other, waiter));
        }
        state.keep_turn(member, direction);
    }

    /// All requests of a member that wait go through.
    pub(super) fn let_all_through(&self, member: u64) {
        let mut state = self.state.lock();
        state.leak();
        for direction in IoDirection::BOTH {
            while state.let_through(member, direction) {}
            state.keep_turn(member, direction);
        }
    }
}

impl State {
    fn turn(&mut self, direction: IoDirection) -> &mut Turn {
        let [read, write] = &mut self.turns;
        if direction == IoDirection::Read { read } else { write }
    }

    fn position(&self, member: u64) -> Option<usize> {
        self.members.iter().position(|queues| queues.id == member)
    }

    fn queue(&mut self, member: u64, direction: IoDirection) -> Option<&mut VecDeque<Arc<Waiter>>> {
        let [read, write] = &mut self.members.iter_mut().find(|queues| queues.id == member)?.waiting;
        Some(if direction == IoDirection::Read { read } else { write })
    }

    /// The buckets that requests of one direction go into: of bytes, then of requests.
    fn buckets_of(&mut self, direction: IoDirection) -> impl Iterator<Item = (bool, &mut Bucket)> {
        let other = if direction == IoDirection::Read { 2 } else { 1 };
        let buckets = self.buckets.iter_mut().enumerate().filter(move |(at, _)| at % 3 != other);
        buckets.filter_map(|(at, bucket)| Some((at < 3, bucket.as_mut()?)))
    }

    fn leak(&mut self) {
        let now = rt::now_ns();
        let passed = now.saturating_sub(self.leaked_at);
        self.leaked_at = now.max(self.leaked_at);
        self.buckets.iter_mut().flatten().for_each(|bucket| bucket.leak(passed));
    }

    fn wait_ns(&mut self, direction: IoDirection) -> u64 {
        self.buckets_of(direction).map(|(_, bucket)| bucket.wait_ns()).max().unwrap_or(0)
    }

    fn fill(&mut self, direction: IoDirection, bytes: u64) {
        let (bytes, size) = (u128::from(bytes), u128::from(self.limits.request_size.unsigned_abs()));
        let requests = if size > 0 && bytes > size { bytes * ONE / size } else { ONE };
        for (of_bytes, bucket) in self.buckets_of(direction) {
            bucket.fill(if of_bytes { bytes * ONE } else { requests });
        }
    }

    /// The first request of a member's queue goes through, if there is one.
    fn let_through(&mut self, member: u64, direction: IoDirection) -> bool {
        let waiter = self.queue(member, direction).and_then(VecDeque::pop_front);
        let Some(waiter) = waiter else { return false };
        self.fill(direction, waiter.bytes);
        waiter.through.store(true, Release);
        waiter.woken.notify(usize::MAX);
        true
    }

    /// The queue of a member has changed: if it is its turn, that goes to the request that is now in front.
    fn keep_turn(&mut self, member: u64, direction: IoDirection) {
        if self.turn(direction).first.is_none_or(|first| first.member != member) {
            return;
        }
        match self.queue(member, direction).and_then(|queue| queue.front()) {
            Some(front) => _ = front.woken.notify(usize::MAX),
            None => self.find_next(direction),
        }
    }

    /// Finds whose turn it is now, after the one before has gone through, or something else has changed. Those that need not
    /// wait go through.
    fn find_next(&mut self, direction: IoDirection) {
        self.turn(direction).first = None;
        self.leak();
        while let Some(at) = self.next_waiting(direction) {
            let Some(member) = self.members.get(at).map(|queues| queues.id) else { return };
            let wait = self.wait_ns(direction);
            if wait > 0 {
                let due_ns = self.leaked_at.saturating_add(wait);
                *self.turn(direction) = Turn { next: at, first: Some(First { member, due_ns }) };
                let front = self.queue(member, direction).and_then(|queue| queue.front());
                front.inspect(|waiter| _ = waiter.woken.notify(usize::MAX));
                return;
            }
            self.let_through(member, direction);
            self.turn(direction).next = at + 1;
        }
    }

    /// The member that comes next among those of which something waits.
    fn next_waiting(&mut self, direction: IoDirection) -> Option<usize> {
        let (next, len) = (self.turn(direction).next, self.members.len());
        let mut order = (next..len).chain(0..next.min(len));
        order.find(|at| self.members.get(*at).is_some_and(|queues| !queues.of(direction).is_empty()))
    }
}

impl Queues {
    fn of(&self, direction: IoDirection) -> &VecDeque<Arc<Waiter>> {
        let [read, write] = &self.waiting;
        if direction == IoDirection::Read { read } else { write }
    }
}
