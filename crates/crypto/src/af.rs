//! The anti-forensic splitter of LUKS: a key spread over so many stripes that losing any of them loses the key
//! (LUKS1 on-disk format specification, section 2.4).
//!
//! ```text
//! stripe 0 = random ─▶ ⊕ ─▶ hash ─▶ ⊕ ─▶ hash ─▶ … ─▶ ⊕ = key
//!                           stripe 1 ┘                └ last stripe
//! ```

use crate::Hash;
use crate::key::Key;
use crate::random::{NoRandomness, Random};

/// Material that does not hold so many stripes of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes of key material don't hold {stripes} stripes of {key_len} bytes")]
pub struct WrongLength {
    /// Bytes given.
    pub len: usize,
    /// Stripes of the key.
    pub stripes: usize,
    /// Length of the key.
    pub key_len: usize,
}

/// Spreads `key` over `stripes` stripes, at least one.
pub fn split(hash: Hash, key: &Key, stripes: usize, random: &mut dyn Random) -> Result<Key, NoRandomness> {
    let stripes = stripes.max(1);
    let mut material = Key::zeroed(key.len().saturating_mul(stripes));
    let mut sum = Key::zeroed(key.len());
    let (first, last) = material.as_mut_bytes().split_at_mut(key.len() * (stripes - 1));
    random.fill(first)?;
    for stripe in first.chunks(key.len().max(1)) {
        xor(sum.as_mut_bytes(), stripe);
        diffuse(hash, sum.as_mut_bytes());
    }
    last.copy_from_slice(key.as_bytes());
    xor(last, sum.as_bytes());
    Ok(material)
}

/// Brings the key together again.
pub fn merge(hash: Hash, material: &[u8], stripes: usize, key_len: usize) -> Result<Key, WrongLength> {
    if stripes == 0 || key_len == 0 || Some(material.len()) != stripes.checked_mul(key_len) {
        return Err(WrongLength { len: material.len(), stripes, key_len });
    }
    let mut sum = Key::zeroed(key_len);
    for (number, stripe) in material.chunks(key_len).enumerate() {
        xor(sum.as_mut_bytes(), stripe);
        if number + 1 < stripes {
            diffuse(hash, sum.as_mut_bytes());
        }
    }
    Ok(sum)
}

/// Brings a key together from an area that may be longer than its stripes, as one of whole sectors is.
pub(crate) fn merge_area(hash: Hash, area: &Key, stripes: usize, key_len: usize) -> Result<Key, WrongLength> {
    let len = stripes.saturating_mul(key_len).min(area.len());
    merge(hash, area.as_bytes().get(..len).unwrap_or_default(), stripes, key_len)
}

fn xor(sum: &mut [u8], with: &[u8]) {
    sum.iter_mut().zip(with).for_each(|(sum, with)| *sum ^= with);
}

/// Each piece as long as a digest becomes the start of the digest of its number and itself.
fn diffuse(hash: Hash, bytes: &mut [u8]) {
    let mut digest = Key::zeroed(hash.digest_len());
    for (number, piece) in (0_u32..).zip(bytes.chunks_mut(hash.digest_len())) {
        hash.digest(&[&number.to_be_bytes(), piece], digest.as_mut_bytes());
        piece.iter_mut().zip(digest.as_bytes()).for_each(|(piece, digest)| *piece = *digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::tests::Seeded;

    #[test]
    fn a_key_comes_back_from_all_its_stripes_and_from_no_fewer() {
        let mut random = Seeded(3);
        for hash in Hash::ALL {
            for (key_len, stripes) in [(1, 1), (16, 2), (33, 7), (64, 100)] {
                let mut key = Key::zeroed(key_len);
                random.fill(key.as_mut_bytes()).unwrap();
                let mut material = split(hash, &key, stripes, &mut random).unwrap();
                assert_eq!(material.len(), key_len * stripes);
                let merged = merge(hash, material.as_bytes(), stripes, key_len).unwrap();
                assert_eq!(merged.as_bytes(), key.as_bytes(), "{hash}, {stripes} stripes");
                material.as_mut_bytes()[0] ^= 1;
                let merged = merge(hash, material.as_bytes(), stripes, key_len).unwrap();
                assert_ne!(merged.as_bytes(), key.as_bytes(), "{hash}, {stripes} stripes");
            }
        }
        assert_eq!(
            merge(Hash::Sha1, &[0; 5], 2, 3).unwrap_err(),
            WrongLength { len: 5, stripes: 2, key_len: 3 }
        );
        assert!(merge(Hash::Sha1, &[], 0, 0).is_err());
    }
}
