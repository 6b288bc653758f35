//! `info`: what an image is, and what it stands on.
//!
//! Nothing but the image itself is opened: an image that nobody vouches for can't have other files read. With
//! `--backing-chain` each backing file is opened in the same way, by the name that the one above stores.

use super::Call;
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, Output, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Source};
use crate::show::Description;
use crate::usage::Manual;
use crate::{outln, runtime};
use api::Value;
use block::{BlockError, Identity};

/// The longest chain that is listed.
const MAX_CHAIN: usize = 1024;

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help()],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        Flag::set("-b --backing-chain", "tell about the backing files too", |s| s.whole_chain = true),
        flags::force_share("look even while another process writes"),
        flags::output(),
        flags::object(),
    ],
];

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    output: Output,
    whole_chain: bool,
}

has_parts!(Args { source: Source, output: Output });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            source: Source::named("").alone().without_content(),
            output: Output::default(),
            whole_chain: false,
        }
    }
}

const MANUAL: Manual = Manual {
    synopsis: "[-f FMT | --image-opts] [--backing-chain] [-U] [--output=human|json] FILE",
    about: "Tells what an image is.",
    operands: &[("FILE", "the image")],
    examples: &[
        ("disk.qcow2", "format, sizes and what the format adds"),
        ("--output=json --backing-chain disk.qcow2", "the whole chain for a script"),
    ],
    notes: "",
};

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    args.source.name = super::one_image(&operands)?;
    super::exclusive(&args.source)?;
    let mut list = Vec::new();
    runtime::run(collect(&args.source, args.whole_chain, &mut list))??;
    print(console, &list, args.output, args.whole_chain);
    Ok(0)
}

async fn collect(source: &Source, whole_chain: bool, list: &mut Vec<Shown>) -> Result<(), Failure> {
    let mut next = Some(source.clone());
    let mut seen = Vec::new();
    while let Some(source) = next.take() {
        if list.len() > MAX_CHAIN {
            let text =
                format_args!("'{}' is below more than {MAX_CHAIN} images; no more are listed", source.name);
            return Err(Failure::new(text));
        }
        let shown = look(&source).await.map_err(|error| image::cannot_open(&source.name, &error))?;
        if shown.identity.as_ref().is_some_and(|identity| seen.contains(identity)) {
            return Err(Failure::new(format_args!(
                "Backing file '{}' creates an infinite loop.",
                source.name
            )));
        }
        if whole_chain && let Some((name, format)) = &shown.backing {
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

async fn look(source: &Source) -> Result<Shown, BlockError> {
    let graph = image::graph();
    let node = image::open_node(&graph, source).await?;
    let description = Description::of(&node);
    let backing = description.backing().map(|(name, format)| (name.to_owned(), format.map(str::to_owned)));
    let identity = node.primary().and_then(|file| file.identity());
    graph.release(&node).await?;
    Ok(Shown { description, backing, identity })
}

fn print(console: &mut Console, list: &[Shown], output: Output, whole_chain: bool) {
    match (output, list) {
        (Output::Human, list) => {
            for (index, shown) in list.iter().enumerate() {
                if index > 0 {
                    outln!(console);
                }
                shown.description.print(console);
            }
        }
        (Output::Json, [shown]) if !whole_chain => {
            console.json(&shown.description.object());
        }
        (Output::Json, list) => {
            let objects = list.iter().map(|shown| shown.description.object()).collect();
            console.json(&Value::List(objects));
        }
    }
}
