//! File operations that wait: one state that lives until the kernel has finished, whether a ring or a thread does it.
//!
//! ```text
//!   future (`perform`) ──first poll──▶ Op (Arc) ──▶ this worker's ring │ pool of threads
//!     ▲                                │  owns buffer and descriptor; short counts, EINTR, EAGAIN, ECANCELED continue
//!     └──────── atomic waker ◀─────────┘  at its offset, also when the future is gone
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use rustix::fs::FallocateFlags;

use crate::buf::{Buf, BufMut};
use crate::sys;
use crate::threads::{Job, Pool};

/// Most threads that do file operations at once.
pub(crate) const MAX_FILE_THREADS: usize = 16;

/// Does the file operations that no ring does: all of them under the threads engine, single ones beside a ring.
pub(crate) static FILES: Pool<Arc<Op>> = Pool::new("rt-files", || MAX_FILE_THREADS);

/// Largest part that is handed to the kernel at once.
const MAX_PART: usize = 1 << 30;
/// How often the ring may answer EAGAIN to one operation before a thread does it.
const MAX_AGAIN: u32 = 16;

/// What is to be done.
pub(crate) enum Action {
    Read(BufMut),
    Write { buf: Buf, durable: bool },
    Sync { data_only: bool },
    Fallocate { mode: FallocateFlags, len: u64 },
}

/// What the ring's answer means for an operation.
pub(crate) enum Next {
    /// It has ended; whoever waits has been woken.
    Ended,
    /// There is more to do: submit it again.
    Again,
    /// The ring can't do it: a thread must.
    Thread,
}

struct State {
    action: Action,
    off: u64,
    /// Bytes read or written so far.
    moved: usize,
    again: u32,
    result: Option<io::Result<usize>>,
    /// Counts it as in flight while it runs.
    counted: Option<InFlight>,
}

/// Counts as an operation in flight of a worker while it lives.
pub(crate) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    pub(crate) fn new(count: &Arc<AtomicUsize>) -> InFlight {
        count.fetch_add(1, Ordering::SeqCst);
        InFlight(count.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One operation.
pub(crate) struct Op {
    fd: Arc<OwnedFd>,
    /// No ring does it.
    by_thread: bool,
    /// Alignment of the descriptor; a count that is no multiple of it is the end of the file.
    alignment: u32,
    state: Mutex<State>,
    pub(crate) done: AtomicBool,
    pub(crate) waker: AtomicWaker,
}

impl Job for Arc<Op> {
    fn run(self) {
        self.run_to_end();
    }
}

/// The part of an operation that is to be submitted to a ring.
pub(crate) enum Part {
    Read { buf: *mut u8, len: u32, off: u64 },
    Write { buf: *const u8, len: u32, off: u64, durable: bool },
    Sync { data_only: bool },
    Fallocate { mode: FallocateFlags, off: u64, len: u64 },
}

impl Op {
    /// An operation of which `moved` bytes are done already.
    pub(crate) fn new(fd: Arc<OwnedFd>, alignment: u32, off: u64, moved: usize, action: Action) -> Op {
        let state = State { action, off, moved, again: 0, result: None, counted: None };
        Op {
            fd,
            by_thread: false,
            alignment,
            state: Mutex::new(state),
            done: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// The same, done by a thread also where there is a ring, if `on`.
    pub(crate) fn by_thread(self, on: bool) -> Op {
        Op { by_thread: on, ..self }
    }

    /// Whether a thread must do it.
    pub(crate) fn needs_thread(&self) -> bool {
        self.by_thread
    }

    /// Whether the kernel may take its data into the page cache.
    pub(crate) fn is_buffered(&self) -> bool {
        self.alignment <= 1
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// What to submit now. Its pointers stay good until the operation ends: the buffer is the operation's.
    pub(crate) fn part(&self) -> Part {
        let mut state = self.state.lock();
        let (off, moved) = (state.off, state.moved);
        match &mut state.action {
            Action::Read(buf) => {
                let rest = buf.get_mut(moved..).unwrap_or_default();
                Part::Read {
                    buf: rest.as_mut_ptr(),
                    len: rest.len().min(MAX_PART) as u32,
                    off: off.saturating_add(moved as u64),
                }
            }
            Action::Write { buf, durable } => {
                let rest = buf.get(moved..).unwrap_or_default();
                Part::Write {
                    buf: rest.as_ptr(),
                    len: rest.len().min(MAX_PART) as u32,
                    off: off.saturating_add(moved as u64),
                    durable: *durable,
                }
            }
            Action::Sync { data_only } => Part::Sync { data_only: *data_only },
            Action::Fallocate { mode, len } => Part::Fallocate { mode: *mode, off, len: *len },
        }
    }

    /// Takes the ring's answer to the part submitted last.
    pub(crate) fn advance(&self, answer: i32) -> Next {
        let mut state = self.state.lock();
        let next = if answer < 0 {
            match -answer {
                libc::EINTR => Next::Again,
                libc::EAGAIN if state.again < MAX_AGAIN => {
                    state.again += 1;
                    Next::Again
                }
                // The kernel found no thread of its own for it (signals can keep it from that): it was not begun.
                libc::EAGAIN | libc::ECANCELED => Next::Thread,
                error => {
                    state.result = Some(Err(io::Error::from_raw_os_error(error)));
                    Next::Ended
                }
            }
        } else if state.moved(answer as usize, self.alignment) {
            Next::Ended
        } else {
            Next::Again
        };
        drop(state);
        if matches!(next, Next::Ended) {
            self.end();
        }
        next
    }

    /// Does the rest with blocking calls, on a pool's thread.
    pub(crate) fn run_to_end(&self) {
        let mut state = self.state.lock();
        loop {
            match self.call(&mut state) {
                Ok(n) => {
                    if state.moved(n, self.alignment) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => {
                    state.result = Some(Err(error));
                    break;
                }
            }
        }
        drop(state);
        self.end();
    }

    fn call(&self, state: &mut State) -> io::Result<usize> {
        let (off, moved, fd) = (state.off, state.moved, self.fd.as_fd());
        let at = off.saturating_add(moved as u64);
        match &mut state.action {
            Action::Read(buf) => sys::pread(fd, at, buf.get_mut(moved..).unwrap_or_default()),
            Action::Write { buf, durable } => {
                let rest = buf.get(moved..).unwrap_or_default();
                if *durable { sys::pwrite_durable(fd, at, rest) } else { sys::pwrite(fd, at, rest) }
            }
            Action::Sync { data_only } => sys::sync(fd, *data_only).map(|()| 0),
            Action::Fallocate { mode, len } => sys::fallocate(fd, *mode, off, *len).map(|()| 0),
        }
    }

    /// Counts it as in flight until it has ended.
    pub(crate) fn count(&self, in_flight: InFlight) {
        self.state.lock().counted = Some(in_flight);
    }

    fn end(&self) {
        self.state.lock().counted = None;
        self.done.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(crate) fn take(&self) -> (Action, io::Result<usize>) {
        let mut state = self.state.lock();
        let action = std::mem::replace(&mut state.action, Action::Sync { data_only: true });
        let result = state.result.take().unwrap_or_else(|| Err(io::Error::other("operation awaited twice")));
        (action, result)
    }
}

impl State {
    /// Takes note of a count; whether the operation has ended.
    fn moved(&mut self, n: usize, alignment: u32) -> bool {
        let whole = match &self.action {
            Action::Read(buf) => buf.len(),
            Action::Write { buf, .. } => buf.len(),
            Action::Sync { .. } | Action::Fallocate { .. } => {
                self.result = Some(Ok(0));
                return true;
            }
        };
        let reading = matches!(self.action, Action::Read(_));
        self.moved = self.moved.saturating_add(n).min(whole);
        let odd = self.moved % alignment.max(1) as usize;
        if self.moved == whole || (reading && (n == 0 || odd != 0)) {
            self.result = Some(Ok(self.moved));
        } else if n == 0 {
            self.result = Some(Err(io::Error::from(io::ErrorKind::WriteZero)));
        } else {
            // A direct write can only go on from an aligned offset: the torn block is written again.
            self.moved -= odd;
        }
        self.result.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_that_the_kernel_did_not_begin_is_done_by_a_thread() -> io::Result<()> {
        let file = Arc::new(OwnedFd::from(std::fs::File::open("/dev/null")?));
        for answer in [libc::ECANCELED, libc::EAGAIN] {
            let op = Arc::new(Op::new(file.clone(), 1, 0, 0, Action::Sync { data_only: true }));
            let next = (0..=MAX_AGAIN).map(|_| op.advance(-answer)).find(|next| !matches!(next, Next::Again));
            assert!(matches!(next, Some(Next::Thread)));
            assert!(!op.done.load(Ordering::Acquire));
        }
        Ok(())
    }
}
