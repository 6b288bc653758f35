//! The oracle: what a guest did, when each request began and ended, and hence what it may find afterwards.
//!
//! Law: a sector is what its last durable write left, or a later one: a write is out of the question only when another
//! one of the same sector began after it had ended and was acknowledged in time: before a flush that was acknowledged
//! began (after a crash), or before the read began (while running). Requests that failed or never ended may have been done
//! or not, until another write supersedes them. A discard may leave what was there, or zeros.
//!
//! Moments are the simulated world's: strictly ordered, shared with the disk's own events.

use std::fmt::Write;

use crate::stamp::{SECTOR, Seen};

/// What a request does to the sectors it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Leaves the data of this write.
    Write(u64),
    /// Leaves zeros.
    Zero,
    /// Leaves what was there, or zeros.
    Discard,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    moment: u64,
    ok: bool,
}

#[derive(Clone, Debug)]
struct Act {
    what: Effect,
    first: u64,
    end_sector: u64,
    /// Durable as soon as it is acknowledged.
    fua: bool,
    start: u64,
    end: Option<End>,
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
    initial: Vec<Seen>,
    first_size: u64,
    acts: Vec<Act>,
    flushes: Vec<Flush>,
    resizes: Vec<Resize>,
    by_sector: Vec<Vec<usize>>,
    writes: u64,
}

/// The moments from which a state is seen.
#[derive(Clone, Copy, Debug)]
struct View {
    /// Requests that began later did not happen.
    until: u64,
    /// Requests acknowledged by then are part of what is seen.
    settled: u64,
    /// FUA requests acknowledged by then are.
    fua_settled: u64,
}

impl Model {
    /// A disk of `size` bytes whose sectors hold `initial`; sectors beyond that are zero. Writes are numbered from
    /// `first_write` on.
    pub fn new(size: u64, initial: Vec<Seen>, first_write: u64) -> Model {
        Model { initial, first_size: size, writes: first_write, ..Model::default() }
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

    /// A request of whole sectors begins.
    pub fn begin(&mut self, what: Effect, offset: u64, len: u64, fua: bool, moment: u64) -> RecordId {
        self.act(what, offset / SECTOR, (offset + len).div_ceil(SECTOR), fua, moment)
    }

    fn act(&mut self, what: Effect, first: u64, end_sector: u64, fua: bool, moment: u64) -> RecordId {
        let index = self.acts.len();
        if self.by_sector.len() < end_sector as usize {
            self.by_sector.resize_with(end_sector as usize, Vec::new);
        }
        self.by_sector
            .iter_mut()
            .take(end_sector as usize)
            .skip(first as usize)
            .for_each(|acts| acts.push(index));
        self.acts.push(Act { what, first, end_sector, fua, start: moment, end: None });
        RecordId(RecordKind::Act, index)
    }

    /// A flush begins.
    pub fn begin_flush(&mut self, moment: u64) -> RecordId {
        self.flushes.push(Flush { start: moment, end: None });
        RecordId(RecordKind::Flush, self.flushes.len() - 1)
    }

    /// A change of the size begins; no other request is under way. What lies behind the smaller size becomes zero.
    pub fn begin_resize(&mut self, size: u64, moment: u64) -> RecordId {
        let (old, sectors) = (self.size(), self.initial.len().max(self.by_sector.len()) as u64);
        let keep = old.min(size).div_ceil(SECTOR);
        if keep < sectors {
            self.act(Effect::Zero, keep, sectors, false, moment);
        }
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
        let view = self.crash_view(moment);
        let settled = |r: &Resize| r.end.is_some_and(|end| end.ok && end.moment <= view.settled);
        let last = self.resizes.iter().rposition(settled);
        let base = last.and_then(|at| self.resizes.get(at)).map_or(self.first_size, |resize| resize.size);
        let later = self.resizes.iter().skip(last.map_or(0, |at| at + 1)).filter(|r| r.start <= moment);
        std::iter::once(base).chain(later.map(|r| r.size)).collect()
    }

    fn crash_view(&self, moment: u64) -> View {
        let acknowledged =
            self.flushes.iter().filter(|f| f.end.is_some_and(|end| end.ok && end.moment <= moment));
        let settled = acknowledged.map(|f| f.start).max().unwrap_or(0);
        View { until: moment, settled, fua_settled: moment }
    }

    fn settled(act: &Act, view: View) -> bool {
        let by = if act.fua { view.fua_settled } else { view.settled };
        act.end.is_some_and(|end| end.ok && end.moment <= by)
    }

    /// Whether `seen` may be what sector `sector` holds.
    fn allows(&self, sector: u64, seen: Seen, view: View) -> bool {
        let acts = self.by_sector.get(sector as usize).map(Vec::as_slice).unwrap_or_default();
        let acts = || acts.iter().filter_map(|at| self.acts.get(*at)).filter(|act| act.start <= view.until);
        // The latest beginning among requests that certainly are part of what is seen.
        let horizon =
            acts().filter(|a| a.what != Effect::Discard && Self::settled(a, view)).map(|a| a.start).max();
        let superseded =
            |act: &Act| act.end.is_some_and(|end| horizon.is_some_and(|start| end.moment < start));
        let initial = self.initial.get(sector as usize).copied().unwrap_or(Seen::Zero);
        if horizon.is_none() && seen == initial {
            return true;
        }
        acts().filter(|act| !superseded(act)).any(|act| match act.what {
            Effect::Write(write) => seen == Seen::Stamp { sector, write },
            Effect::Zero | Effect::Discard => seen == Seen::Zero,
        })
    }

    /// What is wrong with a disk found after a crash at `moment`, if anything: its sectors from 0 on.
    pub fn after_crash(&self, moment: u64, sectors: &[Seen]) -> Result<(), String> {
        self.judge(self.crash_view(moment), 0, sectors)
    }

    /// What is wrong with what a read found that began at `start` and ended at `end`.
    pub fn read(&self, start: u64, end: u64, first: u64, sectors: &[Seen]) -> Result<(), String> {
        self.judge(View { until: end, settled: start, fua_settled: start }, first, sectors)
    }

    fn judge(&self, view: View, first: u64, sectors: &[Seen]) -> Result<(), String> {
        match (first..).zip(sectors).find(|(sector, seen)| !self.allows(*sector, **seen, view)) {
            None => Ok(()),
            Some((sector, seen)) => Err(self.explain(sector, *seen, view)),
        }
    }

    fn explain(&self, sector: u64, seen: Seen, view: View) -> String {
        let mut text = match seen {
            Seen::Stamp { sector: other, write } if other != sector => {
                format!("sector {sector} holds the data of sector {other}, of write {write}")
            }
            Seen::Stamp { write, .. } => {
                format!("sector {sector} holds its data of write {write}, which is out of date")
            }
            Seen::Zero => format!("sector {sector} reads zero"),
            Seen::Garbage => format!("sector {sector} holds bytes that no request wrote"),
        };
        let initial = self.initial.get(sector as usize).copied().unwrap_or(Seen::Zero);
        let View { until, settled, .. } = view;
        let _ = write!(
            text,
            "; seen at moment {until}, certain of what ended by {settled}. First {initial:?}; requests:"
        );
        for act in self.acts.iter().filter(|a| (a.first..a.end_sector).contains(&sector) && a.start <= until)
        {
            let _ =
                write!(text, "\n    {:?} {}..{} from {} ", act.what, act.first, act.end_sector, act.start);
            let _ = match act.end.filter(|end| end.moment <= until) {
                Some(End { moment, ok }) => {
                    write!(text, "to {moment}, {}", if ok { "done" } else { "failed" })
                }
                None => write!(text, "on"),
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(write: u64) -> Seen {
        Seen::Stamp { sector: 0, write }
    }

    fn model_of(acts: &[(Effect, u64, u64)], flushes: &[(u64, u64)]) -> Model {
        let mut model = Model::new(512, vec![Seen::Zero], 0);
        for (what, start, end) in acts {
            let entry = model.begin(*what, 0, 512, false, *start);
            model.end(entry, *end, true);
        }
        for (start, end) in flushes {
            let entry = model.begin_flush(*start);
            model.end(entry, *end, true);
        }
        model
    }

    #[test]
    fn after_a_crash_a_sector_is_the_last_flushed_or_a_later_write() {
        let acts = [(Effect::Write(1), 1, 2), (Effect::Write(2), 3, 4), (Effect::Write(3), 7, 8)];
        let model = model_of(&acts, &[(5, 6)]);
        let allowed = |seen| model.after_crash(9, &[seen]).is_ok();
        assert!(allowed(stamp(2)) && allowed(stamp(3)));
        assert!(!allowed(stamp(1)) && !allowed(Seen::Zero) && !allowed(Seen::Garbage));
        assert!(!allowed(Seen::Stamp { sector: 1, write: 2 }));
        // Before the flush was acknowledged everything was possible.
        assert!(model.after_crash(5, &[Seen::Zero]).is_ok() && model.after_crash(5, &[stamp(1)]).is_ok());
    }

    #[test]
    fn of_two_writes_at_once_either_may_win() {
        let model = model_of(&[(Effect::Write(1), 1, 4), (Effect::Zero, 2, 3)], &[(5, 6)]);
        assert!(model.after_crash(7, &[stamp(1)]).is_ok() && model.after_crash(7, &[Seen::Zero]).is_ok());
        assert!(model.read(5, 6, 0, &[stamp(1)]).is_ok());
    }

    #[test]
    fn a_read_sees_what_was_acknowledged_before_it_began() {
        let model = model_of(&[(Effect::Write(1), 1, 2), (Effect::Write(2), 4, 6)], &[]);
        assert!(model.read(3, 5, 0, &[Seen::Zero]).is_err());
        assert!(model.read(3, 5, 0, &[stamp(1)]).is_ok() && model.read(3, 5, 0, &[stamp(2)]).is_ok());
        assert!(model.read(7, 8, 0, &[stamp(1)]).is_err());
    }

    #[test]
    fn a_failed_write_may_show_until_another_one_supersedes_it() {
        let mut model = model_of(&[(Effect::Write(1), 1, 2)], &[]);
        let failed = model.begin(Effect::Write(2), 0, 512, false, 3);
        model.end(failed, 4, false);
        assert!(model.read(5, 6, 0, &[stamp(1)]).is_ok() && model.read(5, 6, 0, &[stamp(2)]).is_ok());
        let entry = model.begin(Effect::Write(3), 0, 512, false, 7);
        model.end(entry, 8, true);
        assert!(model.read(9, 10, 0, &[stamp(2)]).is_err() && model.read(9, 10, 0, &[stamp(3)]).is_ok());
    }

    #[test]
    fn what_a_shrink_cut_off_is_zero_after_it_is_durable() {
        let mut model = Model::new(1024, vec![Seen::Zero, Seen::Stamp { sector: 1, write: 0 }], 0);
        let shrink = model.begin_resize(512, 1);
        model.end(shrink, 2, true);
        let grow = model.begin_resize(1024, 3);
        model.end(grow, 4, true);
        let old = Seen::Stamp { sector: 1, write: 0 };
        assert!(model.after_crash(5, &[Seen::Zero, old]).is_ok());
        assert_eq!(model.sizes_after_crash(5), [1024, 512, 1024]);
        let flush = model.begin_flush(6);
        model.end(flush, 7, true);
        assert!(model.after_crash(8, &[Seen::Zero, old]).is_err());
        assert_eq!(model.sizes_after_crash(8), [1024]);
    }
}
