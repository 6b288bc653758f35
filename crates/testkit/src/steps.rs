//! Reported outcome and effect: an operation is repeated, and each time another one of its requests to the disk fails.
//!
//! ```text
//!   disk ─▶ boot ─▶ act: prepare · arm ─▶ {the operation, its k-th request of a kind fails} · disarm · look ─▶ judge
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

use parking_lot::Mutex;
use rt::BoxFuture;
use sim::{Config, Disk, EIO, ENOSPC, OpKind, Plant, Sim, World};

/// Kinds of requests that are failed.
pub const KINDS: [OpKind; 7] =
    [OpKind::Read, OpKind::Write, OpKind::Sync, OpKind::Allocate, OpKind::SetLen, OpKind::Open, OpKind::Name];

/// Most requests of a kind that are failed one by one; of more, a spread of them.
const MOST: u64 = 40;

/// Which request fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Its kind.
    pub kind: OpKind,
    /// How many of its kind come before it.
    pub nth: u64,
    /// The error.
    pub errno: i32,
    /// All that come after it fail too.
    pub lasting: bool,
}

/// Marks where the operation whose requests fail begins and ends.
#[derive(Clone)]
pub struct Fuse(Arc<Inner>);

struct Inner {
    world: World,
    plant: Option<Plant>,
    armed: AtomicBool,
    /// Requests of each kind before and during the operation.
    counts: Mutex<Vec<(OpKind, u64)>>,
}

impl Fuse {
    /// The world it is in.
    pub fn world(&self) -> &World {
        &self.0.world
    }

    /// From now on requests are counted.
    pub fn arm(&self) {
        self.0.armed.store(true, Release);
        *self.0.counts.lock() = KINDS.map(|kind| (kind, self.0.world.count(Some(kind)))).to_vec();
        self.0.plant.iter().for_each(|plant| self.0.world.plant(plant.clone()));
    }

    /// From now on nothing fails.
    pub fn disarm(&self) {
        self.0.world.unplant();
        for (kind, count) in self.0.counts.lock().iter_mut() {
            *count = self.0.world.count(Some(*kind)) - *count;
        }
    }
}

/// What is done at every step: it arms the fuse before the operation and disarms it after that.
pub type Act<T> = dyn Fn(Fuse) -> BoxFuture<'static, T>;

/// Judges the outcome of an operation, the disk afterwards, and what had failed.
pub type Judge<'a, T> = dyn Fn(T, &Disk, Option<Failing>) -> Result<(), String> + 'a;

/// Runs `act` on `disk` without a failure, then with a failure of each of its requests; `judge` gets its outcome, the disk,
/// and what had failed.
///
/// # Panics
/// With what failed, where `judge` finds fault, the operation never arms its fuse, or anything panics or hangs.
#[expect(clippy::panic, reason = "what a suite finds wrong is a failed test")]
pub fn at_every_step<T: Send + 'static>(name: &str, disk: &Disk, act: &Act<T>, judge: &Judge<'_, T>) {
    let once = |failing: Option<Failing>| {
        let sim = Sim::boot(Config { workers: 1, ..Config::seeded(7) }, disk.clone());
        let times = |failing: Failing| if failing.lasting { u64::MAX } else { 1 };
        let plant = failing.map(|failing| Plant {
            times: times(failing),
            ..Plant::nth_of(failing.kind, failing.nth, failing.errno)
        });
        let (world, armed, counts) = (sim.world().clone(), AtomicBool::new(false), Mutex::default());
        let fuse = Fuse(Arc::new(Inner { world, plant, armed, counts }));
        let came = sim.run(act(fuse.clone()));
        sim.settle();
        assert!(fuse.0.armed.load(Acquire), "{name}: the fuse was never armed");
        if let Err(text) = judge(came, &sim.world().disk(), failing) {
            panic!("{name}, {failing:?}: {text}\n{}", sim.world().log().join("\n"));
        }
        fuse.0.counts.lock().clone()
    };
    let mut tried = 0;
    for (kind, count) in once(None) {
        for nth in (0..count).step_by(count.div_ceil(MOST).max(1) as usize) {
            for (errno, lasting) in [(EIO, false), (ENOSPC, false), (EIO, true)] {
                // Reads and opens find no full file system.
                if errno == EIO || !matches!(kind, OpKind::Read | OpKind::Open) {
                    once(Some(Failing { kind, nth, errno, lasting }));
                    tried += 1;
                }
            }
        }
    }
    println!("{name}: {tried} failures");
}
