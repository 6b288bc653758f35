//! Commands in flight, by tag: how many there may be, and how each ends.

use crate::places::{Place, Places};
use block::BlockError;
use futures_channel::oneshot;
use iscsi::Residual;
use iscsi::scsi::{Sense, Status};
use parking_lot::Mutex;
use rt::{Buf, BufMut};
use std::sync::atomic::{AtomicU64, Ordering};

/// Most commands in flight on one connection.
const TASKS: usize = 128;

/// How a command was answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    pub status: Status,
    pub sense: Option<Sense>,
    /// Bytes that came.
    pub received: usize,
    /// How that differs from what was asked for, by the target's word.
    pub residual: Residual,
}

/// What a command ends with: its buffer, and its reply, or why there is none.
pub(super) type Outcome = (Option<BufMut>, Result<Reply, BlockError>);

/// A command that was handed to the connection.
pub(super) struct Task {
    /// Where data of the target go.
    pub buf: Option<BufMut>,
    /// Bytes that came.
    pub received: usize,
    /// Data for the target.
    pub data: Option<Buf>,
    /// Bytes of those that are on their way.
    pub sent: usize,
    reply: oneshot::Sender<Outcome>,
    /// When it was made, and how long it may take, in ns.
    pub term: Term,
    /// Its place among [`TASKS`].
    _place: Place,
}

impl Task {
    /// Gives the reply to whoever asked.
    pub fn end(self, result: Result<Reply, BlockError>) {
        // Whoever asked may have gone; the command was carried out all the same.
        let _ = self.reply.send((self.buf, result));
    }
}

/// How long a command may take, in ns on the runtime's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    /// When it was made.
    pub began: u64,
    /// Longest time in all.
    pub longest: u64,
}

impl Term {
    /// How long it has waited, if that is too long.
    pub fn overdue(self, now: u64) -> Option<u64> {
        let waited = now.saturating_sub(self.began);
        (waited >= self.longest).then_some(waited)
    }

    /// How much longer it may take.
    pub fn left(self, now: u64) -> u64 {
        self.began.saturating_add(self.longest).saturating_sub(now)
    }
}

/// The commands of a connection.
pub(super) struct Tasks {
    table: Mutex<Table>,
    places: Places,
    /// When bytes moved last, in ns.
    alive_ns: AtomicU64,
}

#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Why no other command is taken.
    refused: Option<BlockError>,
    /// Why the connection is of no more use.
    dead: Option<BlockError>,
}

/// A place for one command after another, told apart by how many there were.
#[derive(Default)]
struct Slot {
    used: u32,
    task: Option<Task>,
    /// A command has the slot, be its task here or taken.
    taken: bool,
}

/// Tags begin with these behind them, so that none is that of a ping, or [`iscsi::NO_TAG`].
const GENERATIONS: u32 = u32::MAX / TASKS as u32 - 1;

impl Default for Tasks {
    fn default() -> Self {
        Self { table: Mutex::default(), places: Places::new(TASKS), alive_ns: AtomicU64::new(0) }
    }
}

impl Tasks {
    /// Waits until one more command may be made.
    pub async fn place(&self) -> Place {
        self.places.take().await
    }

    /// Registers a command: its tag, and where its reply comes.
    pub fn begin(
        &self,
        place: Place,
        term: Term,
        data: Option<Buf>,
        buf: Option<BufMut>,
    ) -> Result<(u32, oneshot::Receiver<Outcome>), (Option<BufMut>, BlockError)> {
        let mut table = self.table.lock();
        if let Some(error) = table.dead.as_ref().or(table.refused.as_ref()) {
            return Err((buf, error.clone()));
        }
        let at = table.free.pop().unwrap_or_else(|| {
            table.slots.push(Slot::default());
            table.slots.len() - 1
        });
        let (reply, answer) = oneshot::channel();
        let task = Task { buf, received: 0, data, sent: 0, reply, term, _place: place };
        let Some(slot) = table.slots.get_mut(at) else { return Err((task.buf, lost_place())) };
        slot.used = (slot.used + 1) % GENERATIONS;
        (slot.task, slot.taken) = (Some(task), true);
        // There are no more slots than places.
        Ok((slot.used * TASKS as u32 + at as u32, answer))
    }

    /// Takes the task of an answer; [`Tasks::put_back`] if it goes on, [`Tasks::release`] at its end.
    pub fn take(&self, tag: u32) -> Option<Task> {
        self.table.lock().slot(tag)?.task.take()
    }

    /// The task's answer goes on.
    pub fn put_back(&self, tag: u32, task: Task) {
        let mut table = self.table.lock();
        match table.dead.clone() {
            Some(dead) => {
                drop(table);
                task.end(Err(dead));
            }
            None => {
                if let Some(slot) = table.slot(tag) {
                    slot.task = Some(task);
                }
            }
        }
    }

    /// The tag means no command any more.
    pub fn release(&self, tag: u32) {
        let mut table = self.table.lock();
        if let Some(slot) = table.slot(tag) {
            slot.taken = false;
            table.free.push(tag as usize % TASKS);
        }
    }

    /// Takes part of a task's data, from `offset` on, to be sent; `None` where that is not what comes next.
    pub fn next_data(&self, tag: u32, offset: usize, len: usize) -> Option<Buf> {
        let mut table = self.table.lock();
        let task = table.slot(tag)?.task.as_mut()?;
        let data = task.data.as_ref()?;
        let end = offset.checked_add(len).filter(|end| *end <= data.len())?;
        if offset != task.sent || len == 0 {
            return None;
        }
        task.sent = end;
        Some(data.slice(offset..end))
    }

    /// Ends all commands with `error`, and every later one. The first call counts.
    pub fn kill(&self, error: &BlockError) {
        let ended: Vec<_> = {
            let mut table = self.table.lock();
            table.dead.get_or_insert_with(|| error.clone());
            table.slots.iter_mut().filter_map(|slot| slot.task.take()).collect()
        };
        for task in ended {
            task.end(Err(error.clone()));
        }
    }

    /// Takes no other command, and fails them with `error`; those that there are go on.
    pub fn refuse(&self, error: &BlockError) {
        self.table.lock().refused.get_or_insert_with(|| error.clone());
    }

    /// Why the connection is of no more use for other commands, if so.
    pub fn dead(&self) -> Option<BlockError> {
        let table = self.table.lock();
        table.dead.as_ref().or(table.refused.as_ref()).cloned()
    }

    /// Whether a command has not ended yet.
    pub fn are_under_way(&self) -> bool {
        let table = self.table.lock();
        table.slots.len() > table.free.len()
    }

    /// Bytes have moved.
    pub fn alive(&self) {
        self.alive_ns.store(rt::now_ns(), Ordering::Relaxed);
    }

    /// For how long no bytes have moved, in ns.
    pub fn silent(&self) -> u64 {
        rt::now_ns().saturating_sub(self.alive_ns.load(Ordering::Relaxed))
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.places.are_free()
    }

    /// How long a command has waited that has had no answer for too long; `receiving` is the one that is being answered now.
    pub fn overdue(&self, receiving: Option<Term>) -> Option<u64> {
        let now = rt::now_ns();
        let table = self.table.lock();
        let terms = table.slots.iter().filter_map(|slot| slot.task.as_ref()).map(|task| task.term);
        terms.chain(receiving).filter_map(|term| term.overdue(now)).max()
    }
}

impl Table {
    /// The slot of a command that has this tag.
    fn slot(&mut self, tag: u32) -> Option<&mut Slot> {
        let (used, at) = (tag / TASKS as u32, tag as usize % TASKS);
        self.slots.get_mut(at).filter(|slot| slot.taken && slot.used == used)
    }
}

fn lost_place() -> BlockError {
    BlockError::new(block::ErrorKind::Limit, "there is no place for another command")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn begin(tasks: &Tasks) -> u32 {
        let place = tasks.place().now_or_never().unwrap();
        let term = Term { began: 0, longest: 1 };
        let data = Some(Buf::from_slice(&[1, 2, 3, 4]));
        tasks.begin(place, term, data, None).map(|(tag, _)| tag).unwrap_or(iscsi::NO_TAG)
    }

    #[test]
    fn a_tag_means_one_command_and_no_later_one() {
        let tasks = Tasks::default();
        let (first, second) = (begin(&tasks), begin(&tasks));
        assert_ne!(first, second);
        assert!(tasks.take(first).is_some() && tasks.take(first).is_none());
        tasks.release(first);
        let third = begin(&tasks);
        assert!(third != first && third % TASKS as u32 == first % TASKS as u32);
        assert!(tasks.take(first).is_none() && tasks.take(third).is_some() && tasks.take(second).is_some());
        assert!(tasks.take(iscsi::NO_TAG).is_none() && tasks.take(0).is_none());
    }

    #[test]
    fn data_are_given_once_and_in_order() {
        let tasks = Tasks::default();
        let tag = begin(&tasks);
        assert!(tasks.next_data(tag, 1, 1).is_none() && tasks.next_data(tag, 0, 5).is_none());
        assert_eq!(tasks.next_data(tag, 0, 3).as_deref(), Some(&[1, 2, 3][..]));
        assert!(tasks.next_data(tag, 0, 3).is_none() && tasks.next_data(tag, 3, usize::MAX).is_none());
        assert_eq!(tasks.next_data(tag, 3, 1).as_deref(), Some(&[4][..]));
        assert!(tasks.next_data(tag, 4, 0).is_none());
    }
}
