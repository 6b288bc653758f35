//! The zero scan: is a buffer zero, and how far.
//!
//! Blocks of 256 bytes are OR-ed together without a branch, which compilers turn into vector code; between blocks
//! the scan stops at the first byte that is not zero.

const BLOCK: usize = 256;

/// Whether all bytes are zero. An empty buffer is.
pub fn is_zero(data: &[u8]) -> bool {
    // Data mostly differs from zero at its ends: look there before scanning.
    let sample = |at: usize| data.get(at).is_none_or(|&b| b == 0);
    if !(sample(0) && sample(data.len() / 2) && sample(data.len().wrapping_sub(1))) {
        return false;
    }
    let (blocks, rest) = data.as_chunks::<BLOCK>();
    blocks.iter().all(|block| or(block) == 0) && or(rest) == 0
}

fn or(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |all, b| all | b)
}

/// The leading run of units of a kind: whether they are zero, and how many bytes they have. The last unit of the buffer may
/// be shorter than `unit` bytes (at least 1). Every unit is looked at once, and the one that ends the run.
pub fn run(data: &[u8], unit: usize) -> (bool, usize) {
    let mut units = data.chunks(unit.max(1));
    let first = units.next().unwrap_or_default();
    let zero = is_zero(first);
    (zero, units.take_while(|unit| is_zero(unit) == zero).fold(first.len(), |len, unit| len + unit.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_set_bit_anywhere_is_found() {
        for len in [1, 7, 255, 256, 257, 512, 4096, 5000] {
            let mut data = vec![0; len];
            assert!(is_zero(&data));
            for at in 0..len {
                data[at] = 0x80;
                assert!(!is_zero(&data), "byte {at} of {len}");
                data[at] = 0;
            }
        }
        assert!(is_zero(&[]));
    }

    #[test]
    fn runs_alternate_and_cover_the_buffer() {
        let mut data = vec![0; 10_000];
        data[1024..2048].fill(1);
        data[9999] = 1;
        assert_eq!(run(&data, 512), (true, 1024));
        assert_eq!(run(&data[1024..], 512), (false, 1024));
        assert_eq!(run(&data[2048..], 512), (true, 7680));
        assert_eq!(run(&data[9728..], 512), (false, 272));
        assert_eq!(run(&[], 0).1, 0);
    }
}
