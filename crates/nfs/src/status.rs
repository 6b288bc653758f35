//! What a procedure of NFS came to.

use crate::xdr::{Malformed, Reader, Xdr};
use std::fmt;

/// The status of a reply. Other numbers than those of the protocol are kept as they are.
///
/// Specification: RFC 1813, section 2.6.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u32);

/// Number of the protocol, its name, the error of Linux.
const KNOWN: [(u32, &str, i32); 28] = [
    (1, "NFS3ERR_PERM", 1),
    (2, "NFS3ERR_NOENT", 2),
    (5, "NFS3ERR_IO", 5),
    (6, "NFS3ERR_NXIO", 6),
    (13, "NFS3ERR_ACCES", 13),
    (17, "NFS3ERR_EXIST", 17),
    (18, "NFS3ERR_XDEV", 18),
    (19, "NFS3ERR_NODEV", 19),
    (20, "NFS3ERR_NOTDIR", 20),
    (21, "NFS3ERR_ISDIR", 21),
    (22, "NFS3ERR_INVAL", 22),
    (27, "NFS3ERR_FBIG", 27),
    (28, "NFS3ERR_NOSPC", 28),
    (30, "NFS3ERR_ROFS", 30),
    (31, "NFS3ERR_MLINK", 31),
    (63, "NFS3ERR_NAMETOOLONG", 36),
    (66, "NFS3ERR_NOTEMPTY", 39),
    (69, "NFS3ERR_DQUOT", 122),
    (70, "NFS3ERR_STALE", 116),
    (71, "NFS3ERR_REMOTE", 66),
    (10_001, "NFS3ERR_BADHANDLE", 116),
    (10_002, "NFS3ERR_NOT_SYNC", 5),
    (10_003, "NFS3ERR_BAD_COOKIE", 22),
    (10_004, "NFS3ERR_NOTSUPP", 95),
    (10_005, "NFS3ERR_TOOSMALL", 22),
    (10_006, "NFS3ERR_SERVERFAULT", 121),
    (10_007, "NFS3ERR_BADTYPE", 22),
    (10_008, "NFS3ERR_JUKEBOX", 11),
];

/// The error of Linux for what is not known.
const EIO: i32 = 5;

impl Status {
    /// It was done.
    pub const OK: Self = Self(0);
    /// There is no such file.
    pub const NOENT: Self = Self(2);
    /// The caller may not.
    pub const ACCES: Self = Self(13);
    /// There is such a file already.
    pub const EXIST: Self = Self(17);
    /// Not understood.
    pub const INVAL: Self = Self(22);
    /// No room.
    pub const NOSPC: Self = Self(28);
    /// The file system can't be written to.
    pub const ROFS: Self = Self(30);
    /// The user may have no more room.
    pub const DQUOT: Self = Self(69);
    /// The handle's file is gone, or is exported no longer.
    pub const STALE: Self = Self(70);
    /// It will take a while: ask again later.
    pub const JUKEBOX: Self = Self(10_008);

    fn known(self) -> Option<&'static (u32, &'static str, i32)> {
        KNOWN.iter().find(|(number, ..)| *number == self.0)
    }

    /// The error of Linux that means the same; EIO where there is none.
    pub fn errno(self) -> i32 {
        self.known().map_or(EIO, |(_, _, errno)| *errno)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((_, name, _)) => f.write_str(name),
            None => write!(f, "status {}", self.0),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Xdr for Status {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        u32::take(from).map(Self)
    }
}
