//! One crash: the image is opened as after a restart, checked, and compared with what the script may have left.

use super::bitmaps::{self, Stored};
use super::record::{Book, Recording, machine};
use super::{Args, outside::Files};
use crate::failure::Failure;
use crate::image::{Image, Source};
use crate::io::witness::{Bytes, Deed, Script};
use crate::object::Given;
use api::SnapshotInfo;
use block::{BlockError, Graph, Repair, SnapshotName};
use crash::model::{Effect, Source as From, View};
use crash::moments::Moment;
use rt::BufMut;
use sim::{Cut, Disk};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;
use std::sync::Arc;

/// Bytes that the medium writes all or not at all.
const SECTOR: u64 = 512;

/// What is compared after each crash, and with what.
pub struct Judge {
    source: Source,
    graph: fn(&Given) -> Graph,
    given: Given,
    script: Script,
    files: Arc<Files>,
    /// Ranges of the guest's disk, and what they held before the script.
    before: Vec<(Range<u64>, Vec<u8>)>,
    /// The image's internal snapshots before the script, and what they showed.
    snapshots: Vec<Snapshot>,
    /// The bitmaps stored in the image before the script.
    bitmaps: Vec<Stored>,
}

/// An internal snapshot, and what it shows.
#[derive(Clone, Debug, PartialEq)]
struct Snapshot {
    info: SnapshotInfo,
    /// A number for each [`CHUNK`] of the ranges; none, if it was not read.
    shows: Vec<(u64, u64)>,
}

/// Bytes that are told from others by one number.
const CHUNK: usize = 4096;

/// So many snapshots are read after each crash; the others have to be there.
const SNAPSHOTS: usize = 4;

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
    snapshots: Vec<Snapshot>,
    bitmaps: Vec<Stored>,
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
        let (source, graph, given) = (args.source.clone(), args.graph, args.given.clone());
        let empty = ranges.iter().map(|range| (range.clone(), Vec::new())).collect();
        let mut judge = Judge {
            source,
            graph,
            given,
            script: script.clone(),
            files: files.clone(),
            before: empty,
            snapshots: Vec::new(),
            bitmaps: Vec::new(),
        };
        let shown = judge.open(1, Disk::over(files.clone())).map_err(|wrong| {
            Failure::new(format_args!("the image is not sound before the script: {}", wrong.what))
        })?;
        if let Some(trouble) = files.trouble() {
            return Err(Failure::new(trouble));
        }
        (judge.snapshots, judge.bitmaps) = (shown.snapshots, shown.bitmaps);
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
        self.judge_snapshots(&shown.snapshots)?;
        self.judge_bitmaps(&recording.book, &shown)?;
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

    /// Internal snapshots never change.
    fn judge_snapshots(&self, found: &[Snapshot]) -> Result<(), Wrong> {
        let named =
            |snapshot: &Snapshot| format!("snapshot '{}' (id {})", snapshot.info.name, snapshot.info.id);
        if found.len() != self.snapshots.len() {
            return Err(wrong(format_args!(
                "there are {} internal snapshots, and should be {}",
                found.len(),
                self.snapshots.len()
            )));
        }
        for (before, after) in self.snapshots.iter().zip(found) {
            if before.info != after.info {
                return Err(wrong(format_args!(
                    "{} is now {}, with other figures",
                    named(before),
                    named(after)
                )));
            }
            let changed = before.shows.iter().zip(&after.shows).find(|(before, after)| before != after);
            if let Some(((offset, _), _)) = changed {
                let what = format!("{} shows other bytes at or behind offset {offset}", named(before));
                return Err(Wrong { what, offset: Some(*offset) });
            }
            if before.shows.len() != after.shows.len() {
                return Err(wrong(format_args!("{} has another size", named(before))));
            }
        }
        Ok(())
    }

    /// Bitmaps have every change, or are inconsistent. What a change of the size takes away or adds is no change of theirs.
    fn judge_bitmaps(&self, book: &Book, shown: &Shown) -> Result<(), Wrong> {
        let ranges: Vec<_> = self.before.iter().map(|(range, _)| range.clone()).collect();
        let changed = |part: &Range<u64>| {
            let differs = |((range, before), found): (&(Range<u64>, Vec<u8>), &Vec<u8>)| {
                let (before, found) = (inside(before, range.start, part), inside(found, range.start, part));
                before.iter().zip(found).any(|(before, found)| before != found)
            };
            self.before.iter().zip(&shown.ranges).any(differs)
        };
        let end = book.least_size();
        match bitmaps::contradiction(&self.bitmaps, &shown.bitmaps, &ranges, end, changed) {
            None => Ok(()),
            Some((what, offset)) => Err(Wrong { what, offset: Some(offset) }),
        }
    }

    /// Opens the image on this disk, as a machine would that starts again, and looks at it.
    fn open(&self, seed: u64, disk: Disk) -> Result<Shown, Wrong> {
        let sim = machine(seed, disk);
        let (source, graph, given) = (self.source.clone(), self.graph, self.given.clone());
        let ranges: Vec<Range<u64>> = self.before.iter().map(|(range, _)| range.clone()).collect();
        match sim.try_run(async move { look(&graph(&given), source, ranges).await }) {
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

/// Opens the image as a machine would, looks at it, closes it; then looks at its snapshots.
async fn look(graph: &Graph, source: Source, ranges: Vec<Range<u64>>) -> Result<Shown, Wrong> {
    let opening = |error: BlockError| wrong(format_args!("the image can't be opened: {error}"));
    let image = Image::open_in(graph, &source).await.map_err(opening)?;
    let looked = look_at(&image, &ranges).await;
    let closed = image.close().await;
    let mut shown = looked?;
    closed.map_err(|error| wrong(format_args!("the image can't be closed: {error}")))?;
    for snapshot in shown.snapshots.iter_mut().take(SNAPSHOTS) {
        let name = &snapshot.info.name;
        let failed = |wrong: Wrong| Wrong { what: format!("snapshot '{name}': {}", wrong.what), ..wrong };
        let which = SnapshotName::Both { id: Some(snapshot.info.id.clone()), name: None };
        let source = Source { writable: false, snapshot: Some(which), ..source.clone() };
        let image = Image::open_in(graph, &source).await.map_err(opening).map_err(failed)?;
        let read = read_ranges(&image, &ranges).await;
        image.close().await.map_err(|error| failed(wrong(error)))?;
        for (range, bytes) in ranges.iter().zip(read.map_err(failed)?) {
            snapshot.shows.extend((range.start..).step_by(CHUNK).zip(bytes.chunks(CHUNK).map(digest)));
        }
    }
    Ok(shown)
}

/// A number that differs when the bytes do.
fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

async fn look_at(image: &Image, ranges: &[Range<u64>]) -> Result<Shown, Wrong> {
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
    let snapshots = node.driver().info().snapshots.into_iter();
    let snapshots = snapshots.map(|info| Snapshot { info, shows: Vec::new() }).collect();
    let (length, bitmaps) = (image.backend.length(), bitmaps::stored(&node));
    Ok(Shown { length, ranges: read_ranges(image, ranges).await?, leaks, snapshots, bitmaps })
}

/// The bytes of the ranges, as far as the image goes.
async fn read_ranges(image: &Image, ranges: &[Range<u64>]) -> Result<Vec<Vec<u8>>, Wrong> {
    let (mut read, length) = (Vec::new(), image.backend.length());
    for range in ranges {
        let (start, end) = (range.start.min(length), range.end.min(length));
        let (buf, result) = image.backend.read(start, BufMut::with_len((end - start) as usize)).await;
        result.map_err(|error| Wrong {
            what: format!("{} bytes at offset {start} can't be read: {error}", end - start),
            offset: Some(start),
        })?;
        read.push(buf.to_vec());
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_is_gone_or_shows_other_bytes_is_told_with_its_place() {
        let snapshot = |name: &str, shows: &[(u64, u64)]| {
            let info = SnapshotInfo { name: name.to_owned(), id: "1".to_owned(), ..SnapshotInfo::default() };
            Snapshot { info, shows: shows.to_vec() }
        };
        let judge = Judge {
            source: Source::named(""),
            graph: crate::image::quiet_graph,
            given: Given::default(),
            script: Script::default(),
            files: Arc::default(),
            before: Vec::new(),
            snapshots: vec![snapshot("old", &[(0, 1), (4096, 2)])],
            bitmaps: Vec::new(),
        };
        let found =
            |shown: &[Snapshot]| judge.judge_snapshots(shown).map_err(|wrong| (wrong.what, wrong.offset));
        assert_eq!(found(&judge.snapshots), Ok(()));
        assert!(found(&[]).is_err_and(|(what, _)| what.contains("0 internal snapshots")));
        assert!(found(&[snapshot("new", &[(0, 1), (4096, 2)])]).is_err());
        assert!(found(&[snapshot("old", &[(0, 1)])]).is_err_and(|(what, _)| what.contains("another size")));
        let changed = found(&[snapshot("old", &[(0, 1), (4096, 3)])]);
        assert!(changed.is_err_and(|(what, offset)| what.contains("'old'") && offset == Some(4096)));
    }
}
