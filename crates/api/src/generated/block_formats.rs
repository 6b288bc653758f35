// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Formats: the options that each has of its own.

use super::*;
use crate::codec::*;
use crate::{Dict, Value};

/// An image in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsGenericFormat {
    /// The file.
    pub file: BlockdevRef,
}

impl Object for BlockdevOptionsGenericFormat {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { file: from.required("file")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("file", &self.file);
    }
}
object_codec!(BlockdevOptionsGenericFormat);

/// An image in a file, over a backing image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsGenericCOWFormat {
    /// The file.
    pub file: BlockdevRef,
    /// The backing image; the one that the image names, if absent; none, if null.
    pub backing: Option<BlockdevRefOrNull>,
}

impl Object for BlockdevOptionsGenericCOWFormat {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { file: from.required("file")?, backing: from.optional("backing")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("file", &self.file);
        to.put_optional("backing", &self.backing);
    }
}
object_codec!(BlockdevOptionsGenericCOWFormat);

/// What a raw disk is opened with, beside its file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RawOptions {
    /// First byte of the part; 0 if absent.
    pub offset: Option<i64>,
    /// Bytes of the part; up to the end if absent.
    pub size: Option<i64>,
}

impl Object for RawOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { offset: from.optional("offset")?, size: from.optional("size")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("offset", &self.offset);
        to.put_optional("size", &self.size);
    }
}
object_codec!(RawOptions);

/// A disk as it is, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsRaw {
    /// First byte of the part; 0 if absent.
    pub offset: Option<i64>,
    /// Bytes of the part; up to the end if absent.
    pub size: Option<i64>,
    /// The file.
    pub file: BlockdevRef,
}

impl Object for BlockdevOptionsRaw {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            offset: from.optional("offset")?,
            size: from.optional("size")?,
            file: from.required("file")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("offset", &self.offset);
        to.put_optional("size", &self.size);
        to.put("file", &self.file);
    }
}
object_codec!(BlockdevOptionsRaw);

/// An encrypted volume in the LUKS format.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsLUKS {
    /// The secret with the passphrase; none is needed to look at the volume without its content.
    pub key_secret: Option<String>,
    /// Most rounds of PBKDF2 that opening a key slot may take; what the default refuses is told by the error.
    /// Not in QEMU.
    pub x_max_rounds: Option<Size>,
    /// Most bytes of memory that opening a key slot may take. Not in QEMU.
    pub x_max_memory: Option<Size>,
    /// The file with its data, and with its header where none is given apart.
    pub file: BlockdevRef,
    /// The file with its header.
    pub header: Option<BlockdevRef>,
}

impl Object for BlockdevOptionsLUKS {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key_secret: from.optional("key-secret")?,
            x_max_rounds: from.optional("x-max-rounds")?,
            x_max_memory: from.optional("x-max-memory")?,
            file: from.required("file")?,
            header: from.optional("header")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("key-secret", &self.key_secret);
        to.put_optional("x-max-rounds", &self.x_max_rounds);
        to.put_optional("x-max-memory", &self.x_max_memory);
        to.put("file", &self.file);
        to.put_optional("header", &self.header);
    }
}
object_codec!(BlockdevOptionsLUKS);

/// Kinds of encryption of a qcow image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevQcowEncryptionFormat {
    /// AES by the secret itself: weak, for old images alone.
    Aes,
}

impl Enumeration for BlockdevQcowEncryptionFormat {
    const VALUES: &'static [(&'static str, Self)] = &[("aes", Self::Aes)];
}
enumeration_codec!(BlockdevQcowEncryptionFormat);

/// What every kind of encryption has.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevQcowEncryptionBase {
    /// Its kind.
    pub format: BlockdevQcowEncryptionFormat,
}

impl Object for BlockdevQcowEncryptionBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { format: from.required("format")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("format", &self.format);
    }
}
object_codec!(BlockdevQcowEncryptionBase);

/// How a qcow image is encrypted.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevQcowEncryption {
    /// `aes`.
    Aes(QCryptoBlockOptionsQCow),
}

impl BlockdevQcowEncryption {
    /// The value of `format` that goes with this branch.
    pub fn format(&self) -> BlockdevQcowEncryptionFormat {
        match self {
            Self::Aes(_) => BlockdevQcowEncryptionFormat::Aes,
        }
    }

    fn take_branch(tag: BlockdevQcowEncryptionFormat, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            BlockdevQcowEncryptionFormat::Aes => Self::Aes(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Aes(inner) => inner.put(to),
        }
    }
}

impl Object for BlockdevQcowEncryption {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("format")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("format", &self.format());
        self.put_branch(to);
    }
}
object_codec!(BlockdevQcowEncryption);

/// What a qcow image is opened with, beside its children.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QcowOptions {
    /// How an encrypted image is opened.
    pub encrypt: Option<BlockdevQcowEncryption>,
}

impl Object for QcowOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { encrypt: from.optional("encrypt")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("encrypt", &self.encrypt);
    }
}
object_codec!(QcowOptions);

/// An image in the first version of the qcow format.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsQcow {
    /// How an encrypted image is opened.
    pub encrypt: Option<BlockdevQcowEncryption>,
    /// The file.
    pub file: BlockdevRef,
    /// The backing image; the one that the image names, if absent; none, if null.
    pub backing: Option<BlockdevRefOrNull>,
}

impl Object for BlockdevOptionsQcow {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            encrypt: from.optional("encrypt")?,
            file: from.required("file")?,
            backing: from.optional("backing")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("encrypt", &self.encrypt);
        to.put("file", &self.file);
        to.put_optional("backing", &self.backing);
    }
}
object_codec!(BlockdevOptionsQcow);

/// Kinds of encryption of a qcow2 image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevQcow2EncryptionFormat {
    /// AES as in the first qcow images: weak, for old images alone.
    Aes,
    /// LUKS.
    Luks,
}

impl Enumeration for BlockdevQcow2EncryptionFormat {
    const VALUES: &'static [(&'static str, Self)] = &[("aes", Self::Aes), ("luks", Self::Luks)];
}
enumeration_codec!(BlockdevQcow2EncryptionFormat);

/// What every kind of encryption has.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevQcow2EncryptionBase {
    /// Its kind.
    pub format: BlockdevQcow2EncryptionFormat,
}

impl Object for BlockdevQcow2EncryptionBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { format: from.required("format")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("format", &self.format);
    }
}
object_codec!(BlockdevQcow2EncryptionBase);

/// What an encrypted qcow2 image is opened with.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevQcow2Encryption {
    /// `aes`.
    Aes(QCryptoBlockOptionsQCow),
    /// `luks`.
    Luks(QCryptoBlockOptionsLUKS),
}

impl BlockdevQcow2Encryption {
    /// The value of `format` that goes with this branch.
    pub fn format(&self) -> BlockdevQcow2EncryptionFormat {
        match self {
            Self::Aes(_) => BlockdevQcow2EncryptionFormat::Aes,
            Self::Luks(_) => BlockdevQcow2EncryptionFormat::Luks,
        }
    }

    fn take_branch(tag: BlockdevQcow2EncryptionFormat, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            BlockdevQcow2EncryptionFormat::Aes => Self::Aes(Object::take(from)?),
            BlockdevQcow2EncryptionFormat::Luks => Self::Luks(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Aes(inner) => inner.put(to),
            Self::Luks(inner) => inner.put(to),
        }
    }
}

impl Object for BlockdevQcow2Encryption {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("format")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("format", &self.format());
        self.put_branch(to);
    }
}
object_codec!(BlockdevQcow2Encryption);

/// Which structures a metadata write is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qcow2OverlapCheckMode {
    /// None.
    None,
    /// Those whose place does not depend on the image's size.
    Constant,
    /// Those that need no reading.
    Cached,
    /// All.
    All,
}

impl Enumeration for Qcow2OverlapCheckMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("constant", Self::Constant), ("cached", Self::Cached), ("all", Self::All)];
}
enumeration_codec!(Qcow2OverlapCheckMode);

/// Which structures a metadata write is checked against, one by one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Qcow2OverlapCheckFlags {
    /// What holds where nothing is said.
    pub template: Option<Qcow2OverlapCheckMode>,
    /// The header.
    pub main_header: Option<bool>,
    /// The active L1 table.
    pub active_l1: Option<bool>,
    /// The active L2 tables.
    pub active_l2: Option<bool>,
    /// The refcount table.
    pub refcount_table: Option<bool>,
    /// The refcount blocks.
    pub refcount_block: Option<bool>,
    /// The snapshot table.
    pub snapshot_table: Option<bool>,
    /// The L1 tables of snapshots.
    pub inactive_l1: Option<bool>,
    /// The L2 tables of snapshots.
    pub inactive_l2: Option<bool>,
    /// The bitmap directory.
    pub bitmap_directory: Option<bool>,
}

impl Object for Qcow2OverlapCheckFlags {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            template: from.optional("template")?,
            main_header: from.optional("main-header")?,
            active_l1: from.optional("active-l1")?,
            active_l2: from.optional("active-l2")?,
            refcount_table: from.optional("refcount-table")?,
            refcount_block: from.optional("refcount-block")?,
            snapshot_table: from.optional("snapshot-table")?,
            inactive_l1: from.optional("inactive-l1")?,
            inactive_l2: from.optional("inactive-l2")?,
            bitmap_directory: from.optional("bitmap-directory")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("template", &self.template);
        to.put_optional("main-header", &self.main_header);
        to.put_optional("active-l1", &self.active_l1);
        to.put_optional("active-l2", &self.active_l2);
        to.put_optional("refcount-table", &self.refcount_table);
        to.put_optional("refcount-block", &self.refcount_block);
        to.put_optional("snapshot-table", &self.snapshot_table);
        to.put_optional("inactive-l1", &self.inactive_l1);
        to.put_optional("inactive-l2", &self.inactive_l2);
        to.put_optional("bitmap-directory", &self.bitmap_directory);
    }
}
object_codec!(Qcow2OverlapCheckFlags);

/// Overlap checks as a mode or one by one.
#[derive(Debug, Clone, PartialEq)]
pub enum Qcow2OverlapChecks {
    /// One by one.
    Flags(Box<Qcow2OverlapCheckFlags>),
    /// A mode.
    Mode(Qcow2OverlapCheckMode),
}

impl Decode for Qcow2OverlapChecks {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::Dict(_) => Ok(Self::Flags(Decode::decode(value, at)?)),
            Value::String(_) => Ok(Self::Mode(Decode::decode(value, at)?)),
            _ => Err(at.wrong_type("Qcow2OverlapChecks")),
        }
    }
}

impl Encode for Qcow2OverlapChecks {
    fn encode(&self) -> Value {
        match self {
            Self::Flags(inner) => inner.encode(),
            Self::Mode(inner) => inner.encode(),
        }
    }
}

/// What a qcow2 image is opened with, beside its children.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Qcow2Options {
    /// Whether reference counts may be stale while the image is open; as the image says, if absent.
    pub lazy_refcounts: Option<bool>,
    /// Whether a guest's discard reaches the file; as `discard` says, if absent.
    pub pass_discard_request: Option<bool>,
    /// Whether what a deleted snapshot held is discarded in the file; it is if absent.
    pub pass_discard_snapshot: Option<bool>,
    /// Whether whatever else becomes free is discarded in the file; not if absent.
    pub pass_discard_other: Option<bool>,
    /// Whether discarded clusters stay allocated, to keep the image in order; not if absent.
    pub discard_no_unref: Option<bool>,
    /// Which structures a metadata write is checked against.
    pub overlap_check: Option<Qcow2OverlapChecks>,
    /// Most bytes of tables in memory.
    pub cache_size: Option<i64>,
    /// Most bytes of L2 tables in memory.
    pub l2_cache_size: Option<i64>,
    /// Bytes of an L2 table that are loaded at once.
    pub l2_cache_entry_size: Option<i64>,
    /// Most bytes of refcount blocks in memory.
    pub refcount_cache_size: Option<i64>,
    /// Seconds after which unused tables leave memory; 0 is never.
    pub cache_clean_interval: Option<i64>,
    /// How an encrypted image is opened.
    pub encrypt: Option<BlockdevQcow2Encryption>,
    /// The secret of an encrypted image, whatever its kind of encryption. Not in QEMU.
    pub x_key_secret: Option<String>,
}

impl Object for Qcow2Options {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            lazy_refcounts: from.optional("lazy-refcounts")?,
            pass_discard_request: from.optional("pass-discard-request")?,
            pass_discard_snapshot: from.optional("pass-discard-snapshot")?,
            pass_discard_other: from.optional("pass-discard-other")?,
            discard_no_unref: from.optional("discard-no-unref")?,
            overlap_check: from.optional("overlap-check")?,
            cache_size: from.optional("cache-size")?,
            l2_cache_size: from.optional("l2-cache-size")?,
            l2_cache_entry_size: from.optional("l2-cache-entry-size")?,
            refcount_cache_size: from.optional("refcount-cache-size")?,
            cache_clean_interval: from.optional("cache-clean-interval")?,
            encrypt: from.optional("encrypt")?,
            x_key_secret: from.optional("x-key-secret")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("lazy-refcounts", &self.lazy_refcounts);
        to.put_optional("pass-discard-request", &self.pass_discard_request);
        to.put_optional("pass-discard-snapshot", &self.pass_discard_snapshot);
        to.put_optional("pass-discard-other", &self.pass_discard_other);
        to.put_optional("discard-no-unref", &self.discard_no_unref);
        to.put_optional("overlap-check", &self.overlap_check);
        to.put_optional("cache-size", &self.cache_size);
        to.put_optional("l2-cache-size", &self.l2_cache_size);
        to.put_optional("l2-cache-entry-size", &self.l2_cache_entry_size);
        to.put_optional("refcount-cache-size", &self.refcount_cache_size);
        to.put_optional("cache-clean-interval", &self.cache_clean_interval);
        to.put_optional("encrypt", &self.encrypt);
        to.put_optional("x-key-secret", &self.x_key_secret);
    }
}
object_codec!(Qcow2Options);

/// An image in the qcow2 format.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsQcow2 {
    /// Whether reference counts may be stale while the image is open; as the image says, if absent.
    pub lazy_refcounts: Option<bool>,
    /// Whether a guest's discard reaches the file; as `discard` says, if absent.
    pub pass_discard_request: Option<bool>,
    /// Whether what a deleted snapshot held is discarded in the file; it is if absent.
    pub pass_discard_snapshot: Option<bool>,
    /// Whether whatever else becomes free is discarded in the file; not if absent.
    pub pass_discard_other: Option<bool>,
    /// Whether discarded clusters stay allocated, to keep the image in order; not if absent.
    pub discard_no_unref: Option<bool>,
    /// Which structures a metadata write is checked against.
    pub overlap_check: Option<Qcow2OverlapChecks>,
    /// Most bytes of tables in memory.
    pub cache_size: Option<i64>,
    /// Most bytes of L2 tables in memory.
    pub l2_cache_size: Option<i64>,
    /// Bytes of an L2 table that are loaded at once.
    pub l2_cache_entry_size: Option<i64>,
    /// Most bytes of refcount blocks in memory.
    pub refcount_cache_size: Option<i64>,
    /// Seconds after which unused tables leave memory; 0 is never.
    pub cache_clean_interval: Option<i64>,
    /// How an encrypted image is opened.
    pub encrypt: Option<BlockdevQcow2Encryption>,
    /// The secret of an encrypted image, whatever its kind of encryption. Not in QEMU.
    pub x_key_secret: Option<String>,
    /// The file.
    pub file: BlockdevRef,
    /// The backing image; the one that the image names, if absent; none, if null.
    pub backing: Option<BlockdevRefOrNull>,
}

impl Object for BlockdevOptionsQcow2 {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            lazy_refcounts: from.optional("lazy-refcounts")?,
            pass_discard_request: from.optional("pass-discard-request")?,
            pass_discard_snapshot: from.optional("pass-discard-snapshot")?,
            pass_discard_other: from.optional("pass-discard-other")?,
            discard_no_unref: from.optional("discard-no-unref")?,
            overlap_check: from.optional("overlap-check")?,
            cache_size: from.optional("cache-size")?,
            l2_cache_size: from.optional("l2-cache-size")?,
            l2_cache_entry_size: from.optional("l2-cache-entry-size")?,
            refcount_cache_size: from.optional("refcount-cache-size")?,
            cache_clean_interval: from.optional("cache-clean-interval")?,
            encrypt: from.optional("encrypt")?,
            x_key_secret: from.optional("x-key-secret")?,
            file: from.required("file")?,
            backing: from.optional("backing")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("lazy-refcounts", &self.lazy_refcounts);
        to.put_optional("pass-discard-request", &self.pass_discard_request);
        to.put_optional("pass-discard-snapshot", &self.pass_discard_snapshot);
        to.put_optional("pass-discard-other", &self.pass_discard_other);
        to.put_optional("discard-no-unref", &self.discard_no_unref);
        to.put_optional("overlap-check", &self.overlap_check);
        to.put_optional("cache-size", &self.cache_size);
        to.put_optional("l2-cache-size", &self.l2_cache_size);
        to.put_optional("l2-cache-entry-size", &self.l2_cache_entry_size);
        to.put_optional("refcount-cache-size", &self.refcount_cache_size);
        to.put_optional("cache-clean-interval", &self.cache_clean_interval);
        to.put_optional("encrypt", &self.encrypt);
        to.put_optional("x-key-secret", &self.x_key_secret);
        to.put("file", &self.file);
        to.put_optional("backing", &self.backing);
    }
}
object_codec!(BlockdevOptionsQcow2);

/// What tells how large a disk in a VHD image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VpcSizeCalculation {
    /// Its geometry, unless that is the largest one.
    Chs,
    /// The size that is stated.
    CurrentSize,
}

impl Enumeration for VpcSizeCalculation {
    const VALUES: &'static [(&'static str, Self)] =
        &[("chs", Self::Chs), ("current_size", Self::CurrentSize)];
}
enumeration_codec!(VpcSizeCalculation);

/// What a VHD image is opened with, beside its file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VpcOptions {
    /// What tells how large the disk is; if absent, what the program that made the image goes by.
    pub force_size_calc: Option<VpcSizeCalculation>,
}

impl Object for VpcOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { force_size_calc: from.optional("force_size_calc")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("force_size_calc", &self.force_size_calc);
    }
}
object_codec!(VpcOptions);

/// A VHD image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsVpc {
    /// What tells how large the disk is; if absent, what the program that made the image goes by.
    pub force_size_calc: Option<VpcSizeCalculation>,
    /// The file.
    pub file: BlockdevRef,
    /// The parent of a differencing image; the one that the image names, if absent; none, if null.
    pub backing: Option<BlockdevRefOrNull>,
}

impl Object for BlockdevOptionsVpc {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            force_size_calc: from.optional("force_size_calc")?,
            file: from.required("file")?,
            backing: from.optional("backing")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("force_size_calc", &self.force_size_calc);
        to.put("file", &self.file);
        to.put_optional("backing", &self.backing);
    }
}
object_codec!(BlockdevOptionsVpc);
