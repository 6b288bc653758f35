//! Prefix codes for deflate: from how often symbols occur to the lengths of their codes, and to the codes.
//!
//! Lengths are those of a Huffman code, cut to a limit as little as it takes. Codes are canonical, and their bits in
//! the order in which deflate stores them. Specification: RFC 1951, 3.2.2.

/// The most symbols of an alphabet.
pub(crate) const MOST_SYMBOLS: usize = 288;

/// Sets the length in bits of each symbol's code, at most `limit`; 0 for symbols that do not occur. Two symbols at least get
/// a code, for some decoders refuse a code that is not complete.
pub(crate) fn lengths(counts: &[u32], limit: u32, lengths: &mut [u8]) {
    lengths.fill(0);
    let mut used = [(0u32, 0u16); MOST_SYMBOLS];
    let mut n = 0;
    for (symbol, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        used[n] = (*count, symbol as u16);
        n += 1;
    }
    for symbol in 0..2u16 {
        if n < 2 && counts[usize::from(symbol)] == 0 {
            used[n] = (1, symbol);
            n += 1;
        }
    }
    let used = &mut used[..n];
    used.sort_unstable();
    let mut of_length = depths(used);
    cut(&mut of_length, limit);
    // The rarest get the longest.
    let mut at = 0;
    for length in (1..=limit).rev() {
        for _ in 0..of_length[length as usize] {
            lengths[usize::from(used[at].1)] = length as u8;
            at += 1;
        }
    }
}

/// How many symbols have a code of each length, in a Huffman code of symbols that are sorted by count. Deeper ones are
/// counted at the last index.
fn depths(used: &[(u32, u16)]) -> [u32; 33] {
    let n = used.len();
    // The inner nodes, in the order of their counts: the lightest two of leaves and nodes are joined, over and over.
    let (mut weight, mut parent) = ([0u32; MOST_SYMBOLS], [0u16; MOST_SYMBOLS]);
    let mut leaf_parent = [0u16; MOST_SYMBOLS];
    let (mut leaf, mut node) = (0, 0);
    for made in 0..n - 1 {
        for _ in 0..2 {
            if leaf < n && (node >= made || used[leaf].0 <= weight[node]) {
                weight[made] += used[leaf].0;
                leaf_parent[leaf] = made as u16;
                leaf += 1;
            } else {
                weight[made] += weight[node];
                parent[node] = made as u16;
                node += 1;
            }
        }
    }
    let mut depth = [0u32; MOST_SYMBOLS];
    for node in (0..n.saturating_sub(2)).rev() {
        depth[node] = depth[usize::from(parent[node])] + 1;
    }
    let mut of_length = [0u32; 33];
    for parent in &leaf_parent[..n] {
        of_length[(depth[usize::from(*parent)] as usize + 1).min(32)] += 1;
    }
    of_length
}

/// Brings codes that are too long to the limit, and makes room for them below it.
fn cut(of_length: &mut [u32; 33], limit: u32) {
    let limit = limit as usize;
    let deeper: u32 = of_length[limit + 1..].iter().sum();
    of_length[limit + 1..].fill(0);
    of_length[limit] += deeper;
    let mut taken: u64 = (1..=limit).map(|length| u64::from(of_length[length]) << (limit - length)).sum();
    while taken > 1 << limit {
        // One of the longest goes to a place beside a shorter one, which becomes a bit longer.
        let Some(shorter) = (1..limit).rev().find(|length| of_length[*length] > 0) else { return };
        of_length[limit] -= 1;
        of_length[shorter] -= 1;
        of_length[shorter + 1] += 2;
        taken -= 1;
    }
}

/// A code: its bits, the first lowest, and how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Code {
    pub bits: u16,
    pub len: u8,
}

/// The canonical codes of these lengths.
pub(crate) fn codes(lengths: &[u8], codes: &mut [Code]) {
    let mut of_length = [0u32; 16];
    lengths.iter().for_each(|length| of_length[usize::from(*length)] += 1);
    of_length[0] = 0;
    let mut next = [0u32; 16];
    for length in 1..16 {
        next[length] = (next[length - 1] + of_length[length - 1]) << 1;
    }
    for (code, len) in codes.iter_mut().zip(lengths.iter().copied()) {
        let at = &mut next[usize::from(len)];
        let bits = if len == 0 { 0 } else { (*at as u16).reverse_bits() >> (16 - u32::from(len)) };
        *code = Code { bits, len };
        *at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths_of(counts: &[u32], limit: u32) -> Vec<u8> {
        let mut found = vec![0; counts.len()];
        lengths(counts, limit, &mut found);
        found
    }

    #[test]
    fn codes_are_complete_and_within_their_limit() {
        let fibonacci: Vec<u32> = (0..40)
            .scan((1, 1), |f, _| {
                *f = (f.1, f.0 + f.1);
                Some(f.0)
            })
            .collect();
        let flat = [1; 286];
        let few = [0, 0, 7, 0];
        for counts in [&fibonacci[..], &flat, &few, &[5, 1], &[0, 0, 0], &[3, 0, 0]] {
            for limit in [7, 9, 15].into_iter().filter(|limit| counts.len() <= 1 << limit) {
                let found = lengths_of(counts, limit);
                let taken: u64 = found.iter().filter(|l| **l > 0).map(|l| 1 << (limit - u32::from(*l))).sum();
                assert_eq!(taken, 1 << limit, "{counts:?} {found:?}");
                let coded = counts.iter().zip(&found).all(|(count, length)| *count == 0 || *length > 0);
                assert!(coded, "{counts:?} {found:?}");
            }
        }
    }

    #[test]
    fn lengths_are_those_of_huffman() {
        assert_eq!(lengths_of(&[8, 4, 2, 1, 1, 0], 15), [1, 2, 3, 4, 4, 0]);
        assert_eq!(lengths_of(&[1, 1, 1, 1], 15), [2, 2, 2, 2]);
        assert_eq!(lengths_of(&[0, 9], 15), [1, 1]);
    }

    #[test]
    fn codes_are_those_of_the_specification() {
        let lengths = [3, 3, 3, 3, 3, 2, 4, 4];
        let mut found = [Code::default(); 8];
        codes(&lengths, &mut found);
        let bits: Vec<u16> = found.iter().map(|code| code.bits.reverse_bits() >> (16 - code.len)).collect();
        assert_eq!(bits, [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]);
    }
}
