//! The mount protocol: the handle of a folder that a server exports.
//!
//! Specification: RFC 1813, appendix I.

use crate::limits;
use crate::rpc::Call;
use crate::v3::Handle;
use crate::xdr::{Malformed, Reader, Text, Xdr, layout};
use std::fmt;

/// The program.
pub const PROGRAM: u32 = 100_005;
/// Its version.
pub const VERSION: u32 = 3;

/// Ways to say who one is that a server may list.
const FLAVORS: u32 = 64;

layout! {
    /// `MOUNTPROC3_MNT`.
    Mount {
        /// The folder's path at the server.
        path: Text<{ limits::PATH }>,
    }
}

impl Call for Mount {
    const PROGRAM: u32 = PROGRAM;
    const VERSION: u32 = VERSION;
    const PROCEDURE: u32 = 1;
    const NAME: &'static str = "MNT";
    type Reply = Mounted;
}

/// What a mount answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted(pub Result<Root, MountStatus>);

/// A folder, and how one says there who one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The folder.
    pub handle: Handle,
    /// The numbers of the ways, the server's favourite first.
    pub flavors: Vec<u32>,
}

impl Xdr for Mounted {
    fn put(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Ok(root) => {
                0u32.put(out);
                root.handle.put(out);
                crate::xdr::put_length(root.flavors.len(), out);
                root.flavors.iter().for_each(|flavor| flavor.put(out));
            }
            Err(status) => status.0.put(out),
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u32::take(from)? {
            0 => {
                let handle = Handle::take(from)?;
                let count = u32::take(from)?;
                if count > FLAVORS {
                    return Err(Malformed::Long(count as usize, FLAVORS as usize));
                }
                let flavors = (0..count).map(|_| u32::take(from)).collect::<Result<_, _>>()?;
                Ok(Self(Ok(Root { handle, flavors })))
            }
            status => Ok(Self(Err(MountStatus(status)))),
        }
    }
}

/// Why a folder was not mounted; the number is that of the error of UNIX, as far as there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountStatus(pub u32);

impl MountStatus {
    /// The caller may not.
    pub const ACCESS: Self = Self(13);
    /// There is no such folder.
    pub const NOT_FOUND: Self = Self(2);
}

impl fmt::Display for MountStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            1 => "MNT3ERR_PERM: the server allows it to its administrator alone",
            2 => "MNT3ERR_NOENT: there is no such folder",
            5 => "MNT3ERR_IO: the server could not read it",
            13 => "MNT3ERR_ACCES: the server does not export it to this client",
            20 => "MNT3ERR_NOTDIR: it is no folder",
            22 => "MNT3ERR_INVAL: the server takes it for no path",
            63 => "MNT3ERR_NAMETOOLONG: the path is too long",
            10_004 => "MNT3ERR_NOTSUPP: the server does not do that",
            10_006 => "MNT3ERR_SERVERFAULT: the server has failed",
            other => return write!(f, "status {other}"),
        })
    }
}
