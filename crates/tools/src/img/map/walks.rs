//! A large image is walked by several workers, part by part, which make lines of what they find; these are printed in order.
//!
//! Bounds: each worker holds back at most [`AHEAD`] parts of [`MOST`] entries or [`MOST_TEXT`] bytes.

use super::Printer;
use super::lines::{Entry, Kind, Lines};
use super::picture::Content;
use crate::failure::Failure;
use crate::flags::Output;
use block::{Backend, BlockError, Node, Status};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// A large image is walked in so many parts, which several workers share.
const PARTS: u64 = 64;

/// No part is smaller than this, in bytes.
const PART: u64 = 16 << 20;

/// Most entries that one part may hold back until its turn comes; who printed the parts before goes on with the rest.
const MOST: usize = 1 << 13;

/// Bytes of lines after which a part is full as well: a line has the name of a file, which an image may choose.
const MOST_TEXT: usize = 1 << 20;

/// Parts that are walked before their turn, for each worker.
const AHEAD: usize = 2;

pub(super) enum WalkError {
    /// The block status at an offset can't be told.
    Status(u64, BlockError),
    Lost(rt::JoinError),
    Failed(Failure),
}

/// What a walk through a part found.
pub(super) struct Found {
    /// Where the walk ended.
    end: u64,
    /// The first entry, unless it is the last.
    pub first: Option<Entry>,
    /// The lines of the entries between these two, which go on with nothing outside the part.
    pub text: Vec<u8>,
    /// The same, where they are drawn.
    pub drawn: Vec<(u64, u64, Content)>,
    /// The last entry.
    pub last: Option<Entry>,
    /// Why what comes next can't be told.
    pub failure: Option<WalkError>,
    entries: usize,
    is_drawn: bool,
    /// Makes the lines; the numbers of files in entries are its.
    pub lines: Lines,
}

impl Found {
    fn new(output: Output, is_drawn: bool) -> Found {
        Found {
            end: 0,
            first: None,
            text: Vec::new(),
            drawn: Vec::new(),
            last: None,
            failure: None,
            entries: 0,
            is_drawn,
            lines: Lines::new(output),
        }
    }

    /// Nothing is found yet, from here on. Memory is kept.
    fn begin(&mut self, start: u64) {
        self.end = start;
        (self.first, self.last, self.failure, self.entries) = (None, None, None, 0);
        self.text.clear();
        self.drawn.clear();
    }

    fn is_full(&self) -> bool {
        self.entries >= MOST || self.text.len() >= MOST_TEXT || self.failure.is_some()
    }

    /// Adds what comes next; tells whether there is room for more.
    fn add(&mut self, status: Status<&Arc<Node>>) -> bool {
        let (start, kind) = (self.end, Kind::of(&status));
        let host = status.host.map(|(node, offset)| (self.lines.file(node), offset));
        self.end += status.len;
        if let Some(last) = &mut self.last
            && last.is_continued_by(kind, host)
        {
            last.length += status.len;
            return true;
        }
        self.entries += 1;
        if let Some(done) = self.last.replace(Entry { start, length: status.len, kind, host }) {
            self.put(done);
        }
        !self.is_full()
    }

    fn put(&mut self, entry: Entry) {
        if self.first.is_none() {
            self.first = Some(entry);
        } else if self.is_drawn {
            self.drawn.push((entry.start, entry.length, content(entry.kind)));
        } else if let Err(failure) = self.lines.put(&mut self.text, &entry, false) {
            self.failure = Some(WalkError::Failed(failure));
        }
    }
}

impl Kind {
    fn of<N>(status: &Status<N>) -> Kind {
        let &Status { data, zero, allocated, depth, encoded, .. } = status;
        Kind { data, zero, present: allocated, compressed: encoded, depth }
    }
}

/// What is drawn of a run of bytes.
pub(super) fn content(kind: Kind) -> Content {
    match (kind.data, kind.present) {
        (true, _) => Content::Data(kind.depth),
        (false, true) => Content::Zero,
        (false, false) => Content::Nothing,
    }
}

/// The walks through the parts of an image.
pub(super) struct Walks {
    backend: Arc<Backend>,
    range: Range<u64>,
    part: u64,
    output: Output,
    drawn: bool,
    /// What was found and printed: its memory is used again.
    spare: Vec<Found>,
}

impl Walks {
    pub fn new(backend: Arc<Backend>, range: Range<u64>, output: Output, drawn: bool) -> Walks {
        let part = (range.end.saturating_sub(range.start) / PARTS).max(PART);
        Walks { backend, range, part, output, drawn, spare: Vec::new() }
    }

    pub async fn print(&mut self, printer: &mut Printer<'_>) -> Result<(), WalkError> {
        let mut under_way = VecDeque::new();
        let printed = self.print_parts(printer, &mut under_way).await;
        // After an error, or where nobody listens: nobody else waits for these to leave the image.
        for (_, task) in under_way {
            let _ = task.await;
        }
        printed
    }

    async fn print_parts(
        &mut self,
        printer: &mut Printer<'_>,
        under_way: &mut VecDeque<(u64, rt::JoinHandle<Found>)>,
    ) -> Result<(), WalkError> {
        let Range { start, end } = self.range;
        let several = end.saturating_sub(start) > self.part;
        let most = if several { AHEAD * rt::worker_count() } else { 0 };
        // Printed up to here, and handed out up to here.
        let (mut at, mut next) = (start, start);
        while at < end && !printer.console.broken() {
            while under_way.len() < most && next < end {
                let to = next.saturating_add(self.part).min(end);
                let target = rt::Target::Worker((next / self.part) as usize);
                under_way.push_back((to, rt::spawn_on(target, self.walk(next, to))));
                next = to;
            }
            let (to, mut found) = match under_way.pop_front() {
                Some((to, task)) => (to, task.await.map_err(WalkError::Lost)?),
                None => (end, self.walk(at, end).await),
            };
            loop {
                printer.found(&mut found)?;
                at = found.end;
                self.spare.push(found);
                if at >= to || printer.console.broken() {
                    break;
                }
                found = self.walk(at, to).await;
            }
        }
        Ok(())
    }

    /// Walks through a range until it ends or there are enough entries.
    fn walk(&mut self, from: u64, to: u64) -> impl Future<Output = Found> + use<> {
        let backend = self.backend.clone();
        let mut found = self.spare.pop().unwrap_or_else(|| Found::new(self.output, self.drawn));
        found.begin(from);
        async move {
            while found.end < to && !found.is_full() {
                let at = found.end;
                let told = backend.statuses(at..to, |status| found.add(status)).await;
                if let Err(error) = told {
                    found.failure = Some(WalkError::Status(at, error));
                }
            }
            found
        }
    }
}
