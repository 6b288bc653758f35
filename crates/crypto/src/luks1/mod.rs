//! LUKS1 headers: read, made, opened by a passphrase, and their key slots changed.
//!
//! ```text
//! 0      592     4096          one area a slot, 4 KiB aligned                          payload offset
//! ├ header ┤ zero ├ slot 0: volume key, split in 4000 stripes, encrypted ┤ … ├ slot 7 ┤ guest's sectors …
//! ```
//!
//! A header, big endian: magic (6 bytes), version (u16), cipher name (32), cipher mode (32), hash (32), payload offset
//! (u32, sectors), key length (u32), digest of the volume key (20) with its salt (32) and iterations (u32), UUID (40), and
//! eight slots of state (u32), iterations (u32), salt (32), area's offset (u32, sectors), stripes (u32).
//!
//! - The volume key never changes. Each active slot holds it under a passphrase: PBKDF2 makes the slot's key, which
//!   decrypts the area, from which [`crate::af`] merges the volume key; the digest tells whether it is the right one.
//! - A slot that is damaged bars nobody who has another: it is told by [`Slot::fault`], never tried, never written.
//! - Changes are [`crate::Step`]s in an order in which power may fail at any point: a passphrase that opened the volume before,
//!   and is meant to after, opens it at every instant. A new slot's area is durable before the header names it; an old
//!   slot is wiped when its successor is durable; the header's two sectors are written one after the other, so that a
//!   slot that lies across them is never half new.
//!
//! Bounds: areas of at most 4 MiB; work as [`crate::kdf::Limits`] says.
//! Specification: LUKS On-Disk Format Specification 1.2.3.

mod change;
mod header;
mod unlock;

pub use change::{
    Change, ChangeError, Iterations, Loss, NewSlot, NewVolume, Payload, calibrate, create, header_len,
};
pub use header::{Header, HeaderError, Slot, SlotFault};

/// Length of a header in bytes.
pub const HEADER_LEN: usize = 592;
/// How many key slots there are.
pub const SLOTS: usize = 8;
/// Stripes that a key is split into, in areas that are made here.
pub const STRIPES: u32 = 4000;

/// Length of a LUKS sector, which header offsets count.
const SECTOR: u64 = 512;

#[cfg(test)]
mod tests;
