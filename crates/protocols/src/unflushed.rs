//! What was written and not flushed since: a server that is started again may have lost it.
//!
//! Laws: a change is noted before it is sent, so that one whose answer has come is never missing; changes are given back in
//! the order in which they were sent, and a durable one is among them, for it may lie over an older one.
//!
//! Bounds: [`MOST`] bytes, by a flush that the writer makes before it goes on.
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
pub(crate) struct Unflushed(Mutex<Changes>);

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
        if let Some((_, answered)) = self.unflushed.0.lock().noted.get_mut(&self.number) {
            *answered = true;
        }
        std::mem::forget(self);
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.unflushed.0.lock().remove(self.number);
    }
}

impl Unflushed {
    /// Whether a flush has to come before the next change.
    pub fn is_full(&self) -> bool {
        self.0.lock().bytes >= MOST
    }

    /// Whether everything that was sent is durable.
    pub fn is_empty(&self) -> bool {
        self.0.lock().noted.is_empty()
    }

    /// Notes a change that is about to be sent.
    pub fn note(&self, change: Change) -> Noted<'_> {
        let mut changes = self.0.lock();
        let number = changes.next;
        changes.next += 1;
        changes.bytes += change.cost();
        changes.noted.insert(number, (change, false));
        Noted { unflushed: self, number }
    }

    /// The changes that a flush which is sent now makes durable.
    pub fn answered(&self) -> Vec<u64> {
        let changes = self.0.lock();
        changes.noted.iter().filter(|(_, (_, answered))| *answered).map(|(number, _)| *number).collect()
    }

    /// These are durable.
    pub fn forget(&self, durable: &[u64]) {
        let mut changes = self.0.lock();
        durable.iter().for_each(|number| changes.remove(*number));
    }

    /// All of them, in order, by their numbers.
    pub fn all(&self) -> Vec<(u64, Change)> {
        self.0.lock().noted.iter().map(|(number, (change, _))| (*number, change.clone())).collect()
    }

    /// Whether the server has answered a change, and whoever made it was told so.
    pub fn is_answered(&self, number: u64) -> bool {
        self.0.lock().noted.get(&number).is_some_and(|(_, answered)| *answered)
    }
}
