//! Which engine does file operations: a ring on each worker, or one pool of threads for all.

use std::sync::OnceLock;

use crate::config::Engine;
use crate::ring::Ring;

/// The engine in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineKind {
    Ring,
    Threads,
}

impl EngineKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            EngineKind::Ring => "io_uring",
            EngineKind::Threads => "threads",
        }
    }
}

/// The engine of a runtime: what was asked for, and what the first worker that needed one found.
pub(crate) struct EngineChoice {
    asked: Engine,
    found: OnceLock<EngineKind>,
}

impl EngineChoice {
    pub(crate) fn new(asked: Engine) -> EngineChoice {
        // What goes through a ring passes no filter of system calls.
        let asked = if crate::held::is_confined() { Engine::Threads } else { asked };
        EngineChoice { asked, found: OnceLock::new() }
    }

    /// The engine; tried out if no operation has shown it so far.
    pub(crate) fn kind(&self) -> EngineKind {
        *self.found.get_or_init(|| match self.asked {
            Engine::Threads => EngineKind::Threads,
            Engine::Ring => EngineKind::Ring,
            Engine::Auto if Ring::new().is_ok() => EngineKind::Ring,
            Engine::Auto => EngineKind::Threads,
        })
    }

    /// Whether it is settled, by choice or experience, that there is no ring.
    pub(crate) fn is_threads(&self) -> bool {
        self.asked == Engine::Threads || self.found.get() == Some(&EngineKind::Threads)
    }

    /// A worker has found out which engine it has; the first one's counts.
    pub(crate) fn settle(&self, kind: EngineKind) {
        let _ = self.found.set(kind);
    }
}
