// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! The digest of a disk's content, as the tool tells it.

use crate::Dict;
use crate::codec::*;

/// What digests are made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageDigestAlgorithm {
    /// A tree of BLAKE3 over the disk.
    CairnBlake3,
    /// The digest that 'blksum' tells.
    BlkhashSha256,
}

impl Enumeration for ImageDigestAlgorithm {
    const VALUES: &'static [(&'static str, Self)] =
        &[("cairn-blake3", Self::CairnBlake3), ("blkhash-sha256", Self::BlkhashSha256)];
}
enumeration_codec!(ImageDigestAlgorithm);

/// The digest of an image's disk, and where it was checked, whether it is the expected one. What could not be found out is left
/// out; then `error` is there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageDigest {
    /// The image.
    pub filename: String,
    /// Its format.
    pub format: Option<String>,
    /// Bytes of its disk.
    pub virtual_size: Option<u64>,
    /// What the digest is made by.
    pub algorithm: Option<ImageDigestAlgorithm>,
    /// The digest in hexadecimal.
    pub digest: Option<String>,
    /// Why the disk could not be read.
    pub error: Option<String>,
    /// The digest that it should have.
    pub expected: Option<String>,
    /// It has that one.
    pub equal: Option<bool>,
}

impl Object for ImageDigest {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            filename: from.required("filename")?,
            format: from.optional("format")?,
            virtual_size: from.optional("virtual-size")?,
            algorithm: from.optional("algorithm")?,
            digest: from.optional("digest")?,
            error: from.optional("error")?,
            expected: from.optional("expected")?,
            equal: from.optional("equal")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put_optional("format", &self.format);
        to.put_optional("virtual-size", &self.virtual_size);
        to.put_optional("algorithm", &self.algorithm);
        to.put_optional("digest", &self.digest);
        to.put_optional("error", &self.error);
        to.put_optional("expected", &self.expected);
        to.put_optional("equal", &self.equal);
    }
}
object_codec!(ImageDigest);
