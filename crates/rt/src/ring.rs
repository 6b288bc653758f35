//! File operations through io_uring: one ring per worker, made at its first operation.
//!
//! The ring belongs to its thread (SINGLE_ISSUER) and interrupts nobody (COOP_TASKRUN); its descriptor lies in the
//! worker's epoll set, and completions are looked for in memory each turn. Each entry in flight owns one count of its
//! operation, which owns buffer and descriptor: what the kernel may still touch is never freed.
//!
//! On `io-uring`, which is the kernel's interface and no more: when entries are submitted and completions are looked for is
//! for the worker's loop to decide.
//!
//! Bounds: [`ENTRIES`] operations in flight per worker; more wait in order.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::{IoUring, Probe, opcode, squeue, types};

use crate::op::{FILES, Next, Op, Part};

const ENTRIES: u32 = 256;

/// A worker's ring.
pub(crate) struct Ring {
    ring: IoUring,
    in_flight: usize,
    backlog: VecDeque<Arc<Op>>,
    unsubmitted: bool,
}

impl Ring {
    /// Sets a ring up; an error where this system has none that can do file operations.
    pub(crate) fn new() -> io::Result<Ring> {
        let modern = IoUring::builder().setup_coop_taskrun().setup_single_issuer().build(ENTRIES);
        let ring = match modern {
            // Kernels before 6.0 don't know these flags, which only save time.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(ENTRIES)?,
            other => other?,
        };
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE, opcode::Fallocate::CODE];
        if !needed.iter().all(|&code| probe.is_supported(code)) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring lacks file operations here"));
        }
        let mut ring = Ring { ring, in_flight: 0, backlog: VecDeque::new(), unsubmitted: false };
        ring.try_out()?;
        Ok(ring)
    }

    /// One operation that does nothing: a filter of system calls may allow a ring and refuse to enter it.
    fn try_out(&mut self) -> io::Result<()> {
        let nothing = opcode::Nop::new().build();
        // SAFETY: the entry refers to no memory.
        let pushed = unsafe { self.ring.submission().push(&nothing) };
        pushed.map_err(|_| io::Error::other("a new io_uring has no room"))?;
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(_) if self.ring.completion().next().is_some() => return Ok(()),
                Ok(_) => {}
            }
        }
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Takes an operation over; it is submitted with the others at the end of the turn.
    pub(crate) fn push(&mut self, op: Arc<Op>) {
        self.backlog.push_back(op);
        self.fill();
    }

    /// Enters operations in order while there is room: neither queue can overflow, as both have a place for each entry
    /// that may be in flight.
    fn fill(&mut self) {
        while self.in_flight < ENTRIES as usize {
            let Some(op) = self.backlog.pop_front() else { break };
            let entry = entry(&op);
            let owner = Arc::into_raw(op);
            let entry = entry.user_data(owner as u64);
            // SAFETY: buffer and descriptor belong to the operation, of which this entry owns a count until `reap` takes
            // it back, so both outlive the kernel's use.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                // SAFETY: `owner` came from `into_raw` just above and the entry was not taken.
                self.backlog.push_front(unsafe { Arc::from_raw(owner) });
                break;
            }
            self.in_flight += 1;
            self.unsubmitted = true;
        }
    }

    /// Hands what was pushed to the kernel.
    pub(crate) fn flush(&mut self) {
        if self.unsubmitted {
            self.submit();
        }
    }

    fn submit(&mut self) {
        match self.ring.submit() {
            Ok(_) => self.unsubmitted = !self.ring.submission().is_empty(),
            // Out of memory for now, or interrupted: the entries stay queued, and the next turn tries again.
            Err(error) => {
                self.unsubmitted = true;
                tracing::debug!(%error, "io_uring submission is retried");
            }
        }
    }

    /// Whether something must be submitted before the worker may sleep.
    pub(crate) fn is_urgent(&self) -> bool {
        self.unsubmitted
    }

    /// Takes completions from memory, without a system call; how many there were.
    pub(crate) fn reap(&mut self) -> usize {
        let mut count = 0;
        loop {
            let completion = self.ring.completion().next();
            let Some(completion) = completion else { break };
            count += 1;
            self.in_flight -= 1;
            // SAFETY: `user_data` is the count that `push` gave to this entry; the kernel completes each entry once.
            let op = unsafe { Arc::from_raw(completion.user_data() as *const Op) };
            match op.advance(completion.result()) {
                Next::Ended => {}
                Next::Again => self.push(op),
                Next::Thread => FILES.push(op),
            }
        }
        self.fill();
        count
    }
}

/// The submission entry for an operation's next part.
fn entry(op: &Op) -> squeue::Entry {
    let fd = types::Fd(op.raw_fd());
    match op.part() {
        Part::Read { buf, len, off } => opcode::Read::new(fd, buf, len).offset(off).build(),
        Part::Write { buf, len, off, durable: false } => opcode::Write::new(fd, buf, len).offset(off).build(),
        Part::Write { buf, len, off, durable: true } => {
            let entry = opcode::Write::new(fd, buf, len).offset(off).rw_flags(libc::RWF_DSYNC).build();
            // A file system that takes data into the page cache without waiting would then sync on this thread.
            if op.is_buffered() { entry.flags(squeue::Flags::ASYNC) } else { entry }
        }
        Part::Sync { data_only } => {
            let flags = if data_only { types::FsyncFlags::DATASYNC } else { types::FsyncFlags::empty() };
            opcode::Fsync::new(fd).flags(flags).build()
        }
        Part::Fallocate { mode, off, len } => {
            opcode::Fallocate::new(fd, len).offset(off).mode(mode.bits() as i32).build()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has a system call of this thread fail with EPERM; whether that was possible.
    fn refuse(call: libc::c_long) -> bool {
        let step = |code: u32, jump_else: u8, k: u32| libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf: jump_else,
            k,
        };
        let mut filter = [
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32),
            step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
            step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: the program and its steps live during the calls.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        }
    }

    #[test]
    fn a_ring_whose_system_calls_are_filtered_is_refused() {
        for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_register, libc::SYS_io_uring_enter] {
            let thread = std::thread::spawn(move || {
                if refuse(call) {
                    assert!(Ring::new().is_err());
                } else {
                    println!("left out: system calls can't be filtered here");
                }
            });
            assert!(thread.join().is_ok());
        }
    }
}
