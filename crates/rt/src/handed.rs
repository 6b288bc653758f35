//! Descriptors passed to this process: inherited by number, as from a service manager, or lent by a client under a name.
//!
//! ```text
//! LISTEN_PID=ours LISTEN_FDS=2 LISTEN_FDNAMES=disk:qmp   ─▶  3 "disk", 4 "qmp"
//! ```
//!
//! Law: only what was inherited or lent can be taken, and only once. All that the program opens itself closes on exec; what it
//! inherited does not, or it would not be there. Taking sets the flag.
//!
//! Specification: sd_listen_fds(3).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use parking_lot::Mutex;

use crate::sys::check;

/// The first descriptor that a service manager passes.
const FIRST: RawFd = 3;
/// Most descriptors that are considered.
const MOST: usize = 1024;

/// What was lent and not taken, by name.
static LENT: Mutex<BTreeMap<String, OwnedFd>> = Mutex::new(BTreeMap::new());

/// Lends descriptors by name to [`named`], until [`reclaim`]. The caller ensures that only one lends at a time.
pub fn lend(named: BTreeMap<String, OwnedFd>) {
    *LENT.lock() = named;
}

/// Takes back what was lent and not taken.
pub fn reclaim() -> BTreeMap<String, OwnedFd> {
    std::mem::take(&mut LENT.lock())
}

/// Takes over the descriptor that a text means: one that was lent under this name, one of this number, or one that a
/// service manager gave this name.
///
/// # Errors
/// `NotFound` when there is none, or it is the program's own, or it was taken already.
pub fn named(text: &str) -> io::Result<OwnedFd> {
    if let Some(fd) = LENT.lock().remove(text) {
        return Ok(fd);
    }
    if let Ok(number) = text.parse() {
        return take(number);
    }
    match sockets()?.into_iter().find(|handed| handed.name == text) {
        Some(handed) => take(handed.number),
        None => {
            let text = format!("no descriptor is named '{text}'");
            Err(io::Error::new(io::ErrorKind::NotFound, text))
        }
    }
}

/// A socket that a service manager has passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// Its name; "unknown" without one.
    pub name: String,
    /// Its number, for [`take`].
    pub number: RawFd,
}

/// The sockets that a service manager has passed to this process; none if it was meant for another one.
///
/// # Errors
/// When the environment says that there are sockets and they can't be there.
pub fn sockets() -> io::Result<Vec<Handed>> {
    let handed = announced()?;
    match handed.iter().find(|handed| flags(handed.number).is_err()) {
        None => Ok(handed),
        Some(missing) => {
            let text = format!("LISTEN_FDS={}, but descriptor {} is not open", handed.len(), missing.number);
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// Those of [`sockets`] that nobody has taken.
///
/// # Errors
/// When the environment makes no sense.
pub fn untaken() -> io::Result<Vec<Handed>> {
    Ok(announced()?.into_iter().filter(|handed| is_inherited(handed.number)).collect())
}

/// The sockets that the environment announces.
fn announced() -> io::Result<Vec<Handed>> {
    let text = |name| std::env::var(name).ok();
    if text("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    match text("LISTEN_FDS") {
        Some(count) => parse(&count, text("LISTEN_FDNAMES").as_deref()),
        None => Ok(Vec::new()),
    }
}

/// The descriptors that the variables announce. Names are ignored unless there are as many as descriptors.
fn parse(count: &str, names: Option<&str>) -> io::Result<Vec<Handed>> {
    let wrong = || {
        let text = format!("LISTEN_FDS={count} is not a number of descriptors up to {MOST}");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    let count: usize = count.parse().ok().filter(|&count| count <= MOST).ok_or_else(wrong)?;
    let names: Vec<_> = names.map(|names| names.split(':').collect()).unwrap_or_default();
    let names = if names.len() == count { names } else { vec!["unknown"; count] };
    Ok(names
        .into_iter()
        .zip(FIRST..)
        .map(|(name, number)| Handed { name: name.to_owned(), number })
        .collect())
}

/// Takes over an inherited descriptor: it closes on exec from now on, and with its owner.
///
/// # Errors
/// `NotFound` when there is none of this number, or it is the program's own, or it was taken already.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    // Two callers must not take the same one.
    static TAKING: Mutex<()> = Mutex::new(());
    let _taking = TAKING.lock();
    if !is_inherited(number) {
        let text = format!("no descriptor {number} was handed over, or it is in use already");
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and nothing in this process owns it: what is owned here closes on exec, and this did not.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Whether it was open when the program began and was not taken since.
fn is_inherited(number: RawFd) -> bool {
    number >= FIRST && flags(number).is_ok_and(|flags| flags & libc::FD_CLOEXEC == 0)
}

fn flags(number: RawFd) -> io::Result<libc::c_int> {
    // SAFETY: no memory is passed; a number that is not open is answered with an error.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};

    #[test]
    fn the_environment_names_the_descriptors_from_three_on() {
        let names = |count, names| {
            parse(count, names).ok().map(|all| all.into_iter().map(|h| (h.number, h.name)).collect())
        };
        let some = |all: &[(RawFd, &str)]| {
            Some(all.iter().map(|&(n, name)| (n, name.to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(names("2", Some("disk:qmp")), some(&[(3, "disk"), (4, "qmp")]));
        assert_eq!(names("2", Some("one")), some(&[(3, "unknown"), (4, "unknown")]));
        assert_eq!(names("1", None), some(&[(3, "unknown")]));
        assert_eq!(names("0", None), some(&[]));
        for wrong in ["", "x", "-1", "1025", "99999999999999999999"] {
            assert_eq!(names(wrong, None), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_lent_is_taken_by_its_name_once_and_the_rest_comes_back() -> io::Result<()> {
        let file = || std::fs::File::open("/dev/null").map(OwnedFd::from);
        lend(BTreeMap::from([("one".to_owned(), file()?), ("two".to_owned(), file()?)]));
        drop(named("one")?);
        assert_eq!(named("one").err().map(|e| e.kind()), Some(io::ErrorKind::NotFound));
        assert_eq!(reclaim().into_keys().collect::<Vec<_>>(), ["two"]);
        assert!(named("two").is_err() && reclaim().is_empty());
        Ok(())
    }

    #[test]
    fn what_the_program_opened_itself_can_not_be_taken_and_the_rest_only_once() -> io::Result<()> {
        let own = std::fs::File::open("/dev/null")?;
        assert_eq!(take(own.as_raw_fd()).err().map(|e| e.kind()), Some(io::ErrorKind::NotFound));
        let number = OwnedFd::from(own).into_raw_fd();
        // SAFETY: no memory is passed.
        check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) })?;
        let taken = take(number)?;
        assert_eq!(take(number).err().map(|e| e.kind()), Some(io::ErrorKind::NotFound));
        drop(taken);
        assert!(take(number).is_err() && take(-1).is_err() && take(0).is_err());
        Ok(())
    }
}
