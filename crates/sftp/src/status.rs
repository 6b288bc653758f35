//! What a server says of a request without another reply.

/// The code of a status.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StatusCode(pub u32);

impl StatusCode {
    /// It was carried out.
    pub const OK: Self = Self(0);
    /// Behind the end of the file.
    pub const EOF: Self = Self(1);
    /// There is no such file.
    pub const NO_SUCH_FILE: Self = Self(2);
    /// The user may not do it.
    pub const PERMISSION_DENIED: Self = Self(3);
    /// It failed; the protocol has no code that says why.
    pub const FAILURE: Self = Self(4);
    /// The server could not understand the message.
    pub const BAD_MESSAGE: Self = Self(5);
    /// The server does not know the request.
    pub const OP_UNSUPPORTED: Self = Self(8);

    /// It in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::OK => "Success",
            Self::EOF => "End of file",
            Self::NO_SUCH_FILE => "No such file",
            Self::PERMISSION_DENIED => "Permission denied",
            Self::FAILURE => "Failure",
            Self::BAD_MESSAGE => "Bad message",
            Self(6) => "No connection",
            Self(7) => "Connection lost",
            Self::OP_UNSUPPORTED => "Operation unsupported",
            _ => "Unknown error",
        }
    }
}

impl std::fmt::Display for StatusCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words())
    }
}
