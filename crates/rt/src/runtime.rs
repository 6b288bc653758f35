//! A runtime: one control worker, data workers started at first use, and the choice of engine.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::config::{Config, Engine};
use crate::engine::EngineChoice;
use crate::ring::Ring;
use crate::shared::{Peers, Shared};
use crate::worker::Target;
use crate::{local, sys};

/// A started data worker.
struct Started {
    shared: Arc<Shared>,
    thread: thread::JoinHandle<()>,
}

/// A runtime's workers.
struct Inner {
    config: Config,
    engine: Arc<EngineChoice>,
    /// `None` once the runtime has ended: it breaks the cycle of references with the workers.
    control: Mutex<Option<Arc<Shared>>>,
    data: Mutex<Vec<Option<Started>>>,
}

impl Peers for Inner {
    fn place(self: Arc<Self>, target: Target) -> Arc<Shared> {
        let started = match target {
            Target::Control => None,
            Target::Worker(index) => self.data_worker(index % self.config.worker_count()),
            Target::LeastLoaded => self.data_worker(self.least_loaded()),
        };
        match started.or_else(|| self.control.lock().clone()) {
            Some(worker) => worker,
            // Tasks exist only inside of `block_on`, which has set the control worker.
            None => unreachable!("a task is placed outside of a runtime"),
        }
    }
}

impl Inner {
    fn shared(self: &Arc<Inner>, index: Option<usize>) -> io::Result<Arc<Shared>> {
        Shared::new(index, self.config, self.engine.clone(), self.clone())
    }

    fn least_loaded(&self) -> usize {
        let data = self.data.lock();
        let load = |index: &usize| match data.get(*index) {
            Some(Some(started)) => started.shared.load.load(Ordering::Relaxed),
            _ => 0,
        };
        (0..self.config.worker_count()).min_by_key(load).unwrap_or(0)
    }

    fn data_worker(self: &Arc<Inner>, index: usize) -> Option<Arc<Shared>> {
        let mut data = self.data.lock();
        if data.len() <= index {
            data.resize_with(index + 1, || None);
        }
        let slot = data.get_mut(index)?;
        if let Some(started) = slot {
            return Some(started.shared.clone());
        }
        match start(index, self) {
            Ok(started) => Some(slot.insert(started).shared.clone()),
            Err(error) => {
                tracing::warn!(%error, worker = index, "a worker could not be started; the control worker takes its tasks");
                None
            }
        }
    }
}

fn start(index: usize, inner: &Arc<Inner>) -> io::Result<Started> {
    let shared = inner.shared(Some(index))?;
    let theirs = shared.clone();
    let builder = thread::Builder::new().name(format!("rt-worker-{index}"));
    let thread = builder.spawn(move || local::run_worker(theirs))?;
    Ok(Started { shared, thread })
}

/// A runtime. Programs have one, through [`block_on_control`]; tests make several.
pub struct Runtime {
    inner: Arc<Inner>,
    control: Arc<Shared>,
    busy: AtomicBool,
}

impl Runtime {
    /// A runtime with no thread of its own yet.
    ///
    /// # Errors
    /// The system's, when descriptors or memory are short, or when [`Engine::Ring`] is asked for and not available.
    pub fn new(config: Config) -> io::Result<Runtime> {
        if config.engine == Engine::Ring {
            Ring::new().map_err(|error| {
                let text = format!("io_uring is not available here ({error}); choose the threads engine");
                io::Error::new(io::ErrorKind::Unsupported, text)
            })?;
        }
        let inner = Arc::new(Inner {
            config,
            engine: Arc::new(EngineChoice::new(config.engine)),
            control: Mutex::new(None),
            data: Mutex::new(Vec::new()),
        });
        let control = inner.shared(None)?;
        *inner.control.lock() = Some(control.clone());
        Ok(Runtime { inner, control, busy: AtomicBool::new(false) })
    }

    /// Makes this thread the control worker until `future` has its answer. Tasks that are left then
    /// never run again on this thread; file operations that were begun are completed.
    ///
    /// # Panics
    /// When another thread does the same: a runtime has one control worker.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        assert!(!self.busy.swap(true, Ordering::SeqCst), "this runtime has a control worker already");
        let busy = Busy(&self.busy);
        let answer = local::block_on(&self.control, future);
        drop(busy);
        answer
    }
}

struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let started: Vec<_> = self.inner.data.lock().drain(..).flatten().collect();
        for worker in &started {
            worker.shared.stop.store(true, Ordering::SeqCst);
            worker.shared.notify();
        }
        *self.inner.control.lock() = None;
        for worker in started {
            // A worker's thread contains the panics of its tasks: one of its own was reported by the panic hook.
            let _ = worker.thread.join();
        }
    }
}

static CONFIG: Mutex<Option<Config>> = Mutex::new(None);
static STARTED: AtomicBool = AtomicBool::new(false);

/// Settles how [`block_on_control`] runs. Call it before.
///
/// # Errors
/// When a runtime runs already, or what is asked for is not available.
pub fn configure(config: Config) -> io::Result<()> {
    if STARTED.load(Ordering::SeqCst) {
        return Err(io::Error::other("the runtime is configured before it starts"));
    }
    if config.engine == Engine::Ring {
        Runtime::new(config)?;
    }
    *CONFIG.lock() = Some(config);
    Ok(())
}

/// Runs the program: this thread is the control worker until `future` has its answer.
///
/// # Panics
/// When the process has no descriptor left for the runtime.
#[expect(clippy::panic, reason = "without descriptors there is no runtime to report it through")]
pub fn block_on_control<F: Future>(future: F) -> F::Output {
    STARTED.store(true, Ordering::SeqCst);
    sys::bound_heaps();
    let config = CONFIG.lock().unwrap_or_default();
    match Runtime::new(config) {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => panic!("the runtime can't start: {error}; raise the limit of open files"),
    }
}
