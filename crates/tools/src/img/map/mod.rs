//! `map`: what lies where, extent by extent, as it is found.

mod lines;
mod picture;
mod walks;

use super::Call;
use super::untrusted::{self, Untrusted};
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, Output, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Source};
use crate::usage::Manual;
use crate::{out, outln, runtime};
use block::{Backend, Policy};
use lines::{Entry, Kind, Lines};
use picture::{Content, Form, Picture};
use rt::confine::Access;
use std::sync::Arc;
use walks::{Found, WalkError, Walks, content};

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
    let mut walks = Walks::new(backend.clone(), args.start..end, args.output, drawn);
    let walked = walks.print(&mut printer).await;
    walked.and_then(|()| printer.finish(args.start)).map_err(|error| match error {
        WalkError::Status(offset, error) => {
            let name = &args.source.name;
            Failure::new(format_args!(
                "{name}: the block status at offset {offset:#x} can't be told: {error}"
            ))
            .because(&error)
        }
        WalkError::Lost(error) => Failure::new(error),
        WalkError::Failed(failure) => failure,
    })
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

    /// Prints what a walk found, except its last entry.
    fn found(&mut self, found: &mut Found) -> Result<(), WalkError> {
        if let Some(first) = found.first.take() {
            self.next(first, &found.lines)?;
            // Another one follows, which does not go on with it.
            self.last()?;
        }
        self.console.print_plain(&found.text);
        found.drawn.iter().for_each(|&(start, length, content)| self.draw(start, length, content));
        if let Some(failure) = found.failure.take() {
            return Err(failure);
        }
        match found.last.take() {
            Some(last) => self.next(last, &found.lines),
            None => Ok(()),
        }
    }

    /// Keeps the next entry, whose file is one of `lines`, and prints the one before it unless it only goes on with that.
    fn next(&mut self, mut entry: Entry, lines: &Lines) -> Result<(), WalkError> {
        let host = entry.host.and_then(|(file, offset)| Some((lines.node(file)?, offset)));
        entry.host = host.map(|(node, offset)| (self.lines.file(node), offset));
        if let Some(open) = &mut self.current
            && open.is_continued_by(entry.kind, entry.host)
        {
            open.length += entry.length;
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
            self.draw(entry.start, entry.length, content(entry.kind));
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
