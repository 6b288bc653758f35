//! The copy of the sources into the target.

use super::journal::{Journal, Part};
use super::ledger::{Ledger, Ranges};
use super::share::share;
use super::target::no_journal;
use super::{Args, NO_COMPRESSION};
use crate::console::Console;
use crate::copy::{self, CopyRun, SPARSE, Stop};
use crate::failure::Failure;
use crate::image::Image;
use crate::img::seams;
use crate::progress::{self, Progress};
use api::ToolErrorCode;
use block::{
    CopyControl, CopyError, CopyPlan, CopyStep, CopyZeroes, Endpoint, Existing, Node, OnUnreadable, Request,
    Unallocated, Witness,
};
use std::sync::Arc;

/// What is to be copied, and to where.
pub(super) struct Filling<'a> {
    pub args: &'a Args,
    pub sources: &'a [Image],
    pub target: &'a Image,
    /// Bytes of all sources.
    pub total: u64,
    pub ledger: &'a Arc<Ledger>,
    pub stop: &'a Arc<Stop>,
}

/// How it is copied.
struct How {
    /// What the target shows before.
    below: Option<Arc<Node>>,
    zeroes: CopyZeroes,
    /// Clusters of the target, where they are compressed.
    compress: Option<u64>,
    sparse: usize,
    /// In the target already.
    done: Ranges,
    /// An earlier command has begun.
    goes_on: bool,
}

/// The sources, one behind the other.
pub(super) fn parts(sources: &[Image]) -> Vec<Part> {
    let mut start = 0;
    let mut part = |image: &Image| {
        let part = Part { entry: image.backend.clone(), start };
        start += image.backend.length();
        part
    };
    sources.iter().map(&mut part).collect()
}

impl Filling<'_> {
    /// Fills the target, and notes what is done where there is a journal.
    pub async fn fill(&self, console: &mut Console, journal: &mut Option<Journal>) -> Result<(), Failure> {
        let how = self.prepare(console, journal).await?;
        let mut control = CopyRun::new(self.args.rate, self.total);
        let entries = self.sources.iter().map(|source| &source.backend);
        let mut progress = Progress::new(console, self.args.verbosity);
        if progress.is_shown()
            && let Ok(data) = copy::Landmarks::of(entries, how.sparse == 0).await
        {
            control = control.by_data(data);
        }
        if journal.is_some() {
            (control, progress) = (control.until(self.stop), progress.until(self.stop));
        }
        let warn = Arc::new(console.warner());
        let work = self.copy(&control, &how, &warn);
        let result = match journal {
            None => progress::watch(console, &mut progress, &control.told, work, Result::is_ok).await,
            Some(journal) => {
                let work = journal.beside(&self.target.backend, self.ledger, &*warn, work);
                progress::watch(console, &mut progress, &control.told, work, Result::is_ok).await
            }
        };
        progress.end(console);
        // What comes next ends at once. Signals that can't be given back could not be taken either.
        rt::signal::let_go(self.stop.signals()).ok();
        match result {
            Err(_) if self.stop.signal().is_some() => {
                Err(Failure::of(ToolErrorCode::Cancelled, "interrupted"))
            }
            Err(failure) => Err(failure),
            Ok(()) if self.args.is_flushed() => Ok(self.target.backend.flush().await?),
            Ok(()) => Ok(()),
        }
    }

    /// Makes the target ready: where a copy goes on, what of it is there is looked at.
    async fn prepare(&self, console: &mut Console, journal: &mut Option<Journal>) -> Result<How, Failure> {
        let (args, target) = (self.args, self.target);
        if target.backend.length() < self.total {
            return Err(Failure::new("output file is smaller than input file"));
        }
        let node = target.node().skip_filters();
        let facts = node.facts();
        if args.compress && !facts.can_compress {
            return Err(Failure::new(NO_COMPRESSION));
        }
        if journal.is_some() && facts.must_compress {
            return Err(no_journal(&args.output));
        }
        // Without -B an existing target's own backing file is nothing to build on.
        let below = if args.create || args.backing.name.is_some() { node.backing() } else { None };
        let goes_on = journal.as_ref().is_some_and(Journal::goes_on);
        let mut zeroed = args.target_is_zero || (args.create && facts.grows_with_zeroes);
        if !zeroed && !goes_on && below.is_none() && args.sparse != Some(0) {
            zeroed = copy::zero(&target.backend, self.total).await?;
        }
        let sparse = args.sparse.unwrap_or(SPARSE);
        let zeroes = match below {
            _ if sparse == 0 => CopyZeroes::Data,
            // What a copy that was cut off left there is not known.
            None if goes_on => CopyZeroes::Needed,
            None if zeroed => CopyZeroes::Skip,
            _ => CopyZeroes::Write,
        };
        let mut done = Ranges::default();
        if let Some(journal) = journal {
            match goes_on {
                true => done = self.look(console, journal).await?,
                false => {
                    target.backend.flush().await?;
                    journal.begin(self.sources.iter().chain([target]).map(Image::node)).await?;
                }
            }
        }
        if args.as_it_is && journal.is_none() && below.is_none() {
            done = share(&parts(self.sources), &target.backend).await?;
        }
        let compress = (args.compress || facts.must_compress).then_some(facts.cluster_size).flatten();
        let sparse = if args.as_it_is { 0 } else { sparse };
        Ok(How { below, zeroes, compress, sparse, done, goes_on })
    }

    /// What an earlier command has brought to the target.
    async fn look(&self, console: &mut Console, journal: &mut Journal) -> Result<Ranges, Failure> {
        let found = journal.look(&parts(self.sources), &self.target.backend, self.ledger).await?;
        if let Some(first) = found.first_lost {
            console.warning(format_args!(
                "'{}' does not hold any more what was copied to it at byte {first}: {} bytes are copied again",
                self.args.output, found.lost
            ));
        }
        if !self.args.verbosity.quiet {
            let (done, total) = (found.done.bytes(), self.total);
            console.note(format_args!("the conversion goes on: {done} bytes of {total} were copied before"));
        }
        Ok(found.done)
    }

    async fn copy(
        &self,
        control: &CopyRun,
        how: &How,
        warn: &Arc<impl Fn(&str) + Send + Sync + 'static>,
    ) -> Result<(), Failure> {
        let (args, target, total) = (self.args, self.target, self.total);
        let is_new = args.create && !how.goes_on;
        // What can't be read is left out by whole sectors, not clusters.
        let seams = how.compress.filter(|_| self.sources.len() > 1 && !args.salvage);
        for (source, Part { entry, start }) in self.sources.iter().zip(parts(self.sources)) {
            let place = start..start + entry.length();
            let range = seams.map_or(place.clone(), |unit| seams::between(place.clone(), unit, total));
            let witness = self.ledger.is_kept().then(|| self.ledger.clone() as Arc<dyn Witness>);
            let plan = CopyPlan {
                from: range.start - start,
                to: range.start,
                // What a copy that was cut off, or somebody since, left there is not known.
                existing: how.below.as_ref().map(|below| existing(&source.node(), below, is_new)),
                zeroes: how.zeroes,
                sparse: how.sparse,
                compress: how.compress,
                out_of_order: args.out_of_order,
                on_unreadable: args.salvage.then(|| salvage(warn.clone(), start)),
                witness,
                ..CopyPlan::new(Endpoint::Entry(entry), Endpoint::Entry(target.backend.clone()))
            };
            let gaps = how.done.gaps(range.clone());
            let left: u64 = gaps.iter().map(|gap| gap.end - gap.start).sum();
            control.progressed(range.end - range.start - left);
            for gap in gaps {
                let copied = control.copy(plan.clone(), gap.start - start..gap.end - start, args.parallel);
                copied.await.map_err(|failed| copy::failure(&failed, start))?;
            }
            if let Some(seam) = seams.and_then(|unit| seams::at_end(place, unit, total)) {
                let copied = seams::copy(self.sources, &target.backend, seam, how.zeroes).await;
                copied.map_err(|failed| copy::failure(&failed, 0))?;
            }
        }
        // A new overlay that is larger than what it is made of shows nothing else behind its end.
        let end = how.below.as_ref().filter(|_| args.create).map_or(0, |below| below.length());
        let rest = end.min(target.backend.length()).saturating_sub(total);
        if rest > 0 {
            let zeroed = target.backend.write_zeroes(total, rest, Request::GUEST).await;
            let failed = |error| CopyError { offset: total, step: CopyStep::Write, error };
            zeroed.map_err(|error| copy::failure(&failed(error), 0))?;
        }
        Ok(())
    }
}

/// What an overlay on `below` shows without a copy. Only where a new one's backing image is a layer of the source, the
/// same file read in the same way, what the layers above do not hold is known to show; anything else is compared.
fn existing(source: &Arc<Node>, below: &Arc<Node>, new: bool) -> Existing {
    let next = |node: &Arc<Node>| node.skip_filters().backing();
    let own = next(source);
    let shared = std::iter::successors(own.clone(), next).find(|layer| new && layer.shows_what(below));
    let length = if new { below.length() } else { u64::MAX };
    match shared {
        Some(_) => Existing { base: shared, unallocated: Unallocated::Shown, length },
        None => Existing { base: own, unallocated: Unallocated::Compared, length },
    }
}

/// Tells at once what could not be read: zeroes are in its place.
fn salvage(warn: Arc<impl Fn(&str) + Send + Sync + 'static>, start: u64) -> OnUnreadable {
    Arc::new(move |error| {
        let (place, why) = (start + error.offset, error.error.strerror());
        let what = if error.step == CopyStep::Status { "block status at offset" } else { "offset" };
        warn(&format!("error while reading {what} {place}: {why}"));
    })
}
