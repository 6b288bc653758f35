//! Protocols of QEMU 2.1 whose servers nobody makes any more: their names are known, and refused with the reason.

use block::{BlockError, DriverType, OpenContext, Opened, Opener, Result};
use rt::BoxFuture;

/// Opens nothing. What it was: a name for people.
struct Retired(&'static str);

impl Opener for Retired {
    fn open<'a>(&self, _: &'a mut OpenContext) -> Result<BoxFuture<'a, Result<Opened>>> {
        let what = self.0;
        let text = format!(
            "{what} is not supported: its project has ended, and QEMU has dropped its driver, too; copy its disks away with \
             a program of its time"
        );
        Err(BlockError::unsupported(text))
    }

    fn is_there(&self) -> bool {
        false
    }
}

/// The row of a protocol that has ended.
const fn row(name: &'static str, prefixes: &'static [&'static str], retired: &'static Retired) -> DriverType {
    DriverType { name, prefixes, open: retired, ..DriverType::PROTOCOL }
}

/// The `archipelago` driver.
pub(crate) const ARCHIPELAGO: DriverType = row("archipelago", &["archipelago:"], &Retired("Archipelago"));
/// The `sheepdog` driver.
pub(crate) const SHEEPDOG: DriverType =
    row("sheepdog", &["sheepdog:", "sheepdog+tcp:", "sheepdog+unix:"], &Retired("Sheepdog"));
