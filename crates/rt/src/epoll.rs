//! An epoll set: the descriptors one worker sleeps on, all edge-triggered.
//!
//! By hand, not through `rustix`: the wait's time-out is in ns where the kernel has `epoll_pwait2`, and falls back at run
//! time where a filter of system calls refuses it. A worker waits after every batch, so it is on the data path.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys;

/// Events taken by one wait.
pub(crate) const BATCH: usize = 64;
/// Token of the worker's eventfd.
pub(crate) const WAKE: u64 = u64::MAX;
/// Token of the worker's ring.
pub(crate) const RING: u64 = u64::MAX - 1;

const EMPTY: libc::epoll_event = libc::epoll_event { events: 0, u64: 0 };

/// Events of one wait.
pub(crate) struct Events {
    list: [libc::epoll_event; BATCH],
    count: usize,
}

impl Events {
    pub(crate) fn new() -> Events {
        Events { list: [EMPTY; BATCH], count: 0 }
    }

    /// (token, event bits) of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        self.list.iter().take(self.count).map(|event| (event.u64, event.events))
    }
}

pub(crate) struct Epoll {
    fd: OwnedFd,
    /// The kernel has epoll_pwait2, which takes ns (since 5.11).
    precise: AtomicBool,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        let fd = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC)?;
        Ok(Epoll { fd, precise: AtomicBool::new(true) })
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, events: libc::c_int, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: (events | libc::EPOLLET) as u32, u64: token };
        // SAFETY: `event` lives during the call.
        sys::check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &mut event) }).map(drop)
    }

    pub(crate) fn add(&self, fd: RawFd, events: libc::c_int, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, events, token)
    }

    pub(crate) fn modify(&self, fd: RawFd, events: libc::c_int, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, events, token)
    }

    pub(crate) fn remove(&self, fd: RawFd) {
        // An error means that it is not in the set: nothing to do.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    /// Takes the events there are, without waiting; how many.
    pub(crate) fn poll(&self, events: &mut Events) -> usize {
        self.wait_ms(events, 0)
    }

    /// Waits for events, at most `timeout_ns`, or without limit; an interrupted wait ends without events.
    pub(crate) fn wait(&self, events: &mut Events, timeout_ns: Option<u64>) -> usize {
        let Some(ns) = timeout_ns else { return self.wait_ms(events, -1) };
        if self.precise.load(Ordering::Relaxed)
            && let Some(count) = self.wait_ns(events, ns)
        {
            return count;
        }
        let ms = ns.div_ceil(1_000_000).min(1 << 30);
        self.wait_ms(events, ms as libc::c_int)
    }

    fn wait_ms(&self, events: &mut Events, ms: libc::c_int) -> usize {
        // SAFETY: the list has room for `BATCH` events.
        let n = unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), events.list.as_mut_ptr(), BATCH as libc::c_int, ms)
        };
        events.count = usize::try_from(n).unwrap_or(0);
        events.count
    }

    /// `None` when the kernel has no such call.
    fn wait_ns(&self, events: &mut Events, ns: u64) -> Option<usize> {
        let limit = libc::timespec {
            tv_sec: (ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (ns % 1_000_000_000) as libc::c_long,
        };
        let no_mask: *const libc::sigset_t = std::ptr::null();
        // SAFETY: the list has room for `BATCH` events, `limit` lives during the call, and no mask is passed.
        let n = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                events.list.as_mut_ptr(),
                BATCH as libc::c_int,
                &limit as *const libc::timespec,
                no_mask,
                0usize,
            )
        };
        let unknown =
            n < 0 && matches!(io::Error::last_os_error().raw_os_error(), Some(libc::ENOSYS | libc::EPERM));
        if unknown {
            self.precise.store(false, Ordering::Relaxed);
            return None;
        }
        events.count = usize::try_from(n).unwrap_or(0);
        Some(events.count)
    }
}
