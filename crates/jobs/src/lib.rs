//! Background jobs: one state machine, the register of jobs, and the jobs themselves.
//!
//! ```text
//!   monitor ──verbs──▶ Jobs ─▶ Job ── state · progress · speed · error policy ──events──▶ EventSink
//!                               │ drives
//!                               ▼
//!                     Work: run ─▶ (waiting, pending) ─▶ prepare ─▶ commit ─▶ end        commit, stream, mirror, amend, create
//! ```
//!
//! Laws:
//! - every change of a job's status is one of [`may_become`], is reported to the sink, and nothing happens to a
//!   job whose status does not accept the verb ([`Verb::accepted_in`]);
//! - work awaits its job's pause points and I/O, nothing else;
//! - what a job changed takes effect in `prepare` or `commit`, together with the other jobs of its [`Group`]; the event of
//!   its end comes after all of it, durable.
#![forbid(unsafe_code)]

mod again;
mod amend;
mod backup;
mod chain;
mod commit;
mod copy_mode;
mod create;
mod event;
mod filter;
mod group;
mod job;
mod mirror;
mod register;
mod ruled;
mod saved;
mod speed;
mod state;
mod stream;
mod work;

pub use amend::{AmendError, amend};
pub use backup::{BackupError, PreparedBackup, backup, check_backup, prepare_backup};
pub use commit::{CommitError, commit};
pub use copy_mode::CopyMode;
pub use create::create;
pub use event::EventSink;
pub use group::Group;
pub use job::Job;
pub use mirror::{Backing, MirrorError, MirrorRequest, mirror};
pub use register::{JobError, JobRequest, Jobs};
pub use state::{Verb, may_become, successors};
pub use stream::{StreamError, change_backing_file, stream};
pub use work::Work;
