//! `create`: a new image, empty or over a backing file.

use super::Call;
use crate::console::Console;
use crate::creation::{self, Creation};
use crate::failure::Failure;
use crate::flags::{self, Backing, Target, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image;
use crate::runtime;
use crate::usage::Manual;
use block::BlockError;

pub(super) const FLAGS: Table<Args> = &[&[
    Flag::help(),
    flags::quiet(),
    flags::target_format("-f --format", "format of the new image (raw)"),
    flags::target_options("-o --options", "options of the format; -o help lists them"),
    flags::backing("-b --backing", "the image that the new one stands on"),
    flags::backing_format("-F --backing-format -B", "format of the backing file"),
    Flag::set("-u --backing-unsafe", "do not open the backing file; SIZE is needed then", |s| {
        s.unchecked = true;
    }),
    flags::object(),
]];

const MANUAL: Manual = Manual {
    synopsis: "[-q] [-f FMT] [-b FILE -F FMT] [-u] [-o OPTIONS] FILE [SIZE]",
    about: "Makes an image. A file of that name is overwritten.",
    operands: &[
        ("FILE", "name of the new image"),
        ("SIZE", "virtual size, such as 10G; that of the backing file if left out"),
    ],
    examples: &[
        ("-f qcow2 disk.qcow2 10G", "an empty image of 10 GiB"),
        ("-f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2", "an overlay: what is written goes to it alone"),
    ],
    notes: "",
};

#[derive(Debug, Default)]
pub(super) struct Args {
    verbosity: Verbosity,
    target: Target,
    backing: Backing,
    unchecked: bool,
    filename: String,
    size: Option<u64>,
}

has_parts!(Args { verbosity: Verbosity, target: Target, backing: Backing });

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::default())? else {
        return Ok(0);
    };
    if args.target.options.wants_help() {
        creation::option_help(console, args.target.format(), operands.first().map(String::as_str))?;
        return Ok(0);
    }
    match operands.as_slice() {
        [] => return Err(Failure::usage("Expecting image file name")),
        [filename] => args.filename = filename.clone(),
        [filename, size] => {
            args.filename = filename.clone();
            args.size = Some(image_size(size)?);
        }
        [_, _, more, ..] => return Err(Failure::usage(format_args!("Unexpected argument: {more}"))),
    }
    runtime::run(create(console, &args))?
        .map_err(|failure| failure.within(&block::hide_passwords(&args.filename)))?;
    Ok(0)
}

/// Reads the virtual size of a new image.
pub(super) fn image_size(text: &str) -> Result<u64, Failure> {
    super::bounded("image size", text, 0, i64::MAX as u64)
}

async fn create(console: &mut Console, args: &Args) -> Result<(), Failure> {
    let graph = image::graph();
    let mut creation = Creation::new(&graph, args.target.format(), &args.filename, &args.target.options)?;
    match (creation.size(), args.size) {
        (Some(_), Some(_)) => return Err(Failure::new("The image size must be specified only once")),
        (None, Some(size)) => creation.set_size(size),
        (_, None) => {}
    }
    creation.set_backing(args.backing.name.as_deref(), args.backing.format.as_deref())?;
    let backing = creation.text("backing_file").map(str::to_owned);
    let format = creation.text("backing_fmt").map(str::to_owned);
    if backing.as_deref() == Some("") {
        return Err(Failure::new("Expected backing file name, got empty string"));
    }
    if let Some(name) = format.as_deref() {
        graph.registry().find_or(name, |name| format!("Unknown backing file format '{name}'"))?;
    }
    if backing.is_some() && format.is_none() && args.unchecked {
        return Err(Failure::new("Backing file specified without backing format"));
    }
    let mut base = None;
    if let Some(backing) = &backing
        && !args.unchecked
    {
        let told = |error: BlockError| {
            Failure::new(format_args!("{error}\nCould not open backing image.")).because(&error)
        };
        let format = format.as_deref();
        let opened = creation::open_backing(&graph, &args.filename, backing, format, told).await?;
        if creation.size().is_none() {
            creation.set_size(opened.length());
        }
        base = Some(opened);
    }
    if creation.size().is_none() && creation.has_size() {
        return Err(Failure::new("Image creation needs a size parameter"));
    }
    if !args.verbosity.quiet {
        creation.tell(console);
    }
    if backing.is_none() && format.is_some() {
        return Err(Failure::new("Backing format cannot be used without backing file"));
    }
    let made = creation.make(&graph).await;
    if let Some(base) = base {
        graph.release(&base).await?;
    }
    Ok(made?)
}

#[cfg(test)]
mod tests {
    use super::super::faults::{content_of, disk_with, ensure, fail_each_request, image};
    use super::*;

    #[test]
    fn a_create_that_fails_leaves_no_file_and_one_that_succeeds_a_durable_image() {
        let disk = disk_with(vec![image("/base")]);
        let old = |disk: &sim::Disk| ensure(disk.content("/new").is_none(), "a file is left");
        let new = |disk: &sim::Disk| {
            ensure(content_of(disk, "/new")?.len() == 1 << 20, "the image has another size")?;
            ensure(
                content_of(&disk.cut_keeping(|_| false), "/new").is_ok(),
                "the image is gone after a power cut",
            )
        };
        let make = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move {
                let args = Args {
                    verbosity: Verbosity { quiet: true, progress: false },
                    target: Target { format: Some("qcow2".to_owned()), ..Target::default() },
                    backing: Backing { name: Some("/base".to_owned()), format: Some("qcow2".to_owned()) },
                    filename: "/new".to_owned(),
                    size: Some(1 << 20),
                    ..Args::default()
                };
                create(&mut console, &args).await
            })
        };
        fail_each_request("create", &disk, make, &old, &new);
    }
}
