//! The NBD server: listeners, exports by name, and a task for each connection.
//!
//! ```text
//!  listener ─accept─▶ handshake (deadline) ─▶ export ─▶ transmission ─▶ backend
//!  control worker     └────────────── one data worker ──────────────┘
//! ```
//!
//! Laws: a connection lives on one worker, from socket to file; no backend is touched before the client has chosen
//! an export; an export or server that closes shuts its clients' sockets and waits until their last request has
//! ended.
//!
//! Where TLS is asked for, a connection's channel is put into it during the handshake, and nothing is granted before.
//!
//! Bounds: connections, time of a handshake, bytes in flight for a client: see [`ServerOptions`].

mod background;
mod connection;
mod export;
mod input;
mod output;
mod reply;
mod service;
mod sparse;
mod transmission;
mod waiting;

pub use export::NbdExportSpec;
pub use service::{ExportedBitmap, NbdKind, NbdOptions, NbdService};

use crate::error::ExportError;
use ::nbd::server::{Catalog, Offer};
use connection::Connection;
use event_listener::{Event, EventListener, IntoNotification};
use export::NbdExport;
use parking_lot::{Mutex, RwLock};
use rt::Target;
use rt::net::{Address, Listener, Stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tls::{Authorizer, Channel, Credentials};

/// How long the server waits after a connection could not be accepted (too few descriptors).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// TLS of a server: nothing is granted without it.
#[derive(Clone)]
pub struct ServerTls {
    /// Its own certificate, or the shared keys.
    pub credentials: Credentials,
    /// Who is let in; everybody whom the credentials know, without one.
    pub authorizer: Option<Authorizer>,
}

/// Bounds of a server, and its TLS.
#[derive(Clone)]
pub struct ServerOptions {
    /// Most connections at a time; more wait in the listener's queue. 0: as many as there are descriptors.
    pub max_connections: usize,
    /// How long a client may take to choose an export.
    pub handshake_deadline: Option<Duration>,
    /// Most bytes of requests in flight for one client; a single larger request is served all the same.
    pub bytes_in_flight: usize,
    /// Clients have to begin TLS.
    pub tls: Option<ServerTls>,
    /// Is told why a client's handshake failed.
    pub on_failed_handshake: fn(&dyn std::error::Error),
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            max_connections: 100,
            handshake_deadline: Some(Duration::from_secs(10)),
            bytes_in_flight: 16 << 20,
            tls: None,
            on_failed_handshake: |_| {},
        }
    }
}

/// A running server.
pub struct NbdServer {
    state: Arc<ServerState>,
    addresses: Vec<Address>,
}

/// What the server and its connections share.
struct ServerState {
    options: ServerOptions,
    exports: RwLock<Vec<Arc<NbdExport>>>,
    connections: Mutex<Vec<Arc<Channel>>>,
    stopping: AtomicBool,
    /// Clients wait in the listeners' queues.
    held: AtomicBool,
    /// A client that had chosen an export has left.
    served: AtomicBool,
    /// Something of the above has changed.
    changed: Event,
}

impl NbdServer {
    /// Listens on an address; a TCP name may mean several sockets.
    pub async fn listen(address: &Address) -> Result<Vec<Listener>, ExportError> {
        let listened = match address {
            Address::Unix(path) => Listener::bind_unix(path).await.map(|listener| vec![listener]),
            Address::Tcp { host, port } => Listener::bind_tcp(host, *port).await,
            Address::Vsock { cid, port } => Listener::bind_vsock(*cid, *port).map(|listener| vec![listener]),
        };
        listened.map_err(|error| ExportError::Listen { address: address.clone(), error })
    }

    /// Starts to accept clients. It has no exports yet: see [`NbdServer::add`].
    pub fn start(listeners: Vec<Listener>, options: ServerOptions) -> Self {
        let state = Arc::new(ServerState {
            options,
            exports: RwLock::default(),
            connections: Mutex::default(),
            stopping: AtomicBool::new(false),
            held: AtomicBool::new(false),
            served: AtomicBool::new(false),
            changed: Event::new(),
        });
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().cloned()).collect();
        for listener in listeners {
            rt::spawn_on(Target::Control, accept(state.clone(), listener)).detach();
        }
        Self { state, addresses }
    }

    /// Lets no client in until [`NbdServer::let_in`]: clients may connect, and wait. For a program that still prepares its
    /// exports; called before it yields to the accepting task.
    pub fn hold(&self) {
        self.state.held.store(true, Ordering::Release);
    }

    /// Ends a [`NbdServer::hold`].
    pub fn let_in(&self) {
        self.state.held.store(false, Ordering::Release);
        self.state.changed.notify(usize::MAX.additional());
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.state.connections.lock().len()
    }

    /// Where it listens, with the ports that were chosen.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Offers an export. What is returned withdraws it.
    pub fn add(&self, spec: NbdExportSpec) -> Result<Offered, ExportError> {
        check_texts(&spec.name, &spec.description)?;
        let size = spec.backend.length();
        if size > ::nbd::limits::EXPORT_SIZE {
            return Err(ExportError::TooLarge { name: spec.name, size });
        }
        let mut exports = self.state.exports.write();
        // Checked under the lock: `stop` sets the flag before it takes the exports that it finds here.
        if self.state.stopping() {
            return Err(ExportError::NotRunning);
        }
        if exports.iter().any(|export| export.name() == spec.name) {
            return Err(ExportError::NameTaken(spec.name));
        }
        let export = NbdExport::new(spec);
        exports.push(export.clone());
        Ok(Offered { state: self.state.clone(), export })
    }

    /// Names of the exports.
    pub fn names(&self) -> Vec<String> {
        self.state.exports.read().iter().map(|export| export.name().to_owned()).collect()
    }

    /// Connections that use the export now.
    pub fn client_count(&self, name: &str) -> usize {
        self.state.export(name).map_or(0, |export| export.client_count())
    }

    /// Stops listening, withdraws the exports, disconnects all clients, and returns when the last request has ended.
    pub async fn stop(&self) {
        self.state.stopping.store(true, Ordering::Release);
        // A request that waits for a machine to go on would never end.
        let exports = std::mem::take(&mut *self.state.exports.write());
        exports.iter().for_each(|export| export.backend().let_guest_go());
        self.state.connections.lock().iter().for_each(|stream| drop(stream.shutdown()));
        self.state.changed.notify(usize::MAX.additional());
        self.state.wait_until(|state| state.connections.lock().is_empty()).await;
    }

    /// Returns when a client that used an export has left and no other is connected.
    pub async fn last_client_left(&self) {
        let left =
            |state: &ServerState| state.served.load(Ordering::Acquire) && state.connections.lock().is_empty();
        self.state.wait_until(left).await;
    }
}

/// An offered export, as held by its owner. It knows its clients itself: they are waited for also when the server, which
/// forgets its exports when it stops, is gone.
#[derive(Clone)]
pub struct Offered {
    state: Arc<ServerState>,
    export: Arc<NbdExport>,
}

impl Offered {
    /// Withdraws the export if no client uses it; whether that is so.
    pub fn withdraw_unused(&self) -> bool {
        let unused = self.export.close_if_unused();
        if unused {
            self.state.withdraw(&self.export);
        }
        unused
    }

    /// Whether the server has begun to stop.
    pub fn server_stops(&self) -> bool {
        self.state.stopping()
    }

    /// Withdraws the export: no new client finds it, and those there are are disconnected. Returns when their last request
    /// has ended.
    pub async fn withdraw(&self) {
        self.state.withdraw(&self.export);
        self.export.close().await;
    }
}

/// Refuses a name or description that is too long for the protocol.
pub(crate) fn check_texts(name: &str, description: &str) -> Result<(), ExportError> {
    for (what, text) in [("export name", name), ("description", description)] {
        if text.len() > ::nbd::limits::STRING {
            return Err(ExportError::TooLong { what, text: text.to_owned() });
        }
    }
    Ok(())
}

impl ServerState {
    fn export(&self, name: &str) -> Option<Arc<NbdExport>> {
        self.exports.read().iter().find(|export| export.name() == name).cloned()
    }

    fn withdraw(&self, export: &Arc<NbdExport>) {
        self.exports.write().retain(|other| !Arc::ptr_eq(other, export));
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    async fn wait_until(&self, done: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.listen();
            if done(self) {
                return;
            }
            changed.await;
        }
    }

    /// Whether one more client may connect.
    fn has_room(&self) -> bool {
        let most = self.options.max_connections;
        !self.held.load(Ordering::Acquire) && (most == 0 || self.connections.lock().len() < most)
    }

    /// Registers a connection; `None` when the server is stopping.
    fn admit(self: &Arc<Self>, stream: Stream) -> Option<Connection> {
        let stream = Arc::new(Channel::from(stream));
        let mut connections = self.connections.lock();
        // Checked under the lock: `stop` sets the flag before it shuts the connections it finds here.
        if self.stopping() {
            return None;
        }
        connections.push(stream.clone());
        Some(Connection { state: self.clone(), stream, negotiated: false })
    }
}

impl Catalog for ServerState {
    type Export = Arc<NbdExport>;

    fn list(&self, visit: &mut dyn FnMut(&str, &str)) {
        self.exports.read().iter().for_each(|export| visit(export.name(), export.description()));
    }

    fn find(&self, name: &str) -> Option<(Arc<NbdExport>, Offer)> {
        let export = self.export(name)?;
        let offer = export.offer();
        Some((export, offer))
    }
}

/// Accepts clients until the server stops; the listener is closed then.
async fn accept(state: Arc<ServerState>, listener: Listener) {
    while !state.stopping() {
        state.wait_until(|state| state.has_room() || state.stopping()).await;
        let changed = state.changed.listen();
        if state.stopping() {
            return;
        }
        let Some(accepted) = unless(changed, listener.accept()).await else { continue };
        match accepted {
            Ok(stream) => {
                // A client of another listener may have been accepted meanwhile.
                state.wait_until(|state| state.has_room() || state.stopping()).await;
                if let Some(connection) = state.admit(stream) {
                    rt::spawn_on(Target::LeastLoaded, connection.run()).detach();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a client could not be accepted; waiting a moment");
                rt::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// The future's answer, or `None` if the event comes first.
async fn unless<T>(event: EventListener, future: impl Future<Output = T>) -> Option<T> {
    use futures_util::future::{Either, select};
    match select(std::pin::pin!(future), event).await {
        Either::Left((answer, _)) => Some(answer),
        Either::Right(_) => None,
    }
}
