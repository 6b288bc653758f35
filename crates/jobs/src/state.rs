//! The state machine as data: which status may follow which, and which verb is accepted in which.
//!
//! Clients know these names and these tables from QMP ("job.json": JobStatus, JobVerb); the test walks all of them.
use api::JobStatus::{self, *};

/// The statuses that may follow one.
pub fn successors(status: JobStatus) -> &'static [JobStatus] {
    match status {
        Undefined => &[Created],
        Created => &[Running, Aborting, Null],
        Running => &[Paused, Ready, Waiting, Aborting],
        Paused => &[Running],
        Ready => &[Standby, Waiting, Aborting],
        Standby => &[Ready],
        Waiting => &[Pending, Aborting],
        Pending => &[Aborting, Concluded],
        Aborting => &[Concluded],
        Concluded => &[Null],
        Null => &[],
    }
}

/// Whether `next` may follow `status`.
pub fn may_become(status: JobStatus, next: JobStatus) -> bool {
    successors(status).contains(&next)
}

/// What can be asked of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Stop and undo, or, where a soft cancel has a meaning of its own, end in place.
    Cancel,
    /// Stop at the next pause point.
    Pause,
    /// Go on.
    Resume,
    /// Change the rate limit.
    SetSpeed,
    /// Leave the ready status and switch over.
    Complete,
    /// Make the result take effect.
    Finalize,
    /// Forget a job that has ended.
    Dismiss,
    /// Change options of a running job.
    Change,
}

impl Verb {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 8] = [
        Self::Cancel,
        Self::Pause,
        Self::Resume,
        Self::SetSpeed,
        Self::Complete,
        Self::Finalize,
        Self::Dismiss,
        Self::Change,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::SetSpeed => "set-speed",
            Self::Complete => "complete",
            Self::Finalize => "finalize",
            Self::Dismiss => "dismiss",
            Self::Change => "change",
        }
    }

    /// The statuses that accept the verb.
    pub fn statuses(self) -> &'static [JobStatus] {
        match self {
            Self::Cancel => &[Created, Running, Paused, Ready, Standby, Waiting, Pending],
            Self::Pause | Self::Resume | Self::SetSpeed => &[Created, Running, Paused, Ready, Standby],
            Self::Complete => &[Ready, Standby],
            Self::Finalize => &[Pending],
            Self::Dismiss => &[Concluded],
            Self::Change => &[Running, Paused, Ready, Standby],
        }
    }

    /// Whether a job of this status accepts the verb.
    pub fn accepted_in(self, status: JobStatus) -> bool {
        self.statuses().contains(&status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Enumeration;

    /// The columns of both tables.
    const COLUMNS: &str = "UCRPYSWDXEN";

    /// All statuses, in the order of the tables.
    fn all() -> impl Iterator<Item = JobStatus> {
        JobStatus::VALUES.iter().map(|(_, status)| *status)
    }

    fn column(status: JobStatus) -> usize {
        all().position(|s| s == status).unwrap()
    }

    #[test]
    fn every_pair_of_statuses_is_allowed_or_refused_as_the_table_says() {
        let rows = [
            ("undefined", "-C---------"),
            ("created", "--R-----X-N"),
            ("running", "---PY-W-X--"),
            ("paused", "--R--------"),
            ("ready", "-----SW-X--"),
            ("standby", "----Y------"),
            ("waiting", "-------DX--"),
            ("pending", "--------XE-"),
            ("aborting", "---------E-"),
            ("concluded", "----------N"),
            ("null", "-----------"),
        ];
        for (from, (name, row)) in all().zip(rows) {
            assert_eq!(from.name(), name);
            for to in all() {
                let (letter, column) = (&COLUMNS[column(to)..=column(to)], column(to));
                assert_eq!(may_become(from, to), &row[column..=column] == letter, "{from:?} -> {to:?}");
            }
        }
    }

    #[test]
    fn every_verb_is_accepted_or_refused_in_every_status_as_the_table_says() {
        let rows = [
            ("cancel", "-CRPYSWD---"),
            ("pause", "-CRPYS-----"),
            ("resume", "-CRPYS-----"),
            ("set-speed", "-CRPYS-----"),
            ("complete", "----YS-----"),
            ("finalize", "-------D---"),
            ("dismiss", "---------E-"),
            ("change", "--RPYS-----"),
        ];
        for (verb, (name, row)) in Verb::ALL.into_iter().zip(rows) {
            assert_eq!(verb.name(), name);
            for status in all() {
                let column = column(status);
                let expected = row[column..=column] == COLUMNS[column..=column];
                assert_eq!(verb.accepted_in(status), expected, "{name} in {status:?}");
            }
        }
    }

    #[test]
    fn from_every_status_there_is_a_way_to_null() {
        for start in all() {
            let mut seen = vec![start];
            let mut at = 0;
            while let Some(status) = seen.get(at).copied() {
                seen.extend(
                    successors(status).iter().filter(|s| !seen.contains(s)).copied().collect::<Vec<_>>(),
                );
                at += 1;
            }
            assert!(seen.contains(&Null), "{start:?} leads nowhere");
        }
    }
}
