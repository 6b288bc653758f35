//! What was written and not committed since: a server that is started again may have lost it.
//!
//! ```text
//! note ─▶ WRITE ─▶ answered (verifier) ─▶ COMMIT (the same verifier) ─▶ forgotten
//!                                            └ another one: all of it is written again, in order
//! ```
//!
//! Laws: a change is noted before it is sent, so that one whose answer has come is never missing; changes are given back in the order
//! in which they were sent, and a durable one is among them, for it may lie over an older one; while they are written again, no other
//! change is sent.
//!
//! Bounds: [`MOST`] bytes, by a commit that the writer makes before it goes on.

use event_listener::{Event, IntoNotification};
use nfs::v3::{Stability, Verifier};
use parking_lot::Mutex;
use rt::Buf;
use std::collections::BTreeMap;

/// Bytes that are kept, with [`NOTE`] for each change.
const MOST: usize = 64 << 20;
/// What a change counts beside its data.
const NOTE: usize = 64;

/// Bytes that are to stand in the file.
#[derive(Clone)]
pub(super) struct Change {
    /// Where.
    pub offset: u64,
    /// What.
    pub data: Buf,
}

impl Change {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }

    /// Whether both are of one byte.
    pub fn meets(&self, other: &Self) -> bool {
        self.offset < other.end() && other.offset < self.end()
    }

    fn cost(&self) -> usize {
        NOTE + self.data.len()
    }
}

/// What the server has said to a change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    /// It has it, and may lose it when it has another verifier.
    Kept(Verifier),
    Durable,
}

/// The changes since the last commit.
#[derive(Default)]
pub(super) struct Unflushed {
    changes: Mutex<Changes>,
    changed: Event,
}

#[derive(Default)]
struct Changes {
    /// By number.
    noted: BTreeMap<u64, (Change, Said)>,
    next: u64,
    bytes: usize,
    /// They are being written again.
    held: bool,
}

impl Changes {
    fn remove(&mut self, number: u64) {
        if let Some((change, _)) = self.noted.remove(&number) {
            self.bytes -= change.cost();
        }
    }
}

/// A change that was noted, and not answered yet. It is forgotten when this is dropped.
pub(super) struct Noted<'u> {
    unflushed: &'u Unflushed,
    number: u64,
}

impl Noted<'_> {
    /// The server has carried it out.
    pub fn answered(self, stability: Stability, verifier: Verifier) {
        let said = match stability {
            Stability::Unstable => Said::Kept(verifier),
            Stability::Data | Stability::File => Said::Durable,
        };
        {
            let mut changes = self.unflushed.changes.lock();
            // It lies over nothing that could be written again.
            if said == Said::Durable && changes.noted.keys().next() == Some(&self.number) {
                changes.remove(self.number);
            } else if let Some((_, answer)) = changes.noted.get_mut(&self.number) {
                *answer = said;
            }
        }
        self.unflushed.changed.notify(usize::MAX.additional());
        std::mem::forget(self);
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.unflushed.changes.lock().remove(self.number);
        self.unflushed.changed.notify(usize::MAX.additional());
    }
}

/// Nobody else changes the file, as long as this is kept.
pub(super) struct Alone<'u>(&'u Unflushed);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.changes.lock().held = false;
        self.0.changed.notify(usize::MAX.additional());
    }
}

impl Unflushed {
    /// Whether a commit has to come before the next change.
    pub fn is_full(&self) -> bool {
        self.changes.lock().bytes >= MOST
    }

    /// Whether everything that was sent is durable.
    pub fn is_empty(&self) -> bool {
        self.changes.lock().noted.is_empty()
    }

    /// Notes a change that is about to be sent; waits while others are written again.
    pub async fn note(&self, change: Change) -> Noted<'_> {
        loop {
            let changed = self.changed.listen();
            {
                let mut changes = self.changes.lock();
                if !changes.held {
                    let number = changes.next;
                    changes.next += 1;
                    changes.bytes += change.cost();
                    changes.noted.insert(number, (change, Said::Nothing));
                    return Noted { unflushed: self, number };
                }
            }
            changed.await;
        }
    }

    /// Waits for what is under way, and keeps what comes waiting.
    pub async fn alone(&self) -> Alone<'_> {
        self.changes.lock().held = true;
        let alone = Alone(self);
        loop {
            let changed = self.changed.listen();
            if self.changes.lock().noted.values().all(|(_, said)| *said != Said::Nothing) {
                return alone;
            }
            changed.await;
        }
    }

    /// The changes that a commit which is sent now makes durable.
    pub fn answered(&self) -> Vec<u64> {
        let changes = self.changes.lock();
        changes.noted.iter().filter(|(_, (_, said))| *said != Said::Nothing).map(|(n, _)| *n).collect()
    }

    /// Forgets changes after a commit that answered with this verifier; unless one of them may be lost: then all are kept.
    pub fn forget(&self, committed: &[u64], verifier: Verifier) -> bool {
        let mut changes = self.changes.lock();
        let is_lost = |number: &u64| match changes.noted.get(number) {
            Some((_, Said::Kept(kept))) => *kept != verifier,
            _ => false,
        };
        if committed.iter().any(is_lost) {
            return false;
        }
        committed.iter().for_each(|number| changes.remove(*number));
        true
    }

    /// Those that the server has answered, in order, by their numbers.
    pub fn all(&self) -> Vec<(u64, Change)> {
        let changes = self.changes.lock();
        let answered = changes.noted.iter().filter(|(_, (_, said))| *said != Said::Nothing);
        answered.map(|(number, (change, _))| (*number, change.clone())).collect()
    }

    /// A change was written again.
    pub fn written_again(&self, number: u64, verifier: Verifier) {
        if let Some((_, said)) = self.changes.lock().noted.get_mut(&number) {
            *said = Said::Kept(verifier);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const OLD: Verifier = [1; 8];
    const NEW: Verifier = [2; 8];

    fn note(unflushed: &Unflushed, offset: u64) -> Option<Noted<'_>> {
        unflushed.note(Change { offset, data: Buf::from_slice(&[7; 10]) }).now_or_never()
    }

    #[test]
    fn what_was_written_under_another_verifier_keeps_everything() {
        let unflushed = Unflushed::default();
        note(&unflushed, 0).unwrap().answered(Stability::Unstable, OLD);
        note(&unflushed, 5).unwrap().answered(Stability::File, NEW);
        let under_way = note(&unflushed, 20).unwrap();
        let answered = unflushed.answered();
        assert_eq!(answered, [0, 1]);
        assert!(!unflushed.forget(&answered, NEW));
        assert_eq!(unflushed.all().iter().map(|(n, c)| (*n, c.offset)).collect::<Vec<_>>(), [(0, 0), (1, 5)]);
        answered.iter().for_each(|number| unflushed.written_again(*number, NEW));
        assert!(unflushed.forget(&answered, NEW));
        drop(under_way);
        assert!(unflushed.is_empty());
        assert_eq!(unflushed.changes.lock().bytes, 0);
    }

    #[test]
    fn a_durable_change_is_kept_only_where_it_may_lie_over_an_older_one() {
        let unflushed = Unflushed::default();
        note(&unflushed, 0).unwrap().answered(Stability::File, OLD);
        assert!(unflushed.is_empty());
        let older = note(&unflushed, 0).unwrap();
        note(&unflushed, 0).unwrap().answered(Stability::Data, OLD);
        older.answered(Stability::Unstable, OLD);
        assert_eq!(unflushed.answered(), [1, 2]);
    }

    #[test]
    fn nobody_changes_the_file_beside_one_who_is_alone() {
        let unflushed = Unflushed::default();
        let under_way = note(&unflushed, 0).unwrap();
        assert!(unflushed.alone().now_or_never().is_none());
        under_way.answered(Stability::Unstable, OLD);
        let alone = unflushed.alone().now_or_never().unwrap();
        assert!(note(&unflushed, 50).is_none());
        drop(alone);
        assert!(note(&unflushed, 50).is_some());
    }
}
