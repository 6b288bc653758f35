//! `convert`: images into a new or an existing one of another, or the same, format.

mod bitmaps;
mod fill;
mod journal;
mod ledger;
mod share;
mod target;
mod verify;

use super::Call;
use super::untrusted::{self, Untrusted};
use crate::cache::{self, Cache};
use crate::console::Console;
use crate::copy::{self, Stop};
use crate::failure::Failure;
use crate::flags::{self, Backing, Target, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::usage::Manual;
use crate::{creation, runtime, size};
use api::{Dict, ToolErrorCode, Value};
use bitmaps::{bitmaps_to_copy, copy_bitmaps};
use block::{Graph, Policy, SnapshotName};
use fill::Filling;
use journal::Journal;
use ledger::Ledger;
use rt::confine::Access;
use rt::signal::{INTERRUPT, TERMINATE};
use std::sync::Arc;
use target::{create_target, give_back_leaks};
use verify::{Difference, Proven};

/// Longest run that `-S` may ask for, in bytes.
const MAX_SPARSE: u64 = 16 << 20;

/// What is said of a target that can't be compressed.
pub(super) const NO_COMPRESSION: &str = "Compression not supported for this file format";

/// What `-S` must be a multiple of.
const SECTOR: u64 = 512;

pub(super) const FLAGS: Table<Args> = &[COPYING, &untrusted::flags()];

const COPYING: &[Flag<Args>] = &[
    Flag::help(),
    flags::quiet(),
    flags::progress(),
    flags::format("-f --source-format", "format of the source; found by its content if left out"),
    flags::image_opts("--source-image-opts --image-opts", "sources are lists of options, not names"),
    flags::snapshot("-l --source-snapshot --snapshot", "read an internal snapshot, by id or name"),
    flags::source_cache("-T --source-cache", "cache mode of the source (writeback)"),
    flags::target_format("-O --target-format", "format of the target (raw)"),
    Flag::set("--target-image-opts", "the target is a list of options, not a name", |s| {
        s.target_opts = true;
    }),
    flags::target_options(
        "-o --target-options --target-format-options",
        "options of the target; -o help lists them",
    ),
    Flag::set("-c --compress", "compress the target", |s| s.compress = true),
    Flag::take(
        "-t --target-cache",
        cache::MODES,
        "cache mode of the target (unsafe; with --journal or --verify writeback)",
        |s, mode| {
            s.target_cache = Some(Cache::parse(mode).map_err(Failure::new)?);
            Ok(())
        },
    ),
    flags::backing("-B --backing -b", "the target is an overlay on this image"),
    flags::backing_format("-F --backing-format", "format of the backing file"),
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
    Flag::take("-r --rate --rate-limit", "BYTES", "at most this many bytes a second", |s, text| {
        s.rate = Some(super::rate(text)?);
        Ok(())
    }),
    Flag::take("-m --parallel", "NUMBER", "pieces that are under way at once (8)", |s, text| {
        s.parallel = parallel(text)?;
        Ok(())
    }),
    Flag::set(
        "-C --copy-range-offloading",
        "share or copy all data as it is, and look for no zeroes in it",
        |s| s.as_it_is = true,
    ),
    Flag::set("--salvage", "zeroes in place of what can't be read", |s| s.salvage = true),
    Flag::set("-W --oob-writes", "write pieces as they come, not in order", |s| s.out_of_order = true),
    Flag::take(
        "--journal",
        "FILE",
        "note in FILE what is done: cut off, the same command goes on",
        |s, name| {
            s.journal = Some(name.to_owned());
            Ok(())
        },
    ),
    Flag::set("--verify", "read the target back and prove that it is the source", |s| s.verify = true),
    flags::object(),
];

const MANUAL: Manual = Manual {
    synopsis: "[OPTIONS] SOURCE [SOURCE...] TARGET",
    about: "Copies images, one after the other, into a new one.",
    operands: &[("SOURCE", "an image to read"), ("TARGET", "the image to make, or with -n to fill")],
    examples: &[
        ("-p -f raw -O qcow2 disk.raw disk.qcow2", "raw into qcow2, with progress"),
        ("-O raw overlay.qcow2 flat.raw", "a chain into one file"),
        ("-n -f qcow2 -O raw disk.qcow2 /dev/vg0/disk", "into an existing volume"),
        (
            "--journal copy.journal --verify -O qcow2 disk.raw disk.qcow2",
            "goes on where it was cut off, and proves the copy",
        ),
    ],
    notes: untrusted::NOTES,
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
    /// `None`: none was given.
    target_cache: Option<Cache>,
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
    /// Where what is done is noted.
    journal: Option<String>,
    /// The target is read back.
    verify: bool,
    verbosity: Verbosity,
    untrusted: Untrusted,
}

has_parts!(Args {
    source: Source,
    target: Target,
    backing: Backing,
    verbosity: Verbosity,
    untrusted: Untrusted,
});

impl Args {
    pub(super) fn new() -> Args {
        Args {
            sources: Vec::new(),
            source: Source::named(""),
            output: String::new(),
            target: Target::default(),
            target_opts: false,
            target_cache: None,
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
            journal: None,
            verify: false,
            verbosity: Verbosity::default(),
            untrusted: Untrusted::COPY,
        }
    }

    /// The target as it is opened to be filled.
    fn opened_target(&self) -> Source {
        let format = (!self.target_opts).then(|| self.target.format());
        let target = Source::named(&self.output).format(format).image_opts(self.target_opts);
        let cache = if self.is_flushed() { Cache::WRITEBACK } else { Cache::UNSAFE };
        target.cache(self.target_cache.unwrap_or(cache)).writable()
    }

    /// Whether what is copied must be durable before the command says so.
    fn is_flushed(&self) -> bool {
        self.journal.is_some() || self.verify
    }

    /// Tells whatever makes the target what it is, besides the sources.
    fn describe(&self, about: &mut Dict) {
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        about.insert("target", self.output.as_str());
        about.insert("target-format", text(&self.target.format));
        about.insert("target-options", self.target.options.text());
        about.insert("target-image-opts", self.target_opts);
        about.insert("create", self.create);
        about.insert("target-is-zero", self.target_is_zero);
        about.insert("backing", text(&self.backing.name));
        about.insert("backing-format", text(&self.backing.format));
        about.insert("snapshot", self.source.snapshot.as_ref().map_or(Value::Null, described));
        about.insert("compressed", self.compress);
        about.insert("sparse-size", self.sparse.map_or(Value::Null, |size| Value::from(size as u64)));
        about.insert("salvage", self.salvage);
        about.insert("copy-range-offloading", self.as_it_is);
        about.insert("bitmaps", self.bitmaps);
    }
}

/// Which snapshot is meant.
fn described(snapshot: &SnapshotName) -> Value {
    let (id, name) = match snapshot {
        SnapshotName::Any(text) => return text.as_str().into(),
        SnapshotName::Named(name) => (&None, &Some(name.clone())),
        SnapshotName::Both { id, name } => (id, name),
    };
    let mut both = Dict::new();
    for (member, text) in [("id", id), ("name", name)] {
        both.insert(member, text.as_deref().map_or(Value::Null, Value::from));
    }
    both.into()
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
    refuse_unconfined(&mut args)?;
    let target = if args.create { Access::Make } else { Access::Write };
    let files: Vec<_> = args.sources.iter().map(|name| (name.as_str(), Access::Read)).collect();
    let files = [files, vec![(args.output.as_str(), target)]].concat();
    args.untrusted.run(console, &call.name, &files, |console| {
        let stop = Arc::new(Stop::on(&[INTERRUPT, TERMINATE]));
        let result = runtime::run(convert(console, &args, &stop))?;
        if let (Some(signal), Err(failure)) = (stop.signal(), &result) {
            failure.tell(console);
            rt::signal::end_by(signal);
        }
        result.map(|()| 0)
    })
}

/// Refuses what `--untrusted` can't keep to the files that are named.
fn refuse_unconfined(args: &mut Args) -> Result<(), Failure> {
    args.untrusted.judge(&mut args.source, Policy::WHOLE)?;
    if !args.untrusted.is_on() {
        return Ok(());
    }
    if args.backing.name.is_some() {
        return Err(Failure::usage("--untrusted makes no overlay (-B): its backing file would be opened"));
    }
    if args.target_opts {
        return Err(Failure::usage("--untrusted takes the name of a file, not --target-image-opts"));
    }
    if args.journal.is_some() {
        return Err(Failure::usage("--untrusted keeps no --journal: it opens the images alone"));
    }
    untrusted::plain_target(&args.output)
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
        (
            args.is_flushed() && args.target_cache.is_some_and(|cache| cache.no_flush),
            "--journal and --verify need a target that is flushed: not -t unsafe",
        ),
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

async fn convert(console: &mut Console, args: &Args, stop: &Arc<Stop>) -> Result<(), Failure> {
    // One graph for all: it refuses to make the target in a file that it has open.
    let graph = image::graph();
    let mut sources = Vec::new();
    for name in &args.sources {
        let source = Source { name: name.clone(), ..args.source.clone() };
        let opened = match Image::open_in(&graph, &source).await {
            Ok(image) => {
                sources.push(image);
                match sources.last() {
                    Some(image) => image.keep_writers_out(&source).await,
                    None => Ok(()),
                }
            }
            Err(error) => Err(image::cannot_open(&source.name, &error)),
        };
        if opened.is_err() {
            return image::close_all(sources).await.and(opened);
        }
    }
    let result = with_journal(console, &graph, args, &sources, stop).await;
    match result {
        Ok(()) => image::close_all_when_done(console, sources).await,
        Err(_) => _ = image::close_all(sources).await,
    }
    result
}

/// Converts, from where an earlier command was cut off where there is a journal.
async fn with_journal(
    console: &mut Console,
    graph: &Graph,
    args: &Args,
    sources: &[Image],
    stop: &Arc<Stop>,
) -> Result<(), Failure> {
    let Some(path) = &args.journal else {
        return into_target(console, graph, args, sources, &mut None, stop).await;
    };
    let mut journal = Some(Journal::open(path, args, sources).await?);
    let result = into_target(console, graph, args, sources, &mut journal, stop).await;
    let Some(journal) = journal.filter(Journal::is_usable) else { return result };
    match result {
        Ok(()) => journal.end().await,
        Err(failure) => Err(failure.with_advice(journal.advice())),
    }
}

async fn into_target(
    console: &mut Console,
    graph: &Graph,
    args: &Args,
    sources: &[Image],
    journal: &mut Option<Journal>,
    stop: &Arc<Stop>,
) -> Result<(), Failure> {
    let total = sources.iter().try_fold(0u64, |sum, image| sum.checked_add(image.backend.length()));
    let Some(total) = total.filter(|total| i64::try_from(*total).is_ok()) else {
        return Err(Failure::new("the sources together are too large"));
    };
    let bitmaps = bitmaps_to_copy(console, args, sources)?;
    let goes_on = journal.as_ref().is_some_and(Journal::goes_on);
    if args.create && !goes_on {
        create_target(graph, args, total).await?;
    }
    let mut source = args.opened_target();
    if args.create {
        source.options = args.target.options.to_open()?;
    }
    let cannot_open = |error| image::cannot_open(&args.output, &error);
    let target = Image::open_in(graph, &source).await.map_err(cannot_open)?;
    let ledger = Arc::new(Ledger::new(journal.is_some(), args.verify));
    let filling = Filling { args, sources, target: &target, total, ledger: &ledger, stop };
    let mended = if goes_on { give_back_leaks(&target).await.map_err(cannot_open) } else { Ok(()) };
    let mut result = match args.bitmaps && !target.node().driver().info().bitmaps {
        true => {
            let driver = target.node().driver_name();
            Err(Failure::new(format_args!("Format driver '{driver}' does not support bitmaps")))
        }
        false if mended.is_err() => mended,
        false => filling.fill(console, journal).await,
    };
    if result.is_ok() {
        result = copy_bitmaps(&bitmaps, &target.node(), goes_on).await;
    }
    let closed = target.close().await;
    result?;
    closed?;
    if !args.verify {
        return Ok(());
    }
    match verify::verify(console, graph, args, sources, &ledger, &source).await {
        Ok(Proven::Same) => Ok(()),
        Ok(Proven::Differs(Difference { at, right })) => {
            let what = format!(
                "'{}' differs from what was copied to it, from byte {at} on; it is left as it is",
                args.output
            );
            let failure = Failure::of(ToolErrorCode::Failed, what);
            Err(match journal {
                Some(journal) => match journal.keep_only(right).await {
                    Ok(()) => failure,
                    Err(advice) => failure.with_advice(advice),
                },
                None => failure,
            })
        }
        Err(failure) => Err(match journal {
            Some(journal) => failure.with_advice(journal.give_up()),
            None => failure,
        }),
    }
}

#[cfg(test)]
mod crash_tests;

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
                    target_cache: Some(Cache::WRITEBACK),
                    ..Args::new()
                };
                convert(&mut console, &args, &Arc::default()).await
            })
        };
        fail_each_request("convert", &disk, copy, &old, &new);
    }
}
