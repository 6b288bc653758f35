// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Several images as one disk, or beside one another.

use super::*;
use crate::Dict;
use crate::codec::*;

/// What a filter that writes changes down is opened with, beside its children.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlklogwritesOptions {
    /// Bytes of a sector of the log, a power of two; 512 if absent.
    pub log_sector_size: Option<u32>,
    /// Whether it goes on behind what is in the log; it begins anew if absent.
    pub log_append: Option<bool>,
    /// After how many entries the log's superblock counts them; 4096 if absent.
    pub log_super_update_interval: Option<u64>,
}

impl Object for BlklogwritesOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            log_sector_size: from.optional("log-sector-size")?,
            log_append: from.optional("log-append")?,
            log_super_update_interval: from.optional("log-super-update-interval")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("log-sector-size", &self.log_sector_size);
        to.put_optional("log-append", &self.log_append);
        to.put_optional("log-super-update-interval", &self.log_super_update_interval);
    }
}
object_codec!(BlklogwritesOptions);

/// A filter that writes down every change.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsBlklogwrites {
    /// Bytes of a sector of the log, a power of two; 512 if absent.
    pub log_sector_size: Option<u32>,
    /// Whether it goes on behind what is in the log; it begins anew if absent.
    pub log_append: Option<bool>,
    /// After how many entries the log's superblock counts them; 4096 if absent.
    pub log_super_update_interval: Option<u64>,
    /// What is below.
    pub file: BlockdevRef,
    /// Where changes are written down.
    pub log: BlockdevRef,
}

impl Object for BlockdevOptionsBlklogwrites {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            log_sector_size: from.optional("log-sector-size")?,
            log_append: from.optional("log-append")?,
            log_super_update_interval: from.optional("log-super-update-interval")?,
            file: from.required("file")?,
            log: from.required("log")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("log-sector-size", &self.log_sector_size);
        to.put_optional("log-append", &self.log_append);
        to.put_optional("log-super-update-interval", &self.log_super_update_interval);
        to.put("file", &self.file);
        to.put("log", &self.log);
    }
}
object_codec!(BlockdevOptionsBlklogwrites);

/// An image that is compared with a raw copy of its disk.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsBlkverify {
    /// The image.
    pub test: BlockdevRef,
    /// The raw copy.
    pub raw: BlockdevRef,
}

impl Object for BlockdevOptionsBlkverify {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { test: from.required("test")?, raw: from.required("raw")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("test", &self.test);
        to.put("raw", &self.raw);
    }
}
object_codec!(BlockdevOptionsBlkverify);

/// How a quorum reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QuorumReadPattern {
    /// From all children, which vote.
    Quorum,
    /// From one child after the other, until one answers.
    Fifo,
}

impl Enumeration for QuorumReadPattern {
    const VALUES: &'static [(&'static str, Self)] = &[("quorum", Self::Quorum), ("fifo", Self::Fifo)];
}
enumeration_codec!(QuorumReadPattern);

/// What a quorum is opened with, beside its children.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QuorumOptions {
    /// Whether the program ends when the two children differ; it does not if absent.
    pub blkverify: Option<bool>,
    /// How many children must agree.
    pub vote_threshold: i64,
    /// Whether children that were outvoted are given what the others have; they are not if absent.
    pub rewrite_corrupted: Option<bool>,
    /// How it reads; quorum if absent.
    pub read_pattern: Option<QuorumReadPattern>,
}

impl Object for QuorumOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            blkverify: from.optional("blkverify")?,
            vote_threshold: from.required("vote-threshold")?,
            rewrite_corrupted: from.optional("rewrite-corrupted")?,
            read_pattern: from.optional("read-pattern")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("blkverify", &self.blkverify);
        to.put("vote-threshold", &self.vote_threshold);
        to.put_optional("rewrite-corrupted", &self.rewrite_corrupted);
        to.put_optional("read-pattern", &self.read_pattern);
    }
}
object_codec!(QuorumOptions);

/// One disk in several children.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsQuorum {
    /// Whether the program ends when the two children differ; it does not if absent.
    pub blkverify: Option<bool>,
    /// How many children must agree.
    pub vote_threshold: i64,
    /// Whether children that were outvoted are given what the others have; they are not if absent.
    pub rewrite_corrupted: Option<bool>,
    /// How it reads; quorum if absent.
    pub read_pattern: Option<QuorumReadPattern>,
    /// The children.
    pub children: Vec<BlockdevRef>,
}

impl Object for BlockdevOptionsQuorum {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            blkverify: from.optional("blkverify")?,
            vote_threshold: from.required("vote-threshold")?,
            rewrite_corrupted: from.optional("rewrite-corrupted")?,
            read_pattern: from.optional("read-pattern")?,
            children: from.required("children")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("blkverify", &self.blkverify);
        to.put("vote-threshold", &self.vote_threshold);
        to.put_optional("rewrite-corrupted", &self.rewrite_corrupted);
        to.put_optional("read-pattern", &self.read_pattern);
        to.put("children", &self.children);
    }
}
object_codec!(BlockdevOptionsQuorum);
