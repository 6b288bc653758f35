//! Initialisation vectors from sector numbers.

use cipher::array::{Array, ArraySize};
use cipher::{BlockCipherEncrypt, BlockSizeUser};

use super::IvGenerator;

/// The encrypting half of a block cipher with blocks of `N` bytes, whichever it is.
pub(super) trait Encrypt<N: ArraySize>: Send + Sync {
    fn encrypt(&self, blocks: &mut [Array<u8, N>]);
}

impl<C: BlockCipherEncrypt + BlockSizeUser + Send + Sync> Encrypt<C::BlockSize> for C {
    fn encrypt(&self, blocks: &mut [Array<u8, C::BlockSize>]) {
        self.encrypt_blocks(blocks);
    }
}

/// Makes the vectors of sectors.
pub(super) struct Vectors<N: ArraySize> {
    pub(super) generator: IvGenerator,
    /// The cipher under the hash of the key, for [`IvGenerator::Essiv`].
    pub(super) essiv: Option<Box<dyn Encrypt<N>>>,
}

impl<N: ArraySize> Vectors<N> {
    /// Fills in the vectors of sectors `first`, `first + step` and so on; after the last number comes 0.
    pub(super) fn fill(&self, first: u64, step: u64, vectors: &mut [Array<u8, N>]) {
        let mut number = first;
        for vector in vectors.iter_mut() {
            vector.fill(0);
            match self.generator {
                IvGenerator::None => {}
                IvGenerator::Plain => put(vector.iter_mut(), &(number as u32).to_le_bytes()),
                IvGenerator::Plain64 | IvGenerator::Essiv(_) => put(vector.iter_mut(), &number.to_le_bytes()),
                IvGenerator::Plain64be => put(vector.iter_mut().rev(), &number.to_le_bytes()),
            }
            number = number.wrapping_add(step);
        }
        if let Some(cipher) = &self.essiv {
            cipher.encrypt(vectors);
        }
    }
}

fn put<'a>(target: impl Iterator<Item = &'a mut u8>, bytes: &[u8]) {
    target.zip(bytes).for_each(|(target, byte)| *target = *byte);
}

#[cfg(test)]
mod tests {
    use super::*;
    use cipher::consts::{U8, U16};

    #[test]
    fn a_number_stands_where_its_generator_puts_it() {
        let first = 0x0102_0304_fffe_fdfc;
        for (generator, vector) in [
            (IvGenerator::None, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (IvGenerator::Plain, [0xfd, 0xfd, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (IvGenerator::Plain64, [0xfd, 0xfd, 0xfe, 0xff, 4, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            (IvGenerator::Plain64be, [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0xff, 0xfe, 0xfd, 0xfd]),
        ] {
            let mut wide = [Array::<u8, U16>::default(); 2];
            Vectors { generator, essiv: None }.fill(first, 1, &mut wide);
            assert_eq!(wide[1], Array(vector), "{generator:?}");
            let mut narrow = [Array::<u8, U8>::default(); 2];
            Vectors { generator, essiv: None }.fill(first, 1, &mut narrow);
            let start = if generator == IvGenerator::Plain64be { 8 } else { 0 };
            assert_eq!(narrow[1][..], vector[start..start + 8], "{generator:?}");
        }
    }
}
