// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What commands of the image tool found out: a check, a map, a measurement.

use crate::Dict;
use crate::codec::*;

/// The outcome of a check. Counts of nothing are left out, but for `check-errors`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageCheck {
    /// Offset of the end of the last cluster in use.
    pub image_end_offset: Option<u64>,
    /// Clusters that are compressed.
    pub compressed_clusters: Option<u64>,
    /// Clusters of the virtual disk.
    pub total_clusters: Option<u64>,
    /// Damage that remains.
    pub corruptions: Option<u64>,
    /// Damage repaired.
    pub corruptions_fixed: Option<u64>,
    /// How often the check itself failed.
    pub check_errors: u64,
    /// Clusters lost, which remain so.
    pub leaks: Option<u64>,
    /// Lost clusters given back.
    pub leaks_fixed: Option<u64>,
    /// Clusters that have data.
    pub allocated_clusters: Option<u64>,
    /// The image.
    pub filename: String,
    /// Its format.
    pub format: String,
    /// Clusters whose data does not follow that of the one before.
    pub fragmented_clusters: Option<u64>,
}

impl Object for ImageCheck {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            image_end_offset: from.optional("image-end-offset")?,
            compressed_clusters: from.optional("compressed-clusters")?,
            total_clusters: from.optional("total-clusters")?,
            corruptions: from.optional("corruptions")?,
            corruptions_fixed: from.optional("corruptions-fixed")?,
            check_errors: from.required("check-errors")?,
            leaks: from.optional("leaks")?,
            leaks_fixed: from.optional("leaks-fixed")?,
            allocated_clusters: from.optional("allocated-clusters")?,
            filename: from.required("filename")?,
            format: from.required("format")?,
            fragmented_clusters: from.optional("fragmented-clusters")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("image-end-offset", &self.image_end_offset);
        to.put_optional("compressed-clusters", &self.compressed_clusters);
        to.put_optional("total-clusters", &self.total_clusters);
        to.put_optional("corruptions", &self.corruptions);
        to.put_optional("corruptions-fixed", &self.corruptions_fixed);
        to.put("check-errors", &self.check_errors);
        to.put_optional("leaks", &self.leaks);
        to.put_optional("leaks-fixed", &self.leaks_fixed);
        to.put_optional("allocated-clusters", &self.allocated_clusters);
        to.put("filename", &self.filename);
        to.put("format", &self.format);
        to.put_optional("fragmented-clusters", &self.fragmented_clusters);
    }
}
object_codec!(ImageCheck);

/// A range of a virtual disk and where its content comes from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MapEntry {
    /// First byte.
    pub start: i64,
    /// Bytes.
    pub length: i64,
    /// Whether the content is read from a file.
    pub data: bool,
    /// Whether it reads as zeros.
    pub zero: bool,
    /// Whether it is compressed.
    pub compressed: bool,
    /// The image that decides it: 0 is the top one, 1 its backing file, and so on.
    pub depth: i64,
    /// Whether any image of the chain has it.
    pub present: bool,
    /// Where the content stands in the file, if it stands there as it is.
    pub offset: Option<i64>,
    /// That file.
    pub filename: Option<String>,
}

impl Object for MapEntry {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            start: from.required("start")?,
            length: from.required("length")?,
            data: from.required("data")?,
            zero: from.required("zero")?,
            compressed: from.required("compressed")?,
            depth: from.required("depth")?,
            present: from.required("present")?,
            offset: from.optional("offset")?,
            filename: from.optional("filename")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("start", &self.start);
        to.put("length", &self.length);
        to.put("data", &self.data);
        to.put("zero", &self.zero);
        to.put("compressed", &self.compressed);
        to.put("depth", &self.depth);
        to.put("present", &self.present);
        to.put_optional("offset", &self.offset);
        to.put_optional("filename", &self.filename);
    }
}
object_codec!(MapEntry);

/// How large the file of a new image would be, in bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockMeasureInfo {
    /// What the dirty bitmaps of the source would take besides, where the format can hold them.
    pub bitmaps: Option<u64>,
    /// Its size with the content of the source.
    pub required: u64,
    /// Its size once all of its disk is written.
    pub fully_allocated: u64,
}

impl Object for BlockMeasureInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            bitmaps: from.optional("bitmaps")?,
            required: from.required("required")?,
            fully_allocated: from.required("fully-allocated")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("bitmaps", &self.bitmaps);
        to.put("required", &self.required);
        to.put("fully-allocated", &self.fully_allocated);
    }
}
object_codec!(BlockMeasureInfo);
