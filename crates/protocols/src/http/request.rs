//! Heads of requests.
//!
//! Those of a connection are mostly alike but for the range: what they have in common is written once.

use super::client::Ask;
use super::error::HttpError;
use super::location::{Location, Server};
use super::proxy::Proxy;
use super::signer::Signer;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

/// Headers that a request has of its own, at most.
const LINES: usize = 12;
/// Who asks.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("Cairn/", env!("CARGO_PKG_VERSION")));

/// Who the user is.
pub(super) struct User {
    /// The server that is told so; no other is.
    pub server: Server,
    pub headers: HeaderMap,
    pub signer: Option<Signer>,
}

/// The head of the last request of a connection.
#[derive(Default)]
pub(super) struct Request {
    bytes: Vec<u8>,
    /// What the first bytes are for, and how many they are: the same for any range.
    common: Option<(Common, usize)>,
}

struct Common {
    at: Arc<Location>,
    method: Method,
    condition: Option<(HeaderName, HeaderValue)>,
}

impl Common {
    fn is_of(&self, at: &Arc<Location>, ask: &Ask<'_>) -> bool {
        let own = self.condition.as_ref().map(|(name, value)| (name, value));
        let other = ask.condition.as_ref().map(|(name, value)| (name, *value));
        Arc::ptr_eq(&self.at, at) && self.method == ask.method && own == other
    }
}

impl Request {
    /// Writes the head of the next one; `proxy` is the same for all of a connection.
    ///
    /// # Errors
    /// The location has no name that a request could have.
    pub fn write(
        &mut self,
        user: &User,
        at: &Arc<Location>,
        ask: &Ask<'_>,
        proxy: Option<&Proxy>,
    ) -> Result<&[u8], HttpError> {
        let signer = user.signer.as_ref().filter(|_| at.server == user.server);
        match &self.common {
            Some((common, len)) if common.is_of(at, ask) => self.bytes.truncate(*len),
            _ => {
                let mut headers = headers(user, at, ask, proxy)?;
                if let Some(signer) = signer {
                    // The range is signed too: no two heads are alike.
                    if let Some((first, last)) = ask.range
                        && let Ok(range) = HeaderValue::try_from(format!("bytes={first}-{last}"))
                    {
                        headers.insert(header::RANGE, range);
                    }
                    signer.sign(&ask.method, &at.target, &mut headers, SystemTime::now());
                }
                self.start(at, ask, proxy, &headers);
                self.common = signer.is_none().then(|| {
                    let condition =
                        ask.condition.as_ref().map(|(name, value)| (name.clone(), (*value).clone()));
                    (Common { at: at.clone(), method: ask.method.clone(), condition }, self.bytes.len())
                });
            }
        }
        if let Some((first, last)) = ask.range.filter(|_| signer.is_none()) {
            // Memory takes it.
            let _ = write!(self.bytes, "range: bytes={first}-{last}\r\n");
        }
        self.bytes.extend_from_slice(b"\r\n");
        Ok(&self.bytes)
    }

    /// The first line, and these.
    fn start(&mut self, at: &Location, ask: &Ask<'_>, proxy: Option<&Proxy>, headers: &HeaderMap) {
        let whole = if proxy.is_some() { format!("http://{}", at.server.authority()) } else { String::new() };
        self.bytes.clear();
        for part in [ask.method.as_str(), " ", &whole, &at.target, " HTTP/1.1\r\n"] {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                self.bytes.extend_from_slice(part);
            }
        }
    }
}

/// All headers but the range.
fn headers(user: &User, at: &Location, ask: &Ask<'_>, proxy: Option<&Proxy>) -> Result<HeaderMap, HttpError> {
    let mut headers = HeaderMap::with_capacity(LINES + user.headers.len());
    let host = HeaderValue::try_from(at.server.authority()).map_err(|_| HttpError::Nowhere)?;
    headers.insert(header::HOST, host);
    if at.server == user.server {
        headers.extend(user.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    headers.entry(header::USER_AGENT).or_insert(AGENT);
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    // Ranges of what is compressed are of no use.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some((name, value)) = &ask.condition {
        headers.insert(name, (*value).clone());
    }
    if let Some(told) = proxy.and_then(|proxy| proxy.authorization.clone()) {
        headers.insert(header::PROXY_AUTHORIZATION, told);
    }
    Ok(headers)
}
