//! `dd`: a part of an image into a new one, counted in blocks.
//!
//! `skip` blocks of the input are passed over first; `count` blocks are copied from there, as other programs of this
//! name do it.

use super::Call;
use crate::cache::Cache;
use crate::console::Console;
use crate::copy::{self, CopyRun};
use crate::creation::Creation;
use crate::failure::Failure;
use crate::flags::{self, Target, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::runtime;
use crate::usage::Manual;
use block::{CopyPlan, CopyZeroes, Endpoint, Graph};

/// Block size where none is given, in bytes.
const BLOCK: u64 = 512;

pub(super) const FLAGS: Table<Args> = &[&[
    Flag::help(),
    flags::format("-f --format", "format of the input; found by its content if left out"),
    flags::image_opts("--image-opts", "the input is a list of options, not a name"),
    flags::target_format("-O --output-format", "format of the output (raw)"),
    flags::force_share("read even while another process writes"),
    flags::object(),
]];

const MANUAL: Manual = Manual {
    synopsis: "[-f FMT | --image-opts] [-O FMT] [-U] [bs=SIZE] [count=BLOCKS] [skip=BLOCKS] if=INPUT of=OUTPUT",
    about: "Copies a part of an image into a new one.",
    operands: &[
        ("bs=SIZE", "bytes of a block (512)"),
        ("count=BLOCKS", "how many blocks are copied (all)"),
        ("skip=BLOCKS", "how many blocks of the input are passed over first (none)"),
        ("if=INPUT", "the image to read"),
        ("of=OUTPUT", "the image to make"),
    ],
    examples: &[(
        "-f qcow2 -O raw bs=1M skip=1 count=2 if=disk.qcow2 of=part.raw",
        "the second and third MiB",
    )],
    notes: "",
};

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    output: String,
    target: Target,
    block: u64,
    count: Option<u64>,
    skip: u64,
}

has_parts!(Args { source: Source, target: Target });

impl Args {
    pub(super) fn new() -> Args {
        let (source, target) = (Source::named(""), Target::default());
        Args { source, output: String::new(), target, block: BLOCK, count: None, skip: 0 }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    let max = i64::MAX as u64;
    for operand in &operands {
        match operand.split_once('=') {
            Some(("if", name)) => args.source.name = name.to_owned(),
            Some(("of", name)) => args.output = name.to_owned(),
            Some(("bs", text)) => args.block = super::bounded("bs", text, 1, i32::MAX as u64)?,
            Some(("count", text)) => args.count = Some(super::bounded("count", text, 0, max)?),
            Some(("skip", text)) => args.skip = super::bounded("skip", text, 0, max)?,
            Some((name, _)) => return Err(Failure::new(format_args!("unrecognized operand {name}"))),
            None => return Err(Failure::new(format_args!("unrecognized operand {operand}"))),
        }
    }
    if args.source.name.is_empty() || args.output.is_empty() {
        return Err(Failure::new("Must specify both input and output files"));
    }
    super::exclusive(&args.source)?;
    runtime::run(open_and_copy(console, &args))??;
    Ok(0)
}

async fn open_and_copy(console: &mut Console, args: &Args) -> Result<(), Failure> {
    let image = image::open(&args.source).await?;
    let result = copy(console, &image, args).await;
    image.close_after(console, result).await
}

async fn copy(console: &mut Console, image: &Image, args: &Args) -> Result<(), Failure> {
    let length = image.backend.length();
    let from = args.skip.saturating_mul(args.block);
    if from > length {
        console.error(format_args!("{}: cannot skip to specified offset", args.source.name));
    }
    let from = from.min(length);
    let most = args.count.map_or(u64::MAX, |count| count.saturating_mul(args.block));
    let len = most.min(length - from);
    // In the graph of the source, which refuses to make an image in a file that it has open.
    let graph = &image.graph;
    create(graph, args, len).await?;
    let name = &args.output;
    let format = Some(args.target.format());
    let options = args.target.options.to_open()?;
    let target = Source { options, ..Source::named(name).format(format).cache(Cache::UNSAFE).writable() };
    let opened = Image::open_in(graph, &target).await;
    let target = opened.map_err(|error| image::cannot_open(name, &error))?;
    let zeroes = if target.node().facts().grows_with_zeroes { CopyZeroes::Skip } else { CopyZeroes::Write };
    let plan = CopyPlan {
        from,
        zeroes,
        sparse: copy::SPARSE,
        ..CopyPlan::new(Endpoint::Entry(image.backend.clone()), Endpoint::Entry(target.backend.clone()))
    };
    let result = CopyRun::new(None, len).copy(plan, from..from + len, copy::PARALLEL).await;
    let closed = target.close().await;
    result.map_err(|failed| copy::failure(&failed, 0))?;
    Ok(closed?)
}

async fn create(graph: &Graph, args: &Args, len: u64) -> Result<(), Failure> {
    let name = &args.output;
    let mut creation = Creation::new(graph, args.target.format(), name, &args.target.options)?;
    creation.set_size(len);
    let made = creation.make(graph).await;
    made.map_err(|error| {
        let name = block::hide_passwords(name);
        Failure::new(format_args!("{name}: error while creating output image: {error}")).because(&error)
    })
}
