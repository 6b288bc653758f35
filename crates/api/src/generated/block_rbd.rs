// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Images in Ceph clusters.

use crate::Dict;
use crate::codec::*;

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
