//! What a machine goes through: one direction of bytes, whatever they go over.
use crate::error::MigrationError;
use crate::place::Place;
use futures_util::future::select_all;
use rt::blocking;
use rt::net::{Listener, Stream};
use rt::process::{Flow, Program};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// How long a program has for what it was given last, before it is left to itself.
const PROGRAM_ENDS: Duration = Duration::from_secs(10);

/// An open channel. What is not closed in order is broken off: a program is killed, and the other end of a socket sees its end.
pub struct Channel {
    stream: Stream,
    program: Option<Program>,
    /// For what must be durable: the file, and its name where it was made.
    file: Option<(File, PathBuf)>,
}

/// Gives the descriptor of a name.
pub type Named<'a> = &'a (dyn Fn(&str) -> io::Result<OwnedFd> + Send + Sync);

/// Where a machine will come in.
pub enum Door {
    /// Somebody is to connect.
    Listening(Vec<Listener>),
    /// It is open.
    Open(Channel),
}

impl Channel {
    pub(crate) fn plain(stream: Stream) -> Self {
        Self { stream, program: None, file: None }
    }

    /// Opens the way to a place.
    pub async fn connect(place: &Place, named: Named<'_>) -> Result<Self, MigrationError> {
        match place {
            Place::Unix(path) => {
                let stream = Stream::connect_unix(path).await;
                let what = || format!("Failed to connect to '{}'", path.display());
                stream.map(Self::plain).map_err(|e| MigrationError::channel(what(), &e))
            }
            Place::Tcp { host, port } => {
                let stream = Stream::connect_tcp(host, *port).await;
                let what = || format!("Failed to connect to '{host}:{port}'");
                stream.map(Self::plain).map_err(|e| MigrationError::channel(what(), &e))
            }
            Place::File { name, offset } => Self::of_file(name, *offset, Flow::In).await,
            Place::Program(args) => Self::of_program(args, Flow::In),
            Place::Descriptor(name) => Self::of_descriptor(name, named),
        }
    }

    async fn of_file(name: &str, offset: u64, flow: Flow) -> Result<Self, MigrationError> {
        let path = name.to_owned();
        let opened = blocking(move || {
            let mut options = File::options();
            let mut file = match flow {
                Flow::In => options.write(true).create(true).truncate(offset == 0).open(path)?,
                Flow::Out => options.read(true).open(path)?,
            };
            if offset > 0 {
                file.seek(SeekFrom::Start(offset))?;
            }
            Ok((Stream::from_fd(file.try_clone()?.into())?, file))
        });
        let (stream, file) = opened
            .await
            .map_err(|e: io::Error| MigrationError::channel(format!("Could not open '{name}'"), &e))?;
        Ok(Self { stream, program: None, file: Some((file, PathBuf::from(name))) })
    }

    fn of_program(args: &[String], flow: Flow) -> Result<Self, MigrationError> {
        let what = || format!("Could not start '{}'", args.join(" "));
        let (program, stream) =
            Program::start(args, flow).map_err(|e| MigrationError::channel(what(), &e))?;
        Ok(Self { stream, program: Some(program), file: None })
    }

    fn of_descriptor(name: &str, named: Named<'_>) -> Result<Self, MigrationError> {
        let missing =
            |_| MigrationError::Invalid(format!("File descriptor named '{name}' has not been found"));
        let stream = Stream::from_fd(named(name).map_err(missing)?);
        stream.map(Self::plain).map_err(|e| MigrationError::channel(format!("descriptor '{name}'"), &e))
    }

    pub(crate) async fn send(&self, bytes: &[u8]) -> Result<(), MigrationError> {
        self.stream
            .send_all(bytes)
            .await
            .map_err(|e| MigrationError::channel("sending the machine failed", &e))
    }

    /// Takes all of `bytes`, or refuses a stream that ends before.
    pub(crate) async fn receive(&self, bytes: &mut [u8]) -> Result<(), MigrationError> {
        self.stream.recv_exact(bytes).await.map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => MigrationError::Incomplete,
            _ => MigrationError::channel("receiving the machine failed", &e),
        })
    }

    /// What was sent is durable, where it goes to a file.
    pub(crate) async fn sync(&self) -> Result<(), MigrationError> {
        let Some((file, path)) = &self.file else { return Ok(()) };
        let synced = match file.try_clone() {
            Ok(file) => blocking(move || file.sync_all()).await,
            Err(e) => Err(e),
        };
        let synced = match synced {
            Ok(()) => rt::fs::sync_name(path).await,
            failed => failed,
        };
        synced.map_err(|e| MigrationError::channel("the file could not be made durable", &e))
    }

    /// Ends it when all has been sent: nothing more can go wrong for whoever receives it.
    pub(crate) async fn close(self) {
        if let Err(error) = self.sync().await {
            tracing::error!(%error, "the machine is handed over to a file that may not survive a crash of the host");
        }
        drop(self.stream);
        if let Some(program) = self.program {
            match rt::timeout(PROGRAM_ENDS, program.ended()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the program that takes the machine could not be waited for")
                }
                Err(_) => tracing::info!("the program that takes the machine is still at it"),
            }
        }
    }
}

impl Door {
    /// Opens a door at a place.
    pub async fn open(place: &Place, named: Named<'_>) -> Result<Self, MigrationError> {
        let listening = match place {
            Place::Unix(path) => Listener::bind_unix(path).await.map(|listener| vec![listener]),
            Place::Tcp { host, port } => {
                let host = if host.is_empty() { "0.0.0.0" } else { host };
                Listener::bind_tcp(host, *port).await
            }
            Place::File { name, offset } => {
                return Channel::of_file(name, *offset, Flow::Out).await.map(Self::Open);
            }
            Place::Program(args) => return Channel::of_program(args, Flow::Out).map(Self::Open),
            Place::Descriptor(name) => return Channel::of_descriptor(name, named).map(Self::Open),
        };
        let what = || match place {
            Place::Unix(path) => format!("Failed to listen at '{}'", path.display()),
            other => format!("Failed to listen at {other:?}"),
        };
        listening.map(Self::Listening).map_err(|e| MigrationError::channel(what(), &e))
    }

    /// Waits until somebody comes, and closes the door behind him.
    pub async fn enter(self) -> Result<Channel, MigrationError> {
        let listeners = match self {
            Self::Open(channel) => return Ok(channel),
            Self::Listening(listeners) => listeners,
        };
        if listeners.is_empty() {
            return Err(MigrationError::Invalid("there is no address to listen at".to_owned()));
        }
        let (stream, ..) = select_all(listeners.iter().map(|listener| Box::pin(listener.accept()))).await;
        stream
            .map(Channel::plain)
            .map_err(|e| MigrationError::channel("waiting for the other machine failed", &e))
    }
}
