//! Which calls on a file may be made inline, on the worker's own thread: learned per file, for reads and writes apart.
//!
//! | class  | files                                        | inline                                               |
//! |--------|----------------------------------------------|------------------------------------------------------|
//! | memory | tmpfs and its like                           | plain calls up to 2 MiB                              |
//! | nowait | reads of local file systems and devices; writes of those that can (xfs, btrfs) | `RWF_NOWAIT`       |
//! | local  | writes of other local file systems (ext4)    | plain calls up to 64 KiB while recent ones were quick |
//! | never  | network and FUSE file systems, O_DIRECT, character devices, whatever is unknown | nothing        |
//!
//! A class that the kernel refuses (EOPNOTSUPP) gives way to the next one at run time.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::file::FileKind;

/// Longest plain call on a memory file system, in bytes: about 200 µs of copying.
pub(crate) const MEMORY_MAX: u64 = 2 << 20;
/// Longest plain write on other local file systems, in bytes.
pub(crate) const LOCAL_MAX: usize = 64 << 10;

/// A call that took longer waited for something: journal, throttling of dirty pages.
const SLOW_NS: u64 = 500_000;
/// How long inline calls are given up after a slow one; doubles with each further one.
const PAUSE_NS: u64 = 10_000_000;
const LONGEST_PAUSE: u32 = 7;

/// How calls of one direction may be made inline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    Memory,
    Nowait,
    Local,
    Never,
}

/// A class that can change while the file is in use.
pub(crate) struct ClassCell(AtomicU8);

impl ClassCell {
    pub(crate) fn new(class: Class) -> ClassCell {
        ClassCell(AtomicU8::new(class as u8))
    }

    pub(crate) fn get(&self) -> Class {
        match self.0.load(Ordering::Relaxed) {
            0 => Class::Memory,
            1 => Class::Nowait,
            2 => Class::Local,
            _ => Class::Never,
        }
    }

    pub(crate) fn set(&self, class: Class) {
        self.0.store(class as u8, Ordering::Relaxed);
    }
}

/// The classes to start with: (reads, writes).
pub(crate) fn classify(kind: FileKind, fs_magic: u32, direct: bool) -> (Class, Class) {
    match kind {
        _ if direct => (Class::Never, Class::Never),
        // A device's node lives on a memory file system that says nothing of the device.
        FileKind::Block => (Class::Nowait, Class::Local),
        FileKind::Regular => match fs_magic {
            TMPFS | RAMFS | HUGETLBFS => (Class::Memory, Class::Memory),
            magic if LOCAL.contains(&magic) => (Class::Nowait, Class::Nowait),
            _ => (Class::Never, Class::Never),
        },
        _ => (Class::Never, Class::Never),
    }
}

const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;
const HUGETLBFS: u32 = 0x9584_58f6;

/// File systems on local devices: ext2–4, xfs, btrfs, f2fs, bcachefs, zfs, overlayfs, jfs, reiserfs, vfat, exfat, ntfs3,
/// erofs, squashfs, iso9660, udf, nilfs2.
const LOCAL: [u32; 18] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0xf2f5_2010,
    0xca45_1a4e,
    0x2fc1_2fc1,
    0x794c_7630,
    0x3153_464a,
    0x5265_4973,
    0x4d44,
    0x2011_bab0,
    0x7366_746e,
    0xe0f5_e1e2,
    0x7371_7368,
    0x9660,
    0x1501_3346,
    0x3434,
    0x2468_1357,
];

/// Whether plain calls have been quick lately.
#[derive(Default)]
pub(crate) struct Quick {
    until: AtomicU64,
    slow: AtomicU64,
}

impl Quick {
    /// Whether a plain call may be made at `now`.
    pub(crate) fn allows(&self, now: u64) -> bool {
        now >= self.until.load(Ordering::Relaxed)
    }

    /// Takes note of a call that took from `start` to `end`, in ns.
    pub(crate) fn note(&self, start: u64, end: u64) {
        if end.saturating_sub(start) < SLOW_NS {
            if self.slow.load(Ordering::Relaxed) != 0 {
                self.slow.store(0, Ordering::Relaxed);
            }
            return;
        }
        // The first call after a pause is a trial: if it is slow again, the next pause is twice as long.
        let slow = self.slow.fetch_add(1, Ordering::Relaxed) as u32;
        self.until.store(end.saturating_add(PAUSE_NS << slow.min(LONGEST_PAUSE)), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_fuse_and_direct_files_are_never_read_inline() {
        const NFS: u32 = 0x6969;
        const FUSE: u32 = 0x6573_5546;
        for magic in [NFS, FUSE, 0xffff_ffff] {
            assert_eq!(classify(FileKind::Regular, magic, false), (Class::Never, Class::Never));
        }
        assert_eq!(classify(FileKind::Regular, 0xef53, true), (Class::Never, Class::Never));
        assert_eq!(classify(FileKind::Block, TMPFS, false), (Class::Nowait, Class::Local));
    }

    #[test]
    fn a_slow_call_pauses_inline_calls_and_slow_trials_pause_them_longer() {
        let quick = Quick::default();
        quick.note(0, SLOW_NS);
        assert!(!quick.allows(SLOW_NS + PAUSE_NS - 1));
        assert!(quick.allows(SLOW_NS + PAUSE_NS));
        quick.note(0, SLOW_NS);
        assert!(!quick.allows(SLOW_NS + PAUSE_NS));
        quick.note(0, 1);
        quick.note(0, SLOW_NS);
        assert!(quick.allows(SLOW_NS + PAUSE_NS));
    }
}
