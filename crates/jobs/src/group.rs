//! Groups: jobs that take effect together, or not at all (a transaction with `completion-mode: grouped`).
//!
//! ```text
//! member: run ─▶ [waiting] ─▶ [pending] ─▶ prepare ─▶ commit
//!                    │ all are waiting         │ all are prepared
//!                    └───── one fails, or is cancelled: all others are cancelled ─────┘
//! ```
//!
//! A job that is alone is a group of one. Laws: nobody is pending before all are waiting, and nobody commits before all
//! are prepared; once all are prepared, nothing makes a member fail.
use crate::job::Job;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// The steps at which members wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The long part is done.
    Waiting,
    /// All that can fail is done.
    Prepared,
}

/// Jobs that decide together; a handle, cheap to clone.
#[derive(Clone, Default)]
pub struct Group(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    members: Vec<Weak<Job>>,
    /// How many members have reached each step.
    arrived: [usize; 2],
    /// No more members join.
    closed: bool,
}

impl Group {
    /// A group without members. They join one by one, when the jobs are made.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn join(&self, job: &Arc<Job>) {
        self.0.lock().members.push(Arc::downgrade(job));
    }

    /// All members have joined: none goes on from [`Step::Waiting`] before that.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.members().iter().for_each(|job| job.wake());
    }

    pub(crate) fn members(&self) -> Vec<Arc<Job>> {
        self.0.lock().members.iter().filter_map(Weak::upgrade).collect()
    }

    /// A member has reached a step.
    pub(crate) fn arrive(&self, step: Step) {
        if let Some(arrived) = self.0.lock().arrived.get_mut(step as usize) {
            *arrived += 1;
        }
        self.members().iter().for_each(|job| job.wake());
    }

    /// Whether all members have reached a step.
    pub(crate) fn are_all_at(&self, step: Step) -> bool {
        let state = self.0.lock();
        state.closed && state.arrived.get(step as usize) == Some(&state.members.len())
    }

    /// Whether a member waits for `finalize`: then all do.
    pub(crate) fn waits_for_finalize(&self) -> bool {
        self.members().iter().any(|job| !job.auto_finalize())
    }
}
