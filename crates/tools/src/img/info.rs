//! `info`: what an image is, and what it stands on.
//!
//! Nothing but the image itself is opened: an image that nobody vouches for can't have other files read. With
//! `--backing-chain` each backing file is opened in the same way, by the name that the one above stores. Only `--partitions` opens
//! an image as its user would: what is on a disk is in all of its layers. With `--untrusted` not even the extents are opened that an
//! image consists of.

use super::Call;
use super::untrusted::{self, Untrusted};
use crate::console::{Console, printable};
use crate::failure::Failure;
use crate::flags::{self, Output, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Source};
use crate::show::Description;
use crate::usage::Manual;
use crate::{outln, partitions, runtime};
use api::{Encode, Enumeration, ImageContent, ImagePartition, Value};
use block::{BlockError, Identity, Policy};
use rt::confine::Access;

/// The longest chain that is listed.
const MAX_CHAIN: usize = 1024;

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help()],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        Flag::set("-b --backing-chain", "tell about the backing files too", |s| s.whole_chain = true),
        Flag::set(
            "-P --partitions",
            "tell of partitions and file systems too; opens the backing files, and needs the keys",
            |s| s.partitions = true,
        ),
        Flag::set("--limits", "tell what requests are to be: alignments, lengths", |s| s.limits = true),
        flags::source_cache("-t --cache", "cache mode (writeback)"),
        flags::force_share("look even while another process writes"),
        flags::output(),
        flags::object(),
    ],
    &untrusted::flags(),
];

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    output: Output,
    whole_chain: bool,
    partitions: bool,
    limits: bool,
    untrusted: Untrusted,
}

has_parts!(Args { source: Source, output: Output, untrusted: Untrusted });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            source: Source::named("").alone().without_content(),
            output: Output::default(),
            whole_chain: false,
            partitions: false,
            limits: false,
            untrusted: Untrusted::LOOK,
        }
    }
}

const MANUAL: Manual = Manual {
    synopsis: "[-f FMT | --image-opts] [--backing-chain] [--partitions] [--limits] [-U] [--output=human|json] FILE",
    about: "Tells what an image is.",
    operands: &[("FILE", "the image")],
    examples: &[
        ("disk.qcow2", "format, sizes and what the format adds"),
        ("--output=json --backing-chain disk.qcow2", "the whole chain for a script"),
    ],
    notes: untrusted::NOTES,
};

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    args.source.name = super::one_image(&operands)?;
    super::exclusive(&args.source)?;
    args.untrusted.judge(&mut args.source, Policy::DESCRIBE)?;
    if args.untrusted.is_on() && args.whole_chain {
        return Err(Failure::usage("--untrusted opens one image, and no --backing-chain"));
    }
    let files = [(args.source.name.as_str(), Access::Read)];
    args.untrusted.run(console, &call.name, &files, |console| {
        let mut list = Vec::new();
        let content = runtime::run(async {
            collect(&args, &mut list).await?;
            if args.partitions { content(&args).await.map(Some) } else { Ok(None) }
        })??;
        print(console, &list, args.output, args.whole_chain, content.as_ref());
        Ok(0)
    })
}

/// What is on the disk that the image and all that it stands on show.
async fn content(args: &Args) -> Result<ImageContent, Failure> {
    let policy = if args.untrusted.is_on() { Policy::WHOLE } else { Policy::FOLLOW };
    let image = image::open(&Source { policy, without_content: false, ..args.source.clone() }).await?;
    let found = partitions::look(&image.backend).await;
    let closed = image.close().await;
    let found = found.map_err(Failure::from)?;
    closed?;
    Ok(found)
}

async fn collect(args: &Args, list: &mut Vec<Shown>) -> Result<(), Failure> {
    let mut next = Some(args.source.clone());
    let mut seen = Vec::new();
    while let Some(source) = next.take() {
        if list.len() > MAX_CHAIN {
            let text =
                format_args!("'{}' is below more than {MAX_CHAIN} images; no more are listed", source.name);
            return Err(Failure::new(text));
        }
        let shown =
            look(&source, args.limits).await.map_err(|error| image::cannot_open(&source.name, &error))?;
        if shown.identity.as_ref().is_some_and(|identity| seen.contains(identity)) {
            return Err(Failure::new(format_args!(
                "Backing file '{}' creates an infinite loop.",
                source.name
            )));
        }
        if args.whole_chain
            && let Some((name, format)) = &shown.backing
        {
            let below = Source::named(name)
                .format(format.as_deref())
                .alone()
                .without_content()
                .force_share(source.force_share);
            next = Some(below);
        }
        seen.extend(shown.identity.clone());
        list.push(shown);
    }
    Ok(())
}

/// What is kept of an image after it was closed.
struct Shown {
    description: Description,
    backing: Option<(String, Option<String>)>,
    identity: Option<Identity>,
}

async fn look(source: &Source, limits: bool) -> Result<Shown, BlockError> {
    let graph = image::graph();
    let node = image::open_node(&graph, source).await?;
    let description = if limits { Description::with_limits(&node) } else { Description::of(&node) };
    let backing = description.backing().map(|(name, format)| (name.to_owned(), format.map(str::to_owned)));
    let identity = node.primary().and_then(|file| file.identity());
    graph.release(&node).await?;
    Ok(Shown { description, backing, identity })
}

fn print(
    console: &mut Console,
    list: &[Shown],
    output: Output,
    whole_chain: bool,
    content: Option<&ImageContent>,
) {
    if output == Output::Human {
        for (index, shown) in list.iter().enumerate() {
            if index > 0 {
                outln!(console);
            }
            shown.description.print(console);
            if let Some(content) = content.filter(|_| index == 0) {
                print_content(console, content);
            }
        }
        return;
    }
    let objects = list.iter().enumerate().map(|(index, shown)| {
        let mut object = shown.description.object();
        if let (Value::Dict(object), Some(content)) = (&mut object, content.filter(|_| index == 0)) {
            object.insert("content", content.encode());
        }
        object
    });
    let mut objects: Vec<_> = objects.collect();
    match objects.pop_if(|_| !whole_chain) {
        Some(alone) => console.json(&alone),
        None => console.json(&Value::List(objects)),
    }
}

fn print_content(console: &mut Console, content: &ImageContent) {
    let ImageContent { partition_table, partitions, filesystem } = content;
    let Some(table) = partition_table else {
        outln!(console, "Content: {}", filesystem.as_deref().unwrap_or("not known"));
        return;
    };
    outln!(console, "Partitions ({}):", table.name());
    for partition in partitions {
        let ImagePartition { number, start, length, kind, name, filesystem } = partition;
        let what = filesystem.as_deref().unwrap_or("-");
        let name = name.as_ref().map(|name| format!(" '{}'", printable(name))).unwrap_or_default();
        outln!(
            console,
            "    {number}: {what}{name}, {} from {start} on, type {kind}",
            crate::size::human(*length)
        );
    }
}
