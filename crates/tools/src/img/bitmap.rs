//! `bitmap`: changes of an image's persistent dirty bitmaps, in the order of the flags.

use super::Call;
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::runtime;
use crate::usage::Manual;
use block::{BlockError, NewBitmap, Node};
use std::sync::Arc;

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help()],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        Flag::set("--add", "make BITMAP, which records changes from now on", |s| s.verbs.push(Verb::Add)),
        Flag::take("-g --granularity", "SIZE", "bytes a bit of the new BITMAP", |s, text| {
            s.granularity = Some(super::bounded("granularity", text, 1, u64::MAX)?);
            Ok(())
        }),
        Flag::set("--remove", "remove BITMAP", |s| s.verbs.push(Verb::Remove)),
        Flag::set("--remove-all", "remove all bitmaps of the image", |s| s.verbs.push(Verb::RemoveAll)),
        Flag::set("--clear", "forget what BITMAP has recorded", |s| s.verbs.push(Verb::Clear)),
        Flag::set("--enable", "have BITMAP record changes", |s| s.verbs.push(Verb::Enable)),
        Flag::set("--disable", "have BITMAP record nothing", |s| s.verbs.push(Verb::Disable)),
        Flag::take("--merge", "OTHER", "record in BITMAP what the bitmap OTHER has recorded", |s, name| {
            s.verbs.push(Verb::Merge(name.to_owned()));
            Ok(())
        }),
        Flag::take("-b --source-file", "FILE", "the image of the bitmap OTHER", |s, name| {
            s.other = Some(name.to_owned());
            Ok(())
        }),
        Flag::take("-F --source-format", "FMT", "format of the image of the bitmap OTHER", |s, name| {
            s.other_format = Some(name.to_owned());
            Ok(())
        }),
        flags::object(),
    ],
];

const MANUAL: Manual = Manual {
    synopsis: "(--add [-g SIZE] | --remove | --remove-all | --clear | --enable | --disable \
               | --merge OTHER [-b FILE [-F FMT]])... [-f FMT | --image-opts] FILE [BITMAP]",
    about: "Changes the dirty bitmaps that an image keeps.",
    operands: &[
        ("FILE", "the image"),
        ("BITMAP", "the name of a bitmap; with --remove-all alone there is none"),
    ],
    examples: &[
        ("--add disk.qcow2 monday", "a bitmap of all that is written from now on"),
        ("--add --disable --merge monday disk.qcow2 week", "one that is a copy of another"),
    ],
    notes: "",
};

/// What is done with the bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verb {
    Add,
    Remove,
    RemoveAll,
    Clear,
    Enable,
    Disable,
    Merge(String),
}

impl Verb {
    fn word(&self) -> &'static str {
        match self {
            Verb::Add => "add",
            Verb::Remove => "remove",
            Verb::RemoveAll => "remove-all",
            Verb::Clear => "clear",
            Verb::Enable => "enable",
            Verb::Disable => "disable",
            Verb::Merge(_) => "merge",
        }
    }
}

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    verbs: Vec<Verb>,
    granularity: Option<u64>,
    /// The image of the bitmaps that are merged, if it is another one.
    other: Option<String>,
    other_format: Option<String>,
    bitmap: String,
}

has_parts!(Args { source: Source });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            source: Source::named("").writable(),
            verbs: Vec::new(),
            granularity: None,
            other: None,
            other_format: None,
            bitmap: String::new(),
        }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    let about_one = args.verbs.is_empty() || args.verbs.iter().any(|verb| *verb != Verb::RemoveAll);
    (args.source.name, args.bitmap) = match operands.as_slice() {
        [name] if !about_one => (name.clone(), String::new()),
        [name, bitmap] if about_one => (name.clone(), bitmap.clone()),
        _ if about_one => return Err(Failure::new("Expecting filename and bitmap name")),
        _ => return Err(Failure::new("Expecting filename")),
    };
    refuse_combinations(&args)?;
    runtime::run(change(console, &args))??;
    Ok(0)
}

fn refuse_combinations(args: &Args) -> Result<(), Failure> {
    let has = |word| args.verbs.iter().any(|verb| verb.word() == word);
    let together = [
        (
            args.verbs.is_empty(),
            "Need at least one of --add, --remove, --remove-all, --clear, --enable, --disable, or --merge",
        ),
        (args.granularity.is_some() && !has("add"), "granularity only supported with --add"),
        (args.other_format.is_some() && args.other.is_none(), "-F only supported with -b"),
        (args.other.is_some() && !has("merge"), "Merge bitmap source file only supported with --merge"),
    ];
    super::exclusive(&args.source)?;
    match together.iter().find(|(given, _)| *given) {
        Some((_, why)) => Err(Failure::new(why)),
        None => Ok(()),
    }
}

async fn change(console: &mut Console, args: &Args) -> Result<(), Failure> {
    let image = image::open(&args.source).await?;
    if image.guessed_raw {
        image::warn_of_guess(console, &args.source.name);
    }
    let changed = change_in(&image, args).await;
    // What was changed before something failed is stored too.
    let closed = image.close().await.map_err(Failure::from);
    changed.and(closed)
}

/// Opens the image of the bitmaps that are merged in the graph of the other, so that both may be one.
async fn change_in(image: &Image, args: &Args) -> Result<(), Failure> {
    let other = match &args.other {
        None => None,
        Some(name) => {
            // The images below it say nothing of its bitmaps, and may be the one that is changed.
            let source = Source::named(name).format(args.other_format.as_deref()).alone();
            let opened = Image::open_in(&image.graph, &source).await;
            Some(opened.map_err(|error| image::cannot_open(name, &error))?)
        }
    };
    let from = other.as_ref().map_or_else(|| image.node(), Image::node);
    let mut changed = Ok(());
    for verb in &args.verbs {
        changed = apply(&image.node(), &from, verb, args).await.map_err(|error| {
            let what = match verb {
                Verb::RemoveAll => format!("Operation remove-all failed: {error}"),
                _ => format!("Operation {} on bitmap {} failed: {error}", verb.word(), args.bitmap),
            };
            Failure::new(what).because(&error)
        });
        if changed.is_err() {
            break;
        }
    }
    match other {
        Some(other) => changed.and(other.close().await.map_err(Failure::from)),
        None => changed,
    }
}

async fn apply(node: &Arc<Node>, from: &Arc<Node>, verb: &Verb, args: &Args) -> Result<(), BlockError> {
    let name = &args.bitmap;
    match verb {
        Verb::Add => {
            let new = NewBitmap {
                name: name.clone(),
                granularity: args.granularity,
                persistent: true,
                enabled: true,
            };
            node.add_bitmap(new).map(drop)
        }
        Verb::Remove => node.remove_bitmap(&node.need_bitmap(name)?).await,
        Verb::RemoveAll => {
            for bitmap in node.bitmaps().all().iter() {
                node.remove_bitmap(bitmap).await?;
            }
            Ok(())
        }
        Verb::Clear => node.clear_bitmap(&*node.need_bitmap(name)?),
        Verb::Enable => node.need_bitmap(name)?.enable(true),
        Verb::Disable => node.need_bitmap(name)?.enable(false),
        Verb::Merge(other) => node.merge_bitmaps(&*node.need_bitmap(name)?, &[from.need_bitmap(other)?]),
    }
}
