//! Replies as bytes, however they came about.

use ::nbd::{ErrorCode, Request};
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
    /// Success without data. A simple reply is the shortest, and structured connections may use it too, except for
    /// reads.
    pub fn success(request: &Request) -> Self {
        Self::Bytes(::nbd::simple_reply(request.cookie, ErrorCode::OK).to_vec())
    }

    /// A failure, with words where the connection can carry them.
    pub fn error(request: &Request, structured: bool, code: ErrorCode, words: &str) -> Self {
        if !structured {
            return Self::Bytes(::nbd::simple_reply(request.cookie, code).to_vec());
        }
        let mut bytes = Vec::new();
        ::nbd::put_error_chunk(&mut bytes, request.cookie, code, words, None);
        Self::Bytes(bytes)
    }

    /// The failure that a backend reports.
    pub fn failed(request: &Request, structured: bool, error: &BlockError) -> Self {
        let code = ErrorCode::from_errno(error.errno());
        // Two values have a meaning of their own in the protocol, which an ordinary failure must not take on.
        let fast = request.flags.contains(::nbd::CommandFlags::FAST_ZERO);
        let code = match code {
            ErrorCode::ENOTSUP if !fast => ErrorCode::EINVAL,
            ErrorCode::EOVERFLOW => ErrorCode::EIO,
            code => code,
        };
        tracing::debug!(?request, %error, "request failed");
        Self::error(request, structured, code, &error.to_string())
    }
}
