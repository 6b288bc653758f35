//! The crashes of one moment: all subsets of what is not durable where they are few, a seeded sample where they are many.

use sim::{Cut, Rng};

/// Which kinds of crash are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kinds {
    /// The power is cut: any subset of what is not durable survives.
    PowerCuts,
    /// The process is killed: what was done before survives, what comes after does not.
    Kills,
    /// Both.
    #[default]
    Both,
}

/// The crashes of a moment with so many effects that are not durable, by number.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    pending: u64,
    subsets: u64,
    kills: u64,
    torn: u64,
    all: bool,
    seed: u64,
    alone: Option<Cut>,
}

/// How many subsets `pending` effects have; `u64::MAX` for 64 and more.
pub fn subsets(pending: usize) -> u64 {
    u32::try_from(pending).ok().and_then(|pending| 1u64.checked_shl(pending)).unwrap_or(u64::MAX)
}

impl Cuts {
    /// About `most` crashes, at least one: all subsets if there are no more, and some that tear; else a choice by `seed`.
    pub fn new(pending: usize, most: u64, kinds: Kinds, seed: u64) -> Cuts {
        let most = most.max(1);
        let (all, ends) = (subsets(pending) <= most, pending as u64 + 1);
        let (subsets, kills, torn) = match (kinds, all) {
            (Kinds::Kills, _) => (0, ends.min(most), 0),
            // Without anything pending every crash leaves the same.
            (_, true) if pending == 0 => (1, 0, 0),
            // A kill leaves one of the subsets.
            (_, true) => (subsets(pending), 0, (most - subsets(pending)).min(1 + subsets(pending) / 4)),
            (Kinds::PowerCuts, false) => (most - most / 2, 0, most / 2),
            (Kinds::Both, false) => (most - most / 2, ends.min(most / 8), most / 2 - ends.min(most / 8)),
        };
        Cuts { pending: pending as u64, subsets, kills, torn, all, seed, alone: None }
    }

    /// One crash alone.
    pub fn just(cut: Cut) -> Cuts {
        Cuts { alone: Some(cut), pending: 0, subsets: 1, kills: 0, torn: 0, all: false, seed: 0 }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.subsets + self.kills + self.torn
    }

    /// Whether every subset of whole effects is among them.
    pub fn has_all_subsets(&self) -> bool {
        self.all && self.subsets > 0
    }

    /// The one of this number, below [`count`](Cuts::count). Of power cuts the one that loses all comes first.
    pub fn get(&self, number: u64) -> Cut {
        if let Some(cut) = self.alone {
            return cut;
        }
        let mut rng = Rng::new(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if number < self.subsets {
            return match () {
                () if self.all || number == 0 => Cut::Keeping(number),
                () if self.pending <= u64::from(u64::BITS) => {
                    Cut::Keeping(rng.next_u64() & (u64::MAX >> (u64::from(u64::BITS) - self.pending)))
                }
                () => Cut::Seeded(rng.next_u64() >> 16),
            };
        }
        if number < self.subsets + self.kills {
            // Spread evenly over all of them.
            let nth = u128::from(number - self.subsets);
            let of = u128::from(self.kills.max(2) - 1);
            return Cut::Killed((nth * u128::from(self.pending) / of) as u64);
        }
        Cut::Seeded(rng.next_u64() >> 16)
    }
}

/// Shares `budget` out among moments with so many effects pending each: a moment takes what all its subsets need if its share
/// covers that, and leaves the rest to the others. The share of each.
pub fn shares(pending: &[usize], budget: u64) -> Vec<u64> {
    let need = |pending: usize| subsets(pending).saturating_add(1 + subsets(pending) / 4);
    let mut order: Vec<usize> = (0..pending.len()).collect();
    order.sort_by_key(|at| pending.get(*at));
    let (mut left, mut shares) = (budget, vec![0; pending.len()]);
    for (done, at) in order.iter().enumerate() {
        let share = left / (order.len() - done) as u64;
        let taken = share.min(pending.get(*at).map_or(0, |pending| need(*pending)));
        left -= taken;
        shares.get_mut(*at).into_iter().for_each(|share| *share = taken);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn few_effects_have_all_their_subsets_tried_and_many_as_many_as_asked_for() {
        let cuts = Cuts::new(3, 100, Kinds::Both, 1);
        assert!(cuts.has_all_subsets());
        let tried: BTreeSet<Cut> = (0..cuts.count()).map(|number| cuts.get(number)).collect();
        assert!((0..8).all(|mask| tried.contains(&Cut::Keeping(mask))));
        for pending in [10, 64, 70, 1000] {
            for kinds in [Kinds::Both, Kinds::PowerCuts, Kinds::Kills] {
                let cuts = Cuts::new(pending, 50, kinds, 1);
                assert!(!cuts.has_all_subsets());
                assert_eq!(cuts.count(), if kinds == Kinds::Kills { 50.min(pending as u64 + 1) } else { 50 });
                let tried: BTreeSet<Cut> = (0..cuts.count()).map(|number| cuts.get(number)).collect();
                assert!(tried.len() > 45 || kinds == Kinds::Kills, "{pending} {kinds:?}: {tried:?}");
            }
        }
        let kills = Cuts::new(4, 50, Kinds::Kills, 1);
        let kills: Vec<Cut> = (0..kills.count()).map(|number| kills.get(number)).collect();
        assert_eq!(kills, (0..5).map(Cut::Killed).collect::<Vec<_>>());
        assert_eq!(Cuts::new(0, 50, Kinds::Both, 1).count(), 1);
    }

    #[test]
    fn shares_never_exceed_the_budget_and_what_some_do_not_need_others_get() {
        assert_eq!(shares(&[0, 20], 100), [2, 98]);
        assert_eq!(shares(&[20, 20, 20], 90), [30, 30, 30]);
        assert!(shares(&[], 10).is_empty());
    }
}
