//! Error values of replies and the system's error numbers.
//!
//! The protocol has eight values of its own, which look like Linux's `errno` and are none: what is not among
//! them is mapped before it is sent ("Error values").

use rustix::io::Errno;

/// An error value in a reply, or 0 for success.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Success.
    pub const OK: Self = Self(0);
    /// Not permitted: a write to a read-only export.
    pub const EPERM: Self = Self(1);
    /// Input or output failed.
    pub const EIO: Self = Self(5);
    /// Out of memory.
    pub const ENOMEM: Self = Self(12);
    /// The request makes no sense.
    pub const EINVAL: Self = Self(22);
    /// No space, or a write beyond the end.
    pub const ENOSPC: Self = Self(28);
    /// Too large to be answered in one piece.
    pub const EOVERFLOW: Self = Self(75);
    /// Zeroes cannot be written fast.
    pub const ENOTSUP: Self = Self(95);
    /// The server is ending.
    pub const ESHUTDOWN: Self = Self(108);

    /// The value to send for a Linux error number. Numbers of causes that the protocol does not know are
    /// failures of the device: `EIO`.
    pub fn from_errno(errno: i32) -> Self {
        let is = |any: &[Errno]| any.iter().any(|e| e.raw_os_error() == errno);
        match Self(errno as u32) {
            _ if is(&[Errno::ROFS]) => Self::EPERM,
            // Of a part of the export that can't be had; EPERM is for an export that takes no writes. QEMU's servers send it too.
            _ if is(&[Errno::ACCESS]) => Self::EINVAL,
            _ if is(&[Errno::FBIG, Errno::DQUOT]) => Self::ENOSPC,
            known if known != Self::OK && known.is_known() => known,
            _ => Self::EIO,
        }
    }

    /// The Linux error number a client reports for this value; an unexpected value counts as `EINVAL`.
    pub fn to_errno(self) -> i32 {
        if self.is_known() { self.0 as i32 } else { Self::EINVAL.0 as i32 }
    }

    /// One of the protocol's values.
    fn is_known(self) -> bool {
        const KNOWN: [ErrorCode; 9] = [
            ErrorCode::OK,
            ErrorCode::EPERM,
            ErrorCode::EIO,
            ErrorCode::ENOMEM,
            ErrorCode::EINVAL,
            ErrorCode::ENOSPC,
            ErrorCode::EOVERFLOW,
            ErrorCode::ENOTSUP,
            ErrorCode::ESHUTDOWN,
        ];
        KNOWN.contains(&self)
    }

    /// The request succeeded.
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match *self {
            Self::OK => "success",
            Self::EPERM => "operation not permitted",
            Self::EIO => "input/output error",
            Self::ENOMEM => "out of memory",
            Self::EINVAL => "invalid request",
            Self::ENOSPC => "no space left on the device",
            Self::EOVERFLOW => "request too large",
            Self::ENOTSUP => "operation not supported",
            Self::ESHUTDOWN => "the server is shutting down",
            Self(other) => return write!(f, "unknown error {other}"),
        })
    }
}

impl std::fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ErrorCode({}: {self})", self.0)
    }
}
