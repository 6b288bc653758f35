//! Sets of descriptors that clients have handed over: `/dev/fdset/N` stands for whichever of the set `N` has the access
//! that is wanted.
//!
//! A file opened by such a name is a copy of the descriptor: it goes on when the set is gone. The copies share their
//! status flags (as `O_DIRECT`) and file locks with the descriptor that was handed over: who locks opens the file anew
//! ([`own_name`]).
//!
//! Bounds: [`MOST`] descriptors in all sets together.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::OFlags;

/// Most descriptors in all sets together.
const MOST: usize = 1024;

/// A descriptor of a set as it is listed: its number, and the text it was added with.
pub type Listed = (RawFd, Option<String>);

/// A descriptor of a set.
struct Member {
    fd: OwnedFd,
    opaque: Option<String>,
}

/// The sets of the process, by number.
static SETS: Mutex<BTreeMap<i64, Vec<Member>>> = Mutex::new(BTreeMap::new());

/// Adds a descriptor to the set `id`, or to a new one: the set's number and the descriptor's.
///
/// # Errors
/// `InvalidInput` when the number is negative; `StorageFull` when there are too many.
pub fn add(id: Option<i64>, fd: OwnedFd, opaque: Option<String>) -> io::Result<(i64, RawFd)> {
    let mut sets = SETS.lock();
    if sets.values().map(Vec::len).sum::<usize>() >= MOST {
        return Err(io::Error::new(io::ErrorKind::StorageFull, format!("more than {MOST} descriptors")));
    }
    let free = || (0..).find(|id| !sets.contains_key(id)).unwrap_or_default();
    let id = id.unwrap_or_else(free);
    if id < 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{id} is negative")));
    }
    let number = fd.as_raw_fd();
    sets.entry(id).or_default().push(Member { fd, opaque });
    Ok((id, number))
}

/// Removes a descriptor of a set, or the whole set; whether there was one.
pub fn remove(id: i64, number: Option<RawFd>) -> bool {
    let mut sets = SETS.lock();
    let Some(members) = sets.get_mut(&id) else { return false };
    let before = members.len();
    members.retain(|member| number.is_some_and(|number| member.fd.as_raw_fd() != number));
    let removed = members.len() < before;
    if members.is_empty() {
        sets.remove(&id);
    }
    removed
}

/// All sets by number, with their descriptors.
pub fn list() -> Vec<(i64, Vec<Listed>)> {
    let shown = |member: &Member| (member.fd.as_raw_fd(), member.opaque.clone());
    SETS.lock().iter().map(|(&id, members)| (id, members.iter().map(shown).collect())).collect()
}

/// The set that a file name stands for.
pub(crate) fn of(path: &Path) -> Option<i64> {
    path.to_str()?.strip_prefix("/dev/fdset/")?.parse().ok().filter(|&id| id >= 0)
}

/// For a name that stands for a set, the name by which the system opens the file of the set's first descriptor anew, with
/// flags and locks of its own. Whose file it is by then is for the caller to compare.
pub fn own_name(path: &Path) -> Option<PathBuf> {
    let sets = SETS.lock();
    let member = sets.get(&of(path)?)?.first()?;
    Some(format!("/proc/self/fd/{}", member.fd.as_raw_fd()).into())
}

/// A copy of the descriptor with the access `wanted` (`O_RDONLY`, `O_WRONLY`, `O_RDWR`); for reading, one that also
/// writes will do.
pub(crate) fn open(id: i64, wanted: OFlags) -> io::Result<OwnedFd> {
    let sets = SETS.lock();
    let members = sets.get(&id).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
    let has = |access: OFlags| members.iter().find(|member| self::access(&member.fd) == Some(access));
    let also = (wanted == OFlags::RDONLY).then_some(OFlags::RDWR);
    let found = has(wanted).or_else(|| also.and_then(has));
    found.ok_or_else(|| io::Error::from_raw_os_error(libc::EACCES))?.fd.try_clone()
}

/// What a descriptor may do.
fn access(fd: &OwnedFd) -> Option<OFlags> {
    Some(rustix::fs::fcntl_getfl(fd).ok()? & OFlags::RWMODE)
}

/// Any descriptor of the set, to ask what the file is.
pub(crate) fn any(id: i64) -> io::Result<OwnedFd> {
    let sets = SETS.lock();
    let member = sets.get(&id).and_then(|members| members.first());
    member.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?.fd.try_clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_opens_by_the_access_that_is_wanted_and_ends_when_it_is_empty() -> io::Result<()> {
        let reader = OwnedFd::from(std::fs::File::open("/dev/null")?);
        let (id, number) = add(Some(77), reader, Some("here".to_owned()))?;
        assert_eq!(of(Path::new("/dev/fdset/77")), Some(id));
        assert!(open(id, OFlags::RDONLY).is_ok());
        assert_eq!(open(id, OFlags::RDWR).err().and_then(|e| e.raw_os_error()), Some(libc::EACCES));
        let both = std::fs::File::options().read(true).write(true).open("/dev/null")?;
        let (_, other) = add(Some(77), both.into(), None)?;
        assert!(open(id, OFlags::RDWR).is_ok());
        assert!(list().contains(&(77, vec![(number, Some("here".to_owned())), (other, None)])));
        assert!(remove(id, Some(number)) && !remove(id, Some(number)));
        assert!(open(id, OFlags::RDONLY).is_ok(), "one that also writes will do for reading");
        assert!(remove(id, None) && !remove(id, None));
        assert_eq!(any(id).err().and_then(|e| e.raw_os_error()), Some(libc::ENOENT));
        for other in ["/dev/fdset/", "/dev/fdset/-1", "/dev/fdset/x", "/tmp/fdset/1"] {
            assert_eq!(of(Path::new(other)), None, "{other}");
        }
        Ok(())
    }
}
