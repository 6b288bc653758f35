//! Descriptors that whoever started the program has handed over: by number, or as a service manager passes sockets.
//!
//! ```text
//! LISTEN_PID=ours LISTEN_FDS=2 LISTEN_FDNAMES=disk:qmp   ─▶  3 "disk", 4 "qmp"
//! ```
//!
//! Law: only what was inherited can be taken, and only once. All that the program opens itself closes on exec; what it
//! inherited does not, for it survived one. Taking marks it.
//!
//! Specification: sd_listen_fds(3).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use parking_lot::Mutex;

use crate::sys::check;

/// The first descriptor that a service manager passes.
const FIRST: RawFd = 3;
/// Most descriptors that are looked at.
const MOST: usize = 1024;

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
    let text = |name| std::env::var(name).ok();
    if text("LISTEN_PID").and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let Some(count) = text("LISTEN_FDS") else { return Ok(Vec::new()) };
    let handed = parse(&count, text("LISTEN_FDNAMES").as_deref())?;
    match handed.iter().find(|handed| flags(handed.number).is_err()) {
        None => Ok(handed),
        Some(missing) => {
            let text = format!("LISTEN_FDS={count}, but descriptor {} is not open", missing.number);
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

/// The descriptors that the variables mean. Names that are not as many as there are descriptors count for nothing.
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
    // Two that take the same one must not both find it untaken.
    static TAKING: Mutex<()> = Mutex::new(());
    let _taking = TAKING.lock();
    let inherited = number >= FIRST && flags(number).is_ok_and(|flags| flags & libc::FD_CLOEXEC == 0);
    if !inherited {
        let text = format!("no descriptor {number} was handed over, or it is in use already");
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and nobody here owns it: whatever is owned here closes on exec, and this did not.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
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
