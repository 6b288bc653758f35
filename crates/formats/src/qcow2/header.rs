//! The qcow2 header: fields, extensions and backing file name, all in the first cluster.
//!
//! ```text
//!  0        72/104/112…        ≤ 512                                                  cluster size
//!  ├ fields ┼ extensions … end ┼ rest of the extensions ┼ unused ┼ backing file name ┼ unused ┤
//!  └──── changed by one write of the first sector ─────┘
//! ```
//!
//! Laws:
//! - a header on disk changes only by one write of its first 512 bytes, which a power cut leaves old or new: the
//!   fields first, then the extensions that change; a new backing file name is durable in unused space before that;
//! - what is not understood (fields, extensions, feature bits) is kept verbatim;
//! - a [`Header`] in memory has passed every check: its tables are aligned, of bounded size and inside the file.
//!   Only the refcount table ([`Header::refcount_fault`]) and the snapshot table ([`Header::snapshots_fault`]) may be
//!   wrong, because reading does without them and a repair makes them anew.
//!
//! Bounds: the first cluster (2 MiB) is the most that is read; tables are bounded by the constants below.
//! Specification: qcow2.rst, "Header".
mod error;
mod extension;
mod link;

pub use error::HeaderError;
pub use extension::{
    BACKING_FORMAT, BITMAPS, BitmapsExtension, DATA_FILE, ENCRYPTION, Extension, FEATURE_NAMES,
};

use crate::field::{be32, be64, until_nul};
use block::{BlockError, Node, Result};
use rt::{Buf, BufMut};
use std::sync::Arc;

/// The first four bytes.
pub const MAGIC: u32 = 0x5146_49fb;
/// Bytes that one write changes as a whole.
pub const SECTOR: usize = 512;
/// Most bytes of an L1 table.
pub const MAX_L1_BYTES: u64 = 32 << 20;
/// Most bytes of the refcount table.
pub const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
/// Most internal snapshots.
pub const MAX_SNAPSHOTS: u32 = 65536;
/// Most bytes of a LUKS header with its key material.
const MAX_ENCRYPTION_BYTES: u64 = 64 << 20;
/// Most bytes of a backing file name.
pub const MAX_BACKING_NAME: u32 = 1023;

/// Bits 9–55 of an L1, L2 or bitmap table entry: a host offset.
pub const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63 of an L1 or L2 entry: the reference count is exactly one.
pub const COPIED: u64 = 1 << 63;
/// Bit 62 of an L2 entry: a compressed cluster.
pub const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an L2 entry: reads as zeroes.
pub const ZERO: u64 = 1;
/// Bits 9–63 of a refcount table entry: the offset of a refcount block.
pub const REFCOUNT_BLOCK_MASK: u64 = !0x1ff;

/// Incompatible feature: refcounts may be wrong.
pub const INCOMPATIBLE_DIRTY: u64 = 1;
/// Incompatible feature: do not write.
pub const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
/// Incompatible feature: guest data is in another file.
pub const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
/// Incompatible feature: compression_type says something.
pub const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
/// Incompatible feature: 128-bit L2 entries.
pub const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
const INCOMPATIBLE_KNOWN: u64 = 0x1f;
/// Compatible feature: refcounts may be brought up to date later.
pub const COMPATIBLE_LAZY_REFCOUNTS: u64 = 1;
/// Autoclear feature: the external data file is a raw image of the disk.
pub const AUTOCLEAR_DATA_RAW: u64 = 1 << 1;
/// Autoclear feature: the bitmaps extension is consistent.
pub const AUTOCLEAR_BITMAPS: u64 = 1;

/// How compressed clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate; called zlib.
    Zlib,
    /// Zstandard.
    Zstd,
}

/// A header. Offsets and sizes are bytes. Change a clone, [`store`](Header::store) it, then keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// Where the backing file name is; 0 for none.
    pub backing_offset: u64,
    /// Length of the backing file name.
    pub backing_size: u32,
    /// The backing file name.
    pub backing_name: Option<String>,
    /// log2 of the cluster size, 9 to 21.
    pub cluster_bits: u32,
    /// Virtual size as stored.
    pub size: u64,
    /// 0: not encrypted.
    pub crypt_method: u32,
    /// Entries of the active L1 table.
    pub l1_entries: u32,
    /// Where the active L1 table is.
    pub l1_offset: u64,
    /// Where the refcount table is.
    pub refcount_table_offset: u64,
    /// Its length in clusters.
    pub refcount_table_clusters: u32,
    /// Number of internal snapshots.
    pub snapshot_count: u32,
    /// Where the snapshot table is.
    pub snapshots_offset: u64,
    /// Incompatible features.
    pub incompatible: u64,
    /// Compatible features.
    pub compatible: u64,
    /// Autoclear features.
    pub autoclear: u64,
    /// log2 of the bits of a refcount, 0 to 6.
    pub refcount_order: u32,
    /// Length of the fields: where the extensions begin.
    pub length: u32,
    /// How compressed clusters are compressed.
    pub compression: Compression,
    /// All extensions in order.
    pub extensions: Vec<Extension>,
    /// Where the extensions end, end marker included.
    pub extensions_end: u64,
    /// The first sector as it is on disk: carries what is not understood.
    sector: [u8; SECTOR],
}

impl Header {
    /// The header of a new image without tables.
    pub fn new(version: u32, cluster_bits: u32, size: u64) -> Self {
        Self {
            version,
            backing_offset: 0,
            backing_size: 0,
            backing_name: None,
            cluster_bits,
            size,
            crypt_method: 0,
            l1_entries: 0,
            l1_offset: 0,
            refcount_table_offset: 0,
            refcount_table_clusters: 0,
            snapshot_count: 0,
            snapshots_offset: 0,
            incompatible: 0,
            compatible: 0,
            autoclear: 0,
            refcount_order: 4,
            length: if version >= 3 { 112 } else { 72 },
            compression: Compression::Zlib,
            extensions: Vec::new(),
            extensions_end: 0,
            sector: [0; SECTOR],
        }
    }

    /// Reads and checks the header of the image in `file`.
    pub async fn read(file: &Arc<Node>) -> Result<Self> {
        let named = |e: BlockError| e.context(format!("qcow2 image '{}'", file.filename()));
        let file_len = file.length();
        let mut want = 4096.min(file_len);
        loop {
            let (bytes, result) = file.read(0, BufMut::with_len(want as usize)).await;
            result.map_err(named)?;
            match Self::parse(&bytes, file_len) {
                Err(HeaderError::Short { .. }) if want < file_len.min(1 << 21) => {
                    want = file_len.min(1 << 21)
                }
                // Scripts know these words, as they are.
                Err(unknown @ HeaderError::UnknownFeatures(_)) => return Err(unknown.into()),
                parsed => return parsed.map_err(|e| named(e.into())),
            }
        }
    }

    /// Reads and checks a header in the first bytes of a file of `file_len` bytes.
    /// [`HeaderError::Short`] asks for more bytes, as many as the first cluster has.
    pub fn parse(bytes: &[u8], file_len: u64) -> Result<Self, HeaderError> {
        let mut header = Self::parse_fields(bytes)?;
        header.check_basic()?;
        let limit = match header.backing_offset {
            0 => header.cluster_size(),
            offset => offset.min(header.cluster_size()),
        };
        (header.extensions, header.extensions_end) =
            extension::parse(bytes, u64::from(header.length), limit)?;
        header.check_features()?;
        header.backing_name = header.parse_backing_name(bytes)?;
        header.check_tables(file_len)?;
        Ok(header)
    }

    fn parse_fields(bytes: &[u8]) -> Result<Self, HeaderError> {
        if be32(bytes, 0) != Some(MAGIC) {
            return Err(HeaderError::NotQcow2);
        }
        let short = HeaderError::Short { have: bytes.len() };
        let u32_at = |at| be32(bytes, at).ok_or(short.clone());
        let u64_at = |at| be64(bytes, at).ok_or(short.clone());
        let version = u32_at(4)?;
        if version != 2 && version != 3 {
            return Err(HeaderError::Version(version));
        }
        let v3 = version == 3;
        let length = if v3 { u32_at(100)? } else { 72 };
        let compression = if length > 104 { bytes.get(104).copied().ok_or(short.clone())? } else { 0 };
        let mut sector = [0; SECTOR];
        sector.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Ok(Self {
            version,
            backing_offset: u64_at(8)?,
            backing_size: u32_at(16)?,
            backing_name: None,
            cluster_bits: u32_at(20)?,
            size: u64_at(24)?,
            crypt_method: u32_at(32)?,
            l1_entries: u32_at(36)?,
            l1_offset: u64_at(40)?,
            refcount_table_offset: u64_at(48)?,
            refcount_table_clusters: u32_at(56)?,
            snapshot_count: u32_at(60)?,
            snapshots_offset: u64_at(64)?,
            incompatible: if v3 { u64_at(72)? } else { 0 },
            compatible: if v3 { u64_at(80)? } else { 0 },
            autoclear: if v3 { u64_at(88)? } else { 0 },
            refcount_order: if v3 { u32_at(96)? } else { 4 },
            length,
            compression: match compression {
                0 => Compression::Zlib,
                1 => Compression::Zstd,
                other => {
                    return Err(field(
                        "compression_type",
                        104,
                        u64::from(other),
                        "there is no such compression",
                    ));
                }
            },
            extensions: Vec::new(),
            extensions_end: u64::from(length),
            sector,
        })
    }

    /// The fields that all further reading rests on.
    fn check_basic(&self) -> Result<(), HeaderError> {
        if !(9..=21).contains(&self.cluster_bits) {
            let why = "clusters must have 512 bytes to 2 MiB (9 to 21)";
            return Err(field("cluster_bits", 20, u64::from(self.cluster_bits), why));
        }
        if self.version == 3 && (self.length < 104 || !self.length.is_multiple_of(8)) {
            let why = "it must be a multiple of 8, at least 104";
            return Err(field("header_length", 100, u64::from(self.length), why));
        }
        if u64::from(self.length) > self.cluster_size() {
            let why = "the header must end within the first cluster";
            return Err(field("header_length", 100, u64::from(self.length), why));
        }
        if self.refcount_order > 6 {
            let why = "refcounts have at most 64 bits (order 6)";
            return Err(field("refcount_order", 96, u64::from(self.refcount_order), why));
        }
        if self.size > i64::MAX as u64 {
            return Err(field("size", 24, self.size, "a virtual disk has at most 2^63 - 1 bytes"));
        }
        Ok(())
    }

    fn check_features(&self) -> Result<(), HeaderError> {
        let unknown = self.incompatible & !INCOMPATIBLE_KNOWN;
        if unknown != 0 {
            return Err(HeaderError::UnknownFeatures(extension::describe(
                &self.extensions,
                0,
                "incompatible",
                unknown,
            )));
        }
        let told = self.incompatible & INCOMPATIBLE_COMPRESSION != 0;
        if told != (self.compression != Compression::Zlib) {
            let why = "it contradicts the feature bit 'compression type'";
            return Err(field("compression_type", 104, self.compression as u64, why));
        }
        if self.autoclear & AUTOCLEAR_BITMAPS != 0
            && let Some(damaged) = self.extension(BITMAPS).filter(|_| self.bitmaps().is_none())
        {
            // Ignoring it would have the bitmaps' clusters taken for leaks.
            let why = "it must have 24 bytes, its reserved field zero";
            return Err(field("bitmaps extension", damaged.offset, damaged.data.len() as u64, why));
        }
        if self.is_data_raw() && self.backing_offset != 0 {
            let why = "an image whose data file is a raw one has no backing file";
            return Err(field("backing_file_offset", 8, self.backing_offset, why));
        }
        if self.has_extended_l2() && self.cluster_bits < 14 {
            let why = "with extended L2 entries clusters have at least 16 KiB (14)";
            return Err(field("cluster_bits", 20, u64::from(self.cluster_bits), why));
        }
        match self.crypt_method {
            0 | 1 => match self.extension(extension::ENCRYPTION) {
                // Which of the two is wrong nobody can tell, and what is read as it is may be encrypted.
                Some(_) => Err(field(
                    "crypt_method",
                    32,
                    u64::from(self.crypt_method),
                    "there is an encryption header, which only LUKS images have",
                )),
                None => Ok(()),
            },
            2 if self.encryption().is_none() => Err(HeaderError::NoEncryptionHeader),
            2 => Ok(()),
            other => Err(field("crypt_method", 32, u64::from(other), "there is no such encryption")),
        }
    }

    fn parse_backing_name(&self, bytes: &[u8]) -> Result<Option<String>, HeaderError> {
        if self.backing_offset == 0 {
            return Ok(None);
        }
        if self.backing_offset < u64::from(self.length) || self.backing_offset > self.cluster_size() {
            let why = "the backing file name must lie behind the header in the first cluster";
            return Err(field("backing_file_offset", 8, self.backing_offset, why));
        }
        let room = (self.cluster_size() - self.backing_offset).min(u64::from(MAX_BACKING_NAME));
        if u64::from(self.backing_size) > room {
            let why = "a backing file name has at most 1023 bytes and ends within the first cluster";
            return Err(field("backing_file_size", 16, u64::from(self.backing_size), why));
        }
        let start = self.backing_offset as usize;
        let name = bytes.get(start..start + self.backing_size as usize);
        let name = name.ok_or(HeaderError::Short { have: bytes.len() })?;
        Ok(codec::filename::in_field(name))
    }

    /// Whether the L1 table is long enough for the disk and where it can be.
    pub fn check_tables(&self, file_len: u64) -> Result<(), HeaderError> {
        let needed = self.l1_entries_for(self.size);
        if needed.is_none_or(|needed| u64::from(self.l1_entries) < needed) {
            let why = "the L1 table is too small for the virtual size";
            return Err(field("l1_size", 36, u64::from(self.l1_entries), why));
        }
        if let Some((offset, len)) = self.encryption() {
            self.check_table("encryption header", offset, len, MAX_ENCRYPTION_BYTES, file_len)?;
        }
        self.check_l1(file_len)
    }

    /// Whether the L1 table is where it can be.
    pub fn check_l1(&self, file_len: u64) -> Result<(), HeaderError> {
        self.check_table("L1 table", self.l1_offset, self.l1_bytes(), MAX_L1_BYTES, file_len)
    }

    /// Whether a table of the header is aligned, not too large, behind the header and inside the file.
    fn check_table(
        &self,
        table: &'static str,
        offset: u64,
        bytes: u64,
        most: u64,
        file_len: u64,
    ) -> Result<(), HeaderError> {
        if bytes == 0 {
            return Ok(());
        }
        // A last cluster may be cut off where only zeroes follow.
        let file_end = file_len.checked_next_multiple_of(self.cluster_size()).unwrap_or(u64::MAX);
        let why = if bytes > most {
            "is larger than any image needs"
        } else if !offset.is_multiple_of(self.cluster_size()) {
            "does not begin at a cluster boundary"
        } else if offset == 0 {
            "would overlap the header"
        } else if offset >= file_len || offset.checked_add(bytes).is_none_or(|end| end > file_end) {
            "ends beyond the end of the file"
        } else {
            return Ok(());
        };
        Err(HeaderError::Table { table, offset, bytes, why })
    }

    /// What is wrong with the place of the refcount table, if anything is. An image with such a fault can be read
    /// and repaired, not written.
    pub fn refcount_fault(&self, file_len: u64) -> Option<HeaderError> {
        if self.refcount_table_clusters == 0 {
            let why = "the image has no refcount table; a repair ('check -r all') rebuilds it";
            return Some(field("refcount_table_clusters", 56, 0, why));
        }
        let (offset, bytes) = (self.refcount_table_offset, self.refcount_table_bytes());
        self.check_table("refcount table", offset, bytes, MAX_REFCOUNT_TABLE_BYTES, file_len).err()
    }

    /// What is wrong with number or place of the snapshots, if anything is. An image with such a fault can be read and
    /// repaired, not written.
    pub fn snapshots_fault(&self, file_len: u64) -> Option<HeaderError> {
        if self.snapshot_count > MAX_SNAPSHOTS {
            let why = "an image has at most 65536 internal snapshots";
            return Some(field("nb_snapshots", 60, u64::from(self.snapshot_count), why));
        }
        if self.snapshot_count == 0 && !self.snapshots_offset.is_multiple_of(self.cluster_size()) {
            // Perhaps it is the count that is wrong.
            let (offset, why) = (self.snapshots_offset, "does not begin at a cluster boundary");
            return Some(HeaderError::Table { table: "snapshot table", offset, bytes: 0, why });
        }
        // An entry has at least 40 bytes; its real length is known only when it is read.
        let bytes = u64::from(self.snapshot_count) * 40;
        self.check_table("snapshot table", self.snapshots_offset, bytes, u64::MAX, file_len).err()
    }

    // ---- what follows from the fields ----

    /// Bytes of a cluster.
    pub fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Virtual size: whole sectors.
    pub fn virtual_size(&self) -> u64 {
        self.size & !511
    }

    /// Entries of an L2 table.
    pub fn l2_entries(&self) -> u64 {
        self.cluster_size() / self.l2_entry_bytes()
    }

    /// Bytes of an entry of an L2 table.
    pub fn l2_entry_bytes(&self) -> u64 {
        if self.has_extended_l2() { 16 } else { 8 }
    }

    /// L1 entries that a virtual size needs; `None` when no L1 table can have so many.
    pub fn l1_entries_for(&self, size: u64) -> Option<u64> {
        let per_entry = self.cluster_size() * self.l2_entries();
        let entries = size.div_ceil(per_entry);
        (entries * 8 <= MAX_L1_BYTES).then_some(entries)
    }

    /// Where saved machine states begin, behind the disk.
    pub fn vm_state_offset(&self) -> Option<u64> {
        self.l1_entries_for(self.size).map(|entries| entries * self.cluster_size() * self.l2_entries())
    }

    /// Bytes of the active L1 table.
    pub fn l1_bytes(&self) -> u64 {
        u64::from(self.l1_entries) * 8
    }

    /// Bytes of the refcount table.
    pub fn refcount_table_bytes(&self) -> u64 {
        u64::from(self.refcount_table_clusters) << self.cluster_bits
    }

    /// Bits of a refcount.
    pub fn refcount_bits(&self) -> u32 {
        1 << self.refcount_order
    }

    /// Refcounts in a refcount block.
    pub fn refcounts_per_block(&self) -> u64 {
        self.cluster_size() * 8 / u64::from(self.refcount_bits())
    }

    /// Largest value of a refcount.
    pub fn refcount_max(&self) -> u64 {
        u64::MAX >> (64 - self.refcount_bits())
    }

    /// Refcounts may be wrong: the image was not closed.
    pub fn is_dirty(&self) -> bool {
        self.incompatible & INCOMPATIBLE_DIRTY != 0
    }

    /// The image is marked as corrupt.
    pub fn is_corrupt(&self) -> bool {
        self.incompatible & INCOMPATIBLE_CORRUPT != 0
    }

    /// Guest data is in another file.
    pub fn has_data_file(&self) -> bool {
        self.incompatible & INCOMPATIBLE_DATA_FILE != 0
    }

    /// That file can be read as a raw image of the disk.
    pub fn is_data_raw(&self) -> bool {
        self.has_data_file() && self.autoclear & AUTOCLEAR_DATA_RAW != 0
    }

    /// The name of that file, as stored.
    pub fn data_file_name(&self) -> Option<String> {
        codec::filename::in_field(&self.extension(DATA_FILE).filter(|_| self.has_data_file())?.data)
    }

    /// The autoclear features that stay true while this program changes the image.
    pub fn maintained(&self) -> u64 {
        if self.has_data_file() { AUTOCLEAR_DATA_RAW } else { 0 }
    }

    /// Entries of L2 tables tell of subclusters.
    pub fn has_extended_l2(&self) -> bool {
        self.incompatible & INCOMPATIBLE_EXTENDED_L2 != 0
    }

    /// Clusters that read as zeroes hold zeroes, encrypted: version 2 has no mark that says so.
    pub fn stores_zeroes(&self) -> bool {
        self.crypt_method != 0 && self.version < 3
    }

    /// Refcounts may be written late, under the dirty bit.
    pub fn has_lazy_refcounts(&self) -> bool {
        self.compatible & COMPATIBLE_LAZY_REFCOUNTS != 0
    }

    /// Sets or clears incompatible feature bits. Version 2 has none: there it does nothing.
    pub fn set_incompatible(&mut self, bits: u64, on: bool) {
        if self.version >= 3 {
            self.incompatible = if on { self.incompatible | bits } else { self.incompatible & !bits };
        }
    }

    /// The first extension of this type.
    pub fn extension(&self, kind: u32) -> Option<&Extension> {
        self.extensions.iter().find(|e| e.kind == kind)
    }

    /// The backing file's format as stored.
    pub fn backing_format(&self) -> Option<String> {
        let format = self.extension(BACKING_FORMAT)?;
        Some(String::from_utf8_lossy(until_nul(&format.data)).into_owned())
    }

    /// The names of autoclear features that are unknown here; `None` if there is no such.
    pub fn unknown_autoclear(&self) -> Option<String> {
        let unknown = self.autoclear & !(AUTOCLEAR_BITMAPS | AUTOCLEAR_DATA_RAW);
        (unknown != 0).then(|| extension::describe(&self.extensions, 2, "autoclear", unknown))
    }

    /// Where the LUKS header of an encrypted image is, and its length: both in bytes.
    pub fn encryption(&self) -> Option<(u64, u64)> {
        let data = &self.extension(extension::ENCRYPTION)?.data;
        be64(data, 0).zip(be64(data, 8)).filter(|(offset, len)| *offset > 0 && *len > 0)
    }

    /// The bitmaps extension.
    pub fn bitmaps(&self) -> Option<BitmapsExtension> {
        BitmapsExtension::parse(&self.extension(BITMAPS)?.data)
    }

    // ---- writing ----

    /// The first sector of the file with the fields of this header, everything else in it as it is on disk.
    pub fn sector(&self) -> [u8; SECTOR] {
        let mut sector = self.sector;
        let mut put = |at: usize, bytes: &[u8]| {
            sector.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
        };
        put(0, &MAGIC.to_be_bytes());
        put(4, &self.version.to_be_bytes());
        put(8, &self.backing_offset.to_be_bytes());
        put(16, &self.backing_size.to_be_bytes());
        put(20, &self.cluster_bits.to_be_bytes());
        put(24, &self.size.to_be_bytes());
        put(32, &self.crypt_method.to_be_bytes());
        put(36, &self.l1_entries.to_be_bytes());
        put(40, &self.l1_offset.to_be_bytes());
        put(48, &self.refcount_table_offset.to_be_bytes());
        put(56, &self.refcount_table_clusters.to_be_bytes());
        put(60, &self.snapshot_count.to_be_bytes());
        put(64, &self.snapshots_offset.to_be_bytes());
        if self.version >= 3 {
            put(72, &self.incompatible.to_be_bytes());
            put(80, &self.compatible.to_be_bytes());
            put(88, &self.autoclear.to_be_bytes());
            put(96, &self.refcount_order.to_be_bytes());
            put(100, &self.length.to_be_bytes());
            if self.length > 104 {
                put(104, &[self.compression as u8]);
            }
        }
        sector
    }

    /// Writes the fields to disk: one write of the first sector. Durable after the caller's flush. What moved (an
    /// L1 table, a refcount table) must be durable at its new place before.
    pub async fn store(&self, file: &Arc<Node>) -> Result<()> {
        file.write(0, Buf::from_slice(&self.sector()), block::Request::DRIVER).await
    }
}

fn field(field: &'static str, offset: u64, value: u64, why: &'static str) -> HeaderError {
    HeaderError::Field { field, offset, value, why }
}
