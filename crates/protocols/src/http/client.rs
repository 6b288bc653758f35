//! Requests and their answers: by whatever redirections, again where that may help, each in its time.

use super::connection::Connection;
use super::error::HttpError;
use super::head::Head;
use super::location::{Location, Server};
use super::options::Settings;
use super::patience::Patience;
use super::pool::{Lease, Pool};
use super::proxy::Proxy;
use super::request::User;
use futures_util::lock::Mutex as Lock;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tls::{Authorities, Trust};

/// Redirections that are followed for a request.
const REDIRECTIONS: usize = 20;
/// Bytes that a server has to send within the time for which it may be silent, over all connections that wait for it.
const STEP: usize = 64 << 10;

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
    user: User,
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
            user: User {
                server: settings.location.server.clone(),
                headers: settings.headers.clone(),
                signer: settings.signer.clone(),
            },
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
            let reply = match self.once(&at, ask, patience).await {
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
    async fn once(
        &self,
        at: &Arc<Location>,
        ask: &Ask<'_>,
        patience: &mut Patience,
    ) -> Result<Reply, Failed> {
        let begun_ns = rt::now_ns();
        let mut lease = self.pool.take(&at.server).await;
        // The server knows nothing yet of what waited for its turn here.
        patience.stand_still(rt::now_ns().saturating_sub(begun_ns));
        let mut connection = match lease.connection.take() {
            Some(connection) => connection,
            None => self.connect(&at.server).await.map_err(|error| (error, false))?,
        };
        let reused = std::mem::replace(&mut connection.used, true);
        let answer = within(self.timeout, connection.send(&self.user, at, ask)).await;
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

    /// Passes the body on as it comes, to its end, which is to be enough in each time for which the server may be silent. An error
    /// of `take` ends it, and is the inner one.
    pub async fn pass<E>(
        mut self,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Result<(), E>, HttpError> {
        let mut place = vec![0; STEP];
        let mut end = None;
        while end.is_none() {
            let (mut came, least) = (0, self.least());
            let step = async {
                while came < STEP && end.is_none() {
                    let n = self.connection.read(&mut place).await?;
                    let taken = take(place.get(..n).unwrap_or_default());
                    end = if n == 0 { Some(Ok(())) } else { taken.err().map(Err) };
                    came += n;
                }
                Ok(())
            };
            let stepped = rt::timeout(self.timeout, step).await;
            stepped.unwrap_or_else(|_| self.is_enough(came, least))?;
        }
        Ok(end.unwrap_or(Ok(())))
    }

    /// Fills `buf` with the body, which is just as long: how many bytes came, and what went wrong if not all. The connection can
    /// be used again then.
    pub async fn fill(mut self, buf: &mut [u8]) -> (usize, Result<(), HttpError>) {
        let mut done = 0;
        while done < buf.len() {
            let least = self.least();
            let (from, until) = (done, done.saturating_add(STEP).min(buf.len()));
            let step = async {
                while done < until {
                    match self.connection.read(buf.get_mut(done..).unwrap_or_default()).await? {
                        0 if self.head.is_unbounded() => {
                            return Err(HttpError::Broken("it ended before the range did".to_owned()));
                        }
                        0 => return Err(HttpError::WrongRange),
                        n => done += n,
                    }
                }
                Ok(())
            };
            let stepped = rt::timeout(self.timeout, step).await;
            if let Err(error) = stepped.unwrap_or_else(|_| self.is_enough(done - from, least)) {
                return (done, Err(error));
            }
        }
        (done, self.end().await)
    }

    /// Bytes that have to come in the time for which a server may be silent: all connections that are in use bring [`STEP`] together.
    fn least(&self) -> usize {
        (STEP / self.lease.in_use()).max(1)
    }

    /// Whether so many are enough, which was asked of this one at the start of the time.
    fn is_enough(&self, came: usize, least: usize) -> Result<(), HttpError> {
        match least.min(self.least()) {
            least if came < least => Err(HttpError::slow(came, least, self.timeout)),
            _ => Ok(()),
        }
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
