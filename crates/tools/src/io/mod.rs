//! The `io` face: reads, writes and checks an open image, command by command.
//!
//! ```text
//! -c "write -P 7 0 64k" … or lines of standard input ──▶ command ──▶ Session { image, requests under way }
//! ```
//!
//! The exit code is 1 if any command failed, a pattern that did not match included.

mod aio;
mod command;
mod images;
mod maps;
mod report;
mod shell;
mod transfer;
mod words;

use crate::cache::{self, Cache};
use crate::console::Console;
use crate::failure::Failure;
use crate::getopt::{self, Flag, Operands};
use crate::image::{Image, Source};
use crate::usage::{self, Manual};
use crate::{face, out, runtime};
use command::Outcome;
use std::io::BufRead;
use words::Refused;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Object,
    ImageOpts,
    Command,
    Format,
    ReadOnly,
    Snapshot,
    NoCache,
    CopyOnRead,
    Misalign,
    Native,
    Aio,
    Cache,
    Discard,
    Trace,
    ForceShare,
    Help,
    Version,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::valued(Id::Command, Some('c'), Some("cmd"), "COMMAND", "run a command; may be given again"),
    Flag::valued(
        Id::Format,
        Some('f'),
        Some("format"),
        "FMT",
        "format of the image; found by its content if left out",
    ),
    Flag::bare(Id::ImageOpts, None, Some("image-opts"), "FILE is a list of options, not a name"),
    Flag::valued(Id::Object, None, Some("object"), "TYPE,id=ID,...", "make an object, such as a secret"),
    Flag::bare(Id::ReadOnly, Some('r'), Some("read-only"), "open for reading only"),
    Flag::bare(Id::Snapshot, Some('s'), Some("snapshot"), "write to a temporary overlay"),
    Flag::bare(Id::NoCache, Some('n'), Some("nocache"), "pass the page cache by, as -t none"),
    Flag::valued(
        Id::Cache,
        Some('t'),
        Some("cache"),
        "MODE",
        "none, writeback, writethrough, directsync or unsafe",
    ),
    Flag::valued(Id::Discard, Some('d'), Some("discard"), "MODE", "ignore or unmap"),
    Flag::valued(Id::Aio, Some('i'), Some("aio"), "MODE", "threads, native or io_uring"),
    Flag::bare(Id::Native, Some('k'), Some("native-aio"), "as -i native"),
    Flag::bare(
        Id::CopyOnRead,
        Some('C'),
        Some("copy-on-read"),
        "copy what is read from backing files (not yet)",
    ),
    Flag::bare(Id::Misalign, Some('m'), Some("misalign"), "use buffers at odd addresses"),
    Flag::bare(Id::ForceShare, Some('U'), Some("force-share"), "take no locks and share everything"),
    Flag::valued(Id::Trace, Some('T'), Some("trace"), "FILTER", "log what matches, for example block=debug"),
    Flag::bare(Id::Help, Some('h'), Some("help"), "print this help"),
    Flag::bare(Id::Version, Some('V'), Some("version"), "print the version"),
];

const MANUAL: Manual = Manual {
    synopsis: "[OPTIONS]... [-c COMMAND]... [FILE]",
    about: "Reads, writes and checks an image, by commands from the command line or from standard input.",
    operands: &[("FILE", "the image to open first")],
    examples: &[
        ("-f raw -c 'write -P 7 0 64k' -c 'read -P 7 0 64k' disk.raw", "writes a pattern and checks it"),
        ("-c help", "lists the commands"),
    ],
    notes: "",
};

/// What commands work on.
pub struct Session<'c> {
    console: &'c mut Console,
    image: Option<Image>,
    /// Names are lists of options (`--image-opts`).
    image_opts: bool,
    /// Bytes that buffers lie after an aligned address.
    shift: usize,
    under_way: aio::UnderWay,
}

struct Setup {
    commands: Vec<String>,
    source: Option<Source>,
    image_opts: bool,
    misalign: bool,
    snapshot: bool,
}

/// What `-m` puts buffers off by: no device takes that for aligned.
const MISALIGNED: usize = 16;

/// Runs the face.
pub fn run(console: &mut Console, args: &[String]) -> u8 {
    let parsed = match getopt::parse(FLAGS, args, Operands::Anywhere) {
        Ok(parsed) => parsed,
        Err(error) => {
            console.error(error);
            usage_error(console);
            return 1;
        }
    };
    if parsed.has(Id::Help) {
        help(console);
        return 0;
    }
    if parsed.has(Id::Version) {
        face::version(console, "qemu-io");
        return 0;
    }
    let setup = match setup(&parsed) {
        Ok(Some(setup)) => setup,
        Ok(None) => {
            help(console);
            return 1;
        }
        Err(failure) => {
            console.error(failure.message());
            return failure.code();
        }
    };
    let ended = runtime::run(session(console, setup));
    ended.unwrap_or_else(|failure| {
        console.error(failure.message());
        failure.code()
    })
}

fn help(console: &mut Console) {
    let program = console.program().to_owned();
    usage::help(console, &program, &MANUAL, FLAGS);
}

fn usage_error(console: &Console) {
    console.note(format_args!("Try '{} --help' for more info", console.program()));
}

/// What the command line asks for; nothing if it has too many files.
fn setup(parsed: &getopt::Parsed<Id>) -> Result<Option<Setup>, Failure> {
    let name = match parsed.operands.as_slice() {
        [] => None,
        [name] => Some(name.as_str()),
        _ => return Ok(None),
    };
    let mut setup = Setup {
        commands: Vec::new(),
        source: None,
        image_opts: parsed.has(Id::ImageOpts),
        misalign: parsed.has(Id::Misalign),
        snapshot: parsed.has(Id::Snapshot),
    };
    let mut source = Source::named(name.unwrap_or_default()).writable();
    for (id, value) in &parsed.flags {
        match id {
            Id::Command => setup.commands.push(value.clone()),
            Id::Format => source.format = Some(value.clone()),
            Id::ImageOpts => source.image_opts = true,
            Id::Object => crate::object::accept(value)?,
            Id::ReadOnly => source.writable = false,
            Id::NoCache => source.cache = Cache::NONE,
            Id::Cache => source.cache = Cache::parse(value).map_err(Failure::new)?,
            Id::Discard => source.discard = cache::parse_discard(value).map_err(Failure::new)?,
            Id::Aio => source.aio = Some(cache::parse_aio(value).map_err(Failure::new)?),
            Id::Native => source.aio = Some("native"),
            Id::CopyOnRead => return Err(Failure::new("copy-on-read is not supported yet")),
            Id::ForceShare => source.force_share = true,
            Id::Trace => crate::trace::start(value)?,
            Id::Misalign | Id::Snapshot | Id::Help | Id::Version => {}
        }
    }
    if source.image_opts && source.format.is_some() {
        return Err(Failure::new("--image-opts and -f are mutually exclusive"));
    }
    setup.source = name.map(|_| source);
    Ok(Some(setup))
}

async fn session(console: &mut Console, setup: Setup) -> u8 {
    let (image_opts, shift) = (setup.image_opts, if setup.misalign { MISALIGNED } else { 0 });
    let mut session =
        Session { console, image: None, image_opts, shift, under_way: aio::UnderWay::default() };
    if let Some(source) = &setup.source
        && session.open(source, setup.snapshot).await.is_err()
    {
        return 1;
    }
    let mut code = 0;
    if setup.commands.is_empty() {
        code = session.interact().await;
    }
    for line in &setup.commands {
        match session.line(line).await {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Quit) => break,
            Err(Refused) => code = 1,
        }
    }
    session.finish_requests().await;
    if session.close_image().await.is_err() { 1 } else { code }
}

impl Session<'_> {
    /// Takes commands from standard input until it ends.
    async fn interact(&mut self) -> u8 {
        let mut code = 0;
        loop {
            out!(self.console, "{}> ", self.console.program().to_owned());
            self.console.flush();
            let line = rt::blocking(|| {
                let mut line = String::new();
                std::io::stdin().lock().read_line(&mut line).map(|length| (length > 0).then_some(line))
            });
            match line.await {
                Ok(Some(line)) => match self.line(&line).await {
                    Ok(Outcome::Done) => {}
                    Ok(Outcome::Quit) => return code,
                    Err(Refused) => code = 1,
                },
                Ok(None) => return code,
                Err(error) => {
                    self.console.error(format_args!("standard input: {error}"));
                    return 1;
                }
            }
        }
    }

    /// Does one command.
    async fn line(&mut self, line: &str) -> Result<Outcome, Refused> {
        self.report_finished();
        let words = words::split(line);
        let Some((name, args)) = words.split_first() else { return Ok(Outcome::Done) };
        let Some(command) = command::find(name) else {
            self.console.note(format_args!("command \"{name}\" not found"));
            return Err(Refused);
        };
        if let Some(expected) = command.miscount(args.len()) {
            self.console
                .note(format_args!("bad argument count {} to {name}, expected {expected}", args.len()));
            return Err(Refused);
        }
        if command.needs_image && self.image.is_none() {
            self.console.note("no file open, try 'help open'");
            return Err(Refused);
        }
        let outcome = (command.run)(self, args).await;
        self.report_finished();
        outcome
    }

    /// Shows the usage line of a command that was misused.
    fn misused(&mut self, command: &str) -> Refused {
        match command::find(command) {
            Some(command) => self.refuse(format_args!("{}", command.usage())),
            None => Refused,
        }
    }
}
