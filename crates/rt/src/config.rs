//! What is settled before a runtime starts: the engine, the workers, the polling.

use crate::sys;

/// Most data workers a runtime has by itself.
pub const MAX_WORKERS: usize = 4;
/// Most data workers that may be asked for.
const MOST_CONFIGURED: usize = 256;

/// Which engine does file operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// io_uring where the system allows it, else threads.
    #[default]
    Auto,
    /// io_uring; an error where the system does not allow it.
    Ring,
    /// A pool of threads.
    Threads,
}

/// What is settled before a runtime starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which engine does file operations.
    pub engine: Engine,
    /// Number of data workers; min(cores, [`MAX_WORKERS`]) where it is `None`.
    pub workers: Option<usize>,
    /// Longest polling before a worker sleeps, in ns; 0 for none.
    pub poll_max_ns: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config { engine: Engine::Auto, workers: None, poll_max_ns: 50_000 }
    }
}

impl Config {
    /// Number of data workers.
    pub(crate) fn worker_count(&self) -> usize {
        let own = || sys::cores().min(MAX_WORKERS);
        self.workers.unwrap_or_else(own).clamp(1, MOST_CONFIGURED)
    }
}
