// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What only images of one format, or files of one protocol, have to tell of themselves.
//!
//! Members are told in the order in which they stand here. It is the order in which QEMU's tools print them.

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
