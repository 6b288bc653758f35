//! `hash`: one digest for the content of a disk, whatever its format and layout, and the check of digests that were kept.

mod list;

use super::Call;
use crate::console::Console;
use crate::digest::{self, Digest, ReadError, Scheme};
use crate::failure::Failure;
use crate::flags::{self, Output, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Source};
use crate::progress::{Progress, Told};
use crate::usage::Manual;
use crate::{outln, progress, runtime};
use api::{Encode, ImageDigest};
use list::{Line, Lines};

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help(), flags::quiet(), flags::progress()],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        flags::snapshot("-l --snapshot", "an internal snapshot instead of the disk, by id or name"),
        flags::source_cache("-T --cache", "cache mode (writeback)"),
        flags::force_share("read even while another process writes"),
        Flag::set("-c --check", "FILE holds digests and names of images: tell whether they agree", |s| {
            s.check = true;
        }),
        Flag::set("--blkhash", "the digest that 'blksum' tells (SHA-256)", |s| s.scheme = Scheme::Blkhash),
        flags::output(),
        flags::object(),
    ],
];

const MANUAL: Manual = Manual {
    synopsis: "[-f FMT | --image-opts] [-l SNAPSHOT] [-T MODE] [-U] [-p] [-q] [-c] [--blkhash] [--output=human|json] FILE...",
    about: "Tells the digest of a disk's content: the same for each format, layout and allocation.",
    operands: &[("FILE", "an image; with --check a file of lines that 'hash' has printed, or '-'")],
    examples: &[
        ("disk.qcow2 copy.raw", "two equal lines, if one is a copy of the other"),
        ("*.qcow2 >digests", "the digests of many images"),
        ("--check digests", "exit code 0: all of them are as they were"),
    ],
    notes: "Behind the end of a disk nothing is looked at, but its size counts. docs/hash.md specifies the digest.",
};

#[derive(Debug)]
pub(super) struct Args {
    /// What holds for all images.
    source: Source,
    scheme: Scheme,
    check: bool,
    output: Output,
    verbosity: Verbosity,
}

has_parts!(Args { source: Source, output: Output, verbosity: Verbosity });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            source: Source::named(""),
            scheme: Scheme::default(),
            check: false,
            output: Output::default(),
            verbosity: Verbosity::default(),
        }
    }
}

/// What an image is found to be.
struct Hashed {
    format: &'static str,
    size: u64,
    digest: Digest,
}

impl Hashed {
    fn told(&self, name: &str, scheme: Scheme) -> ImageDigest {
        ImageDigest {
            filename: name.to_owned(),
            format: Some(self.format.to_owned()),
            virtual_size: Some(self.size),
            algorithm: Some(scheme.algorithm()),
            digest: Some(self.digest.to_string()),
            ..ImageDigest::default()
        }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    super::exclusive(&args.source)?;
    if operands.is_empty() {
        return Err(Failure::usage("Expecting at least one image file name"));
    }
    let work = async {
        match args.check {
            true => check(console, &args, &operands).await,
            false => Ok(hash_all(console, &args, &operands).await),
        }
    };
    runtime::run(work)?
}

async fn hash_all(console: &mut Console, args: &Args, names: &[String]) -> u8 {
    let (mut objects, mut code) = (Vec::new(), 0);
    for name in names {
        match hash(console, args, name).await {
            Ok(hashed) if args.output == Output::Json => objects.push(hashed.told(name, args.scheme)),
            Ok(hashed) => outln!(console, "{}", Line { digest: hashed.digest, name: name.clone() }),
            Err(failure) => code = failure.passing().tell(console),
        }
    }
    if args.output == Output::Json {
        console.json(&objects.encode());
    }
    code
}

/// Checks the digests of all lists.
async fn check(console: &mut Console, args: &Args, lists: &[String]) -> Result<u8, Failure> {
    let (mut objects, mut lines, mut differing, mut unread) = (Vec::new(), 0u64, 0u64, 0u64);
    for list in lists {
        for line in Lines::of(list)? {
            let Line { digest, name } = line?;
            let hashed = hash(console, args, &name).await.map_err(Failure::passing);
            lines += 1;
            let verdict = match &hashed {
                Ok(hashed) if hashed.digest == digest => "OK",
                Ok(_) => "FAILED",
                Err(_) => "FAILED open or read",
            };
            differing += u64::from(verdict == "FAILED");
            if let Err(failure) = &hashed {
                failure.tell(console);
                unread += 1;
            }
            match (args.output, &hashed) {
                (Output::Human, Ok(_)) if args.verbosity.quiet && verdict == "OK" => {}
                (Output::Human, _) => outln!(console, "{name}: {verdict}"),
                (Output::Json, hashed) => {
                    let told = match hashed {
                        Ok(hashed) => hashed.told(&name, args.scheme),
                        Err(failure) => ImageDigest {
                            filename: name.clone(),
                            error: Some(failure.message().to_owned()),
                            ..ImageDigest::default()
                        },
                    };
                    let (expected, equal) = (Some(digest.to_string()), Some(verdict == "OK"));
                    objects.push(ImageDigest { expected, equal, ..told });
                }
            }
        }
    }
    if args.output == Output::Json {
        console.json(&objects.encode());
    }
    if lines == 0 {
        return Err(Failure::new("there are no digests to check"));
    }
    console.flush();
    if differing > 0 {
        console
            .warning(format_args!("{differing} of {lines} images do not have the content that was expected"));
    }
    if unread > 0 {
        console.warning(format_args!("{unread} of {lines} images could not be read"));
    }
    Ok(u8::from(differing + unread > 0))
}

async fn hash(console: &mut Console, args: &Args, name: &str) -> Result<Hashed, Failure> {
    let source = Source { name: name.to_owned(), ..args.source.clone() };
    let image = image::open(&source).await?;
    if let Err(failure) = image.keep_writers_out(&source).await {
        return image.close_after(console, Err(failure)).await;
    }
    let size = image.backend.length();
    let told = Told::bytes(size);
    let mut progress = Progress::new(console, args.verbosity);
    let work = digest::of_image(&image.backend, args.scheme, &told);
    let digest = progress::watch(console, &mut progress, &told, work, Result::is_ok).await;
    progress.end(console);
    let format = image.node().driver_name();
    let hashed = digest.map(|digest| Hashed { format, size, digest });
    let told = |error: ReadError| Failure::new(format_args!("'{name}': {error}")).because(&error.error);
    let hashed = hashed.map_err(told);
    image.close_after(console, hashed).await
}
