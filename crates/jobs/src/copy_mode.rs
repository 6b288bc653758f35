//! How a mirror copies, as its user has asked for and as it is.
use api::MirrorCopyMode;
use block::DirtyBitmap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// The mode of a mirror that runs: asked for by its user, taken up by its work, shown to who asks.
pub struct CopyMode {
    /// Writes to the source are to be done on the target too before they are acknowledged.
    write_blocking: AtomicBool,
    /// They are, and nothing is being copied beside them.
    in_step: AtomicBool,
    /// What the target does not hold.
    dirty: Arc<DirtyBitmap>,
}

impl CopyMode {
    /// A mirror begins in this mode; `dirty` is what its target does not hold.
    pub(crate) fn new(mode: MirrorCopyMode, dirty: Arc<DirtyBitmap>) -> Self {
        let this = Self { write_blocking: AtomicBool::new(false), in_step: AtomicBool::new(false), dirty };
        this.ask(mode);
        this
    }

    /// What is asked for.
    pub fn asked(&self) -> MirrorCopyMode {
        match self.write_blocking.load(Acquire) {
            true => MirrorCopyMode::WriteBlocking,
            false => MirrorCopyMode::Background,
        }
    }

    /// Asks for a mode.
    pub(crate) fn ask(&self, mode: MirrorCopyMode) {
        self.write_blocking.store(mode == MirrorCopyMode::WriteBlocking, Release);
    }

    /// Source and target are equal, and stay so as long as no write fails on the target.
    pub fn is_synced(&self) -> bool {
        // In this order: what is dirty no more and being copied is seen by the second.
        self.dirty.is_clean() && self.in_step.load(Acquire)
    }

    /// Whether writes are done on both sides and nothing is being copied: to be taken back before a copy begins.
    pub(crate) fn set_in_step(&self, in_step: bool) {
        self.in_step.store(in_step, Release);
    }
}
