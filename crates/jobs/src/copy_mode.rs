//! How a mirror copies, as its user has asked for and as it is.
use api::MirrorCopyMode;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// The mode of a mirror that runs: asked for by its user, taken up by its work, shown to who asks.
#[derive(Debug, Default)]
pub struct CopyMode {
    /// Writes to the source are to be done on the target too before they are acknowledged.
    write_blocking: AtomicBool,
    /// They are, and both ends have been equal since.
    synced: AtomicBool,
}

impl CopyMode {
    /// A mirror begins in this mode.
    pub fn new(mode: MirrorCopyMode) -> Self {
        let this = Self::default();
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

    /// Source and target are equal, and stay so.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Relaxed)
    }

    pub(crate) fn set_synced(&self, synced: bool) {
        self.synced.store(synced, Relaxed);
    }
}
