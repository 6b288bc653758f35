//! Where a file is: options, and the file names that stand for them.
//!
//! ```text
//! ssh://[user@]host[:port]/path[?host_key_check=no|yes|md5:…|sha1:…|sha256:…]
//! ```

use super::account;
use super::host_key::Check;
use crate::uri::{split_port, unescape};
use api::{BlockdevOptionsSsh, SshHostKeyCheck, SshHostKeyCheckHashType};
use block::{BlockError, Opt, Options, Result};
use rt::net::Address;
use std::time::Duration;

/// The registered port of the protocol.
const PORT: u16 = 22;

/// The option of the older spelling that says how the host's key is checked.
const OLD_CHECK: &str = "host_key_check";

/// A server, a user there, and a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Location {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub path: String,
    pub check: Check,
    /// What the user proves who he is with, by the options' names.
    pub proof: Proof,
    /// How long requests wait for a lost server; zero: they fail, and no other session is begun.
    pub reconnect: Duration,
}

/// What the user proves who he is with: where nothing is named, the agent's keys and the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Proof {
    /// A file with a private key.
    pub key_file: Option<String>,
    /// The id of the secret that is its passphrase.
    pub key_secret: Option<String>,
    /// The id of the secret that is the password.
    pub password_secret: Option<String>,
}

impl Location {
    /// The file that the driver's options mean.
    pub fn of(options: BlockdevOptionsSsh) -> Result<Self> {
        let port = options.server.port;
        let no_user = || BlockError::invalid("the user of this process has no name: give one by 'user'");
        if options.key_secret.is_some() && options.key_file.is_none() {
            return Err(BlockError::invalid("key-secret is of use only with key-file"));
        }
        Ok(Self {
            host: options.server.host,
            port: port.parse().map_err(|_| BlockError::invalid("Use only numeric port value"))?,
            user: options.user.or_else(account::name).ok_or_else(no_user)?,
            path: options.path,
            check: check_of(options.host_key_check, options.known_hosts_file),
            proof: Proof {
                key_file: options.key_file,
                key_secret: options.key_secret,
                password_secret: options.password_secret,
            },
            reconnect: Duration::from_secs(options.reconnect_delay.unwrap_or(0).into()),
        })
    }

    /// What the options mean that a file name, or a description of a new file, came to.
    pub fn take(options: &mut Options) -> Result<Self> {
        *options = std::mem::take(options).nested();
        adapt(options)?;
        Self::of(options.take_typed()?)
    }

    /// Where the server listens.
    pub fn address(&self) -> String {
        Address::Tcp { host: self.host.clone(), port: self.port }.place()
    }

    /// The name by which the file is shown, and found again. `asked` are the options that it was opened with: only those of the
    /// older spelling can be said in a name.
    pub fn filename(&self, asked: &Options) -> String {
        let check = asked.get_str(OLD_CHECK).map(|check| format!("?{OLD_CHECK}={check}"));
        format!("ssh://{}@{}{}{}", self.user, self.address(), self.path, check.unwrap_or_default())
    }
}

fn check_of(asked: Option<SshHostKeyCheck>, file: Option<String>) -> Check {
    match asked {
        None | Some(SshHostKeyCheck::KnownHosts) => Check::KnownHosts { file: file.map(Into::into) },
        Some(SshHostKeyCheck::None) => Check::None,
        Some(SshHostKeyCheck::Hash(hash)) => Check::Hash { kind: hash.r#type, hash: hash.hash },
    }
}

/// Turns a file name into options.
pub(super) fn parse_filename(name: &str) -> Result<Options> {
    let rest = name.strip_prefix("ssh:").unwrap_or(name);
    let rest = rest.strip_prefix("//").ok_or_else(|| BlockError::invalid("missing hostname in URI"))?;
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let invalid = || BlockError::invalid(format!("'{name}' is no URI of a file on an SSH server"));
    let (user, server) = authority.rsplit_once('@').map_or((None, authority), |(user, at)| (Some(user), at));
    let (host, port) = split_port(server).ok_or_else(invalid)?;
    if host.is_empty() {
        return Err(BlockError::invalid("missing hostname in URI"));
    }
    if path.is_empty() {
        return Err(BlockError::invalid("missing remote path in URI"));
    }
    let server = Options::new().with_str("host", host).with_str("port", &port.unwrap_or(PORT).to_string());
    let mut options = Options::new().with("server", Opt::Dict(server));
    if let Some(user) = user.filter(|user| !user.is_empty()) {
        if user.contains(':') {
            let text = "a password in a URI is seen by everybody: give it by 'password-secret'";
            return Err(BlockError::invalid(text));
        }
        options.set("user", Opt::Str(unescape(user).ok_or_else(invalid)?));
    }
    options.set("path", Opt::Str(unescape(path).ok_or_else(invalid)?));
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some((OLD_CHECK, value)) => {
                options.set(OLD_CHECK, Opt::Str(unescape(value).ok_or_else(invalid)?));
            }
            other => {
                let name = other.map_or(parameter, |(name, _)| name);
                return Err(BlockError::invalid(format!("Unsupported parameter '{name}' in URI")));
            }
        }
    }
    Ok(options)
}

/// Converts the older flat form to the schema's.
pub(super) fn adapt(options: &mut Options) -> Result<()> {
    let (host, port) = (options.take("host"), options.take("port"));
    if host.is_none() && port.is_some() {
        return Err(BlockError::invalid("port may not be used without host"));
    }
    let mut server = options.take_dict("server")?;
    if let Some(host) = host {
        let port = port.unwrap_or_else(|| Opt::Str(PORT.to_string()));
        server = Some(server.unwrap_or_default().with("host", host).with("port", port));
    }
    if let Some(mut server) = server {
        // Preferences among address families: the resolver's order is used.
        for name in ["numeric", "keep-alive", "ipv4", "ipv6", "mptcp"] {
            server.take_bool(name)?;
        }
        options.set("server", Opt::Dict(server));
    }
    if let Some(check) = options.take_str(OLD_CHECK)? {
        let hash = |kind: &str, hash: &str| {
            Options::new().with_str("mode", "hash").with_str("type", kind).with_str("hash", hash)
        };
        let check = match check.split_once(':') {
            Some((kind @ ("md5" | "sha1" | "sha256"), digits)) => hash(kind, digits),
            _ if check == "no" => Options::new().with_str("mode", "none"),
            _ if check == "yes" => Options::new().with_str("mode", "known_hosts"),
            _ => return Err(BlockError::invalid(format!("unknown host_key_check setting ({check})"))),
        };
        options.set("host-key-check", Opt::Dict(check));
    }
    Ok(())
}

/// The name of a kind of digest, as options have it.
pub(super) fn kind_name(kind: SshHostKeyCheckHashType) -> &'static str {
    match kind {
        SshHostKeyCheckHashType::Md5 => "md5",
        SshHostKeyCheckHashType::Sha1 => "sha1",
        SshHostKeyCheckHashType::Sha256 => "sha256",
    }
}
