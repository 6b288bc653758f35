//! The `qmp` face: commands to a daemon or a machine, by hand or by script.
//!
//! ```text
//! words of the command line ─┐
//! lines of standard input ───┼─▶ arguments (typed by the schema) ─▶ client ─▶ answer, events
//! shell (history, completion)┘
//! ```
//!
//! Exit codes: 0, every command was carried out; 1, one was refused; 2, there was no server, or what was asked made no sense.

mod arguments;
mod complete;
mod schema;
mod session;
mod shell;
mod words;

use crate::client::{self, Client, SOCKET_HELP};
use crate::console::Console;
use crate::failure::Failure;
use crate::getopt::{Flag, Operands, Table};
use crate::runtime;
use crate::usage::{CommandLine, Manual};
use rt::terminal;
use session::Session;

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings {
    compact: bool,
    listen: bool,
}

const FLAGS: Table<Settings> = &[&[
    Flag::set("-c --compact", "print each answer on one line", |settings| settings.compact = true),
    Flag::set("-l --listen", "print events too, on and on when the command has been answered", |settings| {
        settings.listen = true;
    }),
    Flag::help(),
    Flag::version(),
]];

const MANUAL: Manual = Manual {
    synopsis: "[-c] [-l] SOCKET [COMMAND [KEY=VALUE...]]",
    about: "Sends QMP commands to a daemon or a machine, and prints what they give.",
    operands: &[
        ("SOCKET", SOCKET_HELP),
        (
            "COMMAND",
            "one command; without it, a shell on a terminal, else commands from standard input, one a line",
        ),
        ("KEY=VALUE", "an argument; KEY.MEMBER=VALUE goes into one; or all of them as one JSON object"),
    ],
    examples: &[
        (
            "/tmp/qmp.sock",
            "a shell: the tab key completes commands, arguments and their values; 'exit' leaves it",
        ),
        ("/tmp/qmp.sock block_resize node-name=disk size=20G", "one command"),
        (
            "/tmp/qmp.sock blockdev-add node-name=d driver=qcow2 file.driver=file file.filename=d.qcow2",
            "members of members",
        ),
        ("/tmp/qmp.sock '{\"execute\": \"query-jobs\"}'", "a whole request"),
        ("-l /tmp/qmp.sock", "events, until it is interrupted"),
    ],
    notes: "Exit codes: 0, all commands were carried out; 1, one was refused; 2, there is no server or no such option.",
};

/// The exit code where a command was refused.
const REFUSED: u8 = 1;
/// The exit code of everything else that goes wrong.
const FAILED: u8 = 2;

/// Runs the face.
pub fn run(console: &mut Console, args: &[String]) -> u8 {
    match carry_out(console, args) {
        Ok(code) => code,
        Err(failure) => failure.with_code(FAILED).tell(console),
    }
}

fn carry_out(console: &mut Console, args: &[String]) -> Result<u8, Failure> {
    // What follows the socket is the command's, also if it begins with a dash.
    let command_line =
        CommandLine { version: "cairn", manual: &MANUAL, flags: FLAGS, operands: Operands::EndFlags };
    let Some((settings, operands)) = command_line.read(console, args, Settings::default())? else {
        return Ok(0);
    };
    let Some((socket, command)) = operands.split_first() else {
        return Err(Failure::usage("a SOCKET is needed"));
    };
    let at = client::address(socket)?;
    runtime::run(async {
        let client = Client::connect(&at).await?;
        let mut session = Session::begin(client, console, settings.compact, settings.listen).await?;
        let all_went = if !command.is_empty() {
            session.carry_out(command).await?
        } else if settings.listen {
            true
        } else if terminal::is_there() {
            return shell::run(session, socket).await;
        } else {
            session.read_commands().await?
        };
        if settings.listen {
            session.listen().await?;
        }
        Ok(if all_went { 0 } else { REFUSED })
    })?
}

#[cfg(test)]
mod tests;
