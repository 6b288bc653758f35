// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Connections that no longer answer, and how to give them up.

use crate::codec::*;
use crate::{Dict, QmpError};

/// What has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum YankInstanceType {
    /// A node.
    BlockNode,
    /// A stream of a monitor.
    Chardev,
    /// A hand-over to another machine.
    Migration,
}

impl Enumeration for YankInstanceType {
    const VALUES: &'static [(&'static str, Self)] =
        &[("block-node", Self::BlockNode), ("chardev", Self::Chardev), ("migration", Self::Migration)];
}
enumeration_codec!(YankInstanceType);

/// A node with a connection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct YankInstanceBlockNode {
    /// Its name.
    pub node_name: String,
}

impl Object for YankInstanceBlockNode {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { node_name: from.required("node-name")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("node-name", &self.node_name);
    }
}
object_codec!(YankInstanceBlockNode);

/// A stream with a connection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct YankInstanceChardev {
    /// Its name.
    pub id: String,
}

impl Object for YankInstanceChardev {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
    }
}
object_codec!(YankInstanceChardev);

/// Something with a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum YankInstance {
    /// `block-node`.
    BlockNode(YankInstanceBlockNode),
    /// `chardev`.
    Chardev(YankInstanceChardev),
    /// `migration`.
    Migration,
}

impl YankInstance {
    /// The value of `type` that goes with this branch.
    pub fn r#type(&self) -> YankInstanceType {
        match self {
            Self::BlockNode(_) => YankInstanceType::BlockNode,
            Self::Chardev(_) => YankInstanceType::Chardev,
            Self::Migration => YankInstanceType::Migration,
        }
    }

    fn take_branch(tag: YankInstanceType, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            YankInstanceType::BlockNode => Self::BlockNode(Object::take(from)?),
            YankInstanceType::Chardev => Self::Chardev(Object::take(from)?),
            YankInstanceType::Migration => Self::Migration,
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::BlockNode(inner) => inner.put(to),
            Self::Chardev(inner) => inner.put(to),
            Self::Migration => {}
        }
    }
}

impl Object for YankInstance {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("type")?;
        Self::take_branch(tag, from)
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.r#type());
        self.put_branch(to);
    }
}
object_codec!(YankInstance);

/// Arguments of `yank`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct YankArguments {
    /// What the connections are of.
    pub instances: Vec<YankInstance>,
}

impl Object for YankArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { instances: from.required("instances")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("instances", &self.instances);
    }
}
object_codec!(YankArguments);

/// The handlers of section `yank`.
pub trait YankCommands: Send + Sync {
    /// Gives up connections: requests that wait for the other side fail at once, and so do later ones. If one of the instances is
    /// not there, nothing is done.
    fn yank(&self, arguments: YankArguments) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lists what has a connection that can be given up.
    fn query_yank(&self) -> impl Future<Output = Result<Vec<YankInstance>, QmpError>> + Send;
}
