//! `check`: whether an image is consistent, and repair of what is not.
//!
//! Exit codes: 0 consistent, 1 not completed, 2 corruptions, 3 leaks only, 63 the format has no check.

use super::Call;
use super::untrusted::{self, Untrusted};
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, Output, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::usage::Manual;
use crate::{outln, runtime};
use api::{Encode, ImageCheck, ToolErrorCode};
use block::{CheckReport, Policy, Repair};
use rt::confine::Access;

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help(), Flag::set("-q --quiet", "print nothing but what is wrong", |s| s.verbosity.quiet = true)],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        flags::source_cache("-T --cache", "cache mode (writeback)"),
        flags::force_share("look even while another process writes"),
        flags::output(),
        Flag::take("-r --repair", "leaks|all", "what to mend", |s, word| {
            s.repair = repair(word)?;
            Ok(())
        }),
        flags::object(),
    ],
    &untrusted::flags(),
];

const MANUAL: Manual = Manual {
    synopsis: "[-q] [-f FMT | --image-opts] [-r leaks|all] [-T MODE] [-U] [--output=human|json] FILE",
    about: "Checks an image's metadata, and mends it.",
    operands: &[("FILE", "the image")],
    examples: &[
        ("disk.qcow2", "looks only; exit code 0, 2 (corrupt) or 3 (leaked space)"),
        ("-r all disk.qcow2", "mends what can be mended; keep a copy of an image of value"),
    ],
    notes: untrusted::NOTES,
};

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    output: Output,
    verbosity: Verbosity,
    repair: Repair,
    untrusted: Untrusted,
}

has_parts!(Args { source: Source, output: Output, untrusted: Untrusted });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            source: Source::named("").alone().without_content(),
            output: Output::default(),
            verbosity: Verbosity::default(),
            repair: Repair::No,
            untrusted: Untrusted::LOOK,
        }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    args.source.name = super::one_image(&operands)?;
    args.source.writable = args.repair != Repair::No;
    args.source.for_repair = args.source.writable;
    super::exclusive(&args.source)?;
    args.untrusted.judge(&mut args.source, Policy::ONE_FILE)?;
    let access = if args.source.writable { Access::Write } else { Access::Read };
    let files = [(args.source.name.as_str(), access)];
    args.untrusted.run(console, &call.name, &files, |console| runtime::run(open_and_check(console, &args))?)
}

fn repair(word: &str) -> Result<Repair, Failure> {
    match word {
        "leaks" => Ok(Repair::Leaks),
        "all" => Ok(Repair::All),
        other => Err(Failure::usage(format_args!("--repair (-r) expects 'leaks' or 'all' not '{other}'"))),
    }
}

async fn open_and_check(console: &mut Console, args: &Args) -> Result<u8, Failure> {
    let image = image::open(&args.source).await?;
    let result = check(console, &image, args).await;
    let closed = image.close().await;
    let code = result?;
    closed?;
    Ok(code)
}

async fn check(console: &mut Console, image: &Image, args: &Args) -> Result<u8, Failure> {
    let node = image.node();
    let Some(checker) = node.driver().checker() else {
        let none = Failure::of(ToolErrorCode::Unsupported, "This image format does not support checks");
        return Err(none.with_code(63));
    };
    let mut report = checker.check(args.repair).await.map_err(|error| incomplete(&error))?;
    tell(console, &report);
    if report.corruptions_fixed > 0 || report.leaks_fixed > 0 {
        let (leaks_fixed, corruptions_fixed) = (report.leaks_fixed, report.corruptions_fixed);
        if args.output == Output::Human && !args.verbosity.quiet {
            outln!(console, "The following inconsistencies were found and repaired:\n");
            outln!(console, "    {leaks_fixed} leaked clusters\n    {corruptions_fixed} corruptions\n");
            outln!(console, "Double checking the fixed image now...");
        }
        report = checker.check(Repair::No).await.map_err(|error| incomplete(&error))?;
        tell(console, &report);
        (report.leaks_fixed, report.corruptions_fixed) = (leaks_fixed, corruptions_fixed);
    }
    match args.output {
        Output::Human if args.verbosity.quiet => {}
        Output::Human => print(console, &report),
        Output::Json => console.json(&told(&args.source.name, node.driver_name(), &report).encode()),
    }
    Ok(match &report {
        CheckReport { check_errors: 1.., .. } => 1,
        CheckReport { corruptions: 1.., .. } => 2,
        CheckReport { leaks: 1.., .. } => 3,
        _ => 0,
    })
}

fn incomplete(error: &block::BlockError) -> Failure {
    Failure::new(format_args!("Check failed: {error}")).because(error)
}

/// Findings go where errors go.
fn tell(console: &Console, report: &CheckReport) {
    report.messages.iter().for_each(|message| console.note(message));
}

fn print(console: &mut Console, report: &CheckReport) {
    let CheckReport { corruptions, leaks, check_errors, .. } = report;
    if *corruptions == 0 && *leaks == 0 && *check_errors == 0 {
        outln!(console, "No errors were found on the image.");
    }
    if *corruptions > 0 {
        outln!(console, "\n{corruptions} errors were found on the image.");
        outln!(console, "Data may be corrupted, or further writes to the image may corrupt it.");
    }
    if *leaks > 0 {
        outln!(console, "\n{leaks} leaked clusters were found on the image.");
        outln!(console, "This means waste of disk space, but no harm to data.");
    }
    if *check_errors > 0 {
        outln!(console, "\n{check_errors} internal errors have occurred during the check.");
    }
    if let (Some(total @ 1..), Some(allocated @ 1..)) = (report.total_clusters, report.allocated_clusters) {
        let share = |part: Option<u64>, whole: u64| part.unwrap_or(0) as f64 * 100.0 / whole as f64;
        outln!(
            console,
            "{allocated}/{total} = {:.2}% allocated, {:.2}% fragmented, {:.2}% compressed clusters",
            share(Some(allocated), total),
            share(report.fragmented_clusters, allocated),
            share(report.compressed_clusters, allocated)
        );
    }
    if let Some(end @ 1..) = report.image_end_offset {
        outln!(console, "Image end offset: {end}");
    }
}

fn told(filename: &str, format: &str, report: &CheckReport) -> ImageCheck {
    let some = |count: Option<u64>| count.filter(|count| *count > 0);
    ImageCheck {
        image_end_offset: some(report.image_end_offset),
        compressed_clusters: some(report.compressed_clusters),
        total_clusters: some(report.total_clusters),
        corruptions: some(Some(report.corruptions)),
        corruptions_fixed: some(Some(report.corruptions_fixed)),
        check_errors: report.check_errors,
        leaks: some(Some(report.leaks)),
        leaks_fixed: some(Some(report.leaks_fixed)),
        allocated_clusters: some(report.allocated_clusters),
        filename: filename.to_owned(),
        format: format.to_owned(),
        fragmented_clusters: some(report.fragmented_clusters),
    }
}
