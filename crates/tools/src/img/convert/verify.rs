//! The proof of a conversion: the target is read back, and is the source.
//!
//! ```text
//!   what was read of the source ─▶ ledger ─┐
//!   target closed, opened anew past the page cache ─▶ read ─▶ digests ─┴─▶ equal, piece by piece
//!   what is in no piece (holes; what an overlay shows of its backing file) ─▶ compared with the source
//! ```
//!
//! So data of the source is read once, and what is proven is that the medium, or the server, gives back what was read then. A
//! piece that differs is compared with the source byte by byte, to name the place.

use super::Args;
use super::fill::parts;
use super::journal::{Part, Record};
use super::ledger::{Ledger, Ranges};
use crate::cache::Cache;
use crate::compare::{Compare, CompareError};
use crate::console::Console;
use crate::digest::{self, ReadError, Running};
use crate::failure::Failure;
use crate::image::{self, Image, Source};
use crate::progress::{self, Progress, Told};
use api::ToolErrorCode;
use block::{Backend, Graph};
use futures_util::stream::StreamExt;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;

/// Reads the target back, which is closed, and compares it with what was copied to it.
pub(super) async fn verify(
    console: &mut Console,
    graph: &Graph,
    args: &Args,
    sources: &[Image],
    ledger: &Ledger,
    target: &Source,
) -> Result<(), Failure> {
    let opened = open_anew(graph, target).await.map_err(|error| image::cannot_open(&args.output, &error))?;
    let sources = parts(sources);
    let total = sources.last().map_or(0, |last| last.start + last.entry.length());
    let told = Told::bytes(total);
    let mut progress = Progress::new(console, args.verbosity);
    let proof = Proof { sources, target: opened.backend.clone(), told };
    let work = proof.find_difference(ledger.take_all(), total, args.create);
    let found =
        progress::watch(console, &mut progress, &proof.told, work, |found| matches!(found, Ok(None))).await;
    progress.end(console);
    let result = match found {
        Ok(None) => Ok(()),
        Ok(Some(offset)) => {
            let what = format_args!(
                "'{}' differs from what was copied to it, from byte {offset} on; it is left as it is",
                args.output
            );
            Err(Failure::of(ToolErrorCode::Failed, what))
        }
        Err(failure) => Err(failure.within(&format!("'{}' can't be verified", args.output))),
    };
    opened.close_after(console, result).await
}

/// Opens the target so that what is read comes from the medium, where that can be asked for.
async fn open_anew(graph: &Graph, target: &Source) -> Result<Image, block::BlockError> {
    let source = Source { writable: false, discard: false, cache: Cache::NONE, ..target.clone() };
    match Image::open_in(graph, &source).await {
        Ok(image) => Ok(image),
        // Some file systems don't have direct reads. If it is something else it comes again.
        Err(_) => Image::open_in(graph, &Source { cache: Cache::WRITEBACK, ..source }).await,
    }
}

struct Proof {
    sources: Vec<Part>,
    target: Arc<Backend>,
    told: Told,
}

impl Proof {
    /// The first byte that is found to differ, if any does.
    async fn find_difference(
        &self,
        records: Vec<Record>,
        total: u64,
        created: bool,
    ) -> Result<Option<u64>, Failure> {
        let mut seen = Ranges::default();
        records.iter().for_each(|record| seen.add(record.start..record.start + record.len));
        let gaps = seen.gaps(0..total);
        if let Some(piece) = self.first_piece(records).await? {
            let found = self.compare(piece.clone()).await;
            // A source that can't be read, or has changed, tells nothing more.
            return Ok(Some(found.ok().flatten().unwrap_or(piece.start)));
        }
        for gap in gaps {
            let len = gap.end - gap.start;
            if let Some(offset) = self.compare(gap).await? {
                return Ok(Some(offset));
            }
            self.told.add(len);
        }
        match created {
            true => self.rest(total).await,
            false => Ok(None),
        }
    }

    /// The first piece whose digest is another one in the target.
    async fn first_piece(&self, records: Vec<Record>) -> Result<Option<Range<u64>>, Failure> {
        let looks = records.into_iter().map(|record| {
            let (target, range) = (self.target.clone(), record.start..record.start + record.len);
            async move { digest::of_range(&target, range).await.map(|digest| (record, digest)) }
        });
        let mut looks = pin!(digest::spread(looks));
        while let Some(looked) = looks.next().await {
            let (record, digest) = looked.map_err(Failure::reported)?.map_err(unread)?;
            if digest != record.digest {
                return Ok(Some(record.start..record.start + record.len));
            }
            self.told.add(record.len);
        }
        Ok(None)
    }

    /// Compares a range of the target with the sources.
    async fn compare(&self, range: Range<u64>) -> Result<Option<u64>, Failure> {
        for Part { entry, start } in &self.sources {
            let (from, to) = (range.start.max(*start), range.end.min(start + entry.length()));
            if from >= to {
                continue;
            }
            let sides = [entry.clone(), self.target.clone()];
            let compare = Compare::of_part(sides, [from - start, from], to - from, false);
            // Offsets of a part count from where it begins on its side.
            let begin = [from - start, from];
            if let Some(found) = compare.run().await.map_err(|error| failure(error, begin))? {
                return Ok(Some(from + found.offset()));
            }
        }
        Ok(None)
    }

    /// What a new target has behind all sources are zeroes.
    async fn rest(&self, total: u64) -> Result<Option<u64>, Failure> {
        let end = self.target.length();
        let mut zeroes = Running::default();
        zeroes.zeroes(end.saturating_sub(total));
        let shown = digest::of_range(&self.target, total..end).await.map_err(unread)?;
        Ok((shown != zeroes.finish()).then_some(total))
    }
}

/// The failure of a target that can't be read.
fn unread(error: ReadError) -> Failure {
    Failure::new(&error).because(&error.error)
}

/// The failure of a comparison of parts that begin here in source and target.
fn failure(error: CompareError, begin: [u64; 2]) -> Failure {
    let side = |side: usize| if side == 0 { "the source" } else { "the target" };
    let place = |side: usize, offset: u64| begin.get(side).map_or(offset, |begin| begin + offset);
    match error {
        CompareError::Read(at, offset, error) => {
            let (side, place, why) = (side(at), place(at, offset), error.strerror());
            Failure::new(format_args!("error while reading {side} at byte {place}: {why}")).because(&error)
        }
        CompareError::Status(at, offset, error) => {
            let (side, place, why) = (side(at), place(at, offset), error.strerror());
            let what = format_args!("error while asking {side} for its block status at byte {place}: {why}");
            Failure::new(what).because(&error)
        }
        CompareError::Lost(error) => Failure::of(ToolErrorCode::Failed, error),
    }
}
