// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Disks and files of servers that are read and written: over NBD, iSCSI, NFS and SSH.

use super::*;
use crate::Dict;
use crate::codec::*;

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
    /// Seconds for which requests wait for a lost server; 0 if absent: they fail at once, and for ever.
    pub reconnect_delay: Option<u32>,
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
            reconnect_delay: from.optional("reconnect-delay")?,
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
        to.put_optional("reconnect-delay", &self.reconnect_delay);
    }
}
object_codec!(BlockdevOptionsSsh);
