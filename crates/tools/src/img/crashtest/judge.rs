//! One crash: the image is opened as after a restart, checked, and compared with what the script may have left.

use super::record::{Book, Recording, machine};
use super::{Args, outside::Files};
use crate::failure::Failure;
use crate::image::{Image, Source};
use crate::io::witness::{Bytes, Deed, Script};
use block::{BlockError, Graph, Repair};
use crash::model::{Effect, Source as From, View};
use crash::moments::Moment;
use rt::BufMut;
use sim::{Cut, Disk};
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that the medium writes all or not at all.
const SECTOR: u64 = 512;

/// What is compared after each crash, and with what.
pub struct Judge {
    source: Source,
    graph: fn() -> Graph,
    script: Script,
    files: Arc<Files>,
    /// Ranges of the guest's disk, and what they held before the script.
    before: Vec<(Range<u64>, Vec<u8>)>,
}

/// What is wrong after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// In words.
    pub what: String,
    /// Where on the guest's disk, if it is at a place.
    pub offset: Option<u64>,
}

/// What an image shows.
struct Shown {
    length: u64,
    /// The bytes of the ranges, as far as the image goes.
    ranges: Vec<Vec<u8>>,
    leaks: u64,
}

fn wrong(what: impl ToString) -> Wrong {
    Wrong { what: what.to_string(), offset: None }
}

impl Judge {
    /// Reads what the ranges hold before the script.
    pub fn new(
        args: &Args,
        files: &Arc<Files>,
        script: &Script,
        ranges: Vec<Range<u64>>,
    ) -> Result<Judge, Failure> {
        let (source, graph) = (args.source.clone(), args.graph);
        let empty = ranges.iter().map(|range| (range.clone(), Vec::new())).collect();
        let mut judge = Judge { source, graph, script: script.clone(), files: files.clone(), before: empty };
        let shown = judge.open(1, Disk::over(files.clone())).map_err(|wrong| {
            Failure::new(format_args!("the image is not sound before the script: {}", wrong.what))
        })?;
        if let Some(trouble) = files.trouble() {
            return Err(Failure::new(trouble));
        }
        judge.before = ranges.into_iter().zip(shown.ranges).collect();
        Ok(judge)
    }

    /// Crashes at a moment in this way; how many clusters leak then, or what is wrong.
    pub fn crash(&self, recording: &Recording, moment: &Moment, cut: Cut) -> Result<u64, Wrong> {
        let shown = self.open(recording.seed ^ moment.stamp, moment.disk.after(cut))?;
        let model = &recording.book.model;
        let sizes = model.sizes_after_crash(moment.stamp);
        // A file's length may be any between two; a format keeps its size in its header.
        let least = sizes.iter().min().copied().unwrap_or(0);
        let most = sizes.iter().max().copied().unwrap_or(u64::MAX);
        if !(least..=most).contains(&shown.length) {
            return Err(wrong(format_args!(
                "the disk has {} bytes, and should have one of {sizes:?}",
                shown.length
            )));
        }
        let view = model.after_crash(moment.stamp);
        for ((range, before), found) in self.before.iter().zip(&shown.ranges) {
            let compared = Compared { book: &recording.book, start: range.start, before, found };
            let found_range = range.start..range.start + found.len() as u64;
            for (piece, sources) in model.allowed(view, found_range) {
                if let Some(bytes) = compared.contradiction(&piece, &sources) {
                    let what = self.explain(&compared, view, &bytes);
                    return Err(Wrong { what, offset: Some(bytes.start) });
                }
            }
        }
        Ok(shown.leaks)
    }

    /// Opens the image on this disk, as a machine would that starts again, and looks at it.
    fn open(&self, seed: u64, disk: Disk) -> Result<Shown, Wrong> {
        let sim = machine(seed, disk);
        let (source, graph) = (self.source.clone(), self.graph);
        let ranges: Vec<Range<u64>> = self.before.iter().map(|(range, _)| range.clone()).collect();
        match sim.try_run(async move { look(&graph(), source, ranges).await }) {
            Ok(shown) => shown,
            Err(stuck) => Err(wrong(format_args!("opening, checking and reading the image: {stuck}"))),
        }
    }

    /// The read of a file that failed, if one did: then nothing that was found counts.
    pub fn trouble(&self) -> Option<String> {
        self.files.trouble()
    }

    /// What is wrong with the bytes of a sector or of a part of one.
    fn explain(&self, compared: &Compared<'_>, view: View, bytes: &Range<u64>) -> String {
        let (book, found) = (compared.book, compared.found_in(bytes));
        let (offset, count) = (bytes.start, bytes.end - bytes.start);
        let acts =
            || book.model.acts().iter().zip(&book.of_act).filter(|(act, _)| act.bytes.contains(&offset));
        let outdated = acts().find_map(|(act, number)| match act.what {
            Effect::Write(write) if compared.is(bytes, From::Write(write)) => Some(*number),
            _ => None,
        });
        let holds = match outdated {
            Some(number) => format!("what {} wrote", self.line_of(book, number)),
            None if compared.is(bytes, From::Zero) => "zeroes".to_owned(),
            None if compared.is(bytes, From::Initial) => "what was there before the script".to_owned(),
            None => format!("bytes that nobody wrote there: {:02x?}...", found.get(..8).unwrap_or(found)),
        };
        let mut text = format!("{count} bytes at offset {offset} are {holds}. The requests there:");
        for (act, number) in acts().filter(|(act, _)| act.start <= view.until) {
            let state = match act.end.filter(|end| end.moment <= view.until) {
                Some(end) if end.ok && (act.fua || end.moment <= view.settled) => "acknowledged, and flushed",
                Some(end) if end.ok => "acknowledged, not flushed yet",
                Some(_) => "failed",
                None => "under way",
            };
            let _ = write!(text, "\n  {}: {state}", self.line_of(book, *number));
        }
        if acts().all(|(act, _)| act.start > view.until) {
            text.push_str(" none");
        }
        text
    }

    /// The line that made a request.
    fn line_of(&self, book: &Book, number: usize) -> String {
        let line = book.done.get(number).map_or(0, |done| done.line);
        format!("line {line} ({})", self.script.line(line))
    }
}

/// A range of the guest's disk as it was before the script, and as it was found.
struct Compared<'a> {
    book: &'a Book,
    start: u64,
    before: &'a [u8],
    found: &'a [u8],
}

impl Compared<'_> {
    fn found_in(&self, range: &Range<u64>) -> &[u8] {
        inside(self.found, self.start, range)
    }

    /// Whether the bytes of `range` are what comes from `source`.
    fn is(&self, range: &Range<u64>, source: From) -> bool {
        let found = self.found_in(range);
        let zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        match source {
            From::Zero => zero(found),
            From::Initial => {
                // What the disk grew by was zero.
                let before = inside(self.before, self.start, range);
                found.strip_prefix(before).is_some_and(zero)
            }
            From::Write(number) => {
                let done = usize::try_from(number).ok().and_then(|number| self.book.done.get(number));
                let Some(Deed::Write { offset, bytes, .. }) = done.map(|done| &done.deed) else {
                    return false;
                };
                match bytes {
                    Bytes::Same(wrote) => found.iter().all(|byte| byte == wrote),
                    repeated => (range.start.saturating_sub(*offset)..)
                        .zip(found)
                        .all(|(at, byte)| repeated.at(at) == *byte),
                }
            }
        }
    }

    /// The first sector of a piece that comes from none of these, if there is one: each was written all or not at all.
    fn contradiction(&self, piece: &Range<u64>, sources: &[From]) -> Option<Range<u64>> {
        let fits = |range: &Range<u64>| sources.iter().any(|source| self.is(range, *source));
        if fits(piece) {
            return None;
        }
        let mut at = piece.start;
        while at < piece.end {
            let sector = at..((at / SECTOR + 1) * SECTOR).min(piece.end);
            if !fits(&sector) {
                return Some(sector);
            }
            at = sector.end;
        }
        None
    }
}

/// The part of `bytes`, which begin at `start`, that lies in `range`.
fn inside<'a>(bytes: &'a [u8], start: u64, range: &Range<u64>) -> &'a [u8] {
    let at = |offset: u64| {
        usize::try_from(offset.saturating_sub(start)).map_or(bytes.len(), |at| at.min(bytes.len()))
    };
    bytes.get(at(range.start)..at(range.end)).unwrap_or_default()
}

async fn look(graph: &Graph, source: Source, ranges: Vec<Range<u64>>) -> Result<Shown, Wrong> {
    let opening = |error: BlockError| wrong(format_args!("the image can't be opened: {error}"));
    let image = Image::open_in(graph, &source).await.map_err(opening)?;
    let looked = look_at(&image, ranges).await;
    let closed = image.close().await;
    let shown = looked?;
    closed.map_err(|error| wrong(format_args!("the image can't be closed: {error}")))?;
    Ok(shown)
}

async fn look_at(image: &Image, ranges: Vec<Range<u64>>) -> Result<Shown, Wrong> {
    let mut leaks = 0;
    let node = image.node();
    if let Some(checker) = node.driver().checker() {
        let report = checker.check(Repair::No).await;
        let report = report.map_err(|error| wrong(format_args!("the image can't be checked: {error}")))?;
        if report.corruptions > 0 || report.check_errors > 0 {
            let findings = report.messages.join("\n  ");
            return Err(wrong(format_args!(
                "the check finds {} corruptions and {} errors:\n  {findings}",
                report.corruptions, report.check_errors
            )));
        }
        leaks = report.leaks;
    }
    let length = image.backend.length();
    let mut shown = Shown { length, ranges: Vec::new(), leaks };
    for range in ranges {
        let (start, end) = (range.start.min(length), range.end.min(length));
        let (buf, result) = image.backend.read(start, BufMut::with_len((end - start) as usize)).await;
        result.map_err(|error| Wrong {
            what: format!("{} bytes at offset {start} can't be read: {error}", end - start),
            offset: Some(start),
        })?;
        shown.ranges.push(buf.to_vec());
    }
    Ok(shown)
}
