//! A worker as its tasks see it: [`Worker`] for the real runtime.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use async_task::Runnable;
use rustix::fs::OFlags;

use crate::blocking::{self, blocking};
use crate::file::{File, FileStat, OpenOptions};
use crate::shared::Shared;
use crate::threads::{self, Job};
use crate::worker::{Pool, Target, Worker};
use crate::{BoxFuture, held, local, osfile, sys};

static BLOCKING: threads::Pool<Call> = threads::Pool::new("rt-blocking", || blocking::MAX_BLOCKING);
static COMPUTE: threads::Pool<Call> = threads::Pool::new("rt-compute", sys::cores);

/// A call for a pool.
struct Call(Box<dyn FnOnce() + Send>);

impl Job for Call {
    fn run(self) {
        // `blocking` passes a panic on to its caller; the thread goes on either way.
        let _ = catch_unwind(AssertUnwindSafe(self.0));
    }
}

/// Counts as load of a worker while it lives.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker for Shared {
    fn schedule(&self, task: Runnable) {
        if let Some(task) = local::try_schedule(self, task) {
            self.push_remote(task);
        }
    }

    fn place(&self, target: Target) -> (Arc<dyn Worker>, Box<dyn Send>) {
        let worker = self.peers.clone().place(target);
        worker.load.fetch_add(1, Ordering::Relaxed);
        let load = Load(worker.load.clone());
        (worker, Box::new(load))
    }

    fn index(&self) -> Option<usize> {
        self.index
    }

    fn worker_count(&self) -> usize {
        self.config.worker_count()
    }

    fn engine_name(&self) -> &'static str {
        self.engine.kind().name()
    }

    fn now_ns(&self) -> u64 {
        sys::now_ns()
    }

    fn sleep_until(&self, deadline_ns: u64) -> BoxFuture<'static, ()> {
        match self.me.upgrade() {
            Some(me) => Box::pin(Sleep::new(me, deadline_ns)),
            None => Box::pin(std::future::ready(())),
        }
    }

    fn random_u64(&self) -> u64 {
        sys::random_u64()
    }

    fn run_blocking(&self, pool: Pool, job: Box<dyn FnOnce() + Send>) {
        match pool {
            Pool::Blocking => BLOCKING.push(Call(job)),
            Pool::Compute => COMPUTE.push(Call(job)),
        }
    }

    fn open<'a>(&'a self, path: &'a Path, options: &'a OpenOptions) -> BoxFuture<'a, io::Result<File>> {
        let (path, options) = (path.to_owned(), *options);
        Box::pin(blocking(move || osfile::open(&path, &options)))
    }

    fn open_folder<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<OwnedFd>> {
        let path = crate::fs::path(path);
        Box::pin(blocking(move || sys::open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, 0)))
    }

    fn stat<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<FileStat>> {
        let path = path.to_owned();
        Box::pin(blocking(move || osfile::stat(&path).map(|stat| osfile::file_stat(&stat))))
    }

    fn unlink<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let path = path.to_owned();
        Box::pin(blocking(move || {
            held::unlink(&path).unwrap_or_else(|| std::fs::remove_file(crate::fs::path(path)))
        }))
    }

    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let (from, to) = (crate::fs::path(from), crate::fs::path(to));
        Box::pin(blocking(move || std::fs::rename(from, to)))
    }

    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let dir = crate::fs::path(dir);
        Box::pin(blocking(move || std::fs::File::open(dir)?.sync_all()))
    }
}

/// A wait until a deadline.
pub(crate) struct Sleep {
    worker: Arc<Shared>,
    deadline: u64,
    id: Option<u64>,
}

impl Sleep {
    pub(crate) fn new(worker: Arc<Shared>, deadline: u64) -> Sleep {
        Sleep { worker, deadline, id: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if sys::now_ns() >= self.deadline {
            return Poll::Ready(());
        }
        let timers = &self.worker.timers;
        // A timer fires when it is due and not before, but `fire` may use a clock read that is a little old: set anew.
        if !self.id.is_some_and(|id| timers.update(self.deadline, id, cx.waker())) {
            let (id, earliest) = timers.set(self.deadline, cx.waker());
            self.id = Some(id);
            if earliest {
                self.worker.notify();
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.worker.timers.cancel(self.deadline, id);
        }
    }
}
