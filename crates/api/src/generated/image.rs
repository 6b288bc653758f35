// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What is told about a node and its image, alone, with the images below it, or with all of its graph.

use super::*;
use crate::Dict;
use crate::codec::*;

/// What requests of a node are to be aligned to, and how long they may be, in bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockLimitsInfo {
    /// What zeroes are best aligned to, where that is more than `request-alignment`.
    pub write_zeroes_alignment: Option<i64>,
    /// What offsets and lengths are aligned to.
    pub request_alignment: i64,
    /// The length that reads and writes have at best, if there is one.
    pub opt_transfer: Option<i64>,
    /// What memory has to be aligned to.
    pub min_mem_alignment: i64,
    /// The longest read or write, if there is one.
    pub max_transfer: Option<i64>,
    /// The longest request that a device takes, if there is one.
    pub max_hw_transfer: Option<i64>,
    /// What discards are best aligned to, where that is more than `request-alignment`.
    pub discard_alignment: Option<i64>,
    /// What memory is best aligned to.
    pub opt_mem_alignment: i64,
    /// The most parts that the memory of a request may have.
    pub max_iov: i64,
    /// The same of a device, if there is one.
    pub max_hw_iov: Option<i64>,
    /// The most zeroes at once, if there is one.
    pub max_write_zeroes: Option<i64>,
    /// The longest discard, if there is one.
    pub max_discard: Option<i64>,
}

impl Object for BlockLimitsInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            write_zeroes_alignment: from.optional("write-zeroes-alignment")?,
            request_alignment: from.required("request-alignment")?,
            opt_transfer: from.optional("opt-transfer")?,
            min_mem_alignment: from.required("min-mem-alignment")?,
            max_transfer: from.optional("max-transfer")?,
            max_hw_transfer: from.optional("max-hw-transfer")?,
            discard_alignment: from.optional("discard-alignment")?,
            opt_mem_alignment: from.required("opt-mem-alignment")?,
            max_iov: from.required("max-iov")?,
            max_hw_iov: from.optional("max-hw-iov")?,
            max_write_zeroes: from.optional("max-write-zeroes")?,
            max_discard: from.optional("max-discard")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("write-zeroes-alignment", &self.write_zeroes_alignment);
        to.put("request-alignment", &self.request_alignment);
        to.put_optional("opt-transfer", &self.opt_transfer);
        to.put("min-mem-alignment", &self.min_mem_alignment);
        to.put_optional("max-transfer", &self.max_transfer);
        to.put_optional("max-hw-transfer", &self.max_hw_transfer);
        to.put_optional("discard-alignment", &self.discard_alignment);
        to.put("opt-mem-alignment", &self.opt_mem_alignment);
        to.put("max-iov", &self.max_iov);
        to.put_optional("max-hw-iov", &self.max_hw_iov);
        to.put_optional("max-write-zeroes", &self.max_write_zeroes);
        to.put_optional("max-discard", &self.max_discard);
    }
}
object_codec!(BlockLimitsInfo);

/// An image, without the images it refers to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockNodeInfo {
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
}

impl Object for BlockNodeInfo {
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
    }
}
object_codec!(BlockNodeInfo);

/// An image with its backing chain.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageInfo {
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
    /// The backing image.
    pub backing_image: Option<Box<ImageInfo>>,
}

impl Object for ImageInfo {
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
            backing_image: from.optional("backing-image")?,
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
        to.put_optional("backing-image", &self.backing_image);
    }
}
object_codec!(ImageInfo);

/// A child of a node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockChildInfo {
    /// What it is to its parent: file, backing, …
    pub name: String,
    /// The child.
    pub info: BlockGraphInfo,
}

impl Object for BlockChildInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { name: from.required("name")?, info: from.required("info")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put("info", &self.info);
    }
}
object_codec!(BlockChildInfo);

/// An image with its children, but not its backing chain.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockGraphInfo {
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
}

impl Object for BlockGraphInfo {
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
    }
}
object_codec!(BlockGraphInfo);
