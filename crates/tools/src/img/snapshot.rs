//! `snapshot`: internal snapshots of an image: listed, made, applied, deleted.

use super::Call;
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::usage::Manual;
use crate::{runtime, show};
use block::{BlockError, ErrorKind, NewSnapshot, Node, SnapshotName};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help(), flags::quiet()],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        flags::force_share("look even while another process writes"),
        flags::object(),
        Flag::attempt("-l --list", "list the snapshots (this is done if nothing else is asked for)", |s| {
            s.set(Action::List)
        }),
        Flag::take("-c --create", "SNAPSHOT", "make a snapshot of this name", |s, name| {
            s.set(Action::Create(name.to_owned()))
        }),
        Flag::take(
            "-a --apply",
            "SNAPSHOT",
            "make the disk what a snapshot, by id or name, shows",
            |s, name| s.set(Action::Apply(name.to_owned())),
        ),
        Flag::take("-d --delete", "SNAPSHOT", "delete the first snapshot of this name", |s, name| {
            s.set(Action::Delete(name.to_owned()))
        }),
    ],
];

const MANUAL: Manual = Manual {
    synopsis: "[-f FMT | --image-opts] [-l | -c|-a|-d SNAPSHOT] [-U] [-q] FILE",
    about: "Lists, makes, applies or deletes snapshots that are kept inside of an image.",
    operands: &[("FILE", "the image")],
    examples: &[
        ("-c before-upgrade disk.qcow2", "keeps what the disk is now"),
        ("-a before-upgrade disk.qcow2", "goes back to it; what was written since is lost"),
        ("disk.qcow2", "lists the snapshots"),
    ],
    notes: "The image must not be in use by another program.",
};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    List,
    Create(String),
    Apply(String),
    Delete(String),
}

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    verbosity: Verbosity,
    action: Option<Action>,
}

has_parts!(Args { source: Source, verbosity: Verbosity });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            source: Source::named("").alone().without_content(),
            verbosity: Verbosity::default(),
            action: None,
        }
    }

    fn set(&mut self, action: Action) -> Result<(), Failure> {
        match self.action.replace(action) {
            None => Ok(()),
            Some(_) => Err(Failure::usage("Cannot mix '-l', '-a', '-c', '-d'")),
        }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    args.source.name = super::one_image(&operands)?;
    super::exclusive(&args.source)?;
    let action = args.action.take().unwrap_or(Action::List);
    args.source.writable = action != Action::List;
    args.source.discard = args.source.writable;
    runtime::run(open_and_act(console, &args.source, &action))??;
    Ok(0)
}

async fn open_and_act(console: &mut Console, source: &Source, action: &Action) -> Result<(), Failure> {
    let image = image::open(source).await?;
    if image.guessed_raw && source.writable {
        image::warn_of_guess(console, &source.name);
    }
    let result = act(console, &image, action).await;
    image.close_after(console, result).await
}

async fn act(console: &mut Console, image: &Image, action: &Action) -> Result<(), Failure> {
    let (graph, node) = (&image.graph, image.node());
    match action {
        Action::List => {
            if let Some(keeper) = node.snapshot_keeper() {
                show::snapshots(console, "", &keeper.driver().info().snapshots);
            }
            Ok(())
        }
        Action::Create(name) => {
            let date = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            // Programs that read the list expect a count of nought instructions of what no machine was running.
            let new = NewSnapshot { name: name.clone(), date, icount: Some(0), ..NewSnapshot::default() };
            let created = graph.create_snapshot(&node, new, |_| Ok(())).await;
            created.map(drop).map_err(|error| failed("create", name, &error).because(&error))
        }
        Action::Apply(name) => {
            let applied = graph.apply_snapshot(&node, &SnapshotName::Any(name.clone())).await;
            found(applied.map_err(|error| failed("apply", name, &error).because(&error))?, "apply", name)
        }
        Action::Delete(name) => {
            if node.snapshot_keeper().is_none() {
                return found(false, "delete", name);
            }
            let which = SnapshotName::Named(name.clone());
            let before = count(&node, &which);
            let deleted = graph.delete_snapshot(&node, &which).await;
            if let Err(error) = &deleted
                && count(&node, &which) < before
            {
                // Scripts know these words for a snapshot that is gone while what it held is not.
                console.note(format_args!(
                    "{}_free_clusters failed: {}",
                    node.driver_name(),
                    error.strerror()
                ));
            }
            found(
                deleted.map_err(|error| failed("delete", name, &error).because(&error))?.is_some(),
                "delete",
                name,
            )
        }
    }
}

/// How many snapshots this may mean.
fn count(node: &Arc<Node>, which: &SnapshotName) -> usize {
    let keeper = node.snapshot_keeper();
    let all = keeper.map(|keeper| keeper.driver().info().snapshots).unwrap_or_default();
    all.iter().filter(|snapshot| which.find(std::slice::from_ref(*snapshot)).is_some()).count()
}

fn found(found: bool, what: &str, name: &str) -> Result<(), Failure> {
    match found {
        true => Ok(()),
        false => {
            Err(failed(what, name, &"snapshot not found").because(&BlockError::new(ErrorKind::NotFound, "")))
        }
    }
}

fn failed(what: &str, name: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format_args!("Could not {what} snapshot '{name}': {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::faults::{content_of, disk_with, ensure, fail_each_request, image, with_little_room};
    use super::*;
    use sim::Disk;
    use testkit::crash::snapshots_of;
    use testkit::stack::Stack;

    /// Does one thing with an image in `/base`.
    async fn perform(mut console: Console, action: Action) -> Result<(), Failure> {
        let source = Source::named("/base").format(Some("qcow2")).writable();
        open_and_act(&mut console, &source, &action).await
    }

    fn after(disk: &Disk, action: Action) -> Disk {
        let sim = sim::Sim::boot(sim::Config::seeded(5), disk.clone());
        assert!(sim.run(perform(Console::new("test"), action)).is_ok());
        sim.settle();
        sim.world().disk()
    }

    /// What the image shows, and each of its snapshots by name.
    type Shown = (Vec<u8>, Vec<(String, Vec<u8>)>);

    fn all_of(disk: &Disk) -> Result<Shown, String> {
        let stack = Stack::of("made", &[protocols::DRIVERS, formats::DRIVERS], vec![image("/base")]);
        Ok((content_of(disk, "/base")?, snapshots_of(&stack, disk)?))
    }

    fn try_each(
        name: &str,
        disk: &Disk,
        action: Action,
        run: fn(Console) -> rt::BoxFuture<'static, Result<(), Failure>>,
    ) {
        let (before, then) = (all_of(disk).unwrap(), all_of(&after(disk, action)).unwrap());
        assert_ne!(before, then);
        // A deletion that could not free what the snapshot held has failed, too.
        let old = |disk: &Disk| {
            let found = all_of(disk)?;
            ensure(found == before || name == "snapshot -d" && found == then, "something has changed")
        };
        let new = |disk: &Disk| ensure(all_of(disk)? == then, "it is not what it should be");
        fail_each_request(name, disk, run, &old, &new);
        with_little_room(disk, run, &old, &new);
    }

    #[test]
    fn what_fails_leaves_disk_and_snapshots_as_they_were_and_what_succeeds_is_done() {
        let one = || Action::Create("one".to_owned());
        let disk = disk_with(vec![image("/base")]);
        let create = |console| -> rt::BoxFuture<'static, _> {
            Box::pin(perform(console, Action::Create("one".to_owned())))
        };
        try_each("snapshot -c", &disk, one(), create);
        let with_two = after(&after(&disk, Action::Create("two".to_owned())), one());
        let sim = sim::Sim::boot(sim::Config::seeded(5), with_two);
        sim.run(async {
            let source = Source::named("/base").format(Some("qcow2")).writable();
            let image = Image::open(&source).await.unwrap();
            let data = rt::Buf::from_slice(&[9; 20 << 10]);
            image.backend.write(1000, data, block::Request::GUEST).await.unwrap();
            image.close().await.unwrap();
        });
        sim.settle();
        let disk = sim.world().disk();
        let apply = |console| -> rt::BoxFuture<'static, _> {
            Box::pin(perform(console, Action::Apply("one".to_owned())))
        };
        try_each("snapshot -a", &disk, Action::Apply("one".to_owned()), apply);
        let delete = |console| -> rt::BoxFuture<'static, _> {
            Box::pin(perform(console, Action::Delete("one".to_owned())))
        };
        try_each("snapshot -d", &disk, Action::Delete("one".to_owned()), delete);
    }
}
