//! Whether an image may be written to, and what its header must say before it is.
//!
//! ```text
//!  read-only ─allow─▶ writable ─first write: {header} · flush─▶ ready ─▶ data and tables
//! ```
//!
//! Law: before the first write after an image was opened, its header says durably what others must know of an image that
//! is being written: a dirty or in-use mark, and that what this program does not maintain beside the data (bitmaps,
//! unknown features) is out of date.
use crate::error::{BlockError, ErrorKind, Result};
use futures_util::lock::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicBool, Ordering::*};

/// The access to an image, and its header's turn.
#[derive(Default)]
pub struct Access {
    writable: AtomicBool,
    ready: AtomicBool,
    header: Mutex<()>,
}

/// The right to change the header.
pub type HeaderTurn<'a> = MutexGuard<'a, ()>;

impl Access {
    /// Whether changes are allowed.
    pub fn writable(&self) -> bool {
        self.writable.load(Acquire)
    }

    /// Whether the header says what it must say before a write. One atomic load, for inline writes.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Acquire)
    }

    /// Allows changes; `ready`: the header says already what it must.
    pub fn allow(&self, ready: bool) {
        self.ready.store(ready, Release);
        self.writable.store(true, Release);
    }

    /// Allows no changes from now on.
    pub fn forbid(&self) {
        self.writable.store(false, Release);
        self.ready.store(false, Release);
    }

    /// The header must be looked at again before the next write.
    pub fn unready(&self) {
        self.ready.store(false, Release);
    }

    /// Waits until nobody else changes the header.
    pub async fn header_turn(&self) -> HeaderTurn<'_> {
        self.header.lock().await
    }

    /// Whether a write must make the header ready before it goes on ([`Access::make_ready`]); refuses it where no changes
    /// are allowed.
    pub fn needs_header(&self) -> Result<bool> {
        if self.is_ready() {
            return Ok(false);
        }
        if self.writable() {
            return Ok(true);
        }
        Err(BlockError::new(ErrorKind::ReadOnly, "the image is not open for writing"))
    }

    /// Runs `step`, once for all who wait for it: it stores the header, durably, in the header's turn.
    pub async fn make_ready<S: Future<Output = Result<()>>>(&self, step: impl FnOnce() -> S) -> Result<()> {
        let _turn = self.header_turn().await;
        if !self.is_ready() {
            step().await?;
            self.ready.store(true, Release);
        }
        Ok(())
    }
}
