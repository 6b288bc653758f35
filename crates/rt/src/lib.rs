//! The runtime: workers, files, sockets, clock, spawn, behind one facade that the simulator also implements.
//!
//! ```text
//!   spawn · sleep · blocking · fs::open · net::Stream · File            what everything above uses
//!        │ thread-local handle
//!   dyn Worker ──┬── loop:  run queue ── remote queue + eventfd ── epoll (sockets) ── timers
//!                │          └ file operations: io_uring ring │ pool of threads
//!                └── sim (another crate): seeded scheduler, simulated disk and clock
//! ```
//!
//! Laws:
//! - a task runs on the worker it was spawned on; its wakers may be called from any thread;
//! - dropping a future or a handle abandons the answer, never the work: an operation owns its buffers and its
//!   descriptor until the kernel has finished with them;
//! - short counts, EINTR and EAGAIN are continued here; whoever calls sees all of it, end of file, or an error;
//! - a panicking task is contained: its handle yields [`JoinError`], the worker lives on.
//!
//! Why an executor of our own: the same tasks must run, seeded, under the simulator; a request must stay on the worker of
//! its connection from socket to file; and a loop that answers all requests of one receive with one send, polls before it
//! sleeps and batches file operations is most of what the data path costs. `async-task` holds the unsafe part of a task.
//!
//! Bounds: data workers at most [`MAX_WORKERS`]; pool threads as stated in [`mod@blocking`]; retained buffers as stated
//! in [`buf`]; polling before sleep at most `poll_max_ns` and on at most half of the cores.

pub mod blocking;
pub mod buf;
mod class;
mod config;
pub mod confine;
mod engine;
mod epoll;
pub mod fdset;
pub mod file;
pub mod folder;
pub mod fs;
pub mod fuse;
pub mod handed;
mod handle;
mod held;
#[cfg(feature = "laws")]
pub mod laws;
mod local;
pub mod locks;
pub mod net;
mod op;
pub mod openers;
mod osfile;
mod perform;
mod polling;
pub mod process;
mod ring;
mod runtime;
mod shared;
pub mod signal;
mod source;
mod sources;
pub mod stdio;
mod sys;
mod task;
pub mod terminal;
mod threads;
mod time;
mod timers;
mod worker;
mod zone;

use std::future::Future;
use std::pin::Pin;

pub use blocking::{blocking, compute};
pub use buf::{Buf, BufMut};
pub use config::{Config, Engine, MAX_WORKERS};
pub use file::{Allocate, Disc, File, FileExtent, FileKind, FileLayout, FileStat, OpenOptions, RawFile, Try};
pub use runtime::{Runtime, block_on_control, configure};
/// The system's error numbers.
pub use rustix::io::Errno;
pub use task::{JoinError, JoinHandle, cooperate, spawn, spawn_on, yield_now};
pub use time::{Elapsed, busy_ns, now_ns, sleep, timeout};
pub use worker::{
    Pool, Runnable, Target, Worker, current, current_worker, engine_name, enter, random_u64, worker_count,
};
pub use zone::local_offset;

/// A boxed, sendable future: what object-safe asynchronous traits return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
