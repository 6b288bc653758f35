//! What was written and not committed since, and how a server tells that it may have lost it.
//!
//! ```text
//! WRITE ─▶ answered (verifier) ─▶ COMMIT (the same verifier) ─▶ forgotten
//!                                   └ another one: all of it is written again, in order, and no other change is sent meanwhile
//! ```

use nfs::v3::{Stability, Verifier};

/// Those of a file, with what the server has said to each.
pub(super) type Unflushed = crate::unflushed::Unflushed<Said>;

/// What the server has said to a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It has it, and may lose it when it has another verifier.
    Kept(Verifier),
    Durable,
}

impl Said {
    /// What an answer means.
    pub fn of(stability: Stability, verifier: Verifier) -> Self {
        match stability {
            Stability::Unstable => Self::Kept(verifier),
            Stability::Data | Stability::File => Self::Durable,
        }
    }

    /// Whether it may be lost, where a commit has answered with this verifier.
    fn may_be_lost(self, now: Verifier) -> bool {
        matches!(self, Self::Kept(then) if then != now)
    }
}

impl Unflushed {
    /// Forgets changes after a commit that answered with this verifier; unless one of them may be lost: then all are kept.
    pub fn committed(&self, answered: &[u64], verifier: Verifier) -> bool {
        self.forget_unless(answered, |said| said.may_be_lost(verifier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unflushed::{Change, Noted};
    use futures_util::FutureExt;
    use rt::Buf;

    const OLD: Verifier = [1; 8];
    const NEW: Verifier = [2; 8];

    async fn nobody_flushes(_: usize) -> block::Result<()> {
        panic!("there is room")
    }

    fn note(unflushed: &Unflushed, offset: u64) -> Option<Noted<'_, Said>> {
        let room = unflushed.room(10, nobody_flushes).now_or_never()?;
        room.ok()?.note(Change::Write(offset, Buf::from_slice(&[7; 10]))).now_or_never()
    }

    #[test]
    fn what_was_written_under_another_verifier_keeps_everything() {
        let unflushed = Unflushed::default();
        note(&unflushed, 0).unwrap().answered(Said::of(Stability::Unstable, OLD));
        note(&unflushed, 5).unwrap().answered(Said::of(Stability::File, NEW));
        let under_way = note(&unflushed, 20).unwrap();
        let answered = unflushed.answered();
        assert_eq!(answered, [0, 1]);
        assert!(!unflushed.committed(&answered, NEW));
        let numbers: Vec<_> = unflushed.all_answered().iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [0, 1]);
        answered.iter().for_each(|number| unflushed.answered_again(*number, Said::Kept(NEW)));
        assert!(unflushed.committed(&answered, NEW));
        drop(under_way);
        assert!(unflushed.is_empty());
    }

    #[test]
    fn a_durable_change_is_kept_only_where_it_may_lie_over_an_older_one() {
        let change = |unflushed: &Unflushed, said: Said| {
            let room = unflushed.room(0, nobody_flushes).now_or_never().unwrap().unwrap();
            let make = async { Ok((said, said == Said::Durable)) };
            let change = Change::Write(0, Buf::from_slice(&[]));
            unflushed.change(room, false, change, make).now_or_never().unwrap().unwrap();
        };
        let unflushed = Unflushed::default();
        change(&unflushed, Said::Durable);
        assert!(unflushed.is_empty());
        change(&unflushed, Said::Kept(OLD));
        change(&unflushed, Said::Durable);
        assert_eq!(unflushed.answered(), [1, 2]);
    }

    #[test]
    fn nobody_changes_the_file_beside_one_who_is_alone() {
        let unflushed = Unflushed::default();
        let under_way = note(&unflushed, 0).unwrap();
        assert!(unflushed.alone().now_or_never().is_none());
        under_way.answered(Said::Kept(OLD));
        let alone = unflushed.alone().now_or_never().unwrap();
        assert!(note(&unflushed, 50).is_none());
        drop(alone);
        assert!(note(&unflushed, 50).is_some());
    }
}
