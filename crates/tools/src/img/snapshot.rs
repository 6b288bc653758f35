//! `snapshot`: internal snapshots of an image: listed, made, applied, deleted.

use super::Call;
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::usage::Manual;
use crate::{runtime, show};
use block::{NewSnapshot, SnapshotName};
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
    let closed = image.close().await;
    result?;
    Ok(closed?)
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
            created.map(drop).map_err(|error| failed("create", name, &error))
        }
        Action::Apply(name) => {
            let applied = graph.apply_snapshot(&node, &SnapshotName::Any(name.clone())).await;
            found(applied.map_err(|error| failed("apply", name, &error))?, "apply", name)
        }
        Action::Delete(name) => {
            if node.snapshot_keeper().is_none() {
                return found(false, "delete", name);
            }
            let deleted = graph.delete_snapshot(&node, &SnapshotName::Named(name.clone())).await;
            found(deleted.map_err(|error| failed("delete", name, &error))?.is_some(), "delete", name)
        }
    }
}

fn found(found: bool, what: &str, name: &str) -> Result<(), Failure> {
    match found {
        true => Ok(()),
        false => Err(failed(what, name, &"snapshot not found")),
    }
}

fn failed(what: &str, name: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format_args!("Could not {what} snapshot '{name}': {error}"))
}
