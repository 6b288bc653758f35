//! Requests and their answers: by whatever redirections, again where that may help, each in its time.

use super::connection::Connection;
use super::error::HttpError;
use super::head::Head;
use super::location::{Location, Server};
use super::options::Settings;
use super::patience::Patience;
use super::pool::{Lease, Pool};
use super::proxy::Proxy;
use super::signer::Signer;
use futures_util::lock::Mutex as Lock;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tls::{Authorities, Trust};

/// Redirections that are followed for a request.
const REDIRECTIONS: usize = 20;
/// Bytes that a server sends within the time for which it may be silent.
const STEP: usize = 64 << 10;
/// Headers that a request has of its own, at most.
const LINES: usize = 12;
/// Who asks.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("Cairn/", env!("CARGO_PKG_VERSION")));

/// What is asked for.
pub(super) struct Ask<'a> {
    pub method: Method,
    /// The first and the last byte.
    pub range: Option<(u64, u64)>,
    /// What has to hold of the file.
    pub condition: Option<(HeaderName, &'a HeaderValue)>,
}

/// Makes requests.
pub(super) struct Client {
    /// The server that is told who the user is; no other is.
    server: Server,
    headers: HeaderMap,
    signer: Option<Signer>,
    pub timeout: Duration,
    proxy: Option<String>,
    proxy_authorization: Option<HeaderValue>,
    verify: bool,
    cafile: Option<PathBuf>,
    /// Read when the first server in TLS is reached.
    trust: Lock<Option<Arc<Trust>>>,
    pub pool: Arc<Pool>,
}

/// An answer of which the body is to come.
pub(super) struct Reply {
    pub head: Head,
    /// Where it was had at last.
    pub location: Arc<Location>,
    connection: Connection,
    lease: Lease,
    timeout: Duration,
}

/// Why a request has no answer, and whether its connection had been used before.
type Failed = (HttpError, bool);

impl Client {
    pub fn new(settings: &Settings) -> Self {
        Self {
            server: settings.location.server.clone(),
            headers: settings.headers.clone(),
            signer: settings.signer.clone(),
            timeout: settings.timeout,
            proxy: settings.proxy.clone(),
            proxy_authorization: settings.proxy_authorization.clone(),
            verify: settings.verify,
            cafile: settings.cafile.clone(),
            trust: Lock::default(),
            pool: Pool::new(settings.connections),
        }
    }

    /// Asks, where need be again, and by redirections. An answer is one that has what was asked for, or says that this is not what
    /// is there (200, 206, 412, 416); all others are errors.
    pub async fn ask(
        &self,
        from: &Arc<Location>,
        ask: &Ask<'_>,
        patience: &mut Patience,
    ) -> Result<Reply, HttpError> {
        let mut at = from.clone();
        let mut redirections = 0;
        loop {
            let reply = match self.once(&at, ask).await {
                Ok(reply) => reply,
                Err((error, reused)) => {
                    patience.again(error, reused).await?;
                    continue;
                }
            };
            match reply.head.status {
                StatusCode::OK
                | StatusCode::PARTIAL_CONTENT
                | StatusCode::PRECONDITION_FAILED
                | StatusCode::RANGE_NOT_SATISFIABLE => return Ok(reply),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    redirections += 1;
                    if redirections > REDIRECTIONS {
                        return Err(HttpError::Redirections(REDIRECTIONS));
                    }
                    at = Arc::new(redirected(&at, &reply.head.headers)?);
                    reply.discard().await;
                }
                status => {
                    let wait = retry_after(&reply.head.headers);
                    reply.discard().await;
                    patience.again(HttpError::Status { status, wait }, false).await?;
                }
            }
        }
    }

    /// Makes one request.
    async fn once(&self, at: &Arc<Location>, ask: &Ask<'_>) -> Result<Reply, Failed> {
        let mut lease = self.pool.take(&at.server).await;
        let mut connection = match lease.connection.take() {
            Some(connection) => connection,
            None => self.connect(&at.server).await.map_err(|error| (error, false))?,
        };
        let reused = std::mem::replace(&mut connection.used, true);
        let request = self.request(at, ask, connection.proxy.as_ref()).map_err(|error| (error, false))?;
        let answer = within(self.timeout, connection.send(&ask.method, &request)).await;
        let head = answer.map_err(|error| (error, reused))?;
        Ok(Reply { head, location: at.clone(), connection, lease, timeout: self.timeout })
    }

    async fn connect(&self, server: &Server) -> Result<Connection, HttpError> {
        let proxy = Proxy::find(self.proxy.as_deref(), server, self.proxy_authorization.as_ref());
        let proxy = proxy.map_err(HttpError::Setting)?;
        let connect = async {
            let trust = if server.secure { Some(self.trust().await?) } else { None };
            Connection::open(server, proxy, trust.as_deref()).await
        };
        within(self.timeout, connect).await
    }

    async fn trust(&self) -> Result<Arc<Trust>, HttpError> {
        let mut trust = self.trust.lock().await;
        if let Some(trust) = &*trust {
            return Ok(trust.clone());
        }
        let (verify, cafile) = (self.verify, self.cafile.clone());
        let load = move || match (verify, &cafile) {
            (false, _) => Trust::load(Authorities::Unasked, false),
            (true, Some(path)) => Trust::load(Authorities::File(path), false),
            (true, None) => Trust::load(Authorities::System, false),
        };
        let loaded = rt::blocking(load).await.map_err(HttpError::Setting)?;
        Ok(trust.insert(Arc::new(loaded)).clone())
    }

    /// The head of a request.
    fn request(&self, at: &Location, ask: &Ask<'_>, proxy: Option<&Proxy>) -> Result<Vec<u8>, HttpError> {
        let authority = at.server.authority();
        let mut headers = HeaderMap::with_capacity(LINES + self.headers.len());
        let host = HeaderValue::try_from(authority.as_str()).map_err(|_| HttpError::Nowhere)?;
        headers.insert(header::HOST, host);
        if at.server == self.server {
            headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        headers.entry(header::USER_AGENT).or_insert(AGENT);
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        // Ranges of what is compressed are of no use.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some((first, last)) = ask.range
            && let Ok(range) = HeaderValue::try_from(format!("bytes={first}-{last}"))
        {
            headers.insert(header::RANGE, range);
        }
        if let Some((name, value)) = &ask.condition {
            headers.insert(name, (*value).clone());
        }
        if let Some(told) = proxy.and_then(|proxy| proxy.authorization.clone()) {
            headers.insert(header::PROXY_AUTHORIZATION, told);
        }
        if let Some(signer) = self.signer.as_ref().filter(|_| at.server == self.server) {
            signer.sign(&ask.method, &at.target, &mut headers, SystemTime::now());
        }
        let whole = if proxy.is_some() { format!("http://{authority}") } else { String::new() };
        let mut request = Vec::with_capacity(1 << 10);
        for part in [ask.method.as_str(), " ", &whole, &at.target, " HTTP/1.1\r\n"] {
            request.extend_from_slice(part.as_bytes());
        }
        for (name, value) in &headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                request.extend_from_slice(part);
            }
        }
        request.extend_from_slice(b"\r\n");
        Ok(request)
    }
}

/// Where an answer says to go.
fn redirected(at: &Location, headers: &HeaderMap) -> Result<Location, HttpError> {
    // It may have letters that are not of ASCII.
    let to = headers.get(header::LOCATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let to = to.and_then(|to| at.resolve(to)).ok_or(HttpError::Nowhere)?;
    match at.server.secure && !to.server.secure {
        true => Err(HttpError::Downgrade(to.to_string())),
        false => Ok(to),
    }
}

/// Seconds that a server asks to wait; a date is not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

impl Reply {
    /// The header of this name, as text.
    pub fn text(&self, name: HeaderName) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// Bytes of the body, as the server tells.
    pub fn length(&self) -> Option<u64> {
        self.head.length
    }

    /// Passes the body on as it comes, to its end: [`STEP`] bytes of it within the time for which the server may be silent. An error
    /// of `take` ends it, and is the inner one.
    pub async fn pass<E>(
        mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Result<(), E>, HttpError> {
        let mut place = vec![0; STEP];
        let mut end = None;
        while end.is_none() {
            let step = async {
                let mut came = 0;
                while came < STEP && end.is_none() {
                    let n = self.connection.read(&mut place).await?;
                    let taken = take(place.get(..n).unwrap_or_default());
                    end = if n == 0 { Some(Ok(())) } else { taken.err().map(Err) };
                    came += n;
                }
                Ok(())
            };
            within(self.timeout, step).await?;
        }
        Ok(end.unwrap_or(Ok(())))
    }

    /// Fills `buf` with the body, which is just as long: how many bytes came, and what went wrong if not all. The connection can
    /// be used again then.
    pub async fn fill(mut self, buf: &mut [u8]) -> (usize, Result<(), HttpError>) {
        let mut done = 0;
        while done < buf.len() {
            let until = done.saturating_add(STEP).min(buf.len());
            let step = async {
                while done < until {
                    match self.connection.read(buf.get_mut(done..).unwrap_or_default()).await? {
                        0 => return Err(HttpError::WrongRange),
                        n => done += n,
                    }
                }
                Ok(())
            };
            if let Err(error) = within(self.timeout, step).await {
                return (done, Err(error));
            }
        }
        (done, self.end().await)
    }

    /// Reads what is left of a body that is of no use, if it is short: the connection can be used again then.
    pub async fn discard(self) {
        let left = self.connection.left().filter(|left| *left <= STEP as u64);
        if let Some(left) = left {
            // Where it fails, the connection is closed.
            let _ = self.fill(&mut vec![0; left as usize]).await;
        }
    }

    /// The body is over, and the connection can be used again.
    async fn end(mut self) -> Result<(), HttpError> {
        if within(self.timeout, self.connection.read(&mut [0])).await? > 0 {
            return Err(HttpError::TooMuch);
        }
        self.lease.give_back(self.connection);
        Ok(())
    }
}

/// What the server does in its time.
async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, HttpError>>,
) -> Result<T, HttpError> {
    rt::timeout(timeout, work).await.unwrap_or(Err(HttpError::Silent(timeout)))
}
