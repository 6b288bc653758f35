//! Character devices: the streams that monitors are served on.
use crate::client;
use crate::control::Control;
use crate::human;
use crate::wire::MessageLayout;
use api::{ChardevOptions, ChardevOptionsBranch, ChardevSocketOptions, InetSocketAddress, QmpError};
use api::{FdSocketAddress, SocketAddress, UnixSocketAddress};
use block::BlockError;
use futures_util::future::{Either, select};
use parking_lot::Mutex;
use rt::net::{Listener, Stream};
use rt::{BoxFuture, JoinHandle, Target};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long a listener waits after a connection could not be accepted (too few descriptors).
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What is spoken on a character device.
#[derive(Clone, Copy)]
pub(crate) enum Language {
    /// QMP.
    Qmp(MessageLayout),
    /// Commands of the monitor for people.
    Human,
    /// Something of the program's own.
    Other(Service),
}

/// Serves a stream of requests, whose answers go to the second one, until it ends.
pub type Service = fn(Arc<Stream>, Arc<Stream>) -> BoxFuture<'static, ()>;

/// The connections of a character device that stands on sockets.
pub(crate) struct Connections {
    id: String,
    streams: Mutex<Vec<Weak<Stream>>>,
}

impl Connections {
    /// The device's name.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Gives up those that there are.
    pub(crate) fn cut(&self) {
        for stream in self.streams.lock().drain(..).filter_map(|stream| stream.upgrade()) {
            // It may be gone already.
            let _ = stream.shutdown();
        }
    }

    fn add(&self, stream: &Arc<Stream>) {
        let mut streams = self.streams.lock();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Arc::downgrade(stream));
    }
}

/// An open character device.
pub(crate) enum Chardev {
    /// A listener; the first client may be there already.
    Server(Vec<Listener>, Option<Stream>, Arc<Connections>),
    /// Connected to a server.
    Client(Stream, Arc<Connections>),
    /// Standard input and output.
    Stdio,
}

impl Chardev {
    /// Opens it. With `wait=on` a server waits for its first client.
    pub(crate) async fn open(control: &Control, options: &ChardevOptions) -> Result<Self, QmpError> {
        let ChardevOptionsBranch::Socket(socket) = &options.branch else { return Ok(Self::Stdio) };
        let address = address(socket)?;
        let connections = Arc::new(Connections { id: options.id.clone(), streams: Mutex::default() });
        if !socket.server.unwrap_or(false) {
            if socket.wait.is_some() {
                return Err(QmpError::generic(
                    "'wait' option is incompatible with socket in client connect mode",
                ));
            }
            let stream = connect(control, &address).await?;
            control.add_connections(&connections);
            return Ok(Self::Client(stream, connections));
        }
        let listeners = control.listen(&address).await?;
        let mut first = None;
        if socket.wait.unwrap_or(true)
            && let Some(listener) = listeners.first()
        {
            tracing::info!(chardev = options.id, "waiting for the first client");
            first = Some(
                listener
                    .accept()
                    .await
                    .map_err(|e| QmpError::generic(BlockError::from_io(&e).to_string()))?,
            );
        }
        control.add_connections(&connections);
        Ok(Self::Server(listeners, first, connections))
    }

    /// Serves a monitor on it from now on. The returned task ends when no client can connect any more.
    pub(crate) fn serve(
        self,
        control: &Control,
        language: Language,
    ) -> Result<Vec<JoinHandle<()>>, QmpError> {
        let mut doors = Vec::new();
        match self {
            Self::Client(stream, its) => spawn_session(control, &its, stream, language),
            Self::Stdio => {
                let open = |stream: std::io::Result<Stream>| {
                    stream.map(Arc::new).map_err(|e| QmpError::generic(BlockError::from_io(&e).to_string()))
                };
                let (input, output) = (open(rt::stdio::stdin())?, open(rt::stdio::stdout())?);
                rt::spawn_on(Target::Control, session(control.clone(), input, output, language)).detach();
            }
            Self::Server(listeners, first, its) => {
                if let Some(stream) = first {
                    spawn_session(control, &its, stream, language);
                }
                let door = |listener| {
                    rt::spawn_on(Target::Control, accept(control.clone(), its.clone(), listener, language))
                };
                doors.extend(listeners.into_iter().map(door));
            }
        }
        Ok(doors)
    }
}

fn spawn_session(control: &Control, connections: &Connections, stream: Stream, language: Language) {
    let stream = Arc::new(stream);
    connections.add(&stream);
    rt::spawn_on(Target::Control, session(control.clone(), stream.clone(), stream, language)).detach();
}

async fn session(control: Control, input: Arc<Stream>, output: Arc<Stream>, language: Language) {
    match language {
        Language::Qmp(layout) => client::serve(control, input, output, layout).await,
        Language::Human => human::serve(control, input, output).await,
        Language::Other(serve) => serve(input, output).await,
    }
}

/// Accepts clients until the program ends; then the listener is closed and its socket's file removed.
async fn accept(control: Control, connections: Arc<Connections>, listener: Listener, language: Language) {
    loop {
        let accepted = match select(pin!(listener.accept()), pin!(control.ending())).await {
            Either::Left((accepted, _)) => accepted,
            Either::Right(_) => return,
        };
        match accepted {
            Ok(stream) => spawn_session(&control, &connections, stream, language),
            Err(e) => {
                tracing::warn!(error = %e, "a QMP client could not be accepted");
                rt::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

async fn connect(control: &Control, address: &SocketAddress) -> Result<Stream, QmpError> {
    let (place, result) = match address {
        SocketAddress::Fd(fd) => {
            (fd.str.clone(), control.descriptors().socket(&fd.str).and_then(Stream::from_fd))
        }
        SocketAddress::Vsock(_) => return Err(QmpError::generic("a chardev over vsock is not supported")),
        SocketAddress::Unix(unix) => (unix.path.clone(), Stream::connect_unix(Path::new(&unix.path)).await),
        SocketAddress::Inet(inet) => {
            let port = inet.port.parse();
            let port =
                port.map_err(|_| QmpError::generic(format!("'{}' is not a port number", inet.port)))?;
            (format!("{}:{port}", inet.host), Stream::connect_tcp(&inet.host, port).await)
        }
    };
    result.map_err(|e| {
        QmpError::generic(BlockError::os(format!("Failed to connect to '{place}'"), &e).to_string())
    })
}

fn address(socket: &ChardevSocketOptions) -> Result<SocketAddress, QmpError> {
    let ChardevSocketOptions { path, host, port, fd, .. } = socket.clone();
    if let Some(fd) = fd {
        return match (path, host, port) {
            (None, None, None) => Ok(SocketAddress::Fd(FdSocketAddress { str: fd })),
            _ => Err(QmpError::generic("chardev: socket: 'fd' excludes 'path', 'host' and 'port'")),
        };
    }
    match (path, host, port) {
        (Some(path), None, None) => Ok(SocketAddress::Unix(UnixSocketAddress { path })),
        (None, host, Some(port)) => Ok(SocketAddress::Inet(InetSocketAddress {
            host: host.unwrap_or_default(),
            port,
            ..InetSocketAddress::default()
        })),
        (None, Some(_), None) => Err(QmpError::generic("chardev: socket: no port given")),
        _ => Err(QmpError::generic("chardev: socket: one of 'path', 'port' and 'fd' must be given")),
    }
}
