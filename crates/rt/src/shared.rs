//! A worker as other threads see it: the way in for tasks, its eventfd, epoll set, timers and sources.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Weak};
use std::task::Wake;

use async_task::Runnable;
use parking_lot::Mutex;

use crate::blocking::{self, blocking};
use crate::epoll::{Epoll, WAKE};
use crate::file::{File, FileStat};
use crate::fs::OpenOptions;
use crate::runtime::Inner;
use crate::source::Sources;
use crate::threads::{self, Job};
use crate::timers::{Sleep, Timers};
use crate::worker::{Pool, Target, Worker};
use crate::{BoxFuture, local, osfile, sys};

static BLOCKING: threads::Pool = threads::Pool::new("rt-blocking", || blocking::MAX_BLOCKING);
static COMPUTE: threads::Pool = threads::Pool::new("rt-compute", sys::cores);

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const NOTIFIED: u8 = 2;

pub(crate) struct Shared {
    me: Weak<Shared>,
    pub(crate) index: Option<usize>,
    pub(crate) runtime: Arc<Inner>,
    remote: Mutex<Vec<Runnable>>,
    /// There is something for the worker to look at: `remote` or a flag below.
    pending: AtomicBool,
    sleep: AtomicU8,
    wake: OwnedFd,
    pub(crate) epoll: Epoll,
    pub(crate) timers: Timers,
    pub(crate) sources: Sources,
    /// The future that `block_on` waits for is to be polled.
    pub(crate) main_woken: AtomicBool,
    pub(crate) stop: AtomicBool,
    /// File operations in flight that this worker began.
    pub(crate) operations: Arc<AtomicUsize>,
    /// Live tasks that were placed here.
    pub(crate) load: Arc<AtomicUsize>,
}

/// Counts as load while it lives.
struct Load(Arc<AtomicUsize>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(crate) fn new(index: Option<usize>, runtime: Arc<Inner>) -> io::Result<Arc<Shared>> {
        let (epoll, wake) = (Epoll::new()?, sys::eventfd()?);
        epoll.add(wake.as_raw_fd(), libc::EPOLLIN, WAKE)?;
        Ok(Arc::new_cyclic(|me| Shared {
            me: me.clone(),
            index,
            runtime,
            remote: Mutex::new(Vec::new()),
            pending: AtomicBool::new(false),
            sleep: AtomicU8::new(AWAKE),
            wake,
            epoll,
            timers: Timers::new(),
            sources: Sources::default(),
            main_woken: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            operations: Arc::new(AtomicUsize::new(0)),
            load: Arc::new(AtomicUsize::new(0)),
        }))
    }

    /// Makes the worker look: from any thread, also its own.
    pub(crate) fn notify(&self) {
        self.pending.store(true, Ordering::SeqCst);
        if self.sleep.load(Ordering::SeqCst) == ASLEEP
            && self.sleep.swap(NOTIFIED, Ordering::SeqCst) == ASLEEP
        {
            sys::signal_eventfd(self.wake.as_raw_fd());
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// Takes the tasks that other threads made ready. `tasks` is empty, and keeps its memory.
    pub(crate) fn take_remote(&self, tasks: &mut Vec<Runnable>) {
        if self.pending.swap(false, Ordering::SeqCst) {
            std::mem::swap(tasks, &mut *self.remote.lock());
        }
    }

    /// Says that the worker is about to sleep; `false` when it must not, as something came in.
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.sleep.store(ASLEEP, Ordering::SeqCst);
        // Pairs with `notify`: either it sees us asleep, or we see what it left.
        fence(Ordering::SeqCst);
        // `stop` is looked at too: its notification may have been taken by a turn that did not look at it.
        let sleepy = !self.pending.load(Ordering::SeqCst) && !self.stop.load(Ordering::SeqCst);
        if !sleepy {
            self.wake_up();
        }
        sleepy
    }

    pub(crate) fn wake_up(&self) {
        self.sleep.store(AWAKE, Ordering::SeqCst);
    }
}

impl Worker for Shared {
    fn schedule(&self, task: Runnable) {
        if let Some(task) = local::try_schedule(self, task) {
            self.remote.lock().push(task);
            self.notify();
        }
    }

    fn place(&self, target: Target) -> (Arc<dyn Worker>, Box<dyn Send>) {
        let worker = self.runtime.place(target);
        worker.load.fetch_add(1, Ordering::Relaxed);
        let load = Load(worker.load.clone());
        (worker, Box::new(load))
    }

    fn index(&self) -> Option<usize> {
        self.index
    }

    fn worker_count(&self) -> usize {
        self.runtime.worker_count()
    }

    fn engine_name(&self) -> &'static str {
        self.runtime.engine().name()
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
            Pool::Blocking => BLOCKING.push(Job::Call(job)),
            Pool::Compute => COMPUTE.push(Job::Call(job)),
        }
    }

    fn open<'a>(&'a self, path: &'a Path, options: &'a OpenOptions) -> BoxFuture<'a, io::Result<File>> {
        let (path, options) = (path.to_owned(), *options);
        Box::pin(blocking(move || osfile::open(&path, &options)))
    }

    fn stat<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<FileStat>> {
        let path = path.to_owned();
        Box::pin(blocking(move || sys::stat(&path).map(|stat| osfile::file_stat(&stat))))
    }

    fn unlink<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>> {
        let path = crate::fs::path(path);
        Box::pin(blocking(move || std::fs::remove_file(path)))
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

/// Wakes the future that `block_on` waits for.
pub(crate) struct MainWaker(pub(crate) Arc<Shared>);

impl Wake for MainWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.main_woken.store(true, Ordering::SeqCst);
        self.0.notify();
    }
}
