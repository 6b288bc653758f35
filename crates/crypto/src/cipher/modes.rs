//! Modes of operation over block ciphers, many blocks in one go.
//!
//! XTS: IEEE 1619-2018, without ciphertext stealing (sectors are whole blocks). CBC, ECB, CTR: NIST SP 800-38A; the
//! counter of CTR is the vector itself, counted up as one big-endian number.

use cipher::array::{Array, ArraySize};
use cipher::consts::U16;
use cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser};

use super::iv::Vectors;
use super::{CipherError, Sectors};

/// Sectors whose vectors are made in one go.
const BATCH: usize = 16;
/// Blocks that are encrypted in one go.
const BLOCKS: usize = 32;

/// A block cipher that goes both ways.
pub(super) trait BlockCipher:
    BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser + Send + Sync + 'static
{
}

impl<C: BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser + Send + Sync + 'static> BlockCipher for C {}

/// Calls `work` for some sectors at a time with the vectors of each.
pub(super) fn in_batches<N: ArraySize>(
    vectors: &Vectors<N>,
    sector: usize,
    first: u64,
    data: &mut [u8],
    mut work: impl FnMut(&mut [Array<u8, N>], &mut [u8]) -> Result<(), CipherError>,
) -> Result<(), CipherError> {
    let step = (sector / 512) as u64;
    let mut room: [Array<u8, N>; BATCH] = std::array::from_fn(|_| Array::default());
    let mut number = first;
    for batch in data.chunks_mut(BATCH * sector) {
        let count = batch.len() / sector;
        let ivs = room.get_mut(..count).unwrap_or_default();
        vectors.fill(number, step, ivs);
        number = number.wrapping_add(step.wrapping_mul(count as u64));
        work(ivs, batch)?;
    }
    Ok(())
}

/// The whole blocks of `data`, which is made of them.
fn blocks<N: ArraySize>(data: &mut [u8]) -> &mut [Array<u8, N>] {
    Array::slice_as_chunks_mut(data).0
}

fn xor<N: ArraySize>(target: &mut Array<u8, N>, with: &Array<u8, N>) {
    target.iter_mut().zip(with).for_each(|(target, with)| *target ^= with);
}

/// XEX with two keys, over ciphers with blocks of 16 bytes.
pub(super) struct Xts<C> {
    pub(super) data: C,
    pub(super) tweak: C,
    pub(super) vectors: Vectors<U16>,
    pub(super) sector: usize,
}

impl<C: BlockCipher + BlockSizeUser<BlockSize = U16>> Xts<C> {
    fn run(
        &self,
        first: u64,
        data: &mut [u8],
        cipher: impl Fn(&mut [Array<u8, U16>]),
    ) -> Result<(), CipherError> {
        in_batches(&self.vectors, self.sector, first, data, |ivs, batch| {
            self.tweak.encrypt_blocks(ivs);
            for (sector, iv) in batch.chunks_mut(self.sector).zip(ivs) {
                xts_sector(u128::from_le_bytes(iv.0), sector, &cipher);
            }
            Ok(())
        })
    }
}

fn xts_sector(mut tweak: u128, sector: &mut [u8], cipher: &impl Fn(&mut [Array<u8, U16>])) {
    let mut tweaks = [0; BLOCKS];
    for chunk in blocks(sector).chunks_mut(BLOCKS) {
        for (block, kept) in chunk.iter_mut().zip(&mut tweaks) {
            *kept = tweak;
            block.0 = (u128::from_le_bytes(block.0) ^ tweak).to_le_bytes();
            // Times x in GF(2^128), modulo x^128 + x^7 + x^2 + x + 1.
            tweak = (tweak << 1) ^ ((tweak >> 127) * 0x87);
        }
        cipher(chunk);
        for (block, tweak) in chunk.iter_mut().zip(&tweaks) {
            block.0 = (u128::from_le_bytes(block.0) ^ tweak).to_le_bytes();
        }
    }
}

impl<C: BlockCipher + BlockSizeUser<BlockSize = U16>> Sectors for Xts<C> {
    fn encrypt(&self, first: u64, data: &mut [u8]) -> Result<(), CipherError> {
        self.run(first, data, |blocks| self.data.encrypt_blocks(blocks))
    }

    fn decrypt(&self, first: u64, data: &mut [u8]) -> Result<(), CipherError> {
        self.run(first, data, |blocks| self.data.decrypt_blocks(blocks))
    }
}

/// Cipher block chaining.
pub(super) struct Cbc<C: BlockCipher> {
    pub(super) cipher: C,
    pub(super) vectors: Vectors<C::BlockSize>,
    pub(super) sector: usize,
}

impl<C: BlockCipher> Sectors for Cbc<C> {
    fn encrypt(&self, first: u64, data: &mut [u8]) -> Result<(), CipherError> {
        in_batches(&self.vectors, self.sector, first, data, |ivs, batch| {
            cbc_encrypt(&self.cipher, ivs, self.sector, batch);
            Ok(())
        })
    }

    fn decrypt(&self, first: u64, data: &mut [u8]) -> Result<(), CipherError> {
        in_batches(&self.vectors, self.sector, first, data, |ivs, batch| {
            for (sector, iv) in batch.chunks_mut(self.sector).zip(ivs) {
                cbc_decrypt(&self.cipher, iv, sector);
            }
            Ok(())
        })
    }
}

/// Encrypts chains of `chain` bytes each, side by side, so that the cipher has as many blocks to work on as there are
/// chains. `ivs` has the vector of each.
pub(crate) fn cbc_encrypt<C: BlockCipherEncrypt + BlockSizeUser>(
    cipher: &C,
    ivs: &mut [Array<u8, C::BlockSize>],
    chain: usize,
    data: &mut [u8],
) {
    let data: &mut [Array<u8, C::BlockSize>] = blocks(data);
    let chain = chain / C::block_size();
    for at in 0..chain {
        for (last, sector) in ivs.iter_mut().zip(data.chunks(chain)) {
            if let Some(block) = sector.get(at) {
                xor(last, block);
            }
        }
        cipher.encrypt_blocks(ivs);
        for (last, sector) in ivs.iter().zip(data.chunks_mut(chain)) {
            if let Some(block) = sector.get_mut(at) {
                block.clone_from(last);
            }
        }
    }
}

/// Decrypts one chain.
pub(crate) fn cbc_decrypt<C: BlockCipherDecrypt + BlockSizeUser>(
    cipher: &C,
    iv: &Array<u8, C::BlockSize>,
    data: &mut [u8],
) {
    let mut last = iv.clone();
    let mut kept: [Array<u8, C::BlockSize>; BLOCKS] = std::array::from_fn(|_| Array::default());
    for chunk in blocks(data).chunks_mut(BLOCKS) {
        kept.iter_mut().zip(chunk.iter()).for_each(|(kept, block)| kept.clone_from(block));
        cipher.decrypt_blocks(chunk);
        for (block, encrypted) in chunk.iter_mut().zip(&kept) {
            xor(block, &last);
            last.clone_from(encrypted);
        }
    }
}

/// Each block for itself. The vectors have no part in it.
pub(super) struct Ecb<C> {
    pub(super) cipher: C,
}

impl<C: BlockCipher> Sectors for Ecb<C> {
    fn encrypt(&self, _: u64, data: &mut [u8]) -> Result<(), CipherError> {
        self.cipher.encrypt_blocks(blocks(data));
        Ok(())
    }

    fn decrypt(&self, _: u64, data: &mut [u8]) -> Result<(), CipherError> {
        self.cipher.decrypt_blocks(blocks(data));
        Ok(())
    }
}

/// Counter mode; both ways are the same.
pub(super) struct Ctr<C: BlockCipher> {
    pub(super) cipher: C,
    pub(super) vectors: Vectors<C::BlockSize>,
    pub(super) sector: usize,
}

impl<C: BlockCipher> Ctr<C> {
    fn sector(&self, counter: &mut Array<u8, C::BlockSize>, sector: &mut [u8]) {
        let mut stream: [Array<u8, C::BlockSize>; BLOCKS] = std::array::from_fn(|_| Array::default());
        for chunk in blocks(sector).chunks_mut(BLOCKS) {
            let stream = stream.get_mut(..chunk.len()).unwrap_or_default();
            for block in stream.iter_mut() {
                block.clone_from(counter);
                count_up(counter);
            }
            self.cipher.encrypt_blocks(stream);
            chunk.iter_mut().zip(stream.iter()).for_each(|(block, stream)| xor(block, stream));
        }
    }
}

/// Adds one to a big-endian number of at least 8 bytes.
fn count_up(counter: &mut [u8]) {
    let Some((rest, low)) = counter.split_last_chunk_mut::<8>() else { return };
    let (sum, carried) = u64::from_be_bytes(*low).overflowing_add(1);
    *low = sum.to_be_bytes();
    if carried {
        for byte in rest.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return;
            }
        }
    }
}

impl<C: BlockCipher> Sectors for Ctr<C> {
    fn encrypt(&self, first: u64, data: &mut [u8]) -> Result<(), CipherError> {
        in_batches(&self.vectors, self.sector, first, data, |ivs, batch| {
            for (sector, iv) in batch.chunks_mut(self.sector).zip(ivs) {
                self.sector(iv, sector);
            }
            Ok(())
        })
    }

    fn decrypt(&self, first: u64, data: &mut [u8]) -> Result<(), CipherError> {
        self.encrypt(first, data)
    }
}
