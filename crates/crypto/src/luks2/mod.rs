//! LUKS2 headers, to open volumes by.
//!
//! ```text
//! 0          4096                 hdr_size               2 × hdr_size          segment's offset
//! ├ binary ┤ JSON, zero-filled ┤ the same once more ┤ key material of slots ┤ guest's sectors …
//! ```
//!
//! The binary part, big endian: magic (6 bytes; `SKUL` in the second copy), version (u16), hdr_size (u64), sequence number
//! (u64), label (48), name of the checksum's hash (32), salt (64), UUID (40), subsystem (48), hdr_offset (u64), 184 zero
//! bytes, checksum (64) over all of the copy with itself as zeroes. The newer of the copies that are sound counts.
//!
//! The JSON part has objects of `keyslots` (a key under a passphrase), `digests` (which key is right, for which slots and
//! segments), `segments` (which bytes are encrypted how), `tokens` (passed over: they only tell other programs where a
//! passphrase comes from) and `config`, whose `requirements` a program must know; none is known here, so a volume that
//! has one is refused by its name.
//!
//! Bounds: a copy is 16 KiB to 4 MiB, its JSON at most 2^16 values 16 levels deep; areas of key slots at most 4 MiB; work as
//! [`crate::kdf::Limits`] says.
//! Specification: LUKS2 On-Disk Format Specification 1.1.

mod binary;
mod json;
mod metadata;
mod unlock;

use crate::cipher::SpecError;
use crate::hash::UnknownHash;

pub use json::JsonError;
pub use metadata::{Header, Segment};

/// Where both copies end at the latest: whoever opens a volume reads so many bytes from its start, or all there are.
pub const HEADERS_LEN: usize = 8 << 20;

/// A header that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No LUKS2 at all.
    #[error("this is no LUKS2 header: its first bytes are others")]
    Magic,
    /// Neither copy is sound.
    #[error("both copies of the LUKS2 header are damaged: the first {first}; the second {second}")]
    BothDamaged {
        /// What is wrong with the first.
        first: CopyFault,
        /// What is wrong with the second.
        second: CopyFault,
    },
    /// The JSON part is not as it should be.
    #[error("the LUKS2 header is damaged: {0}")]
    Json(#[from] JsonError),
    /// Something in the JSON part is missing, or not what it should be.
    #[error("the LUKS2 header is damaged: {0} is missing, or not what it should be")]
    Field(String),
    /// The volume needs what is not known here.
    #[error("the volume requires '{0}', which is not known here; finish or undo it with cryptsetup")]
    Requirement(String),
    /// A segment of another kind.
    #[error("segment {segment} is of type '{kind}', and only 'crypt' is known")]
    SegmentKind {
        /// Which segment.
        segment: u32,
        /// Its kind.
        kind: String,
    },
    /// A segment with integrity tags.
    #[error("segment {0} has integrity tags, which are not known here")]
    Integrity(u32),
    /// The cipher is not known.
    #[error("the volume can't be opened: {0}")]
    Cipher(#[from] SpecError),
    /// A hash is not known.
    #[error("the volume can't be opened: {0}")]
    Hash(#[from] UnknownHash),
    /// The guest's data would begin inside the header or behind the end.
    #[error(
        "the LUKS2 header is damaged, or the file is cut off: segment {segment} begins at byte {offset}, inside the header or beyond the end"
    )]
    SegmentOffset {
        /// Which segment.
        segment: u32,
        /// Where it begins.
        offset: u64,
    },
    /// No key is known to be the right one.
    #[error("the LUKS2 header is damaged: no digest covers segment {0}")]
    NoDigest(u32),
}

/// What is wrong with a copy of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CopyFault {
    /// It is not there.
    #[error("is not there")]
    Missing,
    /// Its length is none of those there are, or it is cut off.
    #[error("has a length of {0} bytes, which is not one of a header or is more than there is")]
    Length(u64),
    /// It says that it lies elsewhere.
    #[error("says that it lies at byte {0}")]
    Offset(u64),
    /// Another version.
    #[error("has version {0}")]
    Version(u16),
    /// The hash of its checksum is not known.
    #[error("has a checksum of unknown kind")]
    ChecksumKind,
    /// Its checksum is wrong.
    #[error("has a wrong checksum")]
    Checksum,
}

#[cfg(test)]
mod tests;
