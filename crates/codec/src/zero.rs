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

/// Bytes of the leading run of zero units; the last unit may be shorter than `unit` bytes (at least 1).
pub fn zero_run(data: &[u8], unit: usize) -> usize {
    run(data, unit, true)
}

/// Bytes of the leading run of units that are not zero; the last unit may be shorter than `unit` bytes (at least 1).
pub fn data_run(data: &[u8], unit: usize) -> usize {
    run(data, unit, false)
}

fn run(data: &[u8], unit: usize, zero: bool) -> usize {
    data.chunks(unit.max(1)).take_while(|chunk| is_zero(chunk) == zero).map(<[u8]>::len).sum()
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
        assert_eq!((zero_run(&data, 512), data_run(&data, 512)), (1024, 0));
        assert_eq!((zero_run(&data[1024..], 512), data_run(&data[1024..], 512)), (0, 1024));
        assert_eq!(zero_run(&data[2048..], 512), 7680);
        assert_eq!((zero_run(&data[9728..], 512), data_run(&data[9728..], 512)), (0, 272));
        assert_eq!((zero_run(&[], 512), data_run(&[], 0)), (0, 0));
    }
}
