//! A stream in TLS that OpenSSL serves to the end: where TLS 1.2 was agreed on, whose records are not known here, or where a session
//! is to go on in another channel.

use crate::handshake::{Pipe, reasons};
use crate::layer::Layer;
use crate::resumed::Session;
use openssl::ssl::{self, ErrorCode, SslStream};
use parking_lot::Mutex;
use rt::net::Stream;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that are taken at a time: what is sealed is sent before more is.
const BATCH: usize = 128 << 10;
/// Bytes that are received at a time.
const CHUNK: usize = 64 << 10;

/// OpenSSL, and what it reads and writes.
pub(crate) struct Library {
    tls: Mutex<SslStream<Pipe>>,
    holds_more: AtomicBool,
}

impl Library {
    /// After a handshake.
    pub fn new(tls: SslStream<Pipe>) -> Self {
        let holds_more = AtomicBool::new(holds_more(&tls));
        Self { tls: Mutex::new(tls), holds_more }
    }
}

impl Layer for Library {
    fn holds_more(&self) -> bool {
        self.holds_more.load(Ordering::Acquire)
    }

    fn try_flush(&self, stream: &Stream) -> io::Result<()> {
        self.tls.lock().get_mut().send(stream)
    }

    fn try_recv(&self, stream: &Stream, buf: &mut [u8]) -> io::Result<usize> {
        let mut tls = self.tls.lock();
        let got = receive(&mut tls, stream, buf);
        self.holds_more.store(holds_more(&tls), Ordering::Release);
        got
    }

    fn try_send(&self, stream: &Stream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut tls = self.tls.lock();
        tls.get_mut().send(stream)?;
        let mut taken = 0;
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let part = part.get(..BATCH - taken).unwrap_or(part);
            taken += tls.ssl_write(part).map_err(failed)?;
            if taken == BATCH {
                break;
            }
        }
        match tls.get_mut().send(stream) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn say_the_end(&self, stream: &Stream) {
        let mut tls = self.tls.lock();
        // The peer may be gone.
        let _ = tls.shutdown();
        let _ = tls.get_mut().send(stream);
    }

    fn session(&self) -> Option<Session> {
        Session::of(self.tls.lock().ssl())
    }
}

fn holds_more(tls: &SslStream<Pipe>) -> bool {
    tls.ssl().pending() > 0 || !tls.get_ref().rest().is_empty()
}

fn receive(tls: &mut SslStream<Pipe>, stream: &Stream, buf: &mut [u8]) -> io::Result<usize> {
    if buf.is_empty() {
        return Ok(0);
    }
    loop {
        match tls.ssl_read(buf) {
            Ok(n) => return Ok(n),
            Err(error) if error.code() == ErrorCode::ZERO_RETURN => return Ok(0),
            Err(error) if error.code() == ErrorCode::WANT_READ => {}
            Err(error) => return Err(failed(error)),
        }
        // It may have answered something that is no data.
        match tls.get_mut().send(stream) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        // A peer that is gone without a word has ended too: what is said in TLS has its own end.
        if tls.get_mut().receive(stream, CHUNK)? == 0 {
            return Ok(0);
        }
    }
}

fn failed(error: ssl::Error) -> io::Error {
    let text = error.ssl_error().map(reasons).filter(|text| !text.is_empty());
    let text = text.unwrap_or_else(|| "the peer broke it off".to_owned());
    io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {text}"))
}
