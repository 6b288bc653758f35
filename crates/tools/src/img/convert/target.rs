//! The new image that a conversion fills.

use super::Args;
use super::NO_COMPRESSION;
use crate::creation::{self, Creation};
use crate::failure::Failure;
use crate::image::Image;
use block::{BlockError, Graph, Repair};

/// Makes the target; `total` is the size where no option says another.
pub(super) async fn create_target(graph: &Graph, args: &Args, total: u64) -> Result<(), Failure> {
    let format = args.target.format();
    let mut creation = Creation::new(graph, format, &args.output, &args.target.options)?;
    if args.journal.is_some() && creation.streams() {
        return Err(no_journal(&args.output));
    }
    if args.compress {
        can_compress(graph, format, &creation)?;
    }
    creation.set_backing(args.backing.name.as_deref(), args.backing.format.as_deref())?;
    let backing = creation.text("backing_file").map(str::to_owned);
    let backing_format = creation.text("backing_fmt").map(str::to_owned);
    let mut base = None;
    match (&backing, &backing_format) {
        (Some(_), None) => return Err(Failure::new("Use of backing file requires explicit backing format")),
        (None, Some(_)) => return Err(Failure::new("Backing format cannot be used without backing file")),
        (Some(backing), Some(format)) => {
            let name = &args.output;
            let told = |error: BlockError| {
                let what = format_args!("Could not open '{name}': Could not open backing file: {error}");
                Failure::new(what).because(&error)
            };
            base = Some(creation::open_backing(graph, name, backing, Some(format), told).await?);
        }
        (None, None) => {}
    }
    if creation.size().is_none() {
        creation.set_size(total);
    }
    let made = creation.make(graph).await.map_err(|error| {
        let name = block::hide_passwords(&args.output);
        let what = format_args!("{name}: error while converting {format}: {error}");
        Failure::new(what).because(&error)
    });
    if let Some(base) = base {
        graph.release(&base).await?;
    }
    made
}

/// The failure of a target that nothing can go on in.
pub(super) fn no_journal(target: &str) -> Failure {
    Failure::new(format_args!(
        "'{target}' is written as one stream: no conversion can go on in it, and --journal is of no use"
    ))
}

/// Refuses to compress what can't be, before a file is touched.
fn can_compress(graph: &Graph, format: &str, creation: &Creation) -> Result<(), Failure> {
    if !graph.registry().need(format)?.supports_compression {
        return Err(Failure::new(NO_COMPRESSION));
    }
    if creation.text("encrypt.format").is_some() || creation.is_on("encryption") {
        return Err(Failure::new("Compression and encryption not supported at the same time"));
    }
    if creation.text("preallocation").is_some_and(|mode| mode != "off") {
        return Err(Failure::new("Compression and preallocation not supported at the same time"));
    }
    Ok(())
}

/// Gives back the space that a conversion which was cut off has taken in the target and not used. What else there is to mend, the
/// open for writing has mended.
pub(super) async fn give_back_leaks(target: &Image) -> Result<(), BlockError> {
    let node = target.node();
    let Some(checker) = node.driver().checker() else { return Ok(()) };
    let report = checker.check(Repair::Leaks).await?;
    match report.corruptions {
        0 => Ok(()),
        _ => Err(BlockError::corrupt(format!("it is damaged: {}", report.messages.join("; ")))),
    }
}
