//! The commands of the `io` face: one table with what each is called, takes, and does.

use super::arguments::Refused;
use super::{Session, aio, breakpoints, images, maps, shell, transfer, zones};
use crate::getopt::{self, Table};
use rt::BoxFuture;

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; the next one may come.
    Done,
    /// The end is asked for.
    Quit,
}

/// What a command's work gives.
pub type Work<'a> = BoxFuture<'a, Result<Outcome, Refused>>;

/// One command.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// A shorter name.
    pub short: Option<&'static str>,
    /// How many words may follow it at least and at most.
    pub words: (usize, Option<usize>),
    /// Whether it works on the open image.
    pub needs_image: bool,
    /// Its arguments, for the usage line.
    pub synopsis: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// Its flags, as `help COMMAND` lists them.
    pub flags: fn() -> String,
    /// What `help COMMAND` adds to them.
    pub notes: &'static str,
    /// Does it.
    pub run: for<'a> fn(&'a mut Session<'_>, &'a [String]) -> Work<'a>,
}

/// All commands, in the order of their names.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "abort",
        short: None,
        words: (0, Some(0)),
        needs_image: false,
        synopsis: "",
        about: "end the program at once, as a crash does",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(shell::abort(session, args)),
    },
    Command {
        name: "aio_discard",
        short: None,
        words: (2, None),
        needs_image: true,
        synopsis: "[-Cq] off len",
        about: "begin to give the space of a range back",
        flags: || listed(transfer::DISCARD),
        notes: aio::NOTE,
        run: |session, args| Box::pin(aio::discard(session, args)),
    },
    Command {
        name: "aio_flush",
        short: None,
        words: (0, Some(0)),
        needs_image: true,
        synopsis: "",
        about: "wait for every request that is under way, and flush",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(aio::flush(session, args)),
    },
    Command {
        name: "aio_read",
        short: None,
        words: (2, None),
        needs_image: true,
        synopsis: "[-Ciqrv] [-P pattern] off len [len..]",
        about: "begin to read",
        flags: || listed(aio::READ),
        notes: aio::NOTE,
        run: |session, args| Box::pin(aio::read(session, args)),
    },
    Command {
        name: "aio_write",
        short: None,
        words: (2, None),
        needs_image: true,
        synopsis: "[-Cfiqruz] [-P pattern] off len [len..]",
        about: "begin to write",
        flags: || listed(aio::WRITE),
        notes: aio::NOTE,
        run: |session, args| Box::pin(aio::write(session, args)),
    },
    Command {
        name: "alloc",
        short: Some("a"),
        words: (1, Some(2)),
        needs_image: true,
        synopsis: "offset [count]",
        about: "count the allocated bytes of a range",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(maps::alloc(session, args)),
    },
    Command {
        name: "break",
        short: None,
        words: (2, Some(2)),
        needs_image: true,
        synopsis: "event tag",
        about: "hold the next request back that comes to an event, under a tag",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(breakpoints::set(session, args)),
    },
    Command {
        name: "close",
        short: Some("c"),
        words: (0, Some(0)),
        needs_image: true,
        synopsis: "",
        about: "close the image",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(images::close(session, args)),
    },
    Command {
        name: "discard",
        short: Some("d"),
        words: (2, None),
        needs_image: true,
        synopsis: "[-Cq] off len",
        about: "give the space of a range back",
        flags: || listed(transfer::DISCARD),
        notes: " Example: discard 512 1k\n",
        run: |session, args| Box::pin(transfer::discard(session, args)),
    },
    Command {
        name: "flush",
        short: Some("f"),
        words: (0, Some(0)),
        needs_image: true,
        synopsis: "",
        about: "make everything written so far durable",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(transfer::flush(session, args)),
    },
    Command {
        name: "help",
        short: Some("?"),
        words: (0, Some(1)),
        needs_image: false,
        synopsis: "[command]",
        about: "tell about one command or all",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(shell::help(session, args)),
    },
    Command {
        name: "info",
        short: Some("i"),
        words: (0, Some(0)),
        needs_image: true,
        synopsis: "",
        about: "tell about the open image",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(images::info(session, args)),
    },
    Command {
        name: "length",
        short: Some("l"),
        words: (0, Some(0)),
        needs_image: true,
        synopsis: "",
        about: "tell the virtual size of the open image",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(images::length(session, args)),
    },
    Command {
        name: "map",
        short: None,
        words: (0, Some(0)),
        needs_image: true,
        synopsis: "",
        about: "list which areas are allocated",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(maps::map(session, args)),
    },
    Command {
        name: "open",
        short: Some("o"),
        words: (1, None),
        needs_image: false,
        synopsis: "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
        about: "open an image",
        flags: || listed(images::OPEN),
        notes: " Example: open -n -o driver=raw /tmp/data\n",
        run: |session, args| Box::pin(images::open(session, args)),
    },
    Command {
        name: "quit",
        short: Some("q"),
        words: (0, Some(0)),
        needs_image: false,
        synopsis: "",
        about: "end the program",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(shell::quit(session, args)),
    },
    Command {
        name: "read",
        short: Some("r"),
        words: (2, None),
        needs_image: true,
        synopsis: "[-abCqrv] [-P pattern [-s off] [-l len]] off len",
        about: "read a range, and compare it with a pattern",
        flags: || listed(transfer::READ),
        notes: " Example: read -P 7 512 1k\n",
        run: |session, args| Box::pin(transfer::read(session, args)),
    },
    Command {
        name: "readv",
        short: None,
        words: (2, None),
        needs_image: true,
        synopsis: "[-Cqrv] [-P pattern] off len [len..]",
        about: "read a range that is given in pieces",
        flags: || listed(transfer::READV),
        notes: " Example: readv -P 7 512 1k 2k\n",
        run: |session, args| Box::pin(transfer::readv(session, args)),
    },
    Command {
        name: "remove_break",
        short: None,
        words: (1, Some(1)),
        needs_image: true,
        synopsis: "tag",
        about: "take breakpoints back, and let go what they hold",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(breakpoints::remove(session, args)),
    },
    Command {
        name: "reopen",
        short: None,
        words: (0, None),
        needs_image: true,
        synopsis: "[(-r|-w)] [-c cache] [-o options]",
        about: "change how the image is open",
        flags: || listed(images::REOPEN),
        notes: " Example: reopen -r\n",
        run: |session, args| Box::pin(images::reopen(session, args)),
    },
    Command {
        name: "resume",
        short: None,
        words: (1, Some(1)),
        needs_image: true,
        synopsis: "tag",
        about: "let a request go on that is held back",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(breakpoints::resume(session, args)),
    },
    Command {
        name: "sigraise",
        short: None,
        words: (1, Some(1)),
        needs_image: false,
        synopsis: "signal",
        about: "send the program a signal",
        flags: String::new,
        notes: " Example: sigraise 15\n",
        run: |session, args| Box::pin(shell::sigraise(session, args)),
    },
    Command {
        name: "sleep",
        short: None,
        words: (1, Some(1)),
        needs_image: false,
        synopsis: "",
        about: "wait so many milliseconds while requests under way go on",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(shell::sleep(session, args)),
    },
    Command {
        name: "truncate",
        short: Some("t"),
        words: (1, Some(3)),
        needs_image: true,
        synopsis: "[-m prealloc_mode] off",
        about: "change the virtual size",
        flags: || listed(images::TRUNCATE),
        notes: "",
        run: |session, args| Box::pin(images::truncate(session, args)),
    },
    Command {
        name: "wait_break",
        short: None,
        words: (1, Some(1)),
        needs_image: true,
        synopsis: "tag",
        about: "wait until a request is held back",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(breakpoints::wait(session, args)),
    },
    Command {
        name: "write",
        short: Some("w"),
        words: (2, None),
        needs_image: true,
        synopsis: "[-bcCfnqruz] [-P pattern | -s source_file] off len",
        about: "write a range",
        flags: || listed(transfer::WRITE),
        notes: " Example: write -P 7 512 1k\n",
        run: |session, args| Box::pin(transfer::write(session, args)),
    },
    Command {
        name: "writev",
        short: None,
        words: (2, None),
        needs_image: true,
        synopsis: "[-Cfqr] [-P pattern] off len [len..]",
        about: "write a range that is given in pieces",
        flags: || listed(transfer::WRITEV),
        notes: " Example: writev -P 7 512 1k 2k\n",
        run: |session, args| Box::pin(transfer::writev(session, args)),
    },
    Command {
        name: "zone_append",
        short: Some("zap"),
        words: (3, Some(4)),
        needs_image: true,
        synopsis: "offset len [len..]",
        about: "write behind what a zone holds (no driver has zones yet)",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(zones::append(session, args)),
    },
    Command {
        name: "zone_close",
        short: Some("zc"),
        words: (2, Some(2)),
        needs_image: true,
        synopsis: "offset len",
        about: "close zones",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(zones::close(session, args)),
    },
    Command {
        name: "zone_finish",
        short: Some("zf"),
        words: (2, Some(2)),
        needs_image: true,
        synopsis: "offset len",
        about: "declare zones full",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(zones::finish(session, args)),
    },
    Command {
        name: "zone_open",
        short: Some("zo"),
        words: (2, Some(2)),
        needs_image: true,
        synopsis: "offset len",
        about: "open zones",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(zones::open(session, args)),
    },
    Command {
        name: "zone_report",
        short: Some("zrp"),
        words: (2, Some(2)),
        needs_image: true,
        synopsis: "offset number",
        about: "list zones",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(zones::report(session, args)),
    },
    Command {
        name: "zone_reset",
        short: Some("zrs"),
        words: (2, Some(2)),
        needs_image: true,
        synopsis: "offset len",
        about: "make zones empty",
        flags: String::new,
        notes: "",
        run: |session, args| Box::pin(zones::reset(session, args)),
    },
];

/// The command of this name or short name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name || command.short == Some(name))
}

/// The flags of a table, a line each.
fn listed<S>(table: Table<S>) -> String {
    let shown = getopt::rows(table).filter(|flag| !flag.help.is_empty());
    shown.map(|flag| format!(" {}  {}\n", flag.names, flag.help)).collect()
}

impl Command {
    /// What `help COMMAND` says below the usage line.
    pub fn more(&self) -> String {
        match (&*(self.flags)(), self.notes) {
            ("", notes) => notes.to_owned(),
            (flags, "") => flags.to_owned(),
            (flags, notes) => format!("{flags}\n{notes}"),
        }
    }

    /// The usage line.
    pub fn usage(&self) -> String {
        self.usage_as(self.name)
    }

    /// The usage line under this name, which may be the shorter one.
    pub fn usage_as(&self, name: &str) -> String {
        match self.synopsis {
            "" => format!("{name} -- {}", self.about),
            synopsis => format!("{name} {synopsis} -- {}", self.about),
        }
    }

    /// Why `given` words are too few or too many, if they are.
    pub fn miscount(&self, given: usize) -> Option<String> {
        let (least, most) = self.words;
        if given >= least && most.is_none_or(|most| given <= most) {
            return None;
        }
        Some(match most {
            None => format!("at least {least} arguments"),
            Some(most) if most == least => format!("{least} arguments"),
            Some(most) => format!("between {least} and {most} arguments"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_sorted_and_no_two_share_a_name() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        let mut names: Vec<_> = COMMANDS.iter().flat_map(|c| [Some(c.name), c.short]).flatten().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_wrong_count_says_what_was_expected() {
        let count = |name: &str, given| find(name).unwrap().miscount(given);
        assert_eq!(count("read", 1).unwrap(), "at least 2 arguments");
        assert_eq!(count("length", 1).unwrap(), "0 arguments");
        assert_eq!(count("alloc", 3).unwrap(), "between 1 and 2 arguments");
        assert_eq!(count("w", 5), None);
    }
}
