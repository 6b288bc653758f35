//! What a request says of itself beside its range: who sends it, and how it is to be carried out.
//!
//! One small value goes along from the entry down to the protocol. What a node does with a flag stands at the flag; a
//! node that can't do it says so by an error, and never does something else instead.

/// Who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// A guest, a client of an export, or a tool in the place of one.
    #[default]
    Guest,
    /// A job that copies.
    Job,
    /// A driver that stores its own tables and headers.
    Driver,
    /// The core, which fills a request up to the node's alignment with what is there already.
    Padding {
        /// So many of the last bytes lie behind the node's end, which does not move for them: the core cuts them off
        /// again.
        beyond: u32,
    },
}

/// How a request is to be carried out: a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// Durable before it is acknowledged.
    pub const FUA: Self = Self(1);
    /// The space of zeroes may be given up.
    pub const MAY_UNMAP: Self = Self(2);
    /// Zeroes fail (`Unsupported`) instead of being written as data.
    pub const NO_FALLBACK: Self = Self(4);
    /// Stored compressed, or refused (`Unsupported`) where nothing is.
    pub const COMPRESSED: Self = Self(8);
    /// Rewrites what the node shows already: dirty bitmaps don't count it.
    pub const UNCHANGED: Self = Self(16);
    /// Only where the node holds nothing itself; elsewhere it is done without a change. Decided under the lease of the
    /// change, so that it never takes the place of what another request has written meanwhile. For data and zeroes.
    pub const IF_UNALLOCATED: Self = Self(32);
    /// Has its range for itself among the requests of a node that has a [`crate::Serialiser`].
    pub const SERIALISING: Self = Self(64);

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What goes along with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Request {
    source: Source,
    flags: Flags,
}

impl Request {
    /// A guest's, with no wishes.
    pub const GUEST: Self = Self::of(Source::Guest);
    /// A job's.
    pub const JOB: Self = Self::of(Source::Job);
    /// A driver's own.
    pub const DRIVER: Self = Self::of(Source::Driver);

    /// One without wishes.
    pub const fn of(source: Source) -> Self {
        Self { source, flags: Flags(0) }
    }

    /// Who sends it.
    pub const fn source(self) -> Source {
        self.source
    }

    /// Whether all of `flags` is asked for.
    pub const fn has(self, flags: Flags) -> bool {
        self.flags.0 & flags.0 == flags.0
    }

    /// Whether it asks for nothing that takes the waiting path.
    pub(crate) const fn may_be_inline(self) -> bool {
        self.flags.0 & !Flags::UNCHANGED.0 == 0
    }

    /// The same with `flags`.
    #[must_use]
    pub const fn with(self, flags: Flags) -> Self {
        Self { flags: self.flags.union(flags), ..self }
    }

    /// The same with `flags` if `on`.
    #[must_use]
    pub const fn with_if(self, on: bool, flags: Flags) -> Self {
        if on { self.with(flags) } else { self }
    }

    /// The same without `flags`.
    #[must_use]
    pub const fn without(self, flags: Flags) -> Self {
        Self { flags: Flags(self.flags.0 & !flags.0), ..self }
    }

    /// The same from another sender.
    #[must_use]
    pub const fn sent_by(self, source: Source) -> Self {
        Self { source, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_passed_on_in_registers() {
        assert!(size_of::<Request>() <= 2 * size_of::<usize>());
    }

    #[test]
    fn flags_are_added_and_taken_away_one_by_one() {
        let request = Request::JOB.with(Flags::FUA.union(Flags::UNCHANGED)).without(Flags::FUA);
        assert!(request.has(Flags::UNCHANGED) && !request.has(Flags::FUA));
        assert!(!request.has(Flags::UNCHANGED.union(Flags::FUA)), "all of them are asked for");
        assert_eq!(request.sent_by(Source::Guest), Request::GUEST.with(Flags::UNCHANGED));
    }
}
