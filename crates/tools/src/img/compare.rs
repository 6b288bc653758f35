//! `compare`: whether two images have the same content.
//!
//! Exit codes: 0 the same, 1 different, 2 an image can't be opened, 3 the block status of one can't be had, 4 one can't be
//! read.

use super::Call;
use crate::compare::{Compare, CompareError, Difference};
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::progress::Progress;
use crate::usage::Manual;
use crate::{cache, outln, progress, runtime};

pub(super) const FLAGS: Table<Args> = &[&[
    Flag::help(),
    flags::quiet(),
    flags::progress(),
    Flag::take("-f --a-format", "FMT", "format of the first image", |s, format| {
        s.formats[0] = Some(format.to_owned());
        Ok(())
    }),
    Flag::take("-F --b-format", "FMT", "format of the second image", |s, format| {
        s.formats[1] = Some(format.to_owned());
        Ok(())
    }),
    flags::image_opts("--image-opts", "both images are lists of options, not names"),
    Flag::set("-s --strict", "sizes and what is stored must be the same too", |s| s.strict = true),
    Flag::take("-T --cache", cache::MODES, "cache mode (writeback)", |s, mode| {
        s.both.cache = flags::read_source_cache(mode).map_err(|failure| failure.with_code(2))?;
        Ok(())
    }),
    flags::force_share("read even while another process writes"),
    flags::object(),
]];

#[derive(Debug)]
pub(super) struct Args {
    /// What holds for both images.
    both: Source,
    formats: [Option<String>; 2],
    strict: bool,
    verbosity: Verbosity,
}

has_parts!(Args { both: Source, verbosity: Verbosity });

impl Args {
    pub(super) fn new() -> Args {
        let (both, verbosity) = (Source::named(""), Verbosity::default());
        Args { both, formats: [None, None], strict: false, verbosity }
    }
}

const MANUAL: Manual = Manual {
    synopsis: "[-q] [-p] [-s] [-f FMT] [-F FMT] [-T MODE] [-U] FILE1 FILE2",
    about: "Tells whether two images have the same content. Beyond its end an image counts as zeroes.",
    operands: &[("FILE1, FILE2", "the images")],
    examples: &[(
        "-f raw -F qcow2 disk.raw disk.qcow2",
        "exit code 0: the same, 1: different, above: an error",
    )],
    notes: "",
};

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    let Ok(names) = <[String; 2]>::try_from(operands) else {
        return Err(Failure::usage("Expecting two image file names"));
    };
    let sources = args.sources(names);
    for source in &sources {
        super::exclusive(source).map_err(|failure| failure.with_code(2))?;
    }
    runtime::run(open_and_compare(console, &sources, &args))?
}

impl Args {
    fn sources(&self, names: [String; 2]) -> [Source; 2] {
        let [one, other] = names;
        let [format, other_format] = self.formats.clone();
        let source = |name, format| Source { name, format, ..self.both.clone() };
        [source(one, format), source(other, other_format)]
    }
}

async fn open_and_compare(console: &mut Console, sources: &[Source; 2], args: &Args) -> Result<u8, Failure> {
    let [one, other] = sources;
    let one = image::open(one).await.map_err(|failure| failure.with_code(2))?;
    let other = match image::open(other).await {
        Ok(other) => other,
        Err(failure) => return one.close().await.map_err(Failure::from).and(Err(failure.with_code(2))),
    };
    let images = [one, other];
    let mut progress = Progress::new(console, args.verbosity);
    let result = compare(console, &images, args, &mut progress).await;
    let closed = image::close_all(images.into()).await;
    let (code, words) = result.map_err(|error| failure_of(sources, error))?;
    closed?;
    if !args.verbosity.quiet {
        outln!(console, "{words}");
    }
    progress.end(console);
    Ok(code)
}

async fn compare(
    console: &mut Console,
    images: &[Image; 2],
    args: &Args,
    progress: &mut Progress,
) -> Result<(u8, String), CompareError> {
    let [one, other] = images;
    let lengths = [one.backend.length(), other.backend.length()];
    let same_length = lengths[0] == lengths[1];
    if args.strict && !same_length {
        return Ok((1, "Strict mode: Image size mismatch!".to_owned()));
    }
    let compare = Compare::new([one.backend.clone(), other.backend.clone()], args.strict);
    // Of empty images nothing is told.
    let same = |found: &Result<_, _>| matches!(found, Ok(None)) && compare.told().done() == 0;
    let found = progress::watch(console, progress, compare.told(), compare.run(), same).await?;
    // The sizes matter only where what both have is the same.
    let common = lengths[0].min(lengths[1]);
    if !same_length && !args.verbosity.quiet && found.is_none_or(|difference| difference.offset() >= common) {
        outln!(console, "Warning: Image size mismatch!");
    }
    Ok(match found {
        None => (0, "Images are identical.".to_owned()),
        Some(Difference::Content(offset)) => (1, format!("Content mismatch at offset {offset}!")),
        Some(Difference::Status(offset)) => {
            (1, format!("Strict mode: Offset {offset} block status mismatch!"))
        }
    })
}

fn failure_of(sources: &[Source; 2], error: CompareError) -> Failure {
    let name = |side: usize| sources.get(side).map(|source| source.name.as_str()).unwrap_or_default();
    match error {
        CompareError::Read(side, offset, error) => Failure::new(format_args!(
            "Error while reading offset {offset} of {}: {}",
            name(side),
            error.strerror()
        ))
        .because(&error)
        .with_code(4),
        CompareError::Status(side, offset, error) => Failure::new(format_args!(
            "Sector allocation test failed for {}: offset {offset}: {}",
            name(side),
            error.strerror()
        ))
        .because(&error)
        .with_code(3),
        CompareError::Lost(error) => Failure::new(error).with_code(4),
    }
}
