//! Who holds a lock: looked up in `/proc/*/fdinfo`, as the kernel names no holder of an open file's lock.
//!
//! Bounds: at most [`MAX_PROCESSES`] processes and [`MAX_FILES`] open files are looked at.

use std::fs;
use std::path::Path;

/// Most processes that are looked at.
pub const MAX_PROCESSES: usize = 4096;
/// Most open files that are looked at.
pub const MAX_FILES: usize = 65_536;

/// A process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Its command, as in `/proc/PID/comm`.
    pub command: String,
}

/// What the look-up found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockHolder {
    /// This process.
    Known(Holder),
    /// Nobody that we may look at; `true` when there were processes that we may not.
    Unknown {
        /// Some processes would not let us look.
        not_permitted: bool,
    },
}

impl std::fmt::Display for LockHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LockHolder::Known(holder) => write!(f, "process {} ({})", holder.pid, holder.command),
            LockHolder::Unknown { not_permitted: true } => f.write_str("unknown, not permitted to look"),
            LockHolder::Unknown { not_permitted: false } => f.write_str("unknown"),
        }
    }
}

/// Finds a process that holds a lock on any byte of `start .. start + len` of the file `ino` on device `dev`; `len` 0
/// means to the end. It waits for `/proc`: call it through `rt::blocking`.
pub fn lock_holder(dev: u64, ino: u64, start: u64, len: u64) -> LockHolder {
    let wanted = Wanted { inode: inode_name(dev, ino), start, end: end_of(start, len) };
    let (mut files, mut not_permitted) = (0, false);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in pids.take(MAX_PROCESSES) {
        let Ok(infos) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
            not_permitted = true;
            continue;
        };
        for info in infos.flatten() {
            files += 1;
            if files > MAX_FILES {
                return LockHolder::Unknown { not_permitted };
            }
            if wanted.is_locked_by(&info.path()) {
                return LockHolder::Known(Holder { pid, command: command(pid) });
            }
        }
    }
    LockHolder::Unknown { not_permitted }
}

struct Wanted {
    inode: String,
    start: u64,
    end: u64,
}

impl Wanted {
    fn is_locked_by(&self, info: &Path) -> bool {
        let Ok(text) = fs::read_to_string(info) else { return false };
        text.lines().any(|line| self.matches(line).unwrap_or(false))
    }

    /// Reads a line like `lock: 1: OFDLCK ADVISORY READ -1 fe:00:1234 100 101`.
    fn matches(&self, line: &str) -> Option<bool> {
        let mut words = line.strip_prefix("lock:")?.split_ascii_whitespace();
        let kind = words.nth(1)?;
        if !matches!(kind, "OFDLCK" | "POSIX") {
            return None;
        }
        let inode = words.nth(3)?;
        let first: u64 = words.next()?.parse().ok()?;
        let last = words.next()?;
        let last = if last == "EOF" { u64::MAX } else { last.parse().ok()? };
        Some(inode == self.inode && first < self.end && last >= self.start)
    }
}

fn end_of(start: u64, len: u64) -> u64 {
    if len == 0 { u64::MAX } else { start.saturating_add(len) }
}

/// A file as the kernel prints it among locks.
fn inode_name(dev: u64, ino: u64) -> String {
    format!("{:02x}:{:02x}:{ino}", libc::major(dev), libc::minor(dev))
}

fn command(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_matches_only_with_its_file_and_an_overlapping_range() {
        let wanted = |start, len| Wanted { inode: "fe:00:77".into(), start, end: end_of(start, len) };
        let line = "lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:77 100 101";
        assert_eq!(wanted(101, 1).matches(line), Some(true));
        assert_eq!(wanted(102, 1).matches(line), Some(false));
        assert_eq!(wanted(0, 0).matches(line), Some(true));
        assert_eq!(wanted(0, 0).matches("lock:\t1: FLOCK ADVISORY WRITE 7 fe:00:77 0 EOF"), None);
        assert_eq!(wanted(500, 1).matches("lock:\t1: POSIX ADVISORY WRITE 7 fe:00:77 0 EOF"), Some(true));
        assert_eq!(wanted(0, 0).matches("lock:\t1: OFDLCK ADVISORY READ -1 fe:00:78 0 EOF"), Some(false));
    }
}
