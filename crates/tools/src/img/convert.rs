//! `convert`: images into a new or an existing one of another, or the same, format.

use super::{Asked, Call};
use crate::cache::Cache;
use crate::console::Console;
use crate::copy::{self, Reins, SPARSE};
use crate::creation::{self, Creation, OptionList};
use crate::failure::Failure;
use crate::getopt::{Flag, Parsed};
use crate::image::{self, Image, Source};
use crate::progress::Progress;
use crate::size;
use crate::usage::Manual;
use crate::{object, progress, runtime};
use block::{
    CopyPlan, CopyStep, CopyZeroes, Endpoint, Existing, Graph, Node, OnUnreadable, Perms, Share, Unallocated,
    ZeroFlags,
};
use std::sync::Arc;

/// Longest run that `-S` may ask for, in bytes.
const MAX_SPARSE: u64 = 16 << 20;

/// What `-S` must be a multiple of.
const SECTOR: u64 = 512;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Help,
    Quiet,
    Progress,
    Format,
    SourceOpts,
    Snapshot,
    SourceCache,
    TargetFormat,
    TargetOpts,
    Options,
    Compress,
    TargetCache,
    Backing,
    BackingFormat,
    NoCreate,
    TargetIsZero,
    Sparse,
    Bitmaps,
    SkipBroken,
    ForceShare,
    Rate,
    Parallel,
    Offload,
    Salvage,
    OutOfOrder,
    Object,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::bare(Id::Help, Some('h'), Some("help"), "print this help"),
    Flag::bare(Id::Quiet, Some('q'), Some("quiet"), "print nothing but errors"),
    Flag::bare(Id::Progress, Some('p'), Some("progress"), "show how far it is"),
    Flag::valued(
        Id::Format,
        Some('f'),
        Some("source-format"),
        "FMT",
        "format of the source; found by its content if left out",
    ),
    Flag::bare(Id::SourceOpts, None, Some("source-image-opts"), "sources are lists of options, not names"),
    Flag::bare(Id::SourceOpts, None, Some("image-opts"), ""),
    Flag::valued(
        Id::Snapshot,
        Some('l'),
        Some("source-snapshot"),
        "SNAPSHOT",
        "read an internal snapshot (not yet)",
    ),
    Flag::valued(
        Id::SourceCache,
        Some('T'),
        Some("source-cache"),
        "MODE",
        "cache mode of the source (writeback)",
    ),
    Flag::valued(Id::TargetFormat, Some('O'), Some("target-format"), "FMT", "format of the target (raw)"),
    Flag::bare(
        Id::TargetOpts,
        None,
        Some("target-image-opts"),
        "the target is a list of options, not a name",
    ),
    Flag::valued(
        Id::Options,
        Some('o'),
        Some("target-options"),
        "OPTIONS",
        "options of the target; -o help lists them",
    ),
    Flag::bare(Id::Compress, Some('c'), Some("compress"), "compress the target (not yet)"),
    Flag::valued(
        Id::TargetCache,
        Some('t'),
        Some("target-cache"),
        "MODE",
        "cache mode of the target (unsafe)",
    ),
    Flag::valued(Id::Backing, Some('B'), Some("backing"), "FILE", "the target is an overlay on this image"),
    Flag::valued(Id::BackingFormat, Some('F'), Some("backing-format"), "FMT", "format of the backing file"),
    Flag::bare(Id::NoCreate, Some('n'), Some("no-create"), "the target exists"),
    Flag::bare(Id::TargetIsZero, None, Some("target-is-zero"), "the existing target reads as zeroes"),
    Flag::valued(
        Id::Sparse,
        Some('S'),
        Some("sparse-size"),
        "SIZE",
        "least run of zeroes that stays a hole (4k; 0: write all)",
    ),
    Flag::bare(Id::Bitmaps, None, Some("bitmaps"), "copy bitmaps too (not yet)"),
    Flag::bare(
        Id::SkipBroken,
        None,
        Some("skip-broken-bitmaps"),
        "with --bitmaps: leave out what is inconsistent",
    ),
    Flag::bare(Id::ForceShare, Some('U'), Some("force-share"), "read even while another process writes"),
    Flag::valued(Id::Rate, Some('r'), Some("rate"), "BYTES", "at most this many bytes a second"),
    Flag::valued(
        Id::Parallel,
        Some('m'),
        Some("parallel"),
        "NUMBER",
        "pieces that are under way at once (8)",
    ),
    Flag::bare(
        Id::Offload,
        Some('C'),
        Some("copy-range-offloading"),
        "copy all data as it is, and look for no zeroes in it",
    ),
    Flag::bare(Id::Salvage, None, Some("salvage"), "zeroes in place of what can't be read"),
    Flag::bare(Id::OutOfOrder, Some('W'), Some("oob-writes"), "write pieces as they come, not in order"),
    Flag::valued(Id::Object, None, Some("object"), "TYPE,id=ID,...", "make an object, such as a secret"),
];

const MANUAL: Manual = Manual {
    synopsis: "[OPTIONS] SOURCE [SOURCE...] TARGET",
    about: "Copies images, one after the other, into a new one.",
    operands: &[("SOURCE", "an image to read"), ("TARGET", "the image to make, or with -n to fill")],
    examples: &[
        ("-p -f raw -O qcow2 disk.raw disk.qcow2", "raw into qcow2, with progress"),
        ("-O raw overlay.qcow2 flat.raw", "a chain into one file"),
        ("-n -f qcow2 -O raw disk.qcow2 /dev/vg0/disk", "into an existing volume"),
    ],
    notes: "",
};

struct Args {
    sources: Vec<Source>,
    target: Source,
    create: bool,
    list: OptionList,
    backing: Option<String>,
    backing_format: Option<String>,
    target_is_zero: bool,
    sparse: Option<usize>,
    parallel: usize,
    rate: Option<u64>,
    salvage: bool,
    out_of_order: bool,
    /// Data is copied as it is, as if the storage did it.
    as_it_is: bool,
    shown: bool,
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Asked::Work(parsed) = call.parse(console, &MANUAL, FLAGS, Id::Help)? else { return Ok(0) };
    let Some(args) = read_args(console, &parsed)? else { return Ok(0) };
    runtime::run(convert(console, &args))??;
    Ok(0)
}

/// What the command line asks for; nothing if it was help on options.
fn read_args(console: &mut Console, parsed: &Parsed<Id>) -> Result<Option<Args>, Failure> {
    let mut source = Source::named("");
    let mut target = Source::named("").format(Some("raw")).cache(Cache::UNSAFE).writable();
    let mut args = Args {
        sources: Vec::new(),
        target: target.clone(),
        create: true,
        list: OptionList::default(),
        backing: None,
        backing_format: None,
        target_is_zero: false,
        sparse: None,
        parallel: copy::PARALLEL,
        rate: None,
        salvage: parsed.has(Id::Salvage),
        out_of_order: parsed.has(Id::OutOfOrder),
        as_it_is: parsed.has(Id::Offload),
        shown: parsed.has(Id::Progress) && !parsed.has(Id::Quiet),
    };
    let mut target_format = None;
    for (id, value) in &parsed.flags {
        match id {
            Id::Format => source.format = Some(value.clone()),
            Id::SourceOpts => source.image_opts = true,
            Id::SourceCache => {
                source.cache = Cache::parse_for("Invalid source cache option", value).map_err(Failure::new)?
            }
            Id::ForceShare => source.force_share = true,
            Id::TargetFormat => target_format = Some(value.clone()),
            Id::TargetOpts => target.image_opts = true,
            Id::TargetCache => target.cache = Cache::parse(value).map_err(Failure::new)?,
            Id::Options => args.list.add(value)?,
            Id::Backing => args.backing = Some(value.clone()),
            Id::BackingFormat => args.backing_format = Some(value.clone()),
            Id::NoCreate => args.create = false,
            Id::TargetIsZero => args.target_is_zero = true,
            Id::Sparse => args.sparse = Some(sparse(value)?),
            Id::Rate => args.rate = Some(super::rate(value)?),
            Id::Parallel => args.parallel = parallel(value)?,
            Id::Object => object::accept(value)?,
            _ => {}
        }
    }
    let format = target_format.clone().unwrap_or_else(|| "raw".to_owned());
    if args.list.wants_help() {
        let name = parsed.operands.last().filter(|_| parsed.operands.len() > 1);
        creation::option_help(console, &format, name.map(String::as_str))?;
        return Ok(None);
    }
    refuse_combinations(parsed, &args, target_format.is_some(), &source)?;
    let Some((last, names)) = parsed.operands.split_last().filter(|(_, names)| !names.is_empty()) else {
        return Err(Failure::new("Must specify image file name"));
    };
    if names.len() > 1 && args.backing.is_some() {
        return Err(Failure::new(
            "Having a backing file for the target makes no sense when concatenating multiple input images",
        ));
    }
    target.name = last.clone();
    target.format = (!target.image_opts).then_some(format);
    args.target = target;
    args.sources = names.iter().map(|name| Source { name: name.clone(), ..source.clone() }).collect();
    Ok(Some(args))
}

/// Refuses what does not go together, and what is not here yet.
fn refuse_combinations(
    parsed: &Parsed<Id>,
    args: &Args,
    format_given: bool,
    source: &Source,
) -> Result<(), Failure> {
    let refuse = |text: &str| Err(Failure::new(text));
    let has = |id| parsed.has(id);
    super::exclusive(source)?;
    if has(Id::TargetOpts) && format_given {
        return refuse("--target-image-opts and -O are mutually exclusive");
    }
    if has(Id::TargetOpts) && args.create {
        return refuse("--target-image-opts requires use of -n flag");
    }
    if has(Id::Offload) && has(Id::Compress) {
        return refuse("Cannot enable copy offloading when -c is used");
    }
    if has(Id::Offload) && has(Id::Sparse) {
        return refuse("Cannot enable copy offloading when -S is used");
    }
    if has(Id::Offload) && has(Id::Salvage) {
        return refuse("Cannot use copy offloading in salvaging mode");
    }
    if args.target_is_zero && args.create {
        return refuse("--target-is-zero requires use of -n flag");
    }
    if has(Id::SkipBroken) && !has(Id::Bitmaps) {
        return refuse("Use of --skip-broken-bitmaps requires --bitmaps");
    }
    if !args.create && !args.list.is_empty() {
        return refuse("-o has no effect when skipping image creation");
    }
    for (id, what) in [
        (Id::Compress, "a compressed target (-c)"),
        (Id::Snapshot, "an internal snapshot as source (-l)"),
        (Id::Bitmaps, "copying bitmaps (--bitmaps)"),
    ] {
        if has(id) {
            return Err(Failure::new(format_args!("{what} is not supported yet")));
        }
    }
    Ok(())
}

fn sparse(text: &str) -> Result<usize, Failure> {
    match size::parse(text) {
        Ok(size) if size <= MAX_SPARSE && size % SECTOR == 0 => Ok(size as usize),
        _ => Err(Failure::new(format_args!(
            "Invalid buffer size for sparse output specified. Valid sizes are multiples of {SECTOR} up to {MAX_SPARSE}. \
             Select 0 to disable sparse detection (fully allocates output)."
        ))),
    }
}

fn parallel(text: &str) -> Result<usize, Failure> {
    match text.parse() {
        Ok(number) if (1..=copy::MAX_PARALLEL).contains(&number) => Ok(number),
        _ => Err(Failure::new(format_args!(
            "Invalid number of coroutines specified. Must be between 1 and {}.",
            copy::MAX_PARALLEL
        ))),
    }
}

async fn convert(console: &mut Console, args: &Args) -> Result<(), Failure> {
    // One graph for all: it refuses to make the target in a file that it has open.
    let graph = image::graph();
    let mut sources = Vec::new();
    for source in &args.sources {
        let opened = match Image::open_in(&graph, source).await {
            Ok(image) => {
                sources.push(image);
                keep_writers_out(source, sources.last()).await
            }
            Err(error) => Err(image::cannot_open(&source.name, &error)),
        };
        if opened.is_err() {
            return image::close_all(sources).await.and(opened);
        }
    }
    let result = into_target(console, &graph, args, &sources).await;
    match result {
        Ok(()) => image::close_all_when_done(console, sources).await,
        Err(_) => _ = image::close_all(sources).await,
    }
    result
}

/// A copy of what another program writes meanwhile would be the image of no moment.
async fn keep_writers_out(source: &Source, image: Option<&Image>) -> Result<(), Failure> {
    let Some(image) = image.filter(|_| !source.force_share) else { return Ok(()) };
    let perms = Perms { share: Share::ALL.without(Share::WRITE), ..Perms::READER };
    let kept = image.graph.set_perms(&image.backend, perms).await;
    kept.map_err(|error| image::cannot_open(&source.name, &error))
}

async fn into_target(
    console: &mut Console,
    graph: &Graph,
    args: &Args,
    sources: &[Image],
) -> Result<(), Failure> {
    let total = sources.iter().try_fold(0u64, |sum, image| sum.checked_add(image.backend.length()));
    let Some(total) = total.filter(|total| i64::try_from(*total).is_ok()) else {
        return Err(Failure::new("the sources together are too large"));
    };
    if args.create {
        create_target(graph, args, total).await?;
    }
    let target = Image::open_in(graph, &args.target)
        .await
        .map_err(|error| image::cannot_open(&args.target.name, &error))?;
    let result = fill(console, args, sources, &target, total).await;
    let closed = target.close().await;
    result?;
    Ok(closed?)
}

async fn create_target(graph: &Graph, args: &Args, total: u64) -> Result<(), Failure> {
    let format = args.target.format.as_deref().unwrap_or_default();
    let mut creation = Creation::new(graph, format, &args.target.name, &args.list)?;
    creation.set_backing(args.backing.as_deref(), args.backing_format.as_deref())?;
    let backing = creation.text("backing_file").map(str::to_owned);
    let backing_format = creation.text("backing_fmt").map(str::to_owned);
    let mut base = None;
    match (&backing, &backing_format) {
        (Some(_), None) => return Err(Failure::new("Use of backing file requires explicit backing format")),
        (None, Some(_)) => return Err(Failure::new("Backing format cannot be used without backing file")),
        (Some(backing), Some(format)) => {
            let name = &args.target.name;
            let told = |error| {
                Failure::new(format_args!("Could not open '{name}': Could not open backing file: {error}"))
            };
            base = Some(creation::open_backing(graph, name, backing, Some(format), told).await?);
        }
        (None, None) => {}
    }
    if creation.size().is_none() {
        creation.set_size(total);
    }
    let made = creation.make(graph).await.map_err(|error| {
        Failure::new(format_args!("{}: error while converting {format}: {error}", args.target.name))
    });
    if let Some(base) = base {
        graph.release(&base).await?;
    }
    made
}

async fn fill(
    console: &mut Console,
    args: &Args,
    sources: &[Image],
    target: &Image,
    total: u64,
) -> Result<(), Failure> {
    if target.backend.length() < total {
        return Err(Failure::new("output file is smaller than input file"));
    }
    let node = target.node().skip_filters();
    // Without -B an existing target's own backing file is nothing to build on.
    let below = if args.create || args.backing.is_some() { node.backing() } else { None };
    let mut zeroed = args.target_is_zero || (args.create && node.facts().grows_with_zeroes);
    if !zeroed && below.is_none() && args.sparse != Some(0) {
        zeroed = copy::zero(&target.backend, total).await?;
    }
    let sparse = args.sparse.unwrap_or(SPARSE);
    let zeroes = match below {
        _ if sparse == 0 => CopyZeroes::Data,
        None if zeroed => CopyZeroes::Skip,
        _ => CopyZeroes::Write,
    };
    let (reins, mut progress) = (Reins::new(args.rate), Progress::new(args.shown));
    let warn = Arc::new(console.warner());
    let unreadable = |start| args.salvage.then(|| salvage(warn.clone(), start));
    let work = async {
        let mut start = 0;
        for source in sources {
            let entry = &source.backend;
            let plan = CopyPlan {
                to: start,
                existing: below.as_ref().map(|below| existing(&source.node(), below, args.create)),
                zeroes,
                sparse: if args.as_it_is { 0 } else { sparse },
                out_of_order: args.out_of_order,
                on_unreadable: unreadable(start),
                ..CopyPlan::new(Endpoint::Entry(entry.clone()), Endpoint::Entry(target.backend.clone()))
            };
            reins
                .copy(plan, 0..entry.length(), args.parallel)
                .await
                .map_err(|failed| copy::describe(&failed, start))?;
            start += entry.length();
        }
        // A new overlay that is larger than what it is made of shows nothing else behind its end.
        let end = below.as_ref().filter(|_| args.create).map_or(0, |below| below.length());
        let rest = end.min(target.backend.length()).saturating_sub(total);
        if rest > 0 {
            let zeroed = target.backend.write_zeroes(total, rest, ZeroFlags::default()).await;
            zeroed.map_err(|error| format!("error while writing at byte {total}: {}", error.strerror()))?;
        }
        Ok(())
    };
    let result = progress::watch(console, &mut progress, total, || reins.done(), work).await;
    progress.end(console);
    result.map_err(|text: String| Failure::new(text))
}

/// What an overlay on `below` shows without a copy. Only where a new one's backing image is a layer of the source, the
/// same file read in the same way, what the layers above do not hold is known to show; anything else is compared.
fn existing(source: &Arc<Node>, below: &Arc<Node>, new: bool) -> Existing {
    let next = |node: &Arc<Node>| node.skip_filters().backing();
    let own = next(source);
    let shared = std::iter::successors(own.clone(), next).find(|layer| new && layer.shows_what(below));
    let length = if new { below.length() } else { u64::MAX };
    match shared {
        Some(_) => Existing { base: shared, unallocated: Unallocated::Shown, length },
        None => Existing { base: own, unallocated: Unallocated::Compared, length },
    }
}

/// Tells at once what could not be read: zeroes are in its place.
fn salvage(warn: Arc<impl Fn(&str) + Send + Sync + 'static>, start: u64) -> OnUnreadable {
    Arc::new(move |error| {
        let (place, why) = (start + error.offset, error.error.strerror());
        let what = if error.step == CopyStep::Status { "block status at offset" } else { "offset" };
        warn(&format!("error while reading {what} {place}: {why}"));
    })
}

#[cfg(test)]
mod tests {
    use super::super::told::{image, made, overlay, shown, so, try_command};
    use super::*;

    #[test]
    fn a_conversion_that_is_told_done_shows_all_of_its_source() {
        let disk = made(vec![image("/base"), overlay("/top")]);
        let before = shown(&disk, "/top").unwrap();
        let old = |disk: &sim::Disk| so(shown(disk, "/top")? == before, "the source has changed");
        let new = |disk: &sim::Disk| so(shown(disk, "/new")? == before, "the target shows something else");
        let copy = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move {
                let args = Args {
                    sources: vec![Source::named("/top").format(Some("qcow2"))],
                    target: Source::named("/new").format(Some("qcow2")).cache(Cache::WRITEBACK).writable(),
                    create: true,
                    list: OptionList::default(),
                    backing: None,
                    backing_format: None,
                    target_is_zero: false,
                    sparse: None,
                    as_it_is: false,
                    parallel: copy::PARALLEL,
                    rate: None,
                    salvage: false,
                    out_of_order: false,
                    shown: false,
                };
                convert(&mut console, &args).await
            })
        };
        try_command("convert", &disk, copy, &old, &new);
    }
}
