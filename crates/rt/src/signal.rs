//! Signals as something to await, and two process-wide settings.
//!
//! A handler does no more than note the signal and write to an eventfd. One task at a time awaits signals.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use crate::source::Source;
use crate::sys;

/// SIGINT.
pub const INTERRUPT: i32 = libc::SIGINT;
/// SIGTERM.
pub const TERMINATE: i32 = libc::SIGTERM;
/// SIGHUP.
pub const HANGUP: i32 = libc::SIGHUP;
/// SIGUSR1, which asks a program for something of its own.
pub const ASK: i32 = libc::SIGUSR1;

/// Signals that came and were not taken yet, by number.
static PENDING: AtomicU64 = AtomicU64::new(0);
/// Written by the handler; -1 until there is one.
static WAKE: AtomicI32 = AtomicI32::new(-1);
static WAKE_FD: OnceLock<OwnedFd> = OnceLock::new();

extern "C" fn note(signal: libc::c_int) {
    // Only what a handler may do: atomics and `write`. The interrupted code's errno must survive.
    // SAFETY: the location is this thread's errno.
    let errno = unsafe { *libc::__errno_location() };
    PENDING.fetch_or(bit(signal), Ordering::SeqCst);
    let fd = WAKE.load(Ordering::SeqCst);
    if fd >= 0 {
        sys::signal_eventfd(fd);
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

fn bit(signal: libc::c_int) -> u64 {
    1u64.checked_shl(signal as u32).unwrap_or(0)
}

/// Has a signal do this: be ignored, or run a handler that may run at any time.
pub(crate) fn handle(signal: libc::c_int, action: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all-zero is a valid `sigaction`: no flags, empty mask.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = action;
    new.sa_flags = libc::SA_RESTART;
    // SAFETY: `new` lives during the call; callers pass `SIG_IGN` or a handler that is safe to run at any time.
    sys::check(unsafe { libc::sigaction(signal, &new, std::ptr::null_mut()) }).map(drop)
}

fn wake_fd() -> io::Result<&'static OwnedFd> {
    if WAKE_FD.get().is_none() {
        let fd = sys::eventfd()?;
        let fd = WAKE_FD.get_or_init(|| fd);
        WAKE.store(fd.as_raw_fd(), Ordering::SeqCst);
    }
    WAKE_FD.get().ok_or_else(|| io::Error::other("no eventfd"))
}

/// Takes over these signals: from now on they end nothing, and wait for [`next_signal`].
pub fn catch(signals: &[libc::c_int]) -> io::Result<()> {
    wake_fd()?;
    signals
        .iter()
        .try_for_each(|&signal| handle(signal, note as extern "C" fn(libc::c_int) as libc::sighandler_t))
}

/// Gives these signals back: the next one does what the system does by itself.
pub fn let_go(signals: &[libc::c_int]) -> io::Result<()> {
    signals.iter().try_for_each(|&signal| handle(signal, libc::SIG_DFL))
}

/// Whether a signal is ignored, as whoever started the program may have wanted.
pub fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: all-zero is a valid `sigaction`.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `now` is a place for the result.
    let asked = sys::check(unsafe { libc::sigaction(signal, std::ptr::null(), &mut now) });
    asked.is_ok() && now.sa_sigaction == libc::SIG_IGN
}

/// Ends the program by a signal, as if nobody had caught it: whoever waits for it sees which one it was.
pub fn end_by(signal: libc::c_int) -> ! {
    // Where either fails, the exit code that shells show is left.
    let _ = let_go(&[signal]);
    let _ = raise(signal);
    std::process::exit(128 + signal)
}

/// Waits for one of `signals` (which it [`catch`]es first) and takes it. Those that came before count.
pub async fn next_signal(signals: &[libc::c_int]) -> io::Result<libc::c_int> {
    catch(signals)?;
    let source = Source::new(wake_fd()?.as_fd().try_clone_to_owned()?);
    loop {
        // Looked at with the readiness cleared: a signal that comes now makes an edge.
        let taken = source.readiness.read.attempt(
            || take(signals).map(|signal| signal as usize).ok_or_else(|| io::ErrorKind::WouldBlock.into()),
            |_| true,
        );
        match taken {
            Ok(signal) => return Ok(signal as libc::c_int),
            Err(_) => source.readable().await?,
        }
    }
}

fn take(signals: &[libc::c_int]) -> Option<libc::c_int> {
    signals
        .iter()
        .copied()
        .find(|&signal| PENDING.fetch_and(!bit(signal), Ordering::SeqCst) & bit(signal) != 0)
}

/// Sends the program a signal.
///
/// # Errors
/// The system's, when there is no signal of that number.
pub fn raise(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: it takes a number, and reads no memory of ours.
    if unsafe { libc::raise(signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A peer that went away is an error of the write, not the end of the process.
pub fn ignore_sigpipe() {
    // It can't fail: the signal exists and may be ignored.
    let _ = handle(libc::SIGPIPE, libc::SIG_IGN);
}

/// A write beyond the limit of a file's size (`ulimit -f`) is an error of the write, not the end of the process.
pub fn ignore_sigxfsz() {
    // It can't fail: the signal exists and may be ignored.
    let _ = handle(libc::SIGXFSZ, libc::SIG_IGN);
}

/// Raises the limit of open files as far as the system allows; the limit then.
pub fn raise_nofile() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a place for the result.
    sys::check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` lives during the call.
        sys::check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    }
    Ok(limit.rlim_cur)
}
