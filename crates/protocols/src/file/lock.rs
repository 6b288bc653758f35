//! Image locks, as QEMU's programs take them: shared OFD locks on bytes of the image file.
//!
//! Byte `100 + i` is held by who needs permission `i`; byte `200 + i` by who does not share it (bits as in
//! [`block::Share`]). To need permission `i`, nobody else may hold `200 + i`; to unshare it, nobody `100 + i`. Own
//! bytes are locked before the others' are tested, so that of two that start at the same time each sees the other.
use block::{BlockError, ErrorKind, Perms, Result};
use parking_lot::Mutex;
use rt::File;

const NEEDS: u64 = 100;
const UNSHARES: u64 = 200;
const BITS: [u8; 4] = [0, 1, 2, 3];

/// The locks of one open image.
pub(crate) struct Locks {
    /// A read-only descriptor for the locks alone.
    file: File,
    filename: String,
    held: Mutex<Held>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    needs: u8,
    unshares: u8,
}

impl Locks {
    /// The file, opened apart from the one that data go through.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn new(file: File, filename: String) -> Self {
        Self { file, filename, held: Mutex::default() }
    }

    /// Holds exactly the locks that `perms` mean; or changes nothing, and the error names the holder of a lock in the way.
    pub(crate) fn set(&self, perms: Perms) -> Result<()> {
        let mut held = self.held.lock();
        let new = Held { needs: perms.need.0 & 15, unshares: !perms.share.0 & 15 };
        if new == *held {
            // A process that locked since then has seen these locks.
            return Ok(());
        }
        let both = Held { needs: held.needs | new.needs, unshares: held.unshares | new.unshares };
        let result = self.take(*held, both).and_then(|()| self.nobody_in_the_way(new));
        let keep = if result.is_ok() { new } else { *held };
        self.give_back(both, keep);
        *held = keep;
        result
    }

    /// Whether this file can be locked at all.
    pub(crate) fn possible(&self) -> bool {
        self.file.test_lock(NEEDS, 1, false).is_ok()
    }

    /// Releases all locks.
    pub(crate) fn release(&self) {
        let mut held = self.held.lock();
        self.give_back(*held, Held::default());
        *held = Held::default();
    }

    fn take(&self, held: Held, wanted: Held) -> Result<()> {
        for bit in BITS {
            for (base, had, wants) in
                [(NEEDS, held.needs, wanted.needs), (UNSHARES, held.unshares, wanted.unshares)]
            {
                if wants & !had & (1 << bit) == 0 {
                    continue;
                }
                let got = self.file.try_lock(base + u64::from(bit), 1, false).map_err(|e| self.os(&e))?;
                if !got {
                    // QEMU's programs lock these bytes shared only; an exclusive lock is another program's, and in the way too.
                    return Err(self.conflict(base == UNSHARES, bit, base + u64::from(bit)));
                }
            }
        }
        Ok(())
    }

    fn nobody_in_the_way(&self, new: Held) -> Result<()> {
        for bit in BITS {
            for (theirs, mine) in [(UNSHARES, new.needs), (NEEDS, new.unshares)] {
                if mine & (1 << bit) == 0 {
                    continue;
                }
                let byte = theirs + u64::from(bit);
                if !self.file.test_lock(byte, 1, true).map_err(|e| self.os(&e))? {
                    return Err(self.conflict(theirs == NEEDS, bit, byte));
                }
            }
        }
        Ok(())
    }

    fn give_back(&self, from: Held, to: Held) {
        for bit in BITS {
            for (base, had, keeps) in [(NEEDS, from.needs, to.needs), (UNSHARES, from.unshares, to.unshares)]
            {
                if had & !keeps & (1 << bit) != 0
                    && let Err(e) = self.file.unlock(base + u64::from(bit), 1)
                {
                    tracing::warn!(file = %self.filename, error = %e, "an image lock could not be released");
                }
            }
        }
    }

    fn os(&self, e: &std::io::Error) -> BlockError {
        BlockError::os(format!("could not lock '{}'", self.filename), e)
    }

    fn conflict(&self, shared: bool, bit: u8, byte: u64) -> BlockError {
        let name = ["consistent read", "write", "write unchanged", "resize"][usize::from(bit) & 3];
        let holder = self.file.stat().map(|s| rt::locks::lock_holder(s.dev, s.ino, byte, 1));
        let who = holder.map_or_else(|_| "another process".to_owned(), |h| h.to_string());
        let kind = if shared { "shared " } else { "" };
        let text = format!("Failed to get {kind}\"{name}\" lock: '{}' is in use by {who}", self.filename);
        BlockError::new(ErrorKind::Locked, text)
    }
}
