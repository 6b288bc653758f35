//! The `top` face: what a daemon or a machine does now, renewed while one looks at it.
//!
//! ```text
//! QMP ─▶ sample ─▶ figures (this sample and the one before: rates, time left) ─┬─▶ view ─▶ terminal, or once as text
//!                                                                              └─▶ JSON, one object a line
//! ```
//!
//! Only public commands are used, so it shows QEMU's programs too; those count requests of devices only.

mod figures;
mod live;
mod sample;
mod view;

use crate::client::{self, Client, SOCKET_HELP};
use crate::console::Console;
use crate::failure::Failure;
use crate::getopt::{Flag, Operands, Table};
use crate::usage::{CommandLine, Manual};
use crate::{outln, runtime};
use api::json;
use figures::Figures;
use rt::terminal;
use sample::Sample;
use std::time::Duration;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    interval: Duration,
    /// How often figures are shown; without end if there is no number.
    count: Option<u32>,
    json: bool,
    batch: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { interval: Duration::from_secs(1), count: None, json: false, batch: false }
    }
}

/// Shortest and longest interval in seconds.
const INTERVALS: (f64, f64) = (0.1, 3600.0);

const FLAGS: Table<Settings> = &[&[
    Flag::take("-i --interval", "SECONDS", "time between two looks (1)", |settings, text| {
        let seconds: Option<f64> = text.parse().ok();
        let seconds = seconds.filter(|seconds| (INTERVALS.0..=INTERVALS.1).contains(seconds));
        let seconds = seconds.ok_or_else(|| {
            Failure::usage(format_args!(
                "'{text}' is no interval from {} to {} seconds",
                INTERVALS.0, INTERVALS.1
            ))
        })?;
        settings.interval = Duration::from_secs_f64(seconds);
        Ok(())
    }),
    Flag::take("-n --count", "N", "end after N looks; 1 if the output is no terminal", |settings, text| {
        let count = text.parse().ok().filter(|count| *count > 0);
        settings.count =
            Some(count.ok_or_else(|| Failure::usage(format_args!("'{text}' is no number of looks")))?);
        Ok(())
    }),
    Flag::set("-b --batch", "print one look below the other", |settings| settings.batch = true),
    Flag::set("--json", "print each look as a JSON object on a line", |settings| settings.json = true),
    Flag::help(),
    Flag::version(),
]];

const MANUAL: Manual = Manual {
    synopsis: "[-i SECONDS] [-n N] [--json] SOCKET",
    about: "Shows what a daemon or a machine does: jobs with progress and time left, exports, devices, nodes with their rates.",
    operands: &[("SOCKET", SOCKET_HELP)],
    examples: &[
        ("/tmp/qmp.sock", "live; q ends it, the arrows scroll, a blank looks at once"),
        ("-n 1 /tmp/qmp.sock | cat", "one look as text"),
        ("--json -i 5 -n 12 /tmp/qmp.sock", "a minute for a script"),
    ],
    notes: "Rates are of the last interval. Those of an export are those of its node.",
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
    let Some((settings, operands)) = command_line.read(console, args, Settings::default())? else {
        return Ok(());
    };
    let [socket] = operands.as_slice() else {
        return Err(Failure::usage("exactly one SOCKET is needed"));
    };
    let at = client::address(socket)?;
    runtime::run(async {
        let client = Client::connect(&at).await?;
        if terminal::is_there() && !settings.json && !settings.batch {
            return live::show(client, socket, &settings).await;
        }
        print(console, client, &settings).await
    })?
}

/// Prints one look after the other.
async fn print(console: &mut Console, mut client: Client, settings: &Settings) -> Result<(), Failure> {
    let mut before = Sample::ask(&mut client).await?;
    let mut left = settings.count.or((!settings.json && !settings.batch).then_some(1));
    let mut smooth = figures::Smooth::default();
    while left != Some(0) && !console.broken() {
        rt::sleep(settings.interval).await;
        let now = Sample::ask(&mut client).await?;
        let figures = Figures::between(&before, &now, &mut smooth);
        if settings.json {
            outln!(console, "{}", json::to_line(&figures.object()));
        } else {
            view::lines(&figures).iter().for_each(|line| outln!(console, "{}", view::plain(line)));
        }
        console.flush();
        before = now;
        left = left.map(|left| left - 1);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
