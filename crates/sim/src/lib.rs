//! A simulated machine behind the runtime's interface: seeded scheduler, clock and disk in one thread.
//!
//! ```text
//!   code under test ── rt ──▶ dyn Worker = SimWorker ──▶ one seeded world
//!                                 ready tasks   any of them runs next
//!                                 clock         moves only when something is due
//!                                 disk          page cache · log of what is not durable · medium
//!   watch: the disk at every moment it changed ──▶ power_cut / kill / cut_keeping ──▶ Sim::boot: the next world
//! ```
//!
//! Laws:
//! - the same seed and the same program give the same run, step for step ([`World::hash`]);
//! - every await and every inline call is a choice point: which ready task runs, when an operation is applied and when it
//!   ends, whether `try_*` does all, a part, or nothing;
//! - a run that can't go on (nothing ready, nothing due) panics; so does one in which a task panicked;
//! - when a world ends, all its tasks are dropped, and nothing they do then reaches the disk.
//!
//! Bounds: a run ends in a panic after [`Config::max_steps`] steps. For tests only.
#![forbid(unsafe_code)]

mod content;
mod disk;
mod effect;
mod fault;
mod file;
mod machine;
mod rng;
mod worker;
mod world;

pub use content::{Content, PAGE};
pub use disk::Disk;
pub use fault::{EIO, ENOSPC, Fault, OpKind, Plant};
pub use machine::{Sim, World};
pub use rng::Rng;
pub use world::{Config, Watch};
