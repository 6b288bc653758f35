//! What jobs tell: to whom, and in which words.
use crate::state::Status;
use block::Side;

/// Something happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEvent {
    /// Its status changed (JOB_STATUS_CHANGE).
    Status {
        /// The job.
        id: String,
        /// Its new status.
        status: Status,
    },
    /// Source and target are in step (BLOCK_JOB_READY).
    Ready(Figures),
    /// It waits for `finalize` (BLOCK_JOB_PENDING).
    Pending {
        /// The job.
        id: String,
        /// Its kind, as on the wire.
        kind: &'static str,
    },
    /// It ended, well or with an error (BLOCK_JOB_COMPLETED).
    Completed {
        /// Who and how far.
        figures: Figures,
        /// What went wrong.
        error: Option<String>,
    },
    /// It was cancelled (BLOCK_JOB_CANCELLED).
    Cancelled(Figures),
    /// A request of it failed (BLOCK_JOB_ERROR).
    Error {
        /// The job.
        id: String,
        /// Which side failed: reading or writing.
        side: Side,
        /// What the job does about it: ignore, report or stop.
        action: &'static str,
    },
}

/// What most events tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// The job.
    pub id: String,
    /// Its kind, as on the wire.
    pub kind: &'static str,
    /// Bytes to do, as known now.
    pub len: u64,
    /// Bytes done.
    pub offset: u64,
    /// Rate limit in bytes a second, 0 for none.
    pub speed: u64,
}

/// Who hears of jobs. Called under the job's lock, so that events come in the order things happened: it must only
/// queue them.
pub trait Sink: Send + Sync {
    /// Takes an event.
    fn tell(&self, event: JobEvent);
}
