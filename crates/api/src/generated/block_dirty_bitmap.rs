// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Dirty bitmaps: which parts of a node were changed.

use crate::codec::*;
use crate::{Dict, QmpError, Value};

/// A dirty bitmap.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockDirtyBitmap {
    /// The node it belongs to.
    pub node: String,
    /// Its name.
    pub name: String,
}

impl Object for BlockDirtyBitmap {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { node: from.required("node")?, name: from.required("name")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node", &self.node);
        to.put("name", &self.name);
    }
}
object_codec!(BlockDirtyBitmap);

/// A new dirty bitmap.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockDirtyBitmapAdd {
    /// The node it belongs to.
    pub node: String,
    /// Its name, of at most 1023 bytes.
    pub name: String,
    /// Bytes a bit, a power of two of at least 512; what suits the image if absent.
    pub granularity: Option<u32>,
    /// Whether the image keeps it; not if absent.
    pub persistent: Option<bool>,
    /// Whether it records nothing at first; it records if absent.
    pub disabled: Option<bool>,
}

impl Object for BlockDirtyBitmapAdd {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node: from.required("node")?,
            name: from.required("name")?,
            granularity: from.optional("granularity")?,
            persistent: from.optional("persistent")?,
            disabled: from.optional("disabled")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node", &self.node);
        to.put("name", &self.name);
        to.put_optional("granularity", &self.granularity);
        to.put_optional("persistent", &self.persistent);
        to.put_optional("disabled", &self.disabled);
    }
}
object_codec!(BlockDirtyBitmapAdd);

/// A dirty bitmap.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockDirtyBitmapOrStr {
    /// The name of one that belongs to the same node.
    Local(String),
    /// One that may belong to another node.
    External(Box<BlockDirtyBitmap>),
}

impl Decode for BlockDirtyBitmapOrStr {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::String(_) => Ok(Self::Local(Decode::decode(value, at)?)),
            Value::Dict(_) => Ok(Self::External(Decode::decode(value, at)?)),
            _ => Err(at.wrong_type("BlockDirtyBitmapOrStr")),
        }
    }
}

impl Encode for BlockDirtyBitmapOrStr {
    fn encode(&self) -> Value {
        match self {
            Self::Local(inner) => inner.encode(),
            Self::External(inner) => inner.encode(),
        }
    }
}

/// Bitmaps to merge into another one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockDirtyBitmapMerge {
    /// The node that the target belongs to.
    pub node: String,
    /// The bitmap that takes over what the others have recorded.
    pub target: String,
    /// The others.
    pub bitmaps: Vec<BlockDirtyBitmapOrStr>,
}

impl Object for BlockDirtyBitmapMerge {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node: from.required("node")?,
            target: from.required("target")?,
            bitmaps: from.required("bitmaps")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node", &self.node);
        to.put("target", &self.target);
        to.put("bitmaps", &self.bitmaps);
    }
}
object_codec!(BlockDirtyBitmapMerge);

/// A digest of a dirty bitmap.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockDirtyBitmapSha256 {
    /// The SHA-256 digest of its bits, in hexadecimal digits.
    pub sha256: String,
}

impl Object for BlockDirtyBitmapSha256 {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { sha256: from.required("sha256")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("sha256", &self.sha256);
    }
}
object_codec!(BlockDirtyBitmapSha256);

/// The handlers of section `block-dirty-bitmap`.
pub trait BlockDirtyBitmapCommands: Send + Sync {
    /// Adds a dirty bitmap to a node.
    fn block_dirty_bitmap_add(
        &self,
        arguments: BlockDirtyBitmapAdd,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Removes a dirty bitmap, from the image too.
    fn block_dirty_bitmap_remove(
        &self,
        arguments: BlockDirtyBitmap,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Has a dirty bitmap forget what it has recorded.
    fn block_dirty_bitmap_clear(
        &self,
        arguments: BlockDirtyBitmap,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Has a dirty bitmap record changes from now on.
    fn block_dirty_bitmap_enable(
        &self,
        arguments: BlockDirtyBitmap,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Has a dirty bitmap record no more changes.
    fn block_dirty_bitmap_disable(
        &self,
        arguments: BlockDirtyBitmap,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Has a dirty bitmap take over what others have recorded: all of them, or none.
    fn block_dirty_bitmap_merge(
        &self,
        arguments: BlockDirtyBitmapMerge,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Tells a digest of what a dirty bitmap has recorded.
    ///
    /// Features:
    fn x_debug_block_dirty_bitmap_sha256(
        &self,
        arguments: BlockDirtyBitmap,
    ) -> impl Future<Output = Result<BlockDirtyBitmapSha256, QmpError>> + Send;
}
