//! Directories of variable-length entries (snapshots, bitmaps), read piece by piece.
//!
//! Bounds: never more is held than one entry needs and a piece of 64 KiB; the whole is bounded by the caller.
use super::header::HeaderError;
use block::{Node, Result};
use rt::BufMut;
use std::sync::Arc;

/// Bytes of tables that the file need not hold, for they are zeroes.
const MOST_ZEROES: u64 = 4 << 30;

/// Most bytes that all tables which the entries of a directory lead to can have together. No two share one, so that they are
/// never longer than the file; and a file that is made long by holes has no more of them than it holds.
pub(super) fn room_for_tables(file: &Node) -> u64 {
    let held = file.allocated_size().unwrap_or(u64::MAX);
    file.length().min(held.saturating_add(MOST_ZEROES))
}

/// Bytes fetched at a time.
const PIECE: u64 = 64 << 10;

/// A reader of a directory that lies at `start..end` of the file.
pub(super) struct Directory<'a> {
    file: &'a Arc<Node>,
    what: &'static str,
    start: u64,
    end: u64,
    /// Bytes fetched so far and not dropped yet, from file offset `from` on.
    fetched: Vec<u8>,
    from: u64,
    /// Bytes of `fetched` that are taken.
    used: usize,
}

impl<'a> Directory<'a> {
    /// A directory that begins at `start` and has at most `most` bytes.
    pub(super) fn new(file: &'a Arc<Node>, what: &'static str, start: u64, most: u64) -> Self {
        let end = start.saturating_add(most).min(file.length());
        Self { file, what, start, end, fetched: Vec::new(), from: start, used: 0 }
    }

    /// Takes the next `len` bytes.
    pub(super) async fn take(&mut self, len: usize) -> Result<Vec<u8>> {
        while self.fetched.len() - self.used < len {
            self.fetch(len).await?;
        }
        let taken = self.fetched.get(self.used..self.used + len).unwrap_or_default().to_vec();
        self.used += len;
        Ok(taken)
    }

    async fn fetch(&mut self, wanted: usize) -> Result<()> {
        self.fetched.drain(..self.used);
        self.from += std::mem::take(&mut self.used) as u64;
        let at = self.from + self.fetched.len() as u64;
        let more = PIECE.min(self.end.saturating_sub(at));
        if more == 0 {
            let (table, offset, bytes) = (self.what, self.start, self.taken() + wanted as u64);
            let why = "end beyond its limit or the end of the file";
            return Err(HeaderError::Table { table, offset, bytes, why }.into());
        }
        let (piece, result) = self.file.read(at, BufMut::with_len(more as usize)).await;
        result?;
        self.fetched.extend_from_slice(&piece);
        Ok(())
    }

    /// Skips to the next multiple of 8 bytes from the start.
    pub(super) async fn align(&mut self) -> Result<()> {
        let taken = self.taken();
        self.take((taken.next_multiple_of(8) - taken) as usize).await.map(drop)
    }

    /// Bytes taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.from - self.start + self.used as u64
    }
}
