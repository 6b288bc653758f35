//! The receiving side: from bytes to replies, and from replies to their requests.
//!
//! ```text
//! channel ─▶ Head ─▶ id ─▶ Pending ─▶ data to its buffer · payload to Reply
//! ```

use super::requests::{Answered, InFlight, Pending, What};
use block::{BlockError, ErrorKind, Result as BlockResult};
use futures_channel::oneshot;
use sftp::{Body, Head, Kind, Malformed, Reply, StatusCode, Version};

/// Bytes of the longest head.
const HEAD: usize = 13;

/// Most characters of a server's message that are repeated.
const MESSAGE: usize = 200;

/// What went wrong with a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server answered a request that was never made (id {0})")]
    Id(u32),
    #[error("the server began the session a second time")]
    Version,
    #[error("the server answered a {0} with {1} bytes, which nobody asked for")]
    Data(&'static str, u32),
}

/// Whoever waits for a reply.
enum For {
    Request(Box<Pending>),
    /// The one that begins the session, with its version.
    Version(u32),
}

/// What is being received.
enum State {
    /// A head, of which so much is here.
    Head(Vec<u8>),
    /// Data: index into the request's buffer, bytes.
    Data { pending: Box<Pending>, at: usize, left: usize },
    /// So many bytes of a payload in all, and those that are here.
    Payload { whose: For, kind: Kind, length: usize, bytes: Vec<u8> },
    /// Nothing any more: the reply to this request made no sense. It ends after the connection, whose error says why.
    Broken(Box<Pending>),
}

/// Receives for one connection.
pub(super) struct Receiver {
    state: State,
    version: Option<oneshot::Sender<Version>>,
}

impl Receiver {
    /// `version` is told what the server is.
    pub fn new(version: oneshot::Sender<Version>) -> Self {
        Self { state: State::Head(Vec::new()), version: Some(version) }
    }

    /// Takes bytes as they come, and hands out what is complete.
    pub fn feed(&mut self, mut bytes: &[u8], requests: &InFlight) -> Result<(), Broken> {
        requests.alive();
        loop {
            self.state = match std::mem::replace(&mut self.state, State::Head(Vec::new())) {
                State::Broken(pending) => {
                    self.state = State::Broken(pending);
                    return Err(Broken::Closed);
                }
                State::Head(held) => match self.begin(held, &mut bytes, requests)? {
                    (state, true) => state,
                    (state, false) => {
                        self.state = state;
                        return Ok(());
                    }
                },
                State::Data { mut pending, at, left } => {
                    let (here, rest) = bytes.split_at(left.min(bytes.len()));
                    bytes = rest;
                    if let Some(to) = pending.buf.as_mut().and_then(|buf| buf.get_mut(at..at + here.len())) {
                        to.copy_from_slice(here);
                    }
                    let (at, left) = (at + here.len(), left - here.len());
                    if left > 0 {
                        self.state = State::Data { pending, at, left };
                        return Ok(());
                    }
                    pending.end(Ok(Answered::Data(at)));
                    requests.receiving(None);
                    State::Head(Vec::new())
                }
                State::Payload { whose, kind, length, bytes: mut payload } => {
                    let (here, rest) = bytes.split_at((length - payload.len()).min(bytes.len()));
                    bytes = rest;
                    payload.extend_from_slice(here);
                    if payload.len() < length {
                        self.state = State::Payload { whose, kind, length, bytes: payload };
                        return Ok(());
                    }
                    match whose {
                        For::Request(pending) => match answer(kind, &payload, pending.about) {
                            Ok(result) => pending.end(result),
                            Err(broken) => {
                                self.state = State::Broken(pending);
                                return Err(broken);
                            }
                        },
                        For::Version(version) => {
                            let found = Version::parse(version, &payload)?;
                            // Whoever opened the connection may have gone.
                            let _ = self.version.take().ok_or(Broken::Version)?.send(found);
                        }
                    }
                    requests.receiving(None);
                    State::Head(Vec::new())
                }
            };
        }
    }

    /// Takes a head off the front of `bytes`, behind what is held of it; false: it is not whole yet.
    fn begin(
        &mut self,
        mut held: Vec<u8>,
        bytes: &mut &[u8],
        requests: &InFlight,
    ) -> Result<(State, bool), Broken> {
        let before = held.len();
        let found = if before == 0 {
            Head::parse(bytes)?
        } else {
            held.extend(bytes.iter().take(HEAD - before));
            Head::parse(&held)?
        };
        let Some((head, taken)) = found else {
            if before == 0 {
                held.extend_from_slice(bytes);
            }
            *bytes = &[];
            return Ok((State::Head(held), false));
        };
        *bytes = bytes.get(taken - before..).unwrap_or_default();
        let Head { kind, id, body } = head;
        let whose = match kind {
            Kind::VERSION => For::Version(id),
            _ => {
                let pending = requests.take(id.into()).ok_or(Broken::Id(id))?;
                requests.receiving(Some(pending.term));
                For::Request(Box::new(pending))
            }
        };
        let state = match (body, whose) {
            (Body::Data(length), For::Request(pending)) => {
                let room = pending.buf.as_ref().map_or(0, |buf| buf.len());
                let left = length as usize;
                if left == 0 || left > room {
                    let name = pending.about.name;
                    self.state = State::Broken(pending);
                    return Err(Broken::Data(name, length));
                }
                State::Data { pending, at: 0, left }
            }
            (Body::Data(length) | Body::Payload(length), whose) => {
                State::Payload { whose, kind, length: length as usize, bytes: Vec::new() }
            }
        };
        Ok((state, true))
    }
}

/// What a reply without data means to its request.
fn answer(kind: Kind, payload: &[u8], what: What) -> Result<BlockResult<Answered>, Broken> {
    Ok(match Reply::parse(kind, payload)? {
        Reply::Status(StatusCode::OK, _) => Ok(Answered::Done),
        Reply::Status(StatusCode::EOF, _) => Ok(Answered::End),
        Reply::Status(code, message) => Err(refused(what, code, message)),
        Reply::Handle(handle) => Ok(Answered::Handle(handle.to_vec())),
        Reply::Attributes(attributes) => Ok(Answered::Attributes(attributes)),
        Reply::Extended(payload) => Ok(Answered::Extended(payload.to_vec())),
    })
}

/// The server's error, with its message where that says more than the code.
fn refused(what: What, code: StatusCode, message: &[u8]) -> BlockError {
    let kind = match code {
        StatusCode::NO_SUCH_FILE => ErrorKind::NotFound,
        StatusCode::PERMISSION_DENIED => ErrorKind::Permission,
        StatusCode::OP_UNSUPPORTED => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    };
    let mut text = format!("{code} (sftp error code: {})", code.0);
    let message: String = String::from_utf8_lossy(message).chars().take(MESSAGE).collect();
    if !message.is_empty() && message != code.words() {
        text.push_str(&format!(", '{}'", message.escape_debug()));
    }
    let error = BlockError::new(kind, text);
    match what.offset {
        Some(offset) => error.at(offset),
        None => error,
    }
}
