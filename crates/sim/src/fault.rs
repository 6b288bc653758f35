//! Faults: which operation fails, and how. Counted from the moment they are planted, so that a test can try every k.

use std::path::PathBuf;

use rt::Errno;

/// Kinds of operation, as they are counted and failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpKind {
    /// A read, inline or not.
    Read,
    /// A write, inline or not.
    Write,
    /// A sync of a file.
    Sync,
    /// A reservation, punch or zeroing.
    Allocate,
    /// A change of the length.
    SetLen,
    /// The query of an extent.
    Extent,
    /// An open, or a stat by name.
    Open,
    /// A rename, an unlink, or a sync of a directory.
    Name,
}

/// What happens to the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this errno. A write may have done its front part; what a sync covered is lost in part.
    Errno(i32),
    /// It takes this many ns longer.
    Stall(u64),
}

/// EIO.
pub const EIO: i32 = Errno::IO.raw_os_error();
/// ENOSPC.
pub const ENOSPC: i32 = Errno::NOSPC.raw_os_error();

/// One planted fault.
#[derive(Clone, Debug)]
pub struct Plant {
    /// Kinds it hits; all, if empty.
    pub kinds: Vec<OpKind>,
    /// The file it hits; any, if none.
    pub file: Option<PathBuf>,
    /// How many matching operations pass before.
    pub after: u64,
    /// How many it hits.
    pub times: u64,
    /// What it does to them.
    pub fault: Fault,
}

impl Plant {
    /// The `k`-th operation (from 0) from now on fails with `errno`.
    pub fn nth(k: u64, errno: i32) -> Plant {
        Plant { kinds: Vec::new(), file: None, after: k, times: 1, fault: Fault::Errno(errno) }
    }

    /// The `k`-th operation (from 0) of this kind from now on fails with `errno`.
    pub fn nth_of(kind: OpKind, k: u64, errno: i32) -> Plant {
        Plant { kinds: vec![kind], ..Plant::nth(k, errno) }
    }

    /// Whether it hits this operation.
    pub(crate) fn meets(&mut self, kind: OpKind, file: impl FnOnce() -> PathBuf) -> Option<Fault> {
        let kind_matches = self.kinds.is_empty() || self.kinds.contains(&kind);
        if self.times == 0 || !kind_matches || self.file.as_ref().is_some_and(|wanted| *wanted != file()) {
            return None;
        }
        if self.after > 0 {
            self.after -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.fault)
    }
}
