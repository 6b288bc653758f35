//! `rebase`: another backing file, or none, below an image that keeps its content.
//!
//! Where old and new backing file differ, and the image itself holds nothing, the old content is copied into the image
//! first. With `-u` only the header changes. Order: {data} · flush · {header}: a power cut leaves the image complete.
//! What internal snapshots show of the backing file can't be copied into them: an image that has some is refused, but for `-u`.

use super::Call;
use super::convert::NO_COMPRESSION;
use crate::cache::{self, Cache};
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, Backing, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::progress::{Progress, Told};
use crate::usage::Manual;
use crate::{progress, runtime};
use block::{BlockError, Flags, Link, Node, Request};
use rt::{Buf, BufMut};
use std::ops::Range;
use std::sync::Arc;

/// Bytes that are compared at a time.
const PIECE: u64 = 1 << 20;

/// What is copied at least where the two differ.
const UNIT: usize = 64 << 10;

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help(), flags::quiet(), flags::progress()],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        flags::cache("-t --cache", "cache mode of the image (writeback)"),
        Flag::take(
            "-T --backing-cache",
            cache::MODES,
            "cache mode of the backing files (writeback)",
            |s, mode| {
                s.backing_cache = flags::read_source_cache(mode)?;
                Ok(())
            },
        ),
        flags::backing("-b --backing", "the new backing file; empty for none"),
        flags::backing_format("-F --backing-format -B", "its format"),
        Flag::set("-u --backing-unsafe", "change the header only", |s| s.header_only = true),
        Flag::set("-c --compress", "compress what is copied", |s| s.compress = true),
        Flag::ignored(
            "-U --force-share",
            "accepted where nothing is written",
            "the image is written to, and no other program may write to it meanwhile",
        ),
        flags::object(),
    ],
];

const MANUAL: Manual = Manual {
    synopsis: "[-q] [-p] [-f FMT | --image-opts] [-t MODE] [-T MODE] [-u] (-b FILE -F FMT | -b '') FILE",
    about: "Puts another backing file below an image, whose content stays the same.",
    operands: &[("FILE", "the image")],
    examples: &[
        (
            "-b base2.qcow2 -F qcow2 overlay.qcow2",
            "what base2 lacks or has otherwise is copied into the overlay",
        ),
        (
            "-u -b /new/place/base.qcow2 -F qcow2 overlay.qcow2",
            "the backing file was moved: only the name changes",
        ),
        ("-b '' overlay.qcow2", "the image stands alone from now on"),
    ],
    notes: "",
};

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    backing: Backing,
    header_only: bool,
    compress: bool,
    backing_cache: Cache,
    verbosity: Verbosity,
}

has_parts!(Args { source: Source, backing: Backing, verbosity: Verbosity });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            source: Source::named("").writable(),
            backing: Backing::default(),
            header_only: false,
            compress: false,
            backing_cache: Cache::WRITEBACK,
            verbosity: Verbosity::default(),
        }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    args.source.name = super::one_image(&operands)?;
    super::exclusive(&args.source)?;
    if args.backing.name.is_none() && !args.header_only {
        return Err(Failure::usage("Must specify backing file (-b) or use unsafe mode (-u)"));
    }
    runtime::run(open_and_rebase(console, &args))??;
    Ok(0)
}

async fn open_and_rebase(console: &mut Console, args: &Args) -> Result<(), Failure> {
    let source = match args.header_only {
        true => args.source.clone().alone(),
        false => args.source.clone(),
    };
    let image = image::open(&source).await?;
    if image.guessed_raw {
        image::warn_of_guess(console, &source.name);
    }
    let result = rebase(console, &image, args).await;
    // Where it has failed the image shows what it showed.
    image.close_after(console, result).await
}

async fn rebase(console: &mut Console, image: &Image, args: &Args) -> Result<(), Failure> {
    if let Some(format) = &args.backing.format {
        image.graph.registry().find_or(format, |format| format!("Invalid format name: '{format}'"))?;
    }
    let filename = args.backing.name.clone().filter(|name| !name.is_empty());
    let name = args.backing.name.as_deref().unwrap_or_default();
    let refused =
        |why: &str| Failure::new(format_args!("Could not change the backing file to '{name}': {why}"));
    if filename.is_some() && args.backing.format.is_none() {
        return Err(refused("backing format must be specified"));
    }
    let node = image.node().skip_filters();
    if !node.driver_type().supports_backing {
        return Err(refused(&format!("an image of the format '{}' has none", node.driver_name())));
    }
    if args.compress && !args.header_only && !node.facts().can_compress {
        return Err(Failure::new(NO_COMPRESSION));
    }
    if !args.header_only {
        if !node.driver().info().snapshots.is_empty() {
            return Err(refused(
                "the image has internal snapshots, and where they show the old backing file now they would show the new one; \
                 delete them first, or change only the name (-u) if both files have the same content",
            ));
        }
        let new = open_new(image, args).await?;
        let result = copy_differences(console, image, new.as_ref(), args).await;
        if let Some(new) = new {
            image.graph.release(&new).await?;
        }
        result?;
        image.backend.flush().await?;
    }
    let format = args.backing.format.clone().filter(|_| filename.is_some());
    let change = node.driver().set_backing_link(Link { filename, format });
    let changed = match args.header_only {
        true => {
            let (mut progress, told) = (Progress::new(console, args.verbosity), Told::steps(1));
            let changed = progress::watch(console, &mut progress, &told, change, Result::is_ok).await;
            progress.end(console);
            changed
        }
        false => change.await,
    };
    changed.map_err(|error| refused(&error.to_string()).because(&error))
}

/// The new backing image, if there is to be one. Its name is as seen from the image.
async fn open_new(image: &Image, args: &Args) -> Result<Option<Arc<Node>>, Failure> {
    let Some(name) = args.backing.name.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
    let full = block::resolve_filename(&image.node().place(), name);
    let source = Source::named(&full).format(args.backing.format.as_deref()).cache(args.backing_cache);
    let opened = image::open_node(&image.graph, &source).await;
    let told = |error: BlockError| {
        Failure::new(format_args!("Could not open new backing file '{name}': {error}")).because(&error)
    };
    opened.map(Some).map_err(told)
}

/// Copies into the image what it shows of its old backing image and would not show of the new one.
async fn copy_differences(
    console: &mut Console,
    image: &Image,
    new: Option<&Arc<Node>>,
    args: &Args,
) -> Result<(), Failure> {
    let old = image.node().skip_filters().backing();
    let total = image.backend.length();
    let unit = match args.compress {
        true => image.node().facts().cluster_size,
        false => None,
    };
    let told = Told::bytes(total);
    let work = async {
        let mut at = 0;
        while at < total {
            at += copy_piece(image, old.as_ref(), new, unit, at..total).await?;
            told.set(at);
        }
        Ok::<(), Failure>(())
    };
    let mut progress = Progress::new(console, args.verbosity);
    let result = progress::watch(console, &mut progress, &told, work, Result::is_ok).await;
    progress.end(console);
    result
}

/// Works off the start of a range; returns how much of it. What is copied is compressed by clusters of `unit` bytes, if so.
async fn copy_piece(
    image: &Image,
    old: Option<&Arc<Node>>,
    new: Option<&Arc<Node>>,
    unit: Option<u64>,
    range: Range<u64>,
) -> Result<u64, Failure> {
    let (at, len) = (range.start, range.end - range.start);
    let own = match old {
        Some(old) => image.backend.status_above(at, len, old).await?,
        None => image.backend.status(at, len).await?,
    };
    let len = own.len.min(len);
    if own.allocated {
        return Ok(len);
    }
    let whole = unit.unwrap_or(1);
    let left = match at % whole {
        0 => len,
        // The rest of a cluster comes by itself, so that what follows begins with one.
        part => len.min(whole - part),
    };
    // Pieces that are compressed begin and end with a cluster, or with the disk.
    let even = |len: u64| if len == left { len } else { len - len % whole };
    let (old_zero, len) = zero_start(old, at, left).await?;
    let (new_zero, len) = zero_start(new, at, len).await?;
    if old_zero && new_zero && even(len) > 0 {
        return Ok(even(len));
    }
    let len = even(left.min(PIECE.max(whole))).max(whole.min(left));
    let unit = unit.map_or(UNIT, |unit| unit as usize);
    let before = read(old, at, len).await?;
    let after = read(new, at, len).await?;
    let before = before.freeze();
    let mut from = 0;
    while from < before.len() {
        let differs = |from: usize| {
            let to = (from + unit).min(before.len());
            (to, before.get(from..to) != after.get(from..to))
        };
        let (mut to, different) = differs(from);
        // What differs in one run is one write, with the zeroes in it; what is compressed is a cluster at a time.
        while different && whole == 1 && to < before.len() && differs(to).1 {
            to = differs(to).0;
        }
        let piece = before.slice(from..to);
        if different {
            let offset = at + from as u64;
            if codec::is_zero(&piece) {
                write_zeroes(image, offset, piece).await?;
            } else {
                // A part of a cluster, of which the image has other parts, is stored as it is.
                let to_end = offset + piece.len() as u64 == range.end;
                let compress = whole > 1 && offset.is_multiple_of(whole) && (piece.len() == unit || to_end);
                let request = Request::GUEST.with_if(compress, Flags::COMPRESSED);
                image.backend.write(offset, piece, request).await?;
            }
        }
        from = to;
    }
    Ok(len)
}

/// Makes a piece zeroes that the new backing image does not show through. A format without a mark for zeroes leaves a
/// hole for them where there is no backing image yet: there they are stored.
async fn write_zeroes(image: &Image, offset: u64, zeroes: Buf) -> Result<(), Failure> {
    let len = zeroes.len() as u64;
    image.backend.write_zeroes(offset, len, Request::GUEST).await?;
    let mut at = 0;
    while at < len {
        let status = image.backend.status(offset + at, len - at).await?;
        if !status.allocated {
            if image.node().skip_filters().common().detect_zeroes {
                return Err(Failure::new(
                    "the image's format can't keep zeroes above a backing file while detect-zeroes is on: rebase it without",
                ));
            }
            image.backend.write(offset, zeroes, Request::GUEST).await?;
            return Ok(());
        }
        at += status.len;
    }
    Ok(())
}

/// Whether a backing image, or none, shows zeroes at the start of a range, and for how long that answer holds.
async fn zero_start(node: Option<&Arc<Node>>, at: u64, len: u64) -> Result<(bool, u64), Failure> {
    match node.filter(|node| at < node.length()) {
        None => Ok((true, len)),
        Some(node) => {
            let status = node.status(at, len.min(node.length() - at), None).await?;
            Ok((status.zero, status.len))
        }
    }
}

/// What a backing image, or none, shows of a range: zeroes beyond its end.
async fn read(node: Option<&Arc<Node>>, at: u64, len: u64) -> Result<BufMut, Failure> {
    match node {
        None => Ok(BufMut::zeroed(len as usize)),
        Some(node) => {
            let (buf, result) = node.read_or_zero(at, BufMut::with_len(len as usize)).await;
            result?;
            Ok(buf)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::{
        content_of, disk_with, ensure, fail_each_request, image, overlay, with_little_room,
    };
    use super::*;

    fn args(backing: &str, header_only: bool) -> Args {
        let format = Some("qcow2".to_owned()).filter(|_| !backing.is_empty());
        Args {
            source: Source::named("/top").format(Some("qcow2")).writable(),
            backing: Backing { name: Some(backing.to_owned()), format },
            header_only,
            ..Args::new()
        }
    }

    #[test]
    fn a_rebase_that_fails_leaves_the_old_header_and_one_that_succeeds_names_the_new_base() {
        let disk = disk_with(vec![image("/base"), image("/other"), overlay("/top")]);
        let before = content_of(&disk, "/top").unwrap();
        let over = |base: &str, content: Option<&Vec<u8>>| {
            let (base, content) = (Some(base.to_owned()).filter(|base| !base.is_empty()), content.cloned());
            move |disk: &sim::Disk| {
                let found = content_of(disk, "/top")?;
                ensure(
                    content.as_ref().is_none_or(|content| found == *content),
                    "the image shows something else",
                )?;
                let bytes = disk.content("/top").unwrap().to_vec();
                ensure(testkit::qcow2::backing_of(&bytes) == base, "the image has another base")
            }
        };
        let other = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move { open_and_rebase(&mut console, &args("/other", false)).await })
        };
        let (old, kept) = (over("/base", Some(&before)), Some(&before));
        let warned = fail_each_request("rebase", &disk, other, &old, &over("/other", kept));
        assert!(warned > 0, "what fails after the header was changed is a warning");
        let alone = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move { open_and_rebase(&mut console, &args("", false)).await })
        };
        fail_each_request("rebase to nothing", &disk, alone, &old, &over("", kept));
        let blind = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move { open_and_rebase(&mut console, &args("/other", true)).await })
        };
        fail_each_request("rebase -u", &disk, blind, &old, &over("/other", None));
    }

    #[test]
    fn what_internal_snapshots_show_is_not_changed_but_by_who_asks_for_it() {
        let disk = disk_with(vec![image("/base"), image("/other"), overlay("/top")]);
        let sim = sim::Sim::boot(sim::Config::seeded(5), disk);
        sim.run(async {
            let top = Image::open(&Source::named("/top").format(Some("qcow2")).writable()).await.unwrap();
            let new = block::NewSnapshot { name: "one".to_owned(), ..block::NewSnapshot::default() };
            top.graph.create_snapshot(&top.node(), new, |_| Ok(())).await.unwrap();
            top.close().await.unwrap();
        });
        sim.settle();
        let disk = sim.world().disk();
        for (base, header_only) in [("/other", false), ("", false), ("/other", true)] {
            let sim = sim::Sim::boot(sim::Config::seeded(5), disk.clone());
            let rebased = sim.run(async move {
                let mut console = Console::new("test");
                open_and_rebase(&mut console, &args(base, header_only)).await
            });
            sim.settle();
            assert_eq!(rebased.is_ok(), header_only, "{base}");
            let bytes = sim.world().disk().content("/top").unwrap().to_vec();
            let kept = if header_only { "/other" } else { "/base" };
            assert_eq!(testkit::qcow2::backing_of(&bytes).as_deref(), Some(kept));
        }
    }

    #[test]
    fn a_rebase_on_a_full_file_system_changes_nothing_and_succeeds_when_there_is_room() {
        let coarse = |image: testkit::stack::TestImage| image.with("cluster_size", "4096");
        let mut disk =
            disk_with(vec![coarse(image("/base")), coarse(image("/other")), coarse(overlay("/top"))]);
        disk.make_sparse("/top");
        let before = content_of(&disk, "/top").unwrap();
        let over = |base: &'static str| {
            let before = before.clone();
            move |disk: &sim::Disk| {
                ensure(content_of(disk, "/top")? == before, "the image shows something else")?;
                let bytes = disk.content("/top").unwrap().to_vec();
                ensure(
                    testkit::qcow2::backing_of(&bytes).as_deref() == Some(base),
                    "the image has another base",
                )
            }
        };
        let other = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move { open_and_rebase(&mut console, &args("/other", false)).await })
        };
        let short = with_little_room(&disk, other, &over("/base"), &over("/other"));

        assert!(short > 2, "there was always room: {short}");
    }
}
