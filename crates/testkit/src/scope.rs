//! Small scope, exhaustively: a few requests on tiny clusters, and after them every subset of what was not yet durable, at
//! every moment that matters.
//!
//! Between two syncs the set of effects that a power cut may lose only grows, and nothing new is promised to the guest: the
//! last moment before a sync takes effect has all subsets of the earlier ones among its own. Only those moments are tried.

use std::sync::Arc;

use block::{BlockError, ErrorKind, Result};
use parking_lot::Mutex;
use sim::{Config, Disk, Plant, Rng, Sim};

use crate::crash::{Inspect, fill};
use crate::guest::Guest;
use crate::model::Model;
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
    /// A write of zeroes that may give space up.
    Zero(u64, u64),
    /// A discard.
    Discard(u64, u64),
    /// A flush.
    Flush,
    /// A change of the size to so many sectors.
    Resize(u64),
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

/// The moments that matter.
#[derive(Default)]
struct Peaks {
    last: Option<(u64, Disk)>,
    kept: Vec<(u64, Disk)>,
}

impl Peaks {
    fn see(&mut self, moment: u64, disk: &Disk) {
        let fewer = |last: &(u64, Disk)| disk.pending() < last.1.pending();
        if let Some(peak) = self.last.take_if(|last| fewer(last)) {
            self.kept.push(peak);
        }
        self.last = Some((moment, disk.clone()));
    }
}

async fn perform(guest: &Guest, op: Op) -> Result<()> {
    let at = |sectors: u64| sectors * SECTOR;
    match op {
        Op::Read(first, count) => guest.read(at(first), at(count)).await,
        Op::Write(first, count) => guest.write(at(first), at(count), false).await,
        Op::Fua(first, count) => guest.write(at(first), at(count), true).await,
        Op::Zero(first, count) => guest.zero(at(first), at(count), true).await,
        Op::Discard(first, count) => guest.discard(at(first), at(count)).await,
        Op::Flush => guest.flush().await,
        Op::Resize(sectors) => guest.resize(at(sectors)).await,
    }
}

impl SmallScope {
    /// Runs it with this seed and tries all subsets; how many disks were looked at.
    pub fn run(&self, seed: u64) -> std::result::Result<u64, String> {
        let report = |text: String| format!("{}, seed {seed}, {:?}: {text}", self.stack.name, self.tasks);
        self.run_seed(seed).map_err(report)
    }

    fn run_seed(&self, seed: u64) -> std::result::Result<u64, String> {
        let sim = Sim::boot(Config { seed, ..self.config }, Disk::default());
        let (peaks, model) = (Arc::new(Mutex::new(Peaks::default())), Arc::new(Mutex::new(Model::default())));
        let (stack, world, before, tasks) =
            (self.stack.clone(), sim.world().clone(), self.before.clone(), self.tasks.clone());
        let (book, seen, plants) = (model.clone(), peaks.clone(), self.plants.clone());
        let result: Result<()> = sim.run(async move {
            let (initial, writes) = fill(&stack, Rng::new(seed)).await?;
            *book.lock() = Model::new(initial.len() as u64 * SECTOR, initial, writes);
            let guest = Guest::new(stack.open().await?, book, world.clone());
            for op in before {
                perform(&guest, op).await?;
            }
            guest.flush().await?;
            plants.into_iter().for_each(|plant| world.plant(plant));
            world.watch(Some(Box::new(move |moment, disk| seen.lock().see(moment, disk))));
            let tasks: Vec<_> = tasks
                .into_iter()
                .map(|ops| {
                    let guest = guest.clone();
                    rt::spawn_on(rt::Target::LeastLoaded, async move {
                        for op in ops {
                            perform(&guest, op).await?;
                        }
                        Ok::<(), BlockError>(())
                    })
                })
                .collect();
            for task in tasks {
                task.await.map_err(|e| BlockError::new(ErrorKind::Io, e.to_string()))??;
            }
            guest.flush().await?;
            world.watch(None);
            guest.close().await
        });
        sim.settle();
        result.map_err(|e| format!("{e}\n{}", sim.world().log().join("\n")))?;
        (self.inspect)(&self.stack, &sim.world().disk(), true)
            .map_err(|text| format!("after a clean close: {text}"))?;
        let (model, mut peaks) = (model.lock(), std::mem::take(&mut *peaks.lock()));
        peaks.kept.extend(peaks.last);
        let mut rng = Rng::new(seed);
        peaks.kept.iter().map(|(moment, disk)| self.subsets(&model, *moment, disk, &mut rng)).sum()
    }

    fn subsets(
        &self,
        model: &Model,
        moment: u64,
        disk: &Disk,
        rng: &mut Rng,
    ) -> std::result::Result<u64, String> {
        let all = 1u64.checked_shl(disk.pending() as u32).unwrap_or(u64::MAX);
        let count = all.min(self.most);
        for number in 0..count {
            let mask = if all <= self.most { number } else { rng.next_u64() };
            let after = disk.cut_keeping(|index| mask >> (index % 64) & 1 == 1);
            let judged = (self.inspect)(&self.stack, &after, false).and_then(|found| {
                let sizes = model.sizes_after_crash(moment);
                if !sizes.contains(&(found.len() as u64)) {
                    return Err(format!(
                        "the disk has {} bytes, and should have one of {sizes:?}",
                        found.len()
                    ));
                }
                let seen: Vec<_> = found.chunks(SECTOR as usize).map(look).collect();
                model.after_crash(moment, &seen)
            });
            judged.map_err(|text| {
                let effects = disk.pending_effects().into_iter().enumerate();
                let kept = |index: usize| if mask >> (index % 64) & 1 == 1 { "kept" } else { "lost" };
                let lines: Vec<_> =
                    effects.map(|(index, text)| format!("\n    {} {text}", kept(index))).collect();
                format!("power cut at moment {moment}: {text}{}", lines.concat())
            })?;
        }
        Ok(count)
    }
}
