//! The handle behind which a worker is found: one trait, kept per thread.
//!
//! Real workers and the simulator implement [`Worker`]; everything else in this crate that needs "the worker I am
//! on" goes through [`current`]. A thread of a pool carries the handle of whoever gave it the job, so that code
//! there may spawn and read the clock too.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

pub use async_task::Runnable;

use crate::file::{File, FileStat, OpenOptions};
use crate::{BoxFuture, sys};

/// Where a task is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The control worker: monitor, graph task, job control.
    Control,
    /// The data worker of this number, modulo [`worker_count`].
    Worker(usize),
    /// The data worker that has the fewest live tasks placed with [`spawn_on`](crate::spawn_on).
    LeastLoaded,
}

/// Which bounded pool runs a synchronous function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// For calls that wait: open, locks, name resolution.
    Blocking,
    /// For calls that compute: codecs, key derivation; as many threads as cores.
    Compute,
}

/// One worker as its tasks see it: scheduler, clock, file system, randomness and pools.
pub trait Worker: Send + Sync + 'static {
    /// Queues a task that is ready to run. Called from any thread.
    fn schedule(&self, task: Runnable);

    /// The worker that `target` names, started if need be, and a token that counts as load while it lives.
    fn place(&self, target: Target) -> (Arc<dyn Worker>, Box<dyn Send>);

    /// Number of this data worker; `None` on the control worker.
    fn index(&self) -> Option<usize>;

    /// How many data workers there can be.
    fn worker_count(&self) -> usize;

    /// Name of the engine that does file operations: `io_uring`, `threads`, or the simulator's.
    fn engine_name(&self) -> &'static str;

    /// Monotonic clock in ns.
    fn now_ns(&self) -> u64;

    /// Resolves when the clock has reached `deadline_ns`. Dropping it cancels the wait.
    fn sleep_until(&self, deadline_ns: u64) -> BoxFuture<'static, ()>;

    /// A random number; not for keys.
    fn random_u64(&self) -> u64;

    /// Runs `job` on a bounded pool. It always runs, whoever still waits for it.
    fn run_blocking(&self, pool: Pool, job: Box<dyn FnOnce() + Send>);

    /// Opens a file as [`fs::open`](crate::fs::open) says.
    fn open<'a>(&'a self, path: &'a Path, options: &'a OpenOptions) -> BoxFuture<'a, io::Result<File>>;

    /// Opens a folder of the operating system, for [`Folder`](crate::folder::Folder).
    fn open_folder<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<OwnedFd>>;

    /// What `path` is, links followed.
    fn stat<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<FileStat>>;

    /// Removes a name.
    fn unlink<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<()>>;

    /// Renames `from` to `to`, replacing it.
    fn rename<'a>(&'a self, from: &'a Path, to: &'a Path) -> BoxFuture<'a, io::Result<()>>;

    /// Makes the names in a directory durable.
    fn sync_dir<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, io::Result<()>>;
}

/// Calls of [`cooperate`](crate::cooperate) that a task makes at a stretch before one lets others run.
const BUDGET: u32 = 32;

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Worker>>> = const { RefCell::new(None) };
    /// How many calls of `cooperate` are left.
    static LEFT: Cell<u32> = const { Cell::new(BUDGET) };
}

/// A task begins to run: its budget is whole.
pub(crate) fn refill() {
    LEFT.set(BUDGET);
}

/// Takes one from this thread's budget; true where it was the last one, and the budget is whole again.
pub(crate) fn spend() -> bool {
    LEFT.with(|left| {
        let spent = left.get() <= 1;
        left.set(if spent { BUDGET } else { left.get() - 1 });
        spent
    })
}

/// Puts the previous handle back, also when the function unwinds.
struct Restore(Option<Arc<dyn Worker>>);

impl Drop for Restore {
    fn drop(&mut self) {
        let previous = self.0.take();
        // Dropping a handle may run code of its own: let go of the cell first.
        let ours = CURRENT.with(|slot| std::mem::replace(&mut *slot.borrow_mut(), previous));
        drop(ours);
    }
}

/// Runs `f` with `worker` as this thread's current worker.
pub fn enter<R>(worker: Arc<dyn Worker>, f: impl FnOnce() -> R) -> R {
    let _restore = Restore(CURRENT.with(|slot| slot.borrow_mut().replace(worker)));
    refill();
    f()
}

/// This thread's worker, if it has one.
pub fn current() -> Option<Arc<dyn Worker>> {
    CURRENT.with(|slot| slot.borrow().clone())
}

/// This thread's worker.
///
/// # Panics
/// Outside of a runtime: a mistake in the program, nothing that input can cause.
#[expect(clippy::panic, reason = "calling the runtime outside of it is a programming error")]
pub(crate) fn expect_current() -> Arc<dyn Worker> {
    match current() {
        Some(worker) => worker,
        None => panic!("this function needs a runtime: call it inside block_on_control or a task"),
    }
}

/// How many data workers there can be: min(cores, [`MAX_WORKERS`](crate::MAX_WORKERS)) unless configured.
pub fn worker_count() -> usize {
    expect_current().worker_count()
}

/// Number of the data worker this runs on; `None` on the control worker and outside of a runtime.
pub fn current_worker() -> Option<usize> {
    CURRENT.with(|slot| slot.borrow().as_ref().and_then(|worker| worker.index()))
}

/// Name of the engine that does file operations here: `io_uring`, `threads`, or the simulator's.
pub fn engine_name() -> &'static str {
    expect_current().engine_name()
}

/// A random number, seeded under the simulator; not for keys.
pub fn random_u64() -> u64 {
    match current() {
        Some(worker) => worker.random_u64(),
        None => sys::random_u64(),
    }
}
