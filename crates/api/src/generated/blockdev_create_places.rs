// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What is asked of a new place for an image: a file of this host or of a server, an image of a store.

use super::*;
use crate::Dict;
use crate::codec::*;

/// What is asked of a new file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevCreateOptionsFile {
    /// Whether copy-on-write is turned off; not if absent.
    pub nocow: Option<bool>,
    /// Bytes of the extents that the file system is asked for; 0 asks for none.
    pub extent_size_hint: Option<Size>,
    /// Its name.
    pub filename: String,
    /// Its size in bytes.
    pub size: Size,
    /// Member `preallocation`.
    pub preallocation: Option<PreallocMode>,
}

impl Object for BlockdevCreateOptionsFile {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            nocow: from.optional("nocow")?,
            extent_size_hint: from.optional("extent-size-hint")?,
            filename: from.required("filename")?,
            size: from.required("size")?,
            preallocation: from.optional("preallocation")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("nocow", &self.nocow);
        to.put_optional("extent-size-hint", &self.extent_size_hint);
        to.put("filename", &self.filename);
        to.put("size", &self.size);
        to.put_optional("preallocation", &self.preallocation);
    }
}
object_codec!(BlockdevCreateOptionsFile);

/// What is asked of a new file on an NFS server.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsNfs {
    /// Where it is.
    pub location: BlockdevOptionsNfs,
    /// Its size in bytes.
    pub size: Size,
}

impl Object for BlockdevCreateOptionsNfs {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { location: from.required("location")?, size: from.required("size")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("location", &self.location);
        to.put("size", &self.size);
    }
}
object_codec!(BlockdevCreateOptionsNfs);

/// What is asked of a new image in a Ceph cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevCreateOptionsRbd {
    /// Bytes of an object, a power of two; 4 MiB, or what the cluster says, if absent.
    pub cluster_size: Option<Size>,
    /// How librbd encrypts it; not at all if absent.
    pub encrypt: Option<RbdEncryptionCreateOptions>,
    /// Where it is made, and under what name.
    pub location: BlockdevOptionsRbd,
    /// Its size in bytes.
    pub size: Size,
}

impl Object for BlockdevCreateOptionsRbd {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster_size: from.optional("cluster-size")?,
            encrypt: from.optional("encrypt")?,
            location: from.required("location")?,
            size: from.required("size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("cluster-size", &self.cluster_size);
        to.put_optional("encrypt", &self.encrypt);
        to.put("location", &self.location);
        to.put("size", &self.size);
    }
}
object_codec!(BlockdevCreateOptionsRbd);

/// What is asked of a new file on an SSH server.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevCreateOptionsSsh {
    /// Where it is.
    pub location: BlockdevOptionsSsh,
    /// Its size in bytes.
    pub size: Size,
}

impl Object for BlockdevCreateOptionsSsh {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { location: from.required("location")?, size: from.required("size")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("location", &self.location);
        to.put("size", &self.size);
    }
}
object_codec!(BlockdevCreateOptionsSsh);
