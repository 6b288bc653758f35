//! Internal snapshots that are made, applied and deleted while a guest works, and what may be found of them.
//!
//! A snapshot shows what a read would have that began and ended with its making. Applying one is a write of all sectors with
//! what the snapshot shows, durable when it is acknowledged.

use block::{BlockError, ErrorKind, NewSnapshot, Result, SnapshotName};
use sim::World;

use crate::crash::snapshots_of;
use crate::guest::{Faults, Guest};
use crate::model::Model;
use crate::stack::Stack;
use crate::stamp::{SECTOR, Seen, look};

/// When something began, and when it ended, well or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// The moment it began.
    start: u64,
    /// The moment it ended, and whether it succeeded.
    end: Option<(u64, bool)>,
}

impl Span {
    /// Whether it was acknowledged by then.
    fn done_by(&self, moment: u64) -> bool {
        self.end.is_some_and(|(end, ok)| ok && end <= moment)
    }
}

/// What is known of one snapshot.
#[derive(Clone, Debug)]
pub struct Kept {
    name: String,
    made: Span,
    gone: Option<Span>,
}

/// Does `count` things with snapshots, one after the other.
pub async fn work(guest: Guest, stack: Stack, world: World, count: u64, faults: Faults) -> Result<()> {
    let mut rng = world.rng();
    let mut names: Vec<String> = Vec::new();
    for number in 0..count {
        for _ in 0..rng.below(12) {
            rt::yield_now().await;
        }
        let known = names.get(rng.index(names.len().max(1))).cloned();
        let done = match (rng.below(3), known) {
            (0, Some(name)) => apply(&guest, &stack, &world, &name).await,
            (1, Some(name)) => {
                names.retain(|other| *other != name);
                delete(&guest, &world, &name).await
            }
            _ => {
                let name = format!("s{number}");
                let icount = rng.chance(1, 2).then_some(7);
                let made = create(&guest, &world, &name, icount).await;
                names.extend(made.is_ok().then_some(name));
                made
            }
        };
        match done {
            // Counts have few bits.
            Err(error) if error.kind() == ErrorKind::Limit => {}
            Err(_) if faults != Faults::None => {}
            Err(error) => return Err(error.context("a snapshot")),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Makes a snapshot.
pub(crate) async fn create(guest: &Guest, world: &World, name: &str, icount: Option<u64>) -> Result<()> {
    let made = Span { start: world.stamp(), end: None };
    let at = {
        let mut model = guest.model.lock();
        model.snapshots.push(Kept { name: name.to_owned(), made, gone: None });
        model.snapshots.len() - 1
    };
    let new = NewSnapshot { name: name.to_owned(), icount, ..NewSnapshot::default() };
    let session = &guest.session;
    let result = session.graph.create_snapshot(&session.node, new, |_| Ok(())).await;
    let end = Some((world.stamp(), result.is_ok()));
    let mut model = guest.model.lock();
    if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Limit) {
        model.snapshots.truncate(at);
    } else {
        model.snapshots.iter_mut().skip(at).take(1).for_each(|kept| kept.made.end = end);
    }
    drop(model);
    result.map(drop)
}

/// Deletes a snapshot.
pub(crate) async fn delete(guest: &Guest, world: &World, name: &str) -> Result<()> {
    let span = |end| Span { start: world.stamp(), end };
    let mark = |gone: Span| {
        let mut model = guest.model.lock();
        model.snapshots.iter_mut().filter(|kept| kept.name == name).for_each(|kept| kept.gone = Some(gone));
    };
    let begun = span(None);
    mark(begun);
    let session = &guest.session;
    let which = SnapshotName::Named(name.to_owned());
    let result = session.graph.delete_snapshot(&session.node, &which).await;
    let result = result.and_then(|found| found.map(drop).ok_or_else(|| missing(name)));
    mark(Span { end: Some((world.stamp(), result.is_ok())), ..begun });
    result
}

/// Applies a snapshot.
pub(crate) async fn apply(guest: &Guest, stack: &Stack, world: &World, name: &str) -> Result<()> {
    let _turn = guest.resizing().await;
    let shown = snapshots_of(stack, &world.disk()).map_err(BlockError::corrupt)?;
    let (_, shown) = shown.into_iter().find(|(other, _)| other == name).ok_or_else(|| missing(name))?;
    let start = world.stamp();
    let seen: Vec<Seen> = shown.chunks(SECTOR as usize).map(look).collect();
    let become_it = guest.model.lock().begin_becoming(&seen, start);
    let session = &guest.session;
    let which = SnapshotName::Named(name.to_owned());
    let result = session.graph.apply_snapshot(&session.node, &which).await;
    let result = result.and_then(|found| if found { Ok(()) } else { Err(missing(name)) });
    guest.model.lock().end(become_it, world.stamp(), result.is_ok());
    result
}

fn missing(name: &str) -> BlockError {
    BlockError::new(ErrorKind::NotFound, format!("the snapshot {name} is not found"))
}

/// The name of the latest snapshot that was made and that nobody has begun to delete.
pub(crate) fn latest(model: &Model) -> Option<String> {
    let there = |kept: &&Kept| kept.gone.is_none() && kept.made.end.is_some_and(|(_, ok)| ok);
    model.snapshots.iter().rev().find(there).map(|kept| kept.name.clone())
}

/// What is wrong with the snapshots that were found after a crash at `moment`, if anything: names and content.
pub fn after_crash(
    model: &Model,
    moment: u64,
    found: &[(String, Vec<u8>)],
) -> std::result::Result<(), String> {
    for (name, shown) in found {
        let known = model.snapshots.iter().find(|kept| kept.name == *name && kept.made.start <= moment);
        let kept = known.ok_or_else(|| format!("there is a snapshot {name:?} that nobody made"))?;
        if kept.gone.is_some_and(|gone| gone.done_by(moment)) {
            return Err(format!("the snapshot {name} is there again"));
        }
        let seen: Vec<_> = shown.chunks(SECTOR as usize).map(look).collect();
        let end = kept.made.end.map_or(moment, |(end, _)| end.min(moment));
        model.read(kept.made.start, end, 0, &seen).map_err(|text| format!("in snapshot {name}: {text}"))?;
    }
    let must = |kept: &&Kept| kept.made.done_by(moment) && kept.gone.is_none_or(|gone| gone.start > moment);
    match model.snapshots.iter().filter(must).find(|kept| !found.iter().any(|(name, _)| *name == kept.name)) {
        Some(kept) => Err(format!("the snapshot {} is lost", kept.name)),
        None => Ok(()),
    }
}
