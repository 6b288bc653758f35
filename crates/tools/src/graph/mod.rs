//! The `graph` face: the graph of a daemon or a machine as text, DOT or SVG.
//!
//! ```text
//! QMP ─▶ replies ─▶ picture: items and links ─┬─▶ text   a tree below each user
//!                                             ├─▶ dot    for other programs
//!                                             └─▶ layout ─▶ svg
//! ```
//!
//! Only public commands are used, so it draws QEMU's graphs too.

mod dot;
mod layout;
mod picture;
mod replies;
pub(crate) mod svg;
mod text;

use crate::client::{self, Client, SOCKET_HELP};
use crate::console::Console;
use crate::failure::Failure;
use crate::getopt::{Flag, Operands, Table};
use crate::usage::{CommandLine, Manual};
use crate::{out, runtime};
use picture::Picture;
use replies::Replies;

/// How the graph is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Text,
    Dot,
    Svg,
}

const FLAGS: Table<Form> = &[&[
    Flag::set("--text", "a tree below each device, export and job (the default)", |form| *form = Form::Text),
    Flag::set("--dot", "a graph for programs that read DOT", |form| *form = Form::Dot),
    Flag::set("--svg", "a drawing", |form| *form = Form::Svg),
    Flag::help(),
    Flag::version(),
]];

const MANUAL: Manual = Manual {
    synopsis: "[--dot | --svg] SOCKET",
    about: "Shows the graph of a daemon or a machine: nodes, and the devices, exports and jobs that use them.",
    operands: &[("SOCKET", SOCKET_HELP)],
    examples: &[
        ("/tmp/qmp.sock", "as text"),
        ("--svg /tmp/qmp.sock > graph.svg", "as a drawing that a browser shows"),
        ("--dot /tmp/qmp.sock | dot -Tpdf > graph.pdf", "drawn by another program"),
    ],
    notes: "Beside the name of each edge stands what the user does with the node, and what it lets others do: r reads consistent\n\
            data, w writes, u writes what is there already, s changes the size. 'rw--/rwu-' reads and writes, and lets\n\
            others do so too, but not change the size.",
};

/// Runs the face.
pub fn run(console: &mut Console, args: &[String]) -> u8 {
    match carry_out(console, args) {
        Ok(()) => 0,
        Err(failure) => failure.tell(console),
    }
}

fn carry_out(console: &mut Console, args: &[String]) -> Result<(), Failure> {
    let command_line =
        CommandLine { version: "cairn", manual: &MANUAL, flags: FLAGS, operands: Operands::Anywhere };
    let Some((form, operands)) = command_line.read(console, args, Form::default())? else { return Ok(()) };
    let [socket] = operands.as_slice() else {
        return Err(Failure::usage("exactly one SOCKET is needed"));
    };
    let at = client::address(socket)?;
    let replies = runtime::run(async { Replies::ask(&mut Client::connect(&at).await?).await })??;
    let picture = Picture::of(&replies);
    let drawn = match form {
        Form::Text => text::draw(&picture),
        Form::Dot => dot::draw(&picture),
        Form::Svg => svg::draw(&picture)?,
    };
    out!(console, "{drawn}");
    Ok(())
}

#[cfg(test)]
mod tests;
