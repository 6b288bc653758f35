//! One connection from accept to close.

use super::export::NbdExport;
use super::input::Input;
use super::transmission::Transmission;
use super::{ServerState, ServerTls};
use ::nbd::server::{Handshake, HandshakeError, Session, Step};
use event_listener::IntoNotification;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tls::{Channel, TlsError};

/// A connection that counts against the server's bound while it lives.
pub(super) struct Connection {
    pub state: Arc<ServerState>,
    pub stream: Arc<Channel>,
    /// The client has chosen an export.
    pub negotiated: bool,
}

/// Why a handshake led to no session.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    TooSlow(#[from] rt::Elapsed),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Connection {
    /// Serves the client until it leaves.
    pub async fn run(mut self) {
        let client = self.stream.peer_label();
        let mut input = Input::default();
        let session = match self.negotiate(&mut input).await {
            Ok(Some(session)) => session,
            Ok(None) => return tracing::debug!(client, "client left without choosing an export"),
            Err(error) => {
                (self.state.options.on_failed_handshake)(&error);
                return tracing::info!(client, %error, "handshake failed");
            }
        };
        let Some(visit) = session.export.enter(&self.stream) else {
            return tracing::debug!(client, "the export was closed while the client chose it");
        };
        self.negotiated = true;
        tracing::debug!(client, export = session.name, "client connected");
        let bytes = self.state.options.bytes_in_flight;
        let ended = Transmission::new(&self.stream, session, input, bytes).run().await;
        match ended {
            Ok(()) => tracing::debug!(client, "client left"),
            Err(error) => tracing::debug!(client, %error, "connection lost"),
        }
        drop(visit);
    }

    async fn negotiate(&self, input: &mut Input) -> Result<Option<Session<Arc<NbdExport>>>, Failed> {
        match self.state.options.handshake_deadline {
            // It may be dropped at the deadline: it holds only this connection's own buffers.
            Some(deadline) => rt::timeout(deadline, self.handshake(input)).await?,
            None => self.handshake(input).await,
        }
    }

    async fn handshake(&self, input: &mut Input) -> Result<Option<Session<Arc<NbdExport>>>, Failed> {
        let mut out = Vec::new();
        let mut handshake = Handshake::new(&mut out);
        if self.state.options.tls.is_some() {
            handshake = handshake.requiring_tls();
        }
        self.stream.send_all(&out).await?;
        loop {
            let n = self.stream.recv(input.room(0)).await?;
            if n == 0 {
                return Ok(None);
            }
            input.received(n);
            while !input.window().is_empty() {
                // A flood of options may be answered without ever waiting: other tasks and the deadline need their turn.
                rt::cooperate().await;
                out.clear();
                let (taken, step) = handshake.advance(input.window(), &*self.state, &mut out)?;
                input.take(taken);
                let sent = self.stream.send_all(&out).await;
                // A client that aborts need not wait for the answer.
                if !matches!(step, Step::Closed) {
                    sent?;
                }
                match step {
                    Step::More | Step::Answered => {}
                    Step::StartTls => {
                        handshake.secured(input.window().len())?;
                        self.start_tls().await?;
                    }
                    Step::Ready(session) => return Ok(Some(session)),
                    Step::Closed => return Ok(None),
                }
            }
        }
    }
}

impl Connection {
    async fn start_tls(&self) -> Result<(), Failed> {
        if let Some(ServerTls { credentials, authorizer }) = &self.state.options.tls {
            let identity = tls::accept(&self.stream, credentials, authorizer.as_ref()).await?;
            let (client, user) = (self.stream.peer_label(), identity.map(|identity| identity.0));
            tracing::debug!(client, user, "TLS has begun");
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.negotiated {
            self.state.served.store(true, Ordering::Release);
        }
        // A close that is under way may still hold the stream: the client must not wait for that.
        let _ = self.stream.shutdown();
        self.state.connections.lock().retain(|stream| !Arc::ptr_eq(stream, &self.stream));
        self.state.changed.notify(usize::MAX.additional());
    }
}
