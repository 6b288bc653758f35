//! Other programs ([`Program`]), and going to the background: fork before any thread or ring exists; the parent waits until the child is ready.
//!
//! ```text
//!   parent ──fork──▶ child (new session) ──▶ opens everything ──▶ ready()
//!     └─ waits on a pipe ◀── 0: exit 0 │ text: print it, exit 1 │ closed empty: exit 1
//! ```

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::blocking::blocking;
use crate::net::Stream;
use crate::sys;

/// Longest error text that the parent takes from its child, in bytes.
const MAX_TEXT: u64 = 64 << 10;
/// First byte on the pipe: all is well.
const READY: u8 = 0;

/// Memory of the process that is in use, in bytes; nothing where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

/// What this process has used so far, and the processes that it has waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Time of all processors together.
    pub cpu: Duration,
    /// The most memory that one of them had, in bytes.
    pub peak_memory: u64,
}

/// What this process and those that it has waited for have used.
///
/// # Errors
/// The system's.
pub fn used() -> io::Result<Used> {
    let (own, others) = (usage(libc::RUSAGE_SELF)?, usage(libc::RUSAGE_CHILDREN)?);
    Ok(Used { cpu: own.cpu + others.cpu, peak_memory: own.peak_memory.max(others.peak_memory) })
}

fn usage(whose: libc::c_int) -> io::Result<Used> {
    // SAFETY: all-zero is a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` lives during the call.
    sys::check(unsafe { libc::getrusage(whose, &mut usage) })?;
    let time = |time: libc::timeval| {
        let us = u64::try_from(time.tv_usec).unwrap_or(0);
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0)) + Duration::from_micros(us)
    };
    // Linux tells KiB.
    let peak_memory = u64::try_from(usage.ru_maxrss).unwrap_or(0).saturating_mul(1024);
    Ok(Used { cpu: time(usage.ru_utime) + time(usage.ru_stime), peak_memory })
}

/// The child's side: reports to the waiting parent how starting went. If it is dropped unused, the parent fails.
#[must_use = "the parent waits for ready() or fail()"]
pub struct ReadyHandle {
    pipe: io::PipeWriter,
    keeps_errors: bool,
}

/// Continues in a child process of its own session; the parent waits for the child's report and exits with it.
///
/// # Errors
/// When there already are other threads: they would not exist in the child. The system's, when there can't be a
/// pipe or a process.
pub fn daemonize() -> io::Result<ReadyHandle> {
    if threads()? > 1 {
        return Err(io::Error::other("a process with threads can't go to the background"));
    }
    let (reader, pipe) = io::pipe()?;
    // SAFETY: there is one thread, so the child has all that the parent has.
    if sys::check(unsafe { libc::fork() })? != 0 {
        drop(pipe);
        std::process::exit(wait_for_child(reader));
    }
    drop(reader);
    // It fails only for a group's leader, which a child just forked is not.
    rustix::process::setsid()?;
    Ok(ReadyHandle { pipe, keeps_errors: false })
}

/// Threads that this process has.
pub(crate) fn threads() -> io::Result<usize> {
    match std::fs::read_dir("/proc/self/task") {
        Ok(tasks) => Ok(tasks.count()),
        // Without /proc it can't be checked: callers fork first.
        Err(_) => Ok(1),
    }
}

fn wait_for_child(reader: io::PipeReader) -> i32 {
    let mut word = Vec::new();
    let read = reader.take(MAX_TEXT).read_to_end(&mut word);
    match (read, word.as_slice()) {
        (Ok(_), [READY]) => 0,
        (Ok(_), []) | (Err(_), _) => {
            eprintln!("the process in the background ended before it was ready");
            1
        }
        (Ok(_), text) => {
            eprintln!("{}", String::from_utf8_lossy(text));
            1
        }
    }
}

impl ReadyHandle {
    /// Standard error stays what it is when all is set up.
    pub fn keep_errors(&mut self) {
        self.keeps_errors = true;
    }

    /// All is set up: gives up folder and terminal, and lets the parent end with success.
    pub fn ready(mut self) -> io::Result<()> {
        std::env::set_current_dir("/")?;
        let null = OwnedFd::from(std::fs::File::options().read(true).write(true).open("/dev/null")?);
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        if !self.keeps_errors {
            rustix::stdio::dup2_stderr(&null)?;
        }
        self.pipe.write_all(&[READY])
    }

    /// It went wrong: the parent prints `text` and ends with status 1.
    pub fn fail(mut self, text: &str) {
        // If this fails, the parent fails too, only without the text.
        let _ = self.pipe.write_all(text.as_bytes());
    }
}

/// Which way bytes go between this program and one that it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// To its standard input.
    In,
    /// From its standard output.
    Out,
}

/// How long a program that is not needed any more has to end by itself, and how often that is looked at.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(10);

/// A program that was started, and has a stream of this one. It is ended when this is dropped, if it does not end soon by itself.
pub struct Program(Option<Child>);

impl Program {
    /// Starts a program, whose other standard stream leads nowhere; errors go where this program's go.
    ///
    /// # Errors
    /// The system's; `InvalidInput` without a name.
    pub fn start(args: &[String], flow: Flow) -> io::Result<(Program, Stream)> {
        let Some((name, args)) = args.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is named"));
        };
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = Stdio::from(OwnedFd::from(theirs));
        let (input, output) = match flow {
            Flow::In => (theirs, Stdio::null()),
            Flow::Out => (Stdio::null(), theirs),
        };
        let child = Command::new(name).args(args).stdin(input).stdout(output).spawn()?;
        Ok((Program(Some(child)), Stream::from_fd(ours.into())?))
    }

    /// Waits until it has ended by itself. It goes on where nobody waits for that any more.
    pub async fn ended(mut self) -> io::Result<()> {
        match self.0.take() {
            Some(mut child) => blocking(move || child.wait().map(drop)).await,
            None => Ok(()),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It sees the end of what it was given, and ends by itself, or is ended; nobody waits for that.
            std::thread::spawn(move || {
                let until = Instant::now() + ENDS_WITHIN;
                while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
                    std::thread::sleep(LOOK);
                }
                let _ = child.kill();
                let _ = child.wait();
            });
        }
    }
}
