//! Which crashes a recorded run has, and what an image may hold after each.
//!
//! ```text
//!   requests, when they begin and end ─▶ Model ──▶ what each byte may be after a crash at a moment, or to a reader
//!   the disk before each sync ─▶ Moments ─▶ Cuts ─▶ one crash after the other: sim::Disk::after(Cut)
//! ```
//!
//! The tests of every format and the tool that tests an image share this: both judge by the same law ([`model`]), and try the
//! same crashes ([`cuts`]).
#![forbid(unsafe_code)]

pub mod cuts;
pub mod model;
pub mod moments;
