//! What is kept of a file: pieces of one length, of which those go first that were not used for longest.
//!
//! Bounds: the bytes that it was made for.

use rt::Buf;
use std::collections::{BTreeMap, HashMap};

/// Bytes of a piece; the last one of a file may be shorter.
pub(super) const PIECE: u64 = 64 << 10;

/// The pieces of a file that are here.
pub(super) struct Cache {
    /// Each with the time of its last use.
    pieces: HashMap<u64, (u64, Buf)>,
    by_use: BTreeMap<u64, u64>,
    clock: u64,
    most: usize,
}

impl Cache {
    /// For at most so many bytes, and one piece.
    pub fn new(bytes: u64) -> Self {
        let most = usize::try_from(bytes / PIECE).unwrap_or(usize::MAX).max(1);
        Self { pieces: HashMap::new(), by_use: BTreeMap::new(), clock: 0, most }
    }

    /// The piece of this number.
    pub fn get(&mut self, number: u64) -> Option<Buf> {
        let (used, piece) = self.pieces.get_mut(&number)?;
        self.by_use.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.by_use.insert(self.clock, number);
        Some(piece.clone())
    }

    /// Keeps a piece that is asked for, or will be soon.
    pub fn keep(&mut self, number: u64, piece: Buf) {
        if self.get(number).is_some() {
            return;
        }
        while self.pieces.len() >= self.most
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.pieces.remove(&oldest);
        }
        self.clock += 1;
        self.pieces.insert(number, (self.clock, piece));
        self.by_use.insert(self.clock, number);
    }

    /// Keeps a piece that came along, where that costs no other: half of the room is for those that are asked for.
    pub fn keep_if_room(&mut self, number: u64, piece: Buf) {
        if self.pieces.len() < self.most / 2 {
            self.keep(number, piece);
        }
    }

    /// Copies what is here from the start of a range: how many bytes.
    pub fn copy(&mut self, offset: u64, to: &mut [u8]) -> usize {
        let mut done = 0;
        while done < to.len() {
            let at = offset + done as u64;
            let Some(piece) = self.get(at / PIECE) else { break };
            let n = copy_from(&piece, at, to.get_mut(done..).unwrap_or_default());
            if n == 0 {
                break;
            }
            done += n;
        }
        done
    }
}

/// Copies what a piece has from a byte of the file on: how many bytes.
pub(super) fn copy_from(piece: &Buf, at: u64, to: &mut [u8]) -> usize {
    let from = piece.get((at % PIECE) as usize..).unwrap_or_default();
    let n = from.len().min(to.len());
    if let (Some(to), Some(from)) = (to.get_mut(..n), from.get(..n)) {
        to.copy_from_slice(from);
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(byte: u8) -> Buf {
        Buf::from_slice(&vec![byte; PIECE as usize])
    }

    #[test]
    fn those_go_first_that_were_not_used_for_longest() {
        let mut cache = Cache::new(3 * PIECE + 1);
        (0..3).for_each(|number| cache.keep(number, piece(number as u8)));
        assert!(cache.get(0).is_some());
        cache.keep_if_room(7, piece(7));
        cache.keep(3, piece(3));
        let here: Vec<_> = (0..8).filter(|number| cache.get(*number).is_some()).collect();
        assert_eq!(here, [0, 2, 3]);
        assert_eq!((cache.pieces.len(), cache.by_use.len()), (3, 3));
    }

    #[test]
    fn what_is_here_is_copied_across_pieces_up_to_the_first_that_is_missing() {
        let mut cache = Cache::new(8 * PIECE);
        cache.keep(1, piece(1));
        cache.keep(2, Buf::from_slice(&[2; 100]));
        let mut to = [0; 300];
        assert_eq!(cache.copy(2 * PIECE - 50, &mut to), 150);
        assert_eq!((&to[..50], &to[50..150], to[150]), (&[1; 50][..], &[2; 100][..], 0));
        assert_eq!(cache.copy(0, &mut to), 0);
    }
}
