//! Where a machine goes to, or comes from, in the words of commands.
use crate::error::MigrationError;
use api::{MigrationAddress, MigrationChannel, MigrationChannelType, SocketAddress};
use std::path::PathBuf;

/// Where a machine goes to, or comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A UNIX domain socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// The host; empty for any, of who waits.
        host: String,
        /// The port.
        port: u16,
    },
    /// A descriptor, by its name or number.
    Descriptor(String),
    /// A program with its arguments.
    Program(Vec<String>),
    /// A file.
    File {
        /// Its name.
        name: String,
        /// Where the machine begins in it, in bytes.
        offset: u64,
    },
}

fn invalid(text: impl Into<String>) -> MigrationError {
    MigrationError::Invalid(text.into())
}

impl Place {
    /// The place that a URI means: `unix:PATH`, `tcp:HOST:PORT`, `fd:NAME`, `exec:COMMAND`, `file:NAME[,offset=N]`.
    pub fn parse(uri: &str) -> Result<Self, MigrationError> {
        let unknown = || invalid(format!("unknown migration protocol: {uri}"));
        let (kind, rest) = uri.split_once(':').ok_or_else(unknown)?;
        match kind {
            "unix" if rest.is_empty() => Err(invalid("the path of a socket is missing")),
            "unix" => Ok(Self::Unix(rest.split(',').next().unwrap_or_default().into())),
            "tcp" => tcp(rest),
            "fd" => Ok(Self::Descriptor(rest.to_owned())),
            "exec" => Ok(Self::Program(["/bin/sh", "-c", rest].map(str::to_owned).to_vec())),
            "file" => file(rest),
            _ => Err(unknown()),
        }
    }

    /// The place that members mean.
    pub fn of_channels(channels: Vec<MigrationChannel>) -> Result<Self, MigrationError> {
        let mut main = channels.into_iter();
        let (Some(channel), None) = (main.next(), main.next()) else {
            return Err(invalid("Channel list must have one main channel, and no other"));
        };
        if channel.channel_type != MigrationChannelType::Main {
            return Err(invalid("Channel list has no main channel"));
        }
        match channel.addr {
            MigrationAddress::Socket(SocketAddress::Unix(unix)) => Ok(Self::Unix(unix.path.into())),
            MigrationAddress::Socket(SocketAddress::Inet(inet)) => {
                tcp(&format!("{}:{}", inet.host, inet.port))
            }
            MigrationAddress::Socket(SocketAddress::Vsock(_)) => {
                Err(invalid("migration over vsock is not supported"))
            }
            MigrationAddress::Socket(SocketAddress::Fd(fd)) => Ok(Self::Descriptor(fd.str)),
            MigrationAddress::Exec(exec) if exec.args.is_empty() => Err(invalid("a program is missing")),
            MigrationAddress::Exec(exec) => Ok(Self::Program(exec.args)),
            MigrationAddress::File(file) => Ok(Self::File { name: file.filename, offset: file.offset }),
            MigrationAddress::Rdma(_) => Err(invalid("RDMA is not there")),
        }
    }

    /// Of the two shapes that commands have, the one that is given.
    pub fn of(uri: Option<String>, channels: Option<Vec<MigrationChannel>>) -> Result<Self, MigrationError> {
        match (uri, channels.filter(|channels| !channels.is_empty())) {
            (Some(uri), None) => Self::parse(&uri),
            (None, Some(channels)) => Self::of_channels(channels),
            (None, None) => Err(invalid("need either 'uri' or 'channels' argument")),
            (Some(_), Some(_)) => Err(invalid(
                "'uri' and 'channels' arguments are mutually exclusive; exactly one of the two should be present",
            )),
        }
    }
}

fn tcp(address: &str) -> Result<Place, MigrationError> {
    let wrong = || invalid(format!("error parsing address '{address}'"));
    let address = address.split(',').next().unwrap_or_default();
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(Place::Tcp { host: host.to_owned(), port: port.parse().map_err(|_| wrong())? })
}

fn file(rest: &str) -> Result<Place, MigrationError> {
    let (name, offset) = match rest.rsplit_once(",offset=") {
        Some((name, offset)) => {
            let wrong = || invalid(format!("file URI has bad offset {offset}"));
            let bytes = match offset.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => offset.parse().ok(),
            };
            (name, bytes.ok_or_else(wrong)?)
        }
        None => (rest, 0),
    };
    if name.is_empty() {
        return Err(invalid("the name of a file is missing"));
    }
    Ok(Place::File { name: name.to_owned(), offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_where() {
        let parsed = |uri| Place::parse(uri).map_err(|error| error.to_string());
        assert_eq!(parsed("unix:/a/b"), Ok(Place::Unix("/a/b".into())));
        assert_eq!(parsed("tcp:[::1]:4444"), Ok(Place::Tcp { host: "::1".to_owned(), port: 4444 }));
        assert_eq!(parsed("tcp::1"), Ok(Place::Tcp { host: String::new(), port: 1 }));
        assert_eq!(parsed("file:f,offset=0x10"), Ok(Place::File { name: "f".to_owned(), offset: 16 }));
        let sh = ["/bin/sh", "-c", "cat > x"].map(str::to_owned).to_vec();
        assert_eq!(parsed("exec:cat > x"), Ok(Place::Program(sh)));
        for (wrong, told) in [
            ("foo:bar", "unknown migration protocol: foo:bar"),
            ("foo", "unknown migration protocol: foo"),
            ("tcp:localhost", "error parsing address 'localhost'"),
            ("tcp:h:70000", "error parsing address 'h:70000'"),
            ("file:x,offset=q", "file URI has bad offset q"),
            ("unix:", "the path of a socket is missing"),
        ] {
            assert_eq!(parsed(wrong), Err(told.to_owned()), "{wrong}");
        }
    }
}
