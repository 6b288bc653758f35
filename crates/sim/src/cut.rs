//! What a crash leaves of a disk.
//!
//! A power cut keeps durable content and any subset of the effects that were not durable. Applying the subset in its order
//! loses no generality: of a sector only the last version kept is seen, and pieces are kept or lost independently of each
//! other. A kill of the process leaves what had been done by then, and loses what had not: one of these subsets.

use std::fmt;

use crate::disk::{Disk, Entry, Inode};
use crate::rng::Rng;

/// One crash of the many that a moment allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cut {
    /// A power cut that keeps exactly the pending effects whose bits are set, each whole. Effects from the 64th on are lost.
    Keeping(u64),
    /// A power cut that keeps a subset of this seed's choice, some of it torn.
    Seeded(u64),
    /// The process is killed after so many of the pending effects, in the order in which they were issued.
    Killed(u64),
}

/// What becomes of an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is as if it had not been.
    Lost,
    /// All of it is there.
    Kept,
    /// Each cell of so many bytes is kept or lost by itself, by this seed's choice.
    Torn {
        /// Bytes of a cell.
        cell: u64,
        /// Of the choice.
        seed: u64,
    },
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Lost => f.write_str("lost"),
            Fate::Kept => f.write_str("kept"),
            Fate::Torn { cell, .. } => write!(f, "torn in pieces of {cell} bytes"),
        }
    }
}

impl Disk {
    /// The effects that a crash may lose, as text.
    pub fn pending_effects(&self) -> Vec<String> {
        let named = |ino: &u64| self.path_of(*ino).display().to_string();
        let effects = self.files.iter().flat_map(|(ino, f)| f.pending().map(move |e| (ino, e)));
        let effects = effects.map(|(ino, effect)| format!("{}: {effect}", named(ino)));
        effects.chain(self.name_log.iter().map(|(_, change)| change.to_string())).collect()
    }

    /// The disk after this crash.
    pub fn after(&self, cut: Cut) -> Disk {
        self.cut_with(&self.fates(cut))
    }

    /// What becomes of each pending effect in this crash.
    pub fn fates(&self, cut: Cut) -> Vec<Fate> {
        let kept = |kept: bool| if kept { Fate::Kept } else { Fate::Lost };
        match cut {
            Cut::Seeded(seed) => self.any_fates(&mut Rng::new(seed)),
            Cut::Keeping(mask) => (0..self.pending())
                .map(|index| kept(mask.checked_shr(index as u32).unwrap_or(0) & 1 == 1))
                .collect(),
            Cut::Killed(count) => {
                let mut issued: Vec<(u64, usize)> = self.issued().zip(0..).collect();
                issued.sort_unstable();
                let mut fates = vec![Fate::Lost; issued.len()];
                for (_, index) in issued.into_iter().take(usize::try_from(count).unwrap_or(usize::MAX)) {
                    fates.get_mut(index).into_iter().for_each(|fate| *fate = Fate::Kept);
                }
                fates
            }
        }
    }

    /// The numbers of the operations that the pending effects are of.
    fn issued(&self) -> impl Iterator<Item = u64> {
        let of_file = |file: &Inode| -> Vec<u64> {
            file.log.iter().map(|e| e.op).chain(file.flight.iter().map(|f| f.0)).collect()
        };
        self.files.values().flat_map(of_file).chain(self.name_log.iter().map(|(op, _)| *op))
    }

    /// The disk after a power cut that kept exactly the pending effects `keep` says yes to, each whole.
    pub fn cut_keeping(&self, mut keep: impl FnMut(usize) -> bool) -> Disk {
        let fate = |index| if keep(index) { Fate::Kept } else { Fate::Lost };
        self.cut_with(&(0..self.pending()).map(fate).collect::<Vec<_>>())
    }

    /// The disk after a power cut that kept a subset of `rng`'s choice, some of it torn.
    pub fn power_cut(&self, rng: &mut Rng) -> Disk {
        self.cut_with(&self.any_fates(rng))
    }

    fn any_fates(&self, rng: &mut Rng) -> Vec<Fate> {
        let pending = self.pending();
        let cell = if rng.chance(1, 2) { 512 } else { 4096 };
        let (style, special, tearing) = (rng.below(9), rng.index(pending.max(1)), rng.chance(1, 2));
        let mut dice = rng.fork();
        let fate = |index: usize| {
            let kept = match style {
                0 => false,
                1 => true,
                2 => index < special,
                3 => index != special,
                4 => index == special,
                5 => dice.chance(1, 8),
                6 => dice.chance(7, 8),
                7 => return Fate::Torn { cell, seed: dice.next_u64() },
                _ => dice.chance(1, 2),
            };
            match kept {
                false => Fate::Lost,
                true if tearing && dice.chance(1, 4) => Fate::Torn { cell, seed: dice.next_u64() },
                true => Fate::Kept,
            }
        };
        (0..pending).map(fate).collect()
    }

    /// The disk after the process was killed: the page cache stays, operations in flight happen or don't.
    pub fn kill(&self, rng: &mut Rng) -> Disk {
        let mut disk = self.clone();
        for file in disk.files.values_mut() {
            for (op, effect) in std::mem::take(&mut file.flight) {
                if rng.chance(1, 2) {
                    effect.apply(&mut file.cache);
                    file.log.push(Entry { op, ended: true, effect });
                }
            }
            file.log.iter_mut().for_each(|entry| entry.ended = true);
        }
        disk.forget_nameless();
        disk
    }

    fn cut_with(&self, fates: &[Fate]) -> Disk {
        let (last_ino, ticks, outside) = (self.last_ino, self.ticks, self.outside.clone());
        let mut disk = Disk { last_ino, ticks, outside, ..Disk::default() };
        let mut fates = fates.iter().copied();
        for (ino, file) in &self.files {
            let mut content = file.durable.clone();
            for effect in file.pending() {
                match fates.next().unwrap_or(Fate::Lost) {
                    Fate::Lost => {}
                    Fate::Kept => effect.apply(&mut content),
                    Fate::Torn { cell, seed } => {
                        let mut rng = Rng::new(seed);
                        let kept = effect.pieces(cell).into_iter().filter(|_| rng.chance(1, 2));
                        kept.for_each(|effect| effect.apply(&mut content));
                    }
                }
            }
            let (durable, changed) = (content.clone(), file.changed);
            disk.files.insert(*ino, Inode { durable, cache: content, changed, ..Inode::default() });
        }
        let mut names = self.durable_names.clone();
        for (_, change) in &self.name_log {
            if !matches!(fates.next(), Some(Fate::Lost) | None) {
                change.apply(&mut names);
            }
        }
        disk.durable_names = names.clone();
        disk.names = names;
        disk.forget_nameless();
        disk
    }
}
