//! The moments of a run at which it may crash: a uniform choice among all that were offered, each as likely as any other,
//! however many there are.
//!
//! Between two syncs the set of effects that a power cut may lose only grows, and nothing new is promised to the guest: the
//! moment right before a sync takes effect ([`sim::World::watch_syncs`]) has all subsets of the earlier ones among its own.
//! Whoever tries all subsets needs no others.

use sim::{Disk, Rng};

/// A moment, with the disk as it was.
#[derive(Clone)]
pub struct Moment {
    /// When it was: the world's number.
    pub stamp: u64,
    /// Its number in its run.
    pub number: u64,
    /// The disk.
    pub disk: Disk,
}

/// Moments kept.
pub struct Moments {
    kept: Vec<Moment>,
    room: usize,
    seen: u64,
    rng: Rng,
}

impl Moments {
    /// Keeps at most `room` moments, chosen by `rng`.
    pub fn new(room: usize, rng: Rng) -> Moments {
        Moments { kept: Vec::new(), room, seen: 0, rng }
    }

    /// Offers a moment.
    pub fn offer(&mut self, stamp: u64, disk: &Disk) {
        self.offer_as(self.seen, stamp, disk);
    }

    /// Offers a moment that has this number in its run.
    pub fn offer_as(&mut self, number: u64, stamp: u64, disk: &Disk) {
        self.seen += 1;
        let moment = || Moment { stamp, number, disk: disk.clone() };
        if self.kept.len() < self.room {
            self.kept.push(moment());
            return;
        }
        let at = self.rng.below(self.seen);
        if let Some(slot) = usize::try_from(at).ok().and_then(|at| self.kept.get_mut(at)) {
            *slot = moment();
        }
    }

    /// How many were offered.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes out those that were kept, in their order.
    pub fn take(&mut self) -> Vec<Moment> {
        let mut kept = std::mem::take(&mut self.kept);
        kept.sort_by_key(|moment| moment.stamp);
        kept
    }
}
