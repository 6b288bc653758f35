//! What a cipher is called, and which combinations there are.

use crate::hash::{Hash, UnknownHash};

/// A block cipher with its key length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Algorithm {
    Aes128,
    Aes192,
    Aes256,
    Cast5,
    Serpent128,
    Serpent192,
    Serpent256,
    Twofish128,
    Twofish192,
    Twofish256,
}

/// What is to be known of an algorithm.
struct Row {
    name: &'static str,
    family: &'static str,
    key_len: usize,
    block_len: usize,
}

const fn row(name: &'static str, family: &'static str, key_len: usize, block_len: usize) -> Row {
    Row { name, family, key_len, block_len }
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 10] = [
        Self::Aes128,
        Self::Aes192,
        Self::Aes256,
        Self::Cast5,
        Self::Serpent128,
        Self::Serpent192,
        Self::Serpent256,
        Self::Twofish128,
        Self::Twofish192,
        Self::Twofish256,
    ];

    const fn row(self) -> Row {
        match self {
            Self::Aes128 => row("aes-128", "aes", 16, 16),
            Self::Aes192 => row("aes-192", "aes", 24, 16),
            Self::Aes256 => row("aes-256", "aes", 32, 16),
            Self::Cast5 => row("cast5-128", "cast5", 16, 8),
            Self::Serpent128 => row("serpent-128", "serpent", 16, 16),
            Self::Serpent192 => row("serpent-192", "serpent", 24, 16),
            Self::Serpent256 => row("serpent-256", "serpent", 32, 16),
            Self::Twofish128 => row("twofish-128", "twofish", 16, 16),
            Self::Twofish192 => row("twofish-192", "twofish", 24, 16),
            Self::Twofish256 => row("twofish-256", "twofish", 32, 16),
        }
    }

    /// Its name in options: `aes-256`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The algorithm of this option name.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its name in headers, which leave the key length out: `aes`.
    pub fn family(self) -> &'static str {
        self.row().family
    }

    /// Length of one key, in bytes; XTS takes two.
    pub fn key_len(self) -> usize {
        self.row().key_len
    }

    /// Length of a block, in bytes.
    pub fn block_len(self) -> usize {
        self.row().block_len
    }

    /// The member of `family` with keys of `key_len` bytes.
    fn find(family: &str, key_len: usize) -> Result<Algorithm, SpecError> {
        let mut members = Self::ALL.into_iter().filter(|member| member.family() == family).peekable();
        if members.peek().is_none() {
            return Err(SpecError::UnknownCipher(family.into()));
        }
        members
            .find(|member| member.key_len() == key_len)
            .ok_or_else(|| SpecError::KeyLength { family: family.into(), key_len })
    }
}

/// How blocks of a sector hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mode {
    Xts,
    Cbc,
    Ecb,
    Ctr,
}

impl Mode {
    const ALL: [Mode; 4] = [Mode::Xts, Mode::Cbc, Mode::Ecb, Mode::Ctr];

    /// Its name in headers and options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xts => "xts",
            Self::Cbc => "cbc",
            Self::Ecb => "ecb",
            Self::Ctr => "ctr",
        }
    }

    /// The mode of this name.
    pub fn from_name(name: &str) -> Option<Mode> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }

    /// How many keys of the block cipher it takes.
    const fn keys(self) -> usize {
        match self {
            Self::Xts => 2,
            Self::Cbc | Self::Ecb | Self::Ctr => 1,
        }
    }
}

/// How a sector's number becomes its initialisation vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IvGenerator {
    /// All zero.
    None,
    /// The low 32 bits of the number, little endian.
    Plain,
    /// The number in 64 bits, little endian.
    Plain64,
    /// The number in 64 bits, big endian, at the vector's end.
    Plain64be,
    /// The number in 64 bits, little endian, encrypted under the hash of the key.
    Essiv(Hash),
}

impl IvGenerator {
    /// Its name in headers; the hash of ESSIV goes behind a colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "null",
            Self::Plain => "plain",
            Self::Plain64 => "plain64",
            Self::Plain64be => "plain64be",
            Self::Essiv(_) => "essiv",
        }
    }

    fn parse(text: &str) -> Result<IvGenerator, SpecError> {
        let (name, hash) = text.split_once(':').map_or((text, None), |(name, hash)| (name, Some(hash)));
        // One that takes no hash has one nevertheless in a header of QEMU's where one was asked for, as libvirt does. It has no
        // part in the vectors.
        let simple = [Self::None, Self::Plain, Self::Plain64, Self::Plain64be];
        if let Some(generator) = simple.into_iter().find(|generator| generator.name() == name) {
            return Ok(generator);
        }
        match (name, hash) {
            ("essiv", Some(hash)) => Ok(Self::Essiv(Hash::from_name(hash)?)),
            _ => Err(SpecError::UnknownIv(text.into())),
        }
    }
}

/// A cipher that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The family is not known.
    #[error("cipher '{0}' is not known; known are aes, cast5, serpent and twofish")]
    UnknownCipher(String),
    /// The family has no such key.
    #[error("cipher '{family}' takes no key of {key_len} bytes")]
    KeyLength {
        /// The cipher's family.
        family: String,
        /// Length of one key, in bytes.
        key_len: usize,
    },
    /// The key does not have the length that the cipher and its mode take.
    #[error("{spec} takes a key of {wanted} bytes, not of {got}")]
    KeyGiven {
        /// The cipher, as `aes-xts-plain64`.
        spec: String,
        /// Bytes it takes.
        wanted: usize,
        /// Bytes it was given.
        got: usize,
    },
    /// The mode is not known.
    #[error("cipher mode '{0}' is not known; known are xts, cbc, ecb and ctr")]
    UnknownMode(String),
    /// The generator is not known.
    #[error("IV generator '{0}' is not known; known are plain, plain64, plain64be, essiv:HASH and null")]
    UnknownIv(String),
    /// The mode needs a generator.
    #[error("cipher mode '{0}' lacks its IV generator, as in '{0}-plain64'")]
    NoIv(String),
    /// A hash is not known.
    #[error(transparent)]
    UnknownHash(#[from] UnknownHash),
    /// XTS is defined for blocks of 16 bytes.
    #[error("mode xts works on ciphers with blocks of 16 bytes, and those of {0} have 8")]
    XtsBlock(&'static str),
    /// The hash gives no key that the cipher takes.
    #[error("essiv with hash {hash} gives a key of {len} bytes, which {cipher} doesn't take", len = hash.digest_len())]
    EssivHash {
        /// The cipher's family.
        cipher: &'static str,
        /// The hash.
        hash: Hash,
    },
    /// ESSIV makes vectors of 16 bytes.
    #[error("essiv works on ciphers with blocks of 16 bytes, and those of {0} have 8")]
    EssivBlock(&'static str),
}

/// A cipher, its mode, and its IV generator: a combination that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CipherSpec {
    algorithm: Algorithm,
    mode: Mode,
    iv: IvGenerator,
}

impl CipherSpec {
    /// Checks that the three go together.
    pub fn new(algorithm: Algorithm, mode: Mode, iv: IvGenerator) -> Result<CipherSpec, SpecError> {
        let (family, wide) = (algorithm.family(), algorithm.block_len() == 16);
        if mode == Mode::Xts && !wide {
            return Err(SpecError::XtsBlock(family));
        }
        if let IvGenerator::Essiv(hash) = iv {
            if !wide {
                return Err(SpecError::EssivBlock(family));
            }
            Algorithm::find(family, hash.digest_len())
                .map_err(|_| SpecError::EssivHash { cipher: family, hash })?;
        }
        Ok(CipherSpec { algorithm, mode, iv })
    }

    /// From the two names of a LUKS1 header, `aes` and `xts-plain64`, and the length of the volume key in bytes.
    pub fn from_names(cipher: &str, mode: &str, key_len: usize) -> Result<CipherSpec, SpecError> {
        let (mode, iv) = match mode.split_once('-') {
            Some((mode, iv)) => (mode, Some(iv)),
            None => (mode, None),
        };
        let known = Mode::from_name(mode).ok_or_else(|| SpecError::UnknownMode(mode.into()))?;
        let iv = match iv {
            Some(iv) => IvGenerator::parse(iv)?,
            None if known == Mode::Ecb => IvGenerator::None,
            None => return Err(SpecError::NoIv(mode.into())),
        };
        if !key_len.is_multiple_of(known.keys()) {
            return Err(SpecError::KeyLength { family: cipher.into(), key_len });
        }
        CipherSpec::new(Algorithm::find(cipher, key_len / known.keys())?, known, iv)
    }

    /// From one text, `aes-xts-plain64`, and the length of the volume key in bytes.
    pub fn from_text(text: &str, key_len: usize) -> Result<CipherSpec, SpecError> {
        let (cipher, mode) = text.split_once('-').ok_or_else(|| SpecError::UnknownCipher(text.into()))?;
        CipherSpec::from_names(cipher, mode, key_len)
    }

    /// The block cipher.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The IV generator.
    pub fn iv(&self) -> IvGenerator {
        self.iv
    }

    /// Length of the volume key, in bytes.
    pub fn key_len(&self) -> usize {
        self.algorithm.key_len() * self.mode.keys()
    }

    /// The member of the same family that encrypts the vectors of ESSIV, and the hash that makes its key.
    pub(super) fn essiv(&self) -> Option<(Algorithm, Hash)> {
        let IvGenerator::Essiv(hash) = self.iv else { return None };
        Algorithm::find(self.algorithm.family(), hash.digest_len()).ok().map(|algorithm| (algorithm, hash))
    }

    /// The second name of a LUKS1 header: `xts-plain64`, `cbc-essiv:sha256`.
    pub fn mode_name(&self) -> String {
        let (mode, iv) = (self.mode.name(), self.iv.name());
        match self.iv {
            IvGenerator::Essiv(hash) => format!("{mode}-{iv}:{hash}"),
            IvGenerator::None if self.mode == Mode::Ecb => mode.into(),
            _ => format!("{mode}-{iv}"),
        }
    }
}

impl std::fmt::Display for CipherSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.algorithm.family(), self.mode_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_leads_back_to_its_cipher() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
            for mode in Mode::ALL {
                for iv in [
                    IvGenerator::None,
                    IvGenerator::Plain,
                    IvGenerator::Plain64,
                    IvGenerator::Plain64be,
                    IvGenerator::Essiv(Hash::Sha256),
                ] {
                    let Ok(spec) = CipherSpec::new(algorithm, mode, iv) else {
                        assert_eq!(algorithm, Algorithm::Cast5);
                        continue;
                    };
                    assert_eq!(CipherSpec::from_text(&spec.to_string(), spec.key_len()), Ok(spec));
                }
            }
        }
    }

    #[test]
    fn a_hash_that_the_vectors_have_no_use_for_is_passed_over() {
        for (with, without) in [
            ("cbc-plain64:sha256", "cbc-plain64"),
            ("xts-plain:md5", "xts-plain"),
            ("ctr-null:x", "ctr-null"),
        ] {
            let read = CipherSpec::from_names("serpent", with, 32).unwrap();
            assert_eq!(Ok(read), CipherSpec::from_names("serpent", without, 32));
        }
        assert!(CipherSpec::from_names("aes", "cbc-essiv", 32).is_err());
    }

    #[test]
    fn what_can_not_be_is_refused_by_name() {
        for (text, key_len, error) in [
            ("camellia-xts-plain64", 64, SpecError::UnknownCipher("camellia".into())),
            ("aes", 32, SpecError::UnknownCipher("aes".into())),
            ("aes-xts-plain64", 63, SpecError::KeyLength { family: "aes".into(), key_len: 63 }),
            ("aes-xts-plain64", 128, SpecError::KeyLength { family: "aes".into(), key_len: 64 }),
            ("aes-gcm-plain64", 32, SpecError::UnknownMode("gcm".into())),
            ("aes-cbc-benbi", 32, SpecError::UnknownIv("benbi".into())),
            ("aes-cbc", 32, SpecError::NoIv("cbc".into())),
            ("aes-cbc-essiv:whirlpool", 32, SpecError::UnknownHash(UnknownHash("whirlpool".into()))),
            ("aes-cbc-essiv:sha1", 32, SpecError::EssivHash { cipher: "aes", hash: Hash::Sha1 }),
            ("cast5-cbc-essiv:md5", 16, SpecError::EssivBlock("cast5")),
            ("cast5-xts-plain64", 32, SpecError::XtsBlock("cast5")),
        ] {
            assert_eq!(CipherSpec::from_text(text, key_len), Err(error), "{text}");
        }
    }
}
