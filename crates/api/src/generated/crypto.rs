// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Encryption: ciphers, what LUKS volumes are opened, made and changed with, what is told of them, and secrets.

use crate::Dict;
use crate::codec::*;

/// Hash functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QCryptoHashAlgo {
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
    /// RIPEMD-160.
    Ripemd160,
    /// SM3.
    Sm3,
}

impl Enumeration for QCryptoHashAlgo {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("md5", Self::Md5),
        ("sha1", Self::Sha1),
        ("sha224", Self::Sha224),
        ("sha256", Self::Sha256),
        ("sha384", Self::Sha384),
        ("sha512", Self::Sha512),
        ("ripemd160", Self::Ripemd160),
        ("sm3", Self::Sm3),
    ];
}
enumeration_codec!(QCryptoHashAlgo);

/// Block ciphers, each with the length of its key in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QCryptoCipherAlgo {
    /// AES.
    Aes128,
    /// AES.
    Aes192,
    /// AES.
    Aes256,
    /// CAST5.
    Cast5128,
    /// Serpent.
    Serpent128,
    /// Serpent.
    Serpent192,
    /// Serpent.
    Serpent256,
    /// Twofish.
    Twofish128,
    /// Twofish.
    Twofish192,
    /// Twofish.
    Twofish256,
}

impl Enumeration for QCryptoCipherAlgo {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("aes-128", Self::Aes128),
        ("aes-192", Self::Aes192),
        ("aes-256", Self::Aes256),
        ("cast5-128", Self::Cast5128),
        ("serpent-128", Self::Serpent128),
        ("serpent-192", Self::Serpent192),
        ("serpent-256", Self::Serpent256),
        ("twofish-128", Self::Twofish128),
        ("twofish-192", Self::Twofish192),
        ("twofish-256", Self::Twofish256),
    ];
}
enumeration_codec!(QCryptoCipherAlgo);

/// How the blocks of a sector hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QCryptoCipherMode {
    /// Not at all.
    Ecb,
    /// Each with the one before.
    Cbc,
    /// By their place.
    Xts,
    /// By a counter.
    Ctr,
}

impl Enumeration for QCryptoCipherMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("ecb", Self::Ecb), ("cbc", Self::Cbc), ("xts", Self::Xts), ("ctr", Self::Ctr)];
}
enumeration_codec!(QCryptoCipherMode);

/// How the number of a sector becomes its initialisation vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QCryptoIVGenAlgo {
    /// Its low 32 bits.
    Plain,
    /// The number.
    Plain64,
    /// The number, encrypted under a hash of the key.
    Essiv,
}

impl Enumeration for QCryptoIVGenAlgo {
    const VALUES: &'static [(&'static str, Self)] =
        &[("plain", Self::Plain), ("plain64", Self::Plain64), ("essiv", Self::Essiv)];
}
enumeration_codec!(QCryptoIVGenAlgo);

/// Kinds of encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QCryptoBlockFormat {
    /// AES as in the first qcow images.
    Qcow,
    /// LUKS.
    Luks,
}

impl Enumeration for QCryptoBlockFormat {
    const VALUES: &'static [(&'static str, Self)] = &[("qcow", Self::Qcow), ("luks", Self::Luks)];
}
enumeration_codec!(QCryptoBlockFormat);

/// What an image with the old AES encryption is opened with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QCryptoBlockOptionsQCow {
    /// The secret that is the key; none is needed to look at the image without its content.
    pub key_secret: Option<String>,
}

impl Object for QCryptoBlockOptionsQCow {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { key_secret: from.optional("key-secret")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("key-secret", &self.key_secret);
    }
}
object_codec!(QCryptoBlockOptionsQCow);

/// What a LUKS volume is opened with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QCryptoBlockOptionsLUKS {
    /// The secret with the passphrase; none is needed to look at the volume without its content.
    pub key_secret: Option<String>,
    /// Most rounds of PBKDF2 that opening a key slot may take; what the default refuses is told by the error.
    /// Not in QEMU.
    pub x_max_rounds: Option<Size>,
    /// Most bytes of memory that opening a key slot may take. Not in QEMU.
    pub x_max_memory: Option<Size>,
}

impl Object for QCryptoBlockOptionsLUKS {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key_secret: from.optional("key-secret")?,
            x_max_rounds: from.optional("x-max-rounds")?,
            x_max_memory: from.optional("x-max-memory")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("key-secret", &self.key_secret);
        to.put_optional("x-max-rounds", &self.x_max_rounds);
        to.put_optional("x-max-memory", &self.x_max_memory);
    }
}
object_codec!(QCryptoBlockOptionsLUKS);

/// What is asked of a new LUKS volume.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QCryptoBlockCreateOptionsLUKS {
    /// The secret with the passphrase; none is needed to look at the volume without its content.
    pub key_secret: Option<String>,
    /// Most rounds of PBKDF2 that opening a key slot may take; what the default refuses is told by the error.
    /// Not in QEMU.
    pub x_max_rounds: Option<Size>,
    /// Most bytes of memory that opening a key slot may take. Not in QEMU.
    pub x_max_memory: Option<Size>,
    /// The cipher; AES with keys of 256 bits if absent.
    pub cipher_alg: Option<QCryptoCipherAlgo>,
    /// Its mode; XTS if absent.
    pub cipher_mode: Option<QCryptoCipherMode>,
    /// The generator of initialisation vectors; plain64 if absent.
    pub ivgen_alg: Option<QCryptoIVGenAlgo>,
    /// The hash of a generator that takes one; SHA-256 if absent.
    pub ivgen_hash_alg: Option<QCryptoHashAlgo>,
    /// The hash of key derivation; SHA-256 if absent.
    pub hash_alg: Option<QCryptoHashAlgo>,
    /// Milliseconds that trying a passphrase takes; 2,000 if absent.
    pub iter_time: Option<i64>,
}

impl Object for QCryptoBlockCreateOptionsLUKS {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key_secret: from.optional("key-secret")?,
            x_max_rounds: from.optional("x-max-rounds")?,
            x_max_memory: from.optional("x-max-memory")?,
            cipher_alg: from.optional("cipher-alg")?,
            cipher_mode: from.optional("cipher-mode")?,
            ivgen_alg: from.optional("ivgen-alg")?,
            ivgen_hash_alg: from.optional("ivgen-hash-alg")?,
            hash_alg: from.optional("hash-alg")?,
            iter_time: from.optional("iter-time")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("key-secret", &self.key_secret);
        to.put_optional("x-max-rounds", &self.x_max_rounds);
        to.put_optional("x-max-memory", &self.x_max_memory);
        to.put_optional("cipher-alg", &self.cipher_alg);
        to.put_optional("cipher-mode", &self.cipher_mode);
        to.put_optional("ivgen-alg", &self.ivgen_alg);
        to.put_optional("ivgen-hash-alg", &self.ivgen_hash_alg);
        to.put_optional("hash-alg", &self.hash_alg);
        to.put_optional("iter-time", &self.iter_time);
    }
}
object_codec!(QCryptoBlockCreateOptionsLUKS);

/// What a key slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QCryptoBlockLUKSKeyslotState {
    /// A passphrase opens it.
    Active,
    /// It is free.
    Inactive,
}

impl Enumeration for QCryptoBlockLUKSKeyslotState {
    const VALUES: &'static [(&'static str, Self)] = &[("active", Self::Active), ("inactive", Self::Inactive)];
}
enumeration_codec!(QCryptoBlockLUKSKeyslotState);

/// A change of a volume's key slots.
#[derive(Debug, Clone, PartialEq)]
pub struct QCryptoBlockAmendOptionsLUKS {
    /// What the slots become.
    pub state: QCryptoBlockLUKSKeyslotState,
    /// The secret with the passphrase of a slot that becomes active.
    pub new_secret: Option<String>,
    /// The secret with the passphrase whose slots become inactive.
    pub old_secret: Option<String>,
    /// The slot; the first free one, or those of old-secret, if absent.
    pub keyslot: Option<i64>,
    /// Milliseconds that trying the new passphrase takes; 2,000 if absent.
    pub iter_time: Option<i64>,
    /// The secret with a passphrase that opens the volume; that with which it is open, if absent.
    pub secret: Option<String>,
}

impl Object for QCryptoBlockAmendOptionsLUKS {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            state: from.required("state")?,
            new_secret: from.optional("new-secret")?,
            old_secret: from.optional("old-secret")?,
            keyslot: from.optional("keyslot")?,
            iter_time: from.optional("iter-time")?,
            secret: from.optional("secret")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("state", &self.state);
        to.put_optional("new-secret", &self.new_secret);
        to.put_optional("old-secret", &self.old_secret);
        to.put_optional("keyslot", &self.keyslot);
        to.put_optional("iter-time", &self.iter_time);
        to.put_optional("secret", &self.secret);
    }
}
object_codec!(QCryptoBlockAmendOptionsLUKS);

/// A key slot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QCryptoBlockInfoLUKSSlot {
    /// Whether a passphrase opens it.
    pub active: bool,
    /// Its iterations of PBKDF2.
    pub iters: Option<i64>,
    /// Where its key material begins, in bytes.
    pub key_offset: i64,
    /// Parts that its key material is split into.
    pub stripes: Option<i64>,
}

impl Object for QCryptoBlockInfoLUKSSlot {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            active: from.required("active")?,
            iters: from.optional("iters")?,
            key_offset: from.required("key-offset")?,
            stripes: from.optional("stripes")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("active", &self.active);
        to.put_optional("iters", &self.iters);
        to.put("key-offset", &self.key_offset);
        to.put_optional("stripes", &self.stripes);
    }
}
object_codec!(QCryptoBlockInfoLUKSSlot);

/// A LUKS volume.
#[derive(Debug, Clone, PartialEq)]
pub struct QCryptoBlockInfoLUKS {
    /// Its generator of initialisation vectors.
    pub ivgen_alg: QCryptoIVGenAlgo,
    /// Whether the header stands in another file than the data.
    pub detached_header: bool,
    /// The hash of its key derivation.
    pub hash_alg: QCryptoHashAlgo,
    /// Its cipher.
    pub cipher_alg: QCryptoCipherAlgo,
    /// Its UUID.
    pub uuid: String,
    /// The hash of the generator.
    pub ivgen_hash_alg: Option<QCryptoHashAlgo>,
    /// The mode of its cipher.
    pub cipher_mode: QCryptoCipherMode,
    /// Its key slots.
    pub slots: Vec<QCryptoBlockInfoLUKSSlot>,
    /// Where its data begins, in bytes.
    pub payload_offset: i64,
    /// Iterations of PBKDF2 for the digest of the volume key.
    pub master_key_iters: i64,
}

impl Object for QCryptoBlockInfoLUKS {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            ivgen_alg: from.required("ivgen-alg")?,
            detached_header: from.required("detached-header")?,
            hash_alg: from.required("hash-alg")?,
            cipher_alg: from.required("cipher-alg")?,
            uuid: from.required("uuid")?,
            ivgen_hash_alg: from.optional("ivgen-hash-alg")?,
            cipher_mode: from.required("cipher-mode")?,
            slots: from.required("slots")?,
            payload_offset: from.required("payload-offset")?,
            master_key_iters: from.required("master-key-iters")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("ivgen-alg", &self.ivgen_alg);
        to.put("detached-header", &self.detached_header);
        to.put("hash-alg", &self.hash_alg);
        to.put("cipher-alg", &self.cipher_alg);
        to.put("uuid", &self.uuid);
        to.put_optional("ivgen-hash-alg", &self.ivgen_hash_alg);
        to.put("cipher-mode", &self.cipher_mode);
        to.put("slots", &self.slots);
        to.put("payload-offset", &self.payload_offset);
        to.put("master-key-iters", &self.master_key_iters);
    }
}
object_codec!(QCryptoBlockInfoLUKS);

/// How a secret is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QCryptoSecretFormat {
    /// As it is.
    Raw,
    /// In base64.
    Base64,
}

impl Enumeration for QCryptoSecretFormat {
    const VALUES: &'static [(&'static str, Self)] = &[("raw", Self::Raw), ("base64", Self::Base64)];
}
enumeration_codec!(QCryptoSecretFormat);

/// A password or key, given as text or in a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SecretProperties {
    /// How it is written; raw if absent.
    pub format: Option<QCryptoSecretFormat>,
    /// The secret.
    pub data: Option<String>,
    /// The file that holds the secret.
    pub file: Option<String>,
    /// The secret that this one is encrypted with.
    pub keyid: Option<String>,
    /// The initialisation vector of its encryption, in base64.
    pub iv: Option<String>,
}

impl Object for SecretProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            format: from.optional("format")?,
            data: from.optional("data")?,
            file: from.optional("file")?,
            keyid: from.optional("keyid")?,
            iv: from.optional("iv")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("format", &self.format);
        to.put_optional("data", &self.data);
        to.put_optional("file", &self.file);
        to.put_optional("keyid", &self.keyid);
        to.put_optional("iv", &self.iv);
    }
}
object_codec!(SecretProperties);
