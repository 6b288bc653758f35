//! The numbers of the protocol: options, option replies, information items, commands, chunk types.
//!
//! Each is a newtype with constants and not an enum: a number that this crate does not know is a value too.

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident($repr:ty) { $($(#[$item:meta])* $code:ident = $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub $repr);

        impl $name {
            $($(#[$item])* pub const $code: Self = Self($value);)*
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match *self {
                    $(Self::$code => f.write_str(stringify!($code)),)*
                    Self(other) => write!(f, "{other:#x}"),
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}

codes! {
    /// "Option types" (`NBD_OPT_*`).
    OptionCode(u32) {
        /// Enter transmission, the old way, without errors.
        EXPORT_NAME = 1,
        /// End the session.
        ABORT = 2,
        /// List the exports.
        LIST = 3,
        /// Begin TLS.
        STARTTLS = 5,
        /// Ask about an export.
        INFO = 6,
        /// Ask about an export and enter transmission.
        GO = 7,
        /// Agree on structured replies.
        STRUCTURED_REPLY = 8,
        /// List metadata contexts.
        LIST_META_CONTEXT = 9,
        /// Select metadata contexts.
        SET_META_CONTEXT = 10,
        /// Agree on headers with 64-bit lengths.
        EXTENDED_HEADERS = 11,
    }
}

codes! {
    /// "Option reply types" (`NBD_REP_*`).
    ReplyType(u32) {
        /// The option is granted, or its list has ended.
        ACK = 1,
        /// One export of a list.
        SERVER = 2,
        /// One information item.
        INFO = 3,
        /// One metadata context.
        META_CONTEXT = 4,
        /// Unknown option.
        ERR_UNSUP = 0x8000_0001,
        /// Forbidden by the server's configuration.
        ERR_POLICY = 0x8000_0002,
        /// The option's data make no sense.
        ERR_INVALID = 0x8000_0003,
        /// Not on this platform.
        ERR_PLATFORM = 0x8000_0004,
        /// TLS first.
        ERR_TLS_REQD = 0x8000_0005,
        /// No such export.
        ERR_UNKNOWN = 0x8000_0006,
        /// The server is ending.
        ERR_SHUTDOWN = 0x8000_0007,
        /// The client must ask for block sizes first.
        ERR_BLOCK_SIZE_REQD = 0x8000_0008,
        /// Too large.
        ERR_TOO_BIG = 0x8000_0009,
        /// The client must agree on extended headers first.
        ERR_EXT_HEADER_REQD = 0x8000_000a,
    }
}

impl ReplyType {
    /// The reply refuses its option.
    pub const fn is_error(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }
}

codes! {
    /// Information types (`NBD_INFO_*`).
    InfoType(u16) {
        /// Size and transmission flags.
        EXPORT = 0,
        /// The canonical name.
        NAME = 1,
        /// A description for people.
        DESCRIPTION = 2,
        /// Block size constraints.
        BLOCK_SIZE = 3,
    }
}

codes! {
    /// "Request types" (`NBD_CMD_*`).
    Command(u16) {
        /// Read.
        READ = 0,
        /// Write.
        WRITE = 1,
        /// Disconnect; has no reply.
        DISC = 2,
        /// Make acknowledged writes durable.
        FLUSH = 3,
        /// Discard.
        TRIM = 4,
        /// Read ahead.
        CACHE = 5,
        /// Write zeroes.
        WRITE_ZEROES = 6,
        /// Query metadata contexts.
        BLOCK_STATUS = 7,
    }
}

impl Command {
    /// The command changes the export.
    pub const fn modifies(self) -> bool {
        matches!(self, Self::WRITE | Self::TRIM | Self::WRITE_ZEROES)
    }
}

codes! {
    /// "Structured reply types" (`NBD_REPLY_TYPE_*`).
    ChunkType(u16) {
        /// Success without content.
        NONE = 0,
        /// Data at an offset.
        OFFSET_DATA = 1,
        /// Zeroes at an offset.
        OFFSET_HOLE = 2,
        /// Extents of one metadata context.
        BLOCK_STATUS = 5,
        /// Extents of one metadata context, of 64 bits; with extended headers only.
        BLOCK_STATUS_EXT = 6,
        /// The request failed.
        ERROR = 0x8001,
        /// The request failed at an offset.
        ERROR_OFFSET = 0x8002,
    }
}

impl ChunkType {
    /// The chunk says that the request failed, whether its type is known or not.
    pub const fn is_error(self) -> bool {
        self.0 & 0x8000 != 0
    }
}
