//! A sector cipher as the form in which data is stored.
use block::{BlockError, CodedAt, Coding, ErrorKind, Result};
use crypto::{Algorithm, CipherError, SectorCipher};
use std::sync::Arc;

/// Bytes that AES, which processors have instructions for, takes less than half a millisecond for.
const FAST: usize = 1 << 20;
/// Bytes that other ciphers take about as long for.
const SLOW: usize = 64 << 10;

/// Which number a sector has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// That of its place in the disk, where the first one has this number (in units of 512 bytes).
    Guest(u64),
    /// That of its place in the file.
    Stored,
}

/// Data encrypted sector by sector.
pub(crate) struct CipherCoding {
    cipher: SectorCipher,
    numbers: Numbers,
}

impl CipherCoding {
    /// The form of data under this cipher.
    pub(crate) fn of(cipher: SectorCipher, numbers: Numbers) -> Arc<dyn Coding> {
        Arc::new(Self { cipher, numbers })
    }

    fn first(&self, at: CodedAt) -> u64 {
        match self.numbers {
            Numbers::Guest(first) => (at.guest / 512).wrapping_add(first),
            Numbers::Stored => at.stored / 512,
        }
    }
}

fn failed(e: CipherError) -> BlockError {
    BlockError::of(ErrorKind::Io, e)
}

impl Coding for CipherCoding {
    fn unit(&self) -> u64 {
        self.cipher.sector().bytes() as u64
    }

    fn at_once(&self) -> usize {
        match self.cipher.spec().algorithm() {
            Algorithm::Aes128 | Algorithm::Aes192 | Algorithm::Aes256 => FAST,
            _ => SLOW,
        }
    }

    fn decode(&self, at: CodedAt, data: &mut [u8]) -> Result<()> {
        self.cipher.decrypt(self.first(at), data).map_err(failed)
    }

    fn encode(&self, at: CodedAt, data: &[u8], stored: &mut [u8]) -> Result<()> {
        self.cipher.encrypt_to(self.first(at), data, stored).map_err(failed)
    }
}

/// Data whose key is not there: it can neither be read nor written.
pub(crate) fn locked() -> Arc<dyn Coding> {
    Arc::new(Locked)
}

struct Locked;

impl Locked {
    fn refused() -> BlockError {
        let text =
            "the image is encrypted, and was opened without its key: its content can't be read or written";
        BlockError::new(ErrorKind::Permission, text)
    }
}

impl Coding for Locked {
    fn unit(&self) -> u64 {
        512
    }

    fn at_once(&self) -> usize {
        0
    }

    fn decode(&self, _: CodedAt, _: &mut [u8]) -> Result<()> {
        Err(Self::refused())
    }

    fn encode(&self, _: CodedAt, _: &[u8], _: &mut [u8]) -> Result<()> {
        Err(Self::refused())
    }
}
