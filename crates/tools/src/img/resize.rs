//! `resize`: a larger or, when asked for twice, a smaller image.

use super::{Asked, Call};
use crate::console::Console;
use crate::creation;
use crate::failure::Failure;
use crate::getopt::Flag;
use crate::image::{self, Source};
use crate::usage::Manual;
use crate::{object, outln, runtime};
use block::BlockError;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Help,
    Quiet,
    Format,
    ImageOpts,
    Shrink,
    Preallocation,
    Object,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::bare(Id::Help, Some('h'), Some("help"), "print this help"),
    Flag::bare(Id::Quiet, Some('q'), Some("quiet"), "print nothing but errors"),
    Flag::valued(
        Id::Format,
        Some('f'),
        Some("format"),
        "FMT",
        "format of the image; found by its content if left out",
    ),
    Flag::bare(Id::ImageOpts, None, Some("image-opts"), "FILE is a list of options, not a name"),
    Flag::bare(Id::Shrink, None, Some("shrink"), "give up what lies beyond the new end"),
    Flag::valued(Id::Preallocation, None, Some("preallocation"), "MODE", "off, metadata, falloc or full"),
    Flag::valued(Id::Object, None, Some("object"), "TYPE,id=ID,...", "make an object, such as a secret"),
];

const MANUAL: Manual = Manual {
    synopsis: "[-q] [-f FMT | --image-opts] [--shrink] [--preallocation=MODE] FILE [+|-]SIZE",
    about: "Changes the virtual size of an image.",
    operands: &[("FILE", "the image"), ("[+|-]SIZE", "the new size, or by how much it grows or shrinks")],
    examples: &[
        ("-f qcow2 disk.qcow2 +10G", "10 GiB more"),
        ("--shrink -f raw disk.raw 1G", "1 GiB from now on; what lay beyond is gone"),
    ],
    notes: "",
};

/// What the size operand says.
#[derive(Clone, Copy)]
enum Change {
    To(u64),
    Grow(u64),
    Shrink(u64),
}

struct Args {
    source: Source,
    change: Change,
    quiet: bool,
    shrink: bool,
    preallocation: String,
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    // A size such as -1G looks like flags: the last word is set apart before the flags are read.
    let (last, rest) = match call.args.split_last() {
        Some((last, rest)) if looks_like_size(last) => (Some(last), rest),
        _ => (None, call.args),
    };
    let call = Call { name: call.name.clone(), args: rest };
    let Asked::Work(mut parsed) = call.parse(console, &MANUAL, FLAGS, Id::Help)? else { return Ok(0) };
    parsed.operands.extend(last.cloned());
    let mut source = Source::named("").writable();
    let (mut quiet, mut shrink, mut preallocation) = (false, false, "off".to_owned());
    for (id, value) in &parsed.flags {
        match id {
            Id::Help => {}
            Id::Quiet => quiet = true,
            Id::Format => source.format = Some(value.clone()),
            Id::ImageOpts => source.image_opts = true,
            Id::Shrink => shrink = true,
            Id::Preallocation => preallocation = mode(value)?,
            Id::Object => object::accept(value)?,
        }
    }
    let change = match parsed.operands.as_slice() {
        [name, size] => {
            source.name = name.clone();
            change(size)?
        }
        [_, _, ..] => return Err(Failure::usage("Extra argument(s) in command line")),
        _ => return Err(Failure::usage("Expecting image file name and size")),
    };
    super::exclusive(&source)?;
    runtime::run(resize(console, &Args { source, change, quiet, shrink, preallocation }))??;
    Ok(0)
}

fn looks_like_size(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn mode(word: &str) -> Result<String, Failure> {
    if ["off", "metadata", "falloc", "full"].contains(&word) {
        return Ok(word.to_owned());
    }
    Err(Failure::new(format_args!("Invalid preallocation mode '{word}'")))
}

fn change(text: &str) -> Result<Change, Failure> {
    let size = |text| creation::size_value("size", text);
    if let Some(more) = text.strip_prefix('+') {
        return size(more).map(Change::Grow);
    }
    if let Some(less) = text.strip_prefix('-') {
        return size(less).map(Change::Shrink);
    }
    size(text).map(Change::To)
}

async fn resize(console: &mut Console, args: &Args) -> Result<(), Failure> {
    let image = image::open(&args.source).await?;
    if image.guessed_raw {
        image::warn_of_guess(console, &args.source.name);
    }
    if let Err(failure) = apply(&image, args, console).await {
        // Nothing was changed: there is nothing whose loss the close could tell.
        image.close().await.ok();
        return Err(failure);
    }
    image.close_when_done(console).await;
    if !args.quiet {
        outln!(console, "Image resized.");
    }
    Ok(())
}

async fn apply(image: &image::Image, args: &Args, console: &mut Console) -> Result<(), Failure> {
    let old = image.backend.length();
    let new = match args.change {
        Change::To(size) => Some(size),
        Change::Grow(more) => old.checked_add(more),
        Change::Shrink(less) => old.checked_sub(less),
    };
    let Some(new) = new.filter(|new| *new > 0 && i64::try_from(*new).is_ok()) else {
        return Err(Failure::new("New image size must be positive"));
    };
    if new <= old && args.preallocation != "off" {
        return Err(Failure::new("Preallocation can only be used for growing images"));
    }
    if new < old && !args.shrink {
        console.error("Use the --shrink option to perform a shrink operation.");
        console.warning(
            "A smaller image loses all data beyond its new end. Make sure that nothing of value is there first.",
        );
        return Err(Failure::silent(1));
    }
    let resized = image.graph.resize(&image.node(), new, &args.preallocation).await;
    resized.map_err(|error: BlockError| Failure::new(error))
}

#[cfg(test)]
mod tests {
    use super::super::told::{SIZE, image, made, shown, so, try_command};
    use super::*;

    #[test]
    fn a_resize_is_told_failed_and_the_image_is_as_it_was_or_told_done_and_it_has_the_new_size() {
        let disk = made(vec![image("/base")]);
        let before = shown(&disk, "/base").unwrap();
        let is = |size: u64| {
            let mut expected = before.clone();
            expected.resize(size as usize, 0);
            move |disk: &sim::Disk| so(shown(disk, "/base")? == expected, "the image shows something else")
        };
        fn args(change: Change) -> Args {
            let source = Source::named("/base").format(Some("qcow2")).writable();
            Args { source, change, quiet: true, shrink: true, preallocation: "off".to_owned() }
        }
        let grow = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move { resize(&mut console, &args(Change::Grow(SIZE))).await })
        };
        try_command("resize, larger", &disk, grow, &is(SIZE), &is(2 * SIZE));
        let shrink = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move { resize(&mut console, &args(Change::To(8192))).await })
        };
        try_command("resize, smaller", &disk, shrink, &is(SIZE), &is(8192));
    }
}
