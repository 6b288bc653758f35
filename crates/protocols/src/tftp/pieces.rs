//! A transfer, cut into the pieces that are kept.

use super::cache::PIECE;
use super::transfer::{Failure, Transfer};
use rt::{Buf, BufMut};

/// The pieces of a file, in order.
pub(super) struct Pieces {
    transfer: Transfer,
    /// The next one, and how many bytes of it have come.
    next: BufMut,
    filled: usize,
}

impl Pieces {
    /// Those of a transfer that has just begun.
    pub fn of(transfer: Transfer) -> Self {
        Self { transfer, next: BufMut::with_len(PIECE as usize), filled: 0 }
    }

    /// Bytes of the file, by the server's word.
    pub fn size(&self) -> u64 {
        self.transfer.size()
    }

    /// Bytes that have come in pieces.
    pub fn came(&self) -> u64 {
        self.transfer.bytes() - self.filled as u64
    }

    /// The next piece, and its number. It is empty behind the last one.
    pub async fn next(&mut self) -> Result<(u64, Buf), Failure> {
        let (came, size) = (self.came(), self.size());
        let whole = (size - came).min(PIECE) as usize;
        let mut behind = BufMut::with_len(PIECE as usize);
        let mut carried = 0;
        while self.filled < whole {
            let block = self.transfer.next().await?;
            // A block is shorter than a piece, so it ends in this one or in the next.
            let (now, rest) = block.split_at(block.len().min(whole - self.filled));
            put(&mut self.next, self.filled, now);
            put(&mut behind, 0, rest);
            (self.filled, carried) = (self.filled + now.len(), rest.len());
        }
        if came + whole as u64 == size && !self.transfer.is_ended() {
            // The end is a shorter block, which may be empty. All is here: only one that is not the end matters.
            if let Err(failure @ Failure::Long(_)) = self.transfer.next().await {
                return Err(failure);
            }
        }
        let mut piece = std::mem::replace(&mut self.next, behind);
        self.filled = carried;
        piece.truncate(whole);
        Ok((came / PIECE, piece.freeze()))
    }

    /// Ends the transfer, so that the server does not wait.
    pub async fn end(self) {
        self.transfer.end().await;
    }
}

fn put(to: &mut BufMut, at: usize, bytes: &[u8]) {
    if let Some(to) = to.get_mut(at..at + bytes.len()) {
        to.copy_from_slice(bytes);
    }
}
