//! Replies as bytes.

use ::nbd::{ErrorCode, Headers, ReplyTo, Request};
use block::BlockError;
use rt::Buf;

/// A reply that is ready to be sent.
pub(super) enum Reply {
    /// Headers and small payloads.
    Bytes(Vec<u8>),
    /// A header with data right behind it.
    Data(Buf),
    /// Several of these, in order.
    Chunks(Vec<Buf>),
}

impl Reply {
    /// Success without data.
    pub fn success(request: &Request, headers: Headers) -> Self {
        Self::Bytes(ReplyTo::new(request, headers).success().to_vec())
    }

    /// A failure, with a message where the connection can carry one.
    pub fn error(request: &Request, headers: Headers, code: ErrorCode, words: &str) -> Self {
        let mut bytes = Vec::new();
        ReplyTo::new(request, headers).put_error(&mut bytes, code, words, None);
        Self::Bytes(bytes)
    }

    /// The failure that a backend reports.
    pub fn failed(request: &Request, headers: Headers, error: &BlockError) -> Self {
        let code = ErrorCode::from_errno(error.errno());
        // Two error values mean something particular in the protocol; an ordinary failure must not be reported as one of them.
        let fast = request.flags.contains(::nbd::CommandFlags::FAST_ZERO);
        let code = match code {
            ErrorCode::ENOTSUP if !fast => ErrorCode::EINVAL,
            ErrorCode::EOVERFLOW => ErrorCode::EIO,
            code => code,
        };
        tracing::debug!(?request, %error, "request failed");
        Self::error(request, headers, code, &error.to_string())
    }
}
