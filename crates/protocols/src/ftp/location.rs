//! Where a file is and who reads it: options, and the file names that stand for them.
//!
//! ```text
//! ftp://[user[:password]@]host[:port]/path[;type=i]     ftps://…  in TLS at once     ftpes://…  in TLS after AUTH
//! ```
//!
//! A path is relative to the folder into which the server puts the user; `ftp://host//srv/x`, or `/%2Fsrv/x`, means `/srv/x`.
//!
//! Law: what is sent in a command has no line end in it, whatever the options say.

use crate::uri::unescape_bytes;
use crate::url::{self, Url};
use api::BlockdevOptionsCurlFtps;
use block::{BlockError, Objects, Opt, Options, Result, Secret};
use std::path::PathBuf;
use std::time::Duration;

/// The registered ports: of the protocol, and of the protocol in TLS.
const PORT: u16 = 21;
const TLS_PORT: u16 = 990;

/// Who somebody is that has not said it, as servers for everybody know it (RFC 1635).
const NOBODY: (&str, &str) = ("anonymous", "anonymous@");

/// When TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// At once.
    Implicit,
    /// After the command AUTH (RFC 4217).
    Explicit,
}

/// How TLS is begun, and whom it believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tls {
    pub begin: Begin,
    /// The server's certificate is judged.
    pub verify: bool,
    /// The file with the authorities, where they are not those of the system.
    pub authorities: Option<PathBuf>,
}

/// A file on a server.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Location {
    /// The URL for people: without the password that it may hold.
    pub url: String,
    pub host: String,
    pub port: u16,
    /// The path, as the server is told it.
    pub path: Vec<u8>,
    pub user: Vec<u8>,
    pub tls: Option<Tls>,
    /// How long the server may be silent.
    pub timeout: Duration,
    /// Bytes that are read ahead.
    pub readahead: u64,
    /// The options that lead to the file, where its URL alone does not.
    pub naming: Options,
    /// The id of the secret with the password.
    pub password_secret: Option<String>,
}

impl Location {
    /// The file that the options of `ftps`, or those of them that `ftp` has, mean, and the password for it.
    pub fn of(options: BlockdevOptionsCurlFtps, in_tls: bool, objects: &Objects) -> Result<(Self, Secret)> {
        let (location, mut password) = Self::read(options, in_tls)?;
        if let Some(id) = &location.password_secret {
            password = (*objects.hold::<Secret>(id)?).clone();
        }
        if std::str::from_utf8(password.bytes()).is_err() || !is_plain(password.bytes()) {
            let text = format!("'{}': the password can't be sent: it is no text of one line", location.url);
            return Err(BlockError::invalid(text));
        }
        Ok((location, password))
    }

    /// The same without the secret: with the password of the URL.
    fn read(options: BlockdevOptionsCurlFtps, in_tls: bool) -> Result<(Self, Secret)> {
        let url = url::shown(&options.url);
        let wrong = |what: &str| BlockError::invalid(format!("'{url}': {what}"));
        let parts = Url::parse(&options.url)?;
        let scheme = if in_tls { "ftps" } else { "ftp" };
        if parts.scheme != scheme {
            return Err(wrong(&format!("the driver {scheme} is for URLs that begin with '{scheme}://'")));
        }
        if options.proxy_username.is_some() || options.proxy_password_secret.is_some() {
            return Err(BlockError::unsupported(format!("'{url}': the driver {scheme} knows no proxies")));
        }
        let naming = naming(&url, &options);
        let tls = match (in_tls, options.sslverify, options.explicit, options.cafile) {
            (true, verify, explicit, authorities) => Some(Tls {
                begin: if explicit.unwrap_or(false) { Begin::Explicit } else { Begin::Implicit },
                verify: verify.unwrap_or(true),
                authorities: authorities.map(PathBuf::from),
            }),
            (false, None, None, None) => None,
            (false, ..) => {
                return Err(wrong("sslverify, cafile and explicit are options of the driver ftps"));
            }
        };
        let plain = |bytes: Vec<u8>| match is_plain(&bytes) {
            true => Ok(bytes),
            false => Err(wrong("line ends and zero bytes can't be sent to a server")),
        };
        let decoded = |text: &str| {
            let bytes = unescape_bytes(text);
            plain(bytes.ok_or_else(|| wrong("a % in a URL is followed by two hexadecimal digits"))?)
        };
        let path = match parts.path.split_once(";type=") {
            None => parts.path,
            Some((path, "i" | "I")) => path,
            Some(_) => return Err(wrong("images are transferred in the type 'i' only")),
        };
        let path = decoded(path)?;
        if path.is_empty() || path.ends_with(b"/") {
            return Err(wrong("a file is named behind the server"));
        }
        let (url_user, url_password) = parts.user.map_or((None, None), |(user, word)| (Some(user), word));
        let user = match (options.username, url_user) {
            (Some(name), _) => plain(name.into_bytes())?,
            (None, Some(user)) if !user.is_empty() => decoded(user)?,
            (None, _) => NOBODY.0.as_bytes().to_vec(),
        };
        let password = match url_password {
            Some(word) => decoded(word)?,
            None if user == NOBODY.0.as_bytes() => NOBODY.1.as_bytes().to_vec(),
            None => Vec::new(),
        };
        let at_once = tls.as_ref().is_some_and(|tls| tls.begin == Begin::Implicit);
        let location = Self {
            host: parts.host.to_owned(),
            port: parts.port.unwrap_or(if at_once { TLS_PORT } else { PORT }),
            path,
            user,
            timeout: url::timeout(options.timeout)?,
            readahead: crate::readahead::checked(block::not_negative("readahead", options.readahead)?)?,
            naming,
            tls,
            password_secret: options.password_secret,
            url,
        };
        Ok((location, Secret::new(password)))
    }

    /// The name by which the file is shown, where its URL is enough.
    pub fn filename(&self) -> Option<String> {
        self.naming.is_empty().then(|| self.url.clone())
    }
}

/// It has no line end, and no zero byte.
fn is_plain(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// The options that a name has to tell, where the URL alone does not lead to the file.
fn naming(url: &str, options: &BlockdevOptionsCurlFtps) -> Options {
    let mut naming = Options::new();
    for (name, text) in [
        ("username", &options.username),
        ("password-secret", &options.password_secret),
        ("cafile", &options.cafile),
    ] {
        if let Some(text) = text {
            naming.set(name, Opt::Str(text.clone()));
        }
    }
    for (name, unlike_url, value) in
        [("sslverify", false, options.sslverify), ("explicit", true, options.explicit)]
    {
        if value == Some(unlike_url) {
            naming.set(name, Opt::Bool(unlike_url));
        }
    }
    if naming.is_empty() { naming } else { naming.with_str("url", url) }
}

/// Turns a file name into options: `ftpes://`, as other programs have it, is `ftps://` with AUTH.
pub(super) fn parse_filename(name: &str) -> Result<Options> {
    match name.strip_prefix("ftpes:") {
        Some(rest) => url::parse_filename(&format!("ftps:{rest}"))
            .map(|options| options.with("explicit", Opt::Bool(true))),
        None => url::parse_filename(name),
    }
}
