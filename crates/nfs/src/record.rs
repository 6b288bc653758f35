//! Records in a stream: a message in fragments, each with its length in front.
//!
//! Specification: RFC 5531, section 11.

/// The bit of a mark that says that the record ends with its fragment.
const LAST: u32 = 1 << 31;

/// Bytes of a mark.
pub const MARK: usize = 4;

/// The mark in front of a message of `len` bytes that is one fragment; `None` where a fragment can't be so long.
pub fn mark(len: usize) -> Option<[u8; MARK]> {
    u32::try_from(len).ok().filter(|len| len & LAST == 0).map(|len| (len | LAST).to_be_bytes())
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A fragment that has nothing and is not the last one: there could be any number of them.
    #[error("a record goes on after a fragment without a byte")]
    Empty,
    /// More than a reply can have.
    #[error("a record of {0} bytes or more, where at most {1} can be answered")]
    Long(u64, u64),
}

/// Where one is in the fragments of a record.
#[derive(Debug, Default)]
pub struct Fragments {
    /// Bytes of this fragment that are still to come.
    left: u32,
    is_last: bool,
    /// Bytes of the record up to the end of this fragment.
    total: u64,
}

impl Fragments {
    /// A mark comes next, not a byte of the record.
    pub fn needs_mark(&self) -> bool {
        self.left == 0 && !self.is_last
    }

    /// The record has come to its end.
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.is_last
    }

    /// Bytes that come before the next mark or the end.
    pub fn left(&self) -> usize {
        self.left as usize
    }

    /// A mark was received; a record may have `most` bytes.
    ///
    /// # Errors
    /// It announces too much, or nothing.
    pub fn begin(&mut self, mark: [u8; MARK], most: u64) -> Result<(), RecordError> {
        let mark = u32::from_be_bytes(mark);
        (self.left, self.is_last) = (mark & !LAST, mark & LAST != 0);
        self.total += u64::from(self.left);
        if self.left == 0 && !self.is_last {
            return Err(RecordError::Empty);
        }
        if self.total > most {
            return Err(RecordError::Long(self.total, most));
        }
        Ok(())
    }

    /// Bytes of the fragment were received.
    pub fn take(&mut self, len: usize) {
        self.left = self.left.saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
    }
}
