// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Nodes: how they are added, changed and removed.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// Arguments of `blockdev-del`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevDelArguments {
    /// The node.
    pub node_name: String,
}

impl Object for BlockdevDelArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { node_name: from.required("node-name")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node-name", &self.node_name);
    }
}
object_codec!(BlockdevDelArguments);

/// Arguments of `blockdev-reopen`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockdevReopenArguments {
    /// The nodes with all their options.
    pub options: Vec<BlockdevOptions>,
}

impl Object for BlockdevReopenArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { options: from.required("options")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("options", &self.options);
    }
}
object_codec!(BlockdevReopenArguments);

/// Arguments of `block_passwd`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockPasswdArguments {
    /// The device.
    pub device: Option<String>,
    /// The node.
    pub node_name: Option<String>,
    /// The password.
    pub password: String,
}

impl Object for BlockPasswdArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.optional("device")?,
            node_name: from.optional("node-name")?,
            password: from.required("password")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("device", &self.device);
        to.put_optional("node-name", &self.node_name);
        to.put("password", &self.password);
    }
}
object_codec!(BlockPasswdArguments);

/// Arguments of `block_resize`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockResizeArguments {
    /// The device.
    pub device: Option<String>,
    /// The node.
    pub node_name: Option<String>,
    /// The new size in bytes.
    pub size: i64,
}

impl Object for BlockResizeArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.optional("device")?,
            node_name: from.optional("node-name")?,
            size: from.required("size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("device", &self.device);
        to.put_optional("node-name", &self.node_name);
        to.put("size", &self.size);
    }
}
object_codec!(BlockResizeArguments);

/// Arguments of `x-blockdev-change`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct XBlockdevChangeArguments {
    /// The node or device.
    pub parent: String,
    /// The name of a child to take away.
    pub child: Option<String>,
    /// The node to add.
    pub node: Option<String>,
}

impl Object for XBlockdevChangeArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            parent: from.required("parent")?,
            child: from.optional("child")?,
            node: from.optional("node")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("parent", &self.parent);
        to.put_optional("child", &self.child);
        to.put_optional("node", &self.node);
    }
}
object_codec!(XBlockdevChangeArguments);

/// The handlers of section `block-nodes`.
pub trait BlockNodesCommands: Send + Sync {
    /// Makes a node, and those written inside it.
    fn blockdev_add(&self, arguments: BlockdevOptions) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Removes a node that nothing uses.
    fn blockdev_del(
        &self,
        arguments: BlockdevDelArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Gives nodes new options, all of them or none. An option that is left out gets its default.
    fn blockdev_reopen(
        &self,
        arguments: BlockdevReopenArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Judges a password of an encrypted image: whether it opens the image. Images are opened with their secrets, so that there is none
    /// that waits for this command. QEMU had it up to version 6.
    fn block_passwd(
        &self,
        arguments: BlockPasswdArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Changes the size of a device or node. Data beyond a smaller size is lost.
    fn block_resize(
        &self,
        arguments: BlockResizeArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Adds a child to a node, or takes one away, where the node's driver has such children.
    fn x_blockdev_change(
        &self,
        arguments: XBlockdevChangeArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
