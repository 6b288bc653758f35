// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What the tools tell about images.
//!
//! Members of snapshots and of what only images of one format have are told in the order in which they stand here. It is
//! the order in which QEMU's tools print them.

use super::*;
use crate::Dict;
use crate::codec::*;

/// An internal snapshot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SnapshotInfo {
    /// The machine's instruction count, if it was recorded.
    pub icount: Option<i64>,
    /// The fraction of that second of the clock, in nanoseconds.
    pub vm_clock_nsec: i64,
    /// The name its maker gave it.
    pub name: String,
    /// When it was made, in seconds since the epoch, UTC.
    pub date_sec: i64,
    /// The fraction of that second, in nanoseconds.
    pub date_nsec: i64,
    /// How long the machine had run, in seconds.
    pub vm_clock_sec: i64,
    /// Its identifier, unique in the image.
    pub id: String,
    /// Bytes of machine state stored with it; 0 for a disk-only one.
    pub vm_state_size: i64,
}

impl Object for SnapshotInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            icount: from.optional("icount")?,
            vm_clock_nsec: from.required("vm-clock-nsec")?,
            name: from.required("name")?,
            date_sec: from.required("date-sec")?,
            date_nsec: from.required("date-nsec")?,
            vm_clock_sec: from.required("vm-clock-sec")?,
            id: from.required("id")?,
            vm_state_size: from.required("vm-state-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("icount", &self.icount);
        to.put("vm-clock-nsec", &self.vm_clock_nsec);
        to.put("name", &self.name);
        to.put("date-sec", &self.date_sec);
        to.put("date-nsec", &self.date_nsec);
        to.put("vm-clock-sec", &self.vm_clock_sec);
        to.put("id", &self.id);
        to.put("vm-state-size", &self.vm_state_size);
    }
}
object_codec!(SnapshotInfo);

/// How compressed clusters of a qcow2 image are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qcow2CompressionType {
    /// Deflate.
    Zlib,
    /// Zstandard.
    Zstd,
}

impl Enumeration for Qcow2CompressionType {
    const VALUES: &'static [(&'static str, Self)] = &[("zlib", Self::Zlib), ("zstd", Self::Zstd)];
}
enumeration_codec!(Qcow2CompressionType);

/// States of a bitmap stored in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qcow2BitmapInfoFlags {
    /// It was not saved properly and can't be trusted.
    InUse,
    /// It records writes as soon as the image is opened.
    Auto,
}

impl Enumeration for Qcow2BitmapInfoFlags {
    const VALUES: &'static [(&'static str, Self)] = &[("in-use", Self::InUse), ("auto", Self::Auto)];
}
enumeration_codec!(Qcow2BitmapInfoFlags);

/// A dirty bitmap stored in a qcow2 image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Qcow2BitmapInfo {
    /// Its states.
    pub flags: Vec<Qcow2BitmapInfoFlags>,
    /// Its name.
    pub name: String,
    /// Bytes that one bit stands for.
    pub granularity: u32,
}

impl Object for Qcow2BitmapInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            flags: from.required("flags")?,
            name: from.required("name")?,
            granularity: from.required("granularity")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("flags", &self.flags);
        to.put("name", &self.name);
        to.put("granularity", &self.granularity);
    }
}
object_codec!(Qcow2BitmapInfo);

/// How a qcow2 image is encrypted. All but the kind is told of LUKS alone.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInfoSpecificQCow2Encryption {
    /// Its generator of initialisation vectors.
    pub ivgen_alg: Option<QCryptoIVGenAlgo>,
    /// Whether the LUKS header stands in another file; in qcow2 it never does.
    pub detached_header: Option<bool>,
    /// The hash of its key derivation.
    pub hash_alg: Option<QCryptoHashAlgo>,
    /// Its cipher.
    pub cipher_alg: Option<QCryptoCipherAlgo>,
    /// The UUID of its LUKS header.
    pub uuid: Option<String>,
    /// The hash of the generator.
    pub ivgen_hash_alg: Option<QCryptoHashAlgo>,
    /// The kind of encryption.
    pub format: BlockdevQcow2EncryptionFormat,
    /// The mode of its cipher.
    pub cipher_mode: Option<QCryptoCipherMode>,
    /// Its key slots.
    pub slots: Option<Vec<QCryptoBlockInfoLUKSSlot>>,
    /// Bytes of its LUKS header.
    pub payload_offset: Option<i64>,
    /// Iterations of PBKDF2 for the digest of the volume key.
    pub master_key_iters: Option<i64>,
}

impl Object for ImageInfoSpecificQCow2Encryption {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            ivgen_alg: from.optional("ivgen-alg")?,
            detached_header: from.optional("detached-header")?,
            hash_alg: from.optional("hash-alg")?,
            cipher_alg: from.optional("cipher-alg")?,
            uuid: from.optional("uuid")?,
            ivgen_hash_alg: from.optional("ivgen-hash-alg")?,
            format: from.required("format")?,
            cipher_mode: from.optional("cipher-mode")?,
            slots: from.optional("slots")?,
            payload_offset: from.optional("payload-offset")?,
            master_key_iters: from.optional("master-key-iters")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("ivgen-alg", &self.ivgen_alg);
        to.put_optional("detached-header", &self.detached_header);
        to.put_optional("hash-alg", &self.hash_alg);
        to.put_optional("cipher-alg", &self.cipher_alg);
        to.put_optional("uuid", &self.uuid);
        to.put_optional("ivgen-hash-alg", &self.ivgen_hash_alg);
        to.put("format", &self.format);
        to.put_optional("cipher-mode", &self.cipher_mode);
        to.put_optional("slots", &self.slots);
        to.put_optional("payload-offset", &self.payload_offset);
        to.put_optional("master-key-iters", &self.master_key_iters);
    }
}
object_codec!(ImageInfoSpecificQCow2Encryption);

/// What only a qcow2 image has.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageInfoSpecificQCow2 {
    /// The format's level: "0.10" or "1.1".
    pub compat: String,
    /// How its compressed clusters are compressed.
    pub compression_type: Qcow2CompressionType,
    /// Whether reference counts may be stale while the image is open.
    pub lazy_refcounts: Option<bool>,
    /// The dirty bitmaps stored in it.
    pub bitmaps: Option<Vec<Qcow2BitmapInfo>>,
    /// Width of a reference count.
    pub refcount_bits: i64,
    /// The file that holds the guest's data, if it is not the image itself.
    pub data_file: Option<String>,
    /// Whether that file can be read as a raw image.
    pub data_file_raw: Option<bool>,
    /// How it is encrypted.
    pub encrypt: Option<ImageInfoSpecificQCow2Encryption>,
    /// Whether the image was marked corrupt.
    pub corrupt: Option<bool>,
    /// Whether clusters have subclusters.
    pub extended_l2: Option<bool>,
}

impl Object for ImageInfoSpecificQCow2 {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            compat: from.required("compat")?,
            compression_type: from.required("compression-type")?,
            lazy_refcounts: from.optional("lazy-refcounts")?,
            bitmaps: from.optional("bitmaps")?,
            refcount_bits: from.required("refcount-bits")?,
            data_file: from.optional("data-file")?,
            data_file_raw: from.optional("data-file-raw")?,
            encrypt: from.optional("encrypt")?,
            corrupt: from.optional("corrupt")?,
            extended_l2: from.optional("extended-l2")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("compat", &self.compat);
        to.put("compression-type", &self.compression_type);
        to.put_optional("lazy-refcounts", &self.lazy_refcounts);
        to.put_optional("bitmaps", &self.bitmaps);
        to.put("refcount-bits", &self.refcount_bits);
        to.put_optional("data-file", &self.data_file);
        to.put_optional("data-file-raw", &self.data_file_raw);
        to.put_optional("encrypt", &self.encrypt);
        to.put_optional("corrupt", &self.corrupt);
        to.put_optional("extended-l2", &self.extended_l2);
    }
}
object_codec!(ImageInfoSpecificQCow2);

/// An extent of a vmdk image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VmdkExtentInfo {
    /// Whether its data is stored compressed; not told where it is not.
    pub compressed: Option<bool>,
    /// Bytes that a guest sees of it.
    pub virtual_size: i64,
    /// The name of its file.
    pub filename: String,
    /// Bytes of a grain, where it is sparse.
    pub cluster_size: Option<i64>,
    /// Its kind, as the descriptor calls it; empty where it stands in the image's own file.
    pub format: String,
}

impl Object for VmdkExtentInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            compressed: from.optional("compressed")?,
            virtual_size: from.required("virtual-size")?,
            filename: from.required("filename")?,
            cluster_size: from.optional("cluster-size")?,
            format: from.required("format")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("compressed", &self.compressed);
        to.put("virtual-size", &self.virtual_size);
        to.put("filename", &self.filename);
        to.put_optional("cluster-size", &self.cluster_size);
        to.put("format", &self.format);
    }
}
object_codec!(VmdkExtentInfo);

/// What only a vmdk image has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageInfoSpecificVmdk {
    /// Its content identifier, which changes before the content does.
    pub cid: i64,
    /// That of the image below, when this one was made; 4294967295: there is none.
    pub parent_cid: i64,
    /// Its subformat.
    pub create_type: String,
    /// Its extents, in the order of the disk.
    pub extents: Vec<VmdkExtentInfo>,
}

impl Object for ImageInfoSpecificVmdk {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            cid: from.required("cid")?,
            parent_cid: from.required("parent-cid")?,
            create_type: from.required("create-type")?,
            extents: from.required("extents")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("cid", &self.cid);
        to.put("parent-cid", &self.parent_cid);
        to.put("create-type", &self.create_type);
        to.put("extents", &self.extents);
    }
}
object_codec!(ImageInfoSpecificVmdk);

/// What only a file has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageInfoSpecificFile {
    /// The size in bytes in which the file system is asked to allocate.
    pub extent_size_hint: Option<Size>,
}

impl Object for ImageInfoSpecificFile {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { extent_size_hint: from.optional("extent-size-hint")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("extent-size-hint", &self.extent_size_hint);
    }
}
object_codec!(ImageInfoSpecificFile);

/// What only an image in a Ceph cluster has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageInfoSpecificRbd {
    /// How it is encrypted, if it is.
    pub encryption_format: Option<RbdImageEncryptionFormat>,
}

impl Object for ImageInfoSpecificRbd {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { encryption_format: from.optional("encryption-format")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("encryption-format", &self.encryption_format);
    }
}
object_codec!(ImageInfoSpecificRbd);

/// The values of `type` in `ImageInfoSpecific`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageInfoSpecificKind {
    /// `qcow2`.
    Qcow2,
    /// `vmdk`.
    Vmdk,
    /// `luks`.
    Luks,
    /// `rbd`.
    Rbd,
    /// `file`.
    File,
}

impl Enumeration for ImageInfoSpecificKind {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("qcow2", Self::Qcow2),
        ("vmdk", Self::Vmdk),
        ("luks", Self::Luks),
        ("rbd", Self::Rbd),
        ("file", Self::File),
    ];
}
enumeration_codec!(ImageInfoSpecificKind);

/// What only images of one format have.
#[derive(Debug, Clone, PartialEq)]
pub enum ImageInfoSpecific {
    /// `qcow2`.
    Qcow2(ImageInfoSpecificQCow2),
    /// `vmdk`.
    Vmdk(ImageInfoSpecificVmdk),
    /// `luks`.
    Luks(QCryptoBlockInfoLUKS),
    /// `rbd`.
    Rbd(ImageInfoSpecificRbd),
    /// `file`.
    File(ImageInfoSpecificFile),
}

impl ImageInfoSpecific {
    /// The value of `type` that goes with this branch.
    pub fn r#type(&self) -> ImageInfoSpecificKind {
        match self {
            Self::Qcow2(_) => ImageInfoSpecificKind::Qcow2,
            Self::Vmdk(_) => ImageInfoSpecificKind::Vmdk,
            Self::Luks(_) => ImageInfoSpecificKind::Luks,
            Self::Rbd(_) => ImageInfoSpecificKind::Rbd,
            Self::File(_) => ImageInfoSpecificKind::File,
        }
    }

    fn take_branch(tag: ImageInfoSpecificKind, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            ImageInfoSpecificKind::Qcow2 => Self::Qcow2(from.required("data")?),
            ImageInfoSpecificKind::Vmdk => Self::Vmdk(from.required("data")?),
            ImageInfoSpecificKind::Luks => Self::Luks(from.required("data")?),
            ImageInfoSpecificKind::Rbd => Self::Rbd(from.required("data")?),
            ImageInfoSpecificKind::File => Self::File(from.required("data")?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Qcow2(inner) => to.put("data", inner),
            Self::Vmdk(inner) => to.put("data", inner),
            Self::Luks(inner) => to.put("data", inner),
            Self::Rbd(inner) => to.put("data", inner),
            Self::File(inner) => to.put("data", inner),
        }
    }
}

impl Object for ImageInfoSpecific {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("type")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type());
        self.put_branch(to);
    }
}
object_codec!(ImageInfoSpecific);

/// What requests of a node are to be aligned to, and how long they may be, in bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockLimitsInfo {
    /// What zeroes are best aligned to, where that is more than `request-alignment`.
    pub write_zeroes_alignment: Option<i64>,
    /// What offsets and lengths are aligned to.
    pub request_alignment: i64,
    /// The length that reads and writes have at best, if there is one.
    pub opt_transfer: Option<i64>,
    /// What memory has to be aligned to.
    pub min_mem_alignment: i64,
    /// The longest read or write, if there is one.
    pub max_transfer: Option<i64>,
    /// The longest request that a device takes, if there is one.
    pub max_hw_transfer: Option<i64>,
    /// What discards are best aligned to, where that is more than `request-alignment`.
    pub discard_alignment: Option<i64>,
    /// What memory is best aligned to.
    pub opt_mem_alignment: i64,
    /// The most parts that the memory of a request may have.
    pub max_iov: i64,
    /// The same of a device, if there is one.
    pub max_hw_iov: Option<i64>,
    /// The most zeroes at once, if there is one.
    pub max_write_zeroes: Option<i64>,
    /// The longest discard, if there is one.
    pub max_discard: Option<i64>,
}

impl Object for BlockLimitsInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            write_zeroes_alignment: from.optional("write-zeroes-alignment")?,
            request_alignment: from.required("request-alignment")?,
            opt_transfer: from.optional("opt-transfer")?,
            min_mem_alignment: from.required("min-mem-alignment")?,
            max_transfer: from.optional("max-transfer")?,
            max_hw_transfer: from.optional("max-hw-transfer")?,
            discard_alignment: from.optional("discard-alignment")?,
            opt_mem_alignment: from.required("opt-mem-alignment")?,
            max_iov: from.required("max-iov")?,
            max_hw_iov: from.optional("max-hw-iov")?,
            max_write_zeroes: from.optional("max-write-zeroes")?,
            max_discard: from.optional("max-discard")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("write-zeroes-alignment", &self.write_zeroes_alignment);
        to.put("request-alignment", &self.request_alignment);
        to.put_optional("opt-transfer", &self.opt_transfer);
        to.put("min-mem-alignment", &self.min_mem_alignment);
        to.put_optional("max-transfer", &self.max_transfer);
        to.put_optional("max-hw-transfer", &self.max_hw_transfer);
        to.put_optional("discard-alignment", &self.discard_alignment);
        to.put("opt-mem-alignment", &self.opt_mem_alignment);
        to.put("max-iov", &self.max_iov);
        to.put_optional("max-hw-iov", &self.max_hw_iov);
        to.put_optional("max-write-zeroes", &self.max_write_zeroes);
        to.put_optional("max-discard", &self.max_discard);
    }
}
object_codec!(BlockLimitsInfo);

/// An image, without the images it refers to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockNodeInfo {
    /// Its name.
    pub filename: String,
    /// Its format.
    pub format: String,
    /// Whether it was not closed cleanly.
    pub dirty_flag: Option<bool>,
    /// Bytes that it occupies.
    pub actual_size: Option<i64>,
    /// Bytes that a guest sees.
    pub virtual_size: i64,
    /// Bytes of a cluster.
    pub cluster_size: Option<i64>,
    /// Whether it is encrypted.
    pub encrypted: Option<bool>,
    /// Whether it is compressed.
    pub compressed: Option<bool>,
    /// The backing file, as it is stored in the image.
    pub backing_filename: Option<String>,
    /// The backing file, resolved.
    pub full_backing_filename: Option<String>,
    /// The format of the backing file, as it is stored in the image.
    pub backing_filename_format: Option<String>,
    /// What its requests are to be, where that was asked for.
    pub limits: Option<BlockLimitsInfo>,
    /// Its internal snapshots.
    pub snapshots: Option<Vec<SnapshotInfo>>,
    /// What only images of its format have.
    pub format_specific: Option<ImageInfoSpecific>,
}

impl Object for BlockNodeInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            filename: from.required("filename")?,
            format: from.required("format")?,
            dirty_flag: from.optional("dirty-flag")?,
            actual_size: from.optional("actual-size")?,
            virtual_size: from.required("virtual-size")?,
            cluster_size: from.optional("cluster-size")?,
            encrypted: from.optional("encrypted")?,
            compressed: from.optional("compressed")?,
            backing_filename: from.optional("backing-filename")?,
            full_backing_filename: from.optional("full-backing-filename")?,
            backing_filename_format: from.optional("backing-filename-format")?,
            limits: from.optional("limits")?,
            snapshots: from.optional("snapshots")?,
            format_specific: from.optional("format-specific")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put("format", &self.format);
        to.put_optional("dirty-flag", &self.dirty_flag);
        to.put_optional("actual-size", &self.actual_size);
        to.put("virtual-size", &self.virtual_size);
        to.put_optional("cluster-size", &self.cluster_size);
        to.put_optional("encrypted", &self.encrypted);
        to.put_optional("compressed", &self.compressed);
        to.put_optional("backing-filename", &self.backing_filename);
        to.put_optional("full-backing-filename", &self.full_backing_filename);
        to.put_optional("backing-filename-format", &self.backing_filename_format);
        to.put_optional("limits", &self.limits);
        to.put_optional("snapshots", &self.snapshots);
        to.put_optional("format-specific", &self.format_specific);
    }
}
object_codec!(BlockNodeInfo);

/// An image with its backing chain.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageInfo {
    /// Its name.
    pub filename: String,
    /// Its format.
    pub format: String,
    /// Whether it was not closed cleanly.
    pub dirty_flag: Option<bool>,
    /// Bytes that it occupies.
    pub actual_size: Option<i64>,
    /// Bytes that a guest sees.
    pub virtual_size: i64,
    /// Bytes of a cluster.
    pub cluster_size: Option<i64>,
    /// Whether it is encrypted.
    pub encrypted: Option<bool>,
    /// Whether it is compressed.
    pub compressed: Option<bool>,
    /// The backing file, as it is stored in the image.
    pub backing_filename: Option<String>,
    /// The backing file, resolved.
    pub full_backing_filename: Option<String>,
    /// The format of the backing file, as it is stored in the image.
    pub backing_filename_format: Option<String>,
    /// What its requests are to be, where that was asked for.
    pub limits: Option<BlockLimitsInfo>,
    /// Its internal snapshots.
    pub snapshots: Option<Vec<SnapshotInfo>>,
    /// What only images of its format have.
    pub format_specific: Option<ImageInfoSpecific>,
    /// The backing image.
    pub backing_image: Option<Box<ImageInfo>>,
}

impl Object for ImageInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            filename: from.required("filename")?,
            format: from.required("format")?,
            dirty_flag: from.optional("dirty-flag")?,
            actual_size: from.optional("actual-size")?,
            virtual_size: from.required("virtual-size")?,
            cluster_size: from.optional("cluster-size")?,
            encrypted: from.optional("encrypted")?,
            compressed: from.optional("compressed")?,
            backing_filename: from.optional("backing-filename")?,
            full_backing_filename: from.optional("full-backing-filename")?,
            backing_filename_format: from.optional("backing-filename-format")?,
            limits: from.optional("limits")?,
            snapshots: from.optional("snapshots")?,
            format_specific: from.optional("format-specific")?,
            backing_image: from.optional("backing-image")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put("format", &self.format);
        to.put_optional("dirty-flag", &self.dirty_flag);
        to.put_optional("actual-size", &self.actual_size);
        to.put("virtual-size", &self.virtual_size);
        to.put_optional("cluster-size", &self.cluster_size);
        to.put_optional("encrypted", &self.encrypted);
        to.put_optional("compressed", &self.compressed);
        to.put_optional("backing-filename", &self.backing_filename);
        to.put_optional("full-backing-filename", &self.full_backing_filename);
        to.put_optional("backing-filename-format", &self.backing_filename_format);
        to.put_optional("limits", &self.limits);
        to.put_optional("snapshots", &self.snapshots);
        to.put_optional("format-specific", &self.format_specific);
        to.put_optional("backing-image", &self.backing_image);
    }
}
object_codec!(ImageInfo);

/// A child of a node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockChildInfo {
    /// What it is to its parent: file, backing, …
    pub name: String,
    /// The child.
    pub info: BlockGraphInfo,
}

impl Object for BlockChildInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { name: from.required("name")?, info: from.required("info")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put("info", &self.info);
    }
}
object_codec!(BlockChildInfo);

/// An image with its children, but not its backing chain.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockGraphInfo {
    /// Its name.
    pub filename: String,
    /// Its format.
    pub format: String,
    /// Whether it was not closed cleanly.
    pub dirty_flag: Option<bool>,
    /// Bytes that it occupies.
    pub actual_size: Option<i64>,
    /// Bytes that a guest sees.
    pub virtual_size: i64,
    /// Bytes of a cluster.
    pub cluster_size: Option<i64>,
    /// Whether it is encrypted.
    pub encrypted: Option<bool>,
    /// Whether it is compressed.
    pub compressed: Option<bool>,
    /// The backing file, as it is stored in the image.
    pub backing_filename: Option<String>,
    /// The backing file, resolved.
    pub full_backing_filename: Option<String>,
    /// The format of the backing file, as it is stored in the image.
    pub backing_filename_format: Option<String>,
    /// What its requests are to be, where that was asked for.
    pub limits: Option<BlockLimitsInfo>,
    /// Its internal snapshots.
    pub snapshots: Option<Vec<SnapshotInfo>>,
    /// What only images of its format have.
    pub format_specific: Option<ImageInfoSpecific>,
    /// The children.
    pub children: Vec<BlockChildInfo>,
}

impl Object for BlockGraphInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            filename: from.required("filename")?,
            format: from.required("format")?,
            dirty_flag: from.optional("dirty-flag")?,
            actual_size: from.optional("actual-size")?,
            virtual_size: from.required("virtual-size")?,
            cluster_size: from.optional("cluster-size")?,
            encrypted: from.optional("encrypted")?,
            compressed: from.optional("compressed")?,
            backing_filename: from.optional("backing-filename")?,
            full_backing_filename: from.optional("full-backing-filename")?,
            backing_filename_format: from.optional("backing-filename-format")?,
            limits: from.optional("limits")?,
            snapshots: from.optional("snapshots")?,
            format_specific: from.optional("format-specific")?,
            children: from.required("children")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put("format", &self.format);
        to.put_optional("dirty-flag", &self.dirty_flag);
        to.put_optional("actual-size", &self.actual_size);
        to.put("virtual-size", &self.virtual_size);
        to.put_optional("cluster-size", &self.cluster_size);
        to.put_optional("encrypted", &self.encrypted);
        to.put_optional("compressed", &self.compressed);
        to.put_optional("backing-filename", &self.backing_filename);
        to.put_optional("full-backing-filename", &self.full_backing_filename);
        to.put_optional("backing-filename-format", &self.backing_filename_format);
        to.put_optional("limits", &self.limits);
        to.put_optional("snapshots", &self.snapshots);
        to.put_optional("format-specific", &self.format_specific);
        to.put("children", &self.children);
    }
}
object_codec!(BlockGraphInfo);

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
