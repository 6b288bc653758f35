//! The two headers: which one counts, and how it changes.
//!
//! The one with the greater sequence number counts. A change is stored in the place of the other, with the next number, so that
//! a power cut leaves the old one or the new one.
//! Specification: MS-VHDX 2.2.2.
use super::words::{Guid, guid_at, is_sound, put, seal, u16_at, u32_at, u64_at};
use super::{MIB, read};
use block::{BlockError, ErrorKind, Node, Request, Result};
use rt::Buf;
use std::sync::Arc;

/// Bytes of a header.
pub(super) const HEADER: usize = 4096;
/// Where they are.
const PLACES: [u64; 2] = [64 << 10, 128 << 10];
const SIGNATURE: &[u8; 4] = b"head";

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub sequence: u64,
    /// Changes before the file does.
    pub file_write: Guid,
    /// Changes before the disk does; overlays know their parent by it.
    pub data_write: Guid,
    /// Which entries of the log count; none, if zero.
    pub log: Guid,
    /// Bytes of the log, and its byte offset.
    pub log_len: u32,
    pub log_offset: u64,
}

/// The header that counts, and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Current {
    pub header: Header,
    /// Which of the two places.
    place: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Option<Self> {
        is_sound(bytes, SIGNATURE).then(|| Self {
            sequence: u64_at(bytes, 8),
            file_write: guid_at(bytes, 16),
            data_write: guid_at(bytes, 32),
            log: guid_at(bytes, 48),
            log_len: u32_at(bytes, 68),
            log_offset: u64_at(bytes, 72),
        })
    }

    /// Refuses an image that has no log, and so can't be written to.
    pub fn has_log(&self) -> Result<()> {
        let text = "the image has no log, and so can't be written to";
        if self.log_len == 0 { Err(BlockError::new(ErrorKind::ReadOnly, text)) } else { Ok(()) }
    }

    /// The header as it is stored.
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put = |at, what: &[u8]| put(&mut bytes, at, what);
        put(0, SIGNATURE);
        put(8, &self.sequence.to_le_bytes());
        put(16, &self.file_write.0);
        put(32, &self.data_write.0);
        put(48, &self.log.0);
        put(66, &1u16.to_le_bytes());
        put(68, &self.log_len.to_le_bytes());
        put(72, &self.log_offset.to_le_bytes());
        seal(&mut bytes);
        bytes
    }
}

impl Current {
    /// Stores the headers of a new image; neither is durable before the next flush.
    pub async fn create(file: &Arc<Node>, first: Header) -> Result<()> {
        for (header, at) in [first, Header { sequence: first.sequence + 1, ..first }].iter().zip(PLACES) {
            file.write(at, Buf::from_slice(&header.bytes()), Request::DRIVER).await?;
        }
        Ok(())
    }

    /// Reads both, and takes the one that counts.
    pub async fn read(file: &Arc<Node>) -> Result<Self> {
        let mut found: Option<Self> = None;
        for (place, at) in PLACES.into_iter().enumerate() {
            let bytes = read(file, at, HEADER).await?;
            let Some(header) = Header::parse(&bytes) else { continue };
            let (version, log_version) = (u16_at(&bytes, 66), u16_at(&bytes, 64));
            if version != 1 || log_version != 0 {
                let text = format!(
                    "the header is of version {version}, its log of version {log_version}; versions 1 and 0 are known"
                );
                return Err(BlockError::unsupported(text).at(at));
            }
            if found.is_none_or(|before| before.header.sequence < header.sequence) {
                found = Some(Self { header, place });
            }
        }
        let Some(current) = found else {
            return Err(BlockError::corrupt("neither header has the checksum of its bytes").at(PLACES[0]));
        };
        let Header { log_len, log_offset, .. } = current.header;
        let aligned = u64::from(log_len).is_multiple_of(MIB) && log_offset.is_multiple_of(MIB);
        if !aligned || log_offset < MIB || log_offset > i64::MAX as u64 - u64::from(u32::MAX) {
            let text = format!("the log of {log_len:#x} bytes can't be at {log_offset:#x}");
            return Err(BlockError::corrupt(text).at(PLACES[current.place]));
        }
        Ok(current)
    }

    /// Stores a changed header, durably. What it counts on must be durable by then.
    pub async fn store(&mut self, file: &Arc<Node>, changed: Header) -> Result<()> {
        let header = Header { sequence: self.header.sequence.wrapping_add(1), ..changed };
        let place = 1 - self.place;
        file.write(PLACES[place], Buf::from_slice(&header.bytes()), Request::DRIVER).await?;
        file.flush().await?;
        *self = Self { header, place };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_it_was_made_of() {
        let header = Header {
            sequence: 7,
            file_write: Guid::random(),
            data_write: Guid::random(),
            log: Guid::ZERO,
            log_len: 1 << 20,
            log_offset: 1 << 20,
        };
        let mut bytes = header.bytes();
        assert_eq!(Header::parse(&bytes), Some(header));
        bytes[4000] = 1;
        assert_eq!(Header::parse(&bytes), None);
    }
}
