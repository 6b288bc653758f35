// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Objects that others refer to by name.

use crate::codec::*;
use crate::{Dict, QmpError, Value};

/// The types of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectType {
    /// Rules that say who is let in.
    AuthzList,
    /// Such rules, in a file.
    AuthzListfile,
    /// One name that is let in.
    AuthzSimple,
    /// A worker that exports can be put on.
    Iothread,
    /// A password or key.
    Secret,
    /// Limits that several nodes share.
    ThrottleGroup,
    /// Shared keys for TLS.
    TlsCredsPsk,
    /// Certificates for TLS.
    TlsCredsX509,
}

impl Enumeration for ObjectType {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("authz-list", Self::AuthzList),
        ("authz-listfile", Self::AuthzListfile),
        ("authz-simple", Self::AuthzSimple),
        ("iothread", Self::Iothread),
        ("secret", Self::Secret),
        ("throttle-group", Self::ThrottleGroup),
        ("tls-creds-psk", Self::TlsCredsPsk),
        ("tls-creds-x509", Self::TlsCredsX509),
    ];
}
enumeration_codec!(ObjectType);

/// What becomes of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QAuthZListPolicy {
    /// They are turned away.
    Deny,
    /// They are let in.
    Allow,
}

impl Enumeration for QAuthZListPolicy {
    const VALUES: &'static [(&'static str, Self)] = &[("deny", Self::Deny), ("allow", Self::Allow)];
}
enumeration_codec!(QAuthZListPolicy);

/// How a rule is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QAuthZListFormat {
    /// As the name itself.
    Exact,
    /// As a pattern: "*" is any text, "?" any character.
    Glob,
}

impl Enumeration for QAuthZListFormat {
    const VALUES: &'static [(&'static str, Self)] = &[("exact", Self::Exact), ("glob", Self::Glob)];
}
enumeration_codec!(QAuthZListFormat);

/// A rule.
#[derive(Debug, Clone, PartialEq)]
pub struct QAuthZListRule {
    /// The name or the pattern.
    pub r#match: String,
    /// What becomes of those whom it matches.
    pub policy: QAuthZListPolicy,
    /// How it is written; exact if absent.
    pub format: Option<QAuthZListFormat>,
}

impl Object for QAuthZListRule {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            r#match: from.required("match")?,
            policy: from.required("policy")?,
            format: from.optional("format")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("match", &self.r#match);
        to.put("policy", &self.policy);
        to.put_optional("format", &self.format);
    }
}
object_codec!(QAuthZListRule);

/// Rules that say who is let in. The first that matches decides.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AuthZListProperties {
    /// What becomes of those whom no rule matches; deny if absent.
    pub policy: Option<QAuthZListPolicy>,
    /// The rules, in order.
    pub rules: Option<Vec<QAuthZListRule>>,
}

impl Object for AuthZListProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { policy: from.optional("policy")?, rules: from.optional("rules")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("policy", &self.policy);
        to.put_optional("rules", &self.rules);
    }
}
object_codec!(AuthZListProperties);

/// Rules that say who is let in, in a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AuthZListFileProperties {
    /// A file with a JSON object: the policy and the rules of an authz-list.
    pub filename: String,
    /// Whether it is read again when it has changed; it is if absent.
    pub refresh: Option<bool>,
}

impl Object for AuthZListFileProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { filename: from.required("filename")?, refresh: from.optional("refresh")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put_optional("refresh", &self.refresh);
    }
}
object_codec!(AuthZListFileProperties);

/// One name that is let in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AuthZSimpleProperties {
    /// The name: the distinguished name of a certificate, or the user of a shared key.
    pub identity: String,
}

impl Object for AuthZSimpleProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { identity: from.required("identity")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("identity", &self.identity);
    }
}
object_codec!(AuthZSimpleProperties);

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QCryptoTLSCredsEndpoint {
    /// The end that connects.
    Client,
    /// The end that is connected to.
    Server,
}

impl Enumeration for QCryptoTLSCredsEndpoint {
    const VALUES: &'static [(&'static str, Self)] = &[("client", Self::Client), ("server", Self::Server)];
}
enumeration_codec!(QCryptoTLSCredsEndpoint);

/// What all credentials for TLS have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsCredsProperties {
    /// Whether a server asks for the client's certificate, and a client judges the server's; so if absent.
    pub verify_peer: Option<bool>,
    /// The folder with their files.
    pub dir: Option<String>,
    /// The end that they are for; client if absent.
    pub endpoint: Option<QCryptoTLSCredsEndpoint>,
    /// What may be agreed on, in the words of GnuTLS; "NORMAL" if absent.
    pub priority: Option<String>,
}

impl Object for TlsCredsProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            verify_peer: from.optional("verify-peer")?,
            dir: from.optional("dir")?,
            endpoint: from.optional("endpoint")?,
            priority: from.optional("priority")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("verify-peer", &self.verify_peer);
        to.put_optional("dir", &self.dir);
        to.put_optional("endpoint", &self.endpoint);
        to.put_optional("priority", &self.priority);
    }
}
object_codec!(TlsCredsProperties);

/// Shared keys for TLS, in the file keys.psk.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsCredsPskProperties {
    /// Whether a server asks for the client's certificate, and a client judges the server's; so if absent.
    pub verify_peer: Option<bool>,
    /// The folder with their files.
    pub dir: Option<String>,
    /// The end that they are for; client if absent.
    pub endpoint: Option<QCryptoTLSCredsEndpoint>,
    /// What may be agreed on, in the words of GnuTLS; "NORMAL" if absent.
    pub priority: Option<String>,
    /// The user whose key a client has; "qemu" if absent.
    pub username: Option<String>,
}

impl Object for TlsCredsPskProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            verify_peer: from.optional("verify-peer")?,
            dir: from.optional("dir")?,
            endpoint: from.optional("endpoint")?,
            priority: from.optional("priority")?,
            username: from.optional("username")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("verify-peer", &self.verify_peer);
        to.put_optional("dir", &self.dir);
        to.put_optional("endpoint", &self.endpoint);
        to.put_optional("priority", &self.priority);
        to.put_optional("username", &self.username);
    }
}
object_codec!(TlsCredsPskProperties);

/// Certificates for TLS, in files as ca-cert.pem, server-cert.pem, server-key.pem.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsCredsX509Properties {
    /// Whether a server asks for the client's certificate, and a client judges the server's; so if absent.
    pub verify_peer: Option<bool>,
    /// The folder with their files.
    pub dir: Option<String>,
    /// The end that they are for; client if absent.
    pub endpoint: Option<QCryptoTLSCredsEndpoint>,
    /// What may be agreed on, in the words of GnuTLS; "NORMAL" if absent.
    pub priority: Option<String>,
    /// Whether they are judged when they are read; they are if absent.
    pub sanity_check: Option<bool>,
    /// The secret with the password of the key.
    pub passwordid: Option<String>,
}

impl Object for TlsCredsX509Properties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            verify_peer: from.optional("verify-peer")?,
            dir: from.optional("dir")?,
            endpoint: from.optional("endpoint")?,
            priority: from.optional("priority")?,
            sanity_check: from.optional("sanity-check")?,
            passwordid: from.optional("passwordid")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("verify-peer", &self.verify_peer);
        to.put_optional("dir", &self.dir);
        to.put_optional("endpoint", &self.endpoint);
        to.put_optional("priority", &self.priority);
        to.put_optional("sanity-check", &self.sanity_check);
        to.put_optional("passwordid", &self.passwordid);
    }
}
object_codec!(TlsCredsX509Properties);

/// A worker.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IothreadProperties {
    /// Most requests submitted at once; 0 leaves it to the program.
    pub aio_max_batch: Option<i64>,
    /// Threads kept ready for blocking calls.
    pub thread_pool_min: Option<i64>,
    /// Most threads for blocking calls.
    pub thread_pool_max: Option<i64>,
    /// Longest time in nanoseconds to poll before sleeping; 0 turns polling off.
    pub poll_max_ns: Option<i64>,
    /// Factor by which polling grows.
    pub poll_grow: Option<i64>,
    /// Divisor by which polling shrinks.
    pub poll_shrink: Option<i64>,
}

impl Object for IothreadProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            aio_max_batch: from.optional("aio-max-batch")?,
            thread_pool_min: from.optional("thread-pool-min")?,
            thread_pool_max: from.optional("thread-pool-max")?,
            poll_max_ns: from.optional("poll-max-ns")?,
            poll_grow: from.optional("poll-grow")?,
            poll_shrink: from.optional("poll-shrink")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("aio-max-batch", &self.aio_max_batch);
        to.put_optional("thread-pool-min", &self.thread_pool_min);
        to.put_optional("thread-pool-max", &self.thread_pool_max);
        to.put_optional("poll-max-ns", &self.poll_max_ns);
        to.put_optional("poll-grow", &self.poll_grow);
        to.put_optional("poll-shrink", &self.poll_shrink);
    }
}
object_codec!(IothreadProperties);

/// How a secret is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QCryptoSecretFormat {
    /// As it is.
    Raw,
    /// In base64.
    Base64,
}

impl Enumeration for QCryptoSecretFormat {
    const VALUES: &'static [(&'static str, Self)] = &[("raw", Self::Raw), ("base64", Self::Base64)];
}
enumeration_codec!(QCryptoSecretFormat);

/// A password or key, given as text or in a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SecretProperties {
    /// How it is written; raw if absent.
    pub format: Option<QCryptoSecretFormat>,
    /// The secret.
    pub data: Option<String>,
    /// The file that holds the secret.
    pub file: Option<String>,
    /// The secret that this one is encrypted with.
    pub keyid: Option<String>,
    /// The initialisation vector of its encryption, in base64.
    pub iv: Option<String>,
}

impl Object for SecretProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            format: from.optional("format")?,
            data: from.optional("data")?,
            file: from.optional("file")?,
            keyid: from.optional("keyid")?,
            iv: from.optional("iv")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("format", &self.format);
        to.put_optional("data", &self.data);
        to.put_optional("file", &self.file);
        to.put_optional("keyid", &self.keyid);
        to.put_optional("iv", &self.iv);
    }
}
object_codec!(SecretProperties);

/// Limits of I/O. Each may have a burst, for a time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ThrottleLimits {
    /// Requests per second.
    pub iops_total: Option<i64>,
    /// Requests per second in a burst.
    pub iops_total_max: Option<i64>,
    /// Longest burst in seconds.
    pub iops_total_max_length: Option<i64>,
    /// Reads per second.
    pub iops_read: Option<i64>,
    /// Reads per second in a burst.
    pub iops_read_max: Option<i64>,
    /// Longest burst in seconds.
    pub iops_read_max_length: Option<i64>,
    /// Writes per second.
    pub iops_write: Option<i64>,
    /// Writes per second in a burst.
    pub iops_write_max: Option<i64>,
    /// Longest burst in seconds.
    pub iops_write_max_length: Option<i64>,
    /// Bytes per second.
    pub bps_total: Option<i64>,
    /// Bytes per second in a burst.
    pub bps_total_max: Option<i64>,
    /// Longest burst in seconds.
    pub bps_total_max_length: Option<i64>,
    /// Bytes read per second.
    pub bps_read: Option<i64>,
    /// Bytes read per second in a burst.
    pub bps_read_max: Option<i64>,
    /// Longest burst in seconds.
    pub bps_read_max_length: Option<i64>,
    /// Bytes written per second.
    pub bps_write: Option<i64>,
    /// Bytes written per second in a burst.
    pub bps_write_max: Option<i64>,
    /// Longest burst in seconds.
    pub bps_write_max_length: Option<i64>,
    /// Bytes up to which a request counts as one.
    pub iops_size: Option<i64>,
}

impl Object for ThrottleLimits {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            iops_total: from.optional("iops-total")?,
            iops_total_max: from.optional("iops-total-max")?,
            iops_total_max_length: from.optional("iops-total-max-length")?,
            iops_read: from.optional("iops-read")?,
            iops_read_max: from.optional("iops-read-max")?,
            iops_read_max_length: from.optional("iops-read-max-length")?,
            iops_write: from.optional("iops-write")?,
            iops_write_max: from.optional("iops-write-max")?,
            iops_write_max_length: from.optional("iops-write-max-length")?,
            bps_total: from.optional("bps-total")?,
            bps_total_max: from.optional("bps-total-max")?,
            bps_total_max_length: from.optional("bps-total-max-length")?,
            bps_read: from.optional("bps-read")?,
            bps_read_max: from.optional("bps-read-max")?,
            bps_read_max_length: from.optional("bps-read-max-length")?,
            bps_write: from.optional("bps-write")?,
            bps_write_max: from.optional("bps-write-max")?,
            bps_write_max_length: from.optional("bps-write-max-length")?,
            iops_size: from.optional("iops-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("iops-total", &self.iops_total);
        to.put_optional("iops-total-max", &self.iops_total_max);
        to.put_optional("iops-total-max-length", &self.iops_total_max_length);
        to.put_optional("iops-read", &self.iops_read);
        to.put_optional("iops-read-max", &self.iops_read_max);
        to.put_optional("iops-read-max-length", &self.iops_read_max_length);
        to.put_optional("iops-write", &self.iops_write);
        to.put_optional("iops-write-max", &self.iops_write_max);
        to.put_optional("iops-write-max-length", &self.iops_write_max_length);
        to.put_optional("bps-total", &self.bps_total);
        to.put_optional("bps-total-max", &self.bps_total_max);
        to.put_optional("bps-total-max-length", &self.bps_total_max_length);
        to.put_optional("bps-read", &self.bps_read);
        to.put_optional("bps-read-max", &self.bps_read_max);
        to.put_optional("bps-read-max-length", &self.bps_read_max_length);
        to.put_optional("bps-write", &self.bps_write);
        to.put_optional("bps-write-max", &self.bps_write_max);
        to.put_optional("bps-write-max-length", &self.bps_write_max_length);
        to.put_optional("iops-size", &self.iops_size);
    }
}
object_codec!(ThrottleLimits);

/// Limits that several nodes share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ThrottleGroupProperties {
    /// The limits; none if absent.
    pub limits: Option<ThrottleLimits>,
    /// The same as `iops-total` of the limits.
    pub x_iops_total: Option<i64>,
    /// The same as `iops-total-max` of the limits.
    pub x_iops_total_max: Option<i64>,
    /// The same as `iops-total-max-length` of the limits.
    pub x_iops_total_max_length: Option<i64>,
    /// The same as `iops-read` of the limits.
    pub x_iops_read: Option<i64>,
    /// The same as `iops-read-max` of the limits.
    pub x_iops_read_max: Option<i64>,
    /// The same as `iops-read-max-length` of the limits.
    pub x_iops_read_max_length: Option<i64>,
    /// The same as `iops-write` of the limits.
    pub x_iops_write: Option<i64>,
    /// The same as `iops-write-max` of the limits.
    pub x_iops_write_max: Option<i64>,
    /// The same as `iops-write-max-length` of the limits.
    pub x_iops_write_max_length: Option<i64>,
    /// The same as `bps-total` of the limits.
    pub x_bps_total: Option<i64>,
    /// The same as `bps-total-max` of the limits.
    pub x_bps_total_max: Option<i64>,
    /// The same as `bps-total-max-length` of the limits.
    pub x_bps_total_max_length: Option<i64>,
    /// The same as `bps-read` of the limits.
    pub x_bps_read: Option<i64>,
    /// The same as `bps-read-max` of the limits.
    pub x_bps_read_max: Option<i64>,
    /// The same as `bps-read-max-length` of the limits.
    pub x_bps_read_max_length: Option<i64>,
    /// The same as `bps-write` of the limits.
    pub x_bps_write: Option<i64>,
    /// The same as `bps-write-max` of the limits.
    pub x_bps_write_max: Option<i64>,
    /// The same as `bps-write-max-length` of the limits.
    pub x_bps_write_max_length: Option<i64>,
    /// The same as `iops-size` of the limits.
    pub x_iops_size: Option<i64>,
}

impl Object for ThrottleGroupProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            limits: from.optional("limits")?,
            x_iops_total: from.optional("x-iops-total")?,
            x_iops_total_max: from.optional("x-iops-total-max")?,
            x_iops_total_max_length: from.optional("x-iops-total-max-length")?,
            x_iops_read: from.optional("x-iops-read")?,
            x_iops_read_max: from.optional("x-iops-read-max")?,
            x_iops_read_max_length: from.optional("x-iops-read-max-length")?,
            x_iops_write: from.optional("x-iops-write")?,
            x_iops_write_max: from.optional("x-iops-write-max")?,
            x_iops_write_max_length: from.optional("x-iops-write-max-length")?,
            x_bps_total: from.optional("x-bps-total")?,
            x_bps_total_max: from.optional("x-bps-total-max")?,
            x_bps_total_max_length: from.optional("x-bps-total-max-length")?,
            x_bps_read: from.optional("x-bps-read")?,
            x_bps_read_max: from.optional("x-bps-read-max")?,
            x_bps_read_max_length: from.optional("x-bps-read-max-length")?,
            x_bps_write: from.optional("x-bps-write")?,
            x_bps_write_max: from.optional("x-bps-write-max")?,
            x_bps_write_max_length: from.optional("x-bps-write-max-length")?,
            x_iops_size: from.optional("x-iops-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("limits", &self.limits);
        to.put_optional("x-iops-total", &self.x_iops_total);
        to.put_optional("x-iops-total-max", &self.x_iops_total_max);
        to.put_optional("x-iops-total-max-length", &self.x_iops_total_max_length);
        to.put_optional("x-iops-read", &self.x_iops_read);
        to.put_optional("x-iops-read-max", &self.x_iops_read_max);
        to.put_optional("x-iops-read-max-length", &self.x_iops_read_max_length);
        to.put_optional("x-iops-write", &self.x_iops_write);
        to.put_optional("x-iops-write-max", &self.x_iops_write_max);
        to.put_optional("x-iops-write-max-length", &self.x_iops_write_max_length);
        to.put_optional("x-bps-total", &self.x_bps_total);
        to.put_optional("x-bps-total-max", &self.x_bps_total_max);
        to.put_optional("x-bps-total-max-length", &self.x_bps_total_max_length);
        to.put_optional("x-bps-read", &self.x_bps_read);
        to.put_optional("x-bps-read-max", &self.x_bps_read_max);
        to.put_optional("x-bps-read-max-length", &self.x_bps_read_max_length);
        to.put_optional("x-bps-write", &self.x_bps_write);
        to.put_optional("x-bps-write-max", &self.x_bps_write_max);
        to.put_optional("x-bps-write-max-length", &self.x_bps_write_max_length);
        to.put_optional("x-iops-size", &self.x_iops_size);
    }
}
object_codec!(ThrottleGroupProperties);

/// The part of [`ObjectOptions`] that depends on `qom-type`.
#[derive(Debug, Clone, PartialEq)]
pub enum ObjectOptionsBranch {
    /// `authz-list`.
    AuthzList(AuthZListProperties),
    /// `authz-listfile`.
    AuthzListfile(AuthZListFileProperties),
    /// `authz-simple`.
    AuthzSimple(AuthZSimpleProperties),
    /// `iothread`.
    Iothread(IothreadProperties),
    /// `secret`.
    Secret(SecretProperties),
    /// `throttle-group`.
    ThrottleGroup(ThrottleGroupProperties),
    /// `tls-creds-psk`.
    TlsCredsPsk(TlsCredsPskProperties),
    /// `tls-creds-x509`.
    TlsCredsX509(TlsCredsX509Properties),
}

impl ObjectOptionsBranch {
    /// The value of `qom-type` that goes with this branch.
    pub fn qom_type(&self) -> ObjectType {
        match self {
            Self::AuthzList(_) => ObjectType::AuthzList,
            Self::AuthzListfile(_) => ObjectType::AuthzListfile,
            Self::AuthzSimple(_) => ObjectType::AuthzSimple,
            Self::Iothread(_) => ObjectType::Iothread,
            Self::Secret(_) => ObjectType::Secret,
            Self::ThrottleGroup(_) => ObjectType::ThrottleGroup,
            Self::TlsCredsPsk(_) => ObjectType::TlsCredsPsk,
            Self::TlsCredsX509(_) => ObjectType::TlsCredsX509,
        }
    }

    fn take_branch(tag: ObjectType, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            ObjectType::AuthzList => Self::AuthzList(Object::take(from)?),
            ObjectType::AuthzListfile => Self::AuthzListfile(Object::take(from)?),
            ObjectType::AuthzSimple => Self::AuthzSimple(Object::take(from)?),
            ObjectType::Iothread => Self::Iothread(Object::take(from)?),
            ObjectType::Secret => Self::Secret(Object::take(from)?),
            ObjectType::ThrottleGroup => Self::ThrottleGroup(Object::take(from)?),
            ObjectType::TlsCredsPsk => Self::TlsCredsPsk(Object::take(from)?),
            ObjectType::TlsCredsX509 => Self::TlsCredsX509(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::AuthzList(inner) => inner.put(to),
            Self::AuthzListfile(inner) => inner.put(to),
            Self::AuthzSimple(inner) => inner.put(to),
            Self::Iothread(inner) => inner.put(to),
            Self::Secret(inner) => inner.put(to),
            Self::ThrottleGroup(inner) => inner.put(to),
            Self::TlsCredsPsk(inner) => inner.put(to),
            Self::TlsCredsX509(inner) => inner.put(to),
        }
    }
}

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectOptions {
    /// Its name.
    pub id: String,
    /// What depends on `qom-type`.
    pub branch: ObjectOptionsBranch,
}

impl Object for ObjectOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("qom-type")?;
        let id = from.required("id")?;
        let branch = ObjectOptionsBranch::take_branch(tag, from)?;
        Ok(Self { id, branch })
    }

    fn put(&self, to: &mut Dict) {
        to.put("qom-type", &self.branch.qom_type());
        to.put("id", &self.id);
        self.branch.put_branch(to);
    }
}
object_codec!(ObjectOptions);

/// Arguments of `object-del`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectDelArguments {
    /// The object.
    pub id: String,
}

impl Object for ObjectDelArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(ObjectDelArguments);

/// A property of an object, or an object inside of another.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectPropertyInfo {
    /// Its name.
    pub name: String,
    /// Its type; "child\<TYPE\>" for an object.
    pub r#type: String,
    /// What it is.
    pub description: Option<String>,
    /// Its value where nothing was said.
    pub default_value: Option<Value>,
}

impl Object for ObjectPropertyInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.required("name")?,
            r#type: from.required("type")?,
            description: from.optional("description")?,
            default_value: from.optional("default-value")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put("type", &self.r#type);
        to.put_optional("description", &self.description);
        to.put_optional("default-value", &self.default_value);
    }
}
object_codec!(ObjectPropertyInfo);

/// Arguments of `qom-list`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomListArguments {
    /// The object: /objects/ID, or ID alone.
    pub path: String,
}

impl Object for QomListArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { path: from.required("path")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("path", &self.path);
    }
}
object_codec!(QomListArguments);

/// Arguments of `qom-get`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomGetArguments {
    /// The object.
    pub path: String,
    /// The property.
    pub property: String,
}

impl Object for QomGetArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { path: from.required("path")?, property: from.required("property")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("path", &self.path);
        to.put("property", &self.property);
    }
}
object_codec!(QomGetArguments);

/// Arguments of `qom-set`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomSetArguments {
    /// The object.
    pub path: String,
    /// The property.
    pub property: String,
    /// Its new value.
    pub value: Value,
}

impl Object for QomSetArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            path: from.required("path")?,
            property: from.required("property")?,
            value: from.required("value")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("path", &self.path);
        to.put("property", &self.property);
        to.put("value", &self.value);
    }
}
object_codec!(QomSetArguments);

/// A property of an object with its value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectPropertyValue {
    /// Its name.
    pub name: String,
    /// Its type.
    pub r#type: String,
    /// Its value, where it can be read.
    pub value: Option<Value>,
}

impl Object for ObjectPropertyValue {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.required("name")?,
            r#type: from.required("type")?,
            value: from.optional("value")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put("type", &self.r#type);
        to.put_optional("value", &self.value);
    }
}
object_codec!(ObjectPropertyValue);

/// The properties of one object.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectPropertiesValues {
    /// They.
    pub properties: Vec<ObjectPropertyValue>,
}

impl Object for ObjectPropertiesValues {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { properties: from.required("properties")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("properties", &self.properties);
    }
}
object_codec!(ObjectPropertiesValues);

/// Arguments of `qom-list-get`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomListGetArguments {
    /// The objects.
    pub paths: Vec<String>,
}

impl Object for QomListGetArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { paths: from.required("paths")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("paths", &self.paths);
    }
}
object_codec!(QomListGetArguments);

/// A type of objects.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObjectTypeInfo {
    /// Its name.
    pub name: String,
    /// Whether no object is of it alone; not, if absent.
    pub r#abstract: Option<bool>,
    /// The type that it is derived from.
    pub parent: Option<String>,
}

impl Object for ObjectTypeInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.required("name")?,
            r#abstract: from.optional("abstract")?,
            parent: from.optional("parent")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put_optional("abstract", &self.r#abstract);
        to.put_optional("parent", &self.parent);
    }
}
object_codec!(ObjectTypeInfo);

/// Arguments of `qom-list-types`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomListTypesArguments {
    /// Only those that are derived from this one.
    pub implements: Option<String>,
    /// Also those that no object is of alone.
    pub r#abstract: Option<bool>,
}

impl Object for QomListTypesArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { implements: from.optional("implements")?, r#abstract: from.optional("abstract")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("implements", &self.implements);
        to.put_optional("abstract", &self.r#abstract);
    }
}
object_codec!(QomListTypesArguments);

/// Arguments of `qom-list-properties`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QomListPropertiesArguments {
    /// The type.
    pub typename: String,
}

impl Object for QomListPropertiesArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { typename: from.required("typename")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("typename", &self.typename);
    }
}
object_codec!(QomListPropertiesArguments);

/// A worker that a user named.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IOThreadInfo {
    /// Its name.
    pub id: String,
    /// The operating system's number of its thread; of the program, since connections are distributed by load.
    pub thread_id: i64,
    /// Longest time in nanoseconds to poll before sleeping.
    pub poll_max_ns: i64,
    /// Factor by which polling grows; 0 for the program's own choice.
    pub poll_grow: i64,
    /// Divisor by which polling shrinks; 0 for the program's own choice.
    pub poll_shrink: i64,
    /// Most requests submitted at once; 0 for the program's own choice.
    pub aio_max_batch: i64,
}

impl Object for IOThreadInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: from.required("id")?,
            thread_id: from.required("thread-id")?,
            poll_max_ns: from.required("poll-max-ns")?,
            poll_grow: from.required("poll-grow")?,
            poll_shrink: from.required("poll-shrink")?,
            aio_max_batch: from.required("aio-max-batch")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
        to.put("thread-id", &self.thread_id);
        to.put("poll-max-ns", &self.poll_max_ns);
        to.put("poll-grow", &self.poll_grow);
        to.put("poll-shrink", &self.poll_shrink);
        to.put("aio-max-batch", &self.aio_max_batch);
    }
}
object_codec!(IOThreadInfo);

/// The handlers of section `qom`.
pub trait QomCommands: Send + Sync {
    /// Makes an object.
    fn object_add(&self, arguments: ObjectOptions) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Removes an object that nothing uses.
    fn object_del(&self, arguments: ObjectDelArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lists the properties of an object.
    ///
    /// Returns: The properties.
    fn qom_list(
        &self,
        arguments: QomListArguments,
    ) -> impl Future<Output = Result<Vec<ObjectPropertyInfo>, QmpError>> + Send;

    /// Reads a property of an object.
    ///
    /// Returns: Its value.
    fn qom_get(&self, arguments: QomGetArguments) -> impl Future<Output = Result<Value, QmpError>> + Send;

    /// Changes a property of an object.
    fn qom_set(&self, arguments: QomSetArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lists the properties of objects with their values.
    ///
    /// Returns: The properties of each.
    fn qom_list_get(
        &self,
        arguments: QomListGetArguments,
    ) -> impl Future<Output = Result<Vec<ObjectPropertiesValues>, QmpError>> + Send;

    /// Lists the types of objects.
    ///
    /// Returns: The types.
    fn qom_list_types(
        &self,
        arguments: QomListTypesArguments,
    ) -> impl Future<Output = Result<Vec<ObjectTypeInfo>, QmpError>> + Send;

    /// Lists the properties of a type of objects.
    ///
    /// Returns: The properties.
    fn qom_list_properties(
        &self,
        arguments: QomListPropertiesArguments,
    ) -> impl Future<Output = Result<Vec<ObjectPropertyInfo>, QmpError>> + Send;

    /// Lists the workers that users named.
    ///
    /// Returns: Their figures.
    fn query_iothreads(&self) -> impl Future<Output = Result<Vec<IOThreadInfo>, QmpError>> + Send;
}
