//! Man pages, and completions for shells: made from the same rows as `--help`, so that none of them is forgotten.
//!
//! ```text
//! each face and command with --help ─▶ Page ─┬─ roff ─▶ cairn.1, cairn-img.1, cairn-img-convert.1, …
//!                                            └─ bash, zsh, fish ─▶ one script for all of them
//! ```

mod bash;
mod fish;
mod roff;
#[cfg(test)]
mod tests;
mod values;
mod zsh;

use crate::console::Console;
use crate::failure::Failure;
use crate::getopt::{Flag, Operands, Table};
use crate::usage::{CommandLine, Manual, Page, PageFlag};
use crate::{face, image, outln};
use std::path::PathBuf;

/// The program that the pages and scripts are for.
const PROGRAM: &str = "cairn";

const COMPLETIONS_MANUAL: Manual = Manual {
    synopsis: "bash|zsh|fish",
    about: "Prints what completes command lines of cairn in a shell.",
    operands: &[("SHELL", "bash, zsh or fish")],
    examples: &[
        ("bash > /etc/bash_completion.d/cairn", "for all users of bash"),
        ("zsh > ~/.zfunc/_cairn", "where fpath has ~/.zfunc"),
        ("fish > ~/.config/fish/completions/cairn.fish", "for a user of fish"),
    ],
    notes: "",
};

const MAN_MANUAL: Manual = Manual {
    synopsis: "DIR",
    about: "Writes man pages, one for each face and command, into a directory.",
    operands: &[("DIR", "where to; it is made if it is not there")],
    examples: &[("/usr/local/share/man/man1", "so that 'man cairn-img-convert' finds them")],
    notes: "",
};

const FLAGS: Table<()> = &[&[Flag::help()]];

/// Runs the face `completions`.
pub fn completions(console: &mut Console, args: &[String]) -> u8 {
    told(console, |console| {
        let Some(shell) = operand(console, &COMPLETIONS_MANUAL, args)? else { return Ok(()) };
        let script = match &*shell {
            "bash" => bash::script(&all()),
            "zsh" => zsh::script(&all()),
            "fish" => fish::script(&all()),
            other => {
                return Err(Failure::usage(format_args!("there are no completions for '{other}'")));
            }
        };
        console.print(format_args!("{script}"));
        Ok(())
    })
}

/// Runs the face `man`.
pub fn man(console: &mut Console, args: &[String]) -> u8 {
    told(console, |console| {
        let Some(folder) = operand(console, &MAN_MANUAL, args)? else { return Ok(()) };
        let folder: PathBuf = rt::fs::path(&folder);
        let failed = |name: &std::path::Path, error: &std::io::Error| {
            let error = block::BlockError::os(format_args!("could not write '{}'", name.display()), error);
            Failure::from(error)
        };
        std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, &error))?;
        let pages = all();
        for page in &pages {
            let name = folder.join(format!("{}.1", file_name(page)));
            std::fs::write(&name, roff::page(page, &pages)).map_err(|error| failed(&name, &error))?;
        }
        outln!(console, "{} pages in {}", pages.len(), folder.display());
        Ok(())
    })
}

fn told(console: &mut Console, work: impl FnOnce(&mut Console) -> Result<(), Failure>) -> u8 {
    match work(console) {
        Ok(()) => 0,
        Err(failure) => failure.tell(console),
    }
}

fn operand(
    console: &mut Console,
    manual: &'static Manual,
    args: &[String],
) -> Result<Option<String>, Failure> {
    let command_line = CommandLine { version: "cairn", manual, flags: FLAGS, operands: Operands::Anywhere };
    let Some(((), operands)) = command_line.read(console, args, ())? else { return Ok(None) };
    match <[String; 1]>::try_from(operands) {
        Ok([operand]) => Ok(Some(operand)),
        Err(_) => Err(Failure::usage(format_args!("exactly one operand is needed: {}", manual.synopsis))),
    }
}

/// The pages of the program, of its faces, and of their commands, each behind the one that it belongs to.
fn all() -> Vec<Page> {
    let mut pages = vec![face::page(PROGRAM)];
    let faces = pages.first().map(|page| page.commands.clone()).unwrap_or_default();
    for (word, _) in faces {
        let own = face::pages(PROGRAM, word, &[]);
        let commands: Vec<_> = own.iter().flat_map(|page| page.commands.clone()).collect();
        pages.extend(own);
        for (command, _) in commands {
            pages.extend(face::pages(PROGRAM, word, &[command]));
        }
    }
    pages
}

/// The name of a page among man pages.
fn file_name(page: &Page) -> String {
    page.name.replace(' ', "-")
}

/// The words of a page's name behind the program's.
fn words(page: &Page) -> Vec<&str> {
    page.name.split(' ').skip(1).collect()
}

/// The names of the formats that images are opened as.
fn formats() -> String {
    image::format_names().join(" ")
}

/// The flags of a page that take a value.
fn with_values(page: &Page) -> impl Iterator<Item = (&PageFlag, &'static str)> {
    page.flags.iter().filter_map(|flag| Some((flag, flag.value?)))
}
