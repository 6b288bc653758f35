//! The trailer, which says where the tables are: 512 bytes at the end of the file, or shortly before it.
use super::fields::{long, word};
use block::{BlockError, ErrorKind, Node, Result};
use rt::BufMut;
use std::ops::Range;

/// Its length in bytes.
const LEN: u64 = 512;
/// Bytes at the end of a file that are searched: others have found trailers that a sector's filling follows.
const SEARCHED: u64 = 2 * LEN - 1;
const BEGINNING: &[u8] = b"koly\0\0\0\x04\0\0\x02\0";

/// What an encrypted image begins with, or ends with where it is of the older version.
const ENCRYPTED: [&[u8]; 2] = [b"encrcdsa", b"cdsaencr"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    /// Byte offset of the trailer itself.
    pub at: u64,
    /// Byte offset in the file that the tables count from.
    pub data_fork: u64,
    /// Bytes of the file that hold the resource fork; none: there is none.
    pub resource_fork: Range<u64>,
    /// Bytes of the file that hold the property list; none: there is none.
    pub plist: Range<u64>,
    /// Virtual size in bytes.
    pub size: u64,
}

/// What is wrong with a trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrailerError {
    #[error("the image is one of {0} segments; only whole images can be read")]
    Segment(u32),
    #[error("the {0} at {1:#x} ends at {2:#x}, behind the beginning of the trailer")]
    Outside(&'static str, u64, u64),
    #[error("the disk has {0} sectors, which are too many")]
    Size(u64),
}

impl Trailer {
    pub async fn read(file: &Node) -> Result<Self> {
        let start = file.length().saturating_sub(SEARCHED);
        let (end, read) = file.read(start, BufMut::with_len((file.length() - start) as usize)).await;
        read?;
        let Some(within) = end.windows(LEN as usize).rposition(|bytes| bytes.starts_with(BEGINNING)) else {
            let (head, read) = file.read_or_zero(0, BufMut::with_len(8)).await;
            read?;
            let encrypted = ENCRYPTED.iter().any(|mark| head.starts_with(mark) || end.ends_with(mark));
            let text = match encrypted {
                true => "the image is encrypted; encrypted images can't be read",
                false => {
                    "there is no trailer at the end of the file, as an image of Apple has; the format 'raw' gives \
                          a plain disk"
                }
            };
            return Err(BlockError::invalid(text).about_file(&file.filename()));
        };
        let at = start + within as u64;
        let trailer = Self::parse(&end[within..], at).map_err(|e| BlockError::of(ErrorKind::Invalid, e));
        trailer.map_err(|e| e.context("the trailer").about_file(&file.filename()).at(at))
    }

    fn parse(bytes: &[u8], at: u64) -> Result<Self, TrailerError> {
        let segments = word(bytes, 60);
        if segments > 1 {
            return Err(TrailerError::Segment(segments));
        }
        let range = |name, field| {
            let (start, len) = (long(bytes, field), long(bytes, field + 8));
            let end = start.saturating_add(len);
            if len > 0 && end > at { Err(TrailerError::Outside(name, start, end)) } else { Ok(start..end) }
        };
        let sectors = long(bytes, 492);
        let size = sectors.checked_mul(super::SECTOR).filter(|size| *size <= i64::MAX as u64);
        Ok(Self {
            at,
            data_fork: long(bytes, 24),
            resource_fork: range("resource fork", 40)?,
            plist: range("property list", 216)?,
            size: size.ok_or(TrailerError::Size(sectors))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_t_be_is_refused() {
        let parse = |fields: &[(usize, u64)]| {
            let mut bytes = [0; 512];
            for (at, value) in fields {
                bytes[*at..at + 8].copy_from_slice(&value.to_be_bytes());
            }
            Trailer::parse(&bytes, 1000)
        };
        let good = parse(&[(24, 7), (216, 500), (224, 500), (492, 3)]).unwrap();
        assert_eq!((good.data_fork, good.plist, good.size), (7, 500..1000, 1536));
        assert!(good.resource_fork.is_empty());
        assert_eq!(parse(&[(56, 2)]), Err(TrailerError::Segment(2)));
        assert_eq!(parse(&[(216, 500), (224, 501)]), Err(TrailerError::Outside("property list", 500, 1001)));
        assert_eq!(
            parse(&[(40, 1), (48, u64::MAX)]),
            Err(TrailerError::Outside("resource fork", 1, u64::MAX))
        );
        assert_eq!(parse(&[(492, 1 << 55)]), Err(TrailerError::Size(1 << 55)));
    }
}
