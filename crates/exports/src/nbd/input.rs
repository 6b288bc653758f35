//! Bytes received from a client and not yet taken: one block, used from the front.
//!
//! ```text
//! │ taken │ start ─ window ─ end │ room ▷ next recv │
//! ```
//!
//! An empty input holds no block.

use rt::BufMut;

/// Bytes of the block. A full pipeline of 32 writes of 4 KiB fits with room to spare; a write that does not fit
/// gets a buffer of its own.
pub(super) const BLOCK: usize = 256 << 10;
/// Below this much room the window moves to the front before more is received.
const LEAST_ROOM: usize = 4 << 10;

#[derive(Default)]
pub(super) struct Input {
    block: Option<BufMut>,
    start: usize,
    end: usize,
}

impl Input {
    /// What has been received and not taken.
    pub fn window(&self) -> &[u8] {
        self.block.as_ref().and_then(|block| block.get(self.start..self.end)).unwrap_or_default()
    }

    /// Takes `n` bytes off the front.
    pub fn take(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Where to receive to. `wanted`: bytes the window needs to have in all before anything can be taken.
    pub fn room(&mut self, wanted: usize) -> &mut [u8] {
        let block = self.block.get_or_insert_with(|| BufMut::with_len(BLOCK));
        let room = block.len() - self.end;
        if self.start > 0 && (room < LEAST_ROOM || self.start + wanted > block.len()) {
            block.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        block.get_mut(self.end..).unwrap_or_default()
    }

    /// `n` bytes have been received to [`Input::room`].
    pub fn received(&mut self, n: usize) {
        self.end += n;
    }

    /// Gives the block back if there is nothing in it.
    pub fn rest(&mut self) {
        if self.start == self.end {
            self.block = None;
        }
    }
}
