//! Which message headers the two ends use in transmission.

/// The headers that were agreed on in the handshake; they hold for the whole connection.
///
/// Specification: "Transmission", `NBD_OPT_STRUCTURED_REPLY`, `NBD_OPT_EXTENDED_HEADERS`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Headers {
    /// Compact requests, simple replies.
    #[default]
    Simple,
    /// Compact requests, replies in chunks.
    Structured,
    /// Requests of 64-bit length, replies in chunks that repeat the request's offset.
    Extended,
}

impl Headers {
    /// Replies may consist of chunks.
    #[inline]
    pub const fn chunked(self) -> bool {
        !matches!(self, Self::Simple)
    }

    /// Requests can mean more than 4 GiB, and say which payload they bring.
    #[inline]
    pub const fn extended(self) -> bool {
        matches!(self, Self::Extended)
    }

    /// Bytes of a request before its payload.
    #[inline]
    pub const fn request_len(self) -> usize {
        match self {
            Self::Simple | Self::Structured => 28,
            Self::Extended => 32,
        }
    }

    /// Bytes of a reply before the data of a read that is answered in one piece.
    #[inline]
    pub const fn data_len(self) -> usize {
        match self {
            Self::Simple => 16,
            Self::Structured => 28,
            Self::Extended => 40,
        }
    }

    /// Bytes that describe one extent of a block status reply.
    #[inline]
    pub const fn extent_len(self) -> usize {
        match self {
            Self::Simple | Self::Structured => 8,
            Self::Extended => 16,
        }
    }
}
