//! The header: 48 bytes at the front, which never change, and the name of a backing file between them and the L1 table.
use crate::two_level::Geometry;
use block::{BlockError, ErrorKind, Node, Result};
use rt::BufMut;
use std::sync::Arc;

/// The magic, and the version.
pub(super) const MAGIC: &[u8; 8] = b"QFI\xfb\0\0\0\x01";

/// Bytes of the fields.
pub(super) const LENGTH: u64 = 48;
/// Most bytes of a backing file name.
pub(super) const MAX_NAME: usize = 1023;
/// Most bytes of an L1 table.
const MAX_L1: u64 = i32::MAX as u64;

/// A header that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("Image not in qcow format")]
    NotQcow,
    #[error("the file ends inside the header, at byte {have}; it is truncated")]
    Short { have: usize },
    #[error("{field} (header offset {offset}) is {value}: {why}")]
    Field { field: &'static str, offset: u64, value: u64, why: &'static str },
}

impl From<HeaderError> for BlockError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::NotQcow => BlockError::of(ErrorKind::Invalid, error),
            HeaderError::Short { .. } => BlockError::of(ErrorKind::Corrupt, error),
            HeaderError::Field { offset, .. } => BlockError::of(ErrorKind::Corrupt, error).at(offset),
        }
    }
}

/// A header that has been judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    name_offset: u64,
    name_len: u32,
    mtime: u32,
    /// Virtual size in bytes.
    pub size: u64,
    cluster_bits: u8,
    l2_bits: u8,
    /// Data is encrypted.
    pub encrypted: bool,
    l1_offset: u64,
    pub backing_name: Option<String>,
}

fn field(field: &'static str, offset: u64, value: u64, why: &'static str) -> HeaderError {
    HeaderError::Field { field, offset, value, why }
}

impl Header {
    /// The header of a new image: with small clusters over a backing file, so that little is copied. `None` where the tables of
    /// so large a disk could not be named.
    pub fn new(size: u64, encrypted: bool, backing_name: Option<&str>) -> Option<Self> {
        let name_len = backing_name.map_or(0, |name| codec::filename::bytes(name.as_bytes()).len() as u32);
        let (cluster_bits, l2_bits) = if backing_name.is_some() { (9, 12) } else { (12, 9) };
        let header = Self {
            name_offset: if backing_name.is_some() { LENGTH } else { 0 },
            name_len,
            mtime: 0,
            size,
            cluster_bits,
            l2_bits,
            encrypted,
            l1_offset: (LENGTH + u64::from(name_len)).next_multiple_of(8),
            backing_name: backing_name.map(str::to_owned),
        };
        (8 * header.l1_entries() <= MAX_L1).then_some(header)
    }

    /// Reads and judges the header of a file.
    pub async fn read(file: &Arc<Node>) -> Result<Self> {
        let have = file.length().min(LENGTH);
        let (bytes, result) = file.read(0, BufMut::with_len(have as usize)).await;
        result?;
        let mut header = Self::parse(&bytes, file.length())?;
        if header.name_offset != 0 && header.name_len != 0 {
            let (name, result) =
                file.read(header.name_offset, BufMut::with_len(header.name_len as usize)).await;
            result?;
            header.backing_name = codec::filename::in_field(&name);
        }
        Ok(header)
    }

    /// The fields, without the backing file name. `file_len`: bytes of the file.
    fn parse(bytes: &[u8], file_len: u64) -> Result<Self, HeaderError> {
        if !bytes.starts_with(MAGIC) {
            return Err(HeaderError::NotQcow);
        }
        let fields = bytes.first_chunk::<{ LENGTH as usize }>();
        let fields = fields.ok_or(HeaderError::Short { have: bytes.len() })?;
        let u32_at = |at: usize| {
            let bytes = fields.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_be_bytes(bytes.unwrap_or_default())
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
        let [cluster_bits, l2_bits, _, _] = u32_at(32).to_be_bytes();
        let crypt_method = u32_at(36);
        if crypt_method > 1 {
            return Err(field("crypt_method", 36, crypt_method.into(), "there is no such encryption"));
        }
        let header = Self {
            name_offset: u64_at(8),
            name_len: u32_at(16),
            mtime: u32_at(20),
            size: u64_at(24),
            cluster_bits,
            l2_bits,
            encrypted: crypt_method == 1,
            l1_offset: u64_at(40),
            backing_name: None,
        };
        header.judge(file_len)
    }

    fn judge(self, file_len: u64) -> Result<Self, HeaderError> {
        if !(9..=16).contains(&self.cluster_bits) {
            let why = "clusters must have 512 bytes to 64 KiB (9 to 16)";
            return Err(field("cluster_bits", 32, self.cluster_bits.into(), why));
        }
        if !(6..=13).contains(&self.l2_bits) {
            return Err(field(
                "l2_bits",
                33,
                self.l2_bits.into(),
                "L2 tables must have 512 bytes to 64 KiB (6 to 13)",
            ));
        }
        if self.size <= 1 || self.size > i64::MAX as u64 || 8 * self.l1_entries() > MAX_L1 {
            let why = "a disk has at least 2 bytes, and an L1 table of at most 2 GiB";
            return Err(field("size", 24, self.size, why));
        }
        let l1_end = self.l1_offset.checked_add(8 * self.l1_entries());
        if self.l1_offset < LENGTH || l1_end.is_none_or(|end| end > file_len) {
            let why = "the L1 table must lie behind the header, and end before the file does";
            return Err(field("l1_table_offset", 40, self.l1_offset, why));
        }
        let has_name = self.name_offset != 0;
        if has_name && self.name_len as usize > MAX_NAME {
            let why = "a backing file name has at most 1023 bytes";
            return Err(field("backing_file_size", 16, self.name_len.into(), why));
        }
        let name_end = self.name_offset.checked_add(self.name_len.into());
        if has_name && (self.name_offset < LENGTH || name_end.is_none_or(|end| end > self.l1_offset)) {
            let why = "the backing file name must lie between the header's fields and the L1 table";
            return Err(field("backing_file_offset", 8, self.name_offset, why));
        }
        Ok(self)
    }

    fn l1_entries(&self) -> u64 {
        self.size.div_ceil(1 << (self.cluster_bits + self.l2_bits))
    }

    /// What the header takes at the front of the file: its fields, and the name.
    fn header_len(&self) -> u64 {
        if self.name_offset == 0 { LENGTH } else { self.name_offset + u64::from(self.name_len) }
    }

    pub fn geometry(&self) -> Geometry {
        let cluster_bits = u32::from(self.cluster_bits);
        Geometry {
            cluster_bits,
            l2_bits: self.l2_bits.into(),
            header_len: self.header_len(),
            l1_offset: self.l1_offset,
            l1_entries: self.l1_entries(),
            // So many bits a stream's entry has for its place.
            limit: 1 << (63 - 2 * cluster_bits),
        }
    }

    /// The fields as they are stored, and the backing file name right behind them.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.name_offset.to_be_bytes());
        bytes.extend(self.name_len.to_be_bytes());
        bytes.extend(self.mtime.to_be_bytes());
        bytes.extend(self.size.to_be_bytes());
        bytes.extend([self.cluster_bits, self.l2_bits, 0, 0]);
        bytes.extend(u32::from(self.encrypted).to_be_bytes());
        bytes.extend(self.l1_offset.to_be_bytes());
        let name = self.backing_name.as_deref().unwrap_or_default();
        bytes.extend_from_slice(&codec::filename::bytes(name.as_bytes()));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u64 = 1 << 20;

    #[test]
    fn a_header_is_read_as_it_is_stored() {
        for (name, l1) in [(None, 48), (Some("b.qcow"), 56)] {
            let header = Header::new(10 << 20, name.is_none(), name).unwrap();
            let again = Header::parse(&header.bytes(), FILE).unwrap();
            assert_eq!(Header { backing_name: header.backing_name.clone(), ..again }, header);
            assert_eq!(header.geometry().l1_offset, l1);
            assert_eq!(header.geometry().l1_entries, 5);
        }
        assert_eq!(Header::new(1 << 60, false, None), None);
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_its_field() {
        let good = Header::new(10 << 20, false, Some("base")).unwrap().bytes();
        let refused = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            match Header::parse(&bad, FILE).unwrap_err() {
                HeaderError::Field { field, .. } => field,
                other => panic!("{other}"),
            }
        };
        assert_eq!(refused(8, &[1]), "backing_file_offset");
        assert_eq!(refused(16, &[1]), "backing_file_size");
        for size in [0_u64, 1, u64::MAX, 1 << 62] {
            assert_eq!(refused(24, &size.to_be_bytes()), "size");
        }
        for (at, wrong) in [(32, 8), (32, 17), (32, 255)] {
            assert_eq!(refused(at, &[wrong]), "cluster_bits");
        }
        for wrong in [5, 14, 255] {
            assert_eq!(refused(33, &[wrong]), "l2_bits");
        }
        assert_eq!(refused(39, &[2]), "crypt_method");
        assert_eq!(refused(47, &[4]), "l1_table_offset");
        assert_eq!(refused(40, &[0x7f]), "l1_table_offset");
        assert_eq!(Header::parse(&good[..47], FILE), Err(HeaderError::Short { have: 47 }));
        assert_eq!(Header::parse(b"QFI\xfb\0\0\0\x02", FILE), Err(HeaderError::NotQcow));
    }
}
