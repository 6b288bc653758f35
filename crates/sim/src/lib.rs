//! A simulated machine behind the runtime's interface: seeded scheduler, clock and disk in one thread.
//!
//! ```text
//!   code under test ── rt ──▶ dyn Worker = SimWorker ──▶ one seeded world
//!                                 ready tasks   any of them runs next
//!                                 clock         moves only when something is due
//!                                 disk          page cache · log of what is not durable · medium
//!   watch: the disk at every moment it changed ──▶ after(Cut) / power_cut / kill ──▶ Sim::boot: the next world
//!   outside: files that the machine begins with, read where it has not written, never changed
//! ```
//!
//! Laws:
//! - the same seed and the same program give the same run, step for step ([`World::hash`]);
//! - every await and every inline call is a choice point: which ready task runs, when an operation is applied and when it
//!   ends, whether `try_*` does all, a part, or nothing;
//! - a run that can't go on (nothing ready, nothing due) says so ([`Sim::try_run`]) or panics ([`Sim::run`]); so does one in
//!   which a task panicked;
//! - when a world ends, all its tasks are dropped, and nothing they do then reaches the disk.
//!
//! Bounds: a run ends after [`Config::max_steps`] steps. Memory holds what is written. For tests, and for the tool that tests
//! images.
#![forbid(unsafe_code)]

mod base;
mod content;
mod cut;
mod disk;
mod effect;
mod fault;
mod file;
mod machine;
mod rng;
mod worker;
mod world;

pub use base::{Base, Outside};
pub use content::{Content, PAGE};
pub use cut::{Cut, Fate};
pub use disk::Disk;
pub use fault::{EIO, ENOSPC, Fault, OpKind, Plant};
pub use machine::{Sim, Stuck, World};
pub use rng::Rng;
pub use world::{Config, Watch};
