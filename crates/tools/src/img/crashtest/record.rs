//! The recording of one run: the script's requests, when they began and ended, and the disk at every moment that matters.

use super::{Args, outside::Files};
use crate::failure::Failure;
use crate::image::{self, Image};
use crate::io::witness::{Deed, Script, Witness};
use crash::model::{Effect, Model, RecordId};
use crash::moments::{Moment, Moments};
use parking_lot::Mutex;
use sim::{Config, Disk, Rng, Sim, World};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A request with the line that made it.
pub struct Done {
    pub line: usize,
    pub deed: Deed,
    record: RecordId,
}

/// What the script did: writes are numbered as requests are.
#[derive(Default)]
pub struct Book {
    pub model: Model,
    pub done: Vec<Done>,
    /// The request that each act of the model belongs to.
    pub of_act: Vec<usize>,
    line: usize,
}

impl Book {
    /// The least size of the disk that the script asked for; beyond all disks, if it asked for none.
    pub fn least_size(&self) -> u64 {
        let sizes = self.done.iter().filter_map(|done| match done.deed {
            Deed::Resize(size) => Some(size),
            _ => None,
        });
        sizes.min().unwrap_or(u64::MAX)
    }
}

/// One run of the script.
pub struct Recording {
    /// The seed of its scheduler.
    pub seed: u64,
    pub book: Book,
    /// The moments right before a sync takes effect, and the last one; or a choice of them.
    pub moments: Vec<Moment>,
    /// How many there were to choose from.
    pub seen: u64,
    /// How many changes of files there were.
    pub changes: u64,
}

/// Whom the script tells of its requests.
struct Recorder {
    book: Arc<Mutex<Book>>,
    world: World,
}

impl Witness for Recorder {
    fn line(&self, line: usize) {
        self.book.lock().line = line;
    }

    fn begins(&self, deed: Deed) -> usize {
        let now = self.world.stamp();
        let mut book = self.book.lock();
        let (number, line, model) = (book.done.len(), book.line, &mut book.model);
        let range = |offset: u64, length: u64| offset..offset.saturating_add(length);
        let record = match &deed {
            Deed::Write { offset, length, fua, .. } => {
                model.begin(Effect::Write(number as u64), range(*offset, *length), *fua, now)
            }
            Deed::Zeroes { offset, length, fua } => {
                model.begin(Effect::Zero, range(*offset, *length), *fua, now)
            }
            Deed::Discard { offset, length } => {
                model.begin(Effect::Discard, range(*offset, *length), false, now)
            }
            Deed::Flush => model.begin_flush(now),
            Deed::Resize(size) => model.begin_resize(*size, now),
        };
        let acts = model.acts().len();
        book.of_act.resize(acts, number);
        book.done.push(Done { line, deed, record });
        number
    }

    fn ends(&self, number: usize, ok: bool) {
        let now = self.world.stamp();
        let mut book = self.book.lock();
        if let Some(record) = book.done.get(number).map(|done| done.record) {
            book.model.end(record, now, ok);
        }
    }
}

/// The simulated machine of a run.
pub fn machine(seed: u64, disk: Disk) -> Sim {
    Sim::boot(Config::seeded(seed), disk)
}

/// Runs the script on a copy in memory. `only`: just the moment of this number is kept.
pub fn record(
    args: &Args,
    files: &Arc<Files>,
    script: &Script,
    seed: u64,
    only: Option<u64>,
) -> Result<Recording, Failure> {
    let sim = machine(seed, Disk::over(files.clone()));
    let world = sim.world().clone();
    let book = Arc::new(Mutex::new(Book::default()));
    let moments = Arc::new(Mutex::new(Moments::new(args.moments_kept(), Rng::new(seed))));
    let recorder = Arc::new(Recorder { book: book.clone(), world: world.clone() });
    let (source, script, syncs) = (args.source.clone(), script.clone(), Arc::new(AtomicU64::new(0)));
    let counted = syncs.clone();
    // What is written is held up to three times: in the page cache, on the medium, and until a sync between the two.
    let (memory, offered, theirs) = (args.memory / 3, moments.clone(), world.clone());
    let (graph, given) = (args.graph, args.given.clone());
    let ran = sim.try_run(async move {
        let image = Image::open_in(&graph(&given), &source).await;
        let image = image.map_err(|error| image::cannot_open(&source.name, &error))?;
        recorder.book.lock().model = Model::new(image.backend.length(), 0);
        theirs.watch_syncs(Some(Box::new(move |stamp, disk| {
            let number = counted.fetch_add(1, Relaxed);
            if only.is_none_or(|only| only == number) {
                offered.lock().offer_as(number, stamp, disk);
            }
        })));
        theirs.limit_room(Some(memory));
        let ran = script.run(image, recorder).await;
        ran.map_err(|error| Failure::new(format_args!("line {} of the script: {}", error.line, error.text)))
    });
    if let Some(trouble) = files.trouble() {
        return Err(Failure::new(trouble));
    }
    let full = || format!("; --memory ({} bytes) bounds what a script may write", args.memory);
    match ran {
        Ok(Err(failure)) if world.lacked_room() => {
            return Err(Failure::new(format_args!("{}{}", failure.message(), full())));
        }
        Ok(ran) => ran?,
        Err(stuck) => return Err(Failure::new(format_args!("running the script with seed {seed}: {stuck}"))),
    }
    sim.try_settle().map_err(|stuck| Failure::new(format_args!("after the script, seed {seed}: {stuck}")))?;
    let (last, disk, seen) = (world.stamp(), world.disk(), syncs.load(Relaxed));
    let mut moments = moments.lock();
    if only.is_none_or(|only| only == seen) {
        moments.offer_as(seen, last, &disk);
    }
    let (moments, book) = (moments.take(), std::mem::take(&mut *book.lock()));
    Ok(Recording { seed, book, moments, seen: seen + 1, changes: disk.changes() })
}

/// Bytes that are read around a range that was written to, and at the image's ends.
const AROUND: u64 = 64 << 10;

/// How many places besides are read.
const BESIDES: u64 = 16;

/// The ranges of the guest's disk that are compared after each crash: all of it if that is no more than `most` bytes, else what
/// the script changes with what lies around, the ends, and places by chance; the edges of what is too large.
pub fn compared(book: &Book, size: u64, most: u64) -> Vec<Range<u64>> {
    let resized = book.done.iter().filter_map(|done| match done.deed {
        Deed::Resize(size) => Some(size),
        _ => None,
    });
    let end = resized.chain([size]).max().unwrap_or(size);
    if end <= most {
        return Vec::from_iter(Some(0..end));
    }
    let mut rng = Rng::new(size);
    let around = |at: u64| at.saturating_sub(AROUND)..at.saturating_add(AROUND);
    let mut ranges = vec![around(0), around(size), around(end)];
    ranges.extend((0..BESIDES).map(|_| {
        let at = rng.below(size) / 512 * 512;
        at..at.saturating_add(4096)
    }));
    let acts = book.model.acts();
    let share = (most / (acts.len() as u64 + 1)).max(4 * AROUND);
    for act in acts {
        let Range { start, end } = act.bytes.clone();
        if end - start <= share {
            ranges.push(around(start).start..around(end).end);
        } else {
            let middle = start + rng.below(end - start) / 512 * 512;
            ranges.extend([around(start), around(middle), around(end)]);
        }
    }
    merged(ranges, end)
}

/// The ranges in order, those that touch joined, in whole sectors, none beyond `end`.
fn merged(mut ranges: Vec<Range<u64>>, end: u64) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let range = range.start / 512 * 512..range.end.checked_next_multiple_of(512).unwrap_or(end).min(end);
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ if range.is_empty() => {}
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_end_with_the_disk() {
        assert_eq!(merged(vec![600..700, 0..10, 512..513, 4000..9999], 4500), [0..1024, 3584..4500]);
    }

    #[test]
    fn of_a_large_disk_what_was_written_is_compared_with_what_lies_around() {
        let mut book = Book::default();
        let size = 100 << 30;
        book.model = Model::new(size, 0);
        book.model.begin(Effect::Zero, 5 << 30..(5 << 30) + 512, false, 1);
        book.model.begin(Effect::Zero, 10 << 30..90 << 30, false, 2);
        let ranges = compared(&book, size, 32 << 20);
        let holds = |at: u64| ranges.iter().any(|range| range.contains(&at));
        for at in [0, size - 1, 5 << 30, (5 << 30) - 4096, (5 << 30) + 8192, 10 << 30, (10 << 30) - 1] {
            assert!(holds(at), "{at}");
        }
        assert!(ranges.iter().map(|range| range.end - range.start).sum::<u64>() < 4 << 20);
    }
}
