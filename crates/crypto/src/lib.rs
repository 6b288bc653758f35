//! Cryptography of disk images: ciphers by sector, key derivation, LUKS headers, secrets. It knows bytes, no files and
//! no nodes; whoever opens an image reads and writes for it.
//!
//! ```text
//! passphrase ── kdf (PBKDF2, Argon2) ──▶ slot key ── SectorCipher ──▶ split key ── af ──▶ volume key
//!                      ▲ salt, rounds        ▲ key material                                   │
//!                 luks1 / luks2 header  ─────┘                              SectorCipher ◀────┘  guest sectors
//! ```
//!
//! - [`SectorCipher`]: whole sectors, in place or from one buffer to another, for any number of threads at once; no
//!   allocation per call. [`CipherSpec`] names what it does, as `aes-xts-plain64`.
//! - [`aead`]: records encrypted with their authentication, as TLS has them.
//! - [`hash`], [`kdf`]: hashes, and keys from passphrases, within [`kdf::Limits`].
//! - [`af`]: the anti-forensic splitter of LUKS.
//! - [`legacy`]: the AES method of qcow and of old qcow2 images.
//! - [`luks`]: a passphrase tried on key slots. [`luks1`]: headers read, made, and their key slots changed, as [`Step`]s
//!   in a safe order. [`luks2`]: headers read.
//! - [`secret`]: data of secret objects, plain, base64, or encrypted by another secret.
//!
//! Laws:
//! - Keys and what they are made from are wiped when dropped ([`Key`]); digests are compared in constant time.
//! - A header is an attacker's text: no field of it decides on memory or time beyond the given limits, and none makes
//!   this code panic.
//! - `unsafe` stands in `cipher::evp` and `aead` alone, the edge to AWS-LC.
#![deny(unsafe_code)]

pub mod aead;
pub mod af;
pub mod cipher;
pub mod hash;
pub mod kdf;
pub mod key;
pub mod legacy;
pub mod luks;
pub mod luks1;
pub mod luks2;
mod plan;
pub mod random;
pub mod secret;

pub use cipher::{Algorithm, CipherError, CipherSpec, IvGenerator, Mode, SectorCipher, SectorLen, SpecError};
pub use hash::Hash;
pub use key::Key;
pub use plan::Step;
