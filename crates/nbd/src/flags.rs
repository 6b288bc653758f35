//! The flag fields of the protocol, each a type of its own. Unknown bits are kept.

macro_rules! flags {
    ($(#[$doc:meta])* $name:ident($repr:ty) { $($(#[$item:meta])* $flag:ident = $bit:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(pub $repr);

        impl $name {
            $($(#[$item])* pub const $flag: Self = Self(1 << $bit);)*
            /// No flag.
            pub const NONE: Self = Self(0);

            /// Every flag of `other` is set.
            #[inline]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Flags of either.
            #[inline]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// Flags of `self` that are not in `other`.
            #[inline]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// No flag is set.
            #[inline]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// `flag` if `wanted`, else nothing.
            #[inline]
            pub const fn when(wanted: bool, flag: Self) -> Self {
                if wanted { flag } else { Self(0) }
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x}"), self.0)?;
                $(if self.contains(Self::$flag) { write!(f, concat!(" ", stringify!($flag)))?; })*
                f.write_str(")")
            }
        }
    };
}

flags! {
    /// "Handshake flags": what the server understands.
    HandshakeFlags(u16) {
        /// The server speaks fixed newstyle.
        FIXED_NEWSTYLE = 0,
        /// The server can leave out the 124 zeroes after `EXPORT_NAME`.
        NO_ZEROES = 1,
    }
}

flags! {
    /// "Client flags": what the client answers to [`HandshakeFlags`].
    ClientFlags(u32) {
        /// The client speaks fixed newstyle.
        FIXED_NEWSTYLE = 0,
        /// The client wants no zeroes after `EXPORT_NAME`.
        NO_ZEROES = 1,
    }
}

flags! {
    /// "Transmission flags": what an export can do.
    TransmissionFlags(u16) {
        /// Always set.
        HAS_FLAGS = 0,
        /// Writes are refused.
        READ_ONLY = 1,
        /// `FLUSH` is understood.
        SEND_FLUSH = 2,
        /// The flag FUA is understood.
        SEND_FUA = 3,
        /// A rotating medium.
        ROTATIONAL = 4,
        /// `TRIM` is understood.
        SEND_TRIM = 5,
        /// `WRITE_ZEROES` is understood.
        SEND_WRITE_ZEROES = 6,
        /// The flag DF is understood.
        SEND_DF = 7,
        /// Several connections see each other's writes after a flush.
        CAN_MULTI_CONN = 8,
        /// `CACHE` is understood.
        SEND_CACHE = 10,
        /// The flag FAST_ZERO is understood.
        SEND_FAST_ZERO = 11,
        /// A payload can limit block status to some of the contexts; with extended headers only.
        BLOCK_STATUS_PAYLOAD = 12,
    }
}

flags! {
    /// "Command flags" of a request.
    CommandFlags(u16) {
        /// Reply only when what was written is durable.
        FUA = 0,
        /// Zeroes must stay allocated.
        NO_HOLE = 1,
        /// One content chunk at most.
        DF = 2,
        /// One extent for each context.
        REQ_ONE = 3,
        /// Fail with `ENOTSUP` rather than write zeroes slowly.
        FAST_ZERO = 4,
        /// The length is that of a payload which follows; with extended headers only.
        PAYLOAD_LEN = 5,
    }
}

flags! {
    /// "Structured reply flags" of a chunk.
    ChunkFlags(u16) {
        /// The last chunk of its reply.
        DONE = 0,
    }
}

flags! {
    /// Status of an extent in a context: in `base:allocation`, if nothing else is said.
    ExtentFlags(u32) {
        /// Not allocated.
        HOLE = 0,
        /// Reads as zeroes.
        ZERO = 1,
    }
}

impl ExtentFlags {
    /// Dirty, in a context of [`crate::DIRTY_BITMAP`].
    pub const DIRTY: Self = Self(1);
}
