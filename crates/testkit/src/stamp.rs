//! Sectors that identify themselves: every sector written by a test carries its own number and the number of the write,
//! so that a sector found on a disk after a crash shows which write left it, or that none did.

/// Bytes of a sector, the unit of these tests.
pub const SECTOR: u64 = 512;

const MAGIC: u64 = 0x5ec7_0a57_a39b_0000;

/// What a sector holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// Nothing but zeros.
    Zero,
    /// The data of this sector, as write `write` left it.
    Stamp {
        /// Sector number.
        sector: u64,
        /// Number of the write.
        write: u64,
    },
    /// What no write of the test left there: mixed or foreign bytes.
    Garbage,
}

/// Fills `bytes` with the sectors from `first` on, as write `write` leaves them.
pub fn stamp(bytes: &mut [u8], first: u64, write: u64) {
    for (sector, bytes) in (first..).zip(bytes.chunks_mut(SECTOR as usize)) {
        for cell in bytes.chunks_mut(16) {
            let words = [(MAGIC ^ sector).to_le_bytes(), write.to_le_bytes()];
            for (to, from) in cell.iter_mut().zip(words.as_flattened()) {
                *to = *from;
            }
        }
    }
}

/// `len` bytes of stamped sectors.
pub fn stamped(first: u64, len: u64, write: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    stamp(&mut bytes, first, write);
    bytes
}

/// Says what a sector holds.
pub fn look(bytes: &[u8]) -> Seen {
    let word = |at: usize| {
        let cell = bytes.get(at..at + 8).and_then(|cell| cell.try_into().ok());
        u64::from_le_bytes(cell.unwrap_or([0; 8]))
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Seen::Zero;
    }
    let (sector, write) = (word(0) ^ MAGIC, word(8));
    let words = [(MAGIC ^ sector).to_le_bytes(), write.to_le_bytes()];
    let expected = bytes.chunks(16).all(|cell| words.as_flattened().starts_with(cell));
    if expected && sector < 1 << 40 { Seen::Stamp { sector, write } } else { Seen::Garbage }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamped_sector_has_its_number_and_its_write_and_a_mixed_one_is_garbage() {
        let mut bytes = stamped(7, 1024, 42);
        assert_eq!(look(&bytes[..512]), Seen::Stamp { sector: 7, write: 42 });
        assert_eq!(look(&bytes[512..]), Seen::Stamp { sector: 8, write: 42 });
        stamp(&mut bytes[256..512], 7, 43);
        assert_eq!(look(&bytes[..512]), Seen::Garbage);
        assert_eq!(look(&[0; 512]), Seen::Zero);
    }
}
