// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What is on a disk as a guest sees it.

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
