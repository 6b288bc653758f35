//! A descriptor that a worker watches: readiness and one waker for each direction.
//!
//! Law: a direction's `ready` is cleared before the call that may find it empty, never after: an edge that arrives
//! in between sets it again. A hang-up is sticky, as its edge comes only once.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::local;
use crate::shared::Shared;

/// One direction's readiness.
pub(crate) struct Direction {
    ready: AtomicBool,
    hung_up: AtomicBool,
    waker: AtomicWaker,
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

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst) || self.hung_up.load(Ordering::SeqCst)
    }

    fn set(&self, hung_up: bool) {
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

const READ: libc::c_int = libc::EPOLLIN | libc::EPOLLRDHUP;
const READ_AND_ROOM: libc::c_int = READ | libc::EPOLLOUT;

impl Readiness {
    /// Takes an event of the set.
    pub(crate) fn event(&self, worker: &Shared, token: u64, bits: u32) {
        let has = |mask: libc::c_int| bits & mask as u32 != 0;
        let broken = has(libc::EPOLLERR | libc::EPOLLHUP);
        if has(libc::EPOLLIN | libc::EPOLLRDHUP) || broken {
            self.read.set(broken || has(libc::EPOLLRDHUP));
        }
        if has(libc::EPOLLOUT) || broken {
            let mut room = self.room.lock();
            if *room == Room::Watched {
                *room = Room::Ignored;
                // An error here leaves events that wake nobody.
                let _ = worker.epoll.modify(self.fd, READ, token);
            }
            drop(room);
            self.write.set(broken);
        }
    }

    fn watch_room(&self, worker: &Shared, token: u64) -> io::Result<()> {
        let mut room = self.room.lock();
        if *room == Room::Ignored {
            worker.epoll.modify(self.fd, READ_AND_ROOM, token)?;
            *room = Room::Watched;
        }
        Ok(())
    }
}

/// Where a source is registered.
struct Home {
    worker: Arc<Shared>,
    token: u64,
}

/// A watched descriptor. It belongs to the worker on which it was first waited for.
pub(crate) struct Source {
    fd: OwnedFd,
    pub(crate) readiness: Arc<Readiness>,
    /// Empty for what epoll does not know (regular files): always ready.
    home: OnceLock<Option<Home>>,
}

impl Source {
    pub(crate) fn new(fd: OwnedFd) -> Source {
        let readiness = Arc::new(Readiness {
            read: Direction::new(),
            write: Direction::new(),
            room: Mutex::new(Room::Ignored),
            fd: fd.as_raw_fd(),
        });
        Source { fd, readiness, home: OnceLock::new() }
    }

    fn register(&self) -> io::Result<Option<&Home>> {
        if let Some(home) = self.home.get() {
            return Ok(home.as_ref());
        }
        let worker = local::shared()
            .ok_or_else(|| io::Error::other("sockets are awaited on a worker's thread only"))?;
        let token = worker.sources.insert(self.readiness.clone());
        let home = match worker.epoll.add(self.fd.as_raw_fd(), READ, token) {
            Ok(()) => Some(Home { worker, token }),
            Err(error) => {
                worker.sources.remove(token);
                if error.raw_os_error() != Some(libc::EPERM) {
                    return Err(error);
                }
                None
            }
        };
        Ok(self.home.get_or_init(|| home).as_ref())
    }

    fn poll_ready(&self, cx: &mut Context<'_>, direction: &Direction, room: bool) -> Poll<io::Result<()>> {
        if direction.is_ready() {
            return Poll::Ready(Ok(()));
        }
        direction.waker.register(cx.waker());
        match self.register() {
            Err(error) => return Poll::Ready(Err(error)),
            Ok(None) => direction.set(false),
            Ok(Some(home)) if room => {
                if let Err(error) = self.readiness.watch_room(&home.worker, home.token) {
                    return Poll::Ready(Err(error));
                }
            }
            Ok(Some(_)) => {}
        }
        if direction.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Waits until a read may have something; one waiter at a time.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_ready(cx, &self.readiness.read, false)).await
    }

    /// Waits until a write may have room; one waiter at a time.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_ready(cx, &self.readiness.write, true)).await
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        *self.readiness.room.lock() = Room::Closed;
        if let Some(Some(home)) = self.home.get() {
            home.worker.epoll.remove(self.fd.as_raw_fd());
            home.worker.sources.remove(home.token);
        }
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
    fn insert(&self, readiness: Arc<Readiness>) -> u64 {
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

    fn remove(&self, token: u64) {
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
