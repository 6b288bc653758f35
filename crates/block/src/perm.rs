//! Permissions: what a user of a node does with it, and what it lets others do.
//!
//! Four bits, numbered as on the lock bytes of image files ([`Perms::bits`] 0–3): consistent read, write,
//! write-unchanged, resize. A set of users of one node is allowed when nobody needs what another does not share.

/// Permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share(pub u8);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Reads see consistent data.
    pub const READ: Self = Self(1);
    /// Writes that change content.
    pub const WRITE: Self = Self(2);
    /// Writes that leave the visible content as it is.
    pub const WRITE_UNCHANGED: Self = Self(4);
    /// Changes of the size.
    pub const RESIZE: Self = Self(8);
    /// Everything.
    pub const ALL: Self = Self(15);

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in it.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether they have something in common.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Names of the bits, for messages.
    pub fn names(self) -> String {
        let names = ["consistent read", "write", "write unchanged", "resize"];
        let set: Vec<_> = (0..4).filter(|i| self.0 & (1 << i) != 0).map(|i| names[i]).collect();
        set.join(", ")
    }
}

/// What one user needs of a node, and what it shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Perms {
    /// What it does.
    pub need: Share,
    /// What others may do meanwhile.
    pub share: Share,
}

impl Perms {
    /// Needs nothing, shares everything.
    pub const IDLE: Self = Self { need: Share::NONE, share: Share::ALL };

    /// A reader that shares everything.
    pub const READER: Self = Self { need: Share::READ, share: Share::ALL };

    /// A reader and writer that shares all but resizing, as exports do.
    pub const WRITER: Self =
        Self { need: Share(Share::READ.0 | Share::WRITE.0), share: Share(Share::ALL.0 & !Share::RESIZE.0) };

    /// What a set of users needs and shares together.
    pub fn together(users: impl IntoIterator<Item = Perms>) -> Self {
        users
            .into_iter()
            .fold(Self::IDLE, |a, b| Self { need: a.need.union(b.need), share: Share(a.share.0 & b.share.0) })
    }

    /// What of `self`'s needs `other` does not share.
    pub fn denied_by(self, other: Perms) -> Share {
        self.need.without(other.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_denied_by_one_that_does_not_share_writing() {
        let strict = Perms { need: Share::READ, share: Share::READ };
        assert_eq!(Perms::WRITER.denied_by(strict), Share::WRITE);
        assert_eq!(Perms::READER.denied_by(strict), Share::NONE);
    }
}
