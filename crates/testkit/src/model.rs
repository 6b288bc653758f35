//! The oracle over stamped sectors: what a guest may find in each, by the law of [`crash::model`].

use std::fmt::Write;

use crash::model::{self, Source, View};
pub use crash::model::{Effect, RecordId};

use crate::snapshots::Kept;
use crate::stamp::{SECTOR, Seen};

/// Everything a guest did to one disk, and what its sectors held before.
#[derive(Clone, Debug, Default)]
pub struct Model {
    initial: Vec<Seen>,
    acts: model::Model,
    /// What is known of internal snapshots.
    pub snapshots: Vec<Kept>,
}

impl Model {
    /// A disk of `size` bytes whose sectors hold `initial`; sectors beyond that are zero. Writes are numbered from
    /// `first_write` on.
    pub fn new(size: u64, initial: Vec<Seen>, first_write: u64) -> Model {
        Model { initial, acts: model::Model::new(size, first_write), snapshots: Vec::new() }
    }

    /// The number of the next write.
    pub fn next_write(&mut self) -> u64 {
        self.acts.next_write()
    }

    /// The number of the last write.
    pub fn last_write(&self) -> u64 {
        self.acts.last_write()
    }

    /// A request of whole sectors begins.
    pub fn begin(&mut self, what: Effect, offset: u64, len: u64, fua: bool, moment: u64) -> RecordId {
        self.acts.begin(what, offset..offset + len, fua, moment)
    }

    /// A flush begins.
    pub fn begin_flush(&mut self, moment: u64) -> RecordId {
        self.acts.begin_flush(moment)
    }

    /// A change of the size begins; no other request is under way. What lies behind the smaller size becomes zero.
    pub fn begin_resize(&mut self, size: u64, moment: u64) -> RecordId {
        self.acts.begin_resize(size, moment)
    }

    /// The disk begins to become what `sectors` hold, durable when it is acknowledged; no change of the size is under way.
    pub fn begin_becoming(&mut self, sectors: &[Seen], moment: u64) -> RecordId {
        let size = sectors.len() as u64 * SECTOR;
        for (sector, seen) in (0..).zip(sectors) {
            let what = match seen {
                Seen::Stamp { write, .. } => Effect::Write(*write),
                Seen::Zero | Seen::Garbage => Effect::Zero,
            };
            self.begin(what, sector * SECTOR, SECTOR, true, moment);
        }
        self.begin_resize(size, moment)
    }

    /// A request ends.
    pub fn end(&mut self, entry: RecordId, moment: u64, ok: bool) {
        self.acts.end(entry, moment, ok);
    }

    /// The sizes the disk may have after a crash at `moment`.
    pub fn sizes_after_crash(&self, moment: u64) -> Vec<u64> {
        self.acts.sizes_after_crash(moment)
    }

    /// What is wrong with a disk found after a crash at `moment`, if anything: its sectors from 0 on.
    pub fn after_crash(&self, moment: u64, sectors: &[Seen]) -> Result<(), String> {
        self.judge(self.acts.after_crash(moment), 0, sectors)
    }

    /// What is wrong with what a read found that began at `start` and ended at `end`.
    pub fn read(&self, start: u64, end: u64, first: u64, sectors: &[Seen]) -> Result<(), String> {
        self.judge(model::Model::while_running(start, end), first, sectors)
    }

    fn judge(&self, view: View, first: u64, sectors: &[Seen]) -> Result<(), String> {
        let mut seen = (first..).zip(sectors.iter().copied());
        let bytes = first * SECTOR..(first + sectors.len() as u64) * SECTOR;
        for (piece, sources) in self.acts.allowed(view, bytes) {
            for (sector, seen) in seen.by_ref().take(((piece.end - piece.start) / SECTOR) as usize) {
                if !sources.iter().any(|source| self.leaves(*source, sector) == seen) {
                    return Err(self.explain(sector, seen, view));
                }
            }
        }
        Ok(())
    }

    /// What a sector holds that comes from `source`.
    fn leaves(&self, source: Source, sector: u64) -> Seen {
        match source {
            Source::Initial => self.initial_of(sector),
            Source::Write(write) => Seen::Stamp { sector, write },
            Source::Zero => Seen::Zero,
        }
    }

    fn initial_of(&self, sector: u64) -> Seen {
        let known = usize::try_from(sector).ok().and_then(|sector| self.initial.get(sector));
        known.copied().unwrap_or(Seen::Zero)
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
        let View { until, settled, .. } = view;
        let initial = self.initial_of(sector);
        let _ = write!(
            text,
            "; seen at moment {until}, certain of what ended by {settled}. First {initial:?}; requests:"
        );
        for act in self.acts.acts_at(sector * SECTOR, until) {
            let _ = write!(text, "\n    {act} ");
            let _ = match act.end.filter(|end| end.moment <= until) {
                Some(end) => {
                    write!(text, "to {}, {}", end.moment, if end.ok { "done" } else { "failed" })
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
