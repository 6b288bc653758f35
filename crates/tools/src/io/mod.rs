//! The `io` face: reads, writes and checks an open image, command by command.
//!
//! ```text
//! -c "write -P 7 0 64k" … or lines of standard input ──▶ command ──▶ Session { image, requests under way }
//! ```
//!
//! The exit code is 1 if any command failed, a pattern that did not match included.

mod aio;
mod arguments;
mod breakpoints;
mod command;
mod images;
mod maps;
mod report;
mod shell;
#[cfg(test)]
mod tests;
mod transfer;
pub mod witness;
mod zones;

use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, has_parts};
use crate::getopt::{Flag, Operands, Table};
use crate::image::{Image, Source};
use crate::usage::{self, CommandLine, Manual};
use crate::{object, out, runtime};
use arguments::Refused;
use command::Outcome;
use std::io::BufRead;
use std::sync::Arc;
use witness::Witness;

const FLAGS: Table<Setup> = &[
    &[Flag::take("-c --cmd", "COMMAND", "run a command; may be given again", |s, line| {
        s.commands.push(line.to_owned());
        Ok(())
    })],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        flags::object(),
        flags::read_only("open for reading only"),
        Flag::set("-s --snapshot", "write to a temporary overlay", |s| s.snapshot = true),
        flags::no_cache("-n --nocache", "pass the page cache by, as -t none"),
        flags::cache("-t --cache", "none, writeback, writethrough, directsync or unsafe"),
        flags::discard("-d --discard"),
        flags::aio("-i --aio"),
        flags::native_aio("-k --native-aio"),
        Flag::set("-C --copy-on-read", "copy what is read from backing files", |s| {
            s.source.copy_on_read = true;
        }),
        Flag::set("-m --misalign", "use buffers at odd addresses", |s| s.misalign = true),
        flags::force_share("take no locks and share everything"),
        flags::trace("log what matches, for example block=debug"),
        Flag::help(),
        Flag::version(),
    ],
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
    witness: Option<Arc<dyn Witness>>,
    /// The commands stand on the command line: the exit code tells of a flush that failed, as today's scripts expect.
    scripted: bool,
    /// A command has failed.
    failed: bool,
}

/// What the command line says.
#[derive(Debug)]
pub struct Setup {
    /// Lines to run; without any, those of standard input are.
    pub commands: Vec<String>,
    /// The image to open first, if it is named.
    pub source: Source,
    /// An image was named.
    pub open: bool,
    /// Buffers lie at odd addresses.
    pub misalign: bool,
    /// Writes go to a temporary overlay.
    pub snapshot: bool,
}

has_parts!(Setup { source: Source });

impl Default for Setup {
    fn default() -> Setup {
        Setup::new()
    }
}

impl Setup {
    /// What is said without any flag.
    pub fn new() -> Setup {
        let source = Source::named("").writable();
        Setup { commands: Vec::new(), source, open: false, misalign: false, snapshot: false }
    }
}

/// What `-m` puts buffers off by: no device takes that for aligned.
const MISALIGNED: usize = 16;

/// Runs the face.
pub fn run(console: &mut Console, args: &[String]) -> u8 {
    object::forget();
    let command_line =
        CommandLine { version: "qemu-io", manual: &MANUAL, flags: FLAGS, operands: Operands::Anywhere };
    let (mut setup, operands) = match command_line.read(console, args, Setup::new()) {
        Ok(Some(asked)) => asked,
        Ok(None) => return 0,
        Err(failure) => return failure.tell(console),
    };
    match operands.as_slice() {
        [] => {}
        [name] => {
            setup.source.name = name.clone();
            setup.open = true;
        }
        _ => {
            help(console);
            return 1;
        }
    }
    if setup.source.image_opts && setup.source.format.is_some() {
        return Failure::new("--image-opts and -f are mutually exclusive").tell(console);
    }
    let ended = runtime::run(session(console, setup));
    ended.unwrap_or_else(|failure| failure.tell(console))
}

fn help(console: &mut Console) {
    let program = console.program().to_owned();
    usage::help(console, &program, &MANUAL, FLAGS);
}

/// Runs the commands; gives the exit code.
pub async fn session(console: &mut Console, setup: Setup) -> u8 {
    let (image_opts, shift) = (setup.source.image_opts, if setup.misalign { MISALIGNED } else { 0 });
    let mut session = Session {
        console,
        image: None,
        image_opts,
        shift,
        under_way: aio::UnderWay::default(),
        witness: None,
        scripted: !setup.commands.is_empty(),
        failed: false,
    };
    if setup.open && session.open(&setup.source, setup.snapshot).await.is_err() {
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
            Err(Refused) => (code, session.failed) = (1, true),
        }
    }
    session.finish_requests().await;
    if session.close_image().await.is_err() { 1 } else { code }
}

/// The requests of a monitor's commands that are under way: they go on when a command has been answered.
pub type Pending = aio::UnderWay;

/// Whether a command may change what the disk holds.
pub fn changes(line: &str) -> bool {
    let command = line.split_whitespace().next().and_then(command::find);
    command.is_some_and(|command| {
        ["aio_discard", "aio_write", "discard", "truncate", "write", "writev"].contains(&command.name)
    })
}

/// Does one command on what a backend leads to, as a monitor asks for it.
pub async fn monitor_command(console: &mut Console, pending: &mut Pending, image: Image, line: &str) {
    let mut session = Session {
        console,
        image: Some(image),
        image_opts: false,
        shift: 0,
        under_way: std::mem::take(pending),
        witness: None,
        scripted: false,
        failed: false,
    };
    // What went wrong is printed.
    let _ = session.line(line).await;
    *pending = session.under_way;
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
        let words = arguments::split(line);
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
