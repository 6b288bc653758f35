//! The oracle: what a guest did, when each request began and ended, and hence what it may find afterwards.
//!
//! Law: a byte is what its last durable write left, or a later one: a write is out of the question only when another
//! one of the same byte began after it had ended and was acknowledged in time: before a flush that was acknowledged
//! began (after a crash), or before the read began (while running). Requests that failed or never ended may have been done
//! or not, until another write supersedes them. A discard may leave what was there, or zeros.
//!
//! Moments are the simulated world's: strictly ordered, shared with the disk's own events.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// What a request does to the bytes it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Leaves the data of this write.
    Write(u64),
    /// Leaves zeros.
    Zero,
    /// Leaves what was there, or zeros.
    Discard,
}

/// Where bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// They are as they were in the beginning.
    Initial,
    /// This write.
    Write(u64),
    /// They are zeros.
    Zero,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// When.
    pub moment: u64,
    /// Without an error.
    pub ok: bool,
}

/// A request that changes bytes.
#[derive(Clone, Debug)]
pub struct Act {
    /// What it does.
    pub what: Effect,
    /// The bytes it covers.
    pub bytes: Range<u64>,
    /// Durable as soon as it is acknowledged.
    pub fua: bool,
    /// When it began.
    pub start: u64,
    /// How it ended, if it did.
    pub end: Option<End>,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.bytes;
        write!(f, "{:?} {start:#x}..{end:#x} from {}", self.what, self.start)
    }
}

#[derive(Clone, Debug)]
struct Flush {
    start: u64,
    end: Option<End>,
}

#[derive(Clone, Debug)]
struct Resize {
    size: u64,
    start: u64,
    end: Option<End>,
}

/// A recorded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordId(RecordKind, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RecordKind {
    Act,
    Flush,
    Resize,
}

/// Everything a guest did to one disk.
#[derive(Clone, Debug, Default)]
pub struct Model {
    first_size: u64,
    /// The largest size or end of a request that there was.
    reach: u64,
    acts: Vec<Act>,
    flushes: Vec<Flush>,
    resizes: Vec<Resize>,
    /// The acts on the bytes from here to the next key.
    pieces: BTreeMap<u64, Vec<usize>>,
    writes: u64,
}

/// The moments from which a state is seen.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Requests that began later did not happen.
    pub until: u64,
    /// Requests acknowledged by then are part of what is seen.
    pub settled: u64,
    /// FUA requests acknowledged by then are.
    fua_settled: u64,
}

impl Model {
    /// A disk of `size` bytes. Writes are numbered from `first_write` on.
    pub fn new(size: u64, first_write: u64) -> Model {
        Model { first_size: size, reach: size, writes: first_write, ..Model::default() }
    }

    /// The number of the next write.
    pub fn next_write(&mut self) -> u64 {
        self.writes += 1;
        self.writes
    }

    /// The number of the last write.
    pub fn last_write(&self) -> u64 {
        self.writes
    }

    /// A request begins.
    pub fn begin(&mut self, what: Effect, bytes: Range<u64>, fua: bool, moment: u64) -> RecordId {
        let index = self.acts.len();
        self.reach = self.reach.max(bytes.end);
        if !bytes.is_empty() {
            self.split(bytes.start);
            self.split(bytes.end);
            self.pieces.range_mut(bytes.clone()).for_each(|(_, acts)| acts.push(index));
        }
        self.acts.push(Act { what, bytes, fua, start: moment, end: None });
        RecordId(RecordKind::Act, index)
    }

    /// Begins a piece at `at`.
    fn split(&mut self, at: u64) {
        let before = self.pieces.range(..=at).next_back();
        if before.is_none_or(|(start, _)| *start != at) {
            let acts = before.map(|(_, acts)| acts.clone()).unwrap_or_default();
            self.pieces.insert(at, acts);
        }
    }

    /// A flush begins.
    pub fn begin_flush(&mut self, moment: u64) -> RecordId {
        self.flushes.push(Flush { start: moment, end: None });
        RecordId(RecordKind::Flush, self.flushes.len() - 1)
    }

    /// A change of the size begins; no other request is under way. What lies behind the smaller size becomes zero.
    pub fn begin_resize(&mut self, size: u64, moment: u64) -> RecordId {
        let keep = self.size().min(size);
        if keep < self.reach {
            self.begin(Effect::Zero, keep..self.reach, false, moment);
        }
        self.reach = self.reach.max(size);
        self.resizes.push(Resize { size, start: moment, end: None });
        RecordId(RecordKind::Resize, self.resizes.len() - 1)
    }

    /// A request ends.
    pub fn end(&mut self, entry: RecordId, moment: u64, ok: bool) {
        let end = Some(End { moment, ok });
        match entry.0 {
            RecordKind::Act => self.acts.get_mut(entry.1).map(|act| act.end = end),
            RecordKind::Flush => self.flushes.get_mut(entry.1).map(|flush| flush.end = end),
            RecordKind::Resize => self.resizes.get_mut(entry.1).map(|resize| {
                resize.end = end;
                // The zeroing that goes with it.
                let start = resize.start;
                self.acts.iter_mut().filter(|a| a.start == start).for_each(|a| a.end = end);
            }),
        };
    }

    /// The size by what was acknowledged.
    pub fn size(&self) -> u64 {
        let done = self.resizes.iter().rev().find(|r| r.end.is_some_and(|end| end.ok));
        done.map_or(self.first_size, |resize| resize.size)
    }

    /// The sizes the disk may have after a crash at `moment`.
    pub fn sizes_after_crash(&self, moment: u64) -> Vec<u64> {
        let view = self.after_crash(moment);
        let settled = |r: &Resize| r.end.is_some_and(|end| end.ok && end.moment <= view.settled);
        let last = self.resizes.iter().rposition(settled);
        let base = last.and_then(|at| self.resizes.get(at)).map_or(self.first_size, |resize| resize.size);
        let later = self.resizes.iter().skip(last.map_or(0, |at| at + 1)).filter(|r| r.start <= moment);
        std::iter::once(base).chain(later.map(|r| r.size)).collect()
    }

    /// What is seen after a crash at `moment`.
    pub fn after_crash(&self, moment: u64) -> View {
        let acknowledged =
            self.flushes.iter().filter(|f| f.end.is_some_and(|end| end.ok && end.moment <= moment));
        let settled = acknowledged.map(|f| f.start).max().unwrap_or(0);
        View { until: moment, settled, fua_settled: moment }
    }

    /// What a read sees that began at `start` and ended at `end`.
    pub fn while_running(start: u64, end: u64) -> View {
        View { until: end, settled: start, fua_settled: start }
    }

    /// Where bytes may come from: the pieces of `bytes`, in order, each with all that its bytes may be. A piece is all of one
    /// of them, sector by sector.
    pub fn allowed(&self, view: View, bytes: Range<u64>) -> impl Iterator<Item = (Range<u64>, Vec<Source>)> {
        let before = self.pieces.range(..=bytes.start).next_back();
        let after = self.pieces.range(bytes.start..bytes.end.max(bytes.start));
        let starts = before.into_iter().chain(after.filter(move |(start, _)| **start > bytes.start));
        let mut starts = starts.peekable();
        let mut at = bytes.start;
        std::iter::from_fn(move || {
            if at >= bytes.end {
                return None;
            }
            let acts = starts.next_if(|(start, _)| **start <= at).map_or(&[][..], |(_, acts)| acts);
            let end = starts.peek().map_or(bytes.end, |(start, _)| **start);
            let piece = at..end;
            at = end;
            Some((piece, self.sources(acts, view)))
        })
    }

    /// What may be left of these acts on one piece.
    fn sources(&self, acts: &[usize], view: View) -> Vec<Source> {
        let acts = || acts.iter().filter_map(|at| self.acts.get(*at)).filter(|act| act.start <= view.until);
        let settled = |act: &Act| {
            let by = if act.fua { view.fua_settled } else { view.settled };
            act.end.is_some_and(|end| end.ok && end.moment <= by)
        };
        // The latest beginning among requests that certainly are part of what is seen.
        let horizon = acts().filter(|a| a.what != Effect::Discard && settled(a)).map(|a| a.start).max();
        let superseded =
            |act: &Act| act.end.is_some_and(|end| horizon.is_some_and(|start| end.moment < start));
        let mut sources = Vec::new();
        sources.extend(horizon.is_none().then_some(Source::Initial));
        for act in acts().filter(|act| !superseded(act)) {
            let source = match act.what {
                Effect::Write(write) => Source::Write(write),
                Effect::Zero | Effect::Discard => Source::Zero,
            };
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        sources
    }

    /// The requests on this byte that began by `until`.
    pub fn acts_at(&self, byte: u64, until: u64) -> impl Iterator<Item = &Act> {
        self.acts.iter().filter(move |act| act.bytes.contains(&byte) && act.start <= until)
    }

    /// All requests that change bytes.
    pub fn acts(&self) -> &[Act] {
        &self.acts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_where_requests_begin_and_end() {
        let mut model = Model::new(4096, 0);
        for (what, bytes, start) in [
            (Effect::Write(1), 512..2048, 1),
            (Effect::Zero, 1024..1536, 3),
            (Effect::Discard, 1536..3000, 5),
        ] {
            let entry = model.begin(what, bytes, false, start);
            model.end(entry, start + 1, true);
        }
        let all = |settled| {
            let view = View { until: 9, settled, fua_settled: settled };
            model.allowed(view, 0..4096).collect::<Vec<_>>()
        };
        use Source::{Initial, Write, Zero};
        assert_eq!(
            all(0),
            [
                (0..512, vec![Initial]),
                (512..1024, vec![Initial, Write(1)]),
                (1024..1536, vec![Initial, Write(1), Zero]),
                (1536..2048, vec![Initial, Write(1), Zero]),
                (2048..3000, vec![Initial, Zero]),
                (3000..4096, vec![Initial]),
            ]
        );
        assert_eq!(all(9).get(2), Some(&(1024..1536, vec![Zero])));
        assert_eq!(all(9).get(3), Some(&(1536..2048, vec![Write(1), Zero])));
        let view = View { until: 9, settled: 9, fua_settled: 9 };
        let part: Vec<_> = model.allowed(view, 600..1100).collect();
        assert_eq!(part, [(600..1024, vec![Write(1)]), (1024..1100, vec![Zero])]);
    }
}
