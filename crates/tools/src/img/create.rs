//! `create`: a new image, empty or over a backing file.

use super::{Asked, Call};
use crate::console::Console;
use crate::creation::{self, Creation, OptionList};
use crate::failure::Failure;
use crate::getopt::Flag;
use crate::image;
use crate::usage::Manual;
use crate::{object, runtime};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Help,
    Quiet,
    Format,
    Options,
    Backing,
    BackingFormat,
    Unsafe,
    Object,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::bare(Id::Help, Some('h'), Some("help"), "print this help"),
    Flag::bare(Id::Quiet, Some('q'), Some("quiet"), "print nothing but errors"),
    Flag::valued(Id::Format, Some('f'), Some("format"), "FMT", "format of the new image (raw)"),
    Flag::valued(
        Id::Options,
        Some('o'),
        Some("options"),
        "OPTIONS",
        "options of the format; -o help lists them",
    ),
    Flag::valued(Id::Backing, Some('b'), Some("backing"), "FILE", "the image that the new one stands on"),
    Flag::valued(Id::BackingFormat, Some('F'), Some("backing-format"), "FMT", "format of the backing file"),
    Flag::bare(
        Id::Unsafe,
        Some('u'),
        Some("backing-unsafe"),
        "do not open the backing file; SIZE is needed then",
    ),
    Flag::valued(Id::Object, None, Some("object"), "TYPE,id=ID,...", "make an object, such as a secret"),
];

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

struct Args {
    quiet: bool,
    format: String,
    list: OptionList,
    backing: Option<String>,
    backing_format: Option<String>,
    unchecked: bool,
    filename: String,
    size: Option<u64>,
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Asked::Work(parsed) = call.parse(console, &MANUAL, FLAGS, Id::Help)? else { return Ok(0) };
    let mut args = Args {
        quiet: false,
        format: "raw".to_owned(),
        list: OptionList::default(),
        backing: None,
        backing_format: None,
        unchecked: false,
        filename: String::new(),
        size: None,
    };
    for (id, value) in &parsed.flags {
        match id {
            Id::Help => {}
            Id::Quiet => args.quiet = true,
            Id::Format => args.format = value.clone(),
            Id::Options => args.list.add(value)?,
            Id::Backing => args.backing = Some(value.clone()),
            Id::BackingFormat => args.backing_format = Some(value.clone()),
            Id::Unsafe => args.unchecked = true,
            Id::Object => object::accept(value)?,
        }
    }
    if args.list.wants_help() {
        creation::option_help(console, &args.format, parsed.operands.first().map(String::as_str))?;
        return Ok(0);
    }
    match parsed.operands.as_slice() {
        [] => return Err(Failure::usage("Expecting image file name")),
        [filename] => args.filename = filename.clone(),
        [filename, size] => {
            args.filename = filename.clone();
            args.size = Some(image_size(size)?);
        }
        [_, _, more, ..] => return Err(Failure::usage(format_args!("Unexpected argument: {more}"))),
    }
    runtime::run(create(console, &args))?.map_err(|failure| failure.within(&args.filename))?;
    Ok(0)
}

/// Reads the virtual size of a new image.
pub(super) fn image_size(text: &str) -> Result<u64, Failure> {
    super::bounded("image size", text, 0, i64::MAX as u64)
}

async fn create(console: &mut Console, args: &Args) -> Result<(), Failure> {
    let graph = image::graph();
    let mut creation = Creation::new(&graph, &args.format, &args.filename, &args.list)?;
    match (creation.size(), args.size) {
        (Some(_), Some(_)) => return Err(Failure::new("The image size must be specified only once")),
        (None, Some(size)) => creation.set_size(size),
        (_, None) => {}
    }
    creation.set_backing(args.backing.as_deref(), args.backing_format.as_deref())?;
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
        let told = |error| Failure::new(format_args!("{error}\nCould not open backing image."));
        let format = format.as_deref();
        let opened = creation::open_backing(&graph, &args.filename, backing, format, told).await?;
        if creation.size().is_none() {
            creation.set_size(opened.length());
        }
        base = Some(opened);
    }
    if creation.size().is_none() {
        return Err(Failure::new("Image creation needs a size parameter"));
    }
    if !args.quiet {
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
    use super::super::told::{image, made, shown, so, try_command};
    use super::*;

    #[test]
    fn a_create_is_told_failed_and_no_file_is_left_or_told_done_and_the_image_is_there_to_last() {
        let disk = made(vec![image("/base")]);
        let old = |disk: &sim::Disk| so(disk.content("/new").is_none(), "a file is left");
        let new = |disk: &sim::Disk| {
            so(shown(disk, "/new")?.len() == 1 << 20, "the image has another size")?;
            so(shown(&disk.cut_keeping(|_| false), "/new").is_ok(), "the image is gone after a power cut")
        };
        let make = |mut console| -> rt::BoxFuture<'static, _> {
            Box::pin(async move {
                let (backing, format) = (Some("/base".to_owned()), Some("qcow2".to_owned()));
                let args = Args {
                    quiet: true,
                    format: "qcow2".to_owned(),
                    list: OptionList::default(),
                    backing,
                    backing_format: format,
                    unchecked: false,
                    filename: "/new".to_owned(),
                    size: Some(1 << 20),
                };
                create(&mut console, &args).await
            })
        };
        try_command("create", &disk, make, &old, &new);
    }
}
