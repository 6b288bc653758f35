//! The options of the driver, and the name that they make.

use super::location::Location;
use super::signer::Signer;
use crate::uri::unescape_bytes;
use crate::url::shown;
use crate::{readahead, url};
use api::BlockdevOptionsCurlHttp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use block::{BlockError, Objects, Opt, Options, Result, Secret, hide_passwords};
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Connections that there are at most, where nothing else is said; and the most that can be asked for.
const CONNECTIONS: u16 = 16;
const MOST_CONNECTIONS: u16 = 128;
/// Bytes that are kept of a stream, where nothing else is said; and the most that can be asked for.
const CACHE: u64 = 64 << 20;
const MOST_CACHE: u64 = 1 << 40;
/// Bytes that are kept on disk, where it is said only in which folder.
const DISK: u64 = 1 << 30;
/// The longest that a server may be silent: what no limit means too.
const LONGEST: i64 = 10_000;

/// What the driver is told.
#[derive(PartialEq)]
pub(crate) struct Settings {
    pub location: Location,
    /// The name without a password.
    pub url: String,
    pub timeout: Duration,
    pub readahead: u64,
    /// What is told to the server of the location, and to no other.
    pub headers: HeaderMap,
    /// The URL of a proxy; none where the environment says.
    pub proxy: Option<String>,
    /// What a proxy is told of the user.
    pub proxy_authorization: Option<HeaderValue>,
    pub verify: bool,
    pub cafile: Option<PathBuf>,
    pub force_range: bool,
    pub connections: usize,
    pub cache: u64,
    /// The folder where what was read is kept, and how many bytes of it.
    pub cache_path: Option<PathBuf>,
    pub cache_disk: u64,
    /// Signs the requests to that server.
    pub signer: Option<Signer>,
    /// What is in a name, where the URL alone is none.
    pub naming: Options,
}

impl Settings {
    /// Reads the options; secrets are among the objects.
    pub fn of(options: BlockdevOptionsCurlHttp, scheme: &str, objects: &Objects) -> Result<Self> {
        let naming = naming(&options);
        if !options.url.get(..scheme.len()).is_some_and(|own| own.eq_ignore_ascii_case(scheme))
            || !options.url.get(scheme.len()..).is_some_and(|rest| rest.starts_with("://"))
        {
            let text = format!(
                "the URL of '{scheme}' begins with '{scheme}://', not as '{}'",
                hide_passwords(&options.url)
            );
            return Err(BlockError::invalid(text));
        }
        let (location, user) = Location::parse(&options.url)?;
        let secret = |id: &Option<String>| -> Result<Option<Arc<Secret>>> {
            id.as_ref().map(|id| objects.hold(id)).transpose()
        };
        let mut headers = HeaderMap::new();
        if let Some(lines) = secret(&options.header_secret)? {
            add_lines(&mut headers, lines.bytes())?;
        }
        if options.cookie.is_some() && options.cookie_secret.is_some() {
            return Err(BlockError::invalid(
                "a cookie is given by 'cookie' or by 'cookie-secret', not by both",
            ));
        }
        let cookie = options.cookie.map(|cookie| Secret::new(cookie.into_bytes())).map(Arc::new);
        if let Some(cookie) = cookie.or(secret(&options.cookie_secret)?) {
            headers.insert(header::COOKIE, sensitive(cookie.bytes(), "the cookie")?);
        }
        let password = secret(&options.password_secret)?;
        if let Some(told) = authorization(options.username.as_deref(), password.as_deref(), user)? {
            headers.insert(header::AUTHORIZATION, told);
        }
        let password = secret(&options.proxy_password_secret)?;
        let proxy_authorization =
            authorization(options.proxy_username.as_deref(), password.as_deref(), None)?;
        let timeout = Some(options.timeout.unwrap_or(5)).filter(|seconds| *seconds != 0).unwrap_or(LONGEST);
        let settings = Self {
            url: shown(&options.url),
            timeout: url::timeout(Some(timeout))?,
            readahead: readahead::checked(block::not_negative("readahead", options.readahead)?)?,
            headers,
            proxy: options.proxy,
            proxy_authorization,
            verify: options.sslverify.unwrap_or(true),
            cafile: options.cafile.map(PathBuf::from),
            force_range: options.force_range.unwrap_or(false),
            naming,
            ..Self::at(location, options.connections, options.cache_size)?
        };
        settings.kept_in(options.cache_path, options.cache_disk_size)
    }

    /// Those of a location, where nothing else is said.
    pub fn at(location: Location, connections: Option<u16>, cache: Option<api::Size>) -> Result<Self> {
        let connections = connections.unwrap_or(CONNECTIONS);
        if !(1..=MOST_CONNECTIONS).contains(&connections) {
            return Err(BlockError::invalid(format!("connections are from 1 to {MOST_CONNECTIONS}")));
        }
        let cache = cache.map_or(CACHE, |size| size.0);
        if cache > MOST_CACHE {
            return Err(BlockError::invalid(format!("cache-size is at most {MOST_CACHE} bytes")));
        }
        Ok(Self {
            location,
            url: String::new(),
            timeout: url::timeout(None)?,
            readahead: readahead::DEFAULT,
            headers: HeaderMap::new(),
            proxy: None,
            proxy_authorization: None,
            verify: true,
            cafile: None,
            force_range: false,
            connections: connections.into(),
            cache,
            cache_path: None,
            cache_disk: DISK,
            signer: None,
            naming: Options::new(),
        })
    }

    /// The same, with what was read kept in a folder, if one is named.
    pub fn kept_in(mut self, folder: Option<String>, bytes: Option<api::Size>) -> Result<Self> {
        if bytes.is_some() && folder.is_none() {
            return Err(BlockError::invalid("cache-disk-size is of a cache-path: give that too"));
        }
        let bytes = bytes.map_or(DISK, |size| size.0);
        if !(readahead::PIECE..=MOST_CACHE).contains(&bytes) {
            let text = format!("cache-disk-size is from {} to {MOST_CACHE} bytes", readahead::PIECE);
            return Err(BlockError::invalid(text));
        }
        (self.cache_path, self.cache_disk) = (folder.map(rt::fs::path), bytes);
        Ok(self)
    }

    /// The name by which the file is found again, where that is enough.
    pub fn name(&self) -> Option<String> {
        let is_plain = |(name, value): (&str, &Opt)| match name {
            "url" | "bucket" | "key" => true,
            "sslverify" => *value == Opt::Bool(true),
            _ => false,
        };
        self.naming.iter().all(is_plain).then(|| self.url.clone())
    }
}

/// Options that say which file it is and who may read it; not the cookie, which is a key itself.
fn naming(options: &BlockdevOptionsCurlHttp) -> Options {
    let mut naming = Options::new().with_str("url", &shown(&options.url));
    if let Some(verify) = options.sslverify {
        naming.set("sslverify", Opt::Bool(verify));
    }
    for (name, value) in [
        ("username", &options.username),
        ("password-secret", &options.password_secret),
        ("proxy-username", &options.proxy_username),
        ("proxy-password-secret", &options.proxy_password_secret),
        ("cookie-secret", &options.cookie_secret),
        ("header-secret", &options.header_secret),
        ("cafile", &options.cafile),
    ] {
        if let Some(value) = value {
            naming.set(name, Opt::Str(value.clone()));
        }
    }
    naming
}

/// What is older than the schema, or is not in it.
pub(super) fn adapt(options: &mut Options) -> Result<()> {
    url::adapt(options)?;
    adapt_readahead(options)
}

/// Bytes that are given as text may have a suffix.
pub(crate) fn adapt_readahead(options: &mut Options) -> Result<()> {
    if let Some(bytes) = options.take_u64("readahead")? {
        let bytes = i64::try_from(bytes).map_err(|_| BlockError::invalid("readahead is too large"))?;
        options.set("readahead", Opt::Int(bytes));
    }
    Ok(())
}

/// What a server is told of a user: that of the options, else that of the URL.
fn authorization(
    name: Option<&str>,
    password: Option<&Secret>,
    of_url: super::location::User<'_>,
) -> Result<Option<HeaderValue>> {
    let decoded = |text: &str| {
        let decoded = unescape_bytes(text).map(Zeroizing::new);
        decoded.ok_or_else(|| BlockError::invalid("the user in the URL has a '%' without two digits"))
    };
    let mut name = name.map(|name| Zeroizing::new(name.as_bytes().to_vec()));
    let mut password = password.map(|password| Zeroizing::new(password.bytes().to_vec()));
    if let Some((of_url, its_password)) = of_url {
        if name.is_none() {
            name = Some(decoded(of_url)?);
        }
        if password.is_none() {
            password = its_password.map(decoded).transpose()?;
        }
    }
    if name.is_none() && password.is_none() {
        return Ok(None);
    }
    basic(&name.unwrap_or_default(), &password.unwrap_or_default()).map(Some)
}

/// Credentials by the scheme `Basic` (RFC 7617).
pub(super) fn basic(name: &[u8], password: &[u8]) -> Result<HeaderValue> {
    if name.contains(&b':') {
        return Err(BlockError::invalid("a user's name can't have a ':' in HTTP"));
    }
    let pair = Zeroizing::new([name, b":", password].concat());
    let text = Zeroizing::new(format!("Basic {}", BASE64.encode(&*pair)));
    sensitive(text.as_bytes(), "the user")
}

fn sensitive(bytes: &[u8], what: &str) -> Result<HeaderValue> {
    // The value is not repeated.
    let wrong = |_| BlockError::invalid(format!("{what} has characters that a header can't have"));
    let mut value = HeaderValue::from_bytes(bytes.trim_ascii()).map_err(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Adds headers that are given one a line.
pub(super) fn add_lines(headers: &mut HeaderMap, lines: &[u8]) -> Result<()> {
    const OURS: [HeaderName; 10] = [
        header::HOST,
        header::RANGE,
        header::IF_RANGE,
        header::IF_MATCH,
        header::IF_UNMODIFIED_SINCE,
        header::ACCEPT_ENCODING,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::PROXY_AUTHORIZATION,
    ];
    let lines = lines.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).enumerate();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let number = number + 1;
        let wrong = || BlockError::invalid(format!("line {number} of 'header-secret' is not 'Name: value'"));
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name.trim_ascii()).map_err(|_| wrong())?;
        if OURS.contains(&name) {
            let text = format!("line {number} of 'header-secret': '{name}' is set by the driver itself");
            return Err(BlockError::invalid(text));
        }
        headers.append(name, sensitive(value.get(1..).unwrap_or_default(), "a header")?);
    }
    Ok(())
}
