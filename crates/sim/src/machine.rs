//! The machine as a test holds it: boot, run, crash, boot again.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Once};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::disk::Disk;
use crate::fault::{OpKind, Plant};
use crate::rng::Rng;
use crate::worker::SimWorker;
use crate::world::{Config, Inner, Shared, Step, Watch};

/// A simulated machine. Dropping it ends its world.
pub struct Sim {
    world: World,
}

/// A handle to the world, for tests that inspect or change it while it runs.
#[derive(Clone)]
pub struct World(Arc<Shared>);

/// Why a run did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// A task panicked. Its message went where those of panics go.
    Panic,
    /// Nothing is ready and nothing is due.
    Deadlock,
    /// It is not at rest after so many steps.
    Endless(u64),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stuck::Panic => f.write_str("a task panicked (its message is above)"),
            Stuck::Deadlock => f.write_str("deadlock: nothing is ready, nothing is due"),
            Stuck::Endless(steps) => write!(f, "still not at rest after {steps} steps"),
        }
    }
}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// The runtime contains the panics of tasks; a simulation must not: it counts them.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.with(|count| count.set(count.get() + 1));
            previous(info);
        }));
    });
}

impl Sim {
    /// A machine with an empty disk.
    pub fn new(seed: u64) -> Sim {
        Sim::boot(Config::seeded(seed), Disk::default())
    }

    /// A machine with this disk.
    pub fn boot(config: Config, disk: Disk) -> Sim {
        count_panics();
        Sim { world: World(Arc::new(Shared(Mutex::new(Inner::new(config, disk))))) }
    }

    /// The world, to inspect and change.
    pub fn world(&self) -> &World {
        &self.world
    }

    fn worker(&self, index: Option<usize>) -> Arc<SimWorker> {
        Arc::new(SimWorker { shared: self.world.0.clone(), index })
    }

    /// Runs `future` on the control worker until it ends. Other tasks stay as they are then.
    ///
    /// # Panics
    /// Where [`try_run`](Sim::try_run) says that it is stuck.
    #[expect(clippy::panic, reason = "a failed simulation is a failed test")]
    pub fn run<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> T {
        match self.try_run(future) {
            Ok(value) => value,
            Err(stuck) => panic!("{}{stuck}", self.world.describe()),
        }
    }

    /// Runs `future` on the control worker until it ends. Other tasks stay as they are then.
    ///
    /// # Errors
    /// When it panics or any task does, when nothing can go on, and after the configured number of steps.
    pub fn try_run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Stuck> {
        let mut root = Box::pin(rt::enter(self.worker(None), || rt::spawn(future)));
        self.drive(|| root.is_finished(), true)?;
        match root.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(value)) => Ok(value),
            Poll::Ready(Err(_)) | Poll::Pending => Err(Stuck::Panic),
        }
    }

    /// Runs until no task is ready and nothing is due: all background work has ended or waits for ever.
    ///
    /// # Panics
    /// When a task does, and after the configured number of steps.
    #[expect(clippy::panic, reason = "a failed simulation is a failed test")]
    pub fn settle(&self) {
        if let Err(stuck) = self.try_settle() {
            panic!("{}{stuck}", self.world.describe());
        }
    }

    /// Runs until no task is ready and nothing is due: all background work has ended or waits for ever.
    ///
    /// # Errors
    /// When a task panics, and after the configured number of steps.
    pub fn try_settle(&self) -> Result<(), Stuck> {
        self.drive(|| false, false)
    }

    fn drive(&self, done: impl Fn() -> bool, must_end: bool) -> Result<(), Stuck> {
        let panics = PANICS.with(Cell::get);
        let most = self.world.0.0.lock().config.max_steps;
        for _ in 0..most {
            if PANICS.with(Cell::get) != panics {
                return Err(Stuck::Panic);
            }
            if done() {
                return Ok(());
            }
            let step = self.world.0.0.lock().step();
            match step {
                Step::Task(worker, task) => {
                    rt::enter(self.worker(worker), || task.run());
                }
                Step::Job(worker, job) => rt::enter(self.worker(worker), job),
                Step::Event(waker) => waker.into_iter().for_each(Waker::wake),
                Step::Nothing if must_end => return Err(Stuck::Deadlock),
                Step::Nothing => return Ok(()),
            }
        }
        Err(Stuck::Endless(most))
    }

    /// Power is cut now: the next world has what was durable and a part of the rest.
    pub fn power_cut(self) -> Sim {
        let (config, disk) = {
            let mut inner = self.world.0.0.lock();
            let mut rng = inner.rng.fork();
            let seed = rng.next_u64();
            (Config { seed, ..inner.config }, inner.disk.power_cut(&mut rng))
        };
        drop(self);
        Sim::boot(config, disk)
    }

    /// The process is killed now: the next world has the page cache.
    pub fn kill(self) -> Sim {
        let (config, disk) = {
            let mut inner = self.world.0.0.lock();
            let mut rng = inner.rng.fork();
            let seed = rng.next_u64();
            (Config { seed, ..inner.config }, inner.disk.kill(&mut rng))
        };
        drop(self);
        Sim::boot(config, disk)
    }

    /// Ends the world's tasks: each is dropped where it waits.
    fn end(&self) {
        let (tasks, held) = self.world.0.0.lock().die();
        drop(held);
        tasks.into_iter().for_each(Waker::wake);
        loop {
            let ready = self.world.0.0.lock().take_ready();
            if ready.is_empty() {
                return;
            }
            for (worker, task) in ready {
                rt::enter(self.worker(worker), || drop(task));
            }
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.end();
    }
}

impl World {
    /// Virtual time in ns.
    pub fn now_ns(&self) -> u64 {
        self.0.0.lock().now
    }

    /// A new moment's number: larger than that of all that happened before, smaller than of all that comes.
    pub fn stamp(&self) -> u64 {
        self.0.0.lock().stamp()
    }

    /// A random number of the world's.
    pub fn choose(&self, n: u64) -> u64 {
        self.0.0.lock().rng.below(n)
    }

    /// The disk as it is now.
    pub fn disk(&self) -> Disk {
        self.0.0.lock().disk.clone()
    }

    /// Puts a durable file in place.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.0.0.lock().disk.put(path, bytes);
    }

    /// Plants a fault.
    pub fn plant(&self, plant: Plant) {
        self.0.0.lock().plant(plant);
    }

    /// Removes all planted faults.
    pub fn unplant(&self) {
        self.0.0.lock().unplant();
    }

    /// How many operations of a kind there were; of all kinds for `None`.
    pub fn count(&self, kind: Option<OpKind>) -> u64 {
        self.0.0.lock().count(kind)
    }

    /// Calls `watch` under the world's lock whenever the disk has changed, or no longer for `None`.
    pub fn watch(&self, watch: Option<Watch>) {
        self.0.0.lock().set_watch(watch);
    }

    /// Calls `watch` under the world's lock right before a sync takes effect, or no longer for `None`: more may be lost then
    /// than at any moment since the sync before.
    pub fn watch_syncs(&self, watch: Option<Watch>) {
        self.0.0.lock().set_watch_syncs(watch);
    }

    /// Leaves room in the file system for so many bytes more than the files take now: what would store more fails with
    /// ENOSPC. `None` is unlimited room.
    pub fn limit_room(&self, more: Option<u64>) {
        let mut inner = self.0.0.lock();
        let taken = inner.disk.allocated();
        inner.set_room(more.map(|more| taken.saturating_add(more)));
    }

    /// Whether an operation failed because there was no room.
    pub fn lacked_room(&self) -> bool {
        self.0.0.lock().lacked_room()
    }

    /// A hash over everything that happened.
    pub fn hash(&self) -> u64 {
        self.0.0.lock().hash()
    }

    /// The last things that happened, a line each.
    pub fn log(&self) -> Vec<String> {
        self.0.0.lock().log()
    }

    fn describe(&self) -> String {
        let inner = self.0.0.lock();
        let (seed, now, moment) = (inner.config.seed, inner.now, inner.moment());
        format!("simulated world of seed {seed}, at {} µs, moment {moment}: ", now / 1000)
    }

    /// A generator of choices, forked from the world's.
    pub fn rng(&self) -> Rng {
        self.0.0.lock().rng.fork()
    }
}
