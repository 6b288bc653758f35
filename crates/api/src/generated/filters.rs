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
