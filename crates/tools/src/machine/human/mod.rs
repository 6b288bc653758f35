//! The monitor for people, as far as it is about the block layer: words to commands, answers to text.
//!
//! Most commands are commands of QMP with their arguments in a row; what those have not (`info`, `qemu-io`, `drive_add`) stands in
//! files of its own.

mod commands;
mod commit;
mod info;
mod line;
mod migration;
mod snapshots;

use crate::console::Console;
use crate::creation::Creation;
use crate::io::Pending;
use block::Opt;
use commands::{COMMANDS, Command};
use futures_util::lock::Mutex;
use line::Words;
use monitor::{Control, Human, NewImage};
use rt::BoxFuture;

/// The monitor for people.
pub struct HumanMonitor {
    /// The name that messages on standard error begin with.
    program: String,
    /// Requests that `qemu-io` has begun.
    pending: Mutex<Pending>,
}

/// What a command is given.
pub(super) struct Asked<'a> {
    pub(super) monitor: &'a HumanMonitor,
    pub(super) control: &'a Control,
    pub(super) words: Words,
}

/// A mistake, as it is told.
pub(super) struct Told(pub(super) String);

impl Told {
    /// An error of a command.
    pub(super) fn error(text: impl std::fmt::Display) -> Told {
        Told(format!("Error: {text}\n"))
    }
}

/// What a command prints.
pub(super) type Answer<'a> = BoxFuture<'a, Result<String, Told>>;

impl HumanMonitor {
    pub(super) fn new(program: &str) -> HumanMonitor {
        HumanMonitor { program: program.to_owned(), pending: Mutex::default() }
    }

    /// What the commands of `io` print on.
    fn console(&self) -> Console {
        Console::new(&self.program)
    }

    async fn answer(&self, control: &Control, line: &str) -> String {
        let words = match line::split(line) {
            Ok(words) => words,
            Err(mistake) => return format!("{mistake}\n"),
        };
        let Some((name, rest)) = words.split_first() else { return String::new() };
        let Some(command) = COMMANDS.iter().find(|command| command.is_called(name)) else {
            return format!("unknown command: '{name}'\n");
        };
        let words = match command.words(rest) {
            Ok(words) => words,
            Err(mistake) => return format!("{mistake}\nTry \"help {name}\" for more information\n"),
        };
        let asked = Asked { monitor: self, control, words };
        match (command.run)(&asked).await {
            Ok(text) | Err(Told(text)) => text,
        }
    }
}

impl Human for HumanMonitor {
    fn banner(&self) -> String {
        let version = api::introspect::version().qemu;
        format!(
            "QEMU {}.{}.{} monitor - type 'help' for more information",
            version.major, version.minor, version.micro
        )
    }

    fn tell_of_image(&self, image: &NewImage<'_>) {
        let options = image.options.clone().with("size", Opt::Uint(image.size));
        if let Ok(creation) = Creation::described(image.graph, image.format, image.filename, options) {
            creation.tell(&mut self.console());
        }
    }

    fn command<'a>(&'a self, control: &'a Control, line: &'a str) -> BoxFuture<'a, String> {
        Box::pin(async move { self.answer(control, line).await.replace('\n', "\r\n") })
    }
}

/// The commands, for `help`.
pub(super) fn help(name: Option<&str>) -> String {
    let line = |command: &Command| format!("{} {} -- {}\n", command.name, command.synopsis, command.about);
    COMMANDS.iter().filter(|command| name.is_none_or(|name| command.is_called(name))).map(line).collect()
}
