//! `compare`: whether two images have the same content.
//!
//! Exit codes: 0 the same, 1 different, 2 an image can't be opened, 3 one does not tell what it holds, 4 one can't be
//! read.

use super::{Asked, Call};
use crate::cache::Cache;
use crate::compare::{Compare, CompareError, Difference};
use crate::console::Console;
use crate::failure::Failure;
use crate::getopt::Flag;
use crate::image::{self, Image, Source};
use crate::progress::Progress;
use crate::usage::Manual;
use crate::{object, outln, progress, runtime};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Help,
    Quiet,
    Progress,
    Format,
    OtherFormat,
    ImageOpts,
    Strict,
    Cache,
    ForceShare,
    Object,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::bare(Id::Help, Some('h'), Some("help"), "print this help"),
    Flag::bare(Id::Quiet, Some('q'), Some("quiet"), "print nothing but errors"),
    Flag::bare(Id::Progress, Some('p'), Some("progress"), "show how far it is"),
    Flag::valued(Id::Format, Some('f'), Some("a-format"), "FMT", "format of the first image"),
    Flag::valued(Id::OtherFormat, Some('F'), Some("b-format"), "FMT", "format of the second image"),
    Flag::bare(Id::ImageOpts, None, Some("image-opts"), "both images are lists of options, not names"),
    Flag::bare(Id::Strict, Some('s'), Some("strict"), "sizes and what is stored must be the same too"),
    Flag::valued(Id::Cache, Some('T'), Some("cache"), "MODE", "cache mode (writeback)"),
    Flag::bare(Id::ForceShare, Some('U'), Some("force-share"), "read even while another process writes"),
    Flag::valued(Id::Object, None, Some("object"), "TYPE,id=ID,...", "make an object, such as a secret"),
];

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
    let Asked::Work(parsed) = call.parse(console, &MANUAL, FLAGS, Id::Help)? else { return Ok(0) };
    let (mut one, mut other) = (Source::named(""), Source::named(""));
    let mut cache = Cache::WRITEBACK;
    for (id, value) in &parsed.flags {
        match id {
            Id::Format => one.format = Some(value.clone()),
            Id::OtherFormat => other.format = Some(value.clone()),
            Id::Cache => {
                cache = Cache::parse_for("Invalid source cache option", value)
                    .map_err(|error| Failure::new(error).with_code(2))?
            }
            Id::Object => object::accept(value)?,
            _ => {}
        }
    }
    let [first, second] = parsed.operands.as_slice() else {
        return Err(Failure::usage("Expecting two image file names"));
    };
    let mut sources = [(one, first), (other, second)].map(|(source, name)| Source {
        name: name.clone(),
        image_opts: parsed.has(Id::ImageOpts),
        cache,
        force_share: parsed.has(Id::ForceShare),
        ..source
    });
    for source in &mut sources {
        super::exclusive(source).map_err(|failure| failure.with_code(2))?;
    }
    let quiet = parsed.has(Id::Quiet);
    let shown = parsed.has(Id::Progress) && !quiet;
    runtime::run(open_and_compare(console, &sources, parsed.has(Id::Strict), quiet, shown))?
}

async fn open_and_compare(
    console: &mut Console,
    sources: &[Source; 2],
    strict: bool,
    quiet: bool,
    shown: bool,
) -> Result<u8, Failure> {
    let [one, other] = sources;
    let one = image::open(one).await.map_err(|failure| failure.with_code(2))?;
    let other = match image::open(other).await {
        Ok(other) => other,
        Err(failure) => return one.close().await.map_err(Failure::from).and(Err(failure.with_code(2))),
    };
    let images = [one, other];
    let result = compare(console, &images, strict, quiet, shown).await;
    let closed = image::close_all(images.into()).await;
    let (code, words) = result.map_err(|error| failure_of(sources, error))?;
    closed?;
    if !quiet {
        outln!(console, "{words}");
    }
    if shown {
        outln!(console);
    }
    Ok(code)
}

async fn compare(
    console: &mut Console,
    images: &[Image; 2],
    strict: bool,
    quiet: bool,
    shown: bool,
) -> Result<(u8, String), CompareError> {
    let [one, other] = images;
    let lengths = [one.backend.length(), other.backend.length()];
    let same_length = lengths[0] == lengths[1];
    if strict && !same_length {
        return Ok((1, "Strict mode: Image size mismatch!".to_owned()));
    }
    let compare = Compare::new([one.backend.clone(), other.backend.clone()], strict);
    let mut progress = Progress::new(shown);
    let done = || compare.progress();
    let found = progress::watch(console, &mut progress, compare.total(), done, compare.run()).await?;
    // The sizes are only worth a word where what both have is the same.
    let common = lengths[0].min(lengths[1]);
    if !same_length && !quiet && found.is_none_or(|difference| difference.offset() >= common) {
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
        .with_code(4),
        CompareError::Status(side, offset, error) => Failure::new(format_args!(
            "Sector allocation test failed for {}: offset {offset}: {}",
            name(side),
            error.strerror()
        ))
        .with_code(3),
        CompareError::Lost(error) => Failure::new(error).with_code(4),
    }
}
