//! Ciphers by sector.
//!
//! A [`SectorCipher`] is made once of a volume key and used by any number of threads at once. Sectors are numbered in
//! units of 512 bytes whatever their own length, as dm-crypt numbers them.
//!
//! ```text
//! sector number ── iv: plain64, essiv … ──▶ vector ── modes: XTS, CBC, CTR over aes, serpent, twofish, cast5
//!                                              └───── aes_xts: AES-256-XTS of AWS-LC, four times as fast
//! ```
//!
//! Vectors are made, and blocks encrypted, for many sectors in one go: block by block each of these ciphers runs at a
//! tenth of its speed.

mod aes_xts;
mod evp;
mod iv;
mod modes;
mod spec;
mod twofish;

pub(crate) use modes::{cbc_decrypt, cbc_encrypt};
pub use spec::{Algorithm, CipherSpec, IvGenerator, Mode, SpecError};

use cipher::KeyInit;

use crate::Key;
use iv::{Encrypt, Vectors};

/// Length of the sectors that are encrypted one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SectorLen {
    B512 = 512,
    B1024 = 1024,
    B2048 = 2048,
    B4096 = 4096,
}

impl SectorLen {
    /// The sector length of so many bytes.
    pub fn from_bytes(bytes: u64) -> Option<SectorLen> {
        [Self::B512, Self::B1024, Self::B2048, Self::B4096]
            .into_iter()
            .find(|len| len.bytes() as u64 == bytes)
    }

    /// In bytes.
    pub const fn bytes(self) -> usize {
        self as usize
    }
}

/// Why a buffer was not en- or decrypted. Its content is not to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// It is not made of whole sectors.
    #[error("{len} bytes are not whole sectors of {sector} bytes")]
    NotWholeSectors {
        /// The buffer's length.
        len: usize,
        /// The sector's.
        sector: usize,
    },
    /// Source and target differ in length.
    #[error("{source_len} bytes don't fill a buffer of {target_len}")]
    Lengths {
        /// The source's length.
        source_len: usize,
        /// The target's length.
        target_len: usize,
    },
    /// The library failed, which it does not do on whole sectors.
    #[error("the cipher library failed on a sector")]
    Library,
}

/// En- and decrypts whole sectors; `data` is checked to be made of them. `first` is the number of the first one.
trait Sectors: Send + Sync {
    fn encrypt(&self, first: u64, data: &mut [u8]) -> Result<(), CipherError>;
    fn decrypt(&self, first: u64, data: &mut [u8]) -> Result<(), CipherError>;

    fn encrypt_to(&self, first: u64, source: &[u8], target: &mut [u8]) -> Result<(), CipherError> {
        target.copy_from_slice(source);
        self.encrypt(first, target)
    }

    fn decrypt_to(&self, first: u64, source: &[u8], target: &mut [u8]) -> Result<(), CipherError> {
        target.copy_from_slice(source);
        self.decrypt(first, target)
    }
}

/// A cipher with its key, over sectors.
pub struct SectorCipher {
    spec: CipherSpec,
    sector: SectorLen,
    engine: Box<dyn Sectors>,
}

impl std::fmt::Debug for SectorCipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SectorCipher({}, {} byte sectors)", self.spec, self.sector.bytes())
    }
}

impl SectorCipher {
    /// A cipher under `key`, which must be [`CipherSpec::key_len`] bytes long.
    pub fn new(spec: CipherSpec, key: &Key, sector: SectorLen) -> Result<SectorCipher, SpecError> {
        let engine = engine(&spec, key.as_bytes(), sector.bytes()).ok_or_else(|| SpecError::KeyGiven {
            spec: spec.to_string(),
            wanted: spec.key_len(),
            got: key.len(),
        })?;
        Ok(SectorCipher { spec, sector, engine })
    }

    /// What it does.
    pub fn spec(&self) -> &CipherSpec {
        &self.spec
    }

    /// Length of its sectors.
    pub fn sector(&self) -> SectorLen {
        self.sector
    }

    /// Encrypts in place. `first` is the number of the first sector, in units of 512 bytes.
    pub fn encrypt(&self, first: u64, data: &mut [u8]) -> Result<(), CipherError> {
        self.whole(data.len())?;
        self.engine.encrypt(first, data)
    }

    /// Decrypts in place.
    pub fn decrypt(&self, first: u64, data: &mut [u8]) -> Result<(), CipherError> {
        self.whole(data.len())?;
        self.engine.decrypt(first, data)
    }

    /// Encrypts `source` into `target`, which is as long.
    pub fn encrypt_to(&self, first: u64, source: &[u8], target: &mut [u8]) -> Result<(), CipherError> {
        self.pair(source, target)?;
        self.engine.encrypt_to(first, source, target)
    }

    /// Decrypts `source` into `target`, which is as long.
    pub fn decrypt_to(&self, first: u64, source: &[u8], target: &mut [u8]) -> Result<(), CipherError> {
        self.pair(source, target)?;
        self.engine.decrypt_to(first, source, target)
    }

    fn pair(&self, source: &[u8], target: &[u8]) -> Result<(), CipherError> {
        let (source_len, target_len) = (source.len(), target.len());
        if source_len != target_len {
            return Err(CipherError::Lengths { source_len, target_len });
        }
        self.whole(source_len)
    }

    fn whole(&self, len: usize) -> Result<(), CipherError> {
        let sector = self.sector.bytes();
        if len.is_multiple_of(sector) { Ok(()) } else { Err(CipherError::NotWholeSectors { len, sector }) }
    }
}

/// Runs `$body` with `$C` as the type of block cipher `$algorithm`; those with blocks of 16 bytes alone.
macro_rules! with_wide {
    ($algorithm:expr, $C:ident => $body:expr, else $other:expr) => {
        match $algorithm {
            Algorithm::Aes128 => with_wide!(@ aes::Aes128, $C, $body),
            Algorithm::Aes192 => with_wide!(@ aes::Aes192, $C, $body),
            Algorithm::Aes256 => with_wide!(@ aes::Aes256, $C, $body),
            Algorithm::Serpent128 | Algorithm::Serpent192 | Algorithm::Serpent256 => {
                with_wide!(@ serpent::Serpent, $C, $body)
            }
            Algorithm::Twofish128 | Algorithm::Twofish192 | Algorithm::Twofish256 => {
                with_wide!(@ $crate::cipher::twofish::Twofish, $C, $body)
            }
            Algorithm::Cast5 => $other,
        }
    };
    (@ $type:ty, $C:ident, $body:expr) => {{
        type $C = $type;
        $body
    }};
}

/// The engine for a cipher, unless the key is too long or too short.
fn engine(spec: &CipherSpec, key: &[u8], sector: usize) -> Option<Box<dyn Sectors>> {
    if key.len() != spec.key_len() {
        return None;
    }
    if spec.algorithm() == Algorithm::Aes256 && spec.mode() == Mode::Xts {
        // The library refuses two equal halves, which no honest volume has; those go the other way.
        if let Some(engine) = aes_xts::Aes256Xts::new(key, wide_vectors(spec, key)?, sector) {
            return Some(Box::new(engine));
        }
    }
    with_wide!(spec.algorithm(), C => {
        let vectors = wide_vectors(spec, key)?;
        if spec.mode() == Mode::Xts {
            let (data, tweak) = key.split_at(key.len() / 2);
            let (data, tweak) = (C::new_from_slice(data).ok()?, C::new_from_slice(tweak).ok()?);
            return Some(Box::new(modes::Xts { data, tweak, vectors, sector }));
        }
        chained(spec.mode(), C::new_from_slice(key).ok()?, vectors, sector)
    }, else {
        let vectors = Vectors { generator: spec.iv(), essiv: None };
        chained(spec.mode(), cast5::Cast5::new_from_slice(key).ok()?, vectors, sector)
    })
}

/// The engine of a mode that takes one key.
fn chained<C: modes::BlockCipher>(
    mode: Mode,
    cipher: C,
    vectors: Vectors<C::BlockSize>,
    sector: usize,
) -> Option<Box<dyn Sectors>> {
    match mode {
        Mode::Cbc => Some(Box::new(modes::Cbc { cipher, vectors, sector })),
        Mode::Ecb => Some(Box::new(modes::Ecb { cipher })),
        Mode::Ctr => Some(Box::new(modes::Ctr { cipher, vectors, sector })),
        Mode::Xts => None,
    }
}

/// The vectors of a cipher with blocks of 16 bytes.
fn wide_vectors(spec: &CipherSpec, key: &[u8]) -> Option<Vectors<cipher::consts::U16>> {
    let essiv = match spec.essiv() {
        None => None,
        Some((algorithm, hash)) => {
            let mut hashed = Key::zeroed(hash.digest_len());
            hash.digest(&[key], hashed.as_mut_bytes());
            Some(with_wide!(algorithm, C => {
                Box::new(C::new_from_slice(hashed.as_bytes()).ok()?) as Box<dyn Encrypt<cipher::consts::U16>>
            }, else return None))
        }
    };
    Some(Vectors { generator: spec.iv(), essiv })
}

#[cfg(test)]
mod tests;
