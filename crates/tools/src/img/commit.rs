//! `commit`: what an overlay holds goes into an image below it.
//!
//! Order: {data into the base} · flush · {the overlay emptied}. A power cut in between leaves both complete.

use super::Call;
use crate::console::Console;
use crate::copy::CopyRun;
use crate::failure::Failure;
use crate::flags::{self, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::progress::Progress;
use crate::usage::Manual;
use crate::{outln, progress, runtime};
use api::PreallocMode;
use block::{CopyPlan, Endpoint, ErrorKind, Node};
use std::sync::Arc;

/// Ranges that are under way at once.
const PARALLEL: usize = 4;

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help(), flags::quiet(), flags::progress()],
    &flags::source("format of the overlay; found by its content if left out"),
    &[
        flags::cache("-t --cache", "cache mode (writeback)"),
        Flag::set("-d --drop", "leave the overlay as it is, do not empty it", |s| s.keep = true),
        Flag::take("-b --base", "FILE", "the image of the chain to commit into (implies -d)", |s, name| {
            s.base = Some(name.to_owned());
            s.keep = true;
            Ok(())
        }),
        Flag::take("-r --rate --rate-limit", "BYTES", "at most this many bytes a second", |s, text| {
            s.rate = Some(super::rate(text)?);
            Ok(())
        }),
        flags::object(),
    ],
];

const MANUAL: Manual = Manual {
    synopsis: "[-q] [-p] [-f FMT | --image-opts] [-t MODE] [-b FILE] [-d] [-r BYTES] FILE",
    about: "Writes what an overlay holds into its backing file.",
    operands: &[("FILE", "the overlay")],
    examples: &[
        ("overlay.qcow2", "into the backing file; the overlay is empty afterwards"),
        ("-b base.qcow2 top.qcow2", "through the chain into base.qcow2; top.qcow2 stays as it is"),
    ],
    notes: "Internal snapshots of the overlay hold only what differed from the backing file when they were made: of all else they \
            show what is committed to the backing file from then on. There is a warning where an image has some.",
};

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    base: Option<String>,
    keep: bool,
    verbosity: Verbosity,
    rate: Option<u64>,
}

has_parts!(Args { source: Source, verbosity: Verbosity });

impl Args {
    pub(super) fn new() -> Args {
        let (source, verbosity) = (Source::named("").writable(), Verbosity::default());
        Args { source, base: None, keep: false, verbosity, rate: None }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    args.source.name = super::one_image(&operands)?;
    super::exclusive(&args.source)?;
    runtime::run(open_and_commit(console, &args))??;
    Ok(0)
}

async fn open_and_commit(console: &mut Console, args: &Args) -> Result<(), Failure> {
    let image = image::open(&args.source).await?;
    let mut progress = Progress::new(console, args.verbosity);
    let result = commit(console, &image, args, &mut progress).await;
    progress.end(console);
    // Where it has failed the overlay shows what it showed.
    image.close_after(console, result).await?;
    if !args.verbosity.quiet {
        outln!(console, "Image committed.");
    }
    Ok(())
}

async fn commit(
    console: &mut Console,
    image: &Image,
    args: &Args,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let top = image.node().skip_filters();
    let chain: Vec<_> = top.images().collect();
    let base = find_base(&chain, args)?;
    image.graph.set_writable(&base, true).await?;
    let above: Vec<_> = chain.iter().take_while(|node| !Arc::ptr_eq(node, &base)).cloned().collect();
    image.graph.warn_of_snapshots(&above);
    let result = copy_down(console, image, &base, args, progress).await;
    let closed = image.graph.set_writable(&base, false).await;
    result?;
    closed?;
    if args.keep {
        return Ok(());
    }
    let emptied = match top.driver().make_empty().await {
        // What can't be emptied keeps what it has, which is what its base has now.
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
        emptied => emptied,
    };
    emptied.map_err(|error| {
        tracing::error!(%error, base = base.filename(), "the overlay is not empty; what it held is in its base");
        Failure::new(format_args!("Failed to empty {}: {}", args.source.name, error.strerror())).because(&error)
    })
}

/// The image to commit into: the next one down, or the one called by name.
fn find_base(chain: &[Arc<Node>], args: &Args) -> Result<Arc<Node>, Failure> {
    let below = chain.get(1..).unwrap_or_default();
    match &args.base {
        None => below.first().cloned().ok_or_else(|| Failure::new("Image does not have a backing file")),
        Some(name) => {
            // A relative name is as seen from the image above, as a backing name stored there is.
            let named = |(above, node): &(&Arc<Node>, &Arc<Node>)| {
                same_file(&node.filename(), &block::resolve_filename(&above.place(), name))
            };
            let missing = || {
                Failure::new(format_args!(
                    "Did not find '{name}' in the backing chain of '{}'",
                    args.source.name
                ))
            };
            chain.iter().zip(below).find(named).map(|(_, node)| node.clone()).ok_or_else(missing)
        }
    }
}

fn same_file(one: &str, other: &str) -> bool {
    let real = |name: &str| std::fs::canonicalize(rt::fs::path(name));
    match (real(one), real(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

async fn copy_down(
    console: &mut Console,
    image: &Image,
    base: &Arc<Node>,
    args: &Args,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let length = image.backend.length();
    if base.length() < length {
        image.graph.resize(base, length, PreallocMode::Off).await?;
    }
    let plan = CopyPlan::above(base, Endpoint::Entry(image.backend.clone()), Endpoint::Inner(base.clone()));
    let control = CopyRun::new(args.rate, length);
    let work = control.copy(plan, 0..length, PARALLEL);
    let copied = progress::watch(console, progress, &control.told, work, Result::is_ok).await;
    copied.map_err(|failed| {
        Failure::new(format_args!("Block job failed: {}", failed.error)).because(&failed.error)
    })?;
    Ok(base.flush().await?)
}

#[cfg(test)]
mod tests {
    use super::super::faults::{
        content_of, disk_with, ensure, fail_each_request, image, overlay, with_little_room,
    };
    use super::*;

    fn args(keep: bool) -> Args {
        let source = Source::named("/top").format(Some("qcow2")).writable();
        Args { source, keep, verbosity: Verbosity { quiet: true, progress: false }, ..Args::new() }
    }

    #[test]
    fn a_commit_that_fails_leaves_the_overlay_as_it_was_and_one_that_succeeds_has_all_in_the_base() {
        let disk = disk_with(vec![image("/base"), overlay("/top")]);
        let before = content_of(&disk, "/top").unwrap();
        let old = |disk: &sim::Disk| {
            ensure(content_of(disk, "/top")? == before, "the overlay shows something else")
        };
        let in_base = |disk: &sim::Disk| {
            old(disk)?;
            ensure(content_of(disk, "/base")? == before, "the base lacks something")?;
            let durable = disk.cut_keeping(|_| false);
            ensure(content_of(&durable, "/base")? == before, "the base lacks something after a power cut")?;
            ensure(content_of(&durable, "/top")? == before, "the overlay lacks something after a power cut")
        };
        let emptied = |disk: &sim::Disk| {
            in_base(disk)?;
            let own = testkit::qcow2::read(&disk.content("/top").unwrap().to_vec(), &[])?;
            ensure(own.iter().all(|byte| *byte == 0), "the overlay is not empty")
        };
        let empty = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move { open_and_commit(&mut console, &args(false)).await })
        };
        let warned = fail_each_request("commit", &disk, empty, &old, &emptied);
        assert!(warned > 0, "what fails after the overlay was emptied is a warning");
        let keep = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move { open_and_commit(&mut console, &args(true)).await })
        };
        let warned = fail_each_request("commit -d", &disk, keep, &old, &in_base);
        assert!(warned > 0, "what fails after the base has all is a warning");
    }

    #[test]
    fn a_commit_to_a_full_file_system_loses_nothing_and_succeeds_when_there_is_room() {
        let coarse = |image: testkit::stack::TestImage| image.with("cluster_size", "4096");
        let mut disk = disk_with(vec![coarse(image("/base")), coarse(overlay("/top"))]);
        disk.make_sparse("/base");
        let before = content_of(&disk, "/top").unwrap();
        let kept = |disk: &sim::Disk| {
            ensure(content_of(disk, "/top")? == before, "the overlay shows something else")
        };
        let done = |disk: &sim::Disk| {
            kept(disk)?;
            ensure(content_of(disk, "/base")? == before, "the base lacks something")
        };
        let empty = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move { open_and_commit(&mut console, &args(false)).await })
        };
        let short = with_little_room(&disk, empty, &kept, &done);
        assert!(short > 0, "there was always room");
    }
}
