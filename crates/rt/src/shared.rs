//! A worker as other threads see it: the way in for tasks, its eventfd, epoll set, timers and sources.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Weak};
use std::task::Wake;

use async_task::Runnable;
use parking_lot::Mutex;

use crate::config::Config;
use crate::engine::EngineChoice;
use crate::epoll::{Epoll, WAKE};
use crate::sources::Sources;
use crate::sys;
use crate::timers::Timers;
use crate::worker::Target;

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const NOTIFIED: u8 = 2;

/// The other workers of a runtime.
pub(crate) trait Peers: Send + Sync {
    /// The worker that `target` names; the control worker where a thread can't be started.
    fn place(self: Arc<Self>, target: Target) -> Arc<Shared>;
}

pub(crate) struct Shared {
    pub(crate) me: Weak<Shared>,
    pub(crate) index: Option<usize>,
    pub(crate) config: Config,
    pub(crate) engine: Arc<EngineChoice>,
    pub(crate) peers: Arc<dyn Peers>,
    remote: Mutex<Vec<Runnable>>,
    /// `remote` or one of the flags below has changed.
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

impl Shared {
    pub(crate) fn new(
        index: Option<usize>,
        config: Config,
        engine: Arc<EngineChoice>,
        peers: Arc<dyn Peers>,
    ) -> io::Result<Arc<Shared>> {
        let (epoll, wake) = (Epoll::new()?, sys::eventfd()?);
        epoll.add(wake.as_raw_fd(), libc::EPOLLIN, WAKE)?;
        Ok(Arc::new_cyclic(|me| Shared {
            me: me.clone(),
            index,
            config,
            engine,
            peers,
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

    /// Queues a task from another thread.
    pub(crate) fn push_remote(&self, task: Runnable) {
        self.remote.lock().push(task);
        self.notify();
    }

    /// Has the worker look at `remote` and its flags: from any thread, also its own.
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

    /// Announces that the worker is about to sleep; `false` when it must not, as something came in.
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
