//! `convert`: images into a new or an existing one of another, or the same, format.

use super::{Call, seams};
use crate::cache::{self, Cache};
use crate::console::Console;
use crate::copy::{self, CopyRun, SPARSE};
use crate::creation::{self, Creation};
use crate::failure::Failure;
use crate::flags::{self, Backing, Target, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::progress::Progress;
use crate::size;
use crate::usage::Manual;
use crate::{progress, runtime};
use block::{
    BlockError, CopyError, CopyPlan, CopyStep, CopyZeroes, Endpoint, Existing, Graph, NamedBitmap, NewBitmap,
    Node, OnUnreadable, Perms, Request, Share, Unallocated,
};
use std::sync::Arc;

/// Longest run that `-S` may ask for, in bytes.
const MAX_SPARSE: u64 = 16 << 20;

/// What is said of a target that can't be compressed.
pub(super) const NO_COMPRESSION: &str = "Compression not supported for this file format";

/// What `-S` must be a multiple of.
const SECTOR: u64 = 512;

pub(super) const FLAGS: Table<Args> = &[&[
    Flag::help(),
    flags::quiet(),
    flags::progress(),
    flags::format("-f --source-format", "format of the source; found by its content if left out"),
    flags::image_opts("--source-image-opts --image-opts", "sources are lists of options, not names"),
    flags::snapshot("-l --source-snapshot", "read an internal snapshot, by id or name"),
    flags::source_cache("-T --source-cache", "cache mode of the source (writeback)"),
    flags::target_format("-O --target-format", "format of the target (raw)"),
    Flag::set("--target-image-opts", "the target is a list of options, not a name", |s| {
        s.target_opts = true;
    }),
    flags::target_options("-o --target-options", "options of the target; -o help lists them"),
    Flag::set("-c --compress", "compress the target", |s| s.compress = true),
    Flag::take("-t --target-cache", cache::MODES, "cache mode of the target (unsafe)", |s, mode| {
        s.target_cache = Cache::parse(mode).map_err(Failure::new)?;
        Ok(())
    }),
    flags::backing("-B --backing", "the target is an overlay on this image"),
    flags::backing_format("format of the backing file"),
    Flag::set("-n --no-create", "the target exists", |s| s.create = false),
    Flag::set("--target-is-zero", "the existing target reads as zeroes", |s| s.target_is_zero = true),
    Flag::take(
        "-S --sparse-size",
        "SIZE",
        "least run of zeroes that stays a hole (4k; 0: write all)",
        |s, text| {
            s.sparse = Some(sparse(text)?);
            Ok(())
        },
    ),
    Flag::set("--bitmaps", "copy the bitmaps of the one source too", |s| s.bitmaps = true),
    Flag::set("--skip-broken-bitmaps", "with --bitmaps: leave out what is inconsistent", |s| {
        s.skip_broken = true;
    }),
    flags::force_share("read even while another process writes"),
    Flag::take("-r --rate", "BYTES", "at most this many bytes a second", |s, text| {
        s.rate = Some(super::rate(text)?);
        Ok(())
    }),
    Flag::take("-m --parallel", "NUMBER", "pieces that are under way at once (8)", |s, text| {
        s.parallel = parallel(text)?;
        Ok(())
    }),
    Flag::set("-C --copy-range-offloading", "copy all data as it is, and look for no zeroes in it", |s| {
        s.as_it_is = true
    }),
    Flag::set("--salvage", "zeroes in place of what can't be read", |s| s.salvage = true),
    Flag::set("-W --oob-writes", "write pieces as they come, not in order", |s| s.out_of_order = true),
    flags::object(),
]];

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

#[derive(Debug)]
pub(super) struct Args {
    /// Names of the images to read.
    sources: Vec<String>,
    /// What holds for all of them.
    source: Source,
    /// Name of the image to make or to fill.
    output: String,
    target: Target,
    /// The target's name is a list of options.
    target_opts: bool,
    target_cache: Cache,
    create: bool,
    backing: Backing,
    target_is_zero: bool,
    compress: bool,
    sparse: Option<usize>,
    bitmaps: bool,
    skip_broken: bool,
    parallel: usize,
    rate: Option<u64>,
    salvage: bool,
    out_of_order: bool,
    /// Data is copied as it is, as if the storage did it.
    as_it_is: bool,
    verbosity: Verbosity,
}

has_parts!(Args { source: Source, target: Target, backing: Backing, verbosity: Verbosity });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            sources: Vec::new(),
            source: Source::named(""),
            output: String::new(),
            target: Target::default(),
            target_opts: false,
            target_cache: Cache::UNSAFE,
            create: true,
            backing: Backing::default(),
            target_is_zero: false,
            compress: false,
            sparse: None,
            bitmaps: false,
            skip_broken: false,
            parallel: copy::PARALLEL,
            rate: None,
            salvage: false,
            out_of_order: false,
            as_it_is: false,
            verbosity: Verbosity::default(),
        }
    }

    /// The target as it is opened to be filled.
    fn opened_target(&self) -> Source {
        let format = (!self.target_opts).then(|| self.target.format());
        let target = Source::named(&self.output).format(format).image_opts(self.target_opts);
        target.cache(self.target_cache).writable()
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    if args.target.options.wants_help() {
        let name = operands.last().filter(|_| operands.len() > 1);
        creation::option_help(console, args.target.format(), name.map(String::as_str))?;
        return Ok(0);
    }
    refuse_combinations(&args)?;
    let Some((output, sources)) = operands.split_last().filter(|(_, sources)| !sources.is_empty()) else {
        return Err(Failure::new("Must specify image file name"));
    };
    if sources.len() > 1 && args.source.snapshot.is_some() {
        return Err(Failure::new("No support for concatenating multiple snapshot"));
    }
    if sources.len() > 1 && args.backing.name.is_some() {
        return Err(Failure::new(
            "Having a backing file for the target makes no sense when concatenating multiple input images",
        ));
    }
    (args.sources, args.output) = (sources.to_vec(), output.clone());
    runtime::run(convert(console, &args))??;
    Ok(0)
}

/// Refuses what does not go together, and what is not here yet.
fn refuse_combinations(args: &Args) -> Result<(), Failure> {
    super::exclusive(&args.source)?;
    let together = [
        (
            args.target_opts && args.target.format.is_some(),
            "--target-image-opts and -O are mutually exclusive",
        ),
        (args.target_opts && args.create, "--target-image-opts requires use of -n flag"),
        (args.as_it_is && args.compress, "Cannot enable copy offloading when -c is used"),
        (args.as_it_is && args.sparse.is_some(), "Cannot enable copy offloading when -S is used"),
        (args.as_it_is && args.salvage, "Cannot use copy offloading in salvaging mode"),
        (args.target_is_zero && args.create, "--target-is-zero requires use of -n flag"),
        (args.skip_broken && !args.bitmaps, "Use of --skip-broken-bitmaps requires --bitmaps"),
        (!args.create && !args.target.options.is_empty(), "-o has no effect when skipping image creation"),
    ];
    match together.iter().find(|(given, _)| *given) {
        Some((_, why)) => Err(Failure::new(why)),
        None => Ok(()),
    }
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
    for name in &args.sources {
        let source = Source { name: name.clone(), ..args.source.clone() };
        let opened = match Image::open_in(&graph, &source).await {
            Ok(image) => {
                sources.push(image);
                keep_writers_out(&source, sources.last()).await
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
    let bitmaps = bitmaps_to_copy(console, args, sources)?;
    if args.create {
        create_target(graph, args, total).await?;
    }
    let mut source = args.opened_target();
    if args.create {
        source.options = args.target.options.to_open()?;
    }
    let target =
        Image::open_in(graph, &source).await.map_err(|error| image::cannot_open(&args.output, &error))?;
    let mut result = match args.bitmaps && !target.node().driver().info().bitmaps {
        true => {
            let driver = target.node().driver_name();
            Err(Failure::new(format_args!("Format driver '{driver}' does not support bitmaps")))
        }
        false => fill(console, args, sources, &target, total).await,
    };
    if result.is_ok() {
        result = copy_bitmaps(&bitmaps, &target.node());
    }
    let closed = target.close().await;
    result?;
    Ok(closed?)
}

/// The bitmaps that the one source keeps, the newest first, if they are asked for. Refuses before anything is made what can't
/// be copied.
fn bitmaps_to_copy(
    console: &mut Console,
    args: &Args,
    sources: &[Image],
) -> Result<Vec<Arc<NamedBitmap>>, Failure> {
    if !args.bitmaps {
        return Ok(Vec::new());
    }
    let [source] = sources else {
        return Err(Failure::new("Copying bitmaps only possible with single source"));
    };
    if !source.node().driver().info().bitmaps {
        return Err(Failure::new("Source lacks bitmap support"));
    }
    let mut copied = Vec::new();
    for bitmap in source.node().bitmaps().all().iter().rev().filter(|bitmap| bitmap.is_persistent()) {
        let name = bitmap.name();
        if bitmap.is_consistent() {
            copied.push(bitmap.clone());
        } else if args.skip_broken {
            console.warning(format_args!("Skipping inconsistent bitmap '{name}'"));
        } else {
            console.fail(&Failure::new(format_args!("Cannot copy inconsistent bitmap '{name}'")));
            console.note("Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it");
            return Err(Failure::silent(1));
        }
    }
    Ok(copied)
}

/// Has the target keep copies of these bitmaps.
fn copy_bitmaps(bitmaps: &[Arc<NamedBitmap>], target: &Arc<Node>) -> Result<(), Failure> {
    for bitmap in bitmaps {
        let new = NewBitmap {
            name: bitmap.name().to_owned(),
            granularity: Some(bitmap.bits().granularity()),
            persistent: true,
            enabled: bitmap.is_enabled(),
        };
        let copied = target.add_bitmap(new).and_then(|copy| {
            let merged = target.merge_bitmaps(&copy, std::slice::from_ref(bitmap));
            merged.inspect_err(|_| target.bitmaps().remove(&copy))
        });
        copied.map_err(|error| {
            Failure::new(format_args!("Failed to populate bitmap {}: {error}", bitmap.name())).because(&error)
        })?;
    }
    Ok(())
}

async fn create_target(graph: &Graph, args: &Args, total: u64) -> Result<(), Failure> {
    let format = args.target.format();
    let mut creation = Creation::new(graph, format, &args.output, &args.target.options)?;
    if args.compress {
        can_compress(graph, format, &creation)?;
    }
    creation.set_backing(args.backing.name.as_deref(), args.backing.format.as_deref())?;
    let backing = creation.text("backing_file").map(str::to_owned);
    let backing_format = creation.text("backing_fmt").map(str::to_owned);
    let mut base = None;
    match (&backing, &backing_format) {
        (Some(_), None) => return Err(Failure::new("Use of backing file requires explicit backing format")),
        (None, Some(_)) => return Err(Failure::new("Backing format cannot be used without backing file")),
        (Some(backing), Some(format)) => {
            let name = &args.output;
            let told = |error: BlockError| {
                let what = format_args!("Could not open '{name}': Could not open backing file: {error}");
                Failure::new(what).because(&error)
            };
            base = Some(creation::open_backing(graph, name, backing, Some(format), told).await?);
        }
        (None, None) => {}
    }
    if creation.size().is_none() {
        creation.set_size(total);
    }
    let made = creation.make(graph).await.map_err(|error| {
        let what = format_args!("{}: error while converting {format}: {error}", args.output);
        Failure::new(what).because(&error)
    });
    if let Some(base) = base {
        graph.release(&base).await?;
    }
    made
}

/// Refuses to compress what can't be, before a file is touched.
fn can_compress(graph: &Graph, format: &str, creation: &Creation) -> Result<(), Failure> {
    if !graph.registry().need(format)?.supports_compression {
        return Err(Failure::new(NO_COMPRESSION));
    }
    if creation.text("encrypt.format").is_some() || creation.is_on("encryption") {
        return Err(Failure::new("Compression and encryption not supported at the same time"));
    }
    if creation.text("preallocation").is_some_and(|mode| mode != "off") {
        return Err(Failure::new("Compression and preallocation not supported at the same time"));
    }
    Ok(())
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
    if args.compress && !node.facts().can_compress {
        return Err(Failure::new(NO_COMPRESSION));
    }
    // Without -B an existing target's own backing file is nothing to build on.
    let below = if args.create || args.backing.name.is_some() { node.backing() } else { None };
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
    let mut control = CopyRun::new(args.rate, total);
    let mut progress = Progress::new(console, args.verbosity);
    if progress.is_shown()
        && let Ok(data) = copy::Landmarks::of(sources.iter().map(|source| &source.backend), sparse == 0).await
    {
        control = control.by_data(data);
    }
    let warn = Arc::new(console.warner());
    let unreadable = |start| args.salvage.then(|| salvage(warn.clone(), start));
    let compress =
        (args.compress || node.facts().must_compress).then_some(node.facts().cluster_size).flatten();
    // What can't be read is left out by whole sectors, not clusters.
    let seams = compress.filter(|_| sources.len() > 1 && !args.salvage);
    let work = async {
        let mut start = 0;
        for source in sources {
            let entry = &source.backend;
            let place = start..start + entry.length();
            let range = seams.map_or(place.clone(), |unit| seams::between(place.clone(), unit, total));
            let plan = CopyPlan {
                from: range.start - start,
                to: range.start,
                existing: below.as_ref().map(|below| existing(&source.node(), below, args.create)),
                zeroes,
                sparse: if args.as_it_is { 0 } else { sparse },
                compress,
                out_of_order: args.out_of_order,
                on_unreadable: unreadable(start),
                ..CopyPlan::new(Endpoint::Entry(entry.clone()), Endpoint::Entry(target.backend.clone()))
            };
            control
                .copy(plan, range.start - start..range.end - start, args.parallel)
                .await
                .map_err(|failed| copy::failure(&failed, start))?;
            if let Some(seam) = seams.and_then(|unit| seams::at_end(place.clone(), unit, total)) {
                let copied = seams::copy(sources, &target.backend, seam, zeroes).await;
                copied.map_err(|failed| copy::failure(&failed, 0))?;
            }
            start = place.end;
        }
        // A new overlay that is larger than what it is made of shows nothing else behind its end.
        let end = below.as_ref().filter(|_| args.create).map_or(0, |below| below.length());
        let rest = end.min(target.backend.length()).saturating_sub(total);
        if rest > 0 {
            let zeroed = target.backend.write_zeroes(total, rest, Request::GUEST).await;
            zeroed.map_err(|error| {
                copy::failure(&CopyError { offset: total, step: CopyStep::Write, error }, 0)
            })?;
        }
        Ok(())
    };
    let result = progress::watch(console, &mut progress, &control.told, work, Result::is_ok).await;
    progress.end(console);
    result
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
    use super::super::faults::{content_of, disk_with, ensure, fail_each_request, image, overlay};
    use super::*;

    #[test]
    fn a_conversion_that_succeeds_shows_all_of_its_source() {
        let disk = disk_with(vec![image("/base"), overlay("/top")]);
        let before = content_of(&disk, "/top").unwrap();
        let old = |disk: &sim::Disk| ensure(content_of(disk, "/top")? == before, "the source has changed");
        let new =
            |disk: &sim::Disk| ensure(content_of(disk, "/new")? == before, "the target shows something else");
        let copy = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move {
                let args = Args {
                    sources: vec!["/top".to_owned()],
                    source: Source::named("").format(Some("qcow2")),
                    output: "/new".to_owned(),
                    target: Target { format: Some("qcow2".to_owned()), ..Target::default() },
                    target_cache: Cache::WRITEBACK,
                    ..Args::new()
                };
                convert(&mut console, &args).await
            })
        };
        fail_each_request("convert", &disk, copy, &old, &new);
    }
}
