//! `dd`: a part of an image into a new one, counted in blocks.
//!
//! `skip` blocks of the input are passed over first; `count` blocks are copied from there, as other programs of this
//! name do it.

use super::{Asked, Call};
use crate::cache::Cache;
use crate::console::Console;
use crate::copy::{self, Reins};
use crate::creation::{Creation, OptionList};
use crate::failure::Failure;
use crate::getopt::Flag;
use crate::image::{self, Image, Source};
use crate::usage::Manual;
use crate::{object, runtime};
use block::{CopyPlan, CopyZeroes, Endpoint, Graph};

/// Block size where none is given, in bytes.
const BLOCK: u64 = 512;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Help,
    Format,
    ImageOpts,
    TargetFormat,
    ForceShare,
    Object,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::bare(Id::Help, Some('h'), Some("help"), "print this help"),
    Flag::valued(
        Id::Format,
        Some('f'),
        Some("format"),
        "FMT",
        "format of the input; found by its content if left out",
    ),
    Flag::bare(Id::ImageOpts, None, Some("image-opts"), "the input is a list of options, not a name"),
    Flag::valued(Id::TargetFormat, Some('O'), Some("output-format"), "FMT", "format of the output (raw)"),
    Flag::bare(Id::ForceShare, Some('U'), Some("force-share"), "read even while another process writes"),
    Flag::valued(Id::Object, None, Some("object"), "TYPE,id=ID,...", "make an object, such as a secret"),
];

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

struct Args {
    source: Source,
    target: Source,
    block: u64,
    count: Option<u64>,
    skip: u64,
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Asked::Work(parsed) = call.parse(console, &MANUAL, FLAGS, Id::Help)? else { return Ok(0) };
    let mut args = Args {
        source: Source::named(""),
        target: Source::named("").format(Some("raw")).cache(Cache::UNSAFE).writable(),
        block: BLOCK,
        count: None,
        skip: 0,
    };
    for (id, value) in &parsed.flags {
        match id {
            Id::Help => {}
            Id::Format => args.source.format = Some(value.clone()),
            Id::ImageOpts => args.source.image_opts = true,
            Id::TargetFormat => args.target.format = Some(value.clone()),
            Id::ForceShare => args.source.force_share = true,
            Id::Object => object::accept(value)?,
        }
    }
    let max = i64::MAX as u64;
    for operand in &parsed.operands {
        match operand.split_once('=') {
            Some(("if", name)) => args.source.name = name.to_owned(),
            Some(("of", name)) => args.target.name = name.to_owned(),
            Some(("bs", text)) => args.block = super::bounded("bs", text, 1, i32::MAX as u64)?,
            Some(("count", text)) => args.count = Some(super::bounded("count", text, 0, max)?),
            Some(("skip", text)) => args.skip = super::bounded("skip", text, 0, max)?,
            Some((name, _)) => return Err(Failure::new(format_args!("unrecognized operand {name}"))),
            None => return Err(Failure::new(format_args!("unrecognized operand {operand}"))),
        }
    }
    if args.source.name.is_empty() || args.target.name.is_empty() {
        return Err(Failure::new("Must specify both input and output files"));
    }
    super::exclusive(&args.source)?;
    runtime::run(open_and_copy(console, &args))??;
    Ok(0)
}

async fn open_and_copy(console: &mut Console, args: &Args) -> Result<(), Failure> {
    let image = image::open(&args.source).await?;
    let result = copy(console, &image, args).await;
    match result {
        Ok(()) => image.close_when_done(console).await,
        Err(_) => _ = image.close().await,
    }
    result
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
    let opened = Image::open_in(graph, &args.target).await;
    let target = opened.map_err(|error| image::cannot_open(&args.target.name, &error))?;
    let zeroes = if target.node().facts().grows_with_zeroes { CopyZeroes::Skip } else { CopyZeroes::Write };
    let plan = CopyPlan {
        from,
        zeroes,
        sparse: copy::SPARSE,
        ..CopyPlan::new(Endpoint::Entry(image.backend.clone()), Endpoint::Entry(target.backend.clone()))
    };
    let result = Reins::new(None).copy(plan, from..from + len, copy::PARALLEL).await;
    let closed = target.close().await;
    result.map_err(|failed| Failure::new(copy::describe(&failed, 0)))?;
    Ok(closed?)
}

async fn create(graph: &Graph, args: &Args, len: u64) -> Result<(), Failure> {
    let name = &args.target.name;
    let format = args.target.format.as_deref().unwrap_or_default();
    let mut creation = Creation::new(graph, format, name, &OptionList::default())?;
    creation.set_size(len);
    let made = creation.make(graph).await;
    made.map_err(|error| Failure::new(format_args!("{name}: error while creating output image: {error}")))
}
