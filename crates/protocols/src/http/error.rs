//! Why a file of a web server can't be had, or no more.

use block::{BlockError, ErrorKind};
use http::StatusCode;
use std::io;
use std::time::Duration;
use tls::TlsError;

/// What went wrong between a client and a server.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("no connection to {to}: {}", BlockError::from_io(.error))]
    Connect { to: String, error: io::Error },
    #[error("{0}")]
    Tls(TlsError),
    #[error("{0}")]
    Setting(BlockError),
    #[error("the proxy answered {} to CONNECT", told(*.0))]
    Proxy(StatusCode),
    #[error("what the proxy answered to CONNECT is no HTTP")]
    ProxyGarbage,
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("what the server sent is no HTTP: {0}")]
    Garbage(String),
    #[error("the server was silent for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the server sent {came} bytes in {} s, of which {least} are the least", within.as_secs())]
    Slow { came: usize, least: usize, within: Duration },
    #[error("the server answered {}{}", told(*.status), hint(*.status))]
    Status { status: StatusCode, wait: Option<Duration> },
    #[error("more than {0} redirections")]
    Redirections(usize),
    #[error("it is redirected from TLS to '{0}', which has none")]
    Downgrade(String),
    #[error("it is redirected to nowhere")]
    Nowhere,
    #[error("the server does not tell its size")]
    NoSize,
    #[error(
        "the server sends no ranges, and the {size} bytes of the file are more than the {limit} that are kept of a stream: raise \
         'cache-size', or download the file first"
    )]
    NoRanges { size: u64, limit: u64 },
    #[error("the server sends it in the encoding '{0}', of which ranges are not those of the file")]
    Encoded(String),
    #[error("it has changed since it was opened: {0}; open it anew")]
    Changed(&'static str),
    #[error("the server sent another range than was asked for")]
    WrongRange,
    #[error("the server sends the whole file where a range was asked for")]
    RangeIgnored,
    #[error("the server sent more than a range has")]
    TooMuch,
}

impl HttpError {
    /// Whether the same request may do better a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken(_) | Self::Tls(TlsError::Io(_) | TlsError::Closed) => true,
            Self::Status { status, .. } | Self::Proxy(status) => matches!(
                *status,
                StatusCode::REQUEST_TIMEOUT
                    | StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            _ => false,
        }
    }

    /// Whether there was no connection.
    pub fn is_of_reaching(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Tls(_))
    }

    /// How long the server wants to be left alone.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        }
    }

    /// The status that the server answered, where that was the trouble.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Connect { error, .. } => match BlockError::from_io(error).kind() {
                // A host without an address is no file that is missing.
                ErrorKind::NotFound => ErrorKind::Io,
                kind => kind,
            },
            Self::Setting(error) => error.kind(),
            Self::Tls(TlsError::Certificate(_)) | Self::Downgrade(_) => ErrorKind::Refused,
            Self::Silent(_) | Self::Slow { .. } => ErrorKind::Timeout,
            Self::Status { status, .. } | Self::Proxy(status) => match *status {
                StatusCode::NOT_FOUND | StatusCode::GONE => ErrorKind::NotFound,
                StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::PROXY_AUTHENTICATION_REQUIRED => ErrorKind::Permission,
                _ => ErrorKind::Io,
            },
            Self::NoRanges { .. } => ErrorKind::Limit,
            Self::NoSize | Self::Encoded(_) => ErrorKind::Unsupported,
            _ => ErrorKind::Io,
        }
    }

    /// The error of a request for what `shown` names.
    pub fn about(self, shown: &str) -> BlockError {
        BlockError::of(self.kind(), self).context(format_args!("'{shown}'"))
    }

    /// Too little came in a time.
    pub fn slow(came: usize, least: usize, within: Duration) -> Self {
        if came == 0 { Self::Silent(within) } else { Self::Slow { came, least, within } }
    }

    /// What a connection says.
    pub fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData => Self::Garbage(error.to_string()),
            _ => Self::Broken(BlockError::from_io(&error).to_string()),
        }
    }
}

fn told(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} ({reason})", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// What to do about a refusal.
fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => ": give 'username' and 'password-secret'",
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            " of the proxy: give 'proxy-username' and 'proxy-password-secret'"
        }
        _ => "",
    }
}
