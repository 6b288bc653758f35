//! What was written and not flushed since: a server that is started again may have lost it.
//!
//! Laws: a change is noted before it is sent, so that one whose answer has come is never missing; changes are given back in
//! the order in which they were sent, and a durable one is among them, for it may lie over an older one.
//!
//! Bounds: [`MOST`] bytes, by a flush that the writer makes before it goes on.
use block::{BlockError, Result};
use futures_util::lock::Mutex as Lock;
use parking_lot::Mutex;
use rt::Buf;
use std::collections::BTreeMap;

/// Bytes that are kept, with [`NOTE`] for each change.
const MOST: usize = 64 << 20;
/// What a change counts beside its data.
const NOTE: usize = 64;

/// A change of what a server keeps.
#[derive(Clone)]
pub(crate) enum Change {
    /// These bytes at an offset.
    Write(u64, Buf),
    /// Zeroes: offset, length, whether the range may lose its space.
    Zeroes(u64, u64, bool),
}

impl Change {
    fn range(&self) -> (u64, u64) {
        match self {
            Self::Write(offset, data) => (*offset, offset.saturating_add(data.len() as u64)),
            Self::Zeroes(offset, len, _) => (*offset, offset.saturating_add(*len)),
        }
    }

    /// Whether both are of one byte.
    pub fn meets(&self, other: &Self) -> bool {
        let ((start, end), (other_start, other_end)) = (self.range(), other.range());
        start < other_end && other_start < end
    }

    fn cost(&self) -> usize {
        match self {
            Self::Write(_, data) => NOTE + data.len(),
            Self::Zeroes(..) => NOTE,
        }
    }
}

/// The changes since the last flush.
#[derive(Default)]
pub(crate) struct Unflushed {
    changes: Mutex<Changes>,
    /// One sync is under way at a time, for a server tells of lost data once: what a flush failed with that nobody had asked for.
    syncing: Lock<Option<BlockError>>,
}

#[derive(Default)]
struct Changes {
    /// By number; whether the server has answered.
    noted: BTreeMap<u64, (Change, bool)>,
    next: u64,
    bytes: usize,
}

impl Changes {
    fn remove(&mut self, number: u64) {
        if let Some((change, _)) = self.noted.remove(&number) {
            self.bytes -= change.cost();
        }
    }
}

/// A change that was noted, and not answered yet. It is forgotten when this is dropped.
pub(crate) struct Noted<'u> {
    unflushed: &'u Unflushed,
    number: u64,
}

impl Noted<'_> {
    /// The server has carried it out.
    pub fn answered(self) {
        if let Some((_, answered)) = self.unflushed.changes.lock().noted.get_mut(&self.number) {
            *answered = true;
        }
        std::mem::forget(self);
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.unflushed.changes.lock().remove(self.number);
    }
}

impl Unflushed {
    /// Whether a flush has to come before the next change.
    pub fn is_full(&self) -> bool {
        self.changes.lock().bytes >= MOST
    }

    /// Whether everything that was sent is durable.
    pub fn is_empty(&self) -> bool {
        self.changes.lock().noted.is_empty()
    }

    /// Notes a change that is about to be sent.
    pub fn note(&self, change: Change) -> Noted<'_> {
        let mut changes = self.changes.lock();
        let number = changes.next;
        changes.next += 1;
        changes.bytes += change.cost();
        changes.noted.insert(number, (change, false));
        Noted { unflushed: self, number }
    }

    /// The changes that a flush which is sent now makes durable.
    pub fn answered(&self) -> Vec<u64> {
        let changes = self.changes.lock();
        changes.noted.iter().filter(|(_, (_, answered))| *answered).map(|(number, _)| *number).collect()
    }

    /// These are durable.
    pub fn forget(&self, durable: &[u64]) {
        let mut changes = self.changes.lock();
        durable.iter().for_each(|number| changes.remove(*number));
    }

    /// All of them, in order, by their numbers.
    pub fn all(&self) -> Vec<(u64, Change)> {
        self.changes.lock().noted.iter().map(|(number, (change, _))| (*number, change.clone())).collect()
    }

    /// Whether the server has answered a change, and whoever made it was told so.
    pub fn is_answered(&self, number: u64) -> bool {
        self.changes.lock().noted.get(&number).is_some_and(|(_, answered)| *answered)
    }

    /// Makes a change that is noted meanwhile; one that is to be durable beside no sync.
    pub async fn change(
        &self,
        durable: bool,
        change: Change,
        make: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let _alone = if durable { Some(self.syncing.lock().await) } else { None };
        let noted = self.note(change);
        make.await?;
        noted.answered();
        Ok(())
    }

    /// Flushes so that less has to be kept. Whoever flushes for a user later is told of what was lost here.
    pub async fn make_room(&self, flush: impl Future<Output = Result<()>>) -> Result<()> {
        let mut failed = self.syncing.lock().await;
        if !self.is_full() {
            return Ok(());
        }
        let flushed = flush.await;
        if let Err(error) = &flushed {
            failed.get_or_insert_with(|| error.clone());
        }
        flushed
    }

    /// Flushes for a user. A server that `is_lost`, and has nothing that is not durable, need not be there.
    pub async fn flush(
        &self,
        is_lost: impl FnOnce() -> bool,
        flush: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let failed = self.syncing.lock().await;
        match &*failed {
            Some(error) => Err(error.clone()),
            None if self.is_empty() && is_lost() => Ok(()),
            None => flush.await,
        }
    }

    /// After all of `changes` was made again on another connection, and a flush of it that began when those of `answered` were:
    /// they are durable. Those that came meanwhile wait for that connection, and are not among them: numbers only grow.
    pub fn forget_again(&self, changes: &[(u64, Change)], answered: Vec<u64>) {
        let last = changes.last().map(|(number, _)| *number);
        let known: Vec<_> = answered.into_iter().filter(|number| Some(*number) <= last).collect();
        self.forget(&known);
    }

    /// What becomes of a change that was made again. One that nobody was told of is made again by whoever waits for it, who then is
    /// told why it fails.
    pub fn made_again(&self, number: u64, is_dead: bool, result: Result<()>) -> Result<()> {
        let owed = is_dead || self.is_answered(number);
        result
            .or_else(|error| if owed { Err(error) } else { Ok(()) })
            .map_err(|error| error.context("what was not flushed could not be written again"))
    }
}

/// Cuts changes, in their order, into groups of at most `most` that can be made side by side: no two of one group meet.
pub(crate) fn side_by_side<T>(
    changes: &[T],
    most: usize,
    meet: impl Fn(&T, &T) -> bool,
) -> impl Iterator<Item = &[T]> {
    let mut rest = changes;
    std::iter::from_fn(move || {
        let longest = rest.len().min(most);
        let meets = |at: &usize| {
            let (before, from) = rest.split_at(*at);
            from.first().is_some_and(|change| before.iter().any(|other| meet(other, change)))
        };
        let (group, behind) = rest.split_at((1..longest).find(meets).unwrap_or(longest));
        rest = behind;
        (!group.is_empty()).then_some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_that_meet_are_never_made_side_by_side_and_none_is_left_out() {
        let meet = |one: &(u32, u32), other: &(u32, u32)| one.0 < other.1 && other.0 < one.1;
        let changes: Vec<_> = (0..200u32).map(|n| (n * 37 % 50, n * 37 % 50 + 1 + n % 7)).collect();
        let groups: Vec<_> = side_by_side(&changes, 8, meet).collect();
        assert_eq!(groups.concat(), changes);
        for group in groups {
            assert!((1..=8).contains(&group.len()));
            for (at, change) in group.iter().enumerate() {
                assert!(group.iter().skip(at + 1).all(|other| !meet(change, other)));
            }
        }
        assert_eq!(side_by_side(&[(); 0], 8, |(), ()| true).count(), 0);
    }
}
