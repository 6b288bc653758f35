//! `amend`: an image with other options of its format, or with other passphrases.

use super::Call;
use crate::console::Console;
use crate::creation::{self, OptionList};
use crate::failure::Failure;
use crate::flags::{self, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::progress::{Progress, Told};
use crate::usage::Manual;
use crate::{progress, runtime};

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help(), flags::quiet(), flags::progress()],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        flags::cache("-t --cache", "how the image is written (writeback)"),
        Flag::take("-o --options", "OPTIONS", "what to change; -o help lists the options", |s, list| {
            s.options.add(list)
        }),
        Flag::set(
            "--force",
            "do also what takes something away for good, such as the last passphrase",
            |s| {
                s.force = true;
            },
        ),
        flags::object(),
    ],
];

const MANUAL: Manual = Manual {
    synopsis: "[-p] [-q] [-f FMT | --image-opts] [-t CACHE] [--force] -o OPTIONS FILE",
    about: "Changes options of an image's format, or the passphrases of an encrypted image.",
    operands: &[("FILE", "the image")],
    examples: &[
        ("-f qcow2 -o compat=1.1,lazy_refcounts=on disk.qcow2", "an image of version 3, counted late"),
        (
            "--object secret,id=old,file=old.txt --object secret,id=new,file=new.txt \\\n      \
             -o state=active,new-secret=new --image-opts driver=luks,key-secret=old,file.filename=disk.luks",
            "one more passphrase",
        ),
        (
            "--object secret,id=old,file=old.txt -o state=inactive,old-secret=old \\\n      \
             --image-opts driver=luks,key-secret=old,file.filename=disk.luks",
            "a passphrase that opens the volume no more",
        ),
    ],
    notes: "",
};

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    verbosity: Verbosity,
    options: OptionList,
    force: bool,
}

has_parts!(Args { source: Source, verbosity: Verbosity });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            source: Source { discard: false, ..Source::named("").writable() },
            verbosity: Verbosity::default(),
            options: OptionList::default(),
            force: false,
        }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    if args.options.is_empty() {
        return Err(Failure::usage("Must specify options (-o)"));
    }
    if args.options.wants_help()
        && let Some(format) = &args.source.format
    {
        creation::amend_help(console, format)?;
        return Ok(0);
    }
    // Without a pointer to help: it may be help that was asked for.
    args.source.name = super::one_image(&operands).map_err(|failure| Failure::new(failure.message()))?;
    super::exclusive(&args.source)?;
    runtime::run(amend(console, &args))??;
    Ok(0)
}

async fn amend(console: &mut Console, args: &Args) -> Result<(), Failure> {
    let image = image::open(&args.source).await?;
    if args.options.wants_help() {
        let listed = creation::amend_help(console, image.node().driver_name());
        image.close().await.ok();
        return listed;
    }
    let mut progress = Progress::new(console, args.verbosity);
    let amended = apply(console, &image, args, &mut progress).await;
    progress.end(console);
    let closed = image.close().await.map_err(Failure::from);
    amended.and(closed)
}

async fn apply(
    console: &mut Console,
    image: &Image,
    args: &Args,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let node = image.node();
    let options = creation::amend_options(&node, &args.options)?;
    // In parts of a million: how much there is to do is known only on the way.
    const MILLION: u64 = 1_000_000;
    let told = Told::steps(MILLION);
    let on_progress = |part: u64, whole: u64| {
        told.set(part.saturating_mul(MILLION).checked_div(whole).unwrap_or(0).min(MILLION));
    };
    let graph = image.graph.clone();
    let force = args.force;
    let work = async { graph.amend(&node, options, force, &on_progress).await };
    let amended = progress::watch(console, progress, &told, work, Result::is_ok).await;
    Ok(amended?)
}
