//! `measure`: how large the file of a new image would be.

use super::Call;
use crate::console::Console;
use crate::creation::Creation;
use crate::failure::Failure;
use crate::flags::{self, Output, Target, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Source};
use crate::usage::Manual;
use crate::{json, outln, runtime};
use block::{Backend, BlockError, Opt, Options};

pub(super) const FLAGS: Table<Args> = &[
    &[
        Flag::help(),
        flags::target_format("-O --target-format", "format of the new image (raw)"),
        flags::target_options("-o --options", "options of the new image"),
        Flag::take("-s --size", "SIZE", "its virtual size, in place of FILE", |s, text| {
            s.size = Some(super::create::image_size(text)?);
            Ok(())
        }),
    ],
    &flags::source("format of FILE; found by its content if left out"),
    &[
        Flag::refused(
            "-l --snapshot",
            Some("SNAPSHOT"),
            "an internal snapshot of FILE (not yet)",
            "an internal snapshot (-l) is not supported yet",
        ),
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

/// What a file would need, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Measured {
    required: u64,
    full: u64,
    /// What bitmaps would need, where the source can have some.
    bitmaps: Option<u64>,
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
            let mut object = Options::new();
            if let Some(bitmaps) = bitmaps {
                object.set("bitmaps", Opt::Uint(bitmaps));
            }
            object.set("required", Opt::Uint(required));
            object.set("fully-allocated", Opt::Uint(full));
            outln!(console, "{}", json::pretty(&Opt::Dict(object)));
        }
    }
}

async fn measure(args: &Args) -> Result<Measured, Failure> {
    let graph = image::graph();
    let creation = Creation::new(&graph, args.target.format(), "", &args.target.options)?;
    // The size is judged with the layout.
    creation.judge(&graph, 0)?;
    let layout = match args.target.format() {
        "raw" => None,
        "qcow2" => Some(Layout::of(&creation)),
        other => {
            return Err(Failure::new(format_args!(
                "Block driver '{other}' does not support size measurement"
            )));
        }
    };
    if let Some(size) = args.size {
        return sized(layout.as_ref(), size, 0, &creation);
    }
    let image = image::open(&args.source).await?;
    let unit = layout.as_ref().map_or(SECTOR, |layout| layout.cluster);
    let data = match &layout {
        Some(_) => data_of(&image.backend, unit).await,
        None => Ok(0),
    };
    let (length, format) = (image.backend.length(), image.node().driver_name());
    let old = matches!(image.node().driver().info().specific, Some((_, options)) if options.get_str("compat") == Some("0.10"));
    image.close().await?;
    let measured = sized(layout.as_ref(), length, data?, &creation)?;
    let bitmaps = (layout.is_some() && format == "qcow2" && !old).then_some(0);
    Ok(Measured { bitmaps, ..measured })
}

const SECTOR: u64 = 512;

/// Bytes of an entry of an L1 or L2 table.
const ENTRY: u64 = 8;

/// The largest L1 table that any program opens.
const MAX_L1_BYTES: u64 = 32 << 20;

/// Bytes of the units of an image that hold data.
async fn data_of(backend: &Backend, unit: u64) -> Result<u64, BlockError> {
    let (total, mut at, mut sum, mut counted) = (backend.length(), 0, 0, 0);
    while at < total {
        let status = backend.status(at, total - at).await?;
        if status.data && !status.zero {
            let start = (at - at % unit).max(counted);
            let end = (at + status.len).next_multiple_of(unit);
            sum += end.saturating_sub(start);
            counted = end;
        }
        at += status.len;
    }
    Ok(sum)
}

fn sized(layout: Option<&Layout>, size: u64, data: u64, creation: &Creation) -> Result<Measured, Failure> {
    let too_large = || Failure::new("The image size is too large (try using a larger cluster size)");
    let size = size.checked_next_multiple_of(SECTOR).ok_or_else(too_large)?;
    let Some(layout) = layout else { return Ok(Measured { required: size, full: size, bitmaps: None }) };
    let size = size.checked_next_multiple_of(layout.cluster).ok_or_else(too_large)?;
    let full = layout.full(size).ok_or_else(too_large)?;
    let allocated = matches!(creation.text("preallocation"), Some("full" | "falloc"));
    let data = if allocated { size } else { data };
    Ok(Measured { required: full - size + data, full, bitmaps: None })
}

/// What decides how much metadata a qcow2 file has.
struct Layout {
    cluster: u64,
    refcount_bits: u64,
}

impl Layout {
    /// That of an image with options that `create` takes.
    fn of(creation: &Creation) -> Layout {
        let cluster = creation.number("cluster_size").unwrap_or(65536);
        let refcount_bits = creation.number("refcount_bits").unwrap_or(16);
        Layout { cluster, refcount_bits }
    }

    /// Bytes of a file that holds `size` bytes, all of them allocated; `None` if that is more than the format has
    /// tables for.
    fn full(&self, size: u64) -> Option<u64> {
        let cluster = self.cluster;
        let entries = (size / cluster).checked_next_multiple_of(cluster / ENTRY)?;
        let l2 = entries.checked_mul(ENTRY)?;
        let l1 = (l2 / cluster).checked_next_multiple_of(cluster / ENTRY)?.checked_mul(ENTRY)?;
        if l1 > MAX_L1_BYTES {
            return None;
        }
        let before = cluster.checked_add(l2)?.checked_add(l1)?.checked_add(size)?;
        before.checked_add(self.refcounts(before / cluster)?.checked_mul(cluster)?)
    }

    /// Clusters of refcount blocks and table that count `clusters` others and themselves.
    fn refcounts(&self, clusters: u64) -> Option<u64> {
        let counts_a_block = self.cluster * 8 / self.refcount_bits;
        let (mut own, mut last) = (0u64, u64::MAX);
        while own != last {
            last = own;
            let blocks = clusters.checked_add(own)?.div_ceil(counts_a_block);
            own = blocks + blocks.div_ceil(self.cluster / 8);
        }
        Some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_qcow2_file_has_the_size_that_is_known() {
        let full = |cluster, refcount_bits, size| Layout { cluster, refcount_bits }.full(size);
        assert_eq!(full(65536, 16, 0), Some(196608));
        assert_eq!(full(65536, 16, 1 << 30), Some(1074135040));
        assert_eq!(full(65536, 16, 1 << 40), Some(1099679662080));
        assert_eq!(full(512, 16, 10 << 30), Some(10951259648));
        assert_eq!(full(2 << 20, 64, 10 << 40), Some(10995208552448));
        assert_eq!(full(512, 1, 3 << 30), Some(3273156096));
    }

    #[test]
    fn an_image_of_more_than_the_tables_can_hold_has_no_size() {
        let full = |cluster, size| Layout { cluster, refcount_bits: 16 }.full(size);
        assert!(full(512, 128 << 30).is_some());
        assert_eq!(full(512, (128 << 30) + 512), None);
        assert_eq!(full(65536, 1 << 56), None);
    }
}
