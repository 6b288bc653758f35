//! `resize`: a larger or, when asked for twice, a smaller image.

use super::Call;
use crate::console::Console;
use crate::creation;
use crate::failure::Failure;
use crate::flags::{self, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Source};
use crate::usage::Manual;
use crate::{outln, runtime};
use api::PreallocMode;

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help(), flags::quiet()],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        Flag::set("--shrink", "give up what lies beyond the new end", |s| s.shrink = true),
        Flag::take(
            "--preallocation",
            "off|metadata|falloc|full",
            "how what it grows by is allocated (off)",
            |s, word| {
                s.preallocation = flags::read_preallocation(word)?;
                Ok(())
            },
        ),
        flags::object(),
    ],
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
#[derive(Clone, Copy, Debug)]
enum NewSize {
    Exactly(u64),
    LargerBy(u64),
    SmallerBy(u64),
}

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    verbosity: Verbosity,
    shrink: bool,
    preallocation: PreallocMode,
}

has_parts!(Args { source: Source, verbosity: Verbosity });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            source: Source::named("").writable(),
            verbosity: Verbosity::default(),
            shrink: false,
            preallocation: PreallocMode::Off,
        }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    // A size such as -1G looks like flags: the last word is set apart before the flags are read.
    let (last, rest) = match call.args.split_last() {
        Some((last, rest)) if looks_like_size(last) => (Some(last), rest),
        _ => (None, call.args),
    };
    let call = Call { name: call.name.clone(), args: rest };
    let Some((mut args, mut operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else {
        return Ok(0);
    };
    operands.extend(last.cloned());
    let size = match operands.as_slice() {
        [name, size] => {
            args.source.name = name.clone();
            new_size(size)?
        }
        [_, _, ..] => return Err(Failure::usage("Extra argument(s) in command line")),
        _ => return Err(Failure::usage("Expecting image file name and size")),
    };
    super::exclusive(&args.source)?;
    runtime::run(resize(console, &args, size))??;
    Ok(0)
}

fn looks_like_size(word: &str) -> bool {
    word.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn new_size(text: &str) -> Result<NewSize, Failure> {
    let size = |text| creation::size_value("size", text);
    if let Some(more) = text.strip_prefix('+') {
        return size(more).map(NewSize::LargerBy);
    }
    if let Some(less) = text.strip_prefix('-') {
        return size(less).map(NewSize::SmallerBy);
    }
    size(text).map(NewSize::Exactly)
}

async fn resize(console: &mut Console, args: &Args, size: NewSize) -> Result<(), Failure> {
    let image = image::open(&args.source).await?;
    if image.guessed_raw {
        image::warn_of_guess(console, &args.source.name);
    }
    let result = apply(&image, args, size, console).await;
    // Where it has failed nothing was changed: there is nothing whose loss the close could tell.
    image.close_after(console, result).await?;
    if !args.verbosity.quiet {
        outln!(console, "Image resized.");
    }
    Ok(())
}

async fn apply(
    image: &image::Image,
    args: &Args,
    size: NewSize,
    console: &mut Console,
) -> Result<(), Failure> {
    let old = image.backend.length();
    let new = match size {
        NewSize::Exactly(size) => Some(size),
        NewSize::LargerBy(more) => old.checked_add(more),
        NewSize::SmallerBy(less) => old.checked_sub(less),
    };
    let Some(new) = new.filter(|new| *new > 0 && i64::try_from(*new).is_ok()) else {
        return Err(Failure::new("New image size must be positive"));
    };
    if new <= old && args.preallocation != PreallocMode::Off {
        return Err(Failure::new("Preallocation can only be used for growing images"));
    }
    if new < old && !args.shrink {
        console.fail(&Failure::new("Use the --shrink option to perform a shrink operation."));
        console.warning(
            "A smaller image loses all data beyond its new end. Make sure that nothing of value is there first.",
        );
        return Err(Failure::silent(1));
    }
    let resized = image.graph.resize(&image.node(), new, args.preallocation).await;
    Ok(resized?)
}

#[cfg(test)]
mod tests {
    use super::super::faults::{SIZE, content_of, disk_with, ensure, fail_each_request, image};
    use super::*;

    #[test]
    fn a_resize_that_fails_leaves_the_image_as_it_was_and_one_that_succeeds_gives_it_the_new_size() {
        let disk = disk_with(vec![image("/base")]);
        let before = content_of(&disk, "/base").unwrap();
        let is = |size: u64| {
            let mut expected = before.clone();
            expected.resize(size as usize, 0);
            move |disk: &sim::Disk| {
                ensure(content_of(disk, "/base")? == expected, "the image shows something else")
            }
        };
        fn args() -> Args {
            let source = Source::named("/base").format(Some("qcow2")).writable();
            let verbosity = Verbosity { quiet: true, progress: false };
            Args { source, verbosity, shrink: true, ..Args::new() }
        }
        let grow = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move { resize(&mut console, &args(), NewSize::LargerBy(SIZE)).await })
        };
        fail_each_request("resize, larger", &disk, grow, &is(SIZE), &is(2 * SIZE));
        let shrink = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move { resize(&mut console, &args(), NewSize::Exactly(8192)).await })
        };
        fail_each_request("resize, smaller", &disk, shrink, &is(SIZE), &is(8192));
    }
}
