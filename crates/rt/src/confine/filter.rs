//! The system calls of a confined process: those that its work needs, of which none leads to another file, process or host.
//!
//! What is left out is answered as if the kernel had no such call (ENOSYS): the C library and the standard library have an
//! older call for each that they can do without, such as `clone` for `clone3`, whose arguments no filter sees.
//!
//! io_uring is left out, too: what is done through a ring passes no filter.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::osfile;

/// Calls that are allowed whatever their arguments are.
const ALLOWED: &[libc::c_long] = &[
    // Files that are open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_close,
    libc::SYS_dup,
    // Memory; what would make it executable is not among them.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads, and waiting.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    // Signals of its own.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // What it is and when.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_getcwd,
    libc::SYS_geteuid,
    libc::SYS_getegid,
];

/// Questions to terminals: whether one is there, and how wide.
const TERMINAL: [u64; 2] = [libc::TCGETS, libc::TIOCGWINSZ];

/// Flags of `clone` that make a thread of this process.
const THREAD: u64 = (libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_SIGHAND) as u64;

/// Filters the system calls of this thread, and of those that it starts. `makes`: the attributes of files may be set.
///
/// # Errors
/// `Unsupported` where the kernel has no filters, or there are none for this processor.
pub(super) fn apply(makes: bool) -> io::Result<()> {
    let unsupported =
        |e: seccompiler::BackendError| io::Error::new(io::ErrorKind::Unsupported, e.to_string());
    let program = program(makes).map_err(unsupported)?;
    seccompiler::apply_filter(&program).map_err(|e| io::Error::new(io::ErrorKind::Unsupported, e.to_string()))
}

fn program(makes: bool) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    let equal = |argument: u8, value: u64| rule(argument, SeccompCmpOp::Eq, value);
    let one_of = |argument: u8, values: &mut dyn Iterator<Item = u64>| -> Result<Vec<_>, _> {
        values.map(|value| equal(argument, value)).collect()
    };
    let commands = [
        libc::F_DUPFD_CLOEXEC,
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_OFD_GETLK,
        libc::F_OFD_SETLK,
    ];
    rules.insert(libc::SYS_fcntl, one_of(1, &mut commands.iter().map(|&command| command as u64))?);
    let fits = |request: &&u64| makes || !osfile::ATTRIBUTES.contains(request);
    let requests = osfile::REQUESTS.iter().filter(fits).chain(&TERMINAL);
    rules.insert(libc::SYS_ioctl, one_of(1, &mut requests.copied())?);
    rules.insert(libc::SYS_prctl, vec![equal(0, libc::PR_SET_NAME as u64)?]);
    rules.insert(libc::SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(THREAD), THREAD)?]);
    let no_code = || condition(2, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0);
    // The limit of memory counts neither shared memory nor what grows down.
    let counted = (libc::MAP_TYPE | libc::MAP_GROWSDOWN) as u64;
    let counted = condition(3, SeccompCmpOp::MaskedEq(counted), libc::MAP_PRIVATE as u64)?;
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![no_code()?, counted])?]);
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![no_code()?])?]);
    // To itself: `abort`.
    rules.insert(libc::SYS_tgkill, vec![equal(0, u64::from(std::process::id()))?]);
    let refuse = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// One condition on the lower half of an argument: of all arguments here the kernel reads no more.
fn rule(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![condition(argument, compare, value)?])
}

fn condition(
    argument: u8,
    compare: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)
}
