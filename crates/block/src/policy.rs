//! What an image may have opened, and what its parsers are bounded by.

use crate::edges::{ChildName, ChildRole};

/// What a policy answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Open it.
    Open,
    /// Go on without it.
    Skip,
    /// Refuse the whole open.
    Refuse,
}

/// Which further files an image may name. It is asked once for each that an image does name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Backing files that a header names.
    pub backing: Grant,
    /// External data files that a header names.
    pub data_file: Grant,
    /// Extents: the files that an image consists of.
    pub extents: Grant,
}

impl Policy {
    /// What users of today's tools expect: an image's own references are followed.
    pub const FOLLOW: Self = Self { backing: Grant::Open, data_file: Grant::Open, extents: Grant::Open };
    /// Nothing but the image itself: for looking at what it is.
    pub const ALONE: Self = Self { backing: Grant::Skip, data_file: Grant::Skip, extents: Grant::Open };
    /// Not even the files that it consists of: for a description of an image that nobody vouches for.
    pub const DESCRIBE: Self = Self { extents: Grant::Skip, ..Self::ALONE };
    /// An image that nobody vouches for, whose parts must all be in its own file to be looked at. What is below it does not count.
    pub const ONE_FILE: Self = Self { extents: Grant::Refuse, ..Self::ALONE };
    /// An image that nobody vouches for, whose content must all be in its own file.
    pub const WHOLE: Self = Self { backing: Grant::Refuse, data_file: Grant::Refuse, extents: Grant::Refuse };

    pub(crate) fn grant(self, child: ChildName, role: ChildRole) -> Grant {
        match role.has(ChildRole::BACKING) {
            true => self.backing,
            // Elements of a list are parts of one image.
            false if child.index.is_some() => self.extents,
            false => self.data_file,
        }
    }
}

/// Bounds that every parser is given.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one metadata table held at a time.
    pub table_bytes: u64,
    /// Bytes of a node's metadata cache.
    pub cache_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { table_bytes: 32 << 20, cache_bytes: 32 << 20 }
    }
}
