//! Laws of many requests at once, and of failures: an error at every operation of every kind, one at a time.
//!
//! After each: no panic, nothing stuck (a leaked lease or token would be reported as a deadlock), later
//! requests work or are refused as poisoned, the disk opens again with everything flushed, and nothing is corrupt.

use std::sync::Arc;

use block::{ErrorKind, Result};
use parking_lot::Mutex;
use sim::{ENOSPC, OpKind, Plant};

use super::{Made, Suite};
use crate::guest::{Faults, Guest, Mix, Plan};
use crate::model::Model;
use crate::stamp::{SECTOR, look};

const KINDS: [OpKind; 6] =
    [OpKind::Read, OpKind::Write, OpKind::Sync, OpKind::Allocate, OpKind::SetLen, OpKind::Open];
/// Most operations of a kind that are failed one by one; of more, a spread of them.
const MOST: u64 = 60;

/// What is found after a failure.
struct After {
    /// How the first request after it ended.
    later: Option<ErrorKind>,
    /// The disk as it is opened again.
    bytes: Vec<u8>,
}

impl Suite {
    fn model(&self, made: &Made) -> Arc<Mutex<Model>> {
        let size = made.initial.len() as u64 * SECTOR;
        Arc::new(Mutex::new(Model::new(size, made.initial.clone(), made.writes)))
    }

    /// Overlapping requests of all kinds at once: every read is explained, and so is the end.
    pub(super) fn requests_at_once(&self, made: &Made, seed: u64) {
        let (sim, model) = (self.boot(&made.disk, seed), self.model(made));
        let (stack, world) = (self.stack.clone(), sim.world().clone());
        let mix = Mix { resize: if stack.resizes { 1 } else { 0 }, ..Mix::ALL };
        let sectors = made.initial.len() as u64;
        let span = if seed.is_multiple_of(2) { 24 } else { 0 };
        let plan = Plan {
            requests: 14,
            depth: 6,
            mix,
            longest: 12,
            span,
            largest: sectors * 3 / 2,
            faults: Faults::None,
        };
        let keeps_data = stack.keeps_data;
        let result: Result<()> = sim.run(async move {
            let session = stack.open().await?;
            if keeps_data {
                let guest = Guest::new(session, model, world);
                guest.run(plan).await?;
                guest.read(0, guest.session.backend.length()).await?;
                guest.close().await
            } else {
                session.close().await
            }
        });
        sim.settle();
        if let Err(text) = result.map_err(|e| e.to_string()).and_then(|()| self.sound(&sim)) {
            panic!(
                "{}, seed {seed}: requests at once: {text}\n{}",
                self.stack.name,
                sim.world().log().join("\n")
            );
        }
    }

    pub(super) fn errors_at_every_operation(&self, made: &Made, seed: u64) {
        for kind in KINDS {
            let count = self.with_failure(made, seed, None).map(|(_, count)| count(kind));
            let count = count
                .unwrap_or_else(|text| panic!("{}, seed {seed}: without a failure: {text}", self.stack.name));
            for k in (0..count).step_by(count.div_ceil(MOST).max(1) as usize) {
                for errno in self.errnos.iter().copied() {
                    let told = |text| {
                        let name = &self.stack.name;
                        format!("{name}, seed {seed}: {kind:?} {k} fails with errno {errno}: {text}")
                    };
                    let done = self.with_failure(made, seed, Some(Plant::nth_of(kind, k, errno)));
                    let judged = done.and_then(|(after, _)| self.judge_failure(kind, errno, after.later));
                    judged.unwrap_or_else(|text| panic!("{}", told(text)));
                }
            }
        }
    }

    /// Lack of space must not poison, except in a sync; what is refused later must be refused as poisoned.
    fn judge_failure(
        &self,
        kind: OpKind,
        errno: i32,
        later: Option<ErrorKind>,
    ) -> std::result::Result<(), String> {
        match later {
            None => Ok(()),
            Some(ErrorKind::Poisoned) if errno != ENOSPC || kind == OpKind::Sync => Ok(()),
            // The page cache has lost what is read again to be joined with the new data.
            Some(ErrorKind::Corrupt) if kind == OpKind::Sync => Ok(()),
            Some(kind) => Err(format!("later requests fail with {kind:?}")),
        }
    }

    /// Runs a guest with one failure planted; what is found after it, and how many operations of each kind there were.
    fn with_failure(
        &self,
        made: &Made,
        seed: u64,
        plant: Option<Plant>,
    ) -> std::result::Result<(After, impl Fn(OpKind) -> u64 + use<>), String> {
        let (sim, model) = (self.boot(&made.disk, seed), self.model(made));
        let (stack, world, book) = (self.stack.clone(), sim.world().clone(), model.clone());
        let mix = Mix { resize: if stack.resizes { 1 } else { 0 }, flush: 5, ..Mix::ALL };
        let syncs = plant.as_ref().is_some_and(|plant| plant.kinds.contains(&OpKind::Sync));
        let faults = match (&plant, stack.keeps_data) {
            (None, true) => Faults::None,
            (Some(_), true) if !syncs => Faults::Some,
            _ => Faults::Syncs,
        };
        let sectors = made.initial.len() as u64;
        let plan =
            Plan { requests: 9, depth: 3, mix, longest: 20, span: 0, largest: sectors * 5 / 4, faults };
        plant.into_iter().for_each(|plant| sim.world().plant(plant));
        let found: Result<After> = sim.run(async move {
            let session = match stack.open().await {
                Ok(session) => session,
                Err(_) => {
                    // The failure hit the open; without it there must be none.
                    world.unplant();
                    stack.open().await?
                }
            };
            let guest = Guest::new(session, book, world.clone());
            guest.run(plan).await?;
            world.unplant();
            let written = guest.write(0, SECTOR.min(guest.session.backend.length()), false).await;
            let later = written.and(guest.flush().await).err().map(|e| e.kind());
            // Its error was reported already, or it is refused as poisoned.
            let closed = guest.close().await;
            if later.is_none() {
                closed?;
            }
            let session = stack.open().await?;
            let bytes = session.read(0, session.backend.length()).await?;
            session.close().await?;
            Ok(After { later, bytes })
        });
        sim.settle();
        let after = found.map_err(|e| e.to_string())?;
        if self.stack.keeps_data {
            let seen: Vec<_> = after.bytes.chunks(SECTOR as usize).map(look).collect();
            model.lock().after_crash(sim.world().stamp(), &seen)?;
        }
        if let Some(inspect) = self.inspect {
            inspect(&self.stack, &sim.world().disk(), false)?;
        }
        let world = sim.world().clone();
        Ok((after, move |kind| world.count(Some(kind))))
    }
}
