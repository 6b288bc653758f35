// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Protocols: the options that each has of its own.

use super::*;
use crate::Dict;
use crate::codec::*;

/// The way of asynchronous I/O. All are served by the same engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevAioOptions {
    /// A pool of threads.
    Threads,
    /// The kernel's queue; needs cache.direct.
    Native,
    /// The kernel's rings.
    IoUring,
}

impl Enumeration for BlockdevAioOptions {
    const VALUES: &'static [(&'static str, Self)] =
        &[("threads", Self::Threads), ("native", Self::Native), ("io_uring", Self::IoUring)];
}
enumeration_codec!(BlockdevAioOptions);

/// A regular file or a block device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsFile {
    /// Its name.
    pub filename: String,
    /// Whether it is locked against other processes; where the host can, if absent.
    pub locking: Option<OnOffAuto>,
    /// The way of asynchronous I/O.
    pub aio: Option<BlockdevAioOptions>,
}

impl Object for BlockdevOptionsFile {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            filename: from.required("filename")?,
            locking: from.optional("locking")?,
            aio: from.optional("aio")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put_optional("locking", &self.locking);
        to.put_optional("aio", &self.aio);
    }
}
object_codec!(BlockdevOptionsFile);

/// A disk without content.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsNull {
    /// Its size in bytes; 1 GiB if absent.
    pub size: Option<i64>,
    /// How long each request takes, in nanoseconds.
    pub latency_ns: Option<u64>,
    /// Whether reads fill their buffer with zeros; not if absent.
    pub read_zeroes: Option<bool>,
}

impl Object for BlockdevOptionsNull {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            size: from.optional("size")?,
            latency_ns: from.optional("latency-ns")?,
            read_zeroes: from.optional("read-zeroes")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("size", &self.size);
        to.put_optional("latency-ns", &self.latency_ns);
        to.put_optional("read-zeroes", &self.read_zeroes);
    }
}
object_codec!(BlockdevOptionsNull);

/// A folder of the host as a disk with a FAT file system.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsVVFAT {
    /// The folder.
    pub dir: String,
    /// Bits of an entry of its table: 12, 16 or 32; 16, of a floppy disk 12, if absent or 0.
    pub fat_type: Option<i64>,
    /// Whether it is a floppy disk; a hard disk if absent.
    pub floppy: Option<bool>,
    /// Its label, of at most 11 bytes; QEMU VVFAT if absent.
    pub label: Option<String>,
    /// Whether the disk can be written to, and the folder follows; not if absent.
    pub rw: Option<bool>,
}

impl Object for BlockdevOptionsVVFAT {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            dir: from.required("dir")?,
            fat_type: from.optional("fat-type")?,
            floppy: from.optional("floppy")?,
            label: from.optional("label")?,
            rw: from.optional("rw")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("dir", &self.dir);
        to.put_optional("fat-type", &self.fat_type);
        to.put_optional("floppy", &self.floppy);
        to.put_optional("label", &self.label);
        to.put_optional("rw", &self.rw);
    }
}
object_codec!(BlockdevOptionsVVFAT);

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

/// A disk that an NBD server offers.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsNbd {
    /// Where the server listens.
    pub server: SocketAddress,
    /// Name of the disk; the server's default if absent.
    pub export: Option<String>,
    /// Credentials for TLS; the server has to have it then.
    pub tls_creds: Option<String>,
    /// The name that the server's certificate is for, where it is not that of its address.
    pub tls_hostname: Option<String>,
    /// Seconds for which requests wait for a lost server; 0 if absent: they fail at once.
    pub reconnect_delay: Option<u32>,
    /// Seconds for which opening tries again; 0 if absent: it tries once.
    pub open_timeout: Option<u32>,
    /// The metadata context that block status is asked of, in place of the disk's allocation: what has its lowest
    /// bit set, as what is dirty, is shown as no data. It is meant for debugging.
    pub x_dirty_bitmap: Option<String>,
}

impl Object for BlockdevOptionsNbd {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            server: from.required("server")?,
            export: from.optional("export")?,
            tls_creds: from.optional("tls-creds")?,
            tls_hostname: from.optional("tls-hostname")?,
            reconnect_delay: from.optional("reconnect-delay")?,
            open_timeout: from.optional("open-timeout")?,
            x_dirty_bitmap: from.optional("x-dirty-bitmap")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("server", &self.server);
        to.put_optional("export", &self.export);
        to.put_optional("tls-creds", &self.tls_creds);
        to.put_optional("tls-hostname", &self.tls_hostname);
        to.put_optional("reconnect-delay", &self.reconnect_delay);
        to.put_optional("open-timeout", &self.open_timeout);
        to.put_optional("x-dirty-bitmap", &self.x_dirty_bitmap);
    }
}
object_codec!(BlockdevOptionsNbd);

/// A file of a server, to be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsCurlBase {
    /// Where it is.
    pub url: String,
    /// Bytes that are read ahead, a multiple of 512; 256 KiB if absent.
    pub readahead: Option<i64>,
    /// Seconds for which the server may be silent; 5 if absent.
    pub timeout: Option<i64>,
    /// The user's name.
    pub username: Option<String>,
    /// The id of a secret with the user's password.
    pub password_secret: Option<String>,
    /// The user's name at the proxy.
    pub proxy_username: Option<String>,
    /// The id of a secret with the user's password at the proxy.
    pub proxy_password_secret: Option<String>,
}

impl Object for BlockdevOptionsCurlBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            url: from.required("url")?,
            readahead: from.optional("readahead")?,
            timeout: from.optional("timeout")?,
            username: from.optional("username")?,
            password_secret: from.optional("password-secret")?,
            proxy_username: from.optional("proxy-username")?,
            proxy_password_secret: from.optional("proxy-password-secret")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("url", &self.url);
        to.put_optional("readahead", &self.readahead);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("username", &self.username);
        to.put_optional("password-secret", &self.password_secret);
        to.put_optional("proxy-username", &self.proxy_username);
        to.put_optional("proxy-password-secret", &self.proxy_password_secret);
    }
}
object_codec!(BlockdevOptionsCurlBase);

/// A file of a web server, to be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsCurlHttp {
    /// Where it is.
    pub url: String,
    /// Bytes that are read ahead, a multiple of 512; 256 KiB if absent.
    pub readahead: Option<i64>,
    /// Seconds for which the server may be silent; 5 if absent.
    pub timeout: Option<i64>,
    /// The user's name.
    pub username: Option<String>,
    /// The id of a secret with the user's password.
    pub password_secret: Option<String>,
    /// The user's name at the proxy.
    pub proxy_username: Option<String>,
    /// The id of a secret with the user's password at the proxy.
    pub proxy_password_secret: Option<String>,
    /// What is sent as a cookie, as it stands in the header.
    pub cookie: Option<String>,
    /// The id of a secret with it.
    pub cookie_secret: Option<String>,
    /// Whether ranges are asked for without a look whether the server has them; not if absent.
    pub force_range: Option<bool>,
    /// Whether the server's certificate is judged; it is if absent.
    pub sslverify: Option<bool>,
    /// A file with the authorities that are trusted; those of the system if absent. Not in QEMU.
    pub cafile: Option<String>,
    /// The id of a secret with further headers, one a line. Not in QEMU.
    pub header_secret: Option<String>,
    /// The URL of a proxy, or nothing for none; as the environment says if absent. Not in QEMU.
    pub proxy: Option<String>,
    /// Connections that there are at most at a time; 16 if absent. Not in QEMU.
    pub connections: Option<u16>,
    /// Bytes that are kept of a file of a server that can't send ranges; 64 MiB if absent. Not in QEMU.
    pub cache_size: Option<Size>,
}

impl Object for BlockdevOptionsCurlHttp {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            url: from.required("url")?,
            readahead: from.optional("readahead")?,
            timeout: from.optional("timeout")?,
            username: from.optional("username")?,
            password_secret: from.optional("password-secret")?,
            proxy_username: from.optional("proxy-username")?,
            proxy_password_secret: from.optional("proxy-password-secret")?,
            cookie: from.optional("cookie")?,
            cookie_secret: from.optional("cookie-secret")?,
            force_range: from.optional("force-range")?,
            sslverify: from.optional("sslverify")?,
            cafile: from.optional("cafile")?,
            header_secret: from.optional("header-secret")?,
            proxy: from.optional("proxy")?,
            connections: from.optional("connections")?,
            cache_size: from.optional("cache-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("url", &self.url);
        to.put_optional("readahead", &self.readahead);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("username", &self.username);
        to.put_optional("password-secret", &self.password_secret);
        to.put_optional("proxy-username", &self.proxy_username);
        to.put_optional("proxy-password-secret", &self.proxy_password_secret);
        to.put_optional("cookie", &self.cookie);
        to.put_optional("cookie-secret", &self.cookie_secret);
        to.put_optional("force-range", &self.force_range);
        to.put_optional("sslverify", &self.sslverify);
        to.put_optional("cafile", &self.cafile);
        to.put_optional("header-secret", &self.header_secret);
        to.put_optional("proxy", &self.proxy);
        to.put_optional("connections", &self.connections);
        to.put_optional("cache-size", &self.cache_size);
    }
}
object_codec!(BlockdevOptionsCurlHttp);

/// An object of a store that speaks S3, to be read. Not in QEMU.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsS3 {
    /// The bucket.
    pub bucket: String,
    /// The name of the object there.
    pub key: String,
    /// The object's version; the latest if absent.
    pub version: Option<String>,
    /// The URL of the store; as the environment says, else that of AWS, if absent.
    pub endpoint: Option<String>,
    /// The region; as the environment says, else us-east-1, if absent.
    pub region: Option<String>,
    /// The id of the key that requests are signed with; they are not signed if absent.
    pub access_key: Option<String>,
    /// The id of a secret with that key.
    pub secret_key_secret: Option<String>,
    /// The id of a secret with the token of a key that is lent.
    pub session_token_secret: Option<String>,
    /// Whether the bucket is in the path, not in the host's name; where an endpoint is given, if absent.
    pub path_style: Option<bool>,
    /// Bytes that are read ahead, a multiple of 512; 256 KiB if absent.
    pub readahead: Option<i64>,
    /// Seconds for which the server may be silent; 5 if absent.
    pub timeout: Option<i64>,
    /// Whether the server's certificate is judged; it is if absent.
    pub sslverify: Option<bool>,
    /// A file with the authorities that are trusted; those of the system if absent.
    pub cafile: Option<String>,
    /// The URL of a proxy, or nothing for none; as the environment says if absent.
    pub proxy: Option<String>,
    /// Connections that there are at most at a time; 16 if absent.
    pub connections: Option<u16>,
    /// Bytes that are kept of an object of a store that can't send ranges; 64 MiB if absent.
    pub cache_size: Option<Size>,
}

impl Object for BlockdevOptionsS3 {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            bucket: from.required("bucket")?,
            key: from.required("key")?,
            version: from.optional("version")?,
            endpoint: from.optional("endpoint")?,
            region: from.optional("region")?,
            access_key: from.optional("access-key")?,
            secret_key_secret: from.optional("secret-key-secret")?,
            session_token_secret: from.optional("session-token-secret")?,
            path_style: from.optional("path-style")?,
            readahead: from.optional("readahead")?,
            timeout: from.optional("timeout")?,
            sslverify: from.optional("sslverify")?,
            cafile: from.optional("cafile")?,
            proxy: from.optional("proxy")?,
            connections: from.optional("connections")?,
            cache_size: from.optional("cache-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("bucket", &self.bucket);
        to.put("key", &self.key);
        to.put_optional("version", &self.version);
        to.put_optional("endpoint", &self.endpoint);
        to.put_optional("region", &self.region);
        to.put_optional("access-key", &self.access_key);
        to.put_optional("secret-key-secret", &self.secret_key_secret);
        to.put_optional("session-token-secret", &self.session_token_secret);
        to.put_optional("path-style", &self.path_style);
        to.put_optional("readahead", &self.readahead);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("sslverify", &self.sslverify);
        to.put_optional("cafile", &self.cafile);
        to.put_optional("proxy", &self.proxy);
        to.put_optional("connections", &self.connections);
        to.put_optional("cache-size", &self.cache_size);
    }
}
object_codec!(BlockdevOptionsS3);

/// What iSCSI is carried by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IscsiTransport {
    /// TCP.
    Tcp,
    /// RDMA; it is not available.
    Iser,
}

impl Enumeration for IscsiTransport {
    const VALUES: &'static [(&'static str, Self)] = &[("tcp", Self::Tcp), ("iser", Self::Iser)];
}
enumeration_codec!(IscsiTransport);

/// Which digests are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IscsiHeaderDigest {
    /// CRC-32C, or there is no session.
    Crc32c,
    /// None.
    None,
    /// CRC-32C, where the target has it.
    Crc32cNone,
    /// None, unless the target demands CRC-32C.
    NoneCrc32c,
}

impl Enumeration for IscsiHeaderDigest {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("crc32c", Self::Crc32c),
        ("none", Self::None),
        ("crc32c-none", Self::Crc32cNone),
        ("none-crc32c", Self::NoneCrc32c),
    ];
}
enumeration_codec!(IscsiHeaderDigest);

/// A logical unit of an iSCSI target.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsIscsi {
    /// What iSCSI is carried by.
    pub transport: IscsiTransport,
    /// Where the target listens: host or address, and its port where that is not 3260.
    pub portal: String,
    /// The target's name.
    pub target: String,
    /// The number of the unit; 0 if absent.
    pub lun: Option<i64>,
    /// The name for CHAP, if the target asks who it is.
    pub user: Option<String>,
    /// The id of the secret that proves the name.
    pub password_secret: Option<String>,
    /// The same in clear text; it is what a URL holds.
    pub password: Option<String>,
    /// The name that the target has to prove, by CHAP the other way.
    pub target_user: Option<String>,
    /// The id of the secret that it has to prove it with. It must not be that of this end.
    pub target_password_secret: Option<String>,
    /// The name of this initiator; iqn.2008-11.org.linux-kvm if absent.
    pub initiator_name: Option<String>,
    /// Digests of headers; none-crc32c if absent.
    pub header_digest: Option<IscsiHeaderDigest>,
    /// Digests of data; none if absent.
    pub data_digest: Option<IscsiHeaderDigest>,
    /// Seconds after which a request fails that is not answered, and for which it waits for a target that is gone; 0: there is
    /// no end. If absent, 300 seconds for an answer and 120 for a target that is gone.
    pub timeout: Option<i64>,
}

impl Object for BlockdevOptionsIscsi {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            transport: from.required("transport")?,
            portal: from.required("portal")?,
            target: from.required("target")?,
            lun: from.optional("lun")?,
            user: from.optional("user")?,
            password_secret: from.optional("password-secret")?,
            password: from.optional("password")?,
            target_user: from.optional("target-user")?,
            target_password_secret: from.optional("target-password-secret")?,
            initiator_name: from.optional("initiator-name")?,
            header_digest: from.optional("header-digest")?,
            data_digest: from.optional("data-digest")?,
            timeout: from.optional("timeout")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("transport", &self.transport);
        to.put("portal", &self.portal);
        to.put("target", &self.target);
        to.put_optional("lun", &self.lun);
        to.put_optional("user", &self.user);
        to.put_optional("password-secret", &self.password_secret);
        to.put_optional("password", &self.password);
        to.put_optional("target-user", &self.target_user);
        to.put_optional("target-password-secret", &self.target_password_secret);
        to.put_optional("initiator-name", &self.initiator_name);
        to.put_optional("header-digest", &self.header_digest);
        to.put_optional("data-digest", &self.data_digest);
        to.put_optional("timeout", &self.timeout);
    }
}
object_codec!(BlockdevOptionsIscsi);

/// How a client shows a Ceph cluster who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RbdAuthMode {
    /// By a key.
    Cephx,
    /// Not at all.
    None,
}

impl Enumeration for RbdAuthMode {
    const VALUES: &'static [(&'static str, Self)] = &[("cephx", Self::Cephx), ("none", Self::None)];
}
enumeration_codec!(RbdAuthMode);

/// How an RBD image is encrypted, by librbd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RbdImageEncryptionFormat {
    /// With a header of LUKS1.
    Luks,
    /// With a header of LUKS2.
    Luks2,
    /// With either; only for images that exist.
    LuksAny,
}

impl Enumeration for RbdImageEncryptionFormat {
    const VALUES: &'static [(&'static str, Self)] =
        &[("luks", Self::Luks), ("luks2", Self::Luks2), ("luks-any", Self::LuksAny)];
}
enumeration_codec!(RbdImageEncryptionFormat);

/// What a header of LUKS needs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RbdEncryptionOptionsLUKSBase {
    /// The id of the secret with the passphrase.
    pub key_secret: String,
}

impl Object for RbdEncryptionOptionsLUKSBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { key_secret: from.required("key-secret")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("key-secret", &self.key_secret);
    }
}
object_codec!(RbdEncryptionOptionsLUKSBase);

/// What an image with a header of LUKS1 is opened with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RbdEncryptionOptionsLUKS {
    /// The id of the secret with the passphrase.
    pub key_secret: String,
}

impl Object for RbdEncryptionOptionsLUKS {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { key_secret: from.required("key-secret")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("key-secret", &self.key_secret);
    }
}
object_codec!(RbdEncryptionOptionsLUKS);

/// What an image with a header of LUKS2 is opened with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RbdEncryptionOptionsLUKS2 {
    /// The id of the secret with the passphrase.
    pub key_secret: String,
}

impl Object for RbdEncryptionOptionsLUKS2 {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { key_secret: from.required("key-secret")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("key-secret", &self.key_secret);
    }
}
object_codec!(RbdEncryptionOptionsLUKS2);

/// What an image with a header of either version is opened with.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RbdEncryptionOptionsLUKSAny {
    /// The id of the secret with the passphrase.
    pub key_secret: String,
}

impl Object for RbdEncryptionOptionsLUKSAny {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { key_secret: from.required("key-secret")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("key-secret", &self.key_secret);
    }
}
object_codec!(RbdEncryptionOptionsLUKSAny);

/// How an encrypted image is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct RbdEncryptionOptionsBase {
    /// How it is encrypted.
    pub format: RbdImageEncryptionFormat,
    /// How the image is encrypted that it is a clone of, where that differs.
    pub parent: Option<RbdEncryptionOptions>,
}

impl Object for RbdEncryptionOptionsBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { format: from.required("format")?, parent: from.optional("parent")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("format", &self.format);
        to.put_optional("parent", &self.parent);
    }
}
object_codec!(RbdEncryptionOptionsBase);

/// The part of [`RbdEncryptionOptions`] that depends on `format`.
#[derive(Debug, Clone, PartialEq)]
pub enum RbdEncryptionOptionsBranch {
    /// `luks`.
    Luks(RbdEncryptionOptionsLUKS),
    /// `luks2`.
    Luks2(RbdEncryptionOptionsLUKS2),
    /// `luks-any`.
    LuksAny(RbdEncryptionOptionsLUKSAny),
}

impl RbdEncryptionOptionsBranch {
    /// The value of `format` that goes with this branch.
    pub fn format(&self) -> RbdImageEncryptionFormat {
        match self {
            Self::Luks(_) => RbdImageEncryptionFormat::Luks,
            Self::Luks2(_) => RbdImageEncryptionFormat::Luks2,
            Self::LuksAny(_) => RbdImageEncryptionFormat::LuksAny,
        }
    }

    fn take_branch(tag: RbdImageEncryptionFormat, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            RbdImageEncryptionFormat::Luks => Self::Luks(Object::take(from)?),
            RbdImageEncryptionFormat::Luks2 => Self::Luks2(Object::take(from)?),
            RbdImageEncryptionFormat::LuksAny => Self::LuksAny(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Luks(inner) => inner.put(to),
            Self::Luks2(inner) => inner.put(to),
            Self::LuksAny(inner) => inner.put(to),
        }
    }
}

/// How an encrypted image is opened.
#[derive(Debug, Clone, PartialEq)]
pub struct RbdEncryptionOptions {
    /// How the image is encrypted that it is a clone of, where that differs.
    pub parent: Option<Box<RbdEncryptionOptions>>,
    /// What depends on `format`.
    pub branch: RbdEncryptionOptionsBranch,
}

impl Object for RbdEncryptionOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("format")?;
        let parent = from.optional("parent")?;
        let branch = RbdEncryptionOptionsBranch::take_branch(tag, from)?;
        Ok(Self { parent, branch })
    }

    fn put(&self, to: &mut Dict) {
        to.put("format", &self.branch.format());
        to.put_optional("parent", &self.parent);
        self.branch.put_branch(to);
    }
}
object_codec!(RbdEncryptionOptions);

/// A place that TCP leads to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InetSocketAddressBase {
    /// A name or address.
    pub host: String,
    /// A port.
    pub port: String,
}

impl Object for InetSocketAddressBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { host: from.required("host")?, port: from.required("port")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("host", &self.host);
        to.put("port", &self.port);
    }
}
object_codec!(InetSocketAddressBase);

/// An image in a Ceph cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsRbd {
    /// Its pool.
    pub pool: String,
    /// Its namespace in the pool; the nameless one if absent.
    pub namespace: Option<String>,
    /// Its name.
    pub image: String,
    /// The configuration of Ceph to read; that of its usual places if absent.
    pub conf: Option<String>,
    /// The snapshot of it that is shown.
    pub snapshot: Option<String>,
    /// How it is encrypted, if librbd is to decrypt it.
    pub encrypt: Option<RbdEncryptionOptions>,
    /// Who logs in, without the word "client."; what the configuration says if absent.
    pub user: Option<String>,
    /// How it may log in, the best way first.
    pub auth_client_required: Option<Vec<RbdAuthMode>>,
    /// The id of the secret with the user's key; what the configuration says if absent.
    pub key_secret: Option<String>,
    /// The cluster's monitors; what the configuration says if absent.
    pub server: Option<Vec<InetSocketAddressBase>>,
    /// Seconds after which a request that the cluster does not answer fails; 0 is never. If absent, what the configuration
    /// says, and 300 where it says nothing.
    pub timeout: Option<u32>,
    /// Further options of the configuration, each as NAME=VALUE: what file names hold. They are not shown.
    pub x_config: Option<Vec<String>>,
}

impl Object for BlockdevOptionsRbd {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            pool: from.required("pool")?,
            namespace: from.optional("namespace")?,
            image: from.required("image")?,
            conf: from.optional("conf")?,
            snapshot: from.optional("snapshot")?,
            encrypt: from.optional("encrypt")?,
            user: from.optional("user")?,
            auth_client_required: from.optional("auth-client-required")?,
            key_secret: from.optional("key-secret")?,
            server: from.optional("server")?,
            timeout: from.optional("timeout")?,
            x_config: from.optional("x-config")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("pool", &self.pool);
        to.put_optional("namespace", &self.namespace);
        to.put("image", &self.image);
        to.put_optional("conf", &self.conf);
        to.put_optional("snapshot", &self.snapshot);
        to.put_optional("encrypt", &self.encrypt);
        to.put_optional("user", &self.user);
        to.put_optional("auth-client-required", &self.auth_client_required);
        to.put_optional("key-secret", &self.key_secret);
        to.put_optional("server", &self.server);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("x-config", &self.x_config);
    }
}
object_codec!(BlockdevOptionsRbd);

/// How an NFS server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NFSTransport {
    /// Over TCP.
    Inet,
}

impl Enumeration for NFSTransport {
    const VALUES: &'static [(&'static str, Self)] = &[("inet", Self::Inet)];
}
enumeration_codec!(NFSTransport);

/// An NFS server.
#[derive(Debug, Clone, PartialEq)]
pub struct NFSServer {
    /// How it is reached.
    pub r#type: NFSTransport,
    /// Its name or address.
    pub host: String,
}

impl Object for NFSServer {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { r#type: from.required("type")?, host: from.required("host")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type);
        to.put("host", &self.host);
    }
}
object_codec!(NFSServer);

/// A file of an NFS server.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevOptionsNfs {
    /// The server.
    pub server: NFSServer,
    /// The file's path there.
    pub path: String,
    /// The number of the user that the server is told; that of this process if absent.
    pub user: Option<i64>,
    /// The number of the group that the server is told; that of this process if absent.
    pub group: Option<i64>,
    /// How often a connection is asked for until it is given up.
    pub tcp_syn_count: Option<i64>,
    /// Bytes that are read ahead; none if absent.
    pub readahead_size: Option<i64>,
    /// Pages that are kept in memory. It is of no effect: nothing is kept.
    pub page_cache_size: Option<i64>,
    /// How much is told of what goes on. It is of no effect: what goes on is traced as everything is.
    pub debug: Option<i64>,
    /// The port of the server's NFS service; its portmapper is asked if absent.
    pub nfs_port: Option<u16>,
    /// The port of the server's mount service; its portmapper is asked if absent.
    pub mount_port: Option<u16>,
    /// Seconds for which requests wait for a lost server; 180 if absent.
    pub reconnect_delay: Option<u32>,
}

impl Object for BlockdevOptionsNfs {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            server: from.required("server")?,
            path: from.required("path")?,
            user: from.optional("user")?,
            group: from.optional("group")?,
            tcp_syn_count: from.optional("tcp-syn-count")?,
            readahead_size: from.optional("readahead-size")?,
            page_cache_size: from.optional("page-cache-size")?,
            debug: from.optional("debug")?,
            nfs_port: from.optional("nfs-port")?,
            mount_port: from.optional("mount-port")?,
            reconnect_delay: from.optional("reconnect-delay")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("server", &self.server);
        to.put("path", &self.path);
        to.put_optional("user", &self.user);
        to.put_optional("group", &self.group);
        to.put_optional("tcp-syn-count", &self.tcp_syn_count);
        to.put_optional("readahead-size", &self.readahead_size);
        to.put_optional("page-cache-size", &self.page_cache_size);
        to.put_optional("debug", &self.debug);
        to.put_optional("nfs-port", &self.nfs_port);
        to.put_optional("mount-port", &self.mount_port);
        to.put_optional("reconnect-delay", &self.reconnect_delay);
    }
}
object_codec!(BlockdevOptionsNfs);

/// How the key of an SSH server is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SshHostKeyCheckMode {
    /// Not at all.
    None,
    /// By its digest.
    Hash,
    /// By the lists of known hosts.
    KnownHosts,
}

impl Enumeration for SshHostKeyCheckMode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("hash", Self::Hash), ("known_hosts", Self::KnownHosts)];
}
enumeration_codec!(SshHostKeyCheckMode);

/// A digest of the key of an SSH server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SshHostKeyCheckHashType {
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Enumeration for SshHostKeyCheckHashType {
    const VALUES: &'static [(&'static str, Self)] =
        &[("md5", Self::Md5), ("sha1", Self::Sha1), ("sha256", Self::Sha256)];
}
enumeration_codec!(SshHostKeyCheckHashType);

/// The digest that the key of an SSH server has.
#[derive(Debug, Clone, PartialEq)]
pub struct SshHostKeyHash {
    /// Which digest.
    pub r#type: SshHostKeyCheckHashType,
    /// Its hexadecimal digits.
    pub hash: String,
}

impl Object for SshHostKeyHash {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { r#type: from.required("type")?, hash: from.required("hash")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type);
        to.put("hash", &self.hash);
    }
}
object_codec!(SshHostKeyHash);

/// `SshHostKeyCheckBase`.
#[derive(Debug, Clone, PartialEq)]
pub struct SshHostKeyCheckBase {
    /// How the key is checked.
    pub mode: SshHostKeyCheckMode,
}

impl Object for SshHostKeyCheckBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { mode: from.required("mode")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("mode", &self.mode);
    }
}
object_codec!(SshHostKeyCheckBase);

/// The check of the key of an SSH server.
#[derive(Debug, Clone, PartialEq)]
pub enum SshHostKeyCheck {
    /// `none`.
    None,
    /// `hash`.
    Hash(SshHostKeyHash),
    /// `known_hosts`.
    KnownHosts,
}

impl SshHostKeyCheck {
    /// The value of `mode` that goes with this branch.
    pub fn mode(&self) -> SshHostKeyCheckMode {
        match self {
            Self::None => SshHostKeyCheckMode::None,
            Self::Hash(_) => SshHostKeyCheckMode::Hash,
            Self::KnownHosts => SshHostKeyCheckMode::KnownHosts,
        }
    }

    fn take_branch(tag: SshHostKeyCheckMode, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            SshHostKeyCheckMode::None => Self::None,
            SshHostKeyCheckMode::Hash => Self::Hash(Object::take(from)?),
            SshHostKeyCheckMode::KnownHosts => Self::KnownHosts,
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::None => {}
            Self::Hash(inner) => inner.put(to),
            Self::KnownHosts => {}
        }
    }
}

impl Object for SshHostKeyCheck {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("mode")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("mode", &self.mode());
        self.put_branch(to);
    }
}
object_codec!(SshHostKeyCheck);

/// A file that an SSH server offers over SFTP.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsSsh {
    /// Where the server listens.
    pub server: InetSocketAddress,
    /// The file.
    pub path: String,
    /// The user there; the user of this process if absent.
    pub user: Option<String>,
    /// How the key of the server is checked; by the lists of known hosts if absent.
    pub host_key_check: Option<SshHostKeyCheck>,
    /// The list of known hosts; that of the user and that of the machine if absent.
    pub known_hosts_file: Option<String>,
    /// The file with the private key of the user, which alone is tried then; the keys of the agent and those in the user's own
    /// files if absent.
    pub key_file: Option<String>,
    /// The secret that is the passphrase of the key.
    pub key_secret: Option<String>,
    /// The secret that is the user's password.
    pub password_secret: Option<String>,
}

impl Object for BlockdevOptionsSsh {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            server: from.required("server")?,
            path: from.required("path")?,
            user: from.optional("user")?,
            host_key_check: from.optional("host-key-check")?,
            known_hosts_file: from.optional("known-hosts-file")?,
            key_file: from.optional("key-file")?,
            key_secret: from.optional("key-secret")?,
            password_secret: from.optional("password-secret")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("server", &self.server);
        to.put("path", &self.path);
        to.put_optional("user", &self.user);
        to.put_optional("host-key-check", &self.host_key_check);
        to.put_optional("known-hosts-file", &self.known_hosts_file);
        to.put_optional("key-file", &self.key_file);
        to.put_optional("key-secret", &self.key_secret);
        to.put_optional("password-secret", &self.password_secret);
    }
}
object_codec!(BlockdevOptionsSsh);

/// A file of an FTP server, to be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsCurlFtp {
    /// Where it is.
    pub url: String,
    /// Bytes that are read ahead, a multiple of 512; 256 KiB if absent.
    pub readahead: Option<i64>,
    /// Seconds for which the server may be silent; 5 if absent.
    pub timeout: Option<i64>,
    /// The user's name.
    pub username: Option<String>,
    /// The id of a secret with the user's password.
    pub password_secret: Option<String>,
    /// The user's name at the proxy.
    pub proxy_username: Option<String>,
    /// The id of a secret with the user's password at the proxy.
    pub proxy_password_secret: Option<String>,
}

impl Object for BlockdevOptionsCurlFtp {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            url: from.required("url")?,
            readahead: from.optional("readahead")?,
            timeout: from.optional("timeout")?,
            username: from.optional("username")?,
            password_secret: from.optional("password-secret")?,
            proxy_username: from.optional("proxy-username")?,
            proxy_password_secret: from.optional("proxy-password-secret")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("url", &self.url);
        to.put_optional("readahead", &self.readahead);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("username", &self.username);
        to.put_optional("password-secret", &self.password_secret);
        to.put_optional("proxy-username", &self.proxy_username);
        to.put_optional("proxy-password-secret", &self.proxy_password_secret);
    }
}
object_codec!(BlockdevOptionsCurlFtp);

/// A file of an FTP server in TLS, to be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsCurlFtps {
    /// Where it is.
    pub url: String,
    /// Bytes that are read ahead, a multiple of 512; 256 KiB if absent.
    pub readahead: Option<i64>,
    /// Seconds for which the server may be silent; 5 if absent.
    pub timeout: Option<i64>,
    /// The user's name.
    pub username: Option<String>,
    /// The id of a secret with the user's password.
    pub password_secret: Option<String>,
    /// The user's name at the proxy.
    pub proxy_username: Option<String>,
    /// The id of a secret with the user's password at the proxy.
    pub proxy_password_secret: Option<String>,
    /// Whether the server's certificate is judged; it is if absent.
    pub sslverify: Option<bool>,
    /// A file with the authorities that are trusted; those of the system if absent. Not in QEMU.
    pub cafile: Option<String>,
    /// Whether TLS is begun by the command AUTH, at the port of FTP; at once, at a port of its own, if absent. Not in
    /// QEMU.
    pub explicit: Option<bool>,
}

impl Object for BlockdevOptionsCurlFtps {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            url: from.required("url")?,
            readahead: from.optional("readahead")?,
            timeout: from.optional("timeout")?,
            username: from.optional("username")?,
            password_secret: from.optional("password-secret")?,
            proxy_username: from.optional("proxy-username")?,
            proxy_password_secret: from.optional("proxy-password-secret")?,
            sslverify: from.optional("sslverify")?,
            cafile: from.optional("cafile")?,
            explicit: from.optional("explicit")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("url", &self.url);
        to.put_optional("readahead", &self.readahead);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("username", &self.username);
        to.put_optional("password-secret", &self.password_secret);
        to.put_optional("proxy-username", &self.proxy_username);
        to.put_optional("proxy-password-secret", &self.proxy_password_secret);
        to.put_optional("sslverify", &self.sslverify);
        to.put_optional("cafile", &self.cafile);
        to.put_optional("explicit", &self.explicit);
    }
}
object_codec!(BlockdevOptionsCurlFtps);

/// A file of a TFTP server, to be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevOptionsTftp {
    /// Where it is.
    pub url: String,
    /// Bytes that are fetched beyond what was asked for, a multiple of 512; 256 KiB if absent.
    pub readahead: Option<i64>,
    /// Seconds for which the server may be silent; 5 if absent.
    pub timeout: Option<i64>,
    /// Bytes of a block that the server is asked for; 1428 if absent.
    pub blksize: Option<u16>,
    /// Blocks that it is asked to send for one acknowledgement; 16 if absent.
    pub windowsize: Option<u16>,
    /// Bytes that are kept of the file; 64 MiB if absent.
    pub cache_size: Option<Size>,
}

impl Object for BlockdevOptionsTftp {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            url: from.required("url")?,
            readahead: from.optional("readahead")?,
            timeout: from.optional("timeout")?,
            blksize: from.optional("blksize")?,
            windowsize: from.optional("windowsize")?,
            cache_size: from.optional("cache-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("url", &self.url);
        to.put_optional("readahead", &self.readahead);
        to.put_optional("timeout", &self.timeout);
        to.put_optional("blksize", &self.blksize);
        to.put_optional("windowsize", &self.windowsize);
        to.put_optional("cache-size", &self.cache_size);
    }
}
object_codec!(BlockdevOptionsTftp);
