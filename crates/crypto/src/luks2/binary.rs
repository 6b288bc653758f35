//! The two copies of the header, and which of them counts.

use std::ops::Range;

use super::{CopyFault, HeaderError};
use crate::hash::Hash;
use crate::key::same;
use crate::luks::MAGIC;

const SECOND_MAGIC: [u8; 6] = *b"SKUL\xba\xbe";
const BINARY_LEN: usize = 4096;
const CHECKSUM: Range<usize> = 448..512;

/// A sound copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copy<'a> {
    pub(super) uuid: &'a str,
    pub(super) label: &'a str,
    /// The JSON part without the zeroes that fill it up.
    pub(super) json: &'a [u8],
    /// Length of this copy, in bytes.
    pub(super) len: u64,
    sequence: u64,
}

/// The newer of the sound copies, and what is wrong with the other one.
pub(super) fn newest(bytes: &[u8]) -> Result<(Copy<'_>, Option<CopyFault>), HeaderError> {
    let first = copy_at(bytes, 0, &MAGIC);
    let second = match &first {
        Ok(copy) => copy_at(bytes, copy.len, &SECOND_MAGIC),
        // It lies behind the first, whose length is not known: it is where one is.
        Err(_) => lengths()
            .map(|len| copy_at(bytes, len, &SECOND_MAGIC))
            .reduce(|found, next| match (&found, &next) {
                (Ok(_), _) | (_, Err(CopyFault::Missing)) => found,
                _ => next,
            })
            .unwrap_or(Err(CopyFault::Missing)),
    };
    match (first, second) {
        (Ok(first), Ok(second)) => Ok((if second.sequence > first.sequence { second } else { first }, None)),
        (Ok(copy), Err(fault)) | (Err(fault), Ok(copy)) => Ok((copy, Some(fault))),
        (Err(CopyFault::Missing), Err(CopyFault::Missing)) => Err(HeaderError::Magic),
        (Err(first), Err(second)) => Err(HeaderError::BothDamaged { first, second }),
    }
}

/// The lengths that a copy may have.
fn lengths() -> impl Iterator<Item = u64> {
    (14..=22).map(|power| 1 << power)
}

fn copy_at<'a>(bytes: &'a [u8], offset: u64, magic: &[u8]) -> Result<Copy<'a>, CopyFault> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = bytes.get(start..).filter(|rest| rest.starts_with(magic)).ok_or(CopyFault::Missing)?;
    let binary = rest.get(..BINARY_LEN).ok_or(CopyFault::Length(rest.len() as u64))?;
    let version = u16::from_be_bytes(array(binary, 6));
    if version != 2 {
        return Err(CopyFault::Version(version));
    }
    let len = u64::from_be_bytes(array(binary, 8));
    let whole = lengths().find(|known| *known == len).and_then(|len| rest.get(..usize::try_from(len).ok()?));
    let whole = whole.ok_or(CopyFault::Length(len))?;
    let says = u64::from_be_bytes(array(binary, 256));
    if says != offset {
        return Err(CopyFault::Offset(says));
    }
    let hash = Hash::from_name(text(binary, 72..104)).map_err(|_| CopyFault::ChecksumKind)?;
    let (before, checksum) = whole.split_at(CHECKSUM.start);
    let (checksum, after) = checksum.split_at(CHECKSUM.len());
    let mut digest = [0; 64];
    hash.digest(&[before, &[0; 64], after], &mut digest);
    let digest = digest.get(..hash.digest_len()).unwrap_or_default();
    if !same(digest, checksum.get(..digest.len()).unwrap_or_default()) {
        return Err(CopyFault::Checksum);
    }
    let json = whole.get(BINARY_LEN..).unwrap_or_default();
    let json = json.split(|byte| *byte == 0).next().unwrap_or_default();
    let sequence = u64::from_be_bytes(array(binary, 16));
    Ok(Copy { uuid: text(binary, 168..208), label: text(binary, 24..72), json, len, sequence })
}

fn array<const N: usize>(binary: &[u8], at: usize) -> [u8; N] {
    binary.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

/// Text up to the first zero byte; what is no text is told as none.
fn text(binary: &[u8], range: Range<usize>) -> &str {
    let bytes = binary.get(range).unwrap_or_default();
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(bytes).unwrap_or_default()
}
