//! Help and usage lines, made from the flag table of a command.

use crate::console::Console;
use crate::failure::Failure;
use crate::getopt::{self, Asked, Operands, Table};
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

/// All that is said of a command: printed as its help, and made into man pages and completions.
#[derive(Clone, Debug)]
pub struct Page {
    /// How it is called: "qemu-img info".
    pub name: String,
    /// What is said besides its flags.
    pub manual: Manual,
    /// Its flags.
    pub flags: Vec<PageFlag>,
    /// Its commands, if it has some: name, what it does.
    pub commands: Vec<(&'static str, &'static str)>,
}

/// A flag as help shows it.
#[derive(Clone, Copy, Debug)]
pub struct PageFlag {
    /// All spellings, with blanks between them.
    pub names: &'static str,
    /// What its value is called, or the words that it may be, with `|` between them; nothing if it takes none.
    pub value: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
}

impl PageFlag {
    /// The first of its letters and of its words, with their dashes.
    pub fn spellings(&self) -> [Option<&'static str>; 2] {
        let first = |is_long: bool| self.names.split(' ').find(|name| name.starts_with("--") == is_long);
        [first(false), first(true)]
    }

    fn with_value(&self) -> String {
        let [short, long] = self.spellings();
        let value = match self.value {
            None => String::new(),
            Some(name) if long.is_some() => format!("={name}"),
            Some(name) => format!(" {name}"),
        };
        match (short, long) {
            (Some(short), Some(long)) => format!("{short}, {long}{value}"),
            (Some(short), None) => format!("{short}{value}"),
            (None, Some(long)) => format!("    {long}{value}"),
            (None, None) => value,
        }
    }
}

impl Page {
    /// The page of a command called `name`.
    pub fn new<S>(name: &str, manual: &Manual, flags: Table<S>) -> Page {
        let own = getopt::rows(flags).filter(|flag| !flag.help.is_empty()).map(|flag| PageFlag {
            names: flag.names,
            value: flag.value,
            help: flag.help,
        });
        let flags = own.chain(message::FLAGS).collect();
        Page { name: name.to_owned(), manual: *manual, flags, commands: Vec::new() }
    }

    /// Prints it as help.
    pub fn print(&self, console: &mut Console) {
        let Page { name, manual, flags, commands } = self;
        outln!(console, "{}", manual.about);
        outln!(console, "\nUsage: {name} {}\n\nOptions:", manual.synopsis);
        for flag in flags {
            entry(console, &flag.with_value(), flag.help);
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
        if !commands.is_empty() {
            outln!(console, "\nCommands ({name} COMMAND --help tells more):");
            let width = commands.iter().map(|(command, _)| command.len() + 2).fold(10, usize::max);
            for (command, about) in commands {
                outln!(console, "  {command:<width$}{about}");
            }
        }
    }
}

/// Prints the help of a command called `name` ("qemu-img info").
pub fn help<S>(console: &mut Console, name: &str, manual: &Manual, flags: Table<S>) {
    console.page(Page::new(name, manual, flags));
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
