//! Drivers that the program was built without: their names are known, and refused with what it would take.

use block::{BlockError, DriverType, OpenContext, Opened, Opener, Result};
use rt::BoxFuture;

/// Opens nothing, for want of the feature.
struct Absent(&'static str);

impl Opener for Absent {
    fn open<'a>(&self, _: &'a mut OpenContext) -> Result<BoxFuture<'a, Result<Opened>>> {
        let feature = self.0;
        let text = format!("this program was built without the driver '{feature}' (the feature of its name)");
        Err(BlockError::unsupported(text))
    }
}

#[cfg(not(feature = "http"))]
pub(crate) const HTTP: DriverType =
    DriverType { name: "http", prefixes: &["http:"], open: &Absent("http"), ..DriverType::PROTOCOL };
#[cfg(not(feature = "http"))]
pub(crate) const HTTPS: DriverType =
    DriverType { name: "https", prefixes: &["https:"], open: &Absent("http"), ..DriverType::PROTOCOL };
#[cfg(not(feature = "http"))]
pub(crate) const S3: DriverType =
    DriverType { name: "s3", prefixes: &["s3:"], open: &Absent("http"), ..DriverType::PROTOCOL };
#[cfg(not(feature = "iscsi"))]
pub(crate) const ISCSI: DriverType = DriverType {
    name: "iscsi",
    prefixes: &["iscsi:", "iser:"],
    open: &Absent("iscsi"),
    ..DriverType::PROTOCOL
};
#[cfg(not(feature = "rbd"))]
pub(crate) const RBD: DriverType =
    DriverType { name: "rbd", prefixes: &["rbd:"], open: &Absent("rbd"), ..DriverType::PROTOCOL };
#[cfg(not(feature = "nfs"))]
pub(crate) const NFS: DriverType =
    DriverType { name: "nfs", prefixes: &["nfs:"], open: &Absent("nfs"), ..DriverType::PROTOCOL };
#[cfg(not(feature = "ssh"))]
pub(crate) const SSH: DriverType =
    DriverType { name: "ssh", prefixes: &["ssh:"], open: &Absent("ssh"), ..DriverType::PROTOCOL };
