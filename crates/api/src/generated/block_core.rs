// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Nodes: what each of them is told.

use super::*;
use crate::codec::*;
use crate::{Dict, Value};

/// The drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevDriver {
    /// A filter that fails or holds back requests, by rules.
    Blkdebug,
    /// A filter that writes down every change.
    Blklogwrites,
    /// An image beside a raw copy, with which it is compared.
    Blkverify,
    /// A growing image of Bochs, to be read.
    Bochs,
    /// A compressed loopback image, to be read.
    Cloop,
    /// A filter that has all data stored compressed.
    Compress,
    /// A filter that copies to another node what is about to change.
    CopyBeforeWrite,
    /// A filter that copies what is read from backing images into the image.
    CopyOnRead,
    /// An image in the cow format: a bitmap of sectors. Not in QEMU after 2.1.
    Cow,
    /// A disk image of Apple (UDIF), to be read.
    Dmg,
    /// A regular file.
    File,
    /// A file of an FTP server, to be read.
    Ftp,
    /// The same in TLS.
    Ftps,
    /// A CD drive of the host, with a disc in it or without.
    HostCdrom,
    /// A block device of the host.
    HostDevice,
    /// A floppy drive of the host, as programs of earlier days say it.
    HostFloppy,
    /// A file of a web server, to be read.
    Http,
    /// The same in TLS.
    Https,
    /// A logical unit of an iSCSI target.
    Iscsi,
    /// An encrypted volume in the LUKS format.
    Luks,
    /// A disk that an NBD server offers.
    Nbd,
    /// A file of an NFS server.
    Nfs,
    /// As null-co.
    NullAio,
    /// Nothing: writes vanish.
    NullCo,
    /// An image in the Parallels format.
    Parallels,
    /// A filter that reserves space behind the end of a file.
    Preallocate,
    /// An image in the first version of the qcow format.
    Qcow,
    /// An image in the qcow2 format.
    Qcow2,
    /// An image in the qed format.
    Qed,
    /// One disk in several children, which vote.
    Quorum,
    /// A disk as it is, or a part of one.
    Raw,
    /// An image in a Ceph cluster.
    Rbd,
    /// An object of a store that speaks S3, to be read. Not in QEMU.
    S3,
    /// The disk that a copy-before-write filter keeps, as it was.
    SnapshotAccess,
    /// A file that an SSH server offers over SFTP.
    Ssh,
    /// A file of a TFTP server, to be read. Not in QEMU after 2.1.
    Tftp,
    /// A filter that throttles requests.
    Throttle,
    /// An image in the VDI format.
    Vdi,
    /// An image of Hyper-V (VHDX).
    Vhdx,
    /// An image in the VMDK format.
    Vmdk,
    /// An image of Virtual PC or Hyper-V (VHD).
    Vpc,
    /// A folder of the host as a disk with a FAT file system.
    Vvfat,
}

impl Enumeration for BlockdevDriver {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("blkdebug", Self::Blkdebug),
        ("blklogwrites", Self::Blklogwrites),
        ("blkverify", Self::Blkverify),
        ("bochs", Self::Bochs),
        ("cloop", Self::Cloop),
        ("compress", Self::Compress),
        ("copy-before-write", Self::CopyBeforeWrite),
        ("copy-on-read", Self::CopyOnRead),
        ("cow", Self::Cow),
        ("dmg", Self::Dmg),
        ("file", Self::File),
        ("ftp", Self::Ftp),
        ("ftps", Self::Ftps),
        ("host_cdrom", Self::HostCdrom),
        ("host_device", Self::HostDevice),
        ("host_floppy", Self::HostFloppy),
        ("http", Self::Http),
        ("https", Self::Https),
        ("iscsi", Self::Iscsi),
        ("luks", Self::Luks),
        ("nbd", Self::Nbd),
        ("nfs", Self::Nfs),
        ("null-aio", Self::NullAio),
        ("null-co", Self::NullCo),
        ("parallels", Self::Parallels),
        ("preallocate", Self::Preallocate),
        ("qcow", Self::Qcow),
        ("qcow2", Self::Qcow2),
        ("qed", Self::Qed),
        ("quorum", Self::Quorum),
        ("raw", Self::Raw),
        ("rbd", Self::Rbd),
        ("s3", Self::S3),
        ("snapshot-access", Self::SnapshotAccess),
        ("ssh", Self::Ssh),
        ("tftp", Self::Tftp),
        ("throttle", Self::Throttle),
        ("vdi", Self::Vdi),
        ("vhdx", Self::Vhdx),
        ("vmdk", Self::Vmdk),
        ("vpc", Self::Vpc),
        ("vvfat", Self::Vvfat),
    ];
}
enumeration_codec!(BlockdevDriver);

/// What a discard does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevDiscardOptions {
    /// Nothing.
    Ignore,
    /// Gives the space back.
    Unmap,
}

impl Enumeration for BlockdevDiscardOptions {
    const VALUES: &'static [(&'static str, Self)] = &[("ignore", Self::Ignore), ("unmap", Self::Unmap)];
}
enumeration_codec!(BlockdevDiscardOptions);

/// What becomes of written zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevDetectZeroesOptions {
    /// They are written.
    Off,
    /// They are written the quick way.
    On,
    /// Their space is given back, if discards do so.
    Unmap,
}

impl Enumeration for BlockdevDetectZeroesOptions {
    const VALUES: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("on", Self::On), ("unmap", Self::Unmap)];
}
enumeration_codec!(BlockdevDetectZeroesOptions);

/// How the host's page cache is used.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevCacheOptions {
    /// Whether it is bypassed; not if absent.
    pub direct: Option<bool>,
    /// Whether flushes are left out; not if absent.
    pub no_flush: Option<bool>,
    /// Whether a write may be answered before it is durable; it may if absent.
    pub writeback: Option<bool>,
}

impl Object for BlockdevCacheOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            direct: from.optional("direct")?,
            no_flush: from.optional("no-flush")?,
            writeback: from.optional("writeback")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("direct", &self.direct);
        to.put_optional("no-flush", &self.no_flush);
        to.put_optional("writeback", &self.writeback);
    }
}
object_codec!(BlockdevCacheOptions);

/// What every node may be told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevCommonOptions {
    /// What a discard does; it is ignored if absent.
    pub discard: Option<BlockdevDiscardOptions>,
    /// How the host's page cache is used; children take it over where they say nothing.
    pub cache: Option<BlockdevCacheOptions>,
    /// Whether it can't be written; it can if absent.
    pub read_only: Option<bool>,
    /// Whether it may become read-only by itself where writing is not allowed; not if absent.
    pub auto_read_only: Option<bool>,
    /// Whether others may do with the image whatever they like; only for read-only nodes.
    pub force_share: Option<bool>,
    /// What becomes of written zeros.
    pub detect_zeroes: Option<BlockdevDetectZeroesOptions>,
    /// Whether the image belongs to this program from the beginning. If not, it is only read until it is taken over. If absent, so it
    /// is unless a machine waits for the state of another one.
    pub active: Option<bool>,
}

impl Object for BlockdevCommonOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            discard: from.optional("discard")?,
            cache: from.optional("cache")?,
            read_only: from.optional("read-only")?,
            auto_read_only: from.optional("auto-read-only")?,
            force_share: from.optional("force-share")?,
            detect_zeroes: from.optional("detect-zeroes")?,
            active: from.optional("active")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("discard", &self.discard);
        to.put_optional("cache", &self.cache);
        to.put_optional("read-only", &self.read_only);
        to.put_optional("auto-read-only", &self.auto_read_only);
        to.put_optional("force-share", &self.force_share);
        to.put_optional("detect-zeroes", &self.detect_zeroes);
        to.put_optional("active", &self.active);
    }
}
object_codec!(BlockdevCommonOptions);

/// What every node has.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsBase {
    /// What a discard does; it is ignored if absent.
    pub discard: Option<BlockdevDiscardOptions>,
    /// How the host's page cache is used; children take it over where they say nothing.
    pub cache: Option<BlockdevCacheOptions>,
    /// Whether it can't be written; it can if absent.
    pub read_only: Option<bool>,
    /// Whether it may become read-only by itself where writing is not allowed; not if absent.
    pub auto_read_only: Option<bool>,
    /// Whether others may do with the image whatever they like; only for read-only nodes.
    pub force_share: Option<bool>,
    /// What becomes of written zeros.
    pub detect_zeroes: Option<BlockdevDetectZeroesOptions>,
    /// Whether the image belongs to this program from the beginning. If not, it is only read until it is taken over. If absent, so it
    /// is unless a machine waits for the state of another one.
    pub active: Option<bool>,
    /// Its driver.
    pub driver: BlockdevDriver,
    /// Its name; needed for a node that is not written inside another, and gets no device by `id`.
    pub node_name: Option<String>,
    /// The name of a device that is made with it; only for a node that is not written inside another.
    pub id: Option<String>,
    /// What that device does about an error of a read; it is reported if absent.
    pub rerror: Option<BlockdevOnError>,
    /// What that device does about an error of a write; at ENOSPC it stops if absent.
    pub werror: Option<BlockdevOnError>,
}

impl Object for BlockdevOptionsBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            discard: from.optional("discard")?,
            cache: from.optional("cache")?,
            read_only: from.optional("read-only")?,
            auto_read_only: from.optional("auto-read-only")?,
            force_share: from.optional("force-share")?,
            detect_zeroes: from.optional("detect-zeroes")?,
            active: from.optional("active")?,
            driver: from.required("driver")?,
            node_name: from.optional("node-name")?,
            id: from.optional("id")?,
            rerror: from.optional("rerror")?,
            werror: from.optional("werror")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("discard", &self.discard);
        to.put_optional("cache", &self.cache);
        to.put_optional("read-only", &self.read_only);
        to.put_optional("auto-read-only", &self.auto_read_only);
        to.put_optional("force-share", &self.force_share);
        to.put_optional("detect-zeroes", &self.detect_zeroes);
        to.put_optional("active", &self.active);
        to.put("driver", &self.driver);
        to.put_optional("node-name", &self.node_name);
        to.put_optional("id", &self.id);
        to.put_optional("rerror", &self.rerror);
        to.put_optional("werror", &self.werror);
    }
}
object_codec!(BlockdevOptionsBase);

/// The part of [`BlockdevOptions`] that depends on `driver`.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevOptionsBranch {
    /// `blkdebug`.
    Blkdebug(BlockdevOptionsBlkdebug),
    /// `blklogwrites`.
    Blklogwrites(BlockdevOptionsBlklogwrites),
    /// `blkverify`.
    Blkverify(BlockdevOptionsBlkverify),
    /// `bochs`.
    Bochs(BlockdevOptionsGenericFormat),
    /// `cloop`.
    Cloop(BlockdevOptionsGenericFormat),
    /// `compress`.
    Compress(BlockdevOptionsGenericFormat),
    /// `copy-before-write`.
    CopyBeforeWrite(BlockdevOptionsCbw),
    /// `copy-on-read`.
    CopyOnRead(BlockdevOptionsCor),
    /// `cow`.
    Cow(BlockdevOptionsGenericCOWFormat),
    /// `dmg`.
    Dmg(BlockdevOptionsGenericFormat),
    /// `file`.
    File(BlockdevOptionsFile),
    /// `ftp`.
    Ftp(BlockdevOptionsCurlFtp),
    /// `ftps`.
    Ftps(BlockdevOptionsCurlFtps),
    /// `host_cdrom`.
    HostCdrom(BlockdevOptionsFile),
    /// `host_device`.
    HostDevice(BlockdevOptionsFile),
    /// `host_floppy`.
    HostFloppy(BlockdevOptionsFile),
    /// `http`.
    Http(BlockdevOptionsCurlHttp),
    /// `https`.
    Https(BlockdevOptionsCurlHttp),
    /// `iscsi`.
    Iscsi(BlockdevOptionsIscsi),
    /// `luks`.
    Luks(BlockdevOptionsLUKS),
    /// `nbd`.
    Nbd(BlockdevOptionsNbd),
    /// `nfs`.
    Nfs(BlockdevOptionsNfs),
    /// `null-aio`.
    NullAio(BlockdevOptionsNull),
    /// `null-co`.
    NullCo(BlockdevOptionsNull),
    /// `parallels`.
    Parallels(BlockdevOptionsGenericFormat),
    /// `preallocate`.
    Preallocate(BlockdevOptionsPreallocate),
    /// `qcow`.
    Qcow(BlockdevOptionsQcow),
    /// `qcow2`.
    Qcow2(BlockdevOptionsQcow2),
    /// `qed`.
    Qed(BlockdevOptionsGenericCOWFormat),
    /// `quorum`.
    Quorum(BlockdevOptionsQuorum),
    /// `raw`.
    Raw(BlockdevOptionsRaw),
    /// `rbd`.
    Rbd(BlockdevOptionsRbd),
    /// `s3`.
    S3(BlockdevOptionsS3),
    /// `snapshot-access`.
    SnapshotAccess(BlockdevOptionsGenericFormat),
    /// `ssh`.
    Ssh(BlockdevOptionsSsh),
    /// `tftp`.
    Tftp(BlockdevOptionsTftp),
    /// `throttle`.
    Throttle(BlockdevOptionsThrottle),
    /// `vdi`.
    Vdi(BlockdevOptionsGenericFormat),
    /// `vhdx`.
    Vhdx(BlockdevOptionsGenericCOWFormat),
    /// `vmdk`.
    Vmdk(BlockdevOptionsGenericCOWFormat),
    /// `vpc`.
    Vpc(BlockdevOptionsVpc),
    /// `vvfat`.
    Vvfat(BlockdevOptionsVVFAT),
}

impl BlockdevOptionsBranch {
    /// The value of `driver` that goes with this branch.
    pub fn driver(&self) -> BlockdevDriver {
        match self {
            Self::Blkdebug(_) => BlockdevDriver::Blkdebug,
            Self::Blklogwrites(_) => BlockdevDriver::Blklogwrites,
            Self::Blkverify(_) => BlockdevDriver::Blkverify,
            Self::Bochs(_) => BlockdevDriver::Bochs,
            Self::Cloop(_) => BlockdevDriver::Cloop,
            Self::Compress(_) => BlockdevDriver::Compress,
            Self::CopyBeforeWrite(_) => BlockdevDriver::CopyBeforeWrite,
            Self::CopyOnRead(_) => BlockdevDriver::CopyOnRead,
            Self::Cow(_) => BlockdevDriver::Cow,
            Self::Dmg(_) => BlockdevDriver::Dmg,
            Self::File(_) => BlockdevDriver::File,
            Self::Ftp(_) => BlockdevDriver::Ftp,
            Self::Ftps(_) => BlockdevDriver::Ftps,
            Self::HostCdrom(_) => BlockdevDriver::HostCdrom,
            Self::HostDevice(_) => BlockdevDriver::HostDevice,
            Self::HostFloppy(_) => BlockdevDriver::HostFloppy,
            Self::Http(_) => BlockdevDriver::Http,
            Self::Https(_) => BlockdevDriver::Https,
            Self::Iscsi(_) => BlockdevDriver::Iscsi,
            Self::Luks(_) => BlockdevDriver::Luks,
            Self::Nbd(_) => BlockdevDriver::Nbd,
            Self::Nfs(_) => BlockdevDriver::Nfs,
            Self::NullAio(_) => BlockdevDriver::NullAio,
            Self::NullCo(_) => BlockdevDriver::NullCo,
            Self::Parallels(_) => BlockdevDriver::Parallels,
            Self::Preallocate(_) => BlockdevDriver::Preallocate,
            Self::Qcow(_) => BlockdevDriver::Qcow,
            Self::Qcow2(_) => BlockdevDriver::Qcow2,
            Self::Qed(_) => BlockdevDriver::Qed,
            Self::Quorum(_) => BlockdevDriver::Quorum,
            Self::Raw(_) => BlockdevDriver::Raw,
            Self::Rbd(_) => BlockdevDriver::Rbd,
            Self::S3(_) => BlockdevDriver::S3,
            Self::SnapshotAccess(_) => BlockdevDriver::SnapshotAccess,
            Self::Ssh(_) => BlockdevDriver::Ssh,
            Self::Tftp(_) => BlockdevDriver::Tftp,
            Self::Throttle(_) => BlockdevDriver::Throttle,
            Self::Vdi(_) => BlockdevDriver::Vdi,
            Self::Vhdx(_) => BlockdevDriver::Vhdx,
            Self::Vmdk(_) => BlockdevDriver::Vmdk,
            Self::Vpc(_) => BlockdevDriver::Vpc,
            Self::Vvfat(_) => BlockdevDriver::Vvfat,
        }
    }

    fn take_branch(tag: BlockdevDriver, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            BlockdevDriver::Blkdebug => Self::Blkdebug(Object::take(from)?),
            BlockdevDriver::Blklogwrites => Self::Blklogwrites(Object::take(from)?),
            BlockdevDriver::Blkverify => Self::Blkverify(Object::take(from)?),
            BlockdevDriver::Bochs => Self::Bochs(Object::take(from)?),
            BlockdevDriver::Cloop => Self::Cloop(Object::take(from)?),
            BlockdevDriver::Compress => Self::Compress(Object::take(from)?),
            BlockdevDriver::CopyBeforeWrite => Self::CopyBeforeWrite(Object::take(from)?),
            BlockdevDriver::CopyOnRead => Self::CopyOnRead(Object::take(from)?),
            BlockdevDriver::Cow => Self::Cow(Object::take(from)?),
            BlockdevDriver::Dmg => Self::Dmg(Object::take(from)?),
            BlockdevDriver::File => Self::File(Object::take(from)?),
            BlockdevDriver::Ftp => Self::Ftp(Object::take(from)?),
            BlockdevDriver::Ftps => Self::Ftps(Object::take(from)?),
            BlockdevDriver::HostCdrom => Self::HostCdrom(Object::take(from)?),
            BlockdevDriver::HostDevice => Self::HostDevice(Object::take(from)?),
            BlockdevDriver::HostFloppy => Self::HostFloppy(Object::take(from)?),
            BlockdevDriver::Http => Self::Http(Object::take(from)?),
            BlockdevDriver::Https => Self::Https(Object::take(from)?),
            BlockdevDriver::Iscsi => Self::Iscsi(Object::take(from)?),
            BlockdevDriver::Luks => Self::Luks(Object::take(from)?),
            BlockdevDriver::Nbd => Self::Nbd(Object::take(from)?),
            BlockdevDriver::Nfs => Self::Nfs(Object::take(from)?),
            BlockdevDriver::NullAio => Self::NullAio(Object::take(from)?),
            BlockdevDriver::NullCo => Self::NullCo(Object::take(from)?),
            BlockdevDriver::Parallels => Self::Parallels(Object::take(from)?),
            BlockdevDriver::Preallocate => Self::Preallocate(Object::take(from)?),
            BlockdevDriver::Qcow => Self::Qcow(Object::take(from)?),
            BlockdevDriver::Qcow2 => Self::Qcow2(Object::take(from)?),
            BlockdevDriver::Qed => Self::Qed(Object::take(from)?),
            BlockdevDriver::Quorum => Self::Quorum(Object::take(from)?),
            BlockdevDriver::Raw => Self::Raw(Object::take(from)?),
            BlockdevDriver::Rbd => Self::Rbd(Object::take(from)?),
            BlockdevDriver::S3 => Self::S3(Object::take(from)?),
            BlockdevDriver::SnapshotAccess => Self::SnapshotAccess(Object::take(from)?),
            BlockdevDriver::Ssh => Self::Ssh(Object::take(from)?),
            BlockdevDriver::Tftp => Self::Tftp(Object::take(from)?),
            BlockdevDriver::Throttle => Self::Throttle(Object::take(from)?),
            BlockdevDriver::Vdi => Self::Vdi(Object::take(from)?),
            BlockdevDriver::Vhdx => Self::Vhdx(Object::take(from)?),
            BlockdevDriver::Vmdk => Self::Vmdk(Object::take(from)?),
            BlockdevDriver::Vpc => Self::Vpc(Object::take(from)?),
            BlockdevDriver::Vvfat => Self::Vvfat(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Blkdebug(inner) => inner.put(to),
            Self::Blklogwrites(inner) => inner.put(to),
            Self::Blkverify(inner) => inner.put(to),
            Self::Bochs(inner) => inner.put(to),
            Self::Cloop(inner) => inner.put(to),
            Self::Compress(inner) => inner.put(to),
            Self::CopyBeforeWrite(inner) => inner.put(to),
            Self::CopyOnRead(inner) => inner.put(to),
            Self::Cow(inner) => inner.put(to),
            Self::Dmg(inner) => inner.put(to),
            Self::File(inner) => inner.put(to),
            Self::Ftp(inner) => inner.put(to),
            Self::Ftps(inner) => inner.put(to),
            Self::HostCdrom(inner) => inner.put(to),
            Self::HostDevice(inner) => inner.put(to),
            Self::HostFloppy(inner) => inner.put(to),
            Self::Http(inner) => inner.put(to),
            Self::Https(inner) => inner.put(to),
            Self::Iscsi(inner) => inner.put(to),
            Self::Luks(inner) => inner.put(to),
            Self::Nbd(inner) => inner.put(to),
            Self::Nfs(inner) => inner.put(to),
            Self::NullAio(inner) => inner.put(to),
            Self::NullCo(inner) => inner.put(to),
            Self::Parallels(inner) => inner.put(to),
            Self::Preallocate(inner) => inner.put(to),
            Self::Qcow(inner) => inner.put(to),
            Self::Qcow2(inner) => inner.put(to),
            Self::Qed(inner) => inner.put(to),
            Self::Quorum(inner) => inner.put(to),
            Self::Raw(inner) => inner.put(to),
            Self::Rbd(inner) => inner.put(to),
            Self::S3(inner) => inner.put(to),
            Self::SnapshotAccess(inner) => inner.put(to),
            Self::Ssh(inner) => inner.put(to),
            Self::Tftp(inner) => inner.put(to),
            Self::Throttle(inner) => inner.put(to),
            Self::Vdi(inner) => inner.put(to),
            Self::Vhdx(inner) => inner.put(to),
            Self::Vmdk(inner) => inner.put(to),
            Self::Vpc(inner) => inner.put(to),
            Self::Vvfat(inner) => inner.put(to),
        }
    }
}

/// What a node is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptions {
    /// What a discard does; it is ignored if absent.
    pub discard: Option<BlockdevDiscardOptions>,
    /// How the host's page cache is used; children take it over where they say nothing.
    pub cache: Option<BlockdevCacheOptions>,
    /// Whether it can't be written; it can if absent.
    pub read_only: Option<bool>,
    /// Whether it may become read-only by itself where writing is not allowed; not if absent.
    pub auto_read_only: Option<bool>,
    /// Whether others may do with the image whatever they like; only for read-only nodes.
    pub force_share: Option<bool>,
    /// What becomes of written zeros.
    pub detect_zeroes: Option<BlockdevDetectZeroesOptions>,
    /// Whether the image belongs to this program from the beginning. If not, it is only read until it is taken over. If absent, so it
    /// is unless a machine waits for the state of another one.
    pub active: Option<bool>,
    /// Its name; needed for a node that is not written inside another, and gets no device by `id`.
    pub node_name: Option<String>,
    /// The name of a device that is made with it; only for a node that is not written inside another.
    pub id: Option<String>,
    /// What that device does about an error of a read; it is reported if absent.
    pub rerror: Option<BlockdevOnError>,
    /// What that device does about an error of a write; at ENOSPC it stops if absent.
    pub werror: Option<BlockdevOnError>,
    /// What depends on `driver`.
    pub branch: BlockdevOptionsBranch,
}

impl Object for BlockdevOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let discard = from.optional("discard")?;
        let cache = from.optional("cache")?;
        let read_only = from.optional("read-only")?;
        let auto_read_only = from.optional("auto-read-only")?;
        let force_share = from.optional("force-share")?;
        let detect_zeroes = from.optional("detect-zeroes")?;
        let active = from.optional("active")?;
        let tag = from.required("driver")?;
        let node_name = from.optional("node-name")?;
        let id = from.optional("id")?;
        let rerror = from.optional("rerror")?;
        let werror = from.optional("werror")?;
        let branch = BlockdevOptionsBranch::take_branch(tag, from)?;
        Ok(Self {
            discard,
            cache,
            read_only,
            auto_read_only,
            force_share,
            detect_zeroes,
            active,
            node_name,
            id,
            rerror,
            werror,
            branch,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("discard", &self.discard);
        to.put_optional("cache", &self.cache);
        to.put_optional("read-only", &self.read_only);
        to.put_optional("auto-read-only", &self.auto_read_only);
        to.put_optional("force-share", &self.force_share);
        to.put_optional("detect-zeroes", &self.detect_zeroes);
        to.put_optional("active", &self.active);
        to.put("driver", &self.branch.driver());
        to.put_optional("node-name", &self.node_name);
        to.put_optional("id", &self.id);
        to.put_optional("rerror", &self.rerror);
        to.put_optional("werror", &self.werror);
        self.branch.put_branch(to);
    }
}
object_codec!(BlockdevOptions);

/// A node: one that exists, or one to be made.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevRef {
    /// What it is to be made of.
    Definition(Box<BlockdevOptions>),
    /// The name of one that exists.
    Reference(String),
}

impl Decode for BlockdevRef {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::Dict(_) => Ok(Self::Definition(Decode::decode(value, at)?)),
            Value::String(_) => Ok(Self::Reference(Decode::decode(value, at)?)),
            _ => Err(at.wrong_type("BlockdevRef")),
        }
    }
}

impl Encode for BlockdevRef {
    fn encode(&self) -> Value {
        match self {
            Self::Definition(inner) => inner.encode(),
            Self::Reference(inner) => inner.encode(),
        }
    }
}

/// A node, or explicitly none.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevRefOrNull {
    /// What it is to be made of.
    Definition(Box<BlockdevOptions>),
    /// The name of one that exists.
    Reference(String),
    /// None.
    Null,
}

impl Decode for BlockdevRefOrNull {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::Dict(_) => Ok(Self::Definition(Decode::decode(value, at)?)),
            Value::String(_) => Ok(Self::Reference(Decode::decode(value, at)?)),
            Value::Null => Ok(Self::Null),
            _ => Err(at.wrong_type("BlockdevRefOrNull")),
        }
    }
}

impl Encode for BlockdevRefOrNull {
    fn encode(&self) -> Value {
        match self {
            Self::Definition(inner) => inner.encode(),
            Self::Reference(inner) => inner.encode(),
            Self::Null => Value::Null,
        }
    }
}
