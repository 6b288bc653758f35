//! The part of a worker that only its own thread touches: run queue, engine, and the loop.
//!
//! ```text
//!   turn:  ready tasks (at most 64, until one yields) ─▶ submit ─▶ reap ─▶ due timers ─▶ remote queue ─▶ epoll
//!   idle:  poll for a bounded time (see `polling`) ─▶ sleep in epoll until an event, a wake-up or a deadline
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use async_task::Runnable;

use crate::engine::EngineKind;
use crate::epoll::{Events, RING, WAKE};
use crate::op::{FILES, InFlight, Op};
use crate::polling::{GAP_NS, Permit, Polling};
use crate::ring::Ring;
use crate::shared::{MainWaker, Shared};
use crate::timers::NEVER;
use crate::worker::refill;
use crate::{enter, sys};

/// Most tasks run before sockets, timers and other threads' wake-ups are looked at again.
const TURN: usize = 64;
/// How long a stopping worker waits for operations in flight.
const LAST_OPERATIONS_NS: u64 = 10_000_000_000;

/// How this worker does file operations.
enum Engine {
    /// Not needed so far.
    Unset,
    Ring(Box<Ring>),
    /// Operations of this turn, handed to the pool at its end.
    Threads(Vec<Arc<Op>>),
}

pub(crate) struct Local {
    shared: Arc<Shared>,
    queue: RefCell<VecDeque<Runnable>>,
    engine: RefCell<Engine>,
    polling: RefCell<Polling>,
    events: RefCell<Events>,
    remote: RefCell<Vec<Runnable>>,
    /// A task has yielded: sockets and timers are looked at before the next task runs.
    yielded: Cell<bool>,
    /// When this worker went to sleep last.
    slept_ns: Cell<u64>,
}

thread_local! {
    static LOCAL: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

fn current() -> Option<Rc<Local>> {
    LOCAL.try_with(|local| local.borrow().clone()).ok().flatten()
}

/// The worker whose thread this is.
pub(crate) fn shared() -> Option<Arc<Shared>> {
    current().map(|local| local.shared.clone())
}

/// Queues a task if this is the thread of `worker`; else gives it back.
pub(crate) fn try_schedule(worker: &Shared, task: Runnable) -> Option<Runnable> {
    let mut task = Some(task);
    let _ = LOCAL.try_with(|local| {
        if let Some(local) = &*local.borrow()
            && std::ptr::eq(&*local.shared, worker)
            && let Some(task) = task.take()
        {
            local.queue.borrow_mut().push_back(task);
        }
    });
    task
}

/// Has this thread's worker look at sockets and timers before it runs another task.
pub(crate) fn end_turn() {
    let _ = LOCAL.try_with(|local| {
        if let Some(local) = &*local.borrow() {
            local.yielded.set(true);
        }
    });
}

/// Gives an operation to this thread's engine; back to the caller where it has none.
pub(crate) fn submit(op: Arc<Op>) -> Result<(), Arc<Op>> {
    match current() {
        Some(local) => {
            local.submit(op);
            Ok(())
        }
        None => Err(op),
    }
}

/// Takes the worker off this thread again, also when the future that it ran for unwinds.
struct Installed {
    local: Rc<Local>,
    /// The worker that this thread was before: only tests nest.
    previous: Option<Rc<Local>>,
}

impl Drop for Installed {
    fn drop(&mut self) {
        self.local.finish();
        LOCAL.with(|slot| *slot.borrow_mut() = self.previous.take());
    }
}

impl Local {
    fn new(shared: Arc<Shared>) -> Rc<Local> {
        let polling = RefCell::new(Polling::new(shared.config.poll_max_ns));
        Rc::new(Local {
            shared,
            queue: RefCell::default(),
            engine: RefCell::new(Engine::Unset),
            polling,
            events: RefCell::new(Events::new()),
            remote: RefCell::default(),
            yielded: Cell::new(false),
            slept_ns: Cell::new(0),
        })
    }

    fn install(shared: Arc<Shared>) -> Installed {
        let local = Local::new(shared);
        let previous = LOCAL.with(|slot| slot.borrow_mut().replace(local.clone()));
        Installed { local, previous }
    }

    fn submit(&self, op: Arc<Op>) {
        op.count(InFlight::new(&self.shared.operations));
        if op.needs_thread() {
            FILES.push(op);
            return;
        }
        let mut engine = self.engine.borrow_mut();
        if let Engine::Unset = *engine {
            *engine = self.choose_engine();
        }
        match &mut *engine {
            Engine::Ring(ring) => ring.push(op),
            Engine::Threads(ops) => ops.push(op),
            Engine::Unset => {}
        }
    }

    fn choose_engine(&self) -> Engine {
        let choice = &self.shared.engine;
        if choice.is_threads() {
            return Engine::Threads(Vec::new());
        }
        let ring = Ring::new().and_then(|ring| {
            self.shared.epoll.add(ring.raw_fd(), libc::EPOLLIN, RING)?;
            Ok(ring)
        });
        match ring {
            Ok(ring) => {
                choice.settle(EngineKind::Ring);
                Engine::Ring(Box::new(ring))
            }
            Err(error) => {
                tracing::info!(%error, "no io_uring here: file operations of this worker go to threads");
                choice.settle(EngineKind::Threads);
                Engine::Threads(Vec::new())
            }
        }
    }

    /// Hands this turn's operations over, and takes those that have ended; how many.
    fn serve_engine(&self) -> usize {
        // Completions wake tasks and drop operations, which may come back here: their wakers only queue, and a drop
        // submits nothing, so the engine may stay borrowed.
        match &mut *self.engine.borrow_mut() {
            Engine::Unset => 0,
            Engine::Ring(ring) => {
                let reaped = ring.reap();
                ring.flush();
                reaped + ring.reap()
            }
            Engine::Threads(ops) => {
                if !ops.is_empty() {
                    FILES.push_all(ops.drain(..));
                }
                0
            }
        }
    }

    fn engine_is_urgent(&self) -> bool {
        matches!(&*self.engine.borrow(), Engine::Ring(ring) if ring.is_urgent())
    }

    fn has_ready(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    /// Runs ready tasks, and everything that makes others ready and costs no system call.
    fn turn(&self) {
        for _ in 0..TURN {
            let Some(task) = self.queue.borrow_mut().pop_front() else { break };
            refill();
            task.run();
            if self.yielded.take() {
                break;
            }
        }
        self.serve_engine();
        if self.shared.timers.next() != NEVER {
            self.shared.timers.fire(sys::now_ns());
        }
        self.take_remote();
    }

    fn take_remote(&self) {
        if !self.shared.is_pending() {
            return;
        }
        let mut tasks = self.remote.take();
        self.shared.take_remote(&mut tasks);
        self.queue.borrow_mut().extend(tasks.drain(..));
        self.remote.replace(tasks);
    }

    /// Whether there is something to do at once. `turn` has cleared `pending`, so each flag that it stands for is looked at
    /// here.
    fn has_work(&self) -> bool {
        let flag = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        self.has_ready() || flag(&self.shared.main_woken) || flag(&self.shared.stop)
    }

    /// Looks at sockets and timers; if nothing is ready, waits.
    fn look(&self) {
        if self.has_work() || self.engine_is_urgent() {
            self.poll_sockets();
            return;
        }
        if self.poll_for_a_while() {
            return;
        }
        self.sleep();
    }

    fn poll_sockets(&self) -> usize {
        let count = self.shared.epoll.poll(&mut self.events.borrow_mut());
        self.dispatch(count);
        count
    }

    /// Polls as long as `polling` allows; whether it found something.
    fn poll_for_a_while(&self) -> bool {
        let start = sys::now_ns();
        // A file operation in flight may need this core, for the kernel's threads or the pool's.
        if self.operations_in_flight() {
            return false;
        }
        let Some(budget) = self.polling.borrow().budget(start) else { return false };
        let Some(_permit) = Permit::take() else { return false };
        let deadline = self.shared.timers.next();
        let mut last = start;
        loop {
            let found = self.poll_sockets() > 0 || self.shared.is_pending() || self.serve_engine() > 0;
            if found {
                let mut polling = self.polling.borrow_mut();
                polling.hit();
                polling.resumed(sys::now_ns());
                return true;
            }
            let now = sys::now_ns();
            if now - last > GAP_NS {
                self.polling.borrow_mut().crowded(now);
                return false;
            }
            if now >= deadline {
                return true;
            }
            if now - start >= budget {
                self.polling.borrow_mut().missed();
                return false;
            }
            last = now;
            std::hint::spin_loop();
        }
    }

    fn sleep(&self) {
        if !self.shared.prepare_sleep() {
            return;
        }
        let start = sys::now_ns();
        self.slept_ns.set(start);
        let timeout = match self.shared.timers.next() {
            NEVER => None,
            deadline => Some(deadline.saturating_sub(start)),
        };
        let count = self.shared.epoll.wait(&mut self.events.borrow_mut(), timeout);
        self.shared.wake_up();
        self.polling.borrow_mut().resumed(sys::now_ns());
        self.dispatch(count);
    }

    /// Marks the sources that have events, and wakes the tasks that wait for them.
    fn dispatch(&self, count: usize) {
        if count == 0 {
            return;
        }
        let mut sockets = false;
        for (token, bits) in self.events.borrow().iter() {
            if token == WAKE || token == RING {
                continue;
            }
            if let Some(readiness) = self.shared.sources.get(token) {
                readiness.event(&self.shared.epoll, token, bits);
                sockets = true;
            }
        }
        if !sockets {
            return;
        }
        let now = sys::now_ns();
        let mut polling = self.polling.borrow_mut();
        polling.served(now);
        let slept = self.slept_ns.replace(0);
        if slept != 0 {
            polling.slept(now - slept);
        }
    }

    fn operations_in_flight(&self) -> bool {
        self.shared.operations.load(Ordering::SeqCst) > 0
    }

    /// Ends the worker: waits for operations in flight, then drops the tasks that are left.
    fn finish(&self) {
        let limit = sys::now_ns().saturating_add(LAST_OPERATIONS_NS);
        self.serve_engine();
        while self.operations_in_flight() && sys::now_ns() < limit {
            self.shared.epoll.wait(&mut self.events.borrow_mut(), Some(1_000_000));
            self.serve_engine();
        }
        loop {
            self.take_remote();
            let Some(task) = self.queue.borrow_mut().pop_front() else { break };
            drop(task);
        }
    }
}

/// Runs a data worker on this thread until it is stopped.
pub(crate) fn run_worker(shared: Arc<Shared>) {
    let installed = Local::install(shared.clone());
    enter(shared.clone(), || {
        while !shared.stop.load(Ordering::Relaxed) {
            installed.local.turn();
            installed.local.look();
        }
        drop(installed);
    });
}

/// Makes this thread the worker `shared` until `future` has its answer.
pub(crate) fn block_on<F: Future>(shared: &Arc<Shared>, future: F) -> F::Output {
    enter(shared.clone(), || {
        let installed = Local::install(shared.clone());
        let waker = Waker::from(Arc::new(MainWaker(shared.clone())));
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!(future);
        shared.main_woken.store(true, Ordering::SeqCst);
        loop {
            if shared.main_woken.swap(false, Ordering::SeqCst)
                && let Poll::Ready(answer) = future.as_mut().poll(&mut cx)
            {
                return answer;
            }
            installed.local.turn();
            installed.local.look();
        }
    })
}
