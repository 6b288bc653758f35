//! Encryption, as the formats that have it share it.
//!
//! ```text
//! secret object ─▶ passphrase ─ volume: header, key slots ─▶ volume key ─ coding ─▶ the core codes data with it
//!                                  ▲ make: a new header      slots: passphrases added and taken away
//! ```
//!
//! Headers, ciphers and the order of changes are the crate `crypto`'s; here is what reads and writes them in a file, and
//! what options and answers say of them.
//!
//! Laws:
//! - deriving keys takes seconds: it is done by the threads that compute;
//! - an image that is opened without its content needs no key, and shows none of it;
//! - no error tells anything of a key or a passphrase.
mod coding;
mod info;
mod make;
mod options;
mod qcow_aes;
mod slots;
mod volume;

pub(crate) use coding::{CipherCoding, Numbers, locked};
pub(crate) use make::{NewVolume, of_file};
pub(crate) use options::{limits_of, naming_options, no_secret, passphrase_of};
pub(crate) use qcow_aes::{adapt_create, judge_qcow_aes, qcow_aes};
pub(crate) use slots::KeySlots;
pub(crate) use volume::{Place, Volume};
