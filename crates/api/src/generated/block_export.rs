// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Nodes offered to clients.

use super::*;
use crate::codec::*;
use crate::{Dict, QmpError};

/// The NBD server, as the command line takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct NbdServerOptions {
    /// Where it listens.
    pub addr: SocketAddress,
    /// Seconds a client has for the handshake; 0 is no limit, 10 if absent.
    pub handshake_max_seconds: Option<u32>,
    /// Credentials for TLS, which clients have to begin then.
    pub tls_creds: Option<String>,
    /// An object that says which clients are let in; all whom the credentials know, if absent.
    pub tls_authz: Option<String>,
    /// Clients served at once; 0 is no limit, 100 if absent.
    pub max_connections: Option<u32>,
}

impl Object for NbdServerOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            addr: from.required("addr")?,
            handshake_max_seconds: from.optional("handshake-max-seconds")?,
            tls_creds: from.optional("tls-creds")?,
            tls_authz: from.optional("tls-authz")?,
            max_connections: from.optional("max-connections")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("addr", &self.addr);
        to.put_optional("handshake-max-seconds", &self.handshake_max_seconds);
        to.put_optional("tls-creds", &self.tls_creds);
        to.put_optional("tls-authz", &self.tls_authz);
        to.put_optional("max-connections", &self.max_connections);
    }
}
object_codec!(NbdServerOptions);

/// Arguments of `nbd-server-start`.
#[derive(Debug, Clone, PartialEq)]
pub struct NbdServerStartArguments {
    /// Where it listens.
    pub addr: SocketAddressLegacy,
    /// Seconds a client has for the handshake; 0 is no limit, 10 if absent.
    pub handshake_max_seconds: Option<u32>,
    /// Credentials for TLS, which clients have to begin then.
    pub tls_creds: Option<String>,
    /// An object that says which clients are let in; all whom the credentials know, if absent.
    pub tls_authz: Option<String>,
    /// Clients served at once; 0 is no limit, 100 if absent.
    pub max_connections: Option<u32>,
}

impl Object for NbdServerStartArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            addr: from.required("addr")?,
            handshake_max_seconds: from.optional("handshake-max-seconds")?,
            tls_creds: from.optional("tls-creds")?,
            tls_authz: from.optional("tls-authz")?,
            max_connections: from.optional("max-connections")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("addr", &self.addr);
        to.put_optional("handshake-max-seconds", &self.handshake_max_seconds);
        to.put_optional("tls-creds", &self.tls_creds);
        to.put_optional("tls-authz", &self.tls_authz);
        to.put_optional("max-connections", &self.max_connections);
    }
}
object_codec!(NbdServerStartArguments);

/// The ways to offer a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockExportType {
    /// Through the NBD server.
    Nbd,
    /// As a regular file, mounted over another one.
    Fuse,
}

impl Enumeration for BlockExportType {
    const VALUES: &'static [(&'static str, Self)] = &[("nbd", Self::Nbd), ("fuse", Self::Fuse)];
}
enumeration_codec!(BlockExportType);

/// An export through NBD.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockExportOptionsNbd {
    /// The name that clients ask for; the node's name if absent.
    pub name: Option<String>,
    /// Free text for clients, at most 4096 bytes.
    pub description: Option<String>,
    /// Dirty bitmaps that clients may ask for, under the names "qemu:dirty-bitmap:" and the bitmap's; they are in use as
    /// long as the export is there.
    pub bitmaps: Option<Vec<BlockDirtyBitmapOrStr>>,
    /// Whether clients may ask which layer of a chain holds a range, under the name "qemu:allocation-depth" (off).
    pub allocation_depth: Option<bool>,
}

impl Object for BlockExportOptionsNbd {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.optional("name")?,
            description: from.optional("description")?,
            bitmaps: from.optional("bitmaps")?,
            allocation_depth: from.optional("allocation-depth")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("name", &self.name);
        to.put_optional("description", &self.description);
        to.put_optional("bitmaps", &self.bitmaps);
        to.put_optional("allocation-depth", &self.allocation_depth);
    }
}
object_codec!(BlockExportOptionsNbd);

/// Whether users other than the program's may use the file, as far as its permissions let them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FuseExportAllowOther {
    /// They may not.
    Off,
    /// They may, or there is no export.
    On,
    /// They may, where the system lets the program say so.
    Auto,
}

impl Enumeration for FuseExportAllowOther {
    const VALUES: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("on", Self::On), ("auto", Self::Auto)];
}
enumeration_codec!(FuseExportAllowOther);

/// An export as a regular file. It ends when it is unmounted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockExportOptionsFuse {
    /// The regular file that is mounted over; it may be the image itself.
    pub mountpoint: String,
    /// Whether writes beyond the end make the node longer; they do not if absent.
    pub growable: Option<bool>,
    /// Who may use the file; auto if absent.
    pub allow_other: Option<FuseExportAllowOther>,
}

impl Object for BlockExportOptionsFuse {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            mountpoint: from.required("mountpoint")?,
            growable: from.optional("growable")?,
            allow_other: from.optional("allow-other")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("mountpoint", &self.mountpoint);
        to.put_optional("growable", &self.growable);
        to.put_optional("allow-other", &self.allow_other);
    }
}
object_codec!(BlockExportOptionsFuse);

/// The part of [`BlockExportOptions`] that depends on `type`.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockExportOptionsBranch {
    /// `nbd`.
    Nbd(BlockExportOptionsNbd),
    /// `fuse`.
    Fuse(BlockExportOptionsFuse),
}

impl BlockExportOptionsBranch {
    /// The value of `type` that goes with this branch.
    pub fn r#type(&self) -> BlockExportType {
        match self {
            Self::Nbd(_) => BlockExportType::Nbd,
            Self::Fuse(_) => BlockExportType::Fuse,
        }
    }

    fn take_branch(tag: BlockExportType, from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(match tag {
            BlockExportType::Nbd => Self::Nbd(Object::take(from)?),
            BlockExportType::Fuse => Self::Fuse(Object::take(from)?),
        })
    }

    fn put_branch(&self, to: &mut Dict) {
        match self {
            Self::Nbd(inner) => inner.put(to),
            Self::Fuse(inner) => inner.put(to),
        }
    }
}

/// An export.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockExportOptions {
    /// Identifier of the export.
    pub id: String,
    /// Whether the export stays on its worker; it may move if absent.
    pub fixed_iothread: Option<bool>,
    /// The worker that serves it.
    pub iothread: Option<String>,
    /// The node.
    pub node_name: String,
    /// Whether clients may write; they may not if absent.
    pub writable: Option<bool>,
    /// Whether each write is flushed before it is answered.
    pub writethrough: Option<bool>,
    /// Whether the node may be inactive, or become so: clients can only read it then. If not, or absent, an inactive node
    /// is taken over, and does not become inactive as long as the export is there.
    pub allow_inactive: Option<bool>,
    /// What depends on `type`.
    pub branch: BlockExportOptionsBranch,
}

impl Object for BlockExportOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        let tag = from.required("type")?;
        let id = from.required("id")?;
        let fixed_iothread = from.optional("fixed-iothread")?;
        let iothread = from.optional("iothread")?;
        let node_name = from.required("node-name")?;
        let writable = from.optional("writable")?;
        let writethrough = from.optional("writethrough")?;
        let allow_inactive = from.optional("allow-inactive")?;
        let branch = BlockExportOptionsBranch::take_branch(tag, from)?;
        Ok(Self { id, fixed_iothread, iothread, node_name, writable, writethrough, allow_inactive, branch })
    }

    fn put(&self, to: &mut Dict) {
        to.put("type", &self.branch.r#type());
        to.put("id", &self.id);
        to.put_optional("fixed-iothread", &self.fixed_iothread);
        to.put_optional("iothread", &self.iothread);
        to.put("node-name", &self.node_name);
        to.put_optional("writable", &self.writable);
        to.put_optional("writethrough", &self.writethrough);
        to.put_optional("allow-inactive", &self.allow_inactive);
        self.branch.put_branch(to);
    }
}
object_codec!(BlockExportOptions);

/// How to end an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockExportRemoveMode {
    /// Only if no client is connected.
    Safe,
    /// Drop all clients.
    Hard,
}

impl Enumeration for BlockExportRemoveMode {
    const VALUES: &'static [(&'static str, Self)] = &[("safe", Self::Safe), ("hard", Self::Hard)];
}
enumeration_codec!(BlockExportRemoveMode);

/// Arguments of `block-export-del`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockExportDelArguments {
    /// The export.
    pub id: String,
    /// How to end it; safe if absent.
    pub mode: Option<BlockExportRemoveMode>,
}

impl Object for BlockExportDelArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { id: from.required("id")?, mode: from.optional("mode")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
        to.put_optional("mode", &self.mode);
    }
}
object_codec!(BlockExportDelArguments);

/// An export.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockExportInfo {
    /// Its identifier.
    pub id: String,
    /// The way the node is offered.
    pub r#type: BlockExportType,
    /// The node.
    pub node_name: String,
    /// Whether it is about to end.
    pub shutting_down: bool,
}

impl Object for BlockExportInfo {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: from.required("id")?,
            r#type: from.required("type")?,
            node_name: from.required("node-name")?,
            shutting_down: from.required("shutting-down")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
        to.put("type", &self.r#type);
        to.put("node-name", &self.node_name);
        to.put("shutting-down", &self.shutting_down);
    }
}
object_codec!(BlockExportInfo);

/// An export, as the first form of the command has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NbdServerAddOptions {
    /// Its name for clients, and its id; that of the device if absent.
    pub name: Option<String>,
    /// What clients are told of it.
    pub description: Option<String>,
    /// The device or node.
    pub device: String,
    /// Whether clients may write; not if absent, nor where the node is read-only.
    pub writable: Option<bool>,
    /// A dirty bitmap that clients may read.
    pub bitmap: Option<String>,
}

impl Object for NbdServerAddOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.optional("name")?,
            description: from.optional("description")?,
            device: from.required("device")?,
            writable: from.optional("writable")?,
            bitmap: from.optional("bitmap")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("name", &self.name);
        to.put_optional("description", &self.description);
        to.put("device", &self.device);
        to.put_optional("writable", &self.writable);
        to.put_optional("bitmap", &self.bitmap);
    }
}
object_codec!(NbdServerAddOptions);

/// Arguments of `nbd-server-remove`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NbdServerRemoveArguments {
    /// The export.
    pub name: String,
    /// Whether clients that use it are disconnected.
    pub mode: Option<BlockExportRemoveMode>,
}

impl Object for NbdServerRemoveArguments {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { name: from.required("name")?, mode: from.optional("mode")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put_optional("mode", &self.mode);
    }
}
object_codec!(NbdServerRemoveArguments);

/// The handlers of section `block-export`.
pub trait BlockExportCommands: Send + Sync {
    /// Starts the NBD server. Exports are added one by one.
    fn nbd_server_start(
        &self,
        arguments: NbdServerStartArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Stops the NBD server, with all its exports.
    fn nbd_server_stop(&self) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Offers a node to clients.
    fn block_export_add(
        &self,
        arguments: BlockExportOptions,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Ends an export. It is gone when BLOCK_EXPORT_DELETED says so.
    fn block_export_del(
        &self,
        arguments: BlockExportDelArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Exports a device or node. `block-export-add` does more.
    fn nbd_server_add(
        &self,
        arguments: NbdServerAddOptions,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Ends an export. `block-export-del` does the same.
    fn nbd_server_remove(
        &self,
        arguments: NbdServerRemoveArguments,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;

    /// Lists all exports.
    fn query_block_exports(&self) -> impl Future<Output = Result<Vec<BlockExportInfo>, QmpError>> + Send;
}
