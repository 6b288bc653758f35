//! The header, all of it big-endian.
//!
//! ```text
//!  0 magic │ 4 version │ 8 backing file name, 1024 bytes │ 1032 mtime │ 1040 size: u64 │ 1048 bytes of a sector │ 1056
//! ```
//!
//! A name of up to [`SHORT`] bytes lies in the first sector, with the zero that ends it: it changes by one write.
use block::{BlockError, ErrorKind, Node, Request, Result};
use rt::{Buf, BufMut};
use std::sync::Arc;

/// The magic, and the version.
pub(super) const MAGIC: &[u8; 8] = b"OOOM\0\0\0\x02";

/// Bytes of the header; the bitmap follows.
pub(super) const LENGTH: u64 = 1056;
/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
const NAME: usize = 8;
/// Most bytes of a backing file name: a zero ends it.
pub(super) const MAX_NAME: usize = 1023;
/// Most bytes of one that lies in the first sector.
const SHORT: usize = SECTOR as usize - NAME - 1;

/// A header that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("Image is not in cow format")]
    NotCow,
    #[error("the file ends inside the header, at byte {have}; it is truncated")]
    Short { have: usize },
    #[error("{field} (header offset {offset}) is {value}: {why}")]
    Field { field: &'static str, offset: u64, value: u64, why: &'static str },
    #[error("a backing file name of {0} bytes is too long: at most {MAX_NAME} can be stored")]
    NameTooLong(usize),
    #[error(
        "the name of the backing file can't be changed safely: the old one and the new one are longer than a sector"
    )]
    LongNames,
}

impl From<HeaderError> for BlockError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::NotCow => BlockError::of(ErrorKind::Invalid, error),
            HeaderError::NameTooLong(_) | HeaderError::LongNames => BlockError::of(ErrorKind::Limit, error),
            HeaderError::Short { .. } => BlockError::of(ErrorKind::Corrupt, error),
            HeaderError::Field { offset, .. } => BlockError::of(ErrorKind::Corrupt, error).at(offset),
        }
    }
}

/// A header that has been judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub backing_name: Option<String>,
    mtime: u32,
    /// Virtual size in bytes.
    pub size: u64,
}

impl Header {
    /// The header of a new image.
    pub fn new(size: u64, backing_name: Option<&str>) -> Result<Self, HeaderError> {
        Self { backing_name: None, mtime: 0, size }.with_name(backing_name)
    }

    /// The same with another backing file, or none.
    pub fn with_name(&self, name: Option<&str>) -> Result<Self, HeaderError> {
        let name = name.filter(|name| !name.is_empty());
        match name.map(|name| codec::filename::bytes(name.as_bytes()).len()) {
            Some(len) if len > MAX_NAME => Err(HeaderError::NameTooLong(len)),
            _ => Ok(Self { backing_name: name.map(str::to_owned), ..self.clone() }),
        }
    }

    /// Reads and judges the header of a file.
    pub async fn read(file: &Arc<Node>) -> Result<Self> {
        let have = file.length().min(LENGTH);
        let (bytes, result) = file.read(0, BufMut::with_len(have as usize)).await;
        result?;
        Ok(Self::parse(&bytes, file.length())?)
    }

    /// `file_len`: bytes of the file.
    fn parse(bytes: &[u8], file_len: u64) -> Result<Self, HeaderError> {
        if !bytes.starts_with(MAGIC) {
            return Err(HeaderError::NotCow);
        }
        let fields = bytes.first_chunk::<{ LENGTH as usize }>();
        let fields = fields.ok_or(HeaderError::Short { have: bytes.len() })?;
        let u32_at = |at: usize| {
            let bytes = fields.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_be_bytes(bytes.unwrap_or_default())
        };
        let field = |field, offset, value, why| Err(HeaderError::Field { field, offset, value, why });
        let (size, sector) = (u64::from(u32_at(1040)) << 32 | u64::from(u32_at(1044)), u32_at(1048));
        if u64::from(sector) != SECTOR {
            return field("sectorsize", 1048, sector.into(), "sectors have 512 bytes");
        }
        if size > i64::MAX as u64 {
            return field("size", 1040, size, "a disk has at most 2^63 - 1 bytes");
        }
        let name = fields.get(NAME..NAME + MAX_NAME + 1).unwrap_or_default();
        if !name.contains(&0) {
            return field("backing_file", 8, name.len() as u64, "no zero ends the name");
        }
        let backing_name = codec::filename::in_field(name);
        // What the last sector is a part of has no bit.
        let header = Self { backing_name, mtime: u32_at(1032), size: size - size % SECTOR };
        if LENGTH + header.bitmap_len() > file_len {
            return field("size", 1040, size, "the bitmap of such a disk does not end before the file does");
        }
        Ok(header)
    }

    /// Bytes of the bitmap.
    pub fn bitmap_len(&self) -> u64 {
        (self.size / SECTOR).div_ceil(8)
    }

    /// Where the sectors begin in the file.
    pub fn data_offset(&self) -> u64 {
        (LENGTH + self.bitmap_len()).next_multiple_of(SECTOR)
    }

    fn name(&self) -> Vec<u8> {
        codec::filename::bytes(self.backing_name.as_deref().unwrap_or_default().as_bytes()).to_vec()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.name());
        bytes.resize(1032, 0);
        bytes.extend(self.mtime.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.size.to_be_bytes());
        bytes.extend((SECTOR as u32).to_be_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    /// Stores the header where `old` is, durably: what is behind the first sector comes first, where no name leads to it.
    pub async fn store_over(&self, file: &Arc<Node>, old: &Header) -> Result<()> {
        if self.name().len() > SHORT && old.name().len() > SHORT {
            return Err(HeaderError::LongNames.into());
        }
        let bytes = self.bytes();
        let (first, rest) = bytes.split_at(SECTOR as usize);
        if self.name().len() > SHORT {
            file.write(SECTOR, Buf::from_slice(rest), Request::DRIVER).await?;
            file.flush().await?;
        }
        file.write(0, Buf::from_slice(first), Request::DRIVER).await?;
        file.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_is_stored() {
        let long = "n".repeat(MAX_NAME);
        for name in [None, Some("base.raw"), Some(long.as_str())] {
            let header = Header::new(10 << 20, name).unwrap();
            let bytes = header.bytes();
            assert_eq!(bytes.len() as u64, LENGTH);
            assert_eq!(Header::parse(&bytes, 1 << 20), Ok(header.clone()));
            assert_eq!((header.bitmap_len(), header.data_offset()), (2560, 4096));
        }
        let long = "n".repeat(MAX_NAME + 1);
        assert_eq!(Header::new(512, Some(&long)), Err(HeaderError::NameTooLong(1024)));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let good = Header::new(10 << 20, Some("base")).unwrap().bytes();
        let refused = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            Header::parse(&bad, 1 << 20).unwrap_err().to_string()
        };
        assert!(refused(8, &[b'n'; 1024]).contains("no zero"));
        assert!(refused(1040, &[0xff; 8]).contains("2^63"));
        assert!(refused(1040, &[0x7f; 8]).contains("bitmap"));
        assert!(refused(1048, &[1]).contains("512"));
        assert_eq!(Header::parse(&good[..1055], 1055), Err(HeaderError::Short { have: 1055 }));
        assert_eq!(Header::parse(b"OOOM\0\0\0\x01", 8), Err(HeaderError::NotCow));
    }
}
