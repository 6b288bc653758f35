//! Why a file can't be had, in words without secrets.

use super::location::Location;
use super::reply::{Reply, Unreadable};
use block::{BlockError, ErrorKind};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What went wrong between us and a server.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failure {
    /// The network.
    #[error("{what}: {}", BlockError::from_io(error))]
    Network { what: &'static str, error: Arc<io::Error> },
    /// Nothing came.
    #[error("the server did not go on within {} s, {what}", timeout.as_secs_f32())]
    Silence { what: &'static str, timeout: Duration },
    /// The server has closed the control connection.
    #[error("the server closed the connection")]
    Closed,
    /// What the server says is no FTP.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The server does not do what it is asked for.
    #[error("the server does not {what}: {reply}")]
    Refused { what: &'static str, reply: Reply },
    /// The user is not let in.
    #[error("the server does not let the user in: {0}")]
    NotLetIn(Reply),
    /// TLS.
    #[error("{0}")]
    Tls(Arc<tls::TlsError>),
    /// The server has said something before TLS that it could have said after it only.
    #[error("the server, or somebody on the way, has said more than it should before TLS began")]
    BeforeTls,
    /// There is no size.
    #[error("the server does not tell the size of the file (SIZE, RFC 3659): {0}")]
    NoSize(Reply),
    /// The transfer ended before its time.
    #[error("the transfer ended after {at} of {size} bytes{}", said(.reply.as_ref()))]
    Short { at: u64, size: u64, reply: Option<Reply> },
    /// The file is longer than its size.
    #[error("the server sends more than the {0} bytes that it told of")]
    Long(u64),
    /// It is another file by now.
    #[error("the file has changed since it was opened: open it anew")]
    Changed,
    /// The connection is of no use any more, for what another read has met.
    #[error("the connection was given up{}", cause(.0.as_deref()))]
    GivenUp(Option<Arc<Failure>>),
}

fn said(reply: Option<&Reply>) -> String {
    reply.map_or_else(String::new, |reply| format!(": {reply}"))
}

fn cause(failure: Option<&Failure>) -> String {
    failure.map_or_else(String::new, |failure| format!(": {failure}"))
}

impl Failure {
    /// An error of a socket, while something was done.
    pub fn network(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |error| Self::Network { what, error: Arc::new(error) }
    }

    /// Another attempt, on another connection, may succeed.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Network { .. }
            | Self::Silence { .. }
            | Self::Closed
            | Self::Short { .. }
            | Self::GivenUp(_) => true,
            Self::Refused { reply, .. } | Self::NotLetIn(reply) | Self::NoSize(reply) => reply.is_passing(),
            _ => false,
        }
    }

    /// A session that has had a transfer may fail so where a new one would not.
    pub fn is_of_old_sessions(&self) -> bool {
        self.is_passing() && !matches!(self, Self::Silence { .. })
    }

    /// The server takes a data connection only with the session of TLS that it knows: vsftpd says so by 522 (RFC 4217).
    pub fn demands_session(&self) -> bool {
        matches!(self, Self::Short { reply: Some(reply), .. } if reply.code == 522)
    }

    /// In the words of the block layer.
    pub fn told(&self, location: &Location) -> BlockError {
        let kind = match self {
            Self::Silence { .. } => ErrorKind::Timeout,
            Self::NotLetIn(_) => ErrorKind::Permission,
            Self::Refused { reply, .. } | Self::NoSize(reply) if reply.code == 550 => ErrorKind::NotFound,
            Self::NoSize(_) => ErrorKind::Unsupported,
            Self::Tls(_) | Self::BeforeTls => ErrorKind::Refused,
            _ => ErrorKind::Io,
        };
        BlockError::new(kind, format!("'{}': {self}", location.url))
    }
}
