//! `map`: what lies where, extent by extent, as it is found.
//!
//! A large image is walked by several workers, part by part; what they find is printed in order. Bounds: each worker holds
//! back at most [`AHEAD`] parts of [`MOST`] entries.

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
use codec::filename;
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

/// A run of bytes that are all the same kind of thing.
struct Entry {
    start: u64,
    length: u64,
    data: bool,
    zero: bool,
    present: bool,
    compressed: bool,
    depth: u32,
    host: Option<(Arc<Node>, u64)>,
}

impl Entry {
    fn new(start: u64, status: Status) -> Entry {
        let Status { len, data, zero, allocated, depth, encoded, host } = status;
        Entry { start, length: len, data, zero, present: allocated, compressed: encoded, depth, host }
    }

    fn content(&self) -> Content {
        match (self.data, self.present) {
            (true, _) => Content::Data(self.depth),
            (false, true) => Content::Zero,
            (false, false) => Content::Nothing,
        }
    }

    /// Takes in the next entry if it only goes on with this one.
    fn absorb(&mut self, next: &Entry) -> bool {
        let kind = |entry: &Entry| (entry.data, entry.zero, entry.present, entry.compressed, entry.depth);
        let goes_on = match (&self.host, &next.host) {
            (None, None) => true,
            (Some((node, offset)), Some((other, further))) => {
                Arc::ptr_eq(node, other) && offset.checked_add(self.length) == Some(*further)
            }
            _ => false,
        };
        let same = kind(self) == kind(next) && goes_on;
        if same {
            self.length += next.length;
        }
        same
    }
}

async fn map(console: &mut Console, backend: &Arc<Backend>, args: &Args) -> Result<(), Failure> {
    let total = backend.length();
    let end = args.length.map_or(total, |length| args.start.saturating_add(length).min(total));
    let layers = || backend.node().images().map(|node| node.filename()).collect();
    let picture = args.picture.map(|form| Picture::new(form, args.start..end, layers()));
    let output = args.output;
    let mut printer =
        Printer { console, output, picture, first: true, current: None, file: None, line: Vec::new() };
    printer.begin();
    let walks =
        Walks { backend: backend.clone(), end, part: ((end.saturating_sub(args.start)) / PARTS).max(PART) };
    walks.print(args.start, &mut printer).await.map_err(|error| match error {
        WalkError::Status(offset, error) => failed(&args.source.name, offset, &error),
        WalkError::Lost(error) => Failure::new(error),
        WalkError::Failed(failure) => failure,
    })?;
    printer.finish(args.start)
}

/// A large image is walked in so many parts, which several workers share.
const PARTS: u64 = 64;

/// No part is smaller than this, in bytes.
const PART: u64 = 64 << 20;

/// Most entries that one part may hold back until its turn comes; who printed the parts before goes on with the rest.
const MOST: usize = 1 << 14;

/// Parts that are walked before their turn, for each worker.
const AHEAD: usize = 2;

enum WalkError {
    Status(u64, BlockError),
    Lost(rt::JoinError),
    Failed(Failure),
}

/// What a walk through a part found, and where it ended.
type Found = Result<(Vec<Entry>, u64), WalkError>;

/// The walks through the parts of an image.
struct Walks {
    backend: Arc<Backend>,
    end: u64,
    part: u64,
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
                under_way.push_back((to, rt::spawn_on(target, walk(self.backend.clone(), next, to))));
                next = to;
            }
            let (to, found) = match under_way.pop_front() {
                Some((to, task)) => (to, task.await.map_err(WalkError::Lost)?),
                None => (self.end, walk(self.backend.clone(), at, self.end).await),
            };
            at = printer.entries(found)?;
            while at < to && !printer.console.broken() {
                at = printer.entries(walk(self.backend.clone(), at, to).await)?;
            }
        }
        Ok(())
    }
}

/// Walks through a range until it ends or there are enough entries.
async fn walk(backend: Arc<Backend>, from: u64, to: u64) -> Found {
    let mut entries: Vec<Entry> = Vec::new();
    let mut at = from;
    while at < to && entries.len() < MOST {
        let from = at;
        let mut next = at;
        let told = backend.statuses(at..to, |status| {
            let entry = Entry::new(next, status);
            next += entry.length;
            if !entries.last_mut().is_some_and(|open| open.absorb(&entry)) {
                entries.push(entry);
            }
            entries.len() < MOST
        });
        at = told.await.map_err(|error| WalkError::Status(from, error))?;
    }
    Ok((entries, at))
}

fn failed(name: &str, offset: u64, error: &BlockError) -> Failure {
    Failure::new(format_args!("{name}: the block status at offset {offset:#x} can't be told: {error}"))
        .because(error)
}

/// Prints entries as they come: nothing is held back but the console's buffer. Lines are put together without the machinery
/// of formatting, for there may be millions.
struct Printer<'c> {
    console: &'c mut Console,
    output: Output,
    /// What is drawn instead of being printed.
    picture: Option<Picture>,
    first: bool,
    /// The last entry: the next one may go on with it.
    current: Option<Entry>,
    /// The file that the last line named, and its name as bytes.
    file: Option<(Arc<Node>, Vec<u8>)>,
    /// What is being printed.
    line: Vec<u8>,
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
    fn entries(&mut self, found: Found) -> Result<u64, WalkError> {
        let (mut entries, end) = found?;
        let goes_on = match (&mut self.current, entries.first()) {
            (Some(open), Some(first)) => open.absorb(first),
            _ => false,
        };
        if entries.len() > usize::from(goes_on) {
            let last = entries.pop();
            let done = std::mem::replace(&mut self.current, last);
            for entry in done.iter().chain(entries.iter().skip(usize::from(goes_on))) {
                self.entry(entry).map_err(WalkError::Failed)?;
            }
        }
        Ok(end)
    }

    /// Prints the last entry and the end. Where there was nothing, an empty entry says so.
    fn finish(&mut self, start: u64) -> Result<(), Failure> {
        let nothing = || Entry {
            start,
            length: 0,
            data: false,
            zero: false,
            present: false,
            compressed: false,
            depth: 0,
            host: None,
        };
        let last = self.current.take().unwrap_or_else(nothing);
        self.entry(&last)?;
        if let Some(picture) = &self.picture {
            out!(self.console, "{}", picture.draw(self.console.on_terminal()));
        } else if self.output == Output::Json {
            outln!(self.console, "]");
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Failure> {
        if let Some(picture) = &mut self.picture {
            picture.add(entry.start, entry.length, entry.content());
            return Ok(());
        }
        match self.output {
            Output::Human => self.human(entry),
            Output::Json => {
                self.json(entry);
                Ok(())
            }
        }
    }

    fn human(&mut self, entry: &Entry) -> Result<(), Failure> {
        if !entry.data || entry.zero {
            return Ok(());
        }
        let Some((node, offset)) = &entry.host else {
            return Err(Failure::new("File contains external, encrypted or compressed clusters."));
        };
        let line = &mut self.line;
        line.clear();
        for number in [entry.start, entry.length, *offset] {
            push_hex(line, number);
        }
        if self.file.as_ref().is_none_or(|(file, _)| !Arc::ptr_eq(file, node)) {
            self.file = Some((node.clone(), filename::bytes(node.filename().as_bytes()).into_owned()));
        }
        line.extend_from_slice(self.file.as_ref().map_or(&[][..], |(_, name)| name));
        line.push(b'\n');
        self.console.print_plain(line);
        Ok(())
    }

    /// A layout of its own, with blanks inside the braces, which scripts know.
    fn json(&mut self, entry: &Entry) {
        let Entry { start, length, data, zero, present, compressed, depth, host } = entry;
        let line = &mut self.line;
        line.clear();
        if !std::mem::take(&mut self.first) {
            line.extend_from_slice(b",\n");
        }
        push_number(line, b"{ \"start\": ", *start);
        push_number(line, b", \"length\": ", *length);
        push_number(line, b", \"depth\": ", (*depth).into());
        push_flag(line, b", \"present\": ", *present);
        push_flag(line, b", \"zero\": ", *zero);
        push_flag(line, b", \"data\": ", *data);
        push_flag(line, b", \"compressed\": ", *compressed);
        if let Some((_, offset)) = host {
            push_number(line, b", \"offset\": ", *offset);
        }
        line.push(b'}');
        self.console.print_plain(line);
    }
}

fn push_flag(line: &mut Vec<u8>, name: &[u8], flag: bool) {
    line.extend_from_slice(name);
    line.extend_from_slice(if flag { b"true" } else { b"false" });
}

/// Puts a number behind its name, in decimal.
fn push_number(line: &mut Vec<u8>, name: &[u8], mut number: u64) {
    line.extend_from_slice(name);
    let (mut digits, mut count) = ([b'0'; 20], 0);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    line.extend_from_slice(digits.get(digits.len() - count..).unwrap_or_default());
}

/// Width of a column of numbers.
const COLUMN: usize = 16;

/// Puts a number into a column: in hexadecimal with 0x in front, except nought.
fn push_hex(line: &mut Vec<u8>, number: u64) {
    let start = line.len();
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
    if number > 0 {
        line.extend_from_slice(b"0x");
    }
    for digit in (0..digits).rev() {
        let digit = (number >> (4 * digit) & 0xf) as u8;
        line.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
    line.resize(line.len().max(start + COLUMN), b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_whole() {
        for number in [0, 9, 10, 4096, u64::MAX - 1, u64::MAX] {
            let mut line = Vec::new();
            push_number(&mut line, b"n=", number);
            assert_eq!(line, format!("n={number}").into_bytes());
            line.clear();
            push_hex(&mut line, number);
            let hex = if number == 0 { "0".to_owned() } else { format!("{number:#x}") };
            assert_eq!(line, format!("{hex:<16}").into_bytes());
        }
    }
}
