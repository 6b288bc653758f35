// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Changes of what an image is, by a job.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// What every kind of encryption has.
#[derive(Debug, Clone, PartialEq)]
pub struct QCryptoBlockAmendOptionsBase {
    /// Its kind.
    pub format: QCryptoBlockFormat,
}

impl Object for QCryptoBlockAmendOptionsBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { format: from.required("format")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("format", &self.format);
    }
}
object_codec!(QCryptoBlockAmendOptionsBase);

/// A change of an image's encryption; the old AES encryption has nothing that can be changed.
#[derive(Debug, Clone, PartialEq)]
pub enum QCryptoBlockAmendOptions {
    /// `qcow`.
    Qcow,
    /// `luks`.
    Luks(QCryptoBlockAmendOptionsLUKS),
}

impl QCryptoBlockAmendOptions {
    /// The value of `format` that goes with this branch.
    pub fn format(&self) -> QCryptoBlockFormat {
        match self {
            Self::Qcow => QCryptoBlockFormat::Qcow,
            Self::Luks(_) => QCryptoBlockFormat::Luks,
        }
    }

    fn take_branch(tag: QCryptoBlockFormat, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            QCryptoBlockFormat::Qcow => Self::Qcow,
            QCryptoBlockFormat::Luks => Self::Luks(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Qcow => {}
            Self::Luks(inner) => inner.put(to),
        }
    }
}

impl Object for QCryptoBlockAmendOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("format")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("format", &self.format());
        self.put_branch(to);
    }
}
object_codec!(QCryptoBlockAmendOptions);

/// A change of a qcow2 image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevAmendOptionsQcow2 {
    /// That of its encryption.
    pub encrypt: Option<QCryptoBlockAmendOptions>,
}

impl Object for BlockdevAmendOptionsQcow2 {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { encrypt: from.optional("encrypt")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("encrypt", &self.encrypt);
    }
}
object_codec!(BlockdevAmendOptionsQcow2);

/// The drivers whose images can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockdevAmendDriver {
    /// An encrypted volume in the LUKS format.
    Luks,
    /// An image in the qcow2 format.
    Qcow2,
}

impl Enumeration for BlockdevAmendDriver {
    const VALUES: &'static [(&'static str, Self)] = &[("luks", Self::Luks), ("qcow2", Self::Qcow2)];
}
enumeration_codec!(BlockdevAmendDriver);

/// What every change of an image has.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockdevAmendOptionsBase {
    /// The node's driver.
    pub driver: BlockdevAmendDriver,
}

impl Object for BlockdevAmendOptionsBase {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { driver: from.required("driver")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("driver", &self.driver);
    }
}
object_codec!(BlockdevAmendOptionsBase);

/// A change of an image.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockdevAmendOptions {
    /// `luks`.
    Luks(QCryptoBlockAmendOptionsLUKS),
    /// `qcow2`.
    Qcow2(BlockdevAmendOptionsQcow2),
}

impl BlockdevAmendOptions {
    /// The value of `driver` that goes with this branch.
    pub fn driver(&self) -> BlockdevAmendDriver {
        match self {
            Self::Luks(_) => BlockdevAmendDriver::Luks,
            Self::Qcow2(_) => BlockdevAmendDriver::Qcow2,
        }
    }

    fn take_branch(tag: BlockdevAmendDriver, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            BlockdevAmendDriver::Luks => Self::Luks(Object::take(from)?),
            BlockdevAmendDriver::Qcow2 => Self::Qcow2(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Luks(inner) => inner.put(to),
            Self::Qcow2(inner) => inner.put(to),
        }
    }
}

impl Object for BlockdevAmendOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("driver")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("driver", &self.driver());
        self.put_branch(to);
    }
}
object_codec!(BlockdevAmendOptions);

/// Arguments of `x-blockdev-amend`.
#[derive(Debug, Clone, PartialEq)]
pub struct XBlockdevAmendArguments {
    /// Identifier of the job.
    pub job_id: String,
    /// The node.
    pub node_name: String,
    /// What is changed.
    pub options: BlockdevAmendOptions,
    /// Whether what takes something away for good is done, too; not if absent.
    pub force: Option<bool>,
}

impl Object for XBlockdevAmendArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            job_id: from.required("job-id")?,
            node_name: from.required("node-name")?,
            options: from.required("options")?,
            force: from.optional("force")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("job-id", &self.job_id);
        to.put("node-name", &self.node_name);
        to.put("options", &self.options);
        to.put_optional("force", &self.force);
    }
}
object_codec!(XBlockdevAmendArguments);

/// The handlers of section `block-amend`.
pub trait BlockAmendCommands: Send + Sync {
    /// Changes options of an image's format, such as its passphrases. The job waits to be dismissed.
    ///
    /// Features:
    fn x_blockdev_amend(
        &self,
        arguments: XBlockdevAmendArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
