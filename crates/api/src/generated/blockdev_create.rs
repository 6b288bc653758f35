// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Images that are made by a job.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// What is asked of a new LUKS volume.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevCreateOptionsLUKS {
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
    /// The node that it is made in.
    pub file: Option<BlockdevRef>,
    /// The node that only its header is made in, for data that is elsewhere.
    pub header: Option<BlockdevRef>,
    /// Size of the disk in bytes.
    pub size: Size,
    /// What of the file is reserved from the start; nothing if absent.
    pub preallocation: Option<PreallocMode>,
}

impl Object for BlockdevCreateOptionsLUKS {
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
            file: from.optional("file")?,
            header: from.optional("header")?,
            size: from.required("size")?,
            preallocation: from.optional("preallocation")?,
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
        to.put_optional("file", &self.file);
        to.put_optional("header", &self.header);
        to.put("size", &self.size);
        to.put_optional("preallocation", &self.preallocation);
    }
}
object_codec!(BlockdevCreateOptionsLUKS);

/// What a Parallels image is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsParallels {
    /// The node that it is made in.
    pub file: BlockdevRef,
    /// Size of the disk in bytes.
    pub size: Size,
    /// Bytes of a cluster; 1 MiB if absent.
    pub cluster_size: Option<Size>,
}

impl Object for BlockdevCreateOptionsParallels {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            file: from.required("file")?,
            size: from.required("size")?,
            cluster_size: from.optional("cluster-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("file", &self.file);
        to.put("size", &self.size);
        to.put_optional("cluster-size", &self.cluster_size);
    }
}
object_codec!(BlockdevCreateOptionsParallels);

/// What is asked of a new qcow2 image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsQcow2 {
    /// The node that it is made in.
    pub file: BlockdevRef,
    /// The node for the guest's data, if that is not to be in the image itself.
    pub data_file: Option<BlockdevRef>,
    /// Whether the data file is a raw disk; not if absent.
    pub data_file_raw: Option<bool>,
    /// Whether clusters have parts; not if absent.
    pub extended_l2: Option<bool>,
    /// Size of the disk in bytes.
    pub size: Size,
    /// The version of the format; v3 if absent.
    pub version: Option<BlockdevQcow2Version>,
    /// The name of the image below it.
    pub backing_file: Option<String>,
    /// The format of the image below it.
    pub backing_fmt: Option<BlockdevDriver>,
    /// How the image is encrypted; not at all if absent.
    pub encrypt: Option<Qcow2CreateEncryption>,
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
}

impl Object for BlockdevCreateOptionsQcow2 {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            file: from.required("file")?,
            data_file: from.optional("data-file")?,
            data_file_raw: from.optional("data-file-raw")?,
            extended_l2: from.optional("extended-l2")?,
            size: from.required("size")?,
            version: from.optional("version")?,
            backing_file: from.optional("backing-file")?,
            backing_fmt: from.optional("backing-fmt")?,
            encrypt: from.optional("encrypt")?,
            cluster_size: from.optional("cluster-size")?,
            preallocation: from.optional("preallocation")?,
            lazy_refcounts: from.optional("lazy-refcounts")?,
            refcount_bits: from.optional("refcount-bits")?,
            compression_type: from.optional("compression-type")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("file", &self.file);
        to.put_optional("data-file", &self.data_file);
        to.put_optional("data-file-raw", &self.data_file_raw);
        to.put_optional("extended-l2", &self.extended_l2);
        to.put("size", &self.size);
        to.put_optional("version", &self.version);
        to.put_optional("backing-file", &self.backing_file);
        to.put_optional("backing-fmt", &self.backing_fmt);
        to.put_optional("encrypt", &self.encrypt);
        to.put_optional("cluster-size", &self.cluster_size);
        to.put_optional("preallocation", &self.preallocation);
        to.put_optional("lazy-refcounts", &self.lazy_refcounts);
        to.put_optional("refcount-bits", &self.refcount_bits);
        to.put_optional("compression-type", &self.compression_type);
    }
}
object_codec!(BlockdevCreateOptionsQcow2);

/// What a VDI image is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsVdi {
    /// The node that it is made in.
    pub file: BlockdevRef,
    /// Size of the disk in bytes.
    pub size: Size,
    /// What is reserved from the start: nothing, or its table, so that it is a static image; nothing if absent.
    pub preallocation: Option<PreallocMode>,
}

impl Object for BlockdevCreateOptionsVdi {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            file: from.required("file")?,
            size: from.required("size")?,
            preallocation: from.optional("preallocation")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("file", &self.file);
        to.put("size", &self.size);
        to.put_optional("preallocation", &self.preallocation);
    }
}
object_codec!(BlockdevCreateOptionsVdi);

/// What is asked of a new VHDX image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsVhdx {
    /// Bytes of the log, made whole MiB; 1 MiB if absent.
    pub log_size: Option<Size>,
    /// Bytes of a block; by the size of the disk, if absent or 0.
    pub block_size: Option<Size>,
    /// How it is laid out; dynamic if absent.
    pub subformat: Option<BlockdevVhdxSubformat>,
    /// Whether blocks that are nowhere are called zeroes; so if absent.
    pub block_state_zero: Option<bool>,
    /// The node that it is made in.
    pub file: BlockdevRef,
    /// Size of the disk in bytes.
    pub size: Size,
}

impl Object for BlockdevCreateOptionsVhdx {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            log_size: from.optional("log-size")?,
            block_size: from.optional("block-size")?,
            subformat: from.optional("subformat")?,
            block_state_zero: from.optional("block-state-zero")?,
            file: from.required("file")?,
            size: from.required("size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("log-size", &self.log_size);
        to.put_optional("block-size", &self.block_size);
        to.put_optional("subformat", &self.subformat);
        to.put_optional("block-state-zero", &self.block_state_zero);
        to.put("file", &self.file);
        to.put("size", &self.size);
    }
}
object_codec!(BlockdevCreateOptionsVhdx);

/// What is asked of a new VHD image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsVpc {
    /// How it is laid out; dynamic if absent.
    pub subformat: Option<BlockdevVpcSubformat>,
    /// Whether the disk is as large as asked for, although Virtual PC can't count it so; not if absent.
    pub force_size: Option<bool>,
    /// The node that it is made in.
    pub file: BlockdevRef,
    /// Size of the disk in bytes.
    pub size: Size,
}

impl Object for BlockdevCreateOptionsVpc {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            subformat: from.optional("subformat")?,
            force_size: from.optional("force-size")?,
            file: from.required("file")?,
            size: from.required("size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("subformat", &self.subformat);
        to.put_optional("force-size", &self.force_size);
        to.put("file", &self.file);
        to.put("size", &self.size);
    }
}
object_codec!(BlockdevCreateOptionsVpc);

/// What is asked of a new vmdk image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsVmdk {
    /// The node that it is made in; of subformats with several files, the node for the descriptor.
    pub file: BlockdevRef,
    /// Size of the disk in bytes.
    pub size: Size,
    /// The nodes for its extents, in the order of the disk, where it has files of their own.
    pub extents: Option<Vec<BlockdevRef>>,
    /// Its subformat; monolithicSparse if absent.
    pub subformat: Option<BlockdevVmdkSubformat>,
    /// The name of the image below it.
    pub backing_file: Option<String>,
    /// The adapter that it names; ide if absent.
    pub adapter_type: Option<BlockdevVmdkAdapterType>,
    /// The version of the virtual hardware that it names; 4 if absent.
    pub hwversion: Option<String>,
    /// The version of the guest tools that it names; 2147483647 if absent.
    pub toolsversion: Option<String>,
    /// Whether grains can be called zeroed; not if absent.
    pub zeroed_grain: Option<bool>,
}

impl Object for BlockdevCreateOptionsVmdk {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            file: from.required("file")?,
            size: from.required("size")?,
            extents: from.optional("extents")?,
            subformat: from.optional("subformat")?,
            backing_file: from.optional("backing-file")?,
            adapter_type: from.optional("adapter-type")?,
            hwversion: from.optional("hwversion")?,
            toolsversion: from.optional("toolsversion")?,
            zeroed_grain: from.optional("zeroed-grain")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("file", &self.file);
        to.put("size", &self.size);
        to.put_optional("extents", &self.extents);
        to.put_optional("subformat", &self.subformat);
        to.put_optional("backing-file", &self.backing_file);
        to.put_optional("adapter-type", &self.adapter_type);
        to.put_optional("hwversion", &self.hwversion);
        to.put_optional("toolsversion", &self.toolsversion);
        to.put_optional("zeroed-grain", &self.zeroed_grain);
    }
}
object_codec!(BlockdevCreateOptionsVmdk);

/// What is asked of a new qcow image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsQcow {
    /// The node that it is made in.
    pub file: BlockdevRef,
    /// Size of the disk in bytes.
    pub size: Size,
    /// The name of the image below it.
    pub backing_file: Option<String>,
    /// How the image is encrypted; not at all if absent.
    pub encrypt: Option<BlockdevQcowEncryption>,
}

impl Object for BlockdevCreateOptionsQcow {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            file: from.required("file")?,
            size: from.required("size")?,
            backing_file: from.optional("backing-file")?,
            encrypt: from.optional("encrypt")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("file", &self.file);
        to.put("size", &self.size);
        to.put_optional("backing-file", &self.backing_file);
        to.put_optional("encrypt", &self.encrypt);
    }
}
object_codec!(BlockdevCreateOptionsQcow);

/// What is asked of a new qed image.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsQed {
    /// The node that it is made in.
    pub file: BlockdevRef,
    /// Size of the disk in bytes.
    pub size: Size,
    /// The name of the image below it.
    pub backing_file: Option<String>,
    /// The format of the image below it; the image keeps only whether that is raw.
    pub backing_fmt: Option<BlockdevDriver>,
    /// Bytes of a cluster; 64 KiB if absent.
    pub cluster_size: Option<Size>,
    /// Clusters of a table; 4 if absent.
    pub table_size: Option<i64>,
}

impl Object for BlockdevCreateOptionsQed {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            file: from.required("file")?,
            size: from.required("size")?,
            backing_file: from.optional("backing-file")?,
            backing_fmt: from.optional("backing-fmt")?,
            cluster_size: from.optional("cluster-size")?,
            table_size: from.optional("table-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("file", &self.file);
        to.put("size", &self.size);
        to.put_optional("backing-file", &self.backing_file);
        to.put_optional("backing-fmt", &self.backing_fmt);
        to.put_optional("cluster-size", &self.cluster_size);
        to.put_optional("table-size", &self.table_size);
    }
}
object_codec!(BlockdevCreateOptionsQed);

/// What every image has.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateOptionsBase {
    /// Its driver.
    pub driver: BlockdevDriver,
}

impl Object for BlockdevCreateOptionsBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { driver: from.required("driver")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("driver", &self.driver);
    }
}
object_codec!(BlockdevCreateOptionsBase);

/// What is asked of a new image.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevCreateOptions {
    /// `blkdebug`.
    Blkdebug,
    /// `blklogwrites`.
    Blklogwrites,
    /// `blkverify`.
    Blkverify,
    /// `bochs`.
    Bochs,
    /// `cloop`.
    Cloop,
    /// `compress`.
    Compress,
    /// `copy-before-write`.
    CopyBeforeWrite,
    /// `copy-on-read`.
    CopyOnRead,
    /// `cow`.
    Cow,
    /// `dmg`.
    Dmg,
    /// `file`.
    File(BlockdevCreateOptionsFile),
    /// `ftp`.
    Ftp,
    /// `ftps`.
    Ftps,
    /// `host_cdrom`.
    HostCdrom,
    /// `host_device`.
    HostDevice,
    /// `host_floppy`.
    HostFloppy,
    /// `http`.
    Http,
    /// `https`.
    Https,
    /// `iscsi`.
    Iscsi,
    /// `luks`.
    Luks(BlockdevCreateOptionsLUKS),
    /// `nbd`.
    Nbd,
    /// `nfs`.
    Nfs(BlockdevCreateOptionsNfs),
    /// `null-aio`.
    NullAio,
    /// `null-co`.
    NullCo,
    /// `parallels`.
    Parallels(BlockdevCreateOptionsParallels),
    /// `preallocate`.
    Preallocate,
    /// `qcow`.
    Qcow(BlockdevCreateOptionsQcow),
    /// `qcow2`.
    Qcow2(BlockdevCreateOptionsQcow2),
    /// `qed`.
    Qed(BlockdevCreateOptionsQed),
    /// `quorum`.
    Quorum,
    /// `raw`.
    Raw,
    /// `rbd`.
    Rbd(BlockdevCreateOptionsRbd),
    /// `s3`.
    S3,
    /// `snapshot-access`.
    SnapshotAccess,
    /// `ssh`.
    Ssh(BlockdevCreateOptionsSsh),
    /// `tftp`.
    Tftp,
    /// `throttle`.
    Throttle,
    /// `vdi`.
    Vdi(BlockdevCreateOptionsVdi),
    /// `vhdx`.
    Vhdx(BlockdevCreateOptionsVhdx),
    /// `vmdk`.
    Vmdk(BlockdevCreateOptionsVmdk),
    /// `vpc`.
    Vpc(BlockdevCreateOptionsVpc),
    /// `vvfat`.
    Vvfat,
}

impl BlockdevCreateOptions {
    /// The value of `driver` that goes with this branch.
    pub fn driver(&self) -> BlockdevDriver {
        match self {
            Self::Blkdebug => BlockdevDriver::Blkdebug,
            Self::Blklogwrites => BlockdevDriver::Blklogwrites,
            Self::Blkverify => BlockdevDriver::Blkverify,
            Self::Bochs => BlockdevDriver::Bochs,
            Self::Cloop => BlockdevDriver::Cloop,
            Self::Compress => BlockdevDriver::Compress,
            Self::CopyBeforeWrite => BlockdevDriver::CopyBeforeWrite,
            Self::CopyOnRead => BlockdevDriver::CopyOnRead,
            Self::Cow => BlockdevDriver::Cow,
            Self::Dmg => BlockdevDriver::Dmg,
            Self::File(_) => BlockdevDriver::File,
            Self::Ftp => BlockdevDriver::Ftp,
            Self::Ftps => BlockdevDriver::Ftps,
            Self::HostCdrom => BlockdevDriver::HostCdrom,
            Self::HostDevice => BlockdevDriver::HostDevice,
            Self::HostFloppy => BlockdevDriver::HostFloppy,
            Self::Http => BlockdevDriver::Http,
            Self::Https => BlockdevDriver::Https,
            Self::Iscsi => BlockdevDriver::Iscsi,
            Self::Luks(_) => BlockdevDriver::Luks,
            Self::Nbd => BlockdevDriver::Nbd,
            Self::Nfs(_) => BlockdevDriver::Nfs,
            Self::NullAio => BlockdevDriver::NullAio,
            Self::NullCo => BlockdevDriver::NullCo,
            Self::Parallels(_) => BlockdevDriver::Parallels,
            Self::Preallocate => BlockdevDriver::Preallocate,
            Self::Qcow(_) => BlockdevDriver::Qcow,
            Self::Qcow2(_) => BlockdevDriver::Qcow2,
            Self::Qed(_) => BlockdevDriver::Qed,
            Self::Quorum => BlockdevDriver::Quorum,
            Self::Raw => BlockdevDriver::Raw,
            Self::Rbd(_) => BlockdevDriver::Rbd,
            Self::S3 => BlockdevDriver::S3,
            Self::SnapshotAccess => BlockdevDriver::SnapshotAccess,
            Self::Ssh(_) => BlockdevDriver::Ssh,
            Self::Tftp => BlockdevDriver::Tftp,
            Self::Throttle => BlockdevDriver::Throttle,
            Self::Vdi(_) => BlockdevDriver::Vdi,
            Self::Vhdx(_) => BlockdevDriver::Vhdx,
            Self::Vmdk(_) => BlockdevDriver::Vmdk,
            Self::Vpc(_) => BlockdevDriver::Vpc,
            Self::Vvfat => BlockdevDriver::Vvfat,
        }
    }

    fn take_branch(tag: BlockdevDriver, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            BlockdevDriver::Blkdebug => Self::Blkdebug,
            BlockdevDriver::Blklogwrites => Self::Blklogwrites,
            BlockdevDriver::Blkverify => Self::Blkverify,
            BlockdevDriver::Bochs => Self::Bochs,
            BlockdevDriver::Cloop => Self::Cloop,
            BlockdevDriver::Compress => Self::Compress,
            BlockdevDriver::CopyBeforeWrite => Self::CopyBeforeWrite,
            BlockdevDriver::CopyOnRead => Self::CopyOnRead,
            BlockdevDriver::Cow => Self::Cow,
            BlockdevDriver::Dmg => Self::Dmg,
            BlockdevDriver::File => Self::File(Object::take(from)?),
            BlockdevDriver::Ftp => Self::Ftp,
            BlockdevDriver::Ftps => Self::Ftps,
            BlockdevDriver::HostCdrom => Self::HostCdrom,
            BlockdevDriver::HostDevice => Self::HostDevice,
            BlockdevDriver::HostFloppy => Self::HostFloppy,
            BlockdevDriver::Http => Self::Http,
            BlockdevDriver::Https => Self::Https,
            BlockdevDriver::Iscsi => Self::Iscsi,
            BlockdevDriver::Luks => Self::Luks(Object::take(from)?),
            BlockdevDriver::Nbd => Self::Nbd,
            BlockdevDriver::Nfs => Self::Nfs(Object::take(from)?),
            BlockdevDriver::NullAio => Self::NullAio,
            BlockdevDriver::NullCo => Self::NullCo,
            BlockdevDriver::Parallels => Self::Parallels(Object::take(from)?),
            BlockdevDriver::Preallocate => Self::Preallocate,
            BlockdevDriver::Qcow => Self::Qcow(Object::take(from)?),
            BlockdevDriver::Qcow2 => Self::Qcow2(Object::take(from)?),
            BlockdevDriver::Qed => Self::Qed(Object::take(from)?),
            BlockdevDriver::Quorum => Self::Quorum,
            BlockdevDriver::Raw => Self::Raw,
            BlockdevDriver::Rbd => Self::Rbd(Object::take(from)?),
            BlockdevDriver::S3 => Self::S3,
            BlockdevDriver::SnapshotAccess => Self::SnapshotAccess,
            BlockdevDriver::Ssh => Self::Ssh(Object::take(from)?),
            BlockdevDriver::Tftp => Self::Tftp,
            BlockdevDriver::Throttle => Self::Throttle,
            BlockdevDriver::Vdi => Self::Vdi(Object::take(from)?),
            BlockdevDriver::Vhdx => Self::Vhdx(Object::take(from)?),
            BlockdevDriver::Vmdk => Self::Vmdk(Object::take(from)?),
            BlockdevDriver::Vpc => Self::Vpc(Object::take(from)?),
            BlockdevDriver::Vvfat => Self::Vvfat,
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Blkdebug => {}
            Self::Blklogwrites => {}
            Self::Blkverify => {}
            Self::Bochs => {}
            Self::Cloop => {}
            Self::Compress => {}
            Self::CopyBeforeWrite => {}
            Self::CopyOnRead => {}
            Self::Cow => {}
            Self::Dmg => {}
            Self::File(inner) => inner.put(to),
            Self::Ftp => {}
            Self::Ftps => {}
            Self::HostCdrom => {}
            Self::HostDevice => {}
            Self::HostFloppy => {}
            Self::Http => {}
            Self::Https => {}
            Self::Iscsi => {}
            Self::Luks(inner) => inner.put(to),
            Self::Nbd => {}
            Self::Nfs(inner) => inner.put(to),
            Self::NullAio => {}
            Self::NullCo => {}
            Self::Parallels(inner) => inner.put(to),
            Self::Preallocate => {}
            Self::Qcow(inner) => inner.put(to),
            Self::Qcow2(inner) => inner.put(to),
            Self::Qed(inner) => inner.put(to),
            Self::Quorum => {}
            Self::Raw => {}
            Self::Rbd(inner) => inner.put(to),
            Self::S3 => {}
            Self::SnapshotAccess => {}
            Self::Ssh(inner) => inner.put(to),
            Self::Tftp => {}
            Self::Throttle => {}
            Self::Vdi(inner) => inner.put(to),
            Self::Vhdx(inner) => inner.put(to),
            Self::Vmdk(inner) => inner.put(to),
            Self::Vpc(inner) => inner.put(to),
            Self::Vvfat => {}
        }
    }
}

impl Object for BlockdevCreateOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("driver")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("driver", &self.driver());
        self.put_branch(to);
    }
}
object_codec!(BlockdevCreateOptions);

/// Arguments of `blockdev-create`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevCreateArguments {
    /// Identifier of the job.
    pub job_id: String,
    /// What is made, and where.
    pub options: BlockdevCreateOptions,
}

impl Object for BlockdevCreateArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { job_id: from.required("job-id")?, options: from.required("options")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("job-id", &self.job_id);
        to.put("options", &self.options);
    }
}
object_codec!(BlockdevCreateArguments);

/// The handlers of section `blockdev-create`.
pub trait BlockdevCreateCommands: Send + Sync {
    /// Makes an image, by a job that waits to be dismissed.
    fn blockdev_create(
        &self,
        arguments: BlockdevCreateArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
