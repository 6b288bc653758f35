//! Background jobs: one state machine, the register of jobs, and the jobs themselves.
//!
//! ```text
//!   monitor ──verbs──▶ Jobs ─▶ Job ── state · progress · speed · error policy ──events──▶ Sink
//!                               │ drives
//!                               ▼
//!                     Work: run ─▶ (waiting, pending) ─▶ finish ─▶ end        commit::{active, intermediate}
//! ```
//!
//! Laws:
//! - every change of a job's status is one of [`Status::may_become`], is told to the sink, and nothing happens to a
//!   job whose status does not accept the verb ([`Verb::accepted_in`]);
//! - work awaits its job's pause points and I/O, nothing else;
//! - what a job changed takes effect in `finish`; the event of its end comes after all of it, durable.
#![forbid(unsafe_code)]

mod commit;
mod event;
mod job;
mod register;
mod speed;
mod state;
mod work;

pub use commit::{CommitError, CommitRequest, commit};
pub use event::{Figures, JobEvent, Sink};
pub use job::{Action, IoStatus, Job, JobKind, JobSnapshot, OnError};
pub use register::{JobError, JobRequest, Jobs};
pub use state::{Status, Verb};
pub use work::Work;
