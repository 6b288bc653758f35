//! `map`: what lies where, extent by extent, as it is found.
//!
//! A large image is walked by several workers, part by part, which make lines of what they find; these are printed in order.
//! Bounds: each worker holds back at most [`AHEAD`] parts of [`MOST`] entries.

mod lines;
mod picture;

use super::Call;
use super::untrusted::{self, Untrusted};
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, Output, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Source};
use crate::usage::Manual;
use crate::{out, outln, runtime};
use block::{Backend, BlockError, Node, Policy, Status};
use lines::{Entry, Kind, Lines};
use picture::{Content, Form, Picture};
use rt::confine::Access;
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help()],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        flags::output(),
        Flag::take(
            "--picture",
            "text|svg",
            "print a picture instead: which layer has the data",
            |s, form| {
                s.picture = Some(match form {
                    "text" => Form::Text,
                    "svg" => Form::Svg,
                    other => {
                        return Err(Failure::usage(format_args!(
                            "--picture expects 'text' or 'svg' not '{other}'"
                        )));
                    }
                });
                Ok(())
            },
        ),
        Flag::take("-s --start-offset", "OFFSET", "begin here", |s, text| {
            s.start = super::bounded("start offset", text, 0, i64::MAX as u64)?;
            Ok(())
        }),
        Flag::take("-l --max-length", "LENGTH", "end after this many bytes", |s, text| {
            s.length = Some(super::bounded("max length", text, 0, i64::MAX as u64)?);
            Ok(())
        }),
        flags::force_share("look even while another process writes"),
        flags::object(),
    ],
    &untrusted::flags(),
];

const MANUAL: Manual = Manual {
    synopsis: "[-f FMT | --image-opts] [--output=human|json] [--start-offset=OFFSET] [--max-length=LENGTH] [-U] FILE",
    about: "Tells what lies where in an image and in what it stands on.",
    operands: &[("FILE", "the image")],
    examples: &[
        (
            "--output=json disk.qcow2",
            "every extent: zero, data, present, depth in the chain, offset in its file",
        ),
        ("--picture=svg disk.qcow2 > disk.svg", "a drawing for a browser"),
    ],
    notes: untrusted::NOTES,
};

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    output: Output,
    start: u64,
    length: Option<u64>,
    picture: Option<Form>,
    untrusted: Untrusted,
}

has_parts!(Args { source: Source, output: Output, untrusted: Untrusted });

impl Args {
    pub(super) fn new() -> Args {
        let (source, untrusted) = (Source::named(""), Untrusted::LOOK);
        Args { source, output: Output::default(), start: 0, length: None, picture: None, untrusted }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    args.source.name = super::one_image(&operands)?;
    super::exclusive(&args.source)?;
    args.untrusted.judge(&mut args.source, Policy::WHOLE)?;
    let files = [(args.source.name.as_str(), Access::Read)];
    args.untrusted.run(console, &call.name, &files, |console| {
        runtime::run(open_and_map(console, &args))??;
        Ok(0)
    })
}

async fn open_and_map(console: &mut Console, args: &Args) -> Result<(), Failure> {
    let image = image::open(&args.source).await?;
    let result = map(console, &image.backend, args).await;
    let closed = image.close().await;
    result?;
    Ok(closed?)
}

impl Entry {
    fn new(start: u64, status: Status<&Arc<Node>>) -> Entry {
        let host = status.host.map(|(node, offset)| (node.clone(), offset));
        Entry { start, length: status.len, kind: Kind::of(&status), host }
    }

    fn content(&self) -> Content {
        match (self.kind.data, self.kind.present) {
            (true, _) => Content::Data(self.kind.depth),
            (false, true) => Content::Zero,
            (false, false) => Content::Nothing,
        }
    }

    /// Whether something of this kind, with this place, only goes on with the entry.
    fn goes_on(&self, kind: Kind, host: Option<(&Arc<Node>, u64)>) -> bool {
        let adjacent = match (&self.host, host) {
            (None, None) => true,
            (Some((node, offset)), Some((other, further))) => {
                Arc::ptr_eq(node, other) && offset.checked_add(self.length) == Some(further)
            }
            _ => false,
        };
        self.kind == kind && adjacent
    }

    /// Takes in the next entry if it only goes on with this one.
    fn absorb(&mut self, next: &Entry) -> bool {
        let goes_on = self.goes_on(next.kind, next.host.as_ref().map(|(node, offset)| (node, *offset)));
        if goes_on {
            self.length += next.length;
        }
        goes_on
    }
}

impl Kind {
    fn of<N>(status: &Status<N>) -> Kind {
        let &Status { data, zero, allocated, depth, encoded, .. } = status;
        Kind { data, zero, present: allocated, compressed: encoded, depth }
    }
}

async fn map(console: &mut Console, backend: &Arc<Backend>, args: &Args) -> Result<(), Failure> {
    let total = backend.length();
    let end = args.length.map_or(total, |length| args.start.saturating_add(length).min(total));
    let layers = || backend.node().images().map(|node| node.filename()).collect();
    let picture = args.picture.map(|form| Picture::new(form, args.start..end, layers()));
    let drawn = picture.is_some();
    let mut printer = Printer {
        console,
        output: args.output,
        lines: Lines::new(args.output),
        picture,
        first: true,
        current: None,
    };
    printer.begin();
    let part = ((end.saturating_sub(args.start)) / PARTS).max(PART);
    let walks = Walks { backend: backend.clone(), end, part, output: args.output, drawn };
    let walked = walks.print(args.start, &mut printer).await;
    walked.and_then(|()| printer.finish(args.start)).map_err(|error| match error {
        WalkError::Status(offset, error) => failed(&args.source.name, offset, &error),
        WalkError::Lost(error) => Failure::new(error),
        WalkError::Failed(failure) => failure,
    })
}

/// A large image is walked in so many parts, which several workers share.
const PARTS: u64 = 64;

/// No part is smaller than this, in bytes.
const PART: u64 = 16 << 20;

/// Most entries that one part may hold back until its turn comes; who printed the parts before goes on with the rest.
const MOST: usize = 1 << 13;

/// Parts that are walked before their turn, for each worker.
const AHEAD: usize = 2;

enum WalkError {
    Status(u64, BlockError),
    Lost(rt::JoinError),
    Failed(Failure),
}

/// What a walk through a part found.
struct Found {
    /// Where the walk ended.
    end: u64,
    /// The first entry, unless it is the last.
    first: Option<Entry>,
    between: Between,
    /// The last entry.
    last: Option<Entry>,
    /// Why the next entry can't be told.
    failure: Option<Failure>,
    entries: usize,
}

/// The entries between the first and the last of a part, which go on with nothing outside it.
enum Between {
    Lines(Lines, Vec<u8>),
    Drawn(Vec<(u64, u64, Content)>),
}

impl Found {
    fn new(start: u64, output: Output, drawn: bool) -> Found {
        let between =
            if drawn { Between::Drawn(Vec::new()) } else { Between::Lines(Lines::new(output), Vec::new()) };
        Found { end: start, first: None, between, last: None, failure: None, entries: 0 }
    }

    /// Adds what comes next; tells whether there is room for more.
    fn add(&mut self, status: Status<&Arc<Node>>) -> bool {
        let start = self.end;
        self.end += status.len;
        if let Some(last) = &mut self.last
            && last.goes_on(Kind::of(&status), status.host)
        {
            last.length += status.len;
            return true;
        }
        self.entries += 1;
        if let Some(done) = self.last.replace(Entry::new(start, status)) {
            self.put(done);
        }
        self.entries < MOST && self.failure.is_none()
    }

    fn put(&mut self, entry: Entry) {
        if self.first.is_none() {
            self.first = Some(entry);
            return;
        }
        match &mut self.between {
            Between::Lines(lines, text) => self.failure = lines.put(text, &entry, false).err(),
            Between::Drawn(drawn) => drawn.push((entry.start, entry.length, entry.content())),
        }
    }
}

/// The walks through the parts of an image.
struct Walks {
    backend: Arc<Backend>,
    end: u64,
    part: u64,
    output: Output,
    drawn: bool,
}

impl Walks {
    async fn print(&self, start: u64, printer: &mut Printer<'_>) -> Result<(), WalkError> {
        let several = self.end.saturating_sub(start) > self.part;
        let most = if several { AHEAD * rt::worker_count() } else { 0 };
        let (mut at, mut next) = (start, start);
        let mut under_way = VecDeque::new();
        while at < self.end && !printer.console.broken() {
            while under_way.len() < most && next < self.end {
                let to = next.saturating_add(self.part).min(self.end);
                let target = rt::Target::Worker((next / self.part) as usize);
                under_way.push_back((to, rt::spawn_on(target, self.walk(next, to))));
                next = to;
            }
            let (to, found) = match under_way.pop_front() {
                Some((to, task)) => (to, task.await.map_err(WalkError::Lost)?),
                None => (self.end, self.walk(at, self.end).await),
            };
            at = printer.found(found?)?;
            while at < to && !printer.console.broken() {
                at = printer.found(self.walk(at, to).await?)?;
            }
        }
        Ok(())
    }

    /// Walks through a range until it ends or there are enough entries.
    fn walk(&self, from: u64, to: u64) -> impl Future<Output = Result<Found, WalkError>> + use<> {
        let backend = self.backend.clone();
        let mut found = Found::new(from, self.output, self.drawn);
        async move {
            while found.end < to && found.entries < MOST && found.failure.is_none() {
                let at = found.end;
                let told = backend.statuses(at..to, |status| found.add(status));
                told.await.map_err(|error| WalkError::Status(at, error))?;
            }
            Ok(found)
        }
    }
}

fn failed(name: &str, offset: u64, error: &BlockError) -> Failure {
    Failure::new(format_args!("{name}: the block status at offset {offset:#x} can't be told: {error}"))
        .because(error)
}

/// Prints entries as they come: nothing is held back but the console's buffer.
struct Printer<'c> {
    console: &'c mut Console,
    output: Output,
    lines: Lines,
    /// What is drawn instead of being printed.
    picture: Option<Picture>,
    first: bool,
    /// The last entry: the next one may go on with it.
    current: Option<Entry>,
}

impl Printer<'_> {
    fn begin(&mut self) {
        match self.output {
            _ if self.picture.is_some() => {}
            Output::Human => outln!(self.console, "{:<16}{:<16}{:<16}File", "Offset", "Length", "Mapped to"),
            Output::Json => out!(self.console, "["),
        }
    }

    /// Prints what a walk found, except its last entry; tells where the walk ended.
    fn found(&mut self, found: Found) -> Result<u64, WalkError> {
        if let Some(first) = found.first {
            self.next(first)?;
            // Another one follows, which does not go on with it.
            self.last()?;
        }
        match found.between {
            Between::Lines(_, text) => self.console.print_plain(&text),
            Between::Drawn(drawn) => {
                drawn.into_iter().for_each(|(start, length, content)| self.draw(start, length, content));
            }
        }
        if let Some(failure) = found.failure {
            return Err(WalkError::Failed(failure));
        }
        if let Some(last) = found.last {
            self.next(last)?;
        }
        Ok(found.end)
    }

    /// Keeps the next entry, and prints the one before it unless it only goes on with that.
    fn next(&mut self, entry: Entry) -> Result<(), WalkError> {
        if self.current.as_mut().is_some_and(|open| open.absorb(&entry)) {
            return Ok(());
        }
        self.last()?;
        self.current = Some(entry);
        Ok(())
    }

    /// Prints the entry that was kept.
    fn last(&mut self) -> Result<(), WalkError> {
        let Some(entry) = self.current.take() else { return Ok(()) };
        if self.picture.is_some() {
            self.draw(entry.start, entry.length, entry.content());
            return Ok(());
        }
        let mut line = Vec::new();
        let first = std::mem::take(&mut self.first);
        let put = self.lines.put(&mut line, &entry, first);
        self.console.print_plain(&line);
        put.map_err(WalkError::Failed)
    }

    fn draw(&mut self, start: u64, length: u64, content: Content) {
        if let Some(picture) = &mut self.picture {
            picture.add(start, length, content);
        }
    }

    /// Prints the last entry and the end. Where there was nothing, an empty entry says so.
    fn finish(&mut self, start: u64) -> Result<(), WalkError> {
        if self.first && self.current.is_none() {
            self.current = Some(Entry { start, length: 0, kind: Kind::default(), host: None });
        }
        self.last()?;
        if let Some(picture) = &self.picture {
            out!(self.console, "{}", picture.draw(self.console.on_terminal()));
        } else if self.output == Output::Json {
            outln!(self.console, "]");
        }
        Ok(())
    }
}
