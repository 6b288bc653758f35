//! Exports, and the NBD server.
use super::failed;
use crate::control::Control;
use api::*;
use exports::{
    AllowOther, ExportInfo, ExportSpec, ExportedBitmap, FuseKind, NbdOptions, NbdServer, RemoveMode,
    ServerOptions, ServerTls,
};
use rt::net::{Address, Listener};
use std::time::Duration;
use tls::{Authorizer, Credentials, Endpoint};

/// How long the end of an export without clients is waited for.
const GOES_AT_ONCE: Duration = Duration::from_millis(500);

/// A schema address as the runtime's.
fn address(address: &SocketAddress) -> Result<Address, QmpError> {
    match address {
        SocketAddress::Unix(unix) => Ok(Address::Unix(unix.path.clone().into())),
        SocketAddress::Fd(fd) => Err(QmpError::generic(format!("'{}' is a socket, not an address", fd.str))),
        SocketAddress::Inet(inet) => {
            let port = inet.port.parse();
            let port =
                port.map_err(|_| QmpError::generic(format!("'{}' is not a port number", inet.port)))?;
            Ok(Address::Tcp { host: inet.host.clone(), port })
        }
        SocketAddress::Vsock(vsock) => Address::vsock(&vsock.cid, &vsock.port).map_err(QmpError::generic),
    }
}

/// Listens at an address of the schema.
async fn listen(at: &SocketAddress) -> Result<Vec<Listener>, QmpError> {
    let mut listeners = NbdServer::listen(&address(at)?).await.map_err(failed)?;
    if let SocketAddress::Inet(inet) = at {
        // `ipv4=off` leaves IPv4 out, `ipv4=on` alone leaves IPv6 out; and the other way round.
        let ipv4 = inet.ipv4.unwrap_or(inet.ipv6 != Some(true));
        let ipv6 = inet.ipv6.unwrap_or(inet.ipv4 != Some(true));
        listeners.retain(|l| match l.local_addr() {
            Some(Address::Tcp { host, .. }) => {
                if host.contains(':') {
                    ipv6
                } else {
                    ipv4
                }
            }
            _ => true,
        });
        if listeners.is_empty() {
            return Err(QmpError::generic(format!("'{}' has no address of the family asked for", inet.host)));
        }
    }
    Ok(listeners)
}

impl Control {
    /// Listens at an address of the schema, or on the socket that it means.
    pub(crate) async fn listen(&self, at: &SocketAddress) -> Result<Vec<Listener>, QmpError> {
        let SocketAddress::Fd(fd) = at else { return listen(at).await };
        let socket = self.descriptors().socket(&fd.str).and_then(Listener::from_raw_fd);
        let wrong = |e| QmpError::generic(format!("File descriptor '{}' can't be listened on: {e}", fd.str));
        socket.map(|listener| vec![listener]).map_err(wrong)
    }

    /// TLS of a server with these objects.
    fn server_tls(
        &self,
        credentials: Option<&str>,
        authz: Option<&str>,
    ) -> Result<Option<ServerTls>, QmpError> {
        let objects = self.graph().objects();
        let Some(credentials) = credentials else {
            let alone = || QmpError::generic("'tls-authz' is of use only with 'tls-creds'");
            return authz.map_or(Ok(None), |_| Err(alone()));
        };
        let credentials = Credentials::find(objects, credentials, Endpoint::Server).map_err(failed)?;
        let authorizer = authz.map(|id| Authorizer::new(objects, id));
        Ok(Some(ServerTls { credentials, authorizer }))
    }

    /// Starts the NBD server.
    pub(crate) async fn start_nbd_server(&self, options: NbdServerOptions) -> Result<(), QmpError> {
        if self.nbd().server().is_some() {
            return Err(failed(exports::ExportError::AlreadyRunning));
        }
        let defaults = ServerOptions::default();
        let limits = ServerOptions {
            max_connections: options.max_connections.map_or(defaults.max_connections, |n| n as usize),
            handshake_deadline: match options.handshake_max_seconds {
                None => defaults.handshake_deadline,
                Some(0) => None,
                Some(seconds) => Some(Duration::from_secs(seconds.into())),
            },
            tls: self.server_tls(options.tls_creds.as_deref(), options.tls_authz.as_deref())?,
            ..defaults
        };
        let listeners = self.listen(&options.addr).await?;
        self.nbd().start(listeners, limits).map_err(failed)?;
        Ok(())
    }
}

/// An export in the schema's words.
fn info(export: ExportInfo) -> Result<BlockExportInfo, QmpError> {
    let unknown =
        || QmpError::generic(format!("export '{}' is of an unknown kind, '{}'", export.id, export.kind));
    Ok(BlockExportInfo {
        r#type: BlockExportType::from_name(export.kind).ok_or_else(unknown)?,
        id: export.id,
        node_name: export.node_name,
        shutting_down: export.shutting_down,
    })
}

fn exported(bitmap: BlockDirtyBitmapOrStr) -> ExportedBitmap {
    match bitmap {
        BlockDirtyBitmapOrStr::Local(name) => ExportedBitmap { node: None, name },
        BlockDirtyBitmapOrStr::External(of) => ExportedBitmap { node: Some(of.node), name: of.name },
    }
}

fn fuse_kind(options: BlockExportOptionsFuse) -> FuseKind {
    FuseKind {
        mountpoint: options.mountpoint.into(),
        growable: options.growable.unwrap_or(false),
        allow_other: match options.allow_other {
            None | Some(FuseExportAllowOther::Auto) => AllowOther::Auto,
            Some(FuseExportAllowOther::On) => AllowOther::On,
            Some(FuseExportAllowOther::Off) => AllowOther::Off,
        },
    }
}

impl BlockExportCommands for Control {
    async fn nbd_server_start(&self, arguments: NbdServerStartArguments) -> Result<(), QmpError> {
        let NbdServerStartArguments { addr, handshake_max_seconds, tls_creds, tls_authz, max_connections } =
            arguments;
        let addr = match addr {
            SocketAddressLegacy::Inet(inet) => SocketAddress::Inet(inet),
            SocketAddressLegacy::Unix(unix) => SocketAddress::Unix(unix),
            SocketAddressLegacy::Vsock(vsock) => SocketAddress::Vsock(vsock),
            SocketAddressLegacy::Fd(fd) => SocketAddress::Fd(fd),
        };
        let options = NbdServerOptions { addr, handshake_max_seconds, tls_creds, tls_authz, max_connections };
        self.start_nbd_server(options).await
    }

    async fn nbd_server_stop(&self) -> Result<(), QmpError> {
        self.nbd().stop(self.exports()).await.map_err(failed)
    }

    async fn block_export_add(&self, arguments: BlockExportOptions) -> Result<(), QmpError> {
        let spec = ExportSpec {
            id: arguments.id,
            node_name: arguments.node_name,
            writable: arguments.writable.unwrap_or(false),
            writethrough: arguments.writethrough.unwrap_or(false),
            iothread: arguments.iothread,
            allow_inactive: arguments.allow_inactive.unwrap_or(false),
        };
        let added = match arguments.branch {
            BlockExportOptionsBranch::Nbd(BlockExportOptionsNbd {
                name,
                description,
                bitmaps,
                allocation_depth,
            }) => {
                let bitmaps = bitmaps.unwrap_or_default().into_iter().map(exported).collect();
                let allocation_depth = allocation_depth.unwrap_or(false);
                let options = NbdOptions { name, description, bitmaps, allocation_depth };
                self.exports().add(spec, self.nbd().export(options)).await
            }
            BlockExportOptionsBranch::Fuse(options) => self.exports().add(spec, fuse_kind(options)).await,
        };
        added.map_err(failed)
    }

    async fn nbd_server_add(&self, arguments: NbdServerAddOptions) -> Result<(), QmpError> {
        if self.nbd().server().is_none() {
            return Err(QmpError::generic("NBD server not running"));
        }
        let NbdServerAddOptions { name, description, device, writable, bitmap } = arguments;
        let node = self.graph().need_node(&device).map_err(failed)?;
        let id = name.unwrap_or_else(|| device.clone());
        let spec = ExportSpec {
            id: id.clone(),
            node_name: device,
            writable: writable.unwrap_or(false) && !node.read_only(),
            ..ExportSpec::default()
        };
        let bitmaps = bitmap.map(|name| ExportedBitmap { node: None, name }).into_iter().collect();
        let options = NbdOptions { name: Some(id), description, bitmaps, allocation_depth: false };
        self.exports().add(spec, self.nbd().export(options)).await.map_err(failed)
    }

    async fn nbd_server_remove(&self, arguments: NbdServerRemoveArguments) -> Result<(), QmpError> {
        let NbdServerRemoveArguments { name, mode } = arguments;
        self.block_export_del(BlockExportDelArguments { id: name, mode }).await
    }

    async fn block_export_del(&self, arguments: BlockExportDelArguments) -> Result<(), QmpError> {
        let mode = match arguments.mode {
            Some(BlockExportRemoveMode::Hard) => RemoveMode::Hard,
            None | Some(BlockExportRemoveMode::Safe) => RemoveMode::Safe,
        };
        if self.exports().remove(&arguments.id, mode).map_err(failed)? {
            // It is gone before this is answered, unless its last flush takes long.
            let gone = self.exports().wait_gone(std::slice::from_ref(&arguments.id));
            let _ = rt::timeout(GOES_AT_ONCE, gone).await;
        }
        Ok(())
    }

    async fn query_block_exports(&self) -> Result<Vec<BlockExportInfo>, QmpError> {
        self.exports().list().into_iter().map(info).collect()
    }
}
