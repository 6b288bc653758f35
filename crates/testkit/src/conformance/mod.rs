//! The suite that every driver and stack runs: the laws of a disk.
//!
//! A stack is made on a simulated machine, and each law runs on a machine of its own that boots from that disk, under
//! several seeds: inline calls that do all, a part, or nothing; operations that end in any order.

mod data;
mod errors;
mod mirror;
mod shape;

use sim::{Config, Disk, EIO, ENOSPC, Rng, Sim};

use crate::crash::{Inspect, fill, seeds};
use crate::stack::{Session, Stack};
use crate::stamp::{SECTOR, Seen, look};
use mirror::Mirror;

/// What the suite is run on.
#[derive(Clone)]
pub struct Suite {
    /// The stack.
    pub stack: Stack,
    /// An independent reader of its files, if there is one.
    pub inspect: Option<Inspect>,
    /// The simulated machine, except its seed.
    pub config: Config,
    /// The error that operations are made to fail with.
    pub errnos: Vec<i32>,
}

/// A stack that was made and filled, on a disk.
struct Made {
    disk: Disk,
    initial: Vec<Seen>,
    writes: u64,
}

impl Suite {
    /// The suite for a stack, on the usual machine.
    pub fn of(stack: Stack, inspect: Option<Inspect>) -> Suite {
        Suite { stack, inspect, config: Config::seeded(0), errnos: vec![EIO, ENOSPC] }
    }

    /// Runs all laws; that of failures under the seeds that `CONFORMANCE_SEED` and `CONFORMANCE_COUNT` ask for.
    ///
    /// # Panics
    /// Where one is broken.
    pub fn run(&self) {
        let made = self.make();
        for seed in 1..4 {
            self.law(&made, seed, "what was written before is there", data::first_content);
            self.law(&made, seed, "any offset and length can be written", data::alignment_matrix);
            self.law(&made, seed, "zeroes are zeroes, discards are old or zero", data::zeroes_and_discards);
            self.law(&made, seed, "the map agrees with what is read", data::map_agrees_with_reads);
            self.law(&made, seed, "a closed disk opens with all its data", data::closed_and_opened_again);
            self.law(&made, seed, "nothing lies behind the end", shape::end_of_disk);
            if self.stack.reads_only {
                self.law(&made, seed, "a read-only disk does not change", shape::read_only);
            }
            if self.stack.resizes {
                self.law(&made, seed, "what a disk grows by is zero", shape::resizing);
            }
        }
        for seed in 1..12 {
            self.requests_at_once(&made, seed);
        }
        for seed in seeds("CONFORMANCE", 5) {
            self.errors_at_every_operation(&made, seed);
        }
    }

    fn boot(&self, disk: &Disk, seed: u64) -> Sim {
        Sim::boot(Config { seed, ..self.config }, disk.clone())
    }

    fn make(&self) -> Made {
        let (sim, stack) = (self.boot(&Disk::default(), 1), self.stack.clone());
        let filled = sim.run(async move { fill(&stack, Rng::new(7)).await });
        match filled {
            Ok((initial, writes)) => Made { disk: sim.world().disk(), initial, writes },
            Err(e) => panic!("{}: it can't be made: {e}", self.stack.name),
        }
    }

    /// Runs one law on a machine of its own, and looks at what it left.
    fn law<F>(&self, made: &Made, seed: u64, name: &str, law: fn(Desk) -> F)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let sim = self.boot(&made.disk, seed);
        let desk =
            Desk { stack: self.stack.clone(), initial: made.initial.clone(), world: sim.world().clone() };
        let report = |text: String| format!("{}, seed {seed}: broken law: {name}: {text}", self.stack.name);
        let kept = sim.run(async move { law(desk).await });
        sim.settle();
        let sound = kept.and_then(|()| self.sound(&sim));
        if let Err(text) = sound {
            panic!("{}\n{}", report(text), sim.world().log().join("\n"));
        }
    }

    /// The independent reader finds nothing wrong after a clean close.
    fn sound(&self, sim: &Sim) -> Result<(), String> {
        match self.inspect {
            Some(inspect) => inspect(&self.stack, &sim.world().disk(), true).map(drop),
            None => Ok(()),
        }
    }
}

/// What a law works at.
struct Desk {
    stack: Stack,
    initial: Vec<Seen>,
    world: sim::World,
}

impl Desk {
    async fn open(&self) -> Result<Session, String> {
        self.stack.open().await.map_err(|e| format!("open: {e}"))
    }

    /// An opened stack beside a plain copy of its bytes.
    async fn mirror(&self) -> Result<Mirror, String> {
        Mirror::new(self.open().await?, self.stack.keeps_data).await
    }
}

/// A short description of a sector's bytes.
fn sectors(bytes: &[u8]) -> Vec<Seen> {
    bytes.chunks(SECTOR as usize).map(look).collect()
}
