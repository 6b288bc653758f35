//! The header: 64 bytes at the front, and the name of a backing file anywhere in the header's clusters.
//!
//! The fields change by one write of them, which lies in one sector: a power cut leaves the old header or the new one. A new
//! backing file name goes beside the present one, and is durable before the fields lead to it.
use crate::two_level::Geometry;
use block::{BlockError, ErrorKind, Link, Node, Request, Result};
use rt::{Buf, BufMut};
use std::ops::Range;
use std::sync::Arc;

pub(super) const MAGIC: &[u8; 4] = b"QED\0";

/// Bytes of the fields.
pub(super) const LENGTH: u64 = 64;
/// Where a backing file name goes if the place behind the fields is taken.
const SECOND_NAME: u64 = 2048;
/// Most bytes of a backing file name.
const MAX_NAME: usize = 1023;

/// The image has a backing file.
const BACKING: u64 = 1;
/// The image was not closed, and may contradict itself.
const NEED_CHECK: u64 = 2;
/// The backing file is a raw disk, whatever it looks like.
const RAW_BACKING: u64 = 4;
const KNOWN: u64 = BACKING | NEED_CHECK | RAW_BACKING;

/// A header that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("Image is not in qed format")]
    NotQed,
    #[error("the file ends inside the header, at byte {have}; it is truncated")]
    Short { have: usize },
    #[error("Unsupported QED features: {0:#x}; a newer program may open the image")]
    Features(u64),
    #[error("{field} (header offset {offset}) is {value}: {why}")]
    Field { field: &'static str, offset: u64, value: u64, why: &'static str },
    #[error("a backing file name of {0} bytes is too long: at most {MAX_NAME} can be stored")]
    NameTooLong(usize),
}

impl From<HeaderError> for BlockError {
    fn from(error: HeaderError) -> Self {
        let kind = match error {
            HeaderError::NotQed => ErrorKind::Invalid,
            HeaderError::Features(_) => ErrorKind::Unsupported,
            HeaderError::NameTooLong(_) => ErrorKind::Limit,
            HeaderError::Short { .. } | HeaderError::Field { .. } => ErrorKind::Corrupt,
        };
        match error {
            HeaderError::Field { offset, .. } => BlockError::of(kind, error).at(offset),
            _ => BlockError::of(kind, error),
        }
    }
}

/// A header that has been judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub cluster_size: u32,
    /// Clusters of a table.
    pub table_size: u32,
    /// Clusters of the header.
    pub header_size: u32,
    features: u64,
    compatible: u64,
    autoclear: u64,
    pub l1_offset: u64,
    /// Virtual size in bytes.
    pub size: u64,
    /// Where the backing file name is.
    name: Range<u64>,
    pub backing_name: Option<String>,
}

/// The largest disk that tables of this size can map.
pub(super) fn max_size(cluster_size: u32, table_size: u32) -> u64 {
    let entries = u64::from(cluster_size) * u64::from(table_size) / 8;
    entries.saturating_mul(entries).saturating_mul(cluster_size.into()).min(i64::MAX as u64)
}

fn field(field: &'static str, offset: u64, value: u64, why: &'static str) -> HeaderError {
    HeaderError::Field { field, offset, value, why }
}

impl Header {
    /// The header of a new image, without a backing file.
    pub fn new(cluster_size: u32, table_size: u32, size: u64) -> Self {
        Self {
            cluster_size,
            table_size,
            header_size: 1,
            features: 0,
            compatible: 0,
            autoclear: 0,
            l1_offset: cluster_size.into(),
            size,
            name: 0..0,
            backing_name: None,
        }
    }

    /// Reads and judges the header of a file.
    pub async fn read(file: &Arc<Node>) -> Result<Self> {
        let have = file.length().min(LENGTH);
        let (bytes, result) = file.read(0, BufMut::with_len(have as usize)).await;
        result?;
        let mut header = Self::parse(&bytes, file.length())?;
        if !header.name.is_empty() {
            let len = (header.name.end - header.name.start) as usize;
            let (name, result) = file.read(header.name.start, BufMut::with_len(len)).await;
            result?;
            header.backing_name = codec::filename::in_field(&name);
        }
        Ok(header)
    }

    /// The fields, without the backing file name. `file_len`: bytes of the file.
    fn parse(bytes: &[u8], file_len: u64) -> Result<Self, HeaderError> {
        if !bytes.starts_with(MAGIC) {
            return Err(HeaderError::NotQed);
        }
        let fields = bytes.first_chunk::<{ LENGTH as usize }>();
        let fields = fields.ok_or(HeaderError::Short { have: bytes.len() })?;
        let u32_at = |at: usize| {
            let bytes = fields.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let name = u64::from(u32_at(56));
        let header = Self {
            cluster_size: u32_at(4),
            table_size: u32_at(8),
            header_size: u32_at(12),
            features: u64_at(16),
            compatible: u64_at(24),
            autoclear: u64_at(32),
            l1_offset: u64_at(40),
            size: u64_at(48),
            name: name..name + u64::from(u32_at(60)),
            backing_name: None,
        };
        header.judge(file_len)
    }

    fn judge(mut self, file_len: u64) -> Result<Self, HeaderError> {
        if self.features & !KNOWN != 0 {
            return Err(HeaderError::Features(self.features & !KNOWN));
        }
        let (cluster, table) = (u64::from(self.cluster_size), u64::from(self.table_size));
        if !cluster.is_power_of_two() || !(1 << 12..=1 << 26).contains(&cluster) {
            return Err(field("cluster_size", 4, cluster, "it must be a power of two from 4096 to 67108864"));
        }
        if !table.is_power_of_two() || table > 16 {
            return Err(field("table_size", 8, table, "it must be a power of two from 1 to 16"));
        }
        let header_len = self.header_len();
        if self.header_size == 0 || header_len > file_len {
            let why = "the header must have a cluster, and end before the file does";
            return Err(field("header_size", 12, self.header_size.into(), why));
        }
        let l1 = self.l1_offset;
        if !l1.is_multiple_of(cluster) || l1 < header_len {
            return Err(field(
                "l1_table_offset",
                40,
                l1,
                "the L1 table must be a cluster's start, behind the header",
            ));
        }
        if l1.checked_add(table * cluster).is_none_or(|end| end > file_len) {
            return Err(field("l1_table_offset", 40, l1, "the L1 table does not end before the file does"));
        }
        if !self.size.is_multiple_of(512) || self.size > max_size(self.cluster_size, self.table_size) {
            return Err(field(
                "image_size",
                48,
                self.size,
                "it must be whole sectors, and no more than the tables map",
            ));
        }
        if self.features & BACKING == 0 {
            self.name = 0..0;
        } else if self.name.end > header_len {
            let why = "the backing file name does not end before the header does";
            return Err(field("backing_filename_offset", 56, self.name.start, why));
        } else if self.name.end - self.name.start > MAX_NAME as u64 {
            let why = "a backing file name has at most 1023 bytes";
            return Err(field("backing_filename_size", 60, self.name.end - self.name.start, why));
        }
        Ok(self)
    }

    /// The fields as they are stored.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        [self.cluster_size, self.table_size, self.header_size]
            .iter()
            .for_each(|n| bytes.extend(n.to_le_bytes()));
        let wide = [self.features, self.compatible, self.autoclear, self.l1_offset, self.size];
        wide.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
        let name = [self.name.start, self.name.end - self.name.start];
        name.iter().for_each(|n| bytes.extend((*n as u32).to_le_bytes()));
        bytes
    }

    /// Bytes of the header's clusters.
    pub fn header_len(&self) -> u64 {
        u64::from(self.header_size) * u64::from(self.cluster_size)
    }

    pub fn geometry(&self) -> Geometry {
        let cluster_bits = self.cluster_size.trailing_zeros();
        let entries = u64::from(self.cluster_size) * u64::from(self.table_size) / 8;
        Geometry {
            cluster_bits,
            l2_bits: entries.trailing_zeros(),
            header_len: self.header_len(),
            l1_offset: self.l1_offset,
            l1_entries: entries,
            limit: i64::MAX as u64 >> cluster_bits,
        }
    }

    /// Whether the image was not closed, and must be checked before it is written to.
    pub fn needs_check(&self) -> bool {
        self.features & NEED_CHECK != 0
    }

    /// The same without that mark.
    pub fn checked(&self) -> Self {
        Self { features: self.features & !NEED_CHECK, ..self.clone() }
    }

    /// The same with another size.
    pub fn with_size(&self, size: u64) -> Result<Self, HeaderError> {
        Self { size, ..self.clone() }.judge(u64::MAX)
    }

    /// The same without what only other programs keep up to date; `None` where there is nothing of that kind.
    pub fn without_autoclear(&self) -> Option<Self> {
        (self.autoclear != 0).then(|| Self { autoclear: 0, ..self.clone() })
    }

    /// The format of the backing file, where that is told.
    pub fn backing_format(&self) -> Option<String> {
        (self.features & RAW_BACKING != 0 && self.backing_name.is_some()).then(|| "raw".to_owned())
    }

    /// The same with another link to a backing file, or none. Only of a raw one the format can be told.
    pub fn with_link(&self, link: &Link) -> Result<Self, HeaderError> {
        let mut new = self.clone();
        new.features &= !(BACKING | RAW_BACKING);
        (new.name, new.backing_name) = (0..0, None);
        let Some(name) = link.filename.as_deref().filter(|name| !name.is_empty()) else { return Ok(new) };
        let bytes = codec::filename::bytes(name.as_bytes());
        if bytes.len() > MAX_NAME {
            return Err(HeaderError::NameTooLong(bytes.len()));
        }
        let len = bytes.len() as u64;
        let start =
            if self.name.start < LENGTH + len && LENGTH < self.name.end { SECOND_NAME } else { LENGTH };
        new.name = start..start + len;
        new.backing_name = Some(name.to_owned());
        new.features |= BACKING | if link.format.as_deref() == Some("raw") { RAW_BACKING } else { 0 };
        Ok(new)
    }

    /// The backing file name and its place.
    pub fn stored_name(&self) -> Option<(u64, Vec<u8>)> {
        self.backing_name
            .as_deref()
            .map(|name| (self.name.start, codec::filename::bytes(name.as_bytes()).to_vec()))
    }

    /// Stores the fields, durably.
    pub async fn store(&self, file: &Arc<Node>) -> Result<()> {
        file.write(0, Buf::from_slice(&self.bytes()), Request::DRIVER).await?;
        file.flush().await
    }

    /// Stores the header with its backing file name, which lies where no header leads to as yet; durably.
    pub async fn store_with_name(&self, file: &Arc<Node>) -> Result<()> {
        if let Some((place, name)) = self.stored_name() {
            file.write(place, Buf::from_slice(&name), Request::DRIVER).await?;
            file.flush().await?;
        }
        self.store(file).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u64 = 1 << 20;

    fn link(name: &str, format: Option<&str>) -> Link {
        Link { filename: Some(name.to_owned()), format: format.map(str::to_owned) }
    }

    fn again(header: &Header) -> Header {
        Header { backing_name: header.backing_name.clone(), ..Header::parse(&header.bytes(), FILE).unwrap() }
    }

    #[test]
    fn a_header_is_read_as_it_is_stored() {
        let plain = Header::new(65536, 4, 10 << 20);
        assert_eq!(again(&plain), plain);
        assert_eq!(plain.bytes().len() as u64, LENGTH);
        let linked = plain.with_link(&link("base.raw", Some("raw"))).unwrap();
        assert_eq!(again(&linked), linked);
        assert_eq!(linked.stored_name(), Some((64, b"base.raw".to_vec())));
        assert_eq!(linked.backing_format().as_deref(), Some("raw"));
    }

    #[test]
    fn a_new_name_never_lies_where_the_present_one_does() {
        let mut header = Header::new(4096, 1, 10 << 20);
        for len in [1, 1023, 5, 1023, 1023] {
            let new = header.with_link(&link(&"n".repeat(len), Some("qed"))).unwrap();
            assert!(new.name.start >= header.name.end || new.name.end <= header.name.start);
            assert!(new.name.start >= LENGTH && new.name.end <= new.header_len());
            assert_eq!(new.backing_format(), None);
            header = new;
        }
        assert_eq!(header.with_link(&link(&"n".repeat(1024), None)), Err(HeaderError::NameTooLong(1024)));
    }

    #[test]
    fn what_contradicts_itself_is_refused_by_its_field() {
        let good = Header::new(65536, 4, 10 << 20).bytes();
        let refused = |at: usize, bytes: &[u8]| {
            let mut bad = good.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            match Header::parse(&bad, FILE).unwrap_err() {
                HeaderError::Field { field, .. } => field,
                HeaderError::Features(_) => "features",
                other => panic!("{other}"),
            }
        };
        assert_eq!(refused(4, &[1]), "cluster_size");
        assert_eq!(refused(4, &2048_u32.to_le_bytes()), "cluster_size");
        assert_eq!(refused(8, &[3]), "table_size");
        assert_eq!(refused(8, &[32]), "table_size");
        assert_eq!(refused(12, &[0]), "header_size");
        assert_eq!(refused(12, &[0xff; 4]), "header_size");
        assert_eq!(refused(16, &[8]), "features");
        assert_eq!(refused(40, &[0; 8]), "l1_table_offset");
        assert_eq!(refused(40, &[1]), "l1_table_offset");
        assert_eq!(refused(40, &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), "l1_table_offset");
        assert_eq!(refused(48, &[1]), "image_size");
        assert_eq!(refused(48, &[0xff; 8]), "image_size");
        let mut named = good.clone();
        (named[16], named[56], named[62]) = (1, 64, 1);
        assert!(matches!(
            Header::parse(&named, FILE),
            Err(HeaderError::Field { field: "backing_filename_offset", .. })
        ));
        assert_eq!(Header::parse(&good[..63], FILE), Err(HeaderError::Short { have: 63 }));
        assert_eq!(Header::parse(b"QCOW", FILE), Err(HeaderError::NotQed));
    }
}
