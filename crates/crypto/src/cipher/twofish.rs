//! Twofish (Schneier and others, "Twofish: A 128-Bit Block Cipher", 1998), with the tables of its key made beforehand: a
//! block is 128 look-ups in 4 KiB. A form without them, as the `twofish` crate has, is fifty times as slow.

use cipher::array::Array;
use cipher::consts::{U1, U16, U32};
use cipher::inout::InOut;
use cipher::{
    BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherDecrypt, BlockCipherEncBackend,
    BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, InvalidLength, KeyInit, KeySizeUser,
    ParBlocksSizeUser,
};
use zeroize::{Zeroize, Zeroizing};

/// The two fixed permutations q0 and q1 (section 4.3.5).
const Q: [[u8; 256]; 2] = [
    permutation([0x817d_6f32_0b59_eca4, 0xecb8_1235_f4a6_709d, 0xba5e_6d90_c8f3_2471, 0xd7f4_126e_9b30_85ca]),
    permutation([0x28bd_f76e_3194_0ac5, 0x1e2b_4c37_6da5_f908, 0x4c75_169a_0ed8_2b3f, 0xb951_c3de_647f_208a]),
];

/// Which permutation each byte of a word passes (section 4.3.2): at index 0 last of all, at index n before key word n - 1.
const ORDER: [[usize; 4]; 5] = [[1, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 1]];

/// The matrix of the maximum-distance-separable code (section 4.3.2), and the modulus of its field.
const MDS: [[u8; 4]; 4] =
    [[0x01, 0xef, 0x5b, 0x5b], [0x5b, 0xef, 0xef, 0x01], [0xef, 0x5b, 0x01, 0xef], [0xef, 0x01, 0xef, 0x5b]];
const MDS_MODULUS: u16 = 0x169;

/// The matrix that makes the words of the S-boxes from the key (section 4.3.1), and the modulus of its field.
const RS: [[u8; 8]; 4] = [
    [0x01, 0xa4, 0x55, 0x87, 0x5a, 0x58, 0xdb, 0x9e],
    [0xa4, 0x56, 0x82, 0xf3, 0x1e, 0xc6, 0x68, 0xe5],
    [0x02, 0xa1, 0xfc, 0xc1, 0x47, 0xae, 0x3d, 0x19],
    [0xa4, 0x55, 0x87, 0x5a, 0x58, 0xdb, 0x9e, 0x03],
];
const RS_MODULUS: u16 = 0x14d;

/// A permutation of bytes from four of half bytes, each written as its 16 digits.
const fn permutation(t: [u64; 4]) -> [u8; 256] {
    const fn look_up(table: u64, at: u8) -> u8 {
        (table >> (60 - 4 * at) & 15) as u8
    }
    const fn turn(half: u8) -> u8 {
        (half >> 1 | half << 3) & 15
    }
    let mut q = [0; 256];
    let mut x = 0;
    while x < 256 {
        let (a, b) = ((x >> 4) as u8, (x & 15) as u8);
        let (a, b) = (look_up(t[0], a ^ b), look_up(t[1], a ^ turn(b) ^ (a << 3 & 15)));
        let (a, b) = (look_up(t[2], a ^ b), look_up(t[3], a ^ turn(b) ^ (a << 3 & 15)));
        q[x] = b << 4 | a;
        x += 1;
    }
    q
}

/// The product of two bytes in a field of 256 elements.
fn multiply(a: u8, b: u8, modulus: u16) -> u8 {
    let (mut sum, mut a) = (0, u16::from(a));
    for bit in 0..8 {
        if b >> bit & 1 == 1 {
            sum ^= a;
        }
        a <<= 1;
        if a & 0x100 != 0 {
            a ^= modulus;
        }
    }
    sum as u8
}

/// A byte at place `place` of a word through all layers: the permutations, and the key words between them.
fn through_layers(byte: u8, place: usize, words: &[[u8; 4]]) -> u8 {
    let mut byte = byte;
    for (layer, word) in words.iter().enumerate().rev() {
        byte = Q[ORDER[layer + 1][place]][usize::from(byte)] ^ word[place];
    }
    Q[ORDER[0][place]][usize::from(byte)]
}

/// The product of a row of the matrix and eight bytes of the key.
fn product(pair: &[u8; 8], row: &[u8; 8]) -> u8 {
    row.iter().zip(pair).fold(0, |sum, (a, b)| sum ^ multiply(*a, *b, RS_MODULUS))
}

/// What a byte at place `place` contributes to the product with the matrix.
fn column(byte: u8, place: usize) -> u32 {
    u32::from_le_bytes(MDS.map(|row| multiply(row[place], byte, MDS_MODULUS)))
}

/// The function h (section 4.3.2).
fn h(word: u32, words: &[[u8; 4]]) -> u32 {
    let bytes = word.to_le_bytes().into_iter().enumerate();
    bytes.map(|(place, byte)| column(through_layers(byte, place, words), place)).fold(0, |a, b| a ^ b)
}

/// Twofish under a key of 16, 24 or 32 bytes.
pub(super) struct Twofish {
    /// For each place in a word, what each byte there contributes to g.
    g: Box<[[u32; 256]; 4]>,
    whitening: [u32; 8],
    rounds: [[u32; 2]; 16],
}

impl Drop for Twofish {
    fn drop(&mut self) {
        self.g.as_mut_slice().iter_mut().for_each(Zeroize::zeroize);
        self.whitening.zeroize();
        self.rounds.zeroize();
    }
}

impl Twofish {
    fn g(&self, word: u32) -> u32 {
        let [a, b, c, d] = word.to_le_bytes().map(usize::from);
        self.g[0][a] ^ self.g[1][b] ^ self.g[2][c] ^ self.g[3][d]
    }

    /// The function F of a round (section 4.2).
    fn f(&self, a: u32, b: u32, key: &[u32; 2]) -> (u32, u32) {
        let (a, b) = (self.g(a), self.g(b.rotate_left(8)));
        let sum = a.wrapping_add(b);
        (sum.wrapping_add(key[0]), sum.wrapping_add(b).wrapping_add(key[1]))
    }

    fn encrypt(&self, block: [u8; 16]) -> [u8; 16] {
        let [k0, k1, k2, k3, k4, k5, k6, k7] = self.whitening;
        let [a, b, c, d] = words(block);
        let (mut a, mut b, mut c, mut d) = (a ^ k0, b ^ k1, c ^ k2, d ^ k3);
        for key in &self.rounds {
            let (f0, f1) = self.f(a, b, key);
            (a, b, c, d) = ((c ^ f0).rotate_right(1), d.rotate_left(1) ^ f1, a, b);
        }
        bytes([c ^ k4, d ^ k5, a ^ k6, b ^ k7])
    }

    fn decrypt(&self, block: [u8; 16]) -> [u8; 16] {
        let [k0, k1, k2, k3, k4, k5, k6, k7] = self.whitening;
        let [c, d, a, b] = words(block);
        let (mut a, mut b, mut c, mut d) = (a ^ k6, b ^ k7, c ^ k4, d ^ k5);
        for key in self.rounds.iter().rev() {
            let (f0, f1) = self.f(c, d, key);
            (a, b, c, d) = (c, d, a.rotate_left(1) ^ f0, (b ^ f1).rotate_right(1));
        }
        bytes([a ^ k0, b ^ k1, c ^ k2, d ^ k3])
    }
}

fn words(block: [u8; 16]) -> [u32; 4] {
    let whole = u128::from_le_bytes(block);
    [whole as u32, (whole >> 32) as u32, (whole >> 64) as u32, (whole >> 96) as u32]
}

fn bytes(words: [u32; 4]) -> [u8; 16] {
    words.into_iter().rev().fold(0_u128, |whole, word| whole << 32 | u128::from(word)).to_le_bytes()
}

impl KeySizeUser for Twofish {
    type KeySize = U32;
}

impl KeyInit for Twofish {
    fn new(key: &Array<u8, U32>) -> Twofish {
        schedule(key)
    }

    fn new_from_slice(key: &[u8]) -> Result<Twofish, InvalidLength> {
        if matches!(key.len(), 16 | 24 | 32) { Ok(schedule(key)) } else { Err(InvalidLength) }
    }
}

/// The key schedule (section 4.3) of a key of 16, 24 or 32 bytes.
fn schedule(key: &[u8]) -> Twofish {
    let pairs: &[[u8; 8]] = key.as_chunks().0;
    let words = |of: fn(&[u8; 8]) -> [u8; 4]| -> Zeroizing<Vec<[u8; 4]>> {
        Zeroizing::new(pairs.iter().map(of).collect())
    };
    let even = words(|[a, b, c, d, ..]| [*a, *b, *c, *d]);
    let odd = words(|[.., a, b, c, d]| [*a, *b, *c, *d]);
    let mut boxes = words(|pair| RS.map(|row| product(pair, &row)));
    boxes.reverse();
    let mut g = Box::new([[0; 256]; 4]);
    for (place, table) in g.iter_mut().enumerate() {
        for (byte, entry) in (0..=255).zip(table) {
            *entry = column(through_layers(byte, place, &boxes), place);
        }
    }
    let pair = |number: u32| {
        let a = h(2 * number * 0x0101_0101, &even);
        let b = h((2 * number + 1) * 0x0101_0101, &odd).rotate_left(8);
        [a.wrapping_add(b), a.wrapping_add(b).wrapping_add(b).rotate_left(9)]
    };
    let white = [0, 1, 2, 3].map(pair);
    let rounds = std::array::from_fn(|round| pair(4 + round as u32));
    let mut whitening = [0; 8];
    whitening.iter_mut().zip(white.as_flattened()).for_each(|(to, from)| *to = *from);
    Twofish { g, whitening, rounds }
}

impl BlockSizeUser for Twofish {
    type BlockSize = U16;
}

impl ParBlocksSizeUser for Twofish {
    type ParBlocksSize = U1;
}

impl BlockCipherEncrypt for Twofish {
    fn encrypt_with_backend(&self, f: impl BlockCipherEncClosure<BlockSize = U16>) {
        f.call(self);
    }
}

impl BlockCipherEncBackend for Twofish {
    #[inline]
    fn encrypt_block(&self, mut block: InOut<'_, '_, Array<u8, U16>>) {
        *block.get_out() = Array(self.encrypt(block.get_in().0));
    }
}

impl BlockCipherDecrypt for Twofish {
    fn decrypt_with_backend(&self, f: impl BlockCipherDecClosure<BlockSize = U16>) {
        f.call(self);
    }
}

impl BlockCipherDecBackend for Twofish {
    #[inline]
    fn decrypt_block(&self, mut block: InOut<'_, '_, Array<u8, U16>>) {
        *block.get_out() = Array(self.decrypt(block.get_in().0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_permutations_are_the_published_ones() {
        assert_eq!(Q[0][..8], [0xa9, 0x67, 0xb3, 0xe8, 0x04, 0xfd, 0xa3, 0x76]);
        assert_eq!(Q[1][..8], [0x75, 0xf3, 0xc6, 0xf4, 0xdb, 0x7b, 0xfb, 0xc8]);
    }

    /// The paper's table of results: each plain text is the encrypted text before, each key the ones before it.
    #[test]
    fn the_49th_results_of_the_published_tables() {
        for (key_len, result) in [
            (16, 0x5d9d_4eef_fa91_5157_5524_f115_815a_12e0_u128),
            (24, 0xe754_4921_2bee_f9f4_a390_bd86_0a64_0941),
            (32, 0x37fe_26ff_1cf6_6175_f5dd_f4c3_3b97_a205),
        ] {
            let (mut key, mut text) = (vec![0; key_len], [0; 16]);
            for _ in 0..49 {
                let cipher = Twofish::new_from_slice(&key).unwrap();
                let encrypted = cipher.encrypt(text);
                assert_eq!(cipher.decrypt(encrypted), text);
                key = [&text[..], &key].concat()[..key_len].to_vec();
                text = encrypted;
            }
            assert_eq!(text, result.to_be_bytes(), "{key_len} byte key");
        }
        assert!(Twofish::new_from_slice(&[0; 20]).is_err());
    }
}
