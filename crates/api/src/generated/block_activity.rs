// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Which program has a node active, and which worker its requests go to.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// Arguments of `blockdev-set-active`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevSetActiveArguments {
    /// The node; all of them if absent.
    pub node_name: Option<String>,
    /// Whether they belong to this program.
    pub active: bool,
}

impl Object for BlockdevSetActiveArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { node_name: from.optional("node-name")?, active: from.required("active")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("node-name", &self.node_name);
        to.put("active", &self.active);
    }
}
object_codec!(BlockdevSetActiveArguments);

/// Arguments of `x-blockdev-set-iothread`.
#[derive(Debug, Clone, PartialEq)]
pub struct XBlockdevSetIothreadArguments {
    /// The node.
    pub node_name: String,
    /// The worker; null for the first.
    pub iothread: StrOrNull,
    /// Whether a node that is in use may be put elsewhere too.
    pub force: Option<bool>,
}

impl Object for XBlockdevSetIothreadArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node_name: from.required("node-name")?,
            iothread: from.required("iothread")?,
            force: from.optional("force")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node-name", &self.node_name);
        to.put("iothread", &self.iothread);
        to.put_optional("force", &self.force);
    }
}
object_codec!(XBlockdevSetIothreadArguments);

/// The handlers of section `block-activity`.
pub trait BlockActivityCommands: Send + Sync {
    /// Takes images over, or lets them go to another program. A node that is let go writes what it holds back, gives back its
    /// locks, and is only read
    /// until it is taken over; so do those below it that nobody else uses.
    fn blockdev_set_active(
        &self,
        arguments: BlockdevSetActiveArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Puts a node on another worker. Requests go to the least busy one, whichever is named.
    fn x_blockdev_set_iothread(
        &self,
        arguments: XBlockdevSetIothreadArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
