//! Going to the background: fork before any thread or ring exists; the parent waits until the child is ready.
//!
//! ```text
//!   parent ──fork──▶ child (new session) ──▶ opens everything ──▶ ready()
//!     └─ waits on a pipe ◀── 0: exit 0 │ text: print it, exit 1 │ closed empty: exit 1
//! ```

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use crate::sys;

/// Longest error text that the parent takes from its child, in bytes.
const MAX_TEXT: u64 = 64 << 10;
/// First byte on the pipe: all is well.
const READY: u8 = 0;

/// The child's side: reports to the waiting parent how starting went. If it is dropped unused, the parent fails.
#[must_use = "the parent waits for ready() or fail()"]
pub struct ReadyHandle {
    pipe: io::PipeWriter,
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
    Ok(ReadyHandle { pipe })
}

fn threads() -> io::Result<usize> {
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
    /// All is set up: gives up folder and terminal, and lets the parent end with success.
    pub fn ready(mut self) -> io::Result<()> {
        std::env::set_current_dir("/")?;
        let null = OwnedFd::from(std::fs::File::options().read(true).write(true).open("/dev/null")?);
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        self.pipe.write_all(&[READY])
    }

    /// It went wrong: the parent prints `text` and ends with status 1.
    pub fn fail(mut self, text: &str) {
        // If this fails, the parent fails too, only without the text.
        let _ = self.pipe.write_all(text.as_bytes());
    }
}
