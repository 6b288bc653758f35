//! A guest: several tasks that read, write, zero, discard, flush and resize, and record each request in the model.

use std::sync::Arc;

use block::{BlockError, ErrorKind, Flags, Request, Result};
use parking_lot::Mutex;
use sim::{Rng, World};

use crate::model::{Effect, Model};
use crate::stack::Session;
use crate::stamp::{SECTOR, look, stamped};

/// How often each request comes, in parts of their sum.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Reads.
    pub read: u64,
    /// Writes.
    pub write: u64,
    /// Writes of zeroes.
    pub zero: u64,
    /// Discards.
    pub discard: u64,
    /// Flushes.
    pub flush: u64,
    /// Changes of the size.
    pub resize: u64,
    /// Writes that are durable when they are acknowledged, in percent of all writes.
    pub fua: u64,
    /// Writes that store whole clusters compressed, in percent of the others.
    pub compressed: u64,
}

impl Mix {
    /// All kinds of requests.
    pub const ALL: Mix =
        Mix { read: 4, write: 10, zero: 3, discard: 3, flush: 3, resize: 1, fua: 10, compressed: 0 };

    fn pick(&self, rng: &mut Rng) -> Step {
        let steps = [
            (self.read, Step::Read),
            (self.write, Step::Write),
            (self.zero, Step::Zero),
            (self.discard, Step::Discard),
            (self.flush, Step::Flush),
            (self.resize, Step::Resize),
        ];
        let mut left = rng.below(steps.iter().map(|(weight, _)| weight).sum());
        for (weight, step) in steps {
            if left < weight {
                return step;
            }
            left -= weight;
        }
        Step::Read
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Write,
    Zero,
    Discard,
    Flush,
    Resize,
}

/// What a guest does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Requests of each task.
    pub requests: u64,
    /// Tasks at once.
    pub depth: u64,
    /// Kinds of request.
    pub mix: Mix,
    /// Longest request in sectors.
    pub longest: u64,
    /// Sectors that requests keep to, from the start; the whole disk for 0. Few of them make many collisions.
    pub span: u64,
    /// Largest size in sectors that a resize asks for.
    pub largest: u64,
    /// What goes wrong meanwhile.
    pub faults: Faults,
}

/// What goes wrong while a guest works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Nothing: every request must succeed.
    None,
    /// Requests may fail.
    Some,
    /// The file system is full: writes may fail with ENOSPC, flushes may not.
    Full,
    /// Syncs may fail: requests may fail, and the page cache may have lost what a read looks for.
    Syncs,
}

/// A guest at its disk. Clones are the same guest.
#[derive(Clone)]
pub struct Guest {
    /// The opened stack.
    pub session: Session,
    /// What it did so far.
    pub model: Arc<Mutex<Model>>,
    world: World,
    /// Sizes change one after the other, so that the model knows the last.
    resizing: Arc<futures_util::lock::Mutex<()>>,
}

impl Guest {
    /// A guest at `session`, whose requests are recorded in `model`.
    pub fn new(session: Session, model: Arc<Mutex<Model>>, world: World) -> Guest {
        Guest { session, model, world, resizing: Arc::default() }
    }

    /// Runs a plan to its end.
    pub async fn run(&self, plan: Plan) -> Result<()> {
        let tasks: Vec<_> = (0..plan.depth)
            .map(|_| {
                let guest = self.clone();
                let mut rng = self.world.rng();
                rt::spawn_on(rt::Target::LeastLoaded, async move {
                    for _ in 0..plan.requests {
                        guest.step(&plan, &mut rng).await?;
                    }
                    Ok(())
                })
            })
            .collect();
        let mut result = Ok(());
        for task in tasks {
            let done = task.await.map_err(|e| BlockError::new(ErrorKind::Io, e.to_string()));
            result = result.and(done.and_then(|done| done));
        }
        result
    }

    async fn step(&self, plan: &Plan, rng: &mut Rng) -> Result<()> {
        let step = plan.mix.pick(rng);
        let size = self.session.backend.length() / SECTOR;
        let span = if plan.span == 0 { size } else { plan.span.min(size) };
        let first = rng.below(span);
        let sectors = (1 + rng.below(plan.longest)).min(span - first);
        let (offset, len) = (first * SECTOR, sectors * SECTOR);
        let result = match step {
            Step::Resize => self.resize(rng.below(plan.largest + 1) * SECTOR).await,
            Step::Flush => self.flush().await,
            _ if len == 0 => Ok(()),
            Step::Read if plan.faults == Faults::Syncs => self.session.read(offset, len).await.map(drop),
            Step::Read => self.read(offset, len).await,
            Step::Write if rng.chance(plan.mix.fua, 100) => self.write(offset, len, true).await,
            Step::Write if rng.chance(plan.mix.compressed, 100) => self.compress(offset, len).await,
            Step::Write => self.write(offset, len, false).await,
            Step::Zero => self.zero(offset, len, rng.chance(1, 2)).await,
            Step::Discard => self.discard(offset, len).await,
        };
        match result {
            // The disk was cut before the request was admitted.
            Err(e) if plan.mix.resize > 0 && e.kind() == ErrorKind::Invalid => Ok(()),
            Err(e) if plan.faults == Faults::Full => {
                let told = step != Step::Flush && e.kind() == ErrorKind::NoSpace;
                if told { Ok(()) } else { Err(e) }
            }
            Err(_) if plan.faults != Faults::None => Ok(()),
            result => result,
        }
    }

    /// Reads, and compares what is found with the model.
    #[expect(clippy::panic, reason = "a wrong answer is a failed test")]
    pub async fn read(&self, offset: u64, len: u64) -> Result<()> {
        let start = self.world.stamp();
        let bytes = self.session.read(offset, len).await?;
        let end = self.world.stamp();
        let seen: Vec<_> = bytes.chunks(SECTOR as usize).map(look).collect();
        let verdict = self.model.lock().read(start, end, offset / SECTOR, &seen);
        match verdict {
            Ok(()) => Ok(()),
            Err(text) => panic!("a read of {len} bytes at {offset:#x}: {text}"),
        }
    }

    /// Writes stamped sectors.
    pub async fn write(&self, offset: u64, len: u64, fua: bool) -> Result<()> {
        let (entry, write) = {
            let mut model = self.model.lock();
            let write = model.next_write();
            (model.begin(Effect::Write(write), offset, len, fua, self.world.stamp()), write)
        };
        let result = self.session.write(offset, &stamped(offset / SECTOR, len, write), fua).await;
        self.model.lock().end(entry, self.world.stamp(), result.is_ok());
        result
    }

    /// Writes stamped sectors, compressed: to all clusters that the range touches.
    pub async fn compress(&self, offset: u64, len: u64) -> Result<()> {
        let backend = &self.session.backend;
        let cluster = backend.node().facts().cluster_size.unwrap_or(SECTOR);
        let start = offset / cluster * cluster;
        let len = (offset + len).next_multiple_of(cluster).min(backend.length()).saturating_sub(start);
        let (entry, write) = {
            let mut model = self.model.lock();
            let write = model.next_write();
            (model.begin(Effect::Write(write), start, len, false, self.world.stamp()), write)
        };
        let data = rt::Buf::from_slice(&stamped(start / SECTOR, len, write));
        let result = backend.write(start, data, Request::GUEST.with(Flags::COMPRESSED)).await;
        self.model.lock().end(entry, self.world.stamp(), result.is_ok());
        result
    }

    /// Writes zeroes.
    pub async fn zero(&self, offset: u64, len: u64, unmap: bool) -> Result<()> {
        let entry = self.model.lock().begin(Effect::Zero, offset, len, false, self.world.stamp());
        let flags = Request::GUEST.with_if(unmap, Flags::MAY_UNMAP);
        let result = self.session.backend.write_zeroes(offset, len, flags).await;
        self.model.lock().end(entry, self.world.stamp(), result.is_ok());
        result
    }

    /// Discards.
    pub async fn discard(&self, offset: u64, len: u64) -> Result<()> {
        let entry = self.model.lock().begin(Effect::Discard, offset, len, false, self.world.stamp());
        let result = self.session.backend.discard(offset, len, Request::GUEST).await;
        self.model.lock().end(entry, self.world.stamp(), result.is_ok());
        result
    }

    /// Flushes.
    pub async fn flush(&self) -> Result<()> {
        let entry = self.model.lock().begin_flush(self.world.stamp());
        let result = self.session.backend.flush().await;
        self.model.lock().end(entry, self.world.stamp(), result.is_ok());
        result
    }

    /// The turn to change the size.
    pub(crate) async fn resizing(&self) -> futures_util::lock::OwnedMutexGuard<()> {
        self.resizing.clone().lock_owned().await
    }

    /// Changes the size.
    pub async fn resize(&self, size: u64) -> Result<()> {
        let _turn = self.resizing.lock().await;
        let entry = self.model.lock().begin_resize(size, self.world.stamp());
        let result = self.session.resize(size).await;
        self.model.lock().end(entry, self.world.stamp(), result.is_ok());
        result
    }

    /// Closes the stack. What was written is durable afterwards.
    pub async fn close(self) -> Result<()> {
        let entry = self.model.lock().begin_flush(self.world.stamp());
        let result = self.session.close().await;
        self.model.lock().end(entry, self.world.stamp(), result.is_ok());
        result
    }
}
