// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What is on a disk as a guest sees it.

use super::*;
use crate::Dict;
use crate::codec::*;

/// Kinds of partition tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImagePartitionTable {
    /// A GUID partition table.
    Gpt,
    /// A master boot record.
    Mbr,
}

impl Enumeration for ImagePartitionTable {
    const VALUES: &'static [(&'static str, Self)] = &[("gpt", Self::Gpt), ("mbr", Self::Mbr)];
}
enumeration_codec!(ImagePartitionTable);

/// A partition of a disk.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImagePartition {
    /// Its number, as operating systems count it.
    pub number: u32,
    /// Its first byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Its type: a GUID, or a byte in hexadecimal.
    pub kind: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The file system in it, or what it is a part of; nothing where that is not known.
    pub filesystem: Option<String>,
}

impl Object for ImagePartition {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: from.required("number")?,
            start: from.required("start")?,
            length: from.required("length")?,
            kind: from.required("kind")?,
            name: from.optional("name")?,
            filesystem: from.optional("filesystem")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("number", &self.number);
        to.put("start", &self.start);
        to.put("length", &self.length);
        to.put("kind", &self.kind);
        to.put_optional("name", &self.name);
        to.put_optional("filesystem", &self.filesystem);
    }
}
object_codec!(ImagePartition);

/// What is on a disk.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageContent {
    /// Its partition table, if it has one.
    pub partition_table: Option<ImagePartitionTable>,
    /// Its partitions.
    pub partitions: Vec<ImagePartition>,
    /// The file system of a disk without partitions, if known.
    pub filesystem: Option<String>,
}

impl Object for ImageContent {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            partition_table: from.optional("partition-table")?,
            partitions: from.required("partitions")?,
            filesystem: from.optional("filesystem")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("partition-table", &self.partition_table);
        to.put("partitions", &self.partitions);
        to.put_optional("filesystem", &self.filesystem);
    }
}
object_codec!(ImageContent);

/// An image, as 'img info' tells it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageDescription {
    /// Its name.
    pub filename: String,
    /// Its format.
    pub format: String,
    /// Whether it was not closed cleanly.
    pub dirty_flag: Option<bool>,
    /// Bytes that it occupies.
    pub actual_size: Option<i64>,
    /// Bytes that a guest sees.
    pub virtual_size: i64,
    /// Bytes of a cluster.
    pub cluster_size: Option<i64>,
    /// Whether it is encrypted.
    pub encrypted: Option<bool>,
    /// Whether it is compressed.
    pub compressed: Option<bool>,
    /// The backing file, as it is stored in the image.
    pub backing_filename: Option<String>,
    /// The backing file, resolved.
    pub full_backing_filename: Option<String>,
    /// The format of the backing file, as it is stored in the image.
    pub backing_filename_format: Option<String>,
    /// What its requests are to be, where that was asked for.
    pub limits: Option<BlockLimitsInfo>,
    /// Its internal snapshots.
    pub snapshots: Option<Vec<SnapshotInfo>>,
    /// What only images of its format have.
    pub format_specific: Option<ImageInfoSpecific>,
    /// The children.
    pub children: Vec<BlockChildInfo>,
    /// What is on its disk, where that was asked for.
    pub content: Option<ImageContent>,
}

impl Object for ImageDescription {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            filename: from.required("filename")?,
            format: from.required("format")?,
            dirty_flag: from.optional("dirty-flag")?,
            actual_size: from.optional("actual-size")?,
            virtual_size: from.required("virtual-size")?,
            cluster_size: from.optional("cluster-size")?,
            encrypted: from.optional("encrypted")?,
            compressed: from.optional("compressed")?,
            backing_filename: from.optional("backing-filename")?,
            full_backing_filename: from.optional("full-backing-filename")?,
            backing_filename_format: from.optional("backing-filename-format")?,
            limits: from.optional("limits")?,
            snapshots: from.optional("snapshots")?,
            format_specific: from.optional("format-specific")?,
            children: from.required("children")?,
            content: from.optional("content")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put("format", &self.format);
        to.put_optional("dirty-flag", &self.dirty_flag);
        to.put_optional("actual-size", &self.actual_size);
        to.put("virtual-size", &self.virtual_size);
        to.put_optional("cluster-size", &self.cluster_size);
        to.put_optional("encrypted", &self.encrypted);
        to.put_optional("compressed", &self.compressed);
        to.put_optional("backing-filename", &self.backing_filename);
        to.put_optional("full-backing-filename", &self.full_backing_filename);
        to.put_optional("backing-filename-format", &self.backing_filename_format);
        to.put_optional("limits", &self.limits);
        to.put_optional("snapshots", &self.snapshots);
        to.put_optional("format-specific", &self.format_specific);
        to.put("children", &self.children);
        to.put_optional("content", &self.content);
    }
}
object_codec!(ImageDescription);
