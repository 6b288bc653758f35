//! Pools of threads that grow with the work and end when there is none.
//!
//! ```text
//!   workers ──batch──▶ queue ──▶ thread 1 … thread max     a thread that takes a job wakes the next while jobs wait
//! ```
//!
//! Bounds: `max` threads; one idle for [`IDLE`] ends. The queue is bounded by the requests in flight above.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long a thread waits for the next job before it ends.
const IDLE: Duration = Duration::from_secs(5);

/// Something for a pool to do. It must not panic: a panic would end the thread.
pub(crate) trait Job: Send + 'static {
    /// Does it.
    fn run(self);
}

struct State<J> {
    jobs: VecDeque<J>,
    threads: usize,
    idle: usize,
    /// A thread was woken or started and has not reached the queue yet. Only one at a time: while jobs are short, threads
    /// that are awake do them.
    waking: bool,
}

impl<J> Default for State<J> {
    fn default() -> Self {
        Self { jobs: VecDeque::new(), threads: 0, idle: 0, waking: false }
    }
}

/// A bounded pool for one kind of job.
pub(crate) struct Pool<J> {
    name: &'static str,
    max: fn() -> usize,
    state: Mutex<Option<State<J>>>,
    wake: Condvar,
    refused: AtomicBool,
}

impl<J: Job> Pool<J> {
    pub(crate) const fn new(name: &'static str, max: fn() -> usize) -> Self {
        Self { name, max, state: Mutex::new(None), wake: Condvar::new(), refused: AtomicBool::new(false) }
    }

    /// Queues one job.
    pub(crate) fn push(&'static self, job: J) {
        self.push_all([job]);
    }

    /// Queues jobs under one lock, and wakes one thread for all of them: it wakes the next.
    pub(crate) fn push_all(&'static self, jobs: impl IntoIterator<Item = J>) {
        let mut guard = self.state.lock();
        let state = guard.get_or_insert_default();
        state.jobs.extend(jobs);
        let start = self.recruit(state);
        drop(guard);
        if start {
            self.start();
        }
    }

    /// Wakes an idle thread, or says that one must be started (it is counted already).
    fn recruit(&self, state: &mut State<J>) -> bool {
        if state.jobs.is_empty() || state.waking {
            return false;
        }
        if state.idle > 0 {
            // If nobody was woken, the idle thread is just timing out: it looks at the queue before it ends.
            if self.wake.notify_one() {
                state.idle -= 1;
                state.waking = true;
            }
            return false;
        }
        let start = state.threads < (self.max)();
        state.threads += usize::from(start);
        state.waking = start;
        start
    }

    fn start(&'static self) {
        let Err(error) = std::thread::Builder::new().name(self.name.to_owned()).spawn(|| self.work()) else {
            return;
        };
        if !self.refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(pool = self.name, %error, "no thread could be started; the pool works with those it has");
        }
        let mut guard = self.state.lock();
        let state = guard.get_or_insert_default();
        state.threads -= 1;
        state.waking = false;
        if state.threads > 0 {
            // One of them may have become idle meanwhile, and was not woken for jobs that came since.
            if state.idle > 0 {
                self.recruit(state);
            }
            return;
        }
        // No thread will ever do these jobs: do them here, although the caller has to wait.
        let jobs = std::mem::take(&mut state.jobs);
        drop(guard);
        jobs.into_iter().for_each(J::run);
    }

    fn work(&'static self) {
        let mut woken = true;
        while let Some(job) = self.next(woken) {
            job.run();
            woken = false;
        }
    }

    /// The next job; `None` when this thread, no longer counted, has to end. `woken`: `State::waking` stands for it.
    fn next(&'static self, mut woken: bool) -> Option<J> {
        let mut guard = self.state.lock();
        loop {
            let state = guard.get_or_insert_default();
            if woken {
                state.waking = false;
            }
            if let Some(job) = state.jobs.pop_front() {
                let start = self.recruit(state);
                drop(guard);
                if start {
                    self.start();
                }
                return Some(job);
            }
            state.idle += 1;
            woken = !self.wake.wait_for(&mut guard, IDLE).timed_out();
            let state = guard.get_or_insert_default();
            if woken {
                continue;
            }
            state.idle -= 1;
            if state.jobs.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}
