//! A descriptor that a worker watches, and waiting for its readiness: one waiter for each direction.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::{Mutex, MutexGuard};

use crate::local;
use crate::shared::Shared;
use crate::sources::{Direction, READ, Readiness};

/// Where a source is registered.
enum Home {
    /// Nowhere: it was not waited for yet.
    Nowhere,
    /// Nowhere: epoll does not know such (regular files). It is always ready.
    Unwatched,
    Worker(Arc<Shared>, u64),
}

/// A watched descriptor. It belongs to the worker on which it was first waited for, until it is let go.
pub(crate) struct Source {
    fd: OwnedFd,
    pub(crate) readiness: Arc<Readiness>,
    home: Mutex<Home>,
}

impl Source {
    pub(crate) fn new(fd: OwnedFd) -> Source {
        let readiness = Arc::new(Readiness::new(fd.as_raw_fd()));
        Source { fd, readiness, home: Mutex::new(Home::Nowhere) }
    }

    fn register(&self) -> io::Result<MutexGuard<'_, Home>> {
        let mut home = self.home.lock();
        if let Home::Nowhere = *home {
            let worker = local::shared()
                .ok_or_else(|| io::Error::other("sockets are awaited on a worker's thread only"))?;
            let token = worker.sources.insert(self.readiness.clone());
            *home = match worker.epoll.add(self.fd.as_raw_fd(), READ, token) {
                Ok(()) => Home::Worker(worker, token),
                Err(error) => {
                    worker.sources.remove(token);
                    if error.raw_os_error() != Some(libc::EPERM) {
                        return Err(error);
                    }
                    Home::Unwatched
                }
            };
        }
        Ok(home)
    }

    /// Its worker lets it go: it belongs to the one on which it is waited for next. Whoever waits for it now must do so anew.
    pub(crate) fn let_go(&self) {
        let mut home = self.home.lock();
        if let Home::Worker(worker, token) = &*home {
            worker.epoll.remove(self.fd.as_raw_fd());
            worker.sources.remove(*token);
            self.readiness.forget_room();
            *home = Home::Nowhere;
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>, direction: &Direction, room: bool) -> Poll<io::Result<()>> {
        if direction.is_ready() {
            return Poll::Ready(Ok(()));
        }
        direction.waker.register(cx.waker());
        let registered = self.register().and_then(|home| match &*home {
            Home::Worker(worker, token) if room => self.readiness.watch_room(&worker.epoll, *token),
            Home::Worker(..) => Ok(()),
            Home::Nowhere | Home::Unwatched => {
                direction.set(false);
                Ok(())
            }
        });
        if let Err(error) = registered {
            return Poll::Ready(Err(error));
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
        if let Home::Worker(worker, token) = self.home.get_mut() {
            worker.epoll.remove(self.fd.as_raw_fd());
            worker.sources.remove(*token);
        }
    }
}
