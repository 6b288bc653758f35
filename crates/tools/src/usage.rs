//! Help and usage lines, made from the flag table of a command.

use crate::console::Console;
use crate::failure::Failure;
use crate::getopt::{self, Asked, Flag, Operands, Table};
use crate::{face, message, out, outln};

/// What the help of one command says besides its flags.
#[derive(Clone, Copy, Debug)]
pub struct Manual {
    /// What follows the command's name: `[-f FMT] FILE`.
    pub synopsis: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// Its operands: name, meaning.
    pub operands: &'static [(&'static str, &'static str)],
    /// Examples: the arguments, what they do.
    pub examples: &'static [(&'static str, &'static str)],
    /// What has to be known beyond that: a paragraph, or nothing.
    pub notes: &'static str,
}

/// How the command line of a face is read.
pub struct CommandLine<S: 'static> {
    /// The program whose version is told.
    pub version: &'static str,
    /// What its help says.
    pub manual: &'static Manual,
    /// Its flags.
    pub flags: Table<S>,
    /// Where operands may stand.
    pub operands: Operands,
}

impl<S> CommandLine<S> {
    /// Reads the settings, which are these where no flag says otherwise, and the operands. `None`: only help or the version
    /// was asked for, and has been printed.
    pub fn read(
        self,
        console: &mut Console,
        args: &[String],
        settings: S,
    ) -> Result<Option<(S, Vec<String>)>, Failure> {
        match getopt::read(self.flags, args, self.operands, settings)? {
            Asked::Work(settings, operands) => return Ok(Some((settings, operands))),
            Asked::Help => {
                let program = console.program().to_owned();
                help(console, &program, self.manual, self.flags);
            }
            Asked::Version => face::version(console, self.version),
        }
        Ok(None)
    }
}

/// Prints the help of a command called `name` ("qemu-img info").
pub fn help<S>(console: &mut Console, name: &str, manual: &Manual, flags: Table<S>) {
    outln!(console, "{}", manual.about);
    outln!(console, "\nUsage: {name} {}\n\nOptions:", manual.synopsis);
    for flag in getopt::rows(flags).filter(|flag| !flag.help.is_empty()) {
        entry(console, &spelling(flag), flag.help);
    }
    for (flag, meaning) in message::FLAGS {
        entry(console, flag, meaning);
    }
    for (operand, meaning) in manual.operands {
        entry(console, operand, meaning);
    }
    if !manual.examples.is_empty() {
        outln!(console, "\nExamples:");
        for (arguments, meaning) in manual.examples {
            let line = format!("{name} {arguments}");
            outln!(console, "  {}\n      {meaning}", line.trim_end());
        }
    }
    if !manual.notes.is_empty() {
        outln!(console, "\n{}", manual.notes);
    }
}

/// Column in which explanations begin.
const COLUMN: usize = 28;

fn entry(console: &mut Console, term: &str, meaning: &str) {
    if term.len() + 4 > COLUMN {
        out!(console, "  {term}\n{:COLUMN$}", "");
    } else {
        out!(console, "  {term:width$}", width = COLUMN - 2);
    }
    outln!(console, "{meaning}");
}

fn spelling<S>(flag: &Flag<S>) -> String {
    let (short, long) = (flag.shorts().next(), flag.longs().next());
    let value = match flag.value {
        None => String::new(),
        Some(name) if long.is_some() => format!("={name}"),
        Some(name) => format!(" {name}"),
    };
    match (short, long) {
        (Some(short), Some(long)) => format!("-{short}, --{long}{value}"),
        (Some(short), None) => format!("-{short}{value}"),
        (None, Some(long)) => format!("    --{long}{value}"),
        (None, None) => value,
    }
}
