//! A server of one file, on a thread of its own, that does what it is told to do wrong.

use parking_lot::Mutex;
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Config, Msg, Response, Session};
use russh::{Channel, ChannelId, ChannelMsg, MethodKind, MethodSet};
use sftp::{Attributes, Limits, Received, Reply, Request, StatusCode, Version};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::TcpListener;

/// The path of the file.
pub const PATH: &str = "/disk";

/// The handle of the file: no text.
const HANDLE: &[u8] = b"\0\0\0\xff";

/// What becomes of a request.
pub enum Act {
    /// It is carried out.
    Proper,
    /// These bytes are sent in place of an answer.
    Send(Vec<u8>),
    /// It is never answered.
    Silence,
    /// The channel is closed.
    Close,
}

/// Decides on each message, whose bytes are given without their length.
type Hook = dyn Fn(&Received<'_>) -> Act + Send + Sync;

/// What the server is like.
pub struct Behaviour {
    pub version: Version,
    pub limits: Limits,
    pub hook: Box<Hook>,
    /// The one password that logs a user in; anybody is, if there is none.
    pub password: Option<&'static str>,
    /// The password is asked for by a question.
    pub interactive: bool,
    /// The subsystem is not refused, or not answered.
    pub subsystem: Option<bool>,
    /// Nobody is ever told whether he is logged in.
    pub silent_login: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            version: Version { version: 3, fsync: true, limits: true },
            limits: Limits { packet: 0, read: 4096, write: 2048 },
            hook: Box::new(|_| Act::Proper),
            password: None,
            interactive: false,
            subsystem: Some(true),
            silent_login: false,
        }
    }
}

/// The server as a test sees it.
pub struct Server {
    pub address: SocketAddr,
    pub key: PublicKey,
    pub content: Arc<Mutex<Vec<u8>>>,
    /// Connections that are open.
    pub open: Arc<AtomicU32>,
    // What it runs on ends with it.
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    /// One with this file.
    pub fn new(content: Vec<u8>, behaviour: Behaviour) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        let public = key.public_key().clone();
        let methods =
            if behaviour.interactive { MethodKind::KeyboardInteractive } else { MethodKind::Password };
        let config = Arc::new(Config {
            keys: vec![key],
            methods: MethodSet::from(&[methods][..]),
            auth_rejection_time: std::time::Duration::ZERO,
            ..Config::default()
        });
        let (content, open) = (Arc::new(Mutex::new(content)), Arc::new(AtomicU32::new(0)));
        let behaviour = Arc::new(behaviour);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (file, connections) = (content.clone(), open.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let host = Host { behaviour: behaviour.clone(), content: file.clone(), channel: None };
                let (config, connections) = (config.clone(), connections.clone());
                tokio::spawn(async move {
                    connections.fetch_add(1, Ordering::SeqCst);
                    if let Ok(session) = russh::server::run_stream(config, stream, host).await {
                        let _ = session.await;
                    }
                    connections.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, key: public, content, open, _runtime: runtime }
    }
}

struct Host {
    behaviour: Arc<Behaviour>,
    content: Arc<Mutex<Vec<u8>>>,
    channel: Option<Channel<Msg>>,
}

impl russh::server::Handler for Host {
    type Error = russh::Error;

    async fn auth_none(&mut self, _: &str) -> Result<Auth, russh::Error> {
        if self.behaviour.silent_login {
            std::future::pending::<()>().await;
        }
        Ok(if self.behaviour.password.is_none() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_password(&mut self, _: &str, password: &str) -> Result<Auth, russh::Error> {
        Ok(if self.behaviour.password == Some(password) { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        _: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let Some(mut response) = response else {
            return Ok(Auth::Partial {
                name: "".into(),
                instructions: "".into(),
                prompts: vec![("Password: ".into(), false)].into(),
            });
        };
        let right = response.next().is_some_and(|word| {
            self.behaviour.password.is_some_and(|password| word.as_ref() == password.as_bytes())
        });
        Ok(if right { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channel = Some(channel);
        reply.accept().await;
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        match (self.behaviour.subsystem, self.channel.take()) {
            (Some(true), Some(channel)) => {
                session.channel_success(id)?;
                tokio::spawn(serve(channel, self.behaviour.clone(), self.content.clone()));
            }
            (Some(_), _) => session.channel_failure(id)?,
            (None, channel) => self.channel = channel,
        }
        Ok(())
    }
}

/// Serves the file on a channel.
async fn serve(channel: Channel<Msg>, behaviour: Arc<Behaviour>, content: Arc<Mutex<Vec<u8>>>) {
    let (mut reader, writer) = channel.split();
    let mut bytes = Vec::new();
    while let Some(message) = reader.wait().await {
        let ChannelMsg::Data { data } = message else { continue };
        bytes.extend_from_slice(&data);
        let mut out = Vec::new();
        while let Some((message, rest)) = next(&bytes) {
            let received = Received::parse(message).unwrap();
            match (behaviour.hook)(&received) {
                Act::Proper => answer(&received, &behaviour, &content, &mut out),
                Act::Send(answer) => out.extend_from_slice(&answer),
                Act::Silence => {}
                Act::Close => {
                    let _ = writer.data_bytes(out).await;
                    let _ = writer.close().await;
                    return;
                }
            }
            bytes = rest.to_vec();
        }
        if writer.data_bytes(out).await.is_err() {
            return;
        }
    }
}

/// The first message without its length, and what is behind it.
fn next(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

/// As a server should.
fn answer(received: &Received<'_>, behaviour: &Behaviour, content: &Mutex<Vec<u8>>, out: &mut Vec<u8>) {
    let mut content = content.lock();
    let (id, request, data) = match received {
        Received::Init(_) => return behaviour.version.encode(out),
        Received::Request(id, request, data) => (*id, request, *data),
    };
    let status = |code| Reply::Status(code, b"");
    let limits = behaviour.limits.to_bytes();
    let reply = match *request {
        Request::Open { path, .. } if path == PATH.as_bytes() => Reply::Handle(HANDLE),
        Request::Open { .. } => status(StatusCode::NO_SUCH_FILE),
        Request::Read { offset, length, .. } => {
            let start = usize::try_from(offset).unwrap().min(content.len());
            let end = (start + length as usize).min(content.len());
            if start < end {
                return Reply::encode_data(id, &content[start..end], out);
            }
            status(StatusCode::EOF)
        }
        Request::Write { offset, length, .. } => {
            let (start, end) = (offset as usize, offset as usize + length as usize);
            if content.len() < end {
                content.resize(end, 0);
            }
            content[start..end].copy_from_slice(data);
            status(StatusCode::OK)
        }
        Request::Fstat { .. } => {
            let size = Some(content.len() as u64);
            Reply::Attributes(Attributes { size, permissions: Some(0o100_644), ..Attributes::default() })
        }
        Request::SetSize { size, .. } => {
            content.resize(size as usize, 0);
            status(StatusCode::OK)
        }
        Request::Limits => Reply::Extended(&limits),
        Request::Close { .. } | Request::Remove { .. } | Request::Fsync { .. } => status(StatusCode::OK),
    };
    reply.encode(id, out);
}
