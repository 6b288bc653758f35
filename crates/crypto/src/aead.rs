//! Authenticated encryption of records under one key, by AWS-LC: AES-GCM and ChaCha20-Poly1305.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use aws_lc_sys::{
    ERR_clear_error, EVP_AEAD, EVP_AEAD_CTX, EVP_AEAD_CTX_free, EVP_AEAD_CTX_new, EVP_AEAD_CTX_open,
    EVP_AEAD_CTX_seal_scatter, EVP_aead_aes_128_gcm, EVP_aead_aes_256_gcm, EVP_aead_chacha20_poly1305,
};

/// Bytes of the tag behind what is encrypted.
pub const TAG: usize = 16;
/// Bytes of a nonce.
pub const NONCE: usize = 12;

/// A cipher with its authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AeadCipher {
    /// AES-128-GCM.
    Aes128Gcm,
    /// AES-256-GCM.
    Aes256Gcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl AeadCipher {
    /// Bytes of a key.
    pub fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 32,
        }
    }

    fn raw(self) -> *const EVP_AEAD {
        // SAFETY: these take nothing and give a pointer to what is static.
        unsafe {
            match self {
                Self::Aes128Gcm => EVP_aead_aes_128_gcm(),
                Self::Aes256Gcm => EVP_aead_aes_256_gcm(),
                Self::ChaCha20Poly1305 => EVP_aead_chacha20_poly1305(),
            }
        }
    }
}

/// A cipher under one key. The library wipes the key when it is freed. A nonce serves for one message alone: that is the
/// caller's.
pub struct Aead(NonNull<EVP_AEAD_CTX>);

// SAFETY: the context is owned by this value alone, has nothing that belongs to a thread, and is only read after it was made.
unsafe impl Send for Aead {}
// SAFETY: sealing and opening read the context, and change nothing in it.
unsafe impl Sync for Aead {}

impl Aead {
    /// The cipher under `key`; none if that has not the cipher's length, or memory lacks.
    pub fn new(cipher: AeadCipher, key: &[u8]) -> Option<Self> {
        if key.len() != cipher.key_len() {
            return None;
        }
        // SAFETY: the cipher is static, and the key is valid for reads of its length; gives a context of ours or null.
        let raw = unsafe { EVP_AEAD_CTX_new(cipher.raw(), key.as_ptr(), key.len(), TAG) };
        NonNull::new(raw).map(Self)
    }

    /// Encrypts `plain`, then the byte `last`, and puts the tag behind them; `out` is as long as these, and none of `plain`.
    /// Whether it was done.
    pub fn seal(&self, nonce: &[u8; NONCE], ad: &[u8], plain: &[u8], last: u8, out: &mut [u8]) -> bool {
        // SAFETY: `plain` is valid for reads of its length, and another piece of memory than `out`.
        unsafe { self.run(nonce, ad, plain.as_ptr(), plain.len(), last, out) }
    }

    /// As [`Aead::seal`], of the first bytes of `out`: all but the last one and the tag.
    pub fn seal_in_place(&self, nonce: &[u8; NONCE], ad: &[u8], last: u8, out: &mut [u8]) -> bool {
        let Some(len) = out.len().checked_sub(1 + TAG) else { return false };
        let plain = out.as_mut_ptr().cast_const();
        // SAFETY: `plain` is the beginning of `out`, of which it has at most the length.
        unsafe { self.run(nonce, ad, plain, len, last, out) }
    }

    /// # Safety
    ///
    /// `plain` must be valid for reads of `len` bytes, and begin where `out` does or not overlap with it.
    unsafe fn run(
        &self,
        nonce: &[u8; NONCE],
        ad: &[u8],
        plain: *const u8,
        len: usize,
        last: u8,
        out: &mut [u8],
    ) -> bool {
        if out.len() != len + 1 + TAG {
            return false;
        }
        let mut tag = 0;
        let (body, rest) = out.split_at_mut(len);
        // SAFETY: the context is valid; nonce and associated data are valid for reads of their lengths, `plain` as the caller
        // promises; the library writes `len` bytes to `body`, and one byte and the tag to `rest`, which has room for just that.
        let done = unsafe {
            EVP_AEAD_CTX_seal_scatter(
                self.0.as_ptr(),
                body.as_mut_ptr(),
                rest.as_mut_ptr(),
                &raw mut tag,
                rest.len(),
                nonce.as_ptr(),
                nonce.len(),
                plain,
                len,
                &raw const last,
                1,
                ad.as_ptr(),
                ad.len(),
            )
        };
        settled(done) && tag == 1 + TAG
    }

    /// Decrypts `sealed`, which ends with its tag, to the beginning of `out`: how many bytes that are; none if it is not what was
    /// sealed. `out` has room for them: then its first bytes are of no use.
    pub fn open(&self, nonce: &[u8; NONCE], ad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        // SAFETY: `sealed` is valid for reads of its length, and another piece of memory than `out`.
        unsafe { self.decrypt(nonce, ad, (sealed.as_ptr(), sealed.len()), (out.as_mut_ptr(), out.len())) }
    }

    /// As [`Aead::open`], in place.
    pub fn open_in_place(&self, nonce: &[u8; NONCE], ad: &[u8], sealed: &mut [u8]) -> Option<usize> {
        let (at, len) = (sealed.as_mut_ptr(), sealed.len());
        // SAFETY: both are the same memory, valid for reads and writes of `len` bytes.
        unsafe { self.decrypt(nonce, ad, (at.cast_const(), len), (at, len)) }
    }

    /// # Safety
    ///
    /// `sealed` must be valid for reads and `out` for writes of their lengths; they begin at the same place or don't overlap.
    unsafe fn decrypt(
        &self,
        nonce: &[u8; NONCE],
        ad: &[u8],
        sealed: (*const u8, usize),
        out: (*mut u8, usize),
    ) -> Option<usize> {
        let mut len = 0;
        if sealed.1 < TAG || out.1 < sealed.1 - TAG {
            return None;
        }
        // SAFETY: the context is valid; nonce and associated data are valid for reads of their lengths, the others as the
        // caller promises; the library writes at most as many bytes as it is told there is room for.
        let done = unsafe {
            EVP_AEAD_CTX_open(
                self.0.as_ptr(),
                out.0,
                &raw mut len,
                out.1,
                nonce.as_ptr(),
                nonce.len(),
                sealed.0,
                sealed.1,
                ad.as_ptr(),
                ad.len(),
            )
        };
        settled(done).then_some(len)
    }
}

/// Whether a call did what it was to do. What failed leaves nothing behind in the thread's queue of errors, which nobody reads.
fn settled(done: i32) -> bool {
    if done != 1 {
        // SAFETY: takes nothing.
        unsafe { ERR_clear_error() };
    }
    done == 1
}

impl Drop for Aead {
    fn drop(&mut self) {
        // SAFETY: the context came from EVP_AEAD_CTX_new and is freed once.
        unsafe { EVP_AEAD_CTX_free(self.0.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [AeadCipher; 3] = [AeadCipher::Aes128Gcm, AeadCipher::Aes256Gcm, AeadCipher::ChaCha20Poly1305];

    #[test]
    fn what_was_sealed_is_opened_and_nothing_else_is() {
        for cipher in ALL {
            let aead = Aead::new(cipher, &vec![7; cipher.key_len()]).unwrap();
            let (nonce, plain) = ([3; NONCE], vec![5; 1000]);
            let mut sealed = vec![0; plain.len() + 1 + TAG];
            assert!(aead.seal(&nonce, b"head", &plain, 23, &mut sealed));
            let mut same = plain.clone();
            same.resize(sealed.len(), 0);
            assert!(aead.seal_in_place(&nonce, b"head", 23, &mut same));
            assert_eq!(sealed, same, "{cipher:?}");

            let mut opened = vec![0; sealed.len()];
            assert_eq!(aead.open(&nonce, b"head", &sealed, &mut opened), Some(1001));
            assert_eq!((&opened[..1000], opened[1000]), (&plain[..], 23));
            assert_eq!(aead.open_in_place(&nonce, b"head", &mut same), Some(1001));
            assert_eq!(&same[..1000], &plain[..]);

            assert_eq!(aead.open(&nonce, b"heat", &sealed, &mut opened), None);
            assert_eq!(aead.open(&[4; NONCE], b"head", &sealed, &mut opened), None);
            assert_eq!(aead.open(&nonce, b"head", &sealed[..TAG - 1], &mut opened), None);
            assert_eq!(aead.open(&nonce, b"head", &sealed, &mut opened[..1000]), None, "no room");
            sealed[500] ^= 1;
            assert_eq!(aead.open(&nonce, b"head", &sealed, &mut opened), None);
            assert!(!aead.seal(&nonce, b"", &plain, 23, &mut opened[..100]), "no room");
            assert!(Aead::new(cipher, b"short").is_none());
        }
    }

    /// The first test case of the GCM specification that has data and additional data, cut to what this interface can say.
    #[test]
    fn aes_128_gcm_gives_what_its_specification_says() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let aead = Aead::new(AeadCipher::Aes128Gcm, &hex("feffe9928665731c6d6a8f9467308308")).unwrap();
        let nonce: [u8; NONCE] = hex("cafebabefacedbaddecaf888").try_into().unwrap();
        let plain = hex(concat!(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72",
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
        ));
        let sealed = hex(concat!(
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e",
            "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
            "5bc94fbc3221a5db94fae95ae7121a47"
        ));
        let ad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let (front, last) = plain.split_at(plain.len() - 1);
        let mut out = vec![0; sealed.len()];
        assert!(aead.seal(&nonce, &ad, front, last[0], &mut out));
        assert_eq!(out, sealed);
    }
}
