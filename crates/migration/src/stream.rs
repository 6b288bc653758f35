//! Records: how they look on the way.
//!
//! All numbers are big-endian.
//!
//! ```text
//! header:  "CAIRNMIG" │ version: u32 │ 0: u32
//! record:  kind: u32 │ length of the content: u32 │ content │ CRC-32C of (place: u64, kind, length, content): u32
//! ```
//!
//! The place of a record is its number: the first has 0.
use crate::error::MigrationError;
use codec::Crc32c;

/// Most bytes of a record's content.
pub const MAX_PAYLOAD: usize = 1 << 20;

/// What a stream begins with.
pub(crate) const MAGIC: &[u8; 8] = b"CAIRNMIG";

/// The version of the stream that is sent, and the only one that is understood.
pub(crate) const VERSION: u32 = 1;

/// Bytes of the header.
pub(crate) const HEADER: usize = 16;

/// Bytes before a record's content.
pub(crate) const RECORD_HEAD: usize = 8;

/// Bytes behind it.
pub(crate) const RECORD_TAIL: usize = 4;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Kind {
    /// The machine: whether it ran (`u8`).
    Machine = 1,
    /// A bitmap: bytes of the disk and of what a bit stands for (`u64` each), flags (`u32`), names of node and bitmap (`u16` and text each).
    Bitmap = 2,
    /// Bits of the last bitmap: number of the first (`u64`, a multiple of 8), then bits, the lowest of a byte first.
    Bits = 3,
    /// Everything was sent: the number of records before this one (`u64`).
    End = 4,
}

impl Kind {
    pub(crate) fn of(number: u32) -> Result<Self, MigrationError> {
        let kinds = [Self::Machine, Self::Bitmap, Self::Bits, Self::End];
        let known = kinds.into_iter().find(|kind| *kind as u32 == number);
        known.ok_or_else(|| MigrationError::Damaged(format!("it has a record of the unknown kind {number}")))
    }
}

/// The bitmap records what changes.
pub(crate) const ENABLED: u32 = 1;
/// It is kept in the image.
pub(crate) const PERSISTENT: u32 = 2;

/// The header.
pub(crate) fn header() -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    let parts = MAGIC.iter().copied().chain(VERSION.to_be_bytes());
    bytes.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    bytes
}

/// Refuses what is no header of a stream that is understood.
pub(crate) fn check_header(bytes: &[u8; HEADER]) -> Result<(), MigrationError> {
    if !bytes.starts_with(MAGIC) {
        return Err(MigrationError::Damaged("it is not the stream of a machine of this program".to_owned()));
    }
    match (u32_at(bytes, 8), u32_at(bytes, 12)) {
        (Some(VERSION), Some(0)) => Ok(()),
        (version, _) => Err(MigrationError::Damaged(format!(
            "it is of version {}, or has features that are not known here; {VERSION} is understood",
            version.unwrap_or(0)
        ))),
    }
}

/// A record, as it is sent at this place.
pub(crate) fn record(place: u64, kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_HEAD + content.len() + RECORD_TAIL);
    bytes.extend((kind as u32).to_be_bytes());
    bytes.extend((content.len() as u32).to_be_bytes());
    bytes.extend(content);
    let crc = Crc32c::default().with(&place.to_be_bytes()).with(&bytes).sum();
    bytes.extend(crc.to_be_bytes());
    bytes
}

/// The checksum of a record that has come.
pub(crate) fn checksum(place: u64, head: &[u8], content: &[u8]) -> u32 {
    Crc32c::default().with(&place.to_be_bytes()).with(head).with(content).sum()
}

/// The number at this place.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The content of a record, taken piece by piece.
pub(crate) struct Content<'a>(pub(crate) &'a [u8]);

impl<'a> Content<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], MigrationError> {
        let short = || MigrationError::Damaged("a record is shorter than what it says it has".to_owned());
        let (taken, rest) = self.0.split_at_checked(len).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn number<const N: usize>(&mut self) -> Result<u64, MigrationError> {
        Ok(self.take(N)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(crate) fn text(&mut self) -> Result<String, MigrationError> {
        let len = self.number::<2>()? as usize;
        let text = str::from_utf8(self.take(len)?);
        text.map(str::to_owned).map_err(|_| MigrationError::Damaged("a name in it is no text".to_owned()))
    }

    pub(crate) fn finish(self) -> Result<(), MigrationError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(MigrationError::Damaged("a record is longer than what it has".to_owned()))
    }
}
