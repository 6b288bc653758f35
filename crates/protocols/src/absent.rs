//! Drivers that the program was built without: their names are known, and refused with what it would take.

use block::{BlockError, DriverType, OpenContext, Opened, Opener, Result};
use rt::BoxFuture;

/// Opens nothing, for want of the feature.
struct Absent(&'static str);

impl Opener for Absent {
    fn open<'a>(&self, _: &'a mut OpenContext) -> Result<BoxFuture<'a, Result<Opened>>> {
        let feature = self.0;
        let text = format!("this program was built without its feature '{feature}', which this driver needs");
        Err(BlockError::unsupported(text))
    }

    fn is_there(&self) -> bool {
        false
    }
}

/// The row of a driver that needs a feature.
const fn row(name: &'static str, prefixes: &'static [&'static str], absent: &'static Absent) -> DriverType {
    DriverType { name, prefixes, open: absent, ..DriverType::PROTOCOL }
}

#[cfg(not(feature = "ftp"))]
pub(crate) const FTP: DriverType = row("ftp", &["ftp:"], &Absent("ftp"));
#[cfg(not(feature = "ftp"))]
pub(crate) const FTPS: DriverType = row("ftps", &["ftps:"], &Absent("ftp"));
#[cfg(not(feature = "http"))]
pub(crate) const HTTP: DriverType = row("http", &["http:"], &Absent("http"));
#[cfg(not(feature = "http"))]
pub(crate) const HTTPS: DriverType = row("https", &["https:"], &Absent("http"));
#[cfg(not(feature = "iscsi"))]
pub(crate) const ISCSI: DriverType = row("iscsi", &["iscsi:", "iser:"], &Absent("iscsi"));
#[cfg(not(feature = "nfs"))]
pub(crate) const NFS: DriverType = row("nfs", &["nfs:"], &Absent("nfs"));
#[cfg(not(feature = "rbd"))]
pub(crate) const RBD: DriverType = row("rbd", &["rbd:"], &Absent("rbd"));
#[cfg(not(feature = "http"))]
pub(crate) const S3: DriverType = row("s3", &["s3:"], &Absent("http"));
#[cfg(not(feature = "ssh"))]
pub(crate) const SSH: DriverType = row("ssh", &["ssh:"], &Absent("ssh"));
#[cfg(not(feature = "tftp"))]
pub(crate) const TFTP: DriverType = row("tftp", &["tftp:"], &Absent("tftp"));
