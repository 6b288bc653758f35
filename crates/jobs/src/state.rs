//! The state machine as data: which status may follow which, and which verb is accepted in which.
//!
//! Clients know these names and these tables from QMP ("job.json": JobStatus, JobVerb); the test walks all of them.
use std::fmt;

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Not yet told to anybody.
    Undefined,
    /// Made, not started.
    Created,
    /// At work.
    Running,
    /// Told to pause, and pausing.
    Paused,
    /// Source and target are in step; `complete` is waited for.
    Ready,
    /// Paused while ready.
    Standby,
    /// At work's end, waiting for the other jobs of its transaction.
    Waiting,
    /// Waiting for `finalize`.
    Pending,
    /// Failed or cancelled, cleaning up.
    Aborting,
    /// Ended; its result can be looked at.
    Concluded,
    /// Gone.
    Null,
}

use Status::*;

impl Status {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 11] =
        [Undefined, Created, Running, Paused, Ready, Standby, Waiting, Pending, Aborting, Concluded, Null];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Undefined => "undefined",
            Created => "created",
            Running => "running",
            Paused => "paused",
            Ready => "ready",
            Standby => "standby",
            Waiting => "waiting",
            Pending => "pending",
            Aborting => "aborting",
            Concluded => "concluded",
            Null => "null",
        }
    }

    /// The statuses that may follow this one.
    pub fn successors(self) -> &'static [Status] {
        match self {
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

    /// Whether `next` may follow.
    pub fn may_become(self, next: Status) -> bool {
        self.successors().contains(&next)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
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
    pub fn statuses(self) -> &'static [Status] {
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
    pub fn accepted_in(self, status: Status) -> bool {
        self.statuses().contains(&status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of both tables.
    const COLUMNS: &str = "UCRPYSWDXEN";

    fn column(status: Status) -> usize {
        Status::ALL.iter().position(|s| *s == status).unwrap()
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
        for (from, (name, row)) in Status::ALL.into_iter().zip(rows) {
            assert_eq!(from.name(), name);
            for to in Status::ALL {
                let (letter, column) = (&COLUMNS[column(to)..=column(to)], column(to));
                assert_eq!(from.may_become(to), &row[column..=column] == letter, "{from} -> {to}");
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
            for status in Status::ALL {
                let column = column(status);
                let expected = row[column..=column] == COLUMNS[column..=column];
                assert_eq!(verb.accepted_in(status), expected, "{name} in {status}");
            }
        }
    }

    #[test]
    fn from_every_status_there_is_a_way_to_null() {
        for start in Status::ALL {
            let mut seen = vec![start];
            let mut at = 0;
            while let Some(status) = seen.get(at).copied() {
                seen.extend(
                    status.successors().iter().filter(|s| !seen.contains(s)).copied().collect::<Vec<_>>(),
                );
                at += 1;
            }
            assert!(seen.contains(&Null), "{start} leads nowhere");
        }
    }
}
