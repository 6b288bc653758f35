//! The system calls that several modules share.
//!
//! Calls go through `rustix`, whose functions are safe and as fast as the C library's (measured for those of the data
//! path: pread, pwrite, recv, send, clock). By hand, through `libc`, stay: ioctls on devices and file attributes, locks on
//! open files ([`crate::osfile`]), fork, signal handlers, the settings of malloc, and waiting in epoll, for which see there.

use std::cell::Cell;
use std::ffi::CString;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

use rustix::event::EventfdFlags;
use rustix::fs::{AtFlags, FallocateFlags, OFlags, SeekFrom, Stat, StatxFlags};
use rustix::io::ReadWriteFlags;
use rustix::process::{Resource, Rlimit};
use rustix::rand::GetRandomFlags;
use rustix::time::ClockId;

/// The answer of a system call that returns -1 on error.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Monotonic clock in ns.
pub(crate) fn now_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// Processor time of this thread in ns.
pub(crate) fn busy_ns() -> u64 {
    clock_ns(ClockId::ThreadCPUTime)
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// A random number from a generator per thread, seeded by the kernel.
pub(crate) fn random_u64() -> u64 {
    thread_local!(static STATE: Cell<u64> = const { Cell::new(0) });
    STATE.with(|state| {
        if state.get() == 0 {
            let mut seed = [0u8; 8];
            let got = rustix::rand::getrandom(&mut seed, GetRandomFlags::NONBLOCK);
            let weak = now_ns() ^ (state as *const Cell<u64> as u64);
            state.set(if got == Ok(seed.len()) { u64::from_ne_bytes(seed) } else { weak });
        }
        // SplitMix64: every 64-bit state is fine, zero included.
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mut z = next;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Cores this process may use.
pub(crate) fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, |n| n.get()))
}

/// A path as the kernel wants it. A name's bytes that are no UTF-8, written as code points ([`codec::filename`]), are bytes
/// again.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(codec::filename::bytes(path.as_os_str().as_bytes()))
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a file name holds a zero byte"))
}

/// A descriptor that wakes an epoll set. It is only ever written: the set is edge-triggered.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Adds one to an eventfd. Safe to call from a signal handler.
pub(crate) fn signal_eventfd(fd: RawFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: the buffer is eight bytes long. A full counter (EAGAIN) means that a wake-up is pending: just as good.
    unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
}

/// `pread`: the count may be short.
pub(crate) fn pread(fd: BorrowedFd<'_>, off: u64, buf: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::pread(fd, buf, checked(off)?)?)
}

/// `pwrite`: the count may be short.
pub(crate) fn pwrite(fd: BorrowedFd<'_>, off: u64, buf: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::pwrite(fd, buf, checked(off)?)?)
}

/// `pwritev2` of data that are durable when it returns.
pub(crate) fn pwrite_durable(fd: BorrowedFd<'_>, off: u64, buf: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::pwritev2(fd, &[IoSlice::new(buf)], checked(off)?, ReadWriteFlags::DSYNC)?)
}

/// `preadv2` that does not wait for the device.
pub(crate) fn pread_nowait(fd: BorrowedFd<'_>, off: u64, buf: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::preadv2(fd, &mut [IoSliceMut::new(buf)], checked(off)?, ReadWriteFlags::NOWAIT)?)
}

/// `pwritev2` that does not wait for the device.
pub(crate) fn pwrite_nowait(fd: BorrowedFd<'_>, off: u64, buf: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::pwritev2(fd, &[IoSlice::new(buf)], checked(off)?, ReadWriteFlags::NOWAIT)?)
}

/// An offset as the kernel wants it; beyond i64 there are no files.
pub(crate) fn offset(off: u64) -> io::Result<i64> {
    i64::try_from(off).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// An offset that the kernel takes for one: some calls give all-ones a meaning of its own.
fn checked(off: u64) -> io::Result<u64> {
    offset(off).map(|_| off)
}

/// `fstat`.
pub(crate) fn fstat(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    Ok(rustix::fs::fstat(fd)?)
}

/// `stat`: links followed.
pub(crate) fn stat(path: &Path) -> io::Result<Stat> {
    Ok(rustix::fs::stat(c_path(path)?)?)
}

/// Opens a path.
pub(crate) fn open(path: &Path, flags: OFlags, mode: u32) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(c_path(path)?, flags, mode.into())?)
}

/// Magic number of the file system that holds an open file.
pub(crate) fn fs_magic(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // Magic numbers are 32 bits, whatever the field's type.
    Ok(rustix::fs::fstatfs(fd)?.f_type as u32)
}

/// An ioctl that fills a number.
pub(crate) fn ioctl_get<T: Default>(fd: BorrowedFd<'_>, request: u64) -> io::Result<T> {
    let mut answer = T::default();
    // SAFETY: callers pass requests that write one `T`.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, &mut answer as *mut T) })?;
    Ok(answer)
}

/// An ioctl that takes a number, and answers one.
pub(crate) fn ioctl_number(fd: BorrowedFd<'_>, request: u64, number: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: callers pass requests that take a number in place of a pointer.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, libc::c_long::from(number)) })
}

/// An ioctl that reads a value.
pub(crate) fn ioctl_set<T>(fd: BorrowedFd<'_>, request: u64, value: &T) -> io::Result<()> {
    // SAFETY: callers pass requests that read one `T`.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, value as *const T) }).map(drop)
}

/// `fdatasync` or `fsync`.
pub(crate) fn sync(fd: BorrowedFd<'_>, data_only: bool) -> io::Result<()> {
    Ok(if data_only { rustix::fs::fdatasync(fd) } else { rustix::fs::fsync(fd) }?)
}

/// `fallocate`.
pub(crate) fn fallocate(fd: BorrowedFd<'_>, mode: FallocateFlags, off: u64, len: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(fd, mode, checked(off)?, checked(len)?)?)
}

/// `ftruncate`.
pub(crate) fn ftruncate(fd: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    Ok(rustix::fs::ftruncate(fd, checked(len)?)?)
}

/// `lseek`; the position itself means nothing here, as all I/O names its offset.
pub(crate) fn lseek(fd: BorrowedFd<'_>, to: SeekFrom) -> io::Result<u64> {
    Ok(rustix::fs::seek(fd, to)?)
}

/// Sets the status flags of an open file, all others cleared.
pub(crate) fn set_status_flags(fd: BorrowedFd<'_>, flags: OFlags) -> io::Result<()> {
    Ok(rustix::fs::fcntl_setfl(fd, flags)?)
}

/// An ioctl that takes a byte range.
pub(crate) fn ioctl_range(fd: BorrowedFd<'_>, request: u64, off: u64, len: u64) -> io::Result<()> {
    let range = [off, len];
    // SAFETY: callers pass requests that read two u64.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, range.as_ptr()) }).map(drop)
}

/// What the kernel says that O_DIRECT demands of this file (since Linux 6.1).
pub(crate) fn dio_alignment(fd: BorrowedFd<'_>) -> Option<u32> {
    let answer = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    let known = answer.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    Some(answer.stx_dio_mem_align.max(answer.stx_dio_offset_align)).filter(|&n| known && n > 0)
}

/// Lowers a limit of this process for good, where it is not lower already.
pub(crate) fn lower_limit(which: Resource, most: u64) -> io::Result<()> {
    let now = rustix::process::getrlimit(which);
    let most = Some(now.maximum.map_or(most, |maximum| maximum.min(most)));
    Ok(rustix::process::setrlimit(which, Rlimit { current: most, maximum: most })?)
}

/// Heaps that malloc may have: by itself it reserves 64 MiB of addresses for each of up to 8 heaps a core, which alone
/// breaks a limit of 1 GiB on a few cores.
pub(crate) fn bound_heaps() {
    #[cfg(target_env = "gnu")]
    {
        const HEAPS: libc::c_int = 4;
        // SAFETY: it sets a number that malloc reads when it makes its next heap.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, HEAPS) };
    }
}
