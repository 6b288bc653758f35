//! The crash test: a guest works, the disk is kept at chosen moments, and from each of them the machine dies in several
//! ways. Whatever is found afterwards must be allowed by the model.
//!
//! ```text
//! create ─▶ guest at work ──▶ moments kept ──▶ power cut │ kill ──▶ independent reader: structure, every sector
//!                                                            └─────▶ the driver: open, check, read all, work, close, check
//! ```

use std::ops::Range;
use std::sync::Arc;

use block::{BlockError, ErrorKind, Repair, Result};
use crash::moments::Moments;
use parking_lot::Mutex;
use rt::BoxFuture;
use sim::{Config, Disk, Plant, Rng, Sim, World};

use crate::files;
use crate::guest::{Faults, Guest, Plan};
use crate::long::{number, on_all_cores};
use crate::model::Model;
use crate::snapshots;
use crate::stack::{Session, Stack};
use crate::stamp::{SECTOR, Seen, look, stamped};

/// An independent reader of a stack's files: the guest's bytes, or what is wrong. `settled`: it was closed cleanly and is
/// not open.
pub type Inspect = fn(&Stack, &Disk, settled: bool) -> std::result::Result<Vec<u8>, String>;

/// Something that runs beside a guest, given the guest's session and the world.
pub type Beside = fn(Session, World) -> BoxFuture<'static, Result<()>>;

/// A kind of crash test: its name, and what it makes of a seed.
pub type Kind<'a> = (&'a str, &'a (dyn Fn(u64) -> CrashTest + Sync));

/// Changes the files of a stack that is not open.
pub type Prepare = fn(&Stack, &mut Disk) -> std::result::Result<(), String>;

/// A crash test.
#[derive(Clone)]
pub struct CrashTest {
    /// The stack.
    pub stack: Stack,
    /// What the guest does.
    pub plan: Plan,
    /// The simulated machine, except its seed.
    pub config: Config,
    /// The independent reader.
    pub inspect: Option<Inspect>,
    /// Another reader, tried if what `inspect` shows is not allowed: the guest may work on another image by then.
    pub or_inspect: Option<Inspect>,
    /// What runs beside the guest.
    pub beside: Option<Beside>,
    /// Changes the files after they were made and filled, before the guest starts.
    pub prepare: Option<Prepare>,
    /// The top's file has no space for its zeroes when the guest starts.
    pub sparse: bool,
    /// Free bytes of the file system when the guest starts; `None`: unlimited.
    pub room: Option<u64>,
    /// Faults planted when the guest starts.
    pub faults: Vec<Plant>,
    /// The size is kept by one sector of metadata; otherwise a crash may leave any size between the last durable and later
    /// ones, as a file's length does.
    pub exact_size: bool,
    /// Moments kept of each run.
    pub moments: usize,
    /// Crashes from each moment.
    pub crashes: usize,
    /// Of so many crashes one is opened by the driver: none for 0, all for 1.
    pub reopen_every: usize,
    /// How many things are done with internal snapshots beside the guest.
    pub snapshots: u64,
}

/// What a crash test did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Crashes looked at.
    pub crashes: usize,
    /// Of them, opened by the driver and worked with.
    pub reopened: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.crashes += other.crashes;
        self.reopened += other.reopened;
    }
}

/// The moments kept.
type Kept = Arc<Mutex<Moments>>;

/// How the machine died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    PowerCut,
    Kill,
}

impl CrashTest {
    /// A test of a stack whose size is kept by its metadata, without an independent reader, without faults: 20 moments, 2
    /// crashes from each, every fifth opened by the driver.
    pub fn new(stack: Stack, plan: Plan) -> Self {
        Self {
            stack,
            plan,
            config: Config::seeded(0),
            inspect: None,
            or_inspect: None,
            beside: None,
            prepare: None,
            sparse: false,
            room: None,
            faults: Vec::new(),
            exact_size: true,
            moments: 20,
            crashes: 2,
            reopen_every: 5,
            snapshots: 0,
        }
    }

    /// The same in a long run: more moments, more crashes from each. Where the driver opens some of them, it opens fewer;
    /// where it opens all of them, which takes fifty times as long as a look, there are no more crashes from each moment.
    fn long(self) -> Self {
        let (more, reopen_every) = match self.reopen_every {
            0 => (16, 0),
            1 => (1, 1),
            _ => (16, 50),
        };
        Self { moments: 5 * self.moments, crashes: more * self.crashes, reopen_every, ..self }
    }

    /// Runs it with this seed. The error says everything that is needed to run it again.
    pub fn run(&self, seed: u64) -> std::result::Result<Tally, String> {
        let report = |text: String| format!("crash test of {}, seed {seed}: {text}", self.stack.name);
        self.run_seed(seed).map_err(report)
    }

    fn run_seed(&self, seed: u64) -> std::result::Result<Tally, String> {
        let mut rng = Rng::new(seed);
        let (disk, initial, writes) = self.make(&mut rng)?;
        let model = Arc::new(Mutex::new(Model::new(self.stack.size(), initial, writes)));
        let moments = Moments::new(self.moments, rng.fork());
        let (kept, sim) = (Arc::new(Mutex::new(moments)), self.boot(&mut rng, disk));
        let worked = self.work(&sim, &model, &kept);
        if self.faults.is_empty() {
            worked?;
        }
        let (model, kept, settled) = (model.lock(), kept.lock().take(), sim.world().disk());
        if self.faults.is_empty() {
            let closed = |text| format!("after a clean close: {text}");
            let found = self.look(&settled, true).map_err(closed)?;
            self.judge(&model, sim.world().stamp(), found.as_deref()).map_err(closed)?;
            self.judge_snapshots(&model, sim.world().stamp(), &settled).map_err(closed)?;
        }
        let last = (sim.world().stamp(), settled);
        let mut tally = Tally::default();
        for (moment, disk) in kept.into_iter().map(|kept| (kept.stamp, kept.disk)).chain([last]) {
            for _ in 0..self.crashes {
                let death = if rng.chance(1, 3) { Death::Kill } else { Death::PowerCut };
                let dead = match death {
                    Death::Kill => disk.kill(&mut rng),
                    Death::PowerCut => disk.power_cut(&mut rng),
                };
                let report = |text| format!("{death:?} at moment {moment}: {text}");
                let pending =
                    || format!("\nnot yet durable then:\n    {}", disk.pending_effects().join("\n    "));
                let crashed = self.crashed(&model, moment, dead, &mut rng, tally.crashes);
                tally += crashed.map_err(|text| report(text) + &pending())?;
            }
        }
        Ok(tally)
    }

    fn boot(&self, rng: &mut Rng, disk: Disk) -> Sim {
        Sim::boot(Config { seed: rng.next_u64(), ..self.config }, disk)
    }

    /// Makes the images and fills the lower ones: the disk, what the top's sectors are, and how many writes that took.
    fn make(&self, rng: &mut Rng) -> std::result::Result<(Disk, Vec<Seen>, u64), String> {
        let sim = self.boot(rng, Disk::default());
        let (stack, rng_below) = (self.stack.clone(), rng.fork());
        let (initial, writes) =
            sim.run(async move { fill(&stack, rng_below).await }).map_err(|e| format!("making: {e}"))?;
        let mut disk = sim.world().disk();
        drop(sim);
        if let Some(prepare) = self.prepare {
            prepare(&self.stack, &mut disk)?;
        }
        if self.sparse {
            disk.make_sparse(files::top_name(&self.stack)?);
        }
        Ok((disk, initial, writes))
    }

    fn work(&self, sim: &Sim, model: &Arc<Mutex<Model>>, kept: &Kept) -> std::result::Result<(), String> {
        let (stack, plan, world) = (self.stack.clone(), self.plan, sim.world().clone());
        let (book, moments, faults) = (model.clone(), kept.clone(), self.faults.clone());
        let (beside, room, snapshots, own) = (self.beside, self.room, self.snapshots, self.stack.clone());
        let result: Result<()> = sim.run(async move {
            let session = stack.open().await?;
            world.watch(Some(Box::new(move |moment, disk| moments.lock().offer(moment, disk))));
            world.limit_room(room);
            faults.into_iter().for_each(|plant| world.plant(plant));
            let guest = Guest::new(session, book, world.clone());
            let kept = (snapshots > 0).then(|| {
                let its = snapshots::work(guest.clone(), own, world.clone(), snapshots, plan.faults);
                rt::spawn(its)
            });
            let beside = beside.map(|beside| rt::spawn(beside(guest.session.clone(), world)));
            let mut worked = guest.run(plan).await;
            for beside in kept.into_iter().chain(beside) {
                let done = beside.await.map_err(|e| BlockError::new(ErrorKind::Io, e.to_string()));
                worked = worked.and(done.and_then(|done| done));
            }
            worked.and(guest.close().await)
        });
        sim.settle();
        sim.world().watch(None);
        sim.world().unplant();
        result.map_err(|e| format!("at work: {e}\n{}", sim.world().log().join("\n")))
    }

    /// Compares a guest disk with the model, if there is a disk.
    fn judge(&self, model: &Model, moment: u64, found: Option<&[u8]>) -> std::result::Result<(), String> {
        let Some(found) = found else { return Ok(()) };
        let (sizes, size) = (model.sizes_after_crash(moment), found.len() as u64);
        let between = sizes.iter().any(|s| *s <= size) && sizes.iter().any(|s| size <= *s);
        if !sizes.contains(&size) && (self.exact_size || !between) {
            return Err(format!("the disk has {size} bytes, and should have one of {sizes:?}"));
        }
        let seen: Vec<_> = found.chunks(SECTOR as usize).map(look).collect();
        model.after_crash(moment, &seen)
    }

    /// Compares internal snapshots with what is known of them.
    fn judge_snapshots(&self, model: &Model, moment: u64, disk: &Disk) -> std::result::Result<(), String> {
        if self.snapshots == 0 {
            return Ok(());
        }
        snapshots::after_crash(model, moment, &snapshots_of(&self.stack, disk)?)
    }

    fn look(&self, disk: &Disk, settled: bool) -> std::result::Result<Option<Vec<u8>>, String> {
        self.inspect.map(|inspect| inspect(&self.stack, disk, settled)).transpose()
    }

    fn crashed(
        &self,
        model: &Model,
        moment: u64,
        disk: Disk,
        rng: &mut Rng,
        nth: usize,
    ) -> std::result::Result<Tally, String> {
        let looked = self.look(&disk, false).and_then(|found| self.judge(model, moment, found.as_deref()));
        match (looked, self.or_inspect) {
            (Ok(()), _) => {}
            (Err(text), None) => return Err(text),
            (Err(text), Some(inspect)) => {
                let found = inspect(&self.stack, &disk, false);
                let judged = found.and_then(|found| self.judge(model, moment, Some(&found)));
                judged.map_err(|other| format!("{text}\nnor instead: {other}"))?;
            }
        }
        self.judge_snapshots(model, moment, &disk)?;
        let mut tally = Tally { crashes: 1, reopened: 0 };
        if self.reopen_every > 0 && nth.is_multiple_of(self.reopen_every) {
            self.reopened(model, moment, disk, rng).map_err(|text| format!("opened again: {text}"))?;
            tally.reopened = 1;
        }
        Ok(tally)
    }

    /// Opens what a crash left with the driver, reads all of it, checks it, works with it, and checks it again.
    fn reopened(
        &self,
        model: &Model,
        moment: u64,
        disk: Disk,
        rng: &mut Rng,
    ) -> std::result::Result<(), String> {
        let sim = self.boot(rng, disk);
        let (stack, world) = (self.stack.clone(), sim.world().clone());
        let found: Result<Vec<u8>> = sim.run(async move {
            let session = stack.open().await?;
            let found = session.read(0, session.backend.length()).await?;
            sound(&session, "the first check").await?;
            Guest::new(session, Arc::default(), world).close().await?;
            Ok(found)
        });
        let found = found.map_err(|e| e.to_string())?;
        self.judge(model, moment, Some(&found))?;
        let size = found.len() as u64;
        let initial = found.chunks(SECTOR as usize).map(look).collect();
        let book = Arc::new(Mutex::new(Model::new(size, initial, model.last_write())));
        let (theirs, stack, world) = (book.clone(), self.stack.clone(), sim.world().clone());
        let plan = Plan { requests: 3, faults: Faults::None, ..self.plan };
        let result: Result<()> = sim.run(async move {
            let guest = Guest::new(stack.open().await?, theirs, world);
            guest.run(plan).await?;
            guest.read(0, guest.session.backend.length()).await?;
            sound(&guest.session, "the check after more work").await?;
            guest.close().await
        });
        sim.settle();
        result.map_err(|e| format!("at work again: {e}"))?;
        let found =
            self.look(&sim.world().disk(), false).map_err(|text| format!("after more work: {text}"))?;
        self.judge(&book.lock(), sim.world().stamp(), found.as_deref())
            .map_err(|text| format!("after more work: {text}"))
    }
}

/// Fails unless the format's own check finds nothing but leaks.
async fn sound(session: &Session, which: &str) -> Result<()> {
    session.backend.flush().await?;
    match session.check(Repair::No).await {
        Some(report) => {
            let report = report?;
            let fine = report.corruptions == 0 && report.check_errors == 0;
            if fine { Ok(()) } else { Err(BlockError::corrupt(format!("{which}: {:?}", report.messages))) }
        }
        None => Ok(()),
    }
}

/// Makes the images of a stack and writes to all of them, the lowest first.
pub(crate) async fn fill(stack: &Stack, mut rng: Rng) -> Result<(Vec<Seen>, u64)> {
    stack.create().await?;
    let (mut seen, mut write) = (vec![Seen::Zero; (stack.size() / SECTOR) as usize], 0);
    for image in stack.images.iter().filter(|_| stack.filled) {
        let session = stack.open_image(image).await?;
        let sectors = image.size / SECTOR;
        if !session.node.facts().grows_with_zeroes {
            // What a new image shows is what its file holds, read in some way: noise, where it is decrypted.
            session.write(0, &vec![0; image.size as usize], false).await?;
        }
        for _ in 0..rng.below(6) {
            write += 1;
            let first = rng.below(sectors);
            let count = (1 + rng.below(sectors / 2 + 1)).min(sectors - first);
            session.write(first * SECTOR, &stamped(first, count * SECTOR, write), false).await?;
            for (sector, slot) in (0..).zip(&mut seen).skip(first as usize).take(count as usize) {
                *slot = Seen::Stamp { sector, write };
            }
        }
        session.backend.flush().await?;
        session.close().await?;
    }
    Ok((seen, write))
}

/// The independent reader of a raw image in a file.
pub fn inspect_raw(stack: &Stack, disk: &Disk, _settled: bool) -> std::result::Result<Vec<u8>, String> {
    files::top(stack, disk)
}

/// Where [`share_with_snapshot`] leaves what the snapshot shows.
const SNAPSHOT: &str = "/snapshot";

/// Gives the top image an internal snapshot: every cluster is shared with it, and it must never change.
pub fn share_with_snapshot(stack: &Stack, disk: &mut Disk) -> std::result::Result<(), String> {
    let shown = inspect_qcow2(stack, disk, false)?;
    let mut bytes = files::top(stack, disk)?;
    crate::qcow2::add_snapshot(&mut bytes)?;
    disk.put(files::top_name(stack)?, &bytes);
    disk.put(SNAPSHOT, &shown);
    Ok(())
}

/// The independent reader of a qcow2 image and the chain below it.
pub fn inspect_qcow2(stack: &Stack, disk: &Disk, settled: bool) -> std::result::Result<Vec<u8>, String> {
    flatten(disk, files::top_name(stack)?, settled)
}

/// The same as [`inspect_qcow2`] of images of version 2, where nothing tells that COPIED and counts may disagree after a crash.
pub fn inspect_qcow2_v2(stack: &Stack, disk: &Disk, settled: bool) -> std::result::Result<Vec<u8>, String> {
    layers(disk, files::top_name(stack)?, settled, settled).map(|(shown, _)| shown)
}

/// Names of the internal snapshots of the top image, and what each shows.
pub fn snapshots_of(stack: &Stack, disk: &Disk) -> std::result::Result<Vec<(String, Vec<u8>)>, String> {
    let (_, below) = layers(disk, files::top_name(stack)?, false, false)?;
    crate::qcow2::read_snapshots(&files::top(stack, disk)?, &below)
}

/// What an image shows, with the chain that the headers name below it; or what is wrong in any of them. `settled`: the image
/// was closed cleanly.
pub fn flatten(disk: &Disk, file: &str, settled: bool) -> std::result::Result<Vec<u8>, String> {
    layers(disk, file, settled, true).map(|(shown, _)| shown)
}

/// What an image shows, and what the chain below it does. `copied`: COPIED and counts agree, where no dirty bit says
/// that they need not.
fn layers(
    disk: &Disk,
    file: &str,
    settled: bool,
    copied: bool,
) -> std::result::Result<(Vec<u8>, Vec<u8>), String> {
    let chain = files::chain(disk, file, |bytes| Ok(crate::qcow2::backing_of(bytes)))?;
    let (mut below, mut lower) = (Vec::new(), Vec::new());
    for (depth, (file, bytes)) in chain.iter().enumerate().rev() {
        if !crate::qcow2::is_qcow2(bytes) {
            lower = std::mem::replace(&mut below, bytes.clone());
            continue;
        }
        sane(bytes, settled && depth == 0, copied).map_err(|text| format!("{file}:\n    {text}"))?;
        let over: &[u8] = if depth + 1 < chain.len() { &below } else { &[] };
        if let Some(shown) = disk.content(SNAPSHOT).filter(|_| depth == 0)
            && crate::qcow2::read_snapshots(bytes, over)?
                .first()
                .is_none_or(|(_, now)| *now != shown.to_vec())
        {
            return Err("the internal snapshot has changed".to_owned());
        }
        let shown = match crate::qcow2::data_file_of(bytes) {
            Some(data) => crate::qcow2::read_with_data(bytes, over, &files::content(disk, &data)?)?,
            None => crate::qcow2::read(bytes, over)?,
        };
        lower = std::mem::replace(&mut below, shown);
    }
    Ok((below, lower))
}

/// Whether nothing harmful is found in an image; after a clean close, nothing at all.
fn sane(bytes: &[u8], settled: bool, copied: bool) -> std::result::Result<(), String> {
    let found = crate::qcow2::inspect(bytes)?;
    let mut wrong = found.corruptions;
    wrong.extend(found.copied.into_iter().filter(|_| copied && !found.dirty));
    if found.corrupt {
        wrong.push("the corrupt bit is set".to_owned());
    }
    if settled {
        wrong.extend(found.dirty.then(|| "the dirty bit is set after a clean close".to_owned()));
        let leaks =
            (!found.leaks.is_empty()).then(|| format!("clusters {:?} leak after a clean close", found.leaks));
        wrong.extend(leaks);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n    ")) }
}

/// The seeds of a test: `count` from 1 on, or what the environment asks for: `NAME_SEED` one seed, or the first, `NAME_COUNT`
/// so many.
pub fn seeds(name: &str, count: u64) -> Range<u64> {
    let alone = number(name, "SEED");
    let count = number(name, "COUNT").unwrap_or(if alone.is_some() { 1 } else { count });
    let first = alone.unwrap_or(1);
    first..first.saturating_add(count)
}

/// Runs the crash tests that `test` makes of seeds: `NAME_SEED` in the environment runs one seed alone, `NAME_COUNT` so
/// many instead of `count`. `NAME_POINTS` makes it a long run, from that seed on until so many crashes were looked at: each
/// run of a guest is kept at more moments, and more ways to crash are tried at each.
///
/// # Panics
/// If any fails; the message has what is needed to run it again.
pub fn run_seeds(name: &str, count: u64, test: impl Fn(u64) -> CrashTest + Sync) {
    run_kinds(name, count, &[("all", &test)]);
}

/// The same with several kinds of test by turns: one seed after the other goes to the next kind. Prints how many crashes
/// each of them had.
///
/// # Panics
/// If any fails; the message has what is needed to run it again.
pub fn run_kinds(name: &str, count: u64, kinds: &[Kind<'_>]) {
    let points = number(name, "POINTS");
    let seeds = match points {
        Some(_) => seeds(name, count).start..u64::MAX,
        None => seeds(name, count),
    };
    let tallies: Vec<_> = kinds.iter().map(|_| Mutex::new(Tally::default())).collect();
    let all: Vec<_> = kinds.iter().zip(&tallies).collect();
    let done = on_all_cores(name, seeds, points.unwrap_or(u64::MAX), |seed| {
        let (turn, nth) = (seed / all.len() as u64, seed % all.len() as u64);
        let ((kind, test), tally) = all.get(nth as usize).ok_or("there are no kinds of test")?;
        let test = if points.is_some() { test(turn).long() } else { test(turn) };
        let done = test.run(turn).map_err(|text| format!("{kind}: {text}"))?;
        *tally.lock() += done;
        Ok(done.crashes as u64)
    });
    for ((kind, _), tally) in &all {
        let Tally { crashes, reopened } = *tally.lock();
        println!("{kind}: {crashes} crashes looked at, {reopened} of them opened again");
    }
    if let Some((seed, text)) = done.failures.first() {
        let seeds: Vec<_> = done.failures.iter().map(|(seed, _)| seed).collect();
        let long = if points.is_some() { format!(" {name}_POINTS=1") } else { String::new() };
        panic!(
            "{text}\n{} of {} seeds fail: {seeds:?}; {name}_SEED={seed}{long} runs the first alone",
            done.failures.len(),
            done.pieces
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Mix;

    #[test]
    fn a_long_run_has_the_driver_open_no_crash_that_it_must_not_and_each_that_nobody_else_looks_at() {
        let plan = Plan {
            requests: 1,
            depth: 1,
            mix: Mix::ALL,
            longest: 1,
            span: 0,
            largest: 0,
            faults: Faults::None,
        };
        for (reopen_every, in_long_run) in [(0, 0), (1, 1), (12, 50)] {
            let test = CrashTest { reopen_every, ..CrashTest::new(Stack::of("", &[], Vec::new()), plan) };
            assert_eq!(test.long().reopen_every, in_long_run);
        }
    }
}
