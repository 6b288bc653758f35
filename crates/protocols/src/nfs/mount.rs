//! From a path to a file of a server: ports, the folder that is mounted, symbolic links.
//!
//! ```text
//! portmapper ─ports─▶ mount service ─▶ folder ─▶ LOOKUP ─▶ file
//!                          ▲                       └▶ link: its target in place of the path
//!                          └──── another path ◀────────┘
//! ```
//!
//! The folder of the file is mounted, as QEMU does. A server that exports only a folder above it is asked for that, and the rest of
//! the path is looked up.
//!
//! Bounds: [`LINKS`] links and [`FOLDERS`] folders are followed.

use super::connection::{Connection, Peer};
use super::location::Location;
use super::reply;
use crate::way::Connection as _;
use block::{BlockError, ErrorKind, Result};
use nfs::limits;
use nfs::mount::{Mount, MountStatus};
use nfs::portmap::{self, GetAddress, GetPort};
use nfs::v3::{self, Attributes, FileType, Handle, Info, Lookup, Name};
use nfs::xdr::Text;
use rt::net::Dial;
use std::sync::Arc;

/// Symbolic links that are followed on the way to a file, as Linux does.
const LINKS: usize = 40;
/// Folders of a path that are tried to be mounted, or looked up.
const FOLDERS: usize = 64;
/// The way to say who one is that is spoken here.
const AUTH_SYS: u32 = 1;
/// Too many links.
const ELOOP: i32 = 40;

/// A connection that is closed when this is dropped, unless it is kept.
struct Held(Arc<Connection>, bool);

impl Held {
    async fn open(peer: &Peer, port: u16, service: &str) -> Result<Self> {
        Ok(Self(Connection::open(peer, port, service).await?, false))
    }

    fn keep(mut self) -> Arc<Connection> {
        self.1 = true;
        self.0.clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.1 {
            self.0.leave();
        }
    }
}

/// The way to a file of a server.
pub(super) struct Server {
    peer: Peer,
    location: Location,
}

/// A folder of a server, and a name in it.
pub(super) struct Place {
    /// To the NFS service.
    pub connection: Arc<Connection>,
    /// What the name is to be looked up in.
    pub at: Name,
}

/// A file that was found.
pub(super) struct FoundFile {
    pub handle: Handle,
    pub attributes: Attributes,
    /// What the server takes.
    pub info: Info,
    pub connection: Arc<Connection>,
}

impl Server {
    /// Of a location.
    pub fn new(location: Location, peer: Peer) -> Self {
        Self { peer, location }
    }

    /// A connection to its NFS service.
    pub async fn connect(&self) -> Result<Arc<Connection>> {
        Ok(self.held().await?.keep())
    }

    async fn held(&self) -> Result<Held> {
        let given = self.location.nfs_port;
        match self.port(given, v3::PROGRAM, v3::VERSION, "NFS service").await {
            Ok(port) => Held::open(&self.peer, port, "NFS service").await,
            // Servers of version 4 need no portmapper, and have one port.
            Err(error) => match Held::open(&self.unprivileged(), v3::PORT, "NFS service").await {
                Ok(connection) => Err(lacking(&connection.0, error).await),
                Err(_) => Err(error),
            },
        }
    }

    /// A portmapper does not mind from where it is asked; privileged ports are few.
    fn unprivileged(&self) -> Peer {
        let dial = Dial { privileged: false, ..self.peer.dial };
        Peer { dial, ..self.peer.clone() }
    }

    /// The port of a service: as it was given, or as the portmapper says.
    async fn port(&self, given: Option<u16>, program: u32, version: u32, service: &str) -> Result<u16> {
        if let Some(port) = given {
            return Ok(port);
        }
        let portmapper = Held::open(&self.unprivileged(), self.peer.portmapper, "portmapper").await?;
        let answer = self.ask(&portmapper.0, program, version).await;
        let port = answer.map_err(|e| e.context("could not ask the portmapper"))?;
        port.filter(|port| *port != 0).ok_or_else(|| {
            let text = format!(
                "the portmapper of '{}' knows no {service} of version {version} over TCP",
                self.location.host
            );
            BlockError::new(ErrorKind::NotFound, text)
        })
    }

    async fn ask(&self, connection: &Connection, program: u32, version: u32) -> Result<Option<u16>> {
        let call = GetPort { program, version, protocol: portmap::TCP, port: 0 };
        match connection.call(&call).await {
            Ok(port) => {
                let wrong = |_| BlockError::new(ErrorKind::Io, format!("it answers with the port {port}"));
                u16::try_from(port).map(Some).map_err(wrong)
            }
            // Over IPv6 only the newer protocol is spoken.
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let transport = if self.location.host.contains(':') { "tcp6" } else { "tcp" };
                let empty = || Text(String::new());
                let transport = Text(transport.to_owned());
                let call = GetAddress { program, version, transport, address: empty(), owner: empty() };
                Ok(portmap::port_of(&connection.call(&call).await?.0))
            }
            Err(error) => Err(error),
        }
    }

    /// Follows the path to its last name, which is not looked up.
    pub async fn place(&self) -> Result<Place> {
        self.in_time(async {
            let connection = self.held().await?;
            let at = self.mounted(&connection.0, &self.location.path).await?;
            Ok(Place { connection: connection.keep(), at })
        })
        .await
    }

    /// Finds the file that the path leads to.
    pub async fn find(&self) -> Result<FoundFile> {
        self.in_time(async {
            let connection = self.held().await?;
            let (handle, attributes, info) = self.find_over(&connection.0).await?;
            Ok(FoundFile { handle, attributes, info, connection: connection.keep() })
        })
        .await
    }

    /// The whole way, however many calls it takes, is made in bounded time.
    async fn in_time<T>(&self, way: impl Future<Output = Result<T>>) -> Result<T> {
        let most = self.peer.patience.longest;
        let late = |_| {
            let text = format!("'{}' could not be found within {} s", self.peer.name, most.as_secs_f32());
            BlockError::new(ErrorKind::Timeout, text)
        };
        rt::timeout(most, way).await.map_err(late)?
    }

    async fn mounted(&self, connection: &Connection, path: &str) -> Result<Name> {
        let given = self.location.mount_port;
        let service = async {
            let port = self.port(given, nfs::mount::PROGRAM, nfs::mount::VERSION, "mount service").await?;
            Held::open(&self.peer, port, "mount service").await
        };
        match service.await {
            Ok(service) => self.mount(&service.0, connection, path).await,
            Err(error) => Err(lacking(connection, error).await),
        }
    }

    async fn mount(&self, service: &Connection, connection: &Connection, path: &str) -> Result<Name> {
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        if path.len() > limits::PATH || names.len() > FOLDERS {
            return Err(BlockError::new(ErrorKind::Limit, format!("the path '{path}' is too long")));
        }
        let Some((name, folders)) = names.split_last() else {
            return Err(BlockError::invalid(format!("'{path}' is no path of a file")));
        };
        let mut denied = None;
        for depth in (0..=folders.len()).rev() {
            let (mounted, rest) = folders.split_at(depth);
            let folder = format!("/{}", mounted.join("/"));
            let root = match service.call(&Mount { path: Text(folder.clone()) }).await?.0 {
                Ok(root) => root,
                Err(status) => {
                    denied.get_or_insert((folder, status));
                    continue;
                }
            };
            if !root.flavors.is_empty() && !root.flavors.contains(&AUTH_SYS) {
                let text = format!(
                    "the server exports '{folder}' only to those who prove who they are (Kerberos), which is not supported"
                );
                return Err(BlockError::new(ErrorKind::Permission, text));
            }
            let mut at = root.handle;
            for name in rest {
                at = lookup(connection, &Name { folder: at, name: Text((*name).to_owned()) }, path).await?.0;
            }
            return Ok(Name { folder: at, name: Text((*name).to_owned()) });
        }
        let (folder, status) = denied.unwrap_or_else(|| ("/".to_owned(), MountStatus::NOT_FOUND));
        let kind = match status {
            MountStatus::NOT_FOUND => ErrorKind::NotFound,
            MountStatus::ACCESS => ErrorKind::Permission,
            _ => ErrorKind::Io,
        };
        let text =
            format!("the folder '{folder}' of '{}' could not be mounted: {status}", self.location.host);
        Err(BlockError::new(kind, text))
    }

    async fn find_over(&self, connection: &Connection) -> Result<(Handle, Attributes, Info)> {
        let mut path = self.location.path.clone();
        for _ in 0..=LINKS {
            let at = self.mounted(connection, &path).await?;
            let (file, attributes) = lookup(connection, &at, &path).await?;
            if attributes.kind != FileType::Link {
                need_regular(attributes.kind, &path)?;
                let info = reply(connection.call(&v3::FileSystemInfo { of: file.clone() }).await)
                    .map_err(|e| e.context("asking the server what it takes"))?;
                return Ok((file, attributes, info));
            }
            let target = reply(connection.call(&v3::ReadLink { link: file }).await)
                .map_err(|e| e.context(format_args!("reading the symbolic link '{path}'")))?;
            path = followed(&path, &target.path.0);
        }
        let error = std::io::Error::from_raw_os_error(ELOOP);
        Err(BlockError::os(format!("following '{}'", self.location.path), &error))
    }
}

/// The error of a server that lacks a service: where it does not speak this version of NFS at all, that is the reason.
async fn lacking(connection: &Connection, error: BlockError) -> BlockError {
    match connection.call(&v3::Null).await {
        Err(refusal) if refusal.kind() == ErrorKind::Unsupported => refusal,
        _ => error,
    }
}

/// A file and what is known of it.
pub(super) async fn lookup(connection: &Connection, at: &Name, path: &str) -> Result<(Handle, Attributes)> {
    let what = || format!("looking up '{}' of '{path}'", at.name.0);
    let found = reply(connection.call(&Lookup { of: at.clone() }).await).map_err(|e| e.context(what()))?;
    let attributes = match found.attributes {
        Some(attributes) => attributes,
        None => reply(connection.call(&v3::GetAttributes { file: found.file.clone() }).await)
            .map_err(|e| e.context(what()))?,
    };
    Ok((found.file, attributes))
}

/// Refuses what is no file with content.
pub(super) fn need_regular(kind: FileType, path: &str) -> Result<()> {
    let what = match kind {
        FileType::Regular => return Ok(()),
        FileType::Folder => "a folder",
        FileType::BlockDevice | FileType::CharacterDevice => "a device",
        FileType::Link => "a symbolic link",
        FileType::Socket => "a socket",
        FileType::Pipe => "a named pipe",
    };
    Err(BlockError::invalid(format!("'{path}' is {what} there, not a regular file")))
}

/// Where a link at `path` leads, as a path at the server.
fn followed(path: &str, target: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let joined = if target.starts_with('/') { target.to_owned() } else { format!("{folder}/{target}") };
    let mut names = Vec::new();
    for name in joined.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::followed;

    #[test]
    fn a_link_leads_from_where_it_is() {
        for (path, target, leads) in [
            ("/exp/link", "disk", "/exp/disk"),
            ("/exp/link", "../other/./disk", "/other/disk"),
            ("/exp/link", "/far/disk", "/far/disk"),
            ("/exp/link", "../../../..", "/"),
            ("/exp/link", "", "/exp"),
        ] {
            assert_eq!(followed(path, target), leads);
        }
    }
}
