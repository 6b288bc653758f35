//! Where an export is: options, and the file names that stand for them.
//!
//! ```text
//! nbd://host[:port][/export]   nbd+tcp://…   nbd+unix:///[export]?socket=path
//! nbd:host:port[:exportname=export]          nbd:unix:path[:exportname=export]
//! ```

use crate::uri::{escape, split_port, unescape};
use api::{BlockdevOptionsNbd, SocketAddress};
use block::{BlockError, Opt, Options, Result};
use rt::net::Address;
use std::path::PathBuf;

/// The registered port of the protocol.
const PORT: u16 = 10809;

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    /// Where it listens.
    At(Address),
    /// By a connected socket that was handed over: its name or number. It serves once.
    Socket(String),
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(address) => write!(f, "{}", address.place()),
            Self::Socket(name) => write!(f, "descriptor {name}"),
        }
    }
}

/// How TLS is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    /// The id of the credentials.
    pub credentials: String,
    /// The name that the server's certificate is for, where it is not that of its address.
    pub hostname: Option<String>,
}

/// A server and an export of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub server: Server,
    pub export: String,
    /// The server has to have TLS.
    pub tls: Option<Tls>,
    /// The metadata context that block status is asked of, where it is not that of the disk's allocation.
    pub context: Option<String>,
}

impl Location {
    /// The server and export that the driver's options mean.
    pub fn of(options: BlockdevOptionsNbd) -> Result<Self> {
        let server = match options.server {
            SocketAddress::Unix(unix) => Server::At(Address::Unix(PathBuf::from(unix.path))),
            SocketAddress::Inet(inet) => {
                Server::At(Address::Tcp { port: parse_port(&inet.port)?, host: inet.host })
            }
            SocketAddress::Vsock(vsock) => {
                Server::At(Address::vsock(&vsock.cid, &vsock.port).map_err(BlockError::invalid)?)
            }
            SocketAddress::Fd(fd) => Server::Socket(fd.str),
        };
        let (export, context) = (options.export.unwrap_or_default(), options.x_dirty_bitmap);
        let hostname = options.tls_hostname;
        let tls = options.tls_creds.map(|credentials| Tls { credentials, hostname });
        Ok(Self { server, export, tls, context })
    }

    /// The name that the certificate of a server in TLS has to be for; a UNIX socket has none of its own.
    pub fn hostname(&self) -> Option<&str> {
        let told = self.tls.as_ref().and_then(|tls| tls.hostname.as_deref());
        told.or(match &self.server {
            Server::At(Address::Tcp { host, .. }) => Some(host.as_str()),
            _ => None,
        })
    }

    /// The name by which the export is shown, and found again: a socket that was handed over only by whoever is handed
    /// one under the same name.
    pub fn filename(&self) -> String {
        let address = match &self.server {
            Server::At(address) => address,
            Server::Socket(name) => return self.json(&[("server.str", name)], "fd"),
        };
        let export = escape(&self.export);
        match address {
            Address::Vsock { cid, port } => {
                let numbers = [("server.cid", &cid.to_string()), ("server.port", &port.to_string())];
                self.json(&numbers.map(|(name, number)| (name, number.as_str())), "vsock")
            }
            Address::Unix(path) if export.is_empty() => format!("nbd+unix://?socket={}", path.display()),
            Address::Unix(path) => format!("nbd+unix:///{export}?socket={}", path.display()),
            tcp if export.is_empty() => format!("nbd://{tcp}"),
            tcp => format!("nbd://{tcp}/{export}"),
        }
    }

    /// The options as a name, of a kind of server that has no other.
    fn json(&self, server: &[(&str, &str)], kind: &str) -> String {
        let options =
            server.iter().fold(Options::new(), |options, (name, value)| options.with_str(name, value));
        let options = options.with_str("driver", "nbd").with_str("server.type", kind);
        let export = Some(&self.export).filter(|export| !export.is_empty());
        let options = export.into_iter().fold(options, |options, name| options.with_str("export", name));
        format!("json:{}", options.to_json())
    }
}

/// Turns a file name into options.
pub(super) fn parse_filename(name: &str) -> Result<Options> {
    let location = match name.split_once("://") {
        Some((scheme @ ("nbd" | "nbd+tcp" | "nbd+unix"), rest)) => {
            parse_uri(scheme, rest).ok_or_else(|| BlockError::invalid("No valid URL specified"))?
        }
        _ => parse_legacy(name.strip_prefix("nbd:").unwrap_or(name))?,
    };
    let mut server = Options::new();
    match location.server {
        Server::At(Address::Unix(path)) => {
            server.set("type", Opt::Str("unix".into()));
            server.set("path", Opt::Str(path.display().to_string()));
        }
        Server::At(Address::Tcp { host, port }) => {
            server.set("type", Opt::Str("inet".into()));
            server.set("host", Opt::Str(host));
            server.set("port", Opt::Str(port.to_string()));
        }
        Server::At(Address::Vsock { cid, port }) => {
            server.set("type", Opt::Str("vsock".into()));
            server.set("cid", Opt::Str(cid.to_string()));
            server.set("port", Opt::Str(port.to_string()));
        }
        Server::Socket(name) => {
            server.set("type", Opt::Str("fd".into()));
            server.set("str", Opt::Str(name));
        }
    }
    let options = Options::new().with("server", Opt::Dict(server));
    Ok(if location.export.is_empty() { options } else { options.with_str("export", &location.export) })
}

fn parse_uri(scheme: &str, rest: &str) -> Option<Location> {
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let export = unescape(path)?;
    if scheme == "nbd+unix" {
        let socket = unescape(query?.strip_prefix("socket=")?)?;
        let plain = authority.is_empty() && !socket.is_empty() && !query?.contains('&');
        return plain.then(|| Location {
            server: Server::At(Address::Unix(PathBuf::from(socket))),
            export,
            tls: None,
            context: None,
        });
    }
    if query.is_some() || authority.is_empty() {
        return None;
    }
    let (host, port) = split_port(authority)?;
    let address = Address::Tcp { host: host.to_owned(), port: port.unwrap_or(PORT) };
    Some(Location { server: Server::At(address), export, tls: None, context: None })
}

fn parse_legacy(rest: &str) -> Result<Location> {
    let (server, export) = match rest.split_once(":exportname=") {
        Some((_, "")) => return Err(BlockError::invalid("NBD server address missing")),
        Some((server, export)) => (server, export.to_owned()),
        None => (rest, String::new()),
    };
    if server.is_empty() {
        return Err(BlockError::invalid("NBD server address missing"));
    }
    if let Some(path) = server.strip_prefix("unix:") {
        return Ok(Location {
            server: Server::At(Address::Unix(PathBuf::from(path))),
            export,
            tls: None,
            context: None,
        });
    }
    match split_port(server) {
        Some((host, Some(port))) => Ok(Location {
            server: Server::At(Address::Tcp { host: host.to_owned(), port }),
            export,
            tls: None,
            context: None,
        }),
        _ => Err(BlockError::invalid(format!("error parsing address '{server}'"))),
    }
}

/// Converts the older flat form to the schema's, accepts options without effect here, and refuses what is not available.
pub(super) fn adapt(options: &mut Options) -> Result<()> {
    if options.get("tls-hostname").is_some() && options.get("tls-creds").is_none() {
        return Err(BlockError::invalid("tls-hostname is of use only with tls-creds"));
    }
    let server = match options.take_dict("server")? {
        Some(mut server) => {
            if ["host", "port", "path"].iter().any(|name| options.get(name).is_some()) {
                let text = "server and host/port/path may not be used at the same time";
                return Err(BlockError::invalid(text));
            }
            adapt_server(&mut server)?;
            server
        }
        None => flat_server(options)?,
    };
    options.set("server", Opt::Dict(server));
    Ok(())
}

/// The server's address in the older flat form, as the schema has it.
fn flat_server(options: &mut Options) -> Result<Options> {
    let (host, port, path) = (options.take("host"), options.take("port"), options.take("path"));
    let of = |kind| Options::new().with_str("type", kind);
    match (path, host) {
        (Some(_), Some(_)) => Err(BlockError::invalid("path and host may not be used at the same time")),
        (Some(_), None) if port.is_some() => Err(BlockError::invalid("port may not be used without host")),
        (Some(path), None) => Ok(of("unix").with("path", path)),
        (None, Some(host)) => {
            let port = port.unwrap_or_else(|| Opt::Str(PORT.to_string()));
            Ok(of("inet").with("host", host).with("port", port))
        }
        (None, None) => Err(BlockError::invalid("NBD server address missing")),
    }
}

fn adapt_server(server: &mut Options) -> Result<()> {
    match server.get_str("type") {
        Some("unix") => {
            if server.take_bool("abstract")?.unwrap_or(false) {
                return Err(BlockError::unsupported("abstract UNIX sockets are not supported"));
            }
            server.take_bool("tight")?;
        }
        Some("inet") => {
            // Preferences among address families: the resolver's order is used.
            for name in ["numeric", "keep-alive", "ipv4", "ipv6", "mptcp"] {
                server.take_bool(name)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn parse_port(text: &str) -> Result<u16> {
    text.parse().map_err(|_| BlockError::invalid(format!("'{text}' is no port number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: Options) -> Result<Location> {
        let mut options = options.nested();
        adapt(&mut options)?;
        Location::of(options.read()?)
    }

    fn location(name: &str) -> Result<Location> {
        read(parse_filename(name)?)
    }

    #[test]
    fn every_form_of_name_leads_to_the_same_place_and_back() {
        for (name, shown) in [
            ("nbd+unix:///foo?socket=/run/q.sock", "nbd+unix:///foo?socket=/run/q.sock"),
            ("nbd+unix:///?socket=/run/q.sock", "nbd+unix://?socket=/run/q.sock"),
            ("nbd+unix://?socket=/run/q.sock", "nbd+unix://?socket=/run/q.sock"),
            ("nbd+unix:///f%6fo?socket=/run/q%2Esock", "nbd+unix:///foo?socket=/run/q.sock"),
            ("nbd:unix:/run/q.sock:exportname=foo", "nbd+unix:///foo?socket=/run/q.sock"),
            ("nbd:unix:/run/q.sock", "nbd+unix://?socket=/run/q.sock"),
            ("nbd://localhost", "nbd://localhost:10809"),
            ("nbd://localhost:99/", "nbd://localhost:99"),
            ("nbd+tcp://localhost:99/a/b", "nbd://localhost:99/a/b"),
            ("nbd:localhost:99", "nbd://localhost:99"),
            ("nbd:localhost:99:exportname=a b", "nbd://localhost:99/a b"),
            ("nbd://[::1]:99/x", "nbd://[::1]:99/x"),
        ] {
            let first = location(name).unwrap();
            assert_eq!(first.filename(), shown, "{name}");
            assert_eq!(location(shown).unwrap(), first, "{shown}");
        }
    }

    #[test]
    fn a_socket_that_was_handed_over_is_named_as_its_options() {
        let server = |name: Opt| {
            let server = Options::new().with_str("type", "fd").with("str", name);
            read(Options::new().with_str("export", "disk").with("server", Opt::Dict(server))).unwrap()
        };
        assert_eq!(server(Opt::Int(7)), server(Opt::Str("7".into())));
        let named = server(Opt::Str("mine".into()));
        assert_eq!(named.server, Server::Socket("mine".into()));
        let shown = r#"json:{"server.str": "mine", "driver": "nbd", "export": "disk", "server.type": "fd"}"#;
        assert_eq!(named.filename(), shown);
        let vsock =
            Options::new().with_str("type", "vsock").with("cid", Opt::Int(2)).with_str("port", "10809");
        let far = read(Options::new().with("server", Opt::Dict(vsock))).unwrap();
        assert_eq!(far.server, Server::At(Address::Vsock { cid: 2, port: 10809 }));
        let shown =
            r#"json:{"server.cid": "2", "server.port": "10809", "driver": "nbd", "server.type": "vsock"}"#;
        assert_eq!((far.filename().as_str(), far.hostname()), (shown, None));
        let nameless = Options::new().with("server", Opt::Dict(Options::new().with_str("type", "fd")));
        assert!(read(nameless).is_err());
    }

    #[test]
    fn invalid_names_are_refused() {
        for name in [
            "nbd:",
            "nbd:foo",
            "nbd:localhost:x",
            "nbd:localhost:99:exportname=",
            "nbd+unix:///foo",
            "nbd+unix://host/foo?socket=/x",
            "nbd+unix:///foo?socket=/x&y=1",
            "nbd://localhost:1/?socket=/x",
            "nbd://localhost:99999",
            "nbd:///x",
            "nbd://h/%zz",
            "nbd://h/%ff",
        ] {
            assert!(location(name).is_err(), "{name}");
        }
    }
}
