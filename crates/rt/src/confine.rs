//! Work on files that nobody vouches for, in a process of its own that can reach nothing else.
//!
//! ```text
//!   parent ── opens the files ── fork ──▶ child: limits ─ Landlock ─ seccomp ─▶ work
//!     └─ waits until the child ends or its time is over ◀── exit code, or the signal that ended it
//! ```
//!
//! Laws:
//! - the files are open before the child is confined, and it opens nothing after: [`crate::fs::open`] finds what is
//!   held by its name, and everything else is refused here, by the filter of system calls ([`filter`]), and by Landlock,
//!   each of which would do;
//! - both hold for the thread that takes them on and those it starts, so the child takes them on while it has one thread;
//! - of what it has inherited the child keeps its standard streams, and nothing else;
//! - the parent has read no byte of the files. What a crafted file can make of the child, it can't make of who reports it;
//! - the child ends with its parent.
//!
//! A child is forked rather than this program started anew: arguments, open files and limits need no way through a command
//! line, and it works where the program can't be found again, as without `/proc`.
//!
//! Specification: landlock(7), seccomp(2), setrlimit(2).

mod filter;

use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use crate::held::Access;

use crate::held::{self, Held};
use crate::{fs, osfile, process, signal, sys};

/// Descriptors that a confined process may have open.
const MOST_OPEN: u64 = 256;

/// The first descriptor behind the standard streams.
const FIRST_OTHER: u32 = 3;

/// What a confined process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long it may run.
    pub time: Duration,
    /// Memory that it may write to, in bytes, stacks of threads included.
    pub memory: u64,
    /// How long a file may become by its writes, in bytes.
    pub file_size: u64,
}

/// What the kernel enforces of a confinement, beside the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforced {
    /// Landlock refuses to open files, whatever the program does.
    pub landlock: bool,
    /// A filter refuses the system calls that the work does not need.
    pub seccomp: bool,
}

/// How a confined process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit code.
    Exited(u8),
    /// Its time was over.
    OutOfTime,
    /// It could not get the memory that it needed, or found itself in a state that can't be.
    Aborted,
    /// By a signal of this number.
    Killed(i32),
}

impl End {
    fn is_success(self) -> bool {
        self == End::Exited(0)
    }
}

/// Opens `files`, and does `work` in a child process that can reach nothing but these. `work` is told what the kernel enforces,
/// and gives the exit code. Files that were made for a work that fails are removed. A signal that is to end
/// this process ends the child, and then this process.
///
/// # Errors
/// When a file can't be opened, with its name; when there are other threads already, which the child would not have; the
/// system's, when there can't be a process.
pub fn run(
    files: &[(&str, Access)],
    limits: Limits,
    work: impl FnOnce(Enforced) -> u8,
) -> Result<End, ConfineError> {
    if process::threads()? > 1 {
        return Err(io::Error::other("a process with threads can't do its work in a child").into());
    }
    let mut held: Vec<Held> = Vec::new();
    for (name, access) in files {
        match Held::open(Path::new(name), *access, osfile::refuse_unseekable) {
            Ok(file) => held.push(file),
            Err(error) => {
                settle(&held, false);
                return Err(ConfineError::Open((*name).to_owned(), error));
            }
        }
    }
    let parent = std::process::id();
    // SAFETY: there is one thread, so the child has all that the parent has.
    let forked = io::pipe().and_then(|pipe| Ok((pipe, sys::check(unsafe { libc::fork() })?)));
    let ((ended, alive), child) = match forked {
        Ok(forked) => forked,
        Err(error) => {
            settle(&held, false);
            return Err(error.into());
        }
    };
    if child == 0 {
        // The parent sees that this end is closed, which nothing but the end of the process does.
        let closed = close_others(held.iter().flat_map(Held::numbers).chain([alive.as_raw_fd()]));
        std::mem::forget((ended, alive));
        let makes = held.iter().any(|file| file.made);
        let code = match closed.and_then(|()| limit(limits, parent)) {
            Ok(()) => {
                prepare();
                held::confine(held);
                work(enforce(makes))
            }
            Err(error) => {
                eprintln!("the process can't be limited: {error}");
                1
            }
        };
        std::process::exit(code.into());
    }
    drop(alive);
    let end = wait(child, ended, limits.time);
    settle(&held, end.as_ref().is_ok_and(|end| end.is_success()));
    let end = end?;
    match end {
        // Whoever sends this one to a program waits to see it end by it.
        End::Killed(signal) if ENDING.contains(&signal) && PASSED.load(Ordering::SeqCst) == signal => {
            signal::handle(signal, libc::SIG_DFL)?;
            signal::raise(signal)?;
            Ok(end)
        }
        end => Ok(end),
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A file can't be opened.
    #[error("Could not open '{0}': {1}")]
    Open(String, #[source] io::Error),
    /// The system has no process for it.
    #[error("could not start a confined process: {0}")]
    Start(#[from] io::Error),
}

fn settle(files: &[Held], succeeded: bool) {
    for file in files {
        if let Err(error) = settle_one(file, succeeded) {
            tracing::warn!(%error, "the file of a new image could not be settled");
        }
    }
}

/// Makes the name of a file that was made durable; or removes the file, if the name still leads to it.
fn settle_one(file: &Held, succeeded: bool) -> io::Result<()> {
    if !file.made {
        return Ok(());
    }
    let path = fs::path(&file.path);
    if !succeeded {
        let (own, there) = (sys::fstat(file.any()?)?, sys::stat(&file.path)?);
        let same = (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino);
        return if same { std::fs::remove_file(path) } else { Ok(()) };
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match std::fs::File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all()) {
        // As in `fs::sync_name`: where a folder can't be synced, the sync of the file must suffice.
        Err(e) if fs::is_no_sync(&e) => Ok(()),
        result => result,
    }
}

/// What needs files, and is needed later.
fn prepare() {
    sys::bound_heaps();
    sys::cores();
    // The C library reads the time zone when it is asked for the first time.
    crate::local_offset(0);
}

/// Closes what the process has inherited or opened beside its standard streams and these.
fn close_others(kept: impl Iterator<Item = RawFd>) -> io::Result<()> {
    let mut kept: Vec<_> = kept.filter_map(|number| u32::try_from(number).ok()).collect();
    kept.sort_unstable();
    let mut first = FIRST_OTHER;
    for end in kept.into_iter().chain([u32::MAX]) {
        if end > first {
            // SAFETY: nobody uses descriptors of the parent in this process, which has one thread.
            let closed = unsafe { libc::syscall(libc::SYS_close_range, first, end - 1, 0) };
            if closed != 0 {
                close_listed(first..end)?;
            }
        }
        first = end.saturating_add(1);
    }
    Ok(())
}

/// Closes those of a range that /proc lists, where the kernel (before Linux 5.9) or who started the program has not the call for
/// it. Where neither is there, nothing is begun.
fn close_listed(range: Range<u32>) -> io::Result<()> {
    let listed = std::fs::read_dir("/proc/self/fd")?;
    let numbers: Vec<u32> =
        listed.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| range.contains(number)) {
        // SAFETY: nobody uses descriptors of the parent in this process; that of the list itself is closed already.
        unsafe { libc::close(number as RawFd) };
    }
    Ok(())
}

/// Takes on the limits, and ends with the parent.
fn limit(limits: Limits, parent: u32) -> io::Result<()> {
    // SAFETY: it takes a number.
    sys::check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    // SAFETY: it takes nothing.
    if unsafe { libc::getppid() } != parent as libc::pid_t {
        return Err(io::Error::other("its parent has ended already"));
    }
    // Processor time is limited for the case that nobody looks at the clock, as when the parent is stopped.
    let seconds = limits.time.as_secs().saturating_add(1).saturating_mul(sys::cores() as u64);
    let all = [
        (Resource::Data, limits.memory),
        (Resource::Fsize, limits.file_size),
        (Resource::Nofile, MOST_OPEN),
        // What was read of an image is not left in a file.
        (Resource::Core, 0),
    ];
    // The kernel looks at the hard limit first: SIGXCPU comes only below it.
    let hard =
        getrlimit(Resource::Cpu).maximum.map_or(seconds + 5, |most| most.min(seconds.saturating_add(5)));
    setrlimit(Resource::Cpu, Rlimit { current: Some(seconds.min(hard)), maximum: Some(hard) })?;
    all.into_iter().try_for_each(|(which, most)| sys::lower_limit(which, most))
}

/// Gives up all rights that this process has not used so far; what the kernel enforces of that. `makes`: one of its files was made for
/// it, whose attributes it may set.
fn enforce(makes: bool) -> Enforced {
    // A confinement that the kernel does not have is told to who asked for it, whose decision it is.
    let landlock = without_files();
    if let Err(error) = &landlock {
        tracing::debug!(%error, "Landlock is not enforced");
    }
    let filter = filter::apply(makes);
    if let Err(error) = &filter {
        tracing::debug!(%error, "system calls are not filtered");
    }
    let landlock = landlock.is_ok_and(|status| status != RulesetStatus::NotEnforced);
    Enforced { landlock, seccomp: filter.is_ok() }
}

/// Has Landlock refuse all that it knows of: files, ports, sockets and processes outside.
fn without_files() -> Result<RulesetStatus, RulesetError> {
    const NEWEST: ABI = ABI::V7;
    let rules = Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?;
    let rules = rules.handle_access(AccessNet::from_all(NEWEST))?.scope(Scope::from_all(NEWEST))?;
    Ok(rules.create()?.restrict_self()?.ruleset)
}

/// Signals by which people and service managers end a program.
const ENDING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// The child that signals are passed on to; 0 while there is none.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// The last signal that was passed on; 0 while there was none.
static PASSED: AtomicI32 = AtomicI32::new(0);

extern "C" fn pass_on(signal: libc::c_int) {
    let child = CHILD.load(Ordering::SeqCst);
    PASSED.store(signal, Ordering::SeqCst);
    if child > 0 {
        // SAFETY: it takes numbers, and may be called in a handler.
        unsafe { libc::kill(child, signal) };
    }
}

/// Waits for the end of the child, at most until its time is over; then it is ended.
fn wait(child: libc::pid_t, ended: io::PipeReader, time: Duration) -> io::Result<End> {
    CHILD.store(child, Ordering::SeqCst);
    // Scripts ask the process that they started how far it is, and end it: files that were made for it are removed then.
    for signal in ENDING.into_iter().chain([libc::SIGUSR1]) {
        signal::handle(signal, pass_on as extern "C" fn(libc::c_int) as libc::sighandler_t)?;
    }
    let in_time = closes_within(&ended, time)?;
    // Also one that has closed the pipe and goes on; of one that ends, the exit code is settled by now.
    // SAFETY: it takes numbers; the child is not waited for yet, so the number is its own.
    unsafe { libc::kill(child, libc::SIGKILL) };
    let mut status = 0;
    loop {
        // SAFETY: `status` is a place for the result.
        match sys::check(unsafe { libc::waitpid(child, &raw mut status, 0) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => {
                result?;
                break;
            }
        };
    }
    CHILD.store(0, Ordering::SeqCst);
    Ok(match (in_time, libc::WIFEXITED(status)) {
        (_, true) => End::Exited(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX)),
        (false, false) => End::OutOfTime,
        (true, false) => match libc::WTERMSIG(status) {
            libc::SIGXCPU => End::OutOfTime,
            libc::SIGABRT => End::Aborted,
            signal => End::Killed(signal),
        },
    })
}

/// Whether the other end of a pipe is closed within this time.
fn closes_within(mut pipe: &io::PipeReader, time: Duration) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        let left = time.saturating_sub(start.elapsed());
        let mut fds = [PollFd::new(&pipe, PollFlags::IN)];
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => return Ok(false),
            // Nothing is ever written to it.
            Ok(_) => return Ok(matches!(pipe.read(&mut [0]), Ok(0))),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
