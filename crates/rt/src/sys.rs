//! The system calls that several modules share, as safe functions.

use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;

/// The answer of a system call that returns -1 on error.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The answer of a system call that returns a count or an offset.
pub(crate) fn check_long(result: i64) -> io::Result<u64> {
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Takes the descriptor that a system call returned.
pub(crate) fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Monotonic clock in ns.
pub(crate) fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// A random number from a generator per thread, seeded by the kernel.
pub(crate) fn random_u64() -> u64 {
    thread_local!(static STATE: Cell<u64> = const { Cell::new(0) });
    STATE.with(|state| {
        if state.get() == 0 {
            let mut seed = [0u8; 8];
            // SAFETY: the buffer is eight bytes long.
            let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), libc::GRND_NONBLOCK) };
            let weak = now_ns() ^ (state as *const Cell<u64> as u64);
            state.set(if got == 8 { u64::from_ne_bytes(seed) } else { weak });
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

/// A path as the kernel wants it. Bytes that travelled as code points ([`codec::filename`]) are bytes again.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(codec::filename::bytes(path.as_os_str().as_bytes()))
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a file name holds a zero byte"))
}

/// A descriptor that wakes an epoll set. It is only ever written: the set is edge-triggered.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Adds one to an eventfd. Safe to call from a signal handler.
pub(crate) fn signal_eventfd(fd: RawFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: the buffer is eight bytes long. A full counter (EAGAIN) means that a wake-up is pending: just as good.
    unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
}

/// `pread`: the count may be short.
pub(crate) fn pread(fd: BorrowedFd<'_>, off: u64, buf: &mut [u8]) -> io::Result<usize> {
    let off = offset(off)?;
    // SAFETY: pointer and length are those of a live slice.
    let n = unsafe { libc::pread64(fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len(), off) };
    check_long(n as i64).map(|n| n as usize)
}

/// `pwrite`: the count may be short.
pub(crate) fn pwrite(fd: BorrowedFd<'_>, off: u64, buf: &[u8]) -> io::Result<usize> {
    let off = offset(off)?;
    // SAFETY: pointer and length are those of a live slice.
    let n = unsafe { libc::pwrite64(fd.as_raw_fd(), buf.as_ptr().cast(), buf.len(), off) };
    check_long(n as i64).map(|n| n as usize)
}

/// `preadv2` that does not wait for the device.
pub(crate) fn pread_nowait(fd: BorrowedFd<'_>, off: u64, buf: &mut [u8]) -> io::Result<usize> {
    let off = offset(off)?;
    let part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: the vector has one element, whose pointer and length are those of a live slice.
    let n = unsafe { libc::preadv2(fd.as_raw_fd(), &part, 1, off, libc::RWF_NOWAIT) };
    check_long(n as i64).map(|n| n as usize)
}

/// `pwritev2` that does not wait for the device.
pub(crate) fn pwrite_nowait(fd: BorrowedFd<'_>, off: u64, buf: &[u8]) -> io::Result<usize> {
    let off = offset(off)?;
    let part = libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() };
    // SAFETY: the vector has one element, whose pointer and length are those of a live slice; it is only read.
    let n = unsafe { libc::pwritev2(fd.as_raw_fd(), &part, 1, off, libc::RWF_NOWAIT) };
    check_long(n as i64).map(|n| n as usize)
}

/// An offset as the kernel wants it; beyond i64 there are no files.
pub(crate) fn offset(off: u64) -> io::Result<i64> {
    i64::try_from(off).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// `fstat`.
pub(crate) fn fstat(fd: BorrowedFd<'_>) -> io::Result<libc::stat64> {
    let mut answer = std::mem::MaybeUninit::uninit();
    // SAFETY: `answer` is a place for the result.
    check(unsafe { libc::fstat64(fd.as_raw_fd(), answer.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled `answer`.
    Ok(unsafe { answer.assume_init() })
}

/// `stat`: links followed.
pub(crate) fn stat(path: &Path) -> io::Result<libc::stat64> {
    let path = c_path(path)?;
    let mut answer = std::mem::MaybeUninit::uninit();
    // SAFETY: `path` ends with a zero byte and `answer` is a place for the result.
    check(unsafe { libc::stat64(path.as_ptr(), answer.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled `answer`.
    Ok(unsafe { answer.assume_init() })
}

/// Magic number of the file system that holds an open file.
pub(crate) fn fs_magic(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut answer = std::mem::MaybeUninit::<libc::statfs64>::uninit();
    // SAFETY: `answer` is a place for the result.
    check(unsafe { libc::fstatfs64(fd.as_raw_fd(), answer.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled `answer`. Magic numbers are 32 bits, whatever the field's type.
    Ok(unsafe { answer.assume_init() }.f_type as u32)
}

/// An ioctl that fills a number.
pub(crate) fn ioctl_get<T: Default>(fd: BorrowedFd<'_>, request: u64) -> io::Result<T> {
    let mut answer = T::default();
    // SAFETY: callers pass requests that write one `T`.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, &mut answer as *mut T) })?;
    Ok(answer)
}

/// An ioctl that reads a value.
pub(crate) fn ioctl_set<T>(fd: BorrowedFd<'_>, request: u64, value: &T) -> io::Result<()> {
    // SAFETY: callers pass requests that read one `T`.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, value as *const T) }).map(drop)
}

/// `fdatasync` or `fsync`.
pub(crate) fn sync(fd: BorrowedFd<'_>, data_only: bool) -> io::Result<()> {
    // SAFETY: no memory is passed.
    let result =
        unsafe { if data_only { libc::fdatasync(fd.as_raw_fd()) } else { libc::fsync(fd.as_raw_fd()) } };
    check(result).map(drop)
}

/// `fallocate`.
pub(crate) fn fallocate(fd: BorrowedFd<'_>, mode: libc::c_int, off: u64, len: u64) -> io::Result<()> {
    let (off, len) = (offset(off)?, offset(len)?);
    // SAFETY: no memory is passed.
    check(unsafe { libc::fallocate64(fd.as_raw_fd(), mode, off, len) }).map(drop)
}

/// `ftruncate`.
pub(crate) fn ftruncate(fd: BorrowedFd<'_>, len: u64) -> io::Result<()> {
    let len = offset(len)?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::ftruncate64(fd.as_raw_fd(), len) }).map(drop)
}

/// `lseek`; the position itself means nothing here, as all I/O names its offset.
pub(crate) fn lseek(fd: BorrowedFd<'_>, off: u64, whence: libc::c_int) -> io::Result<u64> {
    let off = offset(off)?;
    // SAFETY: no memory is passed.
    check_long(unsafe { libc::lseek64(fd.as_raw_fd(), off, whence) })
}

/// Sets the status flags of an open file, all others cleared.
pub(crate) fn set_status_flags(fd: BorrowedFd<'_>, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) }).map(drop)
}

/// An ioctl that takes a byte range.
pub(crate) fn ioctl_range(fd: BorrowedFd<'_>, request: u64, off: u64, len: u64) -> io::Result<()> {
    let range = [off, len];
    // SAFETY: callers pass requests that read two u64.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, range.as_ptr()) }).map(drop)
}

/// What the kernel says that O_DIRECT demands of this file (since Linux 6.1).
pub(crate) fn dio_alignment(fd: BorrowedFd<'_>) -> Option<u32> {
    let mut answer = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let (flags, mask) = (libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN);
    // SAFETY: the path is an empty string and `answer` a place for the result.
    let done = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, mask, answer.as_mut_ptr()) };
    // SAFETY: all-zero is a valid `statx`, and so is what the kernel writes.
    let answer = unsafe { answer.assume_init() };
    let known = done == 0 && answer.stx_mask & libc::STATX_DIOALIGN != 0;
    Some(answer.stx_dio_mem_align.max(answer.stx_dio_offset_align)).filter(|&n| known && n > 0)
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
