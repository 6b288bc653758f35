// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Images: what they are made with.

use super::*;
use crate::Dict;
use crate::codec::*;

/// What of an image is reserved from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PreallocMode {
    /// Nothing.
    Off,
    /// Its tables.
    Metadata,
    /// The whole of it.
    Falloc,
    /// The whole of it, by writing it.
    Full,
}

impl Enumeration for PreallocMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("metadata", Self::Metadata), ("falloc", Self::Falloc), ("full", Self::Full)];
}
enumeration_codec!(PreallocMode);

/// The versions of the qcow2 format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevQcow2Version {
    /// That of the compatibility level 0.10.
    V2,
    /// That of the compatibility level 1.1.
    V3,
}

impl Enumeration for BlockdevQcow2Version {
    const VALUES: &'static [(&'static str, Self)] = &[("v2", Self::V2), ("v3", Self::V3)];
}
enumeration_codec!(BlockdevQcow2Version);

/// What is asked of a disk without metadata.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlainCreateOptions {
    /// What is reserved from the start; nothing if absent.
    pub preallocation: Option<PreallocMode>,
}

impl Object for PlainCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { preallocation: from.optional("preallocation")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("preallocation", &self.preallocation);
    }
}
object_codec!(PlainCreateOptions);

/// What is asked of the file that an image is made in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FilePlaceOptions {
    /// Whether copy-on-write is turned off; not if absent.
    pub nocow: Option<bool>,
    /// Bytes of the extents that the file system is asked for; 0 asks for none.
    pub extent_size_hint: Option<Size>,
}

impl Object for FilePlaceOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { nocow: from.optional("nocow")?, extent_size_hint: from.optional("extent-size-hint")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("nocow", &self.nocow);
        to.put_optional("extent-size-hint", &self.extent_size_hint);
    }
}
object_codec!(FilePlaceOptions);

/// What is asked of a qcow2 image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Qcow2CreateOptions {
    /// The name of the image below it.
    pub backing_file: Option<String>,
    /// The format of the image below it.
    pub backing_fmt: Option<String>,
    /// The version of the format; v3 if absent.
    pub version: Option<BlockdevQcow2Version>,
    /// Bytes of a cluster; 64 KiB if absent.
    pub cluster_size: Option<Size>,
    /// What is reserved from the start; nothing if absent.
    pub preallocation: Option<PreallocMode>,
    /// Whether refcounts are brought up to date late; not if absent.
    pub lazy_refcounts: Option<bool>,
    /// Bits of a refcount; 16 if absent.
    pub refcount_bits: Option<i64>,
    /// How compressed clusters are compressed; zlib if absent.
    pub compression_type: Option<Qcow2CompressionType>,
    /// Whether clusters have parts; not if absent.
    pub extended_l2: Option<bool>,
    /// Whether the data file is a raw disk; not if absent.
    pub data_file_raw: Option<bool>,
}

impl Object for Qcow2CreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            backing_file: from.optional("backing-file")?,
            backing_fmt: from.optional("backing-fmt")?,
            version: from.optional("version")?,
            cluster_size: from.optional("cluster-size")?,
            preallocation: from.optional("preallocation")?,
            lazy_refcounts: from.optional("lazy-refcounts")?,
            refcount_bits: from.optional("refcount-bits")?,
            compression_type: from.optional("compression-type")?,
            extended_l2: from.optional("extended-l2")?,
            data_file_raw: from.optional("data-file-raw")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("backing-file", &self.backing_file);
        to.put_optional("backing-fmt", &self.backing_fmt);
        to.put_optional("version", &self.version);
        to.put_optional("cluster-size", &self.cluster_size);
        to.put_optional("preallocation", &self.preallocation);
        to.put_optional("lazy-refcounts", &self.lazy_refcounts);
        to.put_optional("refcount-bits", &self.refcount_bits);
        to.put_optional("compression-type", &self.compression_type);
        to.put_optional("extended-l2", &self.extended_l2);
        to.put_optional("data-file-raw", &self.data_file_raw);
    }
}
object_codec!(Qcow2CreateOptions);
