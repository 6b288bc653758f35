//! `measure`: how large the file of a new image would be.

use super::Call;
use crate::console::Console;
use crate::creation::Creation;
use crate::failure::Failure;
use crate::flags::{self, Output, Target, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Source};
use crate::usage::Manual;
use crate::{outln, runtime};
use api::{BlockMeasureInfo, Encode};
use block::Measured;

pub(super) const FLAGS: Table<Args> = &[
    &[
        Flag::help(),
        flags::target_format("-O --target-format", "format of the new image (raw)"),
        flags::target_options("-o --options --target-format-options", "options of the new image"),
        Flag::take("-s --size", "SIZE", "its virtual size, in place of FILE", |s, text| {
            s.size = Some(super::create::image_size(text)?);
            Ok(())
        }),
    ],
    &flags::source("format of FILE; found by its content if left out"),
    &[
        flags::snapshot("-l --snapshot", "an internal snapshot of FILE, by id or name"),
        flags::output(),
        flags::force_share("look even while another process writes"),
        flags::object(),
    ],
];

const MANUAL: Manual = Manual {
    synopsis: "[-O FMT] [-o OPTIONS] [--output=human|json] (--size=SIZE | [-f FMT | --image-opts] [-U] FILE)",
    about: "Tells how large the file of a new image would be.",
    operands: &[("FILE", "the image to be converted")],
    examples: &[
        ("-O qcow2 --size 10G", "an empty image, and the same when it is full"),
        ("-O qcow2 disk.raw", "what a conversion would need"),
    ],
    notes: "",
};

#[derive(Debug)]
pub(super) struct Args {
    /// The image to be converted; its name is empty where only a size is given.
    source: Source,
    size: Option<u64>,
    target: Target,
    output: Output,
}

has_parts!(Args { source: Source, target: Target, output: Output });

impl Args {
    pub(super) fn new() -> Args {
        let (target, output) = (Target::default(), Output::default());
        Args { source: Source::named(""), size: None, target, output }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    super::exclusive(&args.source)?;
    if args.source.snapshot.is_some() && operands.is_empty() {
        return Err(Failure::new("--image-opts, -f, and -l can only be used with a filename argument."));
    }
    match (operands.as_slice(), args.size) {
        ([_, _, ..], _) => return Err(Failure::new("At most one filename argument is allowed.")),
        ([_], Some(_)) => return Err(Failure::new("--size N cannot be used together with a filename.")),
        ([], None) => return Err(Failure::new("Either --size N or one filename must be specified.")),
        ([name], None) => args.source.name = name.clone(),
        ([], Some(_)) => {}
    }
    let measured = runtime::run(measure(&args))??;
    print(console, &args, &measured);
    Ok(0)
}

fn print(console: &mut Console, args: &Args, measured: &Measured) {
    let Measured { required, full, bitmaps } = *measured;
    match args.output {
        Output::Human => {
            outln!(console, "required size: {required}\nfully allocated size: {full}");
            if let Some(bitmaps) = bitmaps {
                outln!(console, "bitmaps size: {bitmaps}");
            }
        }
        Output::Json => {
            console.json(&BlockMeasureInfo { bitmaps, required, fully_allocated: full }.encode());
        }
    }
}

async fn measure(args: &Args) -> Result<Measured, Failure> {
    let graph = image::graph();
    let creation = Creation::new(&graph, args.target.format(), "", &args.target.options)?;
    if let Some(size) = args.size {
        return Ok(creation.measure(&graph, size, None).await?);
    }
    let image = image::open(&args.source).await?;
    let measured = creation.measure(&graph, image.backend.length(), Some(&image.backend)).await;
    image.close().await?;
    Ok(measured?)
}
