//! The proof of a conversion: the target is read back, and is the source.
//!
//! ```text
//!   what was read of the source ─▶ ledger ─┐
//!   target closed, opened anew past the page cache ─▶ read ─▶ digests ─┴─▶ equal, piece by piece
//!   what is in no piece (holes; what an overlay shows of its backing file) ─▶ compared with the source
//! ```
//!
//! All pieces are read, also behind one that differs: a conversion with a journal goes on with those that are not as they should be.
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

/// What a target is found to be.
pub(super) enum Proven {
    /// What was copied to it.
    Same,
    /// Something else.
    Differs(Difference),
}

/// Where a target is not what was copied to it.
pub(super) struct Difference {
    /// The first byte that is known to differ.
    pub at: u64,
    /// What of it is right, where the rest of it is mended by copying it again.
    pub right: Option<Vec<Record>>,
}

/// Reads the target back, which is closed, and compares it with what was copied to it.
pub(super) async fn verify(
    console: &mut Console,
    graph: &Graph,
    args: &Args,
    sources: &[Image],
    ledger: &Ledger,
    target: &Source,
) -> Result<Proven, Failure> {
    let opened = open_anew(graph, target).await.map_err(|error| image::cannot_open(&args.output, &error))?;
    let sources = parts(sources);
    let total = sources.last().map_or(0, |last| last.start + last.entry.length());
    let told = Told::bytes(total);
    let mut progress = Progress::new(console, args.verbosity);
    let proof = Proof { sources, target: opened.backend.clone(), told };
    let work = proof.find_difference(ledger.take_all(), total, args.create);
    let is_same = |found: &Result<Proven, Failure>| matches!(found, Ok(Proven::Same));
    let found = progress::watch(console, &mut progress, &proof.told, work, is_same).await;
    progress.end(console);
    let found = found.map_err(|failure| failure.within(&format!("'{}' can't be verified", args.output)));
    opened.close_after(console, found).await
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
    async fn find_difference(
        &self,
        records: Vec<Record>,
        total: u64,
        created: bool,
    ) -> Result<Proven, Failure> {
        let mut seen = Ranges::default();
        records.iter().for_each(|record| seen.add(record.start..record.start + record.len));
        let gaps = seen.gaps(0..total);
        let (right, wrong) = self.pieces(records).await?;
        if let Some(piece) = wrong {
            let found = self.compare(piece.clone()).await;
            // A source that can't be read, or has changed, tells nothing more.
            let at = found.ok().flatten().unwrap_or(piece.start);
            return Ok(Proven::Differs(Difference { at, right: Some(right) }));
        }
        for gap in gaps {
            let len = gap.end - gap.start;
            if let Some(at) = self.compare(gap).await? {
                // What no record tells of is copied again anyway.
                return Ok(Proven::Differs(Difference { at, right: Some(right) }));
            }
            self.told.add(len);
        }
        match if created { self.rest(total).await? } else { None } {
            Some(at) => Ok(Proven::Differs(Difference { at, right: None })),
            None => Ok(Proven::Same),
        }
    }

    /// The pieces whose digest is the same in the target, and the first one whose digest is another one.
    async fn pieces(&self, records: Vec<Record>) -> Result<(Vec<Record>, Option<Range<u64>>), Failure> {
        let (mut right, mut wrong) = (Vec::with_capacity(records.len()), None);
        let looks = records.into_iter().map(|record| {
            let (target, range) = (self.target.clone(), record.start..record.start + record.len);
            async move { digest::of_range(&target, range).await.map(|digest| (record, digest)) }
        });
        let mut looks = pin!(digest::spread(looks));
        while let Some(looked) = looks.next().await {
            let (record, digest) = looked.map_err(Failure::reported)?.map_err(unread)?;
            match digest == record.digest {
                true => right.push(record),
                false => wrong = wrong.or(Some(record.start..record.start + record.len)),
            }
            self.told.add(record.len);
        }
        Ok((right, wrong))
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
