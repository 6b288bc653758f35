//! The way to a server's SFTP: a socket, keys that are exchanged, a user who is known, a channel.
//!
//! ```text
//! TCP ─▶ keys exchanged · host key judged ─▶ user logged in ─▶ channel ─▶ subsystem "sftp"
//! ```
//!
//! Bounds: one deadline over all of it; what the server opens towards us is refused.

use super::connection::{Patience, lost};
use super::host_key::Judge;
use super::location::Location;
use super::login::{Keys, log_in};
use super::requests::{InFlight, in_flight};
use block::{BlockError, ErrorKind, Result};
use rt::net::Stream;
use russh::client::{self, ChannelOpenHandle, DisconnectReason, Msg};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Preferred, cipher, compression};
use std::borrow::Cow;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How often a server that says nothing is asked whether it is there, and how often in vain.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVES: usize = 3;

/// Bytes that a server may send before it is told that they have arrived: enough for all reads in flight of a fast line.
const WINDOW: u32 = 16 << 20;

/// A session in which a user is logged in.
pub(super) type Session = client::Handle<Client>;

/// A channel on which SFTP is about to begin.
pub(super) struct Established {
    pub session: Session,
    pub reader: ChannelReadHalf,
    pub writer: ChannelWriteHalf<Msg>,
    pub line: Arc<Line>,
    pub requests: Arc<InFlight>,
}

/// The socket, to be cut from outside: a session that can't send would not end by itself.
pub(super) struct Line(std::net::TcpStream);

impl Line {
    /// Ends the connection. Does not wait.
    pub fn cut(&self) {
        // It may have ended already.
        let _ = self.0.shutdown(Shutdown::Both);
    }

    /// The same, and takes back what was sent and has not arrived.
    pub fn abort(&self) {
        let _ = rt::net::abort(&self.0);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Refused(BlockError),
    #[error(transparent)]
    Ssh(#[from] russh::Error),
}

/// What is told of the server while the session lives.
pub(super) struct Client {
    judge: Judge,
    /// The file, for messages.
    name: String,
    requests: Arc<InFlight>,
}

impl client::Handler for Client {
    type Error = Failure;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        self.judge.judge(&key.public_key()).map(|()| true).map_err(Failure::Refused)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Failure>) -> Result<(), Failure> {
        let cause = match reason {
            DisconnectReason::ReceivedDisconnect(told) => {
                let message: String = told.message.chars().take(200).collect();
                BlockError::new(ErrorKind::Io, format!("the server says '{}'", message.escape_debug()))
            }
            DisconnectReason::Error(Failure::Refused(error)) => error,
            DisconnectReason::Error(Failure::Ssh(error)) => BlockError::of(ErrorKind::Io, error),
        };
        self.requests.kill(&lost(&self.name, &cause));
        Ok(())
    }

    // Nothing is forwarded: a handle that is dropped refuses.

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Failure> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Failure> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Failure> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Failure> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Failure> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Failure> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut client::Session,
    ) -> Result<(), Failure> {
        Ok(())
    }
}

/// Ciphers in the order in which they are offered: the one that processors have instructions for first.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_128_GCM,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

fn configuration(judge: &Judge) -> client::Config {
    client::Config {
        client_id: russh::SshId::Standard(Cow::Borrowed("SSH-2.0-Cairn")),
        window_size: WINDOW,
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES,
        preferred: Preferred {
            key: Cow::Owned(judge.order(Preferred::DEFAULT.key.into_owned())),
            cipher: Cow::Borrowed(CIPHERS),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    }
}

/// A socket to the server, and the end of the time for all that comes now.
pub(super) struct Reached {
    socket: std::net::TcpStream,
    deadline: std::time::Instant,
}

/// Connects to the server, at the address of it that answers first, in bounded time.
pub(super) async fn reach(location: &Location, patience: Patience) -> Result<Reached> {
    let place = location.address();
    let deadline = std::time::Instant::now() + patience.connect;
    let connecting = Stream::connect_tcp(&location.host, location.port);
    let stream = rt::timeout(patience.connect, connecting).await.map_err(|_| {
        let seconds = patience.connect.as_secs_f32();
        let text = format!("the SSH server at '{place}' was not reached within {seconds} s");
        BlockError::new(ErrorKind::Timeout, text)
    })?;
    let failed = |error| BlockError::os(format!("Failed to connect to '{place}'"), &error);
    let stream = stream.map_err(failed)?;
    let socket = stream.as_fd().try_clone_to_owned().map_err(failed)?.into();
    Ok(Reached { socket, deadline })
}

/// Goes the rest of the way, in bounded time; `name` is the file, for messages. On the thread of SSH.
pub(super) async fn establish(
    name: &str,
    Reached { socket, deadline }: Reached,
    location: &Location,
    keys: &Keys,
    judge: Judge,
    patience: Patience,
) -> Result<Established> {
    let place = location.address();
    let in_time = Deadline { deadline: deadline.into(), place: &place, patience: patience.connect };
    let failed = |error| BlockError::os(format!("Failed to connect to '{place}'"), &error);
    let line = Arc::new(Line(socket.try_clone().map_err(failed)?));
    let socket = TcpStream::from_std(socket).map_err(failed)?;
    let requests = Arc::new(in_flight(name));
    let config = Arc::new(configuration(&judge));
    let client = Client { judge, name: name.to_owned(), requests: requests.clone() };
    let session = in_time.of("exchange keys", client::connect_stream(config, socket, client)).await?;
    let mut session = session.map_err(|failure| match failure {
        Failure::Refused(error) => error,
        Failure::Ssh(error) => {
            BlockError::of(ErrorKind::Io, error).context(format!("no SSH session with '{place}'"))
        }
    })?;
    in_time.of("log the user in", log_in(&mut session, location, keys)).await?.map_err(|error| {
        // A session that has ended logs nobody in: why it did says more.
        requests.dead().unwrap_or(error)
    })?;
    let channel = in_time.of("begin SFTP", begin_sftp(&session)).await?;
    let (reader, writer) = channel.map_err(|error| requests.dead().unwrap_or(error))?.split();
    Ok(Established { session, reader, writer, line, requests })
}

/// The end of the time that a server has, for all that it is to do.
struct Deadline<'a> {
    deadline: Instant,
    place: &'a str,
    patience: Duration,
}

impl Deadline<'_> {
    async fn of<T>(&self, what: &str, work: impl Future<Output = T>) -> Result<T> {
        timeout_at(self.deadline, work).await.map_err(|_| {
            let (place, seconds) = (self.place, self.patience.as_secs_f32());
            let text = format!("the SSH server at '{place}' did not {what} within {seconds} s");
            BlockError::new(ErrorKind::Timeout, text)
        })
    }
}

async fn begin_sftp(session: &Session) -> Result<Channel<Msg>> {
    let failed = |error| BlockError::of(ErrorKind::Io, error).context("the SSH server opens no channel");
    let mut channel = session.channel_open_session().await.map_err(failed)?;
    channel.request_subsystem(true, "sftp").await.map_err(failed)?;
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return Ok(channel),
            Some(ChannelMsg::WindowAdjusted { .. }) => {}
            _ => return Err(BlockError::unsupported("the SSH server offers no SFTP")),
        }
    }
}
