//! A connection to a server, straight or by a proxy, plain or in TLS.

use super::error::HttpError;
use super::location::Server;
use super::proxy::Proxy;
use super::socket::{PLACE, Socket};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use rt::net::Stream;
use std::sync::Arc;
use tls::{Channel, Trust};

/// Most bytes of a response's head, and how many lines it may have.
const HEAD: usize = 64 << 10;
const LINES: usize = 200;
/// Most bytes of what a proxy answers to CONNECT.
const GRANT: usize = 16 << 10;

/// A connection; closed when it is dropped.
pub(super) struct Connection {
    requests: SendRequest<String>,
    channel: Arc<Channel>,
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
        let channel = Arc::new(Channel::from(stream));
        if let Some(trust) = trust {
            if let Some(proxy) = &proxy {
                ask_proxy(&channel, server, proxy).await?;
            }
            tls::reach(&channel, trust, &server.host, None).await.map_err(HttpError::Tls)?;
        }
        let proxy = proxy.filter(|_| trust.is_none());
        let mut builder = http1::Builder::new();
        builder.read_buf_exact_size(Some(PLACE)).max_header_size(HEAD).max_headers(LINES);
        let shaken = builder.handshake(Socket::new(channel.clone())).await;
        let (requests, connection) = shaken.map_err(|error| HttpError::of(&error))?;
        // Its end is told to whoever waits for an answer.
        rt::spawn(async move { drop(connection.await) }).detach();
        Ok(Self { requests, channel, proxy, used: false })
    }

    /// Whether another request may be made, as far as is known here.
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Makes a request; its answer's body is read before the next one is made.
    pub async fn send(&mut self, request: Request<String>) -> Result<Response<Incoming>, HttpError> {
        self.requests.ready().await.map_err(|error| HttpError::of(&error))?;
        self.requests.send_request(request).await.map_err(|error| HttpError::of(&error))
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
    let broken = |error: std::io::Error| HttpError::Broken(block::BlockError::from_io(&error).to_string());
    channel.send_all(&request).await.map_err(broken)?;
    let mut answer = Vec::new();
    // A byte at a time: what is behind the head is the server's. It comes once for each connection.
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if channel.recv(&mut byte).await.map_err(broken)? == 0 {
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
