//! A connection to a server, straight or by a proxy, plain or in TLS: a request, its answer, the next one.
//!
//! ```text
//! channel ─▶ place ─▶ Head            what is received with a head, or between chunks
//!    └──────────────▶ the reader's buffer     all other content
//! ```

use super::body::{Body, Next};
use super::error::HttpError;
use super::head::{self, Head};
use super::location::Server;
use super::proxy::Proxy;
use http::{Method, StatusCode};
use rt::net::Stream;
use std::io;
use std::ops::Range;
use tls::{Channel, Trust};

/// Most bytes of what a proxy answers to CONNECT.
const GRANT: usize = 16 << 10;
/// Bytes that are received at a time of what is no content: a head, and what comes with it.
const PLACE: usize = 16 << 10;

/// A connection; closed when it is dropped.
pub(super) struct Connection {
    channel: Channel,
    /// What has come and was not taken is at `came`.
    place: Vec<u8>,
    came: Range<usize>,
    /// What is left of the last answer.
    body: Body,
    /// The server goes on after that.
    keeps: bool,
    /// The proxy that passes requests on; they name the server then.
    pub proxy: Option<Proxy>,
    /// One was answered before.
    pub used: bool,
}

impl Connection {
    /// Connects. The time that it takes is the caller's to limit.
    pub async fn open(
        server: &Server,
        proxy: Option<Proxy>,
        trust: Option<&Trust>,
    ) -> Result<Self, HttpError> {
        let first = proxy.as_ref().map_or(server, |proxy| &proxy.server);
        let stream = Stream::connect_tcp(&first.host, first.port).await;
        let stream = stream.map_err(|error| HttpError::Connect { to: first.place(), error })?;
        let channel = Channel::from(stream);
        if let Some(trust) = trust {
            if let Some(proxy) = &proxy {
                ask_proxy(&channel, server, proxy).await?;
            }
            tls::reach(&channel, trust, &server.host, None).await.map_err(HttpError::Tls)?;
        }
        let proxy = proxy.filter(|_| trust.is_none());
        let place = vec![0; PLACE];
        Ok(Self { channel, place, came: 0..0, body: Body::Over, keeps: true, proxy, used: false })
    }

    /// Whether another request may be made, as far as is known here: the last answer is over, and nothing came that nobody asked for.
    pub fn is_free(&self) -> bool {
        let nothing_comes =
            || self.channel.try_recv(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.keeps && self.body == Body::Over && self.came.is_empty() && nothing_comes()
    }

    /// Makes a request, the head of which this is, and waits for the head of its answer. The answer's content is read before the
    /// next one is made.
    pub async fn send(&mut self, method: &Method, request: &[u8]) -> Result<Head, HttpError> {
        self.keeps = false;
        self.channel.send_all(request).await.map_err(HttpError::of)?;
        loop {
            let head = self.head().await?;
            // Others are told before the answer.
            if !head.status.is_informational() {
                self.body = Body::of(method, &head);
                self.keeps = head.keeps;
                return Ok(head);
            }
        }
    }

    async fn head(&mut self) -> Result<Head, HttpError> {
        // Looked at again when a line has ended, not with each byte.
        let mut seen = 0;
        loop {
            let came = self.here();
            if came.get(seen..).is_some_and(|new| new.contains(&b'\n'))
                && let Some((head, len)) = Head::parse(came)?
            {
                self.came.start += len;
                return Ok(head);
            }
            seen = came.len();
            if seen >= head::MOST {
                return Err(HttpError::Garbage(format!("its head has more than {} bytes", head::MOST)));
            }
            if self.receive().await? == 0 {
                return Err(HttpError::Broken("the server closed it".to_owned()));
            }
        }
    }

    /// Bytes that are left of the answer, where that is known.
    pub fn left(&self) -> Option<u64> {
        self.body.left()
    }

    /// Reads some of the answer's content; 0 bytes are its end.
    pub async fn read(&mut self, to: &mut [u8]) -> Result<usize, HttpError> {
        loop {
            let came = self.place.get(self.came.clone()).unwrap_or_default();
            match self.body.next(came)? {
                Next::Over => return Ok(0),
                Next::Other(n) => self.came.start += n,
                Next::More => {
                    if self.receive().await? == 0 {
                        self.body.end()?;
                    }
                }
                Next::Content(most) => {
                    let most = most.min(to.len() as u64) as usize;
                    let to = to.get_mut(..most).unwrap_or_default();
                    let n = match came.len().min(most) {
                        // It goes where it belongs without a copy.
                        0 => self.channel.recv(to).await.map_err(HttpError::of)?,
                        n => {
                            if let (Some(to), Some(from)) = (to.get_mut(..n), came.get(..n)) {
                                to.copy_from_slice(from);
                            }
                            self.came.start += n;
                            n
                        }
                    };
                    if n > 0 {
                        self.body.took(n as u64);
                        return Ok(n);
                    }
                    self.body.end()?;
                }
            }
        }
    }

    /// What has come and was not taken.
    fn here(&self) -> &[u8] {
        self.place.get(self.came.clone()).unwrap_or_default()
    }

    /// Receives behind what is here; 0 bytes are the end.
    async fn receive(&mut self) -> Result<usize, HttpError> {
        if self.came.is_empty() {
            self.came = 0..0;
        } else if self.came.end == self.place.len() && self.came.start > 0 {
            self.place.copy_within(self.came.clone(), 0);
            self.came = 0..self.came.len();
        }
        if self.came.end == self.place.len() {
            // Its users bound what is here.
            self.place.resize(self.place.len() + PLACE, 0);
        }
        let room = self.place.get_mut(self.came.end..).unwrap_or_default();
        let n = self.channel.recv(room).await.map_err(HttpError::of)?;
        self.came.end += n;
        Ok(n)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It may be closed already.
        let _ = self.channel.shutdown();
    }
}

/// Has a proxy connect to the server (RFC 9110, 9.3.6).
async fn ask_proxy(channel: &Channel, server: &Server, proxy: &Proxy) -> Result<(), HttpError> {
    let place = server.place();
    let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n").into_bytes();
    if let Some(told) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(told.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    channel.send_all(&request).await.map_err(HttpError::of)?;
    let mut answer = Vec::new();
    // A byte at a time: what is behind the head is the server's. It comes once for each connection.
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if channel.recv(&mut byte).await.map_err(HttpError::of)? == 0 {
            return Err(HttpError::Broken("the proxy closed it".to_owned()));
        }
        answer.extend_from_slice(&byte);
        if answer.len() > GRANT {
            return Err(HttpError::ProxyGarbage);
        }
    }
    match status_of(&answer).ok_or(HttpError::ProxyGarbage)? {
        status if status.is_success() => Ok(()),
        status => Err(HttpError::Proxy(status)),
    }
}

/// The status of a head that begins with `HTTP/1.x NNN`.
fn status_of(head: &[u8]) -> Option<StatusCode> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let (version, rest) = rest.split_first()?;
    let digits = rest.strip_prefix(b" ")?.get(..3)?;
    version.is_ascii_digit().then(|| StatusCode::from_bytes(digits).ok()).flatten()
}
