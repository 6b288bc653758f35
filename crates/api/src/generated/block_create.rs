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
    /// The name of the file for the guest's data, if that is not to be in the image itself.
    pub data_file: Option<String>,
    /// Whether the data file is a raw disk; not if absent.
    pub data_file_raw: Option<bool>,
    /// Whether the data file is there and is taken as it is; not if absent.
    pub keep_data_file: Option<bool>,
    /// How the image is encrypted; not at all if absent.
    pub encrypt: Option<Qcow2CreateEncryption>,
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
            data_file: from.optional("data-file")?,
            data_file_raw: from.optional("data-file-raw")?,
            keep_data_file: from.optional("keep-data-file")?,
            encrypt: from.optional("encrypt")?,
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
        to.put_optional("data-file", &self.data_file);
        to.put_optional("data-file-raw", &self.data_file_raw);
        to.put_optional("keep-data-file", &self.keep_data_file);
        to.put_optional("encrypt", &self.encrypt);
    }
}
object_codec!(Qcow2CreateOptions);

/// How a new qcow2 image is encrypted.
#[derive(Debug, Clone, PartialEq)]
pub enum Qcow2CreateEncryption {
    /// `aes`.
    Aes(QCryptoBlockOptionsQCow),
    /// `luks`.
    Luks(QCryptoBlockCreateOptionsLUKS),
}

impl Qcow2CreateEncryption {
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

impl Object for Qcow2CreateEncryption {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("format")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("format", &self.format());
        self.put_branch(to);
    }
}
object_codec!(Qcow2CreateEncryption);

/// What is asked of a LUKS volume.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LUKSCreateOptions {
    /// The secret with the passphrase; none is needed to look at the volume without its content.
    pub key_secret: Option<String>,
    /// Most rounds of PBKDF2 that opening a key slot may take; what the default refuses is told by the error.
    /// Not in QEMU.
    pub x_max_rounds: Option<Size>,
    /// Most bytes of memory that opening a key slot may take. Not in QEMU.
    pub x_max_memory: Option<Size>,
    /// The cipher; AES with keys of 256 bits if absent.
    pub cipher_alg: Option<QCryptoCipherAlgo>,
    /// Its mode; XTS if absent.
    pub cipher_mode: Option<QCryptoCipherMode>,
    /// The generator of initialisation vectors; plain64 if absent.
    pub ivgen_alg: Option<QCryptoIVGenAlgo>,
    /// The hash of a generator that takes one; SHA-256 if absent.
    pub ivgen_hash_alg: Option<QCryptoHashAlgo>,
    /// The hash of key derivation; SHA-256 if absent.
    pub hash_alg: Option<QCryptoHashAlgo>,
    /// Milliseconds that trying a passphrase takes; 2,000 if absent.
    pub iter_time: Option<i64>,
    /// What of the file is reserved from the start; nothing if absent.
    pub preallocation: Option<PreallocMode>,
    /// Whether only the header is made, for data that is in another file; not if absent.
    pub detached_header: Option<bool>,
}

impl Object for LUKSCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key_secret: from.optional("key-secret")?,
            x_max_rounds: from.optional("x-max-rounds")?,
            x_max_memory: from.optional("x-max-memory")?,
            cipher_alg: from.optional("cipher-alg")?,
            cipher_mode: from.optional("cipher-mode")?,
            ivgen_alg: from.optional("ivgen-alg")?,
            ivgen_hash_alg: from.optional("ivgen-hash-alg")?,
            hash_alg: from.optional("hash-alg")?,
            iter_time: from.optional("iter-time")?,
            preallocation: from.optional("preallocation")?,
            detached_header: from.optional("detached-header")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("key-secret", &self.key_secret);
        to.put_optional("x-max-rounds", &self.x_max_rounds);
        to.put_optional("x-max-memory", &self.x_max_memory);
        to.put_optional("cipher-alg", &self.cipher_alg);
        to.put_optional("cipher-mode", &self.cipher_mode);
        to.put_optional("ivgen-alg", &self.ivgen_alg);
        to.put_optional("ivgen-hash-alg", &self.ivgen_hash_alg);
        to.put_optional("hash-alg", &self.hash_alg);
        to.put_optional("iter-time", &self.iter_time);
        to.put_optional("preallocation", &self.preallocation);
        to.put_optional("detached-header", &self.detached_header);
    }
}
object_codec!(LUKSCreateOptions);

/// What is asked of a Parallels image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ParallelsCreateOptions {
    /// Bytes of a cluster; 1 MiB if absent.
    pub cluster_size: Option<Size>,
}

impl Object for ParallelsCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { cluster_size: from.optional("cluster-size")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("cluster-size", &self.cluster_size);
    }
}
object_codec!(ParallelsCreateOptions);

/// What is asked of a VDI image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VdiCreateOptions {
    /// What is reserved from the start: nothing, or its table, so that it is a static image; nothing if absent.
    pub preallocation: Option<PreallocMode>,
}

impl Object for VdiCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { preallocation: from.optional("preallocation")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("preallocation", &self.preallocation);
    }
}
object_codec!(VdiCreateOptions);

/// How a VHD image is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevVpcSubformat {
    /// By blocks, as far as something is written.
    Dynamic,
    /// As the disk is.
    Fixed,
}

impl Enumeration for BlockdevVpcSubformat {
    const VALUES: &'static [(&'static str, Self)] = &[("dynamic", Self::Dynamic), ("fixed", Self::Fixed)];
}
enumeration_codec!(BlockdevVpcSubformat);

/// What is asked of a VHD image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VpcCreateOptions {
    /// How it is laid out; dynamic if absent.
    pub subformat: Option<BlockdevVpcSubformat>,
    /// Whether the disk is as large as asked for, although Virtual PC can't count it so; not if absent.
    pub force_size: Option<bool>,
}

impl Object for VpcCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { subformat: from.optional("subformat")?, force_size: from.optional("force-size")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("subformat", &self.subformat);
        to.put_optional("force-size", &self.force_size);
    }
}
object_codec!(VpcCreateOptions);

/// The subformats of vmdk images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevVmdkSubformat {
    /// One file, whose grains are allocated as they are written.
    MonolithicSparse,
    /// A descriptor, and one file with the bytes of the disk.
    MonolithicFlat,
    /// A descriptor, and sparse files of 2 GiB of the disk each.
    TwoGbMaxExtentSparse,
    /// A descriptor, and files with the bytes of 2 GiB of the disk each.
    TwoGbMaxExtentFlat,
    /// One file of compressed grains, one behind the other.
    StreamOptimized,
}

impl Enumeration for BlockdevVmdkSubformat {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("monolithicSparse", Self::MonolithicSparse),
        ("monolithicFlat", Self::MonolithicFlat),
        ("twoGbMaxExtentSparse", Self::TwoGbMaxExtentSparse),
        ("twoGbMaxExtentFlat", Self::TwoGbMaxExtentFlat),
        ("streamOptimized", Self::StreamOptimized),
    ];
}
enumeration_codec!(BlockdevVmdkSubformat);

/// The adapters of virtual machines that vmdk images name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevVmdkAdapterType {
    /// IDE.
    Ide,
    /// BusLogic SCSI.
    Buslogic,
    /// LSI Logic SCSI.
    Lsilogic,
    /// That of old ESX hosts.
    LegacyESX,
}

impl Enumeration for BlockdevVmdkAdapterType {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("ide", Self::Ide),
        ("buslogic", Self::Buslogic),
        ("lsilogic", Self::Lsilogic),
        ("legacyESX", Self::LegacyESX),
    ];
}
enumeration_codec!(BlockdevVmdkAdapterType);

/// What is asked of a vmdk image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VmdkCreateOptions {
    /// Its subformat; monolithicSparse if absent.
    pub subformat: Option<BlockdevVmdkSubformat>,
    /// The name of the image below it.
    pub backing_file: Option<String>,
    /// The format of the image below it, which is vmdk.
    pub backing_fmt: Option<String>,
    /// The adapter that it names; ide if absent.
    pub adapter_type: Option<BlockdevVmdkAdapterType>,
    /// The version of the virtual hardware that it names; 4 if absent.
    pub hwversion: Option<String>,
    /// The version of the guest tools that it names; 2147483647 if absent.
    pub toolsversion: Option<String>,
    /// Whether grains can be called zeroed; not if absent.
    pub zeroed_grain: Option<bool>,
    /// Bytes of a grain, a power of two from 4 KiB to 64 MiB; 64 KiB if absent. Not in QEMU.
    pub x_grain_size: Option<Size>,
}

impl Object for VmdkCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            subformat: from.optional("subformat")?,
            backing_file: from.optional("backing-file")?,
            backing_fmt: from.optional("backing-fmt")?,
            adapter_type: from.optional("adapter-type")?,
            hwversion: from.optional("hwversion")?,
            toolsversion: from.optional("toolsversion")?,
            zeroed_grain: from.optional("zeroed-grain")?,
            x_grain_size: from.optional("x-grain-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("subformat", &self.subformat);
        to.put_optional("backing-file", &self.backing_file);
        to.put_optional("backing-fmt", &self.backing_fmt);
        to.put_optional("adapter-type", &self.adapter_type);
        to.put_optional("hwversion", &self.hwversion);
        to.put_optional("toolsversion", &self.toolsversion);
        to.put_optional("zeroed-grain", &self.zeroed_grain);
        to.put_optional("x-grain-size", &self.x_grain_size);
    }
}
object_codec!(VmdkCreateOptions);

/// How a VHDX image is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevVhdxSubformat {
    /// By blocks, as far as something is written.
    Dynamic,
    /// With all blocks in the file, from the start.
    Fixed,
}

impl Enumeration for BlockdevVhdxSubformat {
    const VALUES: &'static [(&'static str, Self)] = &[("dynamic", Self::Dynamic), ("fixed", Self::Fixed)];
}
enumeration_codec!(BlockdevVhdxSubformat);

/// What is asked of a VHDX image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VhdxCreateOptions {
    /// Bytes of the log, made whole MiB; 1 MiB if absent.
    pub log_size: Option<Size>,
    /// Bytes of a block; by the size of the disk, if absent or 0.
    pub block_size: Option<Size>,
    /// How it is laid out; dynamic if absent.
    pub subformat: Option<BlockdevVhdxSubformat>,
    /// Whether blocks that are nowhere are called zeroes; so if absent.
    pub block_state_zero: Option<bool>,
}

impl Object for VhdxCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            log_size: from.optional("log-size")?,
            block_size: from.optional("block-size")?,
            subformat: from.optional("subformat")?,
            block_state_zero: from.optional("block-state-zero")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("log-size", &self.log_size);
        to.put_optional("block-size", &self.block_size);
        to.put_optional("subformat", &self.subformat);
        to.put_optional("block-state-zero", &self.block_state_zero);
    }
}
object_codec!(VhdxCreateOptions);

/// What is asked of a qed image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QedCreateOptions {
    /// The name of the image below it.
    pub backing_file: Option<String>,
    /// The format of the image below it; the image keeps only whether that is raw.
    pub backing_fmt: Option<String>,
    /// Bytes of a cluster; 64 KiB if absent.
    pub cluster_size: Option<Size>,
    /// Clusters of a table; 4 if absent.
    pub table_size: Option<Size>,
}

impl Object for QedCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            backing_file: from.optional("backing-file")?,
            backing_fmt: from.optional("backing-fmt")?,
            cluster_size: from.optional("cluster-size")?,
            table_size: from.optional("table-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("backing-file", &self.backing_file);
        to.put_optional("backing-fmt", &self.backing_fmt);
        to.put_optional("cluster-size", &self.cluster_size);
        to.put_optional("table-size", &self.table_size);
    }
}
object_codec!(QedCreateOptions);

/// What is asked of a qcow image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QcowCreateOptions {
    /// The name of the image below it.
    pub backing_file: Option<String>,
    /// The format of the image below it, which the image does not keep.
    pub backing_fmt: Option<String>,
    /// How the image is encrypted; not at all if absent.
    pub encrypt: Option<BlockdevQcowEncryption>,
}

impl Object for QcowCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            backing_file: from.optional("backing-file")?,
            backing_fmt: from.optional("backing-fmt")?,
            encrypt: from.optional("encrypt")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("backing-file", &self.backing_file);
        to.put_optional("backing-fmt", &self.backing_fmt);
        to.put_optional("encrypt", &self.encrypt);
    }
}
object_codec!(QcowCreateOptions);

/// What is asked of a cow image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CowCreateOptions {
    /// The name of the image below it.
    pub backing_file: Option<String>,
    /// The format of the image below it, which the image does not keep.
    pub backing_fmt: Option<String>,
}

impl Object for CowCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { backing_file: from.optional("backing-file")?, backing_fmt: from.optional("backing-fmt")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("backing-file", &self.backing_file);
        to.put_optional("backing-fmt", &self.backing_fmt);
    }
}
object_codec!(CowCreateOptions);

/// What a new header of LUKS is made with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RbdEncryptionCreateOptionsLUKSBase {
    /// The id of the secret with the passphrase.
    pub key_secret: String,
    /// Its cipher: aes-128, or aes-256, which it is if absent.
    pub cipher_alg: Option<QCryptoCipherAlgo>,
}

impl Object for RbdEncryptionCreateOptionsLUKSBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { key_secret: from.required("key-secret")?, cipher_alg: from.optional("cipher-alg")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("key-secret", &self.key_secret);
        to.put_optional("cipher-alg", &self.cipher_alg);
    }
}
object_codec!(RbdEncryptionCreateOptionsLUKSBase);

/// What a new header of LUKS1 is made with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RbdEncryptionCreateOptionsLUKS {
    /// The id of the secret with the passphrase.
    pub key_secret: String,
    /// Its cipher: aes-128, or aes-256, which it is if absent.
    pub cipher_alg: Option<QCryptoCipherAlgo>,
}

impl Object for RbdEncryptionCreateOptionsLUKS {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { key_secret: from.required("key-secret")?, cipher_alg: from.optional("cipher-alg")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("key-secret", &self.key_secret);
        to.put_optional("cipher-alg", &self.cipher_alg);
    }
}
object_codec!(RbdEncryptionCreateOptionsLUKS);

/// What a new header of LUKS2 is made with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RbdEncryptionCreateOptionsLUKS2 {
    /// The id of the secret with the passphrase.
    pub key_secret: String,
    /// Its cipher: aes-128, or aes-256, which it is if absent.
    pub cipher_alg: Option<QCryptoCipherAlgo>,
}

impl Object for RbdEncryptionCreateOptionsLUKS2 {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { key_secret: from.required("key-secret")?, cipher_alg: from.optional("cipher-alg")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("key-secret", &self.key_secret);
        to.put_optional("cipher-alg", &self.cipher_alg);
    }
}
object_codec!(RbdEncryptionCreateOptionsLUKS2);

/// How a new RBD image is encrypted.
#[derive(Debug, Clone, PartialEq)]
pub struct RbdEncryptionCreateOptionsBase {
    /// How it is encrypted; not with luks-any.
    pub format: RbdImageEncryptionFormat,
}

impl Object for RbdEncryptionCreateOptionsBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { format: from.required("format")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("format", &self.format);
    }
}
object_codec!(RbdEncryptionCreateOptionsBase);

/// How a new RBD image is encrypted.
#[derive(Debug, Clone, PartialEq)]
pub enum RbdEncryptionCreateOptions {
    /// `luks`.
    Luks(RbdEncryptionCreateOptionsLUKS),
    /// `luks2`.
    Luks2(RbdEncryptionCreateOptionsLUKS2),
    /// `luks-any`.
    LuksAny,
}

impl RbdEncryptionCreateOptions {
    /// The value of `format` that goes with this branch.
    pub fn format(&self) -> RbdImageEncryptionFormat {
        match self {
            Self::Luks(_) => RbdImageEncryptionFormat::Luks,
            Self::Luks2(_) => RbdImageEncryptionFormat::Luks2,
            Self::LuksAny => RbdImageEncryptionFormat::LuksAny,
        }
    }

    fn take_branch(tag: RbdImageEncryptionFormat, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            RbdImageEncryptionFormat::Luks => Self::Luks(Object::take(from)?),
            RbdImageEncryptionFormat::Luks2 => Self::Luks2(Object::take(from)?),
            RbdImageEncryptionFormat::LuksAny => Self::LuksAny,
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Luks(inner) => inner.put(to),
            Self::Luks2(inner) => inner.put(to),
            Self::LuksAny => {}
        }
    }
}

impl Object for RbdEncryptionCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("format")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("format", &self.format());
        self.put_branch(to);
    }
}
object_codec!(RbdEncryptionCreateOptions);

/// What is asked of a new RBD image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RbdCreateOptions {
    /// Bytes of an object, a power of two; 4 MiB, or what the cluster says, if absent.
    pub cluster_size: Option<Size>,
    /// How librbd encrypts it; not at all if absent.
    pub encrypt: Option<RbdEncryptionCreateOptions>,
}

impl Object for RbdCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { cluster_size: from.optional("cluster-size")?, encrypt: from.optional("encrypt")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("cluster-size", &self.cluster_size);
        to.put_optional("encrypt", &self.encrypt);
    }
}
object_codec!(RbdCreateOptions);

/// What is asked of the RBD image that an image is made in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RbdPlaceOptions {
    /// Bytes of an object, a power of two; 4 MiB, or what the cluster says, if absent.
    pub cluster_size: Option<Size>,
    /// How librbd encrypts it; not at all if absent.
    pub encrypt: Option<RbdEncryptionCreateOptions>,
    /// The id of the secret with the user's key, where the image's name says none.
    pub password_secret: Option<String>,
}

impl Object for RbdPlaceOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster_size: from.optional("cluster-size")?,
            encrypt: from.optional("encrypt")?,
            password_secret: from.optional("password-secret")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("cluster-size", &self.cluster_size);
        to.put_optional("encrypt", &self.encrypt);
        to.put_optional("password-secret", &self.password_secret);
    }
}
object_codec!(RbdPlaceOptions);
