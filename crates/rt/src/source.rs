//! A descriptor that a worker watches, and waiting for its readiness: one waiter for each direction.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use crate::local;
use crate::shared::Shared;
use crate::sources::{Direction, READ, Readiness};

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
        let readiness = Arc::new(Readiness::new(fd.as_raw_fd()));
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
                if let Err(error) = self.readiness.watch_room(&home.worker.epoll, home.token) {
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
        self.readiness.close();
        if let Some(Some(home)) = self.home.get() {
            home.worker.epoll.remove(self.fd.as_raw_fd());
            home.worker.sources.remove(home.token);
        }
    }
}
