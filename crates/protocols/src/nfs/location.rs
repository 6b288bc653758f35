//! Where a file is: options, and the file names that stand for them.
//!
//! ```text
//! nfs://host/path[?uid=&gid=&tcp-syncnt=&readahead=&pagecache=&debug=&nfsport=&mountport=&version=3]
//! ```

use crate::uri::{escape, unescape};
use api::{BlockdevOptionsNfs, NFSTransport};
use block::{BlockError, Opt, Options, Result};
use nfs::Credential;
use std::time::Duration;

/// Most bytes that are read ahead.
pub(super) const READAHEAD_MOST: u64 = 1 << 20;

/// How long requests wait for a lost server, where nothing else is said.
const RECONNECT: Duration = Duration::from_secs(180);

/// Parameters of a name, and the options that they mean.
const PARAMETERS: [(&str, &str); 8] = [
    ("uid", "user"),
    ("gid", "group"),
    ("tcp-syncnt", "tcp-syn-count"),
    ("readahead", "readahead-size"),
    ("pagecache", "page-cache-size"),
    ("debug", "debug"),
    ("nfsport", "nfs-port"),
    ("mountport", "mount-port"),
];

/// A file of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub host: String,
    /// Absolute, and ends with a name.
    pub path: String,
    user: Option<u32>,
    group: Option<u32>,
    /// Ports that are known; a portmapper knows the others.
    pub nfs_port: Option<u16>,
    pub mount_port: Option<u16>,
}

/// How it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// How often a connection is asked for.
    pub syn_count: Option<u8>,
    /// Bytes that are read ahead, as asked for.
    pub readahead: u64,
    /// How long requests wait for a lost server.
    pub reconnect: Duration,
}

impl Location {
    /// The server and file that the driver's options mean, and how it is used.
    pub fn of(options: BlockdevOptionsNfs) -> Result<(Self, Settings)> {
        let NFSTransport::Inet = options.server.r#type;
        let host = options.server.host;
        if host.is_empty() {
            return Err(BlockError::invalid("the NFS server's name is empty"));
        }
        let path = options.path;
        let has_name = path.rsplit_once('/').is_some_and(|(_, name)| !matches!(name, "" | "." | ".."));
        if !path.starts_with('/') || !has_name {
            let text =
                format!("'{path}' is no path of a file: it has to begin with '/' and to end with a name");
            return Err(BlockError::invalid(text));
        }
        let location = Self {
            host,
            path,
            user: number("user", options.user)?,
            group: number("group", options.group)?,
            nfs_port: options.nfs_port,
            mount_port: options.mount_port,
        };
        for (name, value) in [("page-cache-size", options.page_cache_size), ("debug", options.debug)] {
            number::<u64>(name, value)?;
        }
        let syn_count = number("tcp-syn-count", options.tcp_syn_count)?.filter(|count| *count > 0);
        let readahead = number("readahead-size", options.readahead_size)?.unwrap_or(0);
        let delay = options.reconnect_delay;
        let reconnect = delay.map_or(RECONNECT, |seconds| Duration::from_secs(seconds.into()));
        Ok((location, Settings { syn_count, readahead, reconnect }))
    }

    /// Who the server is told that calls.
    pub fn credential(&self) -> Credential {
        Credential {
            user: self.user.unwrap_or_else(rt::fs::user),
            group: self.group.unwrap_or_else(rt::fs::group),
        }
    }

    /// The name by which the file is shown, and found again.
    pub fn filename(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let own = Location { user: None, group: None, ..self.clone() }.credential();
        // As QEMU tells it: the administrator goes without saying, where it is the one who calls.
        let told = |given: Option<u32>, own: u32| given.filter(|given| (*given, own) != (0, 0));
        let parameters = [
            ("uid", told(self.user, own.user)),
            ("gid", told(self.group, own.group)),
            ("nfsport", self.nfs_port.map(u32::from)),
            ("mountport", self.mount_port.map(u32::from)),
        ];
        let mut name = format!("nfs://{host}{}", escape(&self.path));
        let told = parameters.iter().filter_map(|(parameter, value)| Some((parameter, (*value)?)));
        for (nth, (parameter, value)) in told.enumerate() {
            name.push_str(&format!("{}{parameter}={value}", if nth == 0 { '?' } else { '&' }));
        }
        name
    }
}

/// A number within the bounds of its type.
fn number<T: TryFrom<i64>>(name: &str, value: Option<i64>) -> Result<Option<T>> {
    let read =
        |value| T::try_from(value).map_err(|_| BlockError::invalid(format!("'{name}' can't be {value}")));
    value.map(read).transpose()
}

/// Turns a file name into options.
pub(super) fn parse_filename(name: &str) -> Result<Options> {
    let wrong =
        |why: &str| BlockError::invalid(format!("'{name}' is no name of a file of an NFS server: {why}"));
    let rest = name.strip_prefix("nfs://").ok_or_else(|| wrong("it has no server; say nfs://SERVER/PATH"))?;
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    let at = rest.find('/').ok_or_else(|| wrong("it has no path"))?;
    let (authority, path) = rest.split_at(at);
    let (host, port) = split_port(authority).ok_or_else(|| wrong("its server is no name or address"))?;
    if host.is_empty() {
        return Err(wrong("it has no server; say nfs://SERVER/PATH"));
    }
    let path = unescape(path).ok_or_else(|| wrong("its path is no text"))?;
    let server = Options::new().with_str("type", "inet").with_str("host", host);
    let mut options = Options::new().with("server", Opt::Dict(server)).with_str("path", &path);
    if let Some(port) = port {
        options.set("nfs-port", Opt::Int(port.into()));
    }
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let number = parse_number(value)
            .ok_or_else(|| wrong(&format!("its parameter '{key}' needs a number, which '{value}' is not")))?;
        match (key, PARAMETERS.iter().find(|(known, _)| *known == key)) {
            (_, Some((_, option))) => options.set(*option, Opt::Int(number)),
            ("version", None) if number == 3 => {}
            ("version", None) => return Err(BlockError::unsupported(no_version(number))),
            (_, None) => return Err(wrong(&format!("it has no parameter '{key}'"))),
        }
    }
    Ok(options)
}

fn no_version(number: i64) -> String {
    format!("version {number} of NFS is not supported, only version 3: leave 'version' out")
}

fn parse_number(text: &str) -> Option<i64> {
    let digits = |text: &str, radix| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric())
            .then(|| i64::from_str_radix(text, radix).ok())?
    };
    match text.strip_prefix("0x") {
        Some(hex) => digits(hex, 16),
        None => digits(text, 10),
    }
}

/// Splits `host[:port]`, where the host may be an address in brackets.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match text.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    if host.contains(['@', '%', '#']) {
        return None;
    }
    match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().map(|port| (host, Some(port))),
        None => rest.is_empty().then_some((host, None)),
    }
}

/// Reads the older form, a name as the option `filename`.
pub(super) fn adapt(options: &mut Options) -> Result<()> {
    let Some(name) = options.take_str("filename")? else { return Ok(()) };
    for (option, value) in parse_filename(&name)?.iter() {
        if options.get(option).is_some() {
            let text = format!("'{option}' and 'filename' may not be used at the same time");
            return Err(BlockError::invalid(text));
        }
        options.set(option, value.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: Options) -> Result<(Location, Settings)> {
        let mut options = options.nested();
        adapt(&mut options)?;
        Location::of(options.read()?)
    }

    fn location(name: &str) -> Result<Location> {
        Ok(read(parse_filename(name)?)?.0)
    }

    #[test]
    fn a_name_leads_to_a_place_and_back() {
        for (name, shown) in [
            ("nfs://host/exp/disk", "nfs://host/exp/disk"),
            ("nfs://host/exp/disk?", "nfs://host/exp/disk"),
            ("nfs://host/exp/disk?uid=7&gid=8", "nfs://host/exp/disk?uid=7&gid=8"),
            ("nfs://host/exp/disk?gid=0x10&version=3", "nfs://host/exp/disk?gid=16"),
            ("nfs://host/exp/disk?readahead=4096&debug=1&pagecache=3&tcp-syncnt=2", "nfs://host/exp/disk"),
            ("nfs://host:99/d?mountport=8", "nfs://host/d?nfsport=99&mountport=8"),
            ("nfs://[::1]/d%3F%25?nfsport=1", "nfs://[::1]/d%3f%25?nfsport=1"),
            ("nfs://host/a b/%6f", "nfs://host/a b/o"),
        ] {
            let first = location(name).unwrap();
            assert_eq!(first.filename(), shown, "{name}");
            assert_eq!(location(shown).unwrap(), first, "{shown}");
        }
        assert_eq!(location("nfs://[::1]/d%3F").unwrap().path, "/d?");
    }

    #[test]
    fn the_administrator_is_named_unless_it_is_the_one_who_calls() {
        let named = location("nfs://host/d?uid=0").unwrap().filename();
        let own = rt::fs::user() == 0;
        assert_eq!(named, if own { "nfs://host/d" } else { "nfs://host/d?uid=0" });
    }

    #[test]
    fn the_forms_of_options_mean_the_same() {
        let (location, settings) = read(parse_filename("nfs://h/d?uid=5&readahead=512").unwrap()).unwrap();
        let flat = Options::new()
            .with_str("server.type", "inet")
            .with_str("server.host", "h")
            .with_str("path", "/d")
            .with_str("user", "5")
            .with_str("readahead-size", "512");
        assert_eq!(read(flat).unwrap(), (location.clone(), settings.clone()));
        let old = Options::new().with_str("filename", "nfs://h/d?uid=5&readahead=512");
        assert_eq!(read(old.clone()).unwrap(), (location, settings.clone()));
        assert!(read(old.with_str("user", "6")).is_err());
        assert_eq!(settings.reconnect, RECONNECT);
        assert_eq!((settings.readahead, settings.syn_count), (512, None));
    }

    #[test]
    fn wrong_names_and_options_are_refused_and_say_why() {
        for (name, why) in [
            ("nfs:foo", "no server"),
            ("nfs:///x", "no server"),
            ("nfs://host", "no path"),
            ("nfs://host/", "no path of a file"),
            ("nfs://host/x/..", "no path of a file"),
            ("nfs://host/x?uid", "needs a number"),
            ("nfs://host/x?uid=x", "needs a number"),
            ("nfs://host/x?uid=-1", "needs a number"),
            ("nfs://host/x?uid=4294967296", "'user' can't be 4294967296"),
            ("nfs://host/x?tcp-syncnt=300", "'tcp-syn-count' can't be 300"),
            ("nfs://host/x?rsize=4", "no parameter 'rsize'"),
            ("nfs://host/x?nfsport=70000", "nfs-port"),
            ("nfs://host/x?version=4", "version 4 of NFS is not supported"),
            ("nfs://me@host/x", "no name or address"),
            ("nfs://host:x/x", "no name or address"),
            ("nfs://host/%ff", "no text"),
            ("nfs://host/%0", "no text"),
        ] {
            let error = location(name).unwrap_err().to_string();
            assert!(error.contains(why), "{name}: {error}");
        }
    }
}
