//! Small scope, exhaustively: a few requests on tiny clusters, and after them every subset of what was not yet durable, at
//! every moment that matters ([`crash::moments`]).

use std::sync::Arc;

use block::{BlockError, ErrorKind, Result};
use crash::cuts::{Cuts, Kinds};
use crash::moments::{Moment, Moments};
use parking_lot::Mutex;
use sim::{Config, Disk, Plant, Rng, Sim, World};

use crate::crash::{Inspect, fill, snapshots_of};
use crate::guest::Guest;
use crate::model::Model;
use crate::snapshots;
use crate::stack::Stack;
use crate::stamp::{SECTOR, look};

/// A request, in sectors: the first, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A read; what it finds must be explained.
    Read(u64, u64),
    /// A write.
    Write(u64, u64),
    /// A write that is durable when it is acknowledged.
    Fua(u64, u64),
    /// A write to all clusters that the range touches, compressed.
    Compress(u64, u64),
    /// A write of zeroes that may give space up.
    Zero(u64, u64),
    /// A discard.
    Discard(u64, u64),
    /// A flush.
    Flush,
    /// A change of the size to so many sectors.
    Resize(u64),
    /// A new internal snapshot.
    Snapshot,
    /// The latest snapshot, if there is any, is applied.
    Apply,
    /// The latest snapshot, if there is any, is deleted.
    Delete,
}

/// A small scope.
#[derive(Clone)]
pub struct SmallScope {
    /// The stack.
    pub stack: Stack,
    /// The independent reader.
    pub inspect: Inspect,
    /// Requests before the power may be cut, flushed.
    pub before: Vec<Op>,
    /// Requests: tasks at once, each one request after the other.
    pub tasks: Vec<Vec<Op>>,
    /// Most subsets tried of one moment; of more, so many by chance.
    pub most: u64,
    /// The simulated machine, except its seed.
    pub config: Config,
    /// What is planted when the tasks begin.
    pub plants: Vec<Plant>,
}

/// What meets on the first four sectors of a disk.
pub const ON_FOUR_SECTORS: [&[&[Op]]; 3] = [
    &[&[Op::Write(1, 2)], &[Op::Zero(0, 2)], &[Op::Write(0, 1), Op::Flush]],
    &[&[Op::Fua(0, 3)], &[Op::Discard(0, 4)], &[Op::Write(2, 2)]],
    &[&[Op::Zero(0, 4), Op::Flush, Op::Write(1, 1)], &[Op::Fua(3, 1)]],
];

/// What meets on the first two clusters of 4 KiB.
pub const ON_TWO_CLUSTERS: [&[&[Op]]; 3] = [
    &[&[Op::Write(1, 2)], &[Op::Zero(0, 8)], &[Op::Write(0, 1), Op::Flush]],
    &[&[Op::Fua(0, 9)], &[Op::Discard(0, 16)], &[Op::Write(6, 4)]],
    &[&[Op::Zero(0, 16), Op::Flush, Op::Write(9, 1)], &[Op::Fua(8, 8)]],
];

async fn perform(guest: &Guest, stack: &Stack, world: &World, op: Op) -> Result<()> {
    let at = |sectors: u64| sectors * SECTOR;
    let latest = || snapshots::latest(&guest.model.lock());
    match op {
        Op::Read(first, count) => guest.read(at(first), at(count)).await,
        Op::Write(first, count) => guest.write(at(first), at(count), false).await,
        Op::Fua(first, count) => guest.write(at(first), at(count), true).await,
        Op::Compress(first, count) => guest.compress(at(first), at(count)).await,
        Op::Zero(first, count) => guest.zero(at(first), at(count), true).await,
        Op::Discard(first, count) => guest.discard(at(first), at(count)).await,
        Op::Flush => guest.flush().await,
        Op::Resize(sectors) => guest.resize(at(sectors)).await,
        Op::Snapshot => {
            let name = format!("s{}", guest.model.lock().snapshots.len());
            snapshots::create(guest, world, &name, None).await
        }
        Op::Apply => match latest() {
            Some(name) => match snapshots::apply(guest, stack, world, &name).await {
                // Another task has deleted it meanwhile.
                Err(e) if e.kind() == ErrorKind::NotFound && latest() != Some(name) => Ok(()),
                done => done,
            },
            None => Ok(()),
        },
        Op::Delete => match latest() {
            Some(name) => snapshots::delete(guest, world, &name).await,
            None => Ok(()),
        },
    }
}

impl SmallScope {
    /// A scope without requests, of at most 128 subsets of a moment.
    pub fn new(stack: Stack, inspect: Inspect) -> SmallScope {
        SmallScope {
            stack,
            inspect,
            before: Vec::new(),
            tasks: Vec::new(),
            most: 128,
            config: Config::seeded(0),
            plants: Vec::new(),
        }
    }

    /// Runs each of these lists of tasks after each of these beginnings, with the seeds from 1 to `seeds`.
    ///
    /// # Panics
    /// If any fails.
    pub fn run_each(&self, beginnings: &[&[Op]], lists: &[&[&[Op]]], seeds: u64) {
        for (before, tasks) in
            beginnings.iter().flat_map(|before| lists.iter().map(move |tasks| (before, tasks)))
        {
            let tasks = tasks.iter().map(|ops| ops.to_vec()).collect();
            let scope = SmallScope { before: before.to_vec(), tasks, ..self.clone() };
            for seed in 1..=seeds {
                scope.run(seed).unwrap_or_else(|text| panic!("after {before:?}: {text}"));
            }
        }
    }

    /// Runs it with this seed and tries all subsets; how many disks were looked at.
    pub fn run(&self, seed: u64) -> std::result::Result<u64, String> {
        let report = |text: String| format!("{}, seed {seed}, {:?}: {text}", self.stack.name, self.tasks);
        self.run_seed(seed).map_err(report)
    }

    fn run_seed(&self, seed: u64) -> std::result::Result<u64, String> {
        let sim = Sim::boot(Config { seed, ..self.config }, Disk::default());
        let kept = Arc::new(Mutex::new(Moments::new(usize::MAX, Rng::new(seed))));
        let model = Arc::new(Mutex::new(Model::default()));
        let (stack, world, before, tasks) =
            (self.stack.clone(), sim.world().clone(), self.before.clone(), self.tasks.clone());
        let (book, seen, plants) = (model.clone(), kept.clone(), self.plants.clone());
        let result: Result<()> = sim.run(async move {
            let (initial, writes) = fill(&stack, Rng::new(seed)).await?;
            *book.lock() = Model::new(initial.len() as u64 * SECTOR, initial, writes);
            let guest = Guest::new(stack.open().await?, book, world.clone());
            for op in before {
                perform(&guest, &stack, &world, op).await?;
            }
            guest.flush().await?;
            plants.into_iter().for_each(|plant| world.plant(plant));
            world.watch_syncs(Some(Box::new(move |moment, disk| seen.lock().offer(moment, disk))));
            let tasks: Vec<_> = tasks
                .into_iter()
                .map(|ops| {
                    let (guest, stack, world) = (guest.clone(), stack.clone(), world.clone());
                    rt::spawn_on(rt::Target::LeastLoaded, async move {
                        for op in ops {
                            perform(&guest, &stack, &world, op).await?;
                        }
                        Ok::<(), BlockError>(())
                    })
                })
                .collect();
            for task in tasks {
                task.await.map_err(|e| BlockError::new(ErrorKind::Io, e.to_string()))??;
            }
            guest.flush().await?;
            world.watch_syncs(None);
            guest.close().await
        });
        sim.settle();
        result.map_err(|e| format!("{e}\n{}", sim.world().log().join("\n")))?;
        (self.inspect)(&self.stack, &sim.world().disk(), true)
            .map_err(|text| format!("after a clean close: {text}"))?;
        let (model, kept) = (model.lock(), kept.lock().take());
        kept.iter().map(|moment| self.subsets(&model, moment, seed)).sum()
    }

    fn subsets(&self, model: &Model, moment: &Moment, seed: u64) -> std::result::Result<u64, String> {
        let (stamp, disk) = (moment.stamp, &moment.disk);
        let cuts = Cuts::new(disk.pending(), self.most, Kinds::Both, seed ^ stamp);
        for cut in (0..cuts.count()).map(|number| cuts.get(number)) {
            let left = disk.after(cut);
            let judged = (self.inspect)(&self.stack, &left, false).and_then(|found| {
                let sizes = model.sizes_after_crash(stamp);
                if !sizes.contains(&(found.len() as u64)) {
                    return Err(format!(
                        "the disk has {} bytes, and should have one of {sizes:?}",
                        found.len()
                    ));
                }
                let seen: Vec<_> = found.chunks(SECTOR as usize).map(look).collect();
                model.after_crash(stamp, &seen)?;
                match model.snapshots.is_empty() {
                    true => Ok(()),
                    false => snapshots::after_crash(model, stamp, &snapshots_of(&self.stack, &left)?),
                }
            });
            judged.map_err(|text| {
                let effects = disk.pending_effects().into_iter().zip(disk.fates(cut));
                let lines: Vec<_> = effects.map(|(text, fate)| format!("\n    {fate} {text}")).collect();
                format!("{cut:?} at moment {stamp}: {text}{}", lines.concat())
            })?;
        }
        Ok(cuts.count())
    }
}
