// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! The graph of nodes and their users, for people who look for a fault.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// What stands in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum XDbgBlockGraphNodeType {
    /// An entry: a device, an export, or what else reaches a node.
    BlockBackend,
    /// A job.
    BlockJob,
    /// A node.
    BlockDriver,
}

impl Enumeration for XDbgBlockGraphNodeType {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("block-backend", Self::BlockBackend),
        ("block-job", Self::BlockJob),
        ("block-driver", Self::BlockDriver),
    ];
}
enumeration_codec!(XDbgBlockGraphNodeType);

/// A node, or a user of nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct XDbgBlockGraphNode {
    /// Its number in this answer.
    pub id: u64,
    /// What it is.
    pub r#type: XDbgBlockGraphNodeType,
    /// Its name: that of the node, the device or the job; empty for others.
    pub name: String,
}

impl Object for XDbgBlockGraphNode {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")?, r#type: from.required("type")?, name: from.required("name")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
        to.put("type", &self.r#type);
        to.put("name", &self.name);
    }
}
object_codec!(XDbgBlockGraphNode);

/// That a node is used.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct XDbgBlockGraphEdge {
    /// The user's number.
    pub parent: u64,
    /// The node's number.
    pub child: u64,
    /// What the node is to its user.
    pub name: String,
    /// What the user does with it.
    pub perm: Vec<BlockPermission>,
    /// What others may do with it meanwhile.
    pub shared_perm: Vec<BlockPermission>,
}

impl Object for XDbgBlockGraphEdge {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            parent: from.required("parent")?,
            child: from.required("child")?,
            name: from.required("name")?,
            perm: from.required("perm")?,
            shared_perm: from.required("shared-perm")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("parent", &self.parent);
        to.put("child", &self.child);
        to.put("name", &self.name);
        to.put("perm", &self.perm);
        to.put("shared-perm", &self.shared_perm);
    }
}
object_codec!(XDbgBlockGraphEdge);

/// The graph.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct XDbgBlockGraph {
    /// Nodes and their users.
    pub nodes: Vec<XDbgBlockGraphNode>,
    /// Who uses what.
    pub edges: Vec<XDbgBlockGraphEdge>,
}

impl Object for XDbgBlockGraph {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { nodes: from.required("nodes")?, edges: from.required("edges")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("nodes", &self.nodes);
        to.put("edges", &self.edges);
    }
}
object_codec!(XDbgBlockGraph);

/// The handlers of section `block-graph`.
pub trait BlockGraphCommands: Send + Sync {
    /// Shows the graph with the permissions of every use.
    ///
    /// Features:
    fn x_debug_query_block_graph(&self) -> impl Future<Output = Result<XDbgBlockGraph, QmpError>> + Send;
}
