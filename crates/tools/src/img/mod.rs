//! The `img` face: commands that make, look at, copy and change images.
//!
//! One table lists the commands; each is a file of its own with its flags, its manual and its work.

mod amend;
mod bench;
mod bitmap;
mod check;
mod commit;
mod compare;
mod convert;
mod crashtest;
mod create;
mod dd;
#[cfg(test)]
pub mod faults;
mod hash;
mod info;
mod inspect;
mod map;
mod measure;
mod rebase;
mod resize;
mod seams;
mod snapshot;
#[cfg(test)]
mod tests;
mod tree;
mod untrusted;

use crate::console::Console;
use crate::failure::Failure;
use crate::flags;
use crate::getopt::{self, Asked, Flag, Operands, Table};
use crate::image::Source;
use crate::size::SizeError;
use crate::usage::{self, Manual, Page};
use crate::{face, object, outln};

/// One command.
struct Command {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Console, &Call) -> Result<u8, Failure>,
}

const COMMANDS: &[Command] = &[
    Command { name: "amend", about: "Change options or passphrases of an image", run: amend::run },
    Command { name: "bench", about: "Tell how long many requests take", run: bench::run },
    Command { name: "bitmap", about: "Add, remove and change dirty bitmaps of an image", run: bitmap::run },
    Command { name: "check", about: "Check an image, and mend it", run: check::run },
    Command { name: "commit", about: "Write an overlay into its backing file", run: commit::run },
    Command { name: "compare", about: "Compare the content of two images", run: compare::run },
    Command { name: "convert", about: "Copy images into another format", run: convert::run },
    Command { name: "crashtest", about: "Tell whether an image survives crashes", run: crashtest::run },
    Command { name: "create", about: "Make an image", run: create::run },
    Command { name: "dd", about: "Copy a part of an image", run: dd::run },
    Command { name: "hash", about: "Tell the digest of an image's content", run: hash::run },
    Command { name: "info", about: "Tell what an image is", run: info::run },
    Command { name: "inspect", about: "Tell whether an image is safe to open", run: inspect::run },
    Command { name: "map", about: "Tell what lies where in an image", run: map::run },
    Command { name: "measure", about: "Tell how large a new image's file would be", run: measure::run },
    Command { name: "rebase", about: "Put another backing file below an image", run: rebase::run },
    Command { name: "resize", about: "Change the virtual size of an image", run: resize::run },
    Command { name: "snapshot", about: "Snapshots inside of an image", run: snapshot::run },
    Command { name: "tree", about: "Tell which image stands on which", run: tree::run },
];

const GLOBALS: Table<()> =
    &[&[Flag::help(), Flag::version(), flags::trace("log what matches, for example block=debug")]];

const MANUAL: Manual = Manual {
    synopsis: "[OPTIONS] COMMAND [ARGUMENTS]",
    about: "Disk image utility.",
    operands: &[],
    examples: &[
        ("create -f qcow2 disk.qcow2 10G", "an empty image that grows as it is written"),
        ("convert -p -O qcow2 disk.raw disk.qcow2", "the same content in another format"),
        ("info --backing-chain disk.qcow2", "an image and all that it stands on"),
    ],
    notes: "",
};

/// A command's own part of the command line.
pub struct Call<'a> {
    /// Program and command, as in the usage line.
    pub name: String,
    /// What follows the command's word.
    pub args: &'a [String],
}

impl Call<'_> {
    /// Reads the arguments by the command's table into `settings`, and gives the operands besides. `None`: only help was
    /// asked for, and has been printed.
    fn read<S>(
        &self,
        console: &mut Console,
        manual: &Manual,
        flags: Table<S>,
        settings: S,
    ) -> Result<Option<(S, Vec<String>)>, Failure> {
        match getopt::read(flags, self.args, Operands::Anywhere, settings)? {
            Asked::Work(settings, operands) => Ok(Some((settings, operands))),
            Asked::Help | Asked::Version => {
                usage::help(console, &self.name, manual, flags);
                Ok(None)
            }
        }
    }
}

/// Runs the face.
pub fn run(console: &mut Console, args: &[String]) -> u8 {
    match getopt::read(GLOBALS, args, Operands::EndFlags, ()) {
        Ok(Asked::Work((), operands)) => run_command(console, &operands),
        Ok(Asked::Help) => {
            help(console);
            0
        }
        Ok(Asked::Version) => {
            face::version(console, "qemu-img");
            0
        }
        Err(failure) => failure.tell_of(console, None),
    }
}

fn run_command(console: &mut Console, words: &[String]) -> u8 {
    let Some((word, args)) = words.split_first() else {
        return Failure::usage("Not enough arguments").tell_of(console, None);
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == word) else {
        return Failure::usage(format_args!("Command not found: {word}")).tell_of(console, None);
    };
    object::forget();
    let call = Call { name: format!("{} {word}", console.program()), args };
    match (command.run)(console, &call) {
        Ok(code) => code,
        Err(failure) => failure.tell_of(console, Some(&call.name)),
    }
}

fn help(console: &mut Console) {
    let program = console.program().to_owned();
    let commands = COMMANDS.iter().map(|command| (command.name, command.about)).collect();
    console.page(Page { commands, ..Page::new(&program, &MANUAL, GLOBALS) });
    outln!(console, "\nFormats: {}", crate::image::format_names().join(" "));
}

/// The one operand of a command that works on one image.
fn one_image(operands: &[String]) -> Result<String, Failure> {
    match operands {
        [name] => Ok(name.clone()),
        _ => Err(Failure::usage("Expecting one image file name")),
    }
}

/// Refuses a format beside `--image-opts`, which names it itself.
fn exclusive(source: &Source) -> Result<(), Failure> {
    if source.image_opts && source.format.is_some() {
        return Err(Failure::new("--image-opts and --format are mutually exclusive"));
    }
    Ok(())
}

/// Reads a number or size between two bounds; `what` is what it is for.
fn bounded(what: &str, text: &str, min: u64, max: u64) -> Result<u64, Failure> {
    match crate::size::parse(text) {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        Err(SizeError::Invalid) => Err(Failure::new(format_args!("Invalid {what} specified: '{text}'."))),
        _ => Err(Failure::new(format_args!("Invalid {what} specified. Must be between {min} and {max}."))),
    }
}

/// Reads a limit in bytes per second.
fn rate(text: &str) -> Result<u64, Failure> {
    bounded("rate limit", text, 0, i64::MAX as u64)
}
