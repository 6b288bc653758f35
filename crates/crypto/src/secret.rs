//! Data of secret objects: as it is, as base64, or encrypted by another secret.
//!
//! Encrypted data is AES-256 in CBC under a key of 32 bytes, the other secret's data, filled up to whole blocks as PKCS
//! #7 does (RFC 5652, 6.3). The key is one for many secrets; the vector is each secret's own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cipher::KeyInit;
use cipher::array::Array;

use crate::cipher::{cbc_decrypt, cbc_encrypt};
use crate::key::Key;

/// Length of the key that encrypts secrets, in bytes.
pub const KEY_LEN: usize = 32;
/// Length of the vector, in bytes.
pub const IV_LEN: usize = 16;
const BLOCK_LEN: usize = 16;

/// How the data of a secret is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As it is.
    Raw,
    /// Base64 with padding (RFC 4648, 4); white space is passed over.
    Base64,
}

/// A secret that can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No base64.
    #[error("the {what} is not valid base64: {why}")]
    Base64 {
        /// Which text.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The vector has the wrong length.
    #[error("the initialisation vector has {0} bytes instead of 16")]
    IvLength(usize),
    /// The key has the wrong length.
    #[error("the secret that encrypts this one has {0} bytes instead of 32")]
    KeyLength(usize),
    /// The data is not made of whole blocks.
    #[error("the encrypted data has {0} bytes, which are not whole blocks of 16")]
    NotWholeBlocks(usize),
    /// What came out is not filled up as it should be.
    #[error("the encrypted data does not decrypt: the key, the initialisation vector or the data is wrong")]
    DoesNotDecrypt,
    /// A passphrase must be text.
    #[error("the secret is not UTF-8 text, which a passphrase must be; is its format base64?")]
    NotText,
}

/// The data of a secret that is not encrypted.
pub fn decode(format: Format, data: &[u8]) -> Result<Key, SecretError> {
    match format {
        Format::Raw => Ok(Key::new(data.to_vec())),
        Format::Base64 => from_base64("secret", data),
    }
}

/// The vector of an encrypted secret, from its base64 text.
pub fn iv(text: &str) -> Result<[u8; IV_LEN], SecretError> {
    let bytes = from_base64("initialisation vector", text.as_bytes())?;
    bytes.as_bytes().try_into().map_err(|_| SecretError::IvLength(bytes.len()))
}

/// The data of a secret that is encrypted under `key`, the data of another one.
pub fn decrypt(key: &Key, iv: &[u8; IV_LEN], format: Format, data: &[u8]) -> Result<Key, SecretError> {
    let mut data = decode(format, data)?;
    if data.len() == 0 || !data.len().is_multiple_of(BLOCK_LEN) {
        return Err(SecretError::NotWholeBlocks(data.len()));
    }
    cbc_decrypt(&cipher_of(key)?, &Array(*iv), data.as_mut_bytes());
    let filling = data.as_bytes().last().copied().unwrap_or_default();
    let len = data.len().checked_sub(filling.into()).ok_or(SecretError::DoesNotDecrypt)?;
    let (start, end) = data.as_bytes().split_at(len);
    if !(1..=BLOCK_LEN).contains(&filling.into()) || end.iter().any(|byte| *byte != filling) {
        return Err(SecretError::DoesNotDecrypt);
    }
    Ok(Key::new(start.to_vec()))
}

/// Encrypts the data of a secret under `key`, the data of another one.
pub fn encrypt(key: &Key, iv: &[u8; IV_LEN], data: &Key) -> Result<Vec<u8>, SecretError> {
    let cipher = cipher_of(key)?;
    let filling = BLOCK_LEN - data.len() % BLOCK_LEN;
    // Made at its full length, so that no shorter copy of the plain text stays behind in memory.
    let mut out = Vec::with_capacity(data.len() + filling);
    out.extend_from_slice(data.as_bytes());
    out.resize(data.len() + filling, filling as u8);
    let chain = out.len();
    cbc_encrypt(&cipher, &mut [Array(*iv)], chain, &mut out);
    Ok(out)
}

/// The secret as a passphrase, which is text.
pub fn as_text(secret: &Key) -> Result<&str, SecretError> {
    std::str::from_utf8(secret.as_bytes()).map_err(|_| SecretError::NotText)
}

fn cipher_of(key: &Key) -> Result<aes::Aes256, SecretError> {
    aes::Aes256::new_from_slice(key.as_bytes()).map_err(|_| SecretError::KeyLength(key.len()))
}

fn from_base64(what: &'static str, text: &[u8]) -> Result<Key, SecretError> {
    let mut compact = Key::zeroed(text.len());
    let mut len = 0;
    let letters = text.iter().filter(|byte| !byte.is_ascii_whitespace());
    for (target, letter) in compact.as_mut_bytes().iter_mut().zip(letters) {
        *target = *letter;
        len += 1;
    }
    let text = compact.as_bytes().get(..len).unwrap_or_default();
    let bytes = STANDARD.decode(text).map_err(|e| SecretError::Base64 { what, why: e.to_string() })?;
    Ok(Key::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IV: [u8; 16] = *b"0123456789abcdef";

    fn key() -> Key {
        Key::new((0..32).collect())
    }

    #[test]
    fn a_secret_comes_back_whatever_its_length() {
        for len in 0..50 {
            let data = Key::new((0..len).collect());
            let encrypted = encrypt(&key(), &IV, &data).unwrap();
            assert!(encrypted.len() > data.len() && encrypted.len().is_multiple_of(16));
            let back = decrypt(&key(), &IV, Format::Raw, &encrypted).unwrap();
            assert_eq!(back.as_bytes(), data.as_bytes());
            let text = STANDARD.encode(&encrypted);
            let lines = text.as_bytes().chunks(20).collect::<Vec<_>>().join(&b"\r\n"[..]);
            let back = decrypt(&key(), &IV, Format::Base64, &lines).unwrap();
            assert_eq!(back.as_bytes(), data.as_bytes());
        }
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_told() {
        let error = |result: Result<Key, SecretError>| result.unwrap_err();
        let encrypted = encrypt(&key(), &IV, &Key::new(b"secret".to_vec())).unwrap();
        let wrong = Key::new((1..33).collect());
        assert_eq!(error(decrypt(&wrong, &IV, Format::Raw, &encrypted)), SecretError::DoesNotDecrypt);
        let short = Key::new(b"short".to_vec());
        assert_eq!(error(decrypt(&short, &IV, Format::Raw, &encrypted)), SecretError::KeyLength(5));
        let cut = &encrypted[..15];
        assert_eq!(error(decrypt(&key(), &IV, Format::Raw, cut)), SecretError::NotWholeBlocks(15));
        assert_eq!(error(decrypt(&key(), &IV, Format::Raw, &[])), SecretError::NotWholeBlocks(0));
        assert!(matches!(error(decode(Format::Base64, b"a$bc")), SecretError::Base64 { what: "secret", .. }));
        assert_eq!(iv("MDEyMzQ1Njc4OWFiY2RlZg=="), Ok(IV));
        assert_eq!(iv("MDEy"), Err(SecretError::IvLength(3)));
        assert_eq!(as_text(&Key::new(vec![0xff])), Err(SecretError::NotText));
        assert_eq!(as_text(&Key::new(b"abc".to_vec())), Ok("abc"));
    }
}
