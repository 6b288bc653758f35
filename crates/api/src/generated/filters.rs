// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Filters: the options that each has of its own.

use super::*;
use crate::Dict;
use crate::codec::*;

/// What a filter that throttles is opened with, beside what it filters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ThrottleOptions {
    /// The throttle group it is in.
    pub throttle_group: String,
}

impl Object for ThrottleOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { throttle_group: from.required("throttle-group")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("throttle-group", &self.throttle_group);
    }
}
object_codec!(ThrottleOptions);

/// A filter that throttles requests by the limits of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsThrottle {
    /// The throttle group it is in.
    pub throttle_group: String,
    /// What is below.
    pub file: BlockdevRef,
}

impl Object for BlockdevOptionsThrottle {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { throttle_group: from.required("throttle-group")?, file: from.required("file")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("throttle-group", &self.throttle_group);
        to.put("file", &self.file);
    }
}
object_codec!(BlockdevOptionsThrottle);

/// What a filter that copies on read is opened with, beside what it filters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CopyOnReadOptions {
    /// The lowest image from which data is copied; the lowest of the chain, if absent.
    pub bottom: Option<String>,
}

impl Object for CopyOnReadOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { bottom: from.optional("bottom")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("bottom", &self.bottom);
    }
}
object_codec!(CopyOnReadOptions);

/// A filter that copies what is read from backing images into the image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsCor {
    /// The lowest image from which data is copied; the lowest of the chain, if absent.
    pub bottom: Option<String>,
    /// The image.
    pub file: BlockdevRef,
}

impl Object for BlockdevOptionsCor {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { bottom: from.optional("bottom")?, file: from.required("file")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("bottom", &self.bottom);
        to.put("file", &self.file);
    }
}
object_codec!(BlockdevOptionsCor);

/// What a filter that reserves space is opened with, beside what it filters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PreallocateOptions {
    /// The file's length is a multiple of this as long as it is open, in bytes; 1 MiB if absent.
    pub prealloc_align: Option<i64>,
    /// How much is reserved behind a write that makes the file longer, in bytes; 128 MiB if absent.
    pub prealloc_size: Option<i64>,
}

impl Object for PreallocateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            prealloc_align: from.optional("prealloc-align")?,
            prealloc_size: from.optional("prealloc-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("prealloc-align", &self.prealloc_align);
        to.put_optional("prealloc-size", &self.prealloc_size);
    }
}
object_codec!(PreallocateOptions);

/// A filter that reserves space behind the end of a file in large steps. What is left is given back at the end.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsPreallocate {
    /// The file's length is a multiple of this as long as it is open, in bytes; 1 MiB if absent.
    pub prealloc_align: Option<i64>,
    /// How much is reserved behind a write that makes the file longer, in bytes; 128 MiB if absent.
    pub prealloc_size: Option<i64>,
    /// The file.
    pub file: BlockdevRef,
}

impl Object for BlockdevOptionsPreallocate {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            prealloc_align: from.optional("prealloc-align")?,
            prealloc_size: from.optional("prealloc-size")?,
            file: from.required("file")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("prealloc-align", &self.prealloc_align);
        to.put_optional("prealloc-size", &self.prealloc_size);
        to.put("file", &self.file);
    }
}
object_codec!(BlockdevOptionsPreallocate);
