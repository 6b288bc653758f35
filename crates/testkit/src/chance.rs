//! What chance makes of a crash test: the stack, the requests, the machine, which operation fails, how much room there is.

use block::DriverType;
use sim::{Config, EIO, ENOSPC, OpKind, Plant, Rng};

use crate::crash::{CrashTest, Inspect};
use crate::guest::{Faults, Mix, Plan};
use crate::stack::{Stack, TestImage};

/// An image alone, over a raw one, or over another of its format that is over a raw one. `image` makes one of a file's name and
/// a size. The raw one is as large, or half as large.
pub fn overlay(
    rng: &mut Rng,
    drivers: &[&'static [DriverType]],
    size: u64,
    mut image: impl FnMut(&mut Rng, &'static str, u64) -> TestImage,
) -> Stack {
    let mut images = Vec::new();
    let below = rng.below(3);
    if below > 0 {
        images.push(TestImage::new("raw", "/base", size >> rng.below(2)));
    }
    for file in if below > 1 { &["/middle", "/top"][..] } else { &["/top"] } {
        let image = image(rng, file, size);
        images.push(match images.last() {
            Some(below) => image.over(below),
            None => image,
        });
    }
    let format = images.last().map_or("", |image| image.format);
    Stack::of(format, drivers, images)
}

/// A machine with one thread or several.
pub fn machine(rng: &mut Rng) -> Config {
    Config { inline: rng.chance(3, 4), workers: 1 + rng.index(3), ..Config::seeded(0) }
}

fn plan(rng: &mut Rng, longest: u64) -> Plan {
    let depth = 1 + rng.below(8);
    let mix = match rng.below(3) {
        0 => Mix { read: 4, write: 10, zero: 5, discard: 4, flush: 4, resize: 0, fua: 10, compressed: 0 },
        // Mostly writes.
        1 => Mix { read: 2, write: 14, zero: 1, discard: 1, flush: 2, resize: 0, fua: 10, compressed: 0 },
        // Allocation and freeing, over and over.
        _ => Mix { read: 6, write: 8, zero: 6, discard: 6, flush: 3, resize: 0, fua: 10, compressed: 0 },
    };
    let span = if rng.chance(1, 3) { longest / 2 } else { 0 };
    let longest = 1 + rng.below(longest);
    Plan { requests: 48 / depth, depth, mix, longest, span, largest: 0, faults: Faults::None }
}

impl CrashTest {
    /// A test of a stack by some 48 requests of up to `longest` sectors, none of which changes the size. In a third of the tests
    /// all of them meet on the first sectors, half as many.
    pub fn by_chance(rng: &mut Rng, stack: Stack, inspect: Inspect, longest: u64) -> Self {
        let (plan, config) = (plan(rng, longest), machine(rng));
        Self { config, inspect: Some(inspect), ..Self::new(stack, plan) }
    }

    /// The same with one operation that fails: one of the first `writes`, or of a fourth as many others.
    #[must_use]
    pub fn with_a_fault(mut self, seed: u64, writes: u64) -> Self {
        let mut rng = Rng::new(!seed);
        let kinds =
            [OpKind::Sync, OpKind::Write, OpKind::Write, OpKind::Allocate, OpKind::SetLen, OpKind::Read];
        let kind = rng.pick(&kinds).unwrap_or(OpKind::Sync);
        let errno = if rng.chance(1, 3) && kind != OpKind::Sync { ENOSPC } else { EIO };
        let nth = rng.below(if kind == OpKind::Write { writes } else { writes / 4 });
        self.faults = vec![Plant::nth_of(kind, nth, errno)];
        self.plan.faults = if kind == OpKind::Sync { Faults::Syncs } else { Faults::Some };
        self
    }

    /// The same on a file system with room for less than a fourth of the disk, and with a file that has space for its zeroes or has
    /// none.
    #[must_use]
    pub fn on_a_full_file_system(mut self, seed: u64) -> Self {
        let mut rng = Rng::new(!seed);
        self.plan.faults = Faults::Full;
        self.room = Some(rng.below(self.stack.size() / 4));
        self.sparse = rng.chance(1, 2);
        self
    }
}
