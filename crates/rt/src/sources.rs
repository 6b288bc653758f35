//! The descriptors that a worker's epoll set watches: what is known of their readiness, and the table of them.
//!
//! Law: a direction's `ready` is cleared before the call that may find it empty, never after: an edge that arrives
//! in between sets it again. A hang-up is sticky, as its edge comes only once.

use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::epoll::Epoll;

/// One direction's readiness.
pub(crate) struct Direction {
    ready: AtomicBool,
    hung_up: AtomicBool,
    pub(crate) waker: AtomicWaker,
}

impl Direction {
    /// Ready until a call says otherwise.
    fn new() -> Direction {
        Direction { ready: AtomicBool::new(true), hung_up: AtomicBool::new(false), waker: AtomicWaker::new() }
    }

    /// Makes one attempt. `more` says of its count whether there may be more at once.
    pub(crate) fn attempt(
        &self,
        call: impl FnOnce() -> io::Result<usize>,
        more: impl FnOnce(usize) -> bool,
    ) -> io::Result<usize> {
        self.ready.store(false, Ordering::SeqCst);
        let result = call();
        let more = match &result {
            Ok(n) => more(*n),
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        if more {
            self.ready.store(true, Ordering::SeqCst);
        }
        result
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst) || self.hung_up.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, hung_up: bool) {
        if hung_up {
            self.hung_up.store(true, Ordering::SeqCst);
        }
        self.ready.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

/// What the worker's loop sees of a source.
pub(crate) struct Readiness {
    pub(crate) read: Direction,
    pub(crate) write: Direction,
    room: Mutex<Room>,
    fd: RawFd,
}

/// Whether the set watches for room to write: only while somebody waits for it, as each reply that the peer takes
/// would be an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Ignored,
    Watched,
    /// The source is closed: its number may be another one's.
    Closed,
}

pub(crate) const READ: libc::c_int = libc::EPOLLIN | libc::EPOLLRDHUP;
const READ_AND_ROOM: libc::c_int = READ | libc::EPOLLOUT;

impl Readiness {
    pub(crate) fn new(fd: RawFd) -> Readiness {
        Readiness { read: Direction::new(), write: Direction::new(), room: Mutex::new(Room::Ignored), fd }
    }

    /// The descriptor is about to be closed: nothing is changed in the set any more.
    pub(crate) fn close(&self) {
        *self.room.lock() = Room::Closed;
    }

    /// The set does not watch it any more; another one may.
    pub(crate) fn forget_room(&self) {
        *self.room.lock() = Room::Ignored;
    }

    /// Takes an event of the set.
    pub(crate) fn event(&self, epoll: &Epoll, token: u64, bits: u32) {
        let has = |mask: libc::c_int| bits & mask as u32 != 0;
        let broken = has(libc::EPOLLERR | libc::EPOLLHUP);
        if has(libc::EPOLLIN | libc::EPOLLRDHUP) || broken {
            self.read.set(broken || has(libc::EPOLLRDHUP));
        }
        if has(libc::EPOLLOUT) || broken {
            let mut room = self.room.lock();
            if *room == Room::Watched {
                *room = Room::Ignored;
                // An error here only causes events that nobody waits for.
                let _ = epoll.modify(self.fd, READ, token);
            }
            drop(room);
            self.write.set(broken);
        }
    }

    pub(crate) fn watch_room(&self, epoll: &Epoll, token: u64) -> io::Result<()> {
        let mut room = self.room.lock();
        if *room == Room::Ignored {
            epoll.modify(self.fd, READ_AND_ROOM, token)?;
            *room = Room::Watched;
        }
        Ok(())
    }
}

/// The sources of a worker, by token: slot number, and above it a generation that tells one user of a slot from the
/// next.
#[derive(Default)]
pub(crate) struct Sources(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    list: Vec<Option<(u64, Arc<Readiness>)>>,
    free: Vec<usize>,
    generation: u32,
}

impl Sources {
    pub(crate) fn insert(&self, readiness: Arc<Readiness>) -> u64 {
        let mut slots = self.0.lock();
        // 31 bits: the highest tokens are the loop's own.
        slots.generation = slots.generation.wrapping_add(1) & 0x7fff_ffff;
        let index = slots.free.pop().unwrap_or(slots.list.len());
        let token = u64::from(slots.generation) << 32 | index as u64;
        match slots.list.get_mut(index) {
            Some(slot) => *slot = Some((token, readiness)),
            None => slots.list.push(Some((token, readiness))),
        }
        token
    }

    pub(crate) fn remove(&self, token: u64) {
        let mut slots = self.0.lock();
        let index = (token & 0xffff_ffff) as usize;
        if slots.list.get_mut(index).is_some_and(|slot| slot.take_if(|(owner, _)| *owner == token).is_some())
        {
            slots.free.push(index);
        }
    }

    /// The source of a token, unless it is gone.
    pub(crate) fn get(&self, token: u64) -> Option<Arc<Readiness>> {
        let slots = self.0.lock();
        let (owner, readiness) = slots.list.get((token & 0xffff_ffff) as usize)?.as_ref()?;
        (*owner == token).then(|| readiness.clone())
    }
}
