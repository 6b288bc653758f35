//! What was written and not flushed since: a server that is started again may have lost it.
//!
//! ```text
//! room ─▶ note ─▶ request ─▶ answered ─▶ flush ─▶ forgotten
//!   ▲                          └ in the order of their numbers, when it has to be made again
//!   └── a flush, where there is none
//! ```
//!
//! Laws: a change is noted before it is sent, so that one whose answer has come is never missing; changes are given back in
//! the order in which they were noted, and a durable one is among them, for it may lie over an older one.
//!
//! Bounds: [`MOST`] bytes, those under way included; a change waits until there is room for it, behind those that wait already, and is
//! alone where it is larger.
use crate::way::Redial;
use block::{BlockError, Result};
use event_listener::{Event, IntoNotification};
use futures_util::future::join_all;
use futures_util::lock::Mutex as Lock;
use parking_lot::Mutex;
use rt::Buf;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bytes that are kept, with [`NOTE`] for each change.
const MOST: usize = 64 << 20;
/// Changes that are made again side by side.
const SIDE_BY_SIDE: usize = 64;
/// What a change counts beside its data.
const NOTE: usize = 64;

/// A change of what a server keeps.
#[derive(Clone)]
pub(crate) enum Change {
    /// These bytes at an offset.
    Write(u64, Buf),
    /// Zeroes: offset, length, whether the range may lose its space.
    Zeroes(u64, u64, bool),
}

impl Change {
    fn range(&self) -> (u64, u64) {
        match self {
            Self::Write(offset, data) => (*offset, offset.saturating_add(data.len() as u64)),
            Self::Zeroes(offset, len, _) => (*offset, offset.saturating_add(*len)),
        }
    }

    /// Whether both are of one byte.
    pub fn meets(&self, other: &Self) -> bool {
        let ((start, end), (other_start, other_end)) = (self.range(), other.range());
        start < other_end && other_start < end
    }
}

/// The changes since the last flush. `A` is what a server says when it has taken one.
pub(crate) struct Unflushed<A = ()> {
    changes: Mutex<Changes<A>>,
    /// There is more room, or one was answered.
    changed: Event,
    /// One sync is under way at a time, for a server tells of lost data once: what a flush failed with that nobody had asked for.
    syncing: Lock<Option<BlockError>>,
}

impl<A> Default for Unflushed<A> {
    fn default() -> Self {
        let changes = Changes {
            noted: BTreeMap::new(),
            next: 0,
            bytes: 0,
            waiting: BTreeSet::new(),
            turns: 0,
            held: false,
        };
        Self { changes: Mutex::new(changes), changed: Event::new(), syncing: Lock::default() }
    }
}

struct Changes<A> {
    noted: BTreeMap<u64, Entry<A>>,
    next: u64,
    /// What they take, and what there is room for that is not noted yet.
    bytes: usize,
    /// Who waits for room: the turn that each has, and how many have been given.
    waiting: BTreeSet<u64>,
    turns: u64,
    /// They are being made again.
    held: bool,
}

struct Entry<A> {
    change: Change,
    /// What it takes.
    bytes: usize,
    /// What the server has said, if it has.
    answer: Option<A>,
}

impl<A> Changes<A> {
    fn has_room(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes.saturating_add(bytes) <= MOST
    }

    fn remove(&mut self, number: u64) {
        if let Some(entry) = self.noted.remove(&number) {
            self.bytes -= entry.bytes;
        }
    }

    fn is_answered(&self) -> bool {
        self.noted.values().any(|entry| entry.answer.is_some())
    }
}

/// A turn among those that wait for room: whoever needs much is not passed by those that need little.
struct Turn<'u, A>(&'u Unflushed<A>, u64);

impl<A> Drop for Turn<'_, A> {
    fn drop(&mut self) {
        self.0.changes.lock().waiting.remove(&self.1);
        self.0.tell();
    }
}

/// Room for a change that is not noted yet; it is free again when this is dropped.
pub(crate) struct Room<'u, A> {
    unflushed: &'u Unflushed<A>,
    bytes: usize,
}

impl<'u, A> Room<'u, A> {
    /// Notes the change that is about to be sent; waits while others are made again.
    pub async fn note(self, change: Change) -> Noted<'u, A> {
        let unflushed = self.unflushed;
        loop {
            {
                let mut changes = unflushed.changes.lock();
                if !changes.held {
                    let number = changes.next;
                    changes.next += 1;
                    let entry = Entry { change, bytes: self.bytes, answer: None };
                    changes.noted.insert(number, entry);
                    // The note has it from now on.
                    std::mem::forget(self);
                    return Noted { unflushed, number };
                }
            }
            let changed = unflushed.changed.listen();
            if unflushed.changes.lock().held {
                changed.await;
            }
        }
    }
}

impl<A> Drop for Room<'_, A> {
    fn drop(&mut self) {
        self.unflushed.changes.lock().bytes -= self.bytes;
        self.unflushed.tell();
    }
}

/// A change that was noted, and not answered yet. It is forgotten when this is dropped.
pub(crate) struct Noted<'u, A> {
    unflushed: &'u Unflushed<A>,
    number: u64,
}

impl<A> Noted<'_, A> {
    /// The server has carried it out.
    pub fn answered(self, answer: A) {
        if let Some(entry) = self.unflushed.changes.lock().noted.get_mut(&self.number) {
            entry.answer = Some(answer);
        }
        self.unflushed.tell();
        std::mem::forget(self);
    }

    /// Whether it lies over nothing that may have to be made again.
    fn is_oldest(&self) -> bool {
        self.unflushed.changes.lock().noted.keys().next() == Some(&self.number)
    }
}

impl<A> Drop for Noted<'_, A> {
    fn drop(&mut self) {
        self.unflushed.changes.lock().remove(self.number);
        self.unflushed.tell();
    }
}

/// No other change is sent, as long as this is kept.
#[cfg(feature = "nfs")]
pub(crate) struct Alone<'u, A>(&'u Unflushed<A>);

#[cfg(feature = "nfs")]
impl<A> Drop for Alone<'_, A> {
    fn drop(&mut self) {
        self.0.changes.lock().held = false;
        self.0.tell();
    }
}

impl<A> Unflushed<A> {
    fn tell(&self) {
        self.changed.notify(usize::MAX.additional());
    }

    /// Whether everything that was sent is durable.
    pub fn is_empty(&self) -> bool {
        self.changes.lock().noted.is_empty()
    }

    /// Waits for room for a change with so many bytes of data. `make` has to make some: it ends in [`Unflushed::make_room`].
    ///
    /// # Errors
    /// None could be made.
    pub async fn room<F: Future<Output = Result<()>>>(
        &self,
        data: usize,
        make: impl Fn(usize) -> F,
    ) -> Result<Room<'_, A>> {
        let bytes = data.saturating_add(NOTE);
        let turn = {
            let mut changes = self.changes.lock();
            if changes.waiting.is_empty() && changes.has_room(bytes) {
                changes.bytes += bytes;
                return Ok(Room { unflushed: self, bytes });
            }
            let number = changes.turns;
            changes.turns += 1;
            changes.waiting.insert(number);
            Turn(self, number)
        };
        loop {
            let changed = self.changed.listen();
            let can_flush = {
                let mut changes = self.changes.lock();
                let is_first = changes.waiting.first() == Some(&turn.1);
                if is_first && changes.has_room(bytes) {
                    changes.bytes += bytes;
                    return Ok(Room { unflushed: self, bytes });
                }
                // A flush would change nothing before one of those under way is answered.
                is_first && changes.is_answered()
            };
            match can_flush {
                true => make(bytes).await?,
                false => changed.await,
            }
        }
    }

    /// Flushes so that there is room for so many bytes.
    ///
    /// # Errors
    /// The flush failed.
    pub async fn make_room(&self, bytes: usize, flush: impl Future<Output = Result<()>>) -> Result<()> {
        self.flush_unasked(|| self.changes.lock().has_room(bytes), flush).await
    }

    /// Flushes, unless it is needless, though no user has asked for it: whoever flushes for a user later is told of what was
    /// lost here.
    ///
    /// # Errors
    /// The flush failed, or an earlier one of these did.
    pub async fn flush_unasked(
        &self,
        needless: impl FnOnce() -> bool,
        flush: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let mut failed = self.syncing.lock().await;
        if let Some(error) = &*failed {
            return Err(error.clone());
        }
        if needless() {
            return Ok(());
        }
        let flushed = flush.await;
        if let Err(error) = &flushed {
            failed.get_or_insert_with(|| error.clone());
        }
        flushed
    }

    /// Makes a change that is noted meanwhile; one that is to be durable beside no sync. The core asks for one such at a time, and has
    /// others share a flush, so that it waits for a flush that makes room at most. `make` ends with the server's answer, and
    /// whether that says that the change is durable.
    pub async fn change(
        &self,
        room: Room<'_, A>,
        durable: bool,
        change: Change,
        make: impl Future<Output = Result<(A, bool)>>,
    ) -> Result<()> {
        // In this order: one who syncs may wait for everything that is noted.
        let _alone = if durable { Some(self.syncing.lock().await) } else { None };
        let noted = room.note(change).await;
        let (answer, is_durable) = make.await?;
        if !is_durable || !noted.is_oldest() {
            noted.answered(answer);
        }
        Ok(())
    }

    /// Flushes for a user. A server that owes nothing need not be there: `needless` tells, where nothing was changed since the
    /// last flush.
    ///
    /// # Errors
    /// The flush failed, or one did that nobody had asked for.
    pub async fn flush(
        &self,
        needless: impl FnOnce() -> bool,
        flush: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let failed = self.syncing.lock().await;
        match &*failed {
            Some(error) => Err(error.clone()),
            None if self.is_empty() && needless() => Ok(()),
            None => flush.await,
        }
    }

    /// The changes that a flush which is sent now makes durable.
    pub fn answered(&self) -> Vec<u64> {
        let changes = self.changes.lock();
        changes.noted.iter().filter(|(_, entry)| entry.answer.is_some()).map(|(number, _)| *number).collect()
    }

    /// These are durable.
    pub fn forget(&self, durable: &[u64]) {
        {
            let mut changes = self.changes.lock();
            durable.iter().for_each(|number| changes.remove(*number));
        }
        self.tell();
    }

    /// Makes all of them again on another connection, in their order, and has them made durable: durable changes are among them.
    /// Nobody makes others there meanwhile; `is_dead` tells whether it is lost as well.
    ///
    /// # Errors
    /// One of those that the server had answered can't be made again, or the flush failed.
    pub async fn make_again<F: Future<Output = Result<()>>>(
        &self,
        is_dead: impl Fn() -> bool,
        make: impl Fn(Change) -> F,
        flush: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let changes: Vec<_> = {
            let changes = self.changes.lock();
            changes.noted.iter().map(|(number, entry)| (*number, entry.change.clone())).collect()
        };
        if changes.is_empty() {
            return Ok(());
        }
        let mut made = Vec::with_capacity(changes.len());
        for group in side_by_side(&changes, |(_, one), (_, other)| one.meets(other)) {
            let results = join_all(group.iter().map(|(_, change)| make(change.clone()))).await;
            for ((number, _), result) in group.iter().zip(results) {
                match result {
                    Ok(()) => made.push(*number),
                    Err(error) if is_dead() || self.is_answered(*number) => {
                        return Err(error.context("what was not flushed could not be written again"));
                    }
                    // Nobody was told of it: whoever waits for it makes it again, and is told why it fails.
                    Err(_) => {}
                }
            }
        }
        // One whose answer comes later is kept: whoever waits for it makes it once more.
        made.retain(|number| self.is_answered(*number));
        flush.await?;
        self.forget(&made);
        Ok(())
    }

    /// Whether the server has answered a change, and whoever made it was told so.
    fn is_answered(&self, number: u64) -> bool {
        self.changes.lock().noted.get(&number).is_some_and(|entry| entry.answer.is_some())
    }
}

/// Whoever notes changes, and can have its server make them durable.
pub(crate) trait Keeper: Redial {
    /// What the server says when it has taken one.
    type Answer: Send;

    /// What is noted.
    fn unflushed(&self) -> &Unflushed<Self::Answer>;

    /// Has the server make durable what it has answered, and forgets that. One at a time.
    fn flush_once(self: &Arc<Self>) -> impl Future<Output = Result<()>> + Send;
}

/// Waits for room for a change with so many bytes of data; where there is none, the server is asked to flush. That is brought to its
/// end, also where the writer leaves that wants it: a server tells of lost data once.
///
/// # Errors
/// The flush failed.
pub(crate) async fn room<K: Keeper>(keeper: &Arc<K>, data: usize) -> Result<Room<'_, K::Answer>> {
    let make = async |bytes| {
        let owner = keeper.clone();
        let flush = async move { owner.unflushed().make_room(bytes, owner.flush_once()).await };
        rt::spawn(flush).await.unwrap_or_else(|_| Err(keeper.closed()))
    };
    keeper.unflushed().room(data, make).await
}

#[cfg(feature = "nfs")]
impl<A: Copy> Unflushed<A> {
    /// Waits for what is under way, and keeps what comes waiting.
    pub async fn alone(&self) -> Alone<'_, A> {
        self.changes.lock().held = true;
        let alone = Alone(self);
        loop {
            let changed = self.changed.listen();
            if self.changes.lock().noted.values().all(|entry| entry.answer.is_some()) {
                return alone;
            }
            changed.await;
        }
    }

    /// Those that the server has answered, in order, by their numbers.
    pub fn all_answered(&self) -> Vec<(u64, Change)> {
        let changes = self.changes.lock();
        let answered = changes.noted.iter().filter(|(_, entry)| entry.answer.is_some());
        answered.map(|(number, entry)| (*number, entry.change.clone())).collect()
    }

    /// These are durable, unless one of them `is_lost` by what the server said to it: then all are kept. Whether they are forgotten.
    pub fn forget_unless(&self, durable: &[u64], is_lost: impl Fn(A) -> bool) -> bool {
        {
            let mut changes = self.changes.lock();
            let answer = |number| changes.noted.get(number).and_then(|entry| entry.answer);
            if durable.iter().filter_map(answer).any(is_lost) {
                return false;
            }
            durable.iter().for_each(|number| changes.remove(*number));
        }
        self.tell();
        true
    }

    /// The server has taken a change again, and says something else now.
    pub fn answered_again(&self, number: u64, answer: A) {
        if let Some(entry) = self.changes.lock().noted.get_mut(&number) {
            entry.answer = Some(answer);
        }
    }
}

/// Cuts changes, in their order, into groups of at most [`SIDE_BY_SIDE`] that can be made side by side: no two of one group meet.
pub(crate) fn side_by_side<T>(changes: &[T], meet: impl Fn(&T, &T) -> bool) -> impl Iterator<Item = &[T]> {
    let mut rest = changes;
    std::iter::from_fn(move || {
        let longest = rest.len().min(SIDE_BY_SIDE);
        let meets = |at: &usize| {
            let (before, from) = rest.split_at(*at);
            from.first().is_some_and(|change| before.iter().any(|other| meet(other, change)))
        };
        let (group, behind) = rest.split_at((1..longest).find(meets).unwrap_or(longest));
        rest = behind;
        (!group.is_empty()).then_some(group)
    })
}

#[cfg(test)]
mod tests;
