//! A connection to a server, straight or by a proxy, plain or in TLS: a request, its answer, the next one.

use super::client::Ask;
use super::error::HttpError;
use super::head::Head;
use super::incoming::{Content, Incoming};
use super::location::{Location, Server};
use super::proxy::Proxy;
use super::request::{Request, User};
use http::StatusCode;
use rt::net::Stream;
use std::io;
use std::sync::Arc;
use tls::{Channel, Trust};

/// Most bytes of what a proxy answers to CONNECT.
const GRANT: usize = 16 << 10;

/// A connection; closed when it is dropped.
pub(super) struct Connection {
    channel: Channel,
    incoming: Incoming,
    request: Request,
    /// The proxy that passes requests on; they name the server then.
    proxy: Option<Proxy>,
    /// One was answered before.
    pub used: bool,
    /// The worker that made it.
    pub worker: Option<usize>,
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
        let (incoming, request) = (Incoming::new(), Request::default());
        Ok(Self { channel, incoming, request, proxy, used: false, worker: rt::current_worker() })
    }

    /// Whether the last answer is over, and the server goes on: it may be used again if it [is free](Self::is_free) then.
    pub fn is_done(&self) -> bool {
        self.incoming.is_free()
    }

    /// Whether another request may be made, as far as is known here: the last answer is over, and nothing came that nobody asked for.
    pub fn is_free(&self) -> bool {
        let nothing_comes =
            || self.channel.try_recv(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.is_done() && nothing_comes()
    }

    /// Makes a request, and waits for the head of its answer. The answer's content is read before the next one is made.
    pub async fn send(&mut self, user: &User, at: &Arc<Location>, ask: &Ask<'_>) -> Result<Head, HttpError> {
        let request = self.request.write(user, at, ask, self.proxy.as_ref())?;
        self.incoming.expect();
        self.channel.send_all(request).await.map_err(HttpError::of)?;
        loop {
            if let Some(head) = self.incoming.head(&ask.method)? {
                return Ok(head);
            }
            if self.receive().await? == 0 {
                self.incoming.head_ended()?;
                return Err(HttpError::Broken("the server closed it".to_owned()));
            }
        }
    }

    /// Bytes that are left of the answer, where that is known.
    pub fn left(&self) -> Option<u64> {
        self.incoming.left()
    }

    /// Reads some of the answer's content; 0 bytes are its end.
    pub async fn read(&mut self, to: &mut [u8]) -> Result<usize, HttpError> {
        loop {
            match self.incoming.content(to)? {
                Content::Over => return Ok(0),
                Content::Taken(n) => return Ok(n),
                Content::Direct(most) => {
                    // It goes where it belongs without a copy.
                    let to = to.get_mut(..most).unwrap_or_default();
                    let n = self.channel.recv(to).await.map_err(HttpError::of)?;
                    self.incoming.took(n)?;
                    if n > 0 {
                        return Ok(n);
                    }
                }
                Content::More => {
                    if self.receive().await? == 0 {
                        self.incoming.took(0)?;
                    }
                }
            }
        }
    }

    /// Receives what is no content; 0 bytes are the end.
    async fn receive(&mut self) -> Result<usize, HttpError> {
        let n = self.channel.recv(self.incoming.room()).await.map_err(HttpError::of)?;
        self.incoming.received(n);
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
