//! The `daemon` face: nodes, exports and QMP monitors from the command line, in the order given.

use crate::console::Console;
use crate::failure::Failure;
use crate::flags;
use crate::getopt::{Flag, Operands, Table};
use crate::image;
use crate::usage::{CommandLine, Manual};
use monitor::daemon::{self, DaemonOption};
use std::process::ExitCode;

/// The settings are the options themselves: they are carried out in the order given.
const FLAGS: Table<Vec<DaemonOption>> = &[&[
    Flag::take("--blockdev", "[driver=]DRIVER,node-name=NAME,...", "add a block node", |options, text| {
        add(options, DaemonOption::Blockdev(text.to_owned()))
    }),
    Flag::take(
        "--chardev",
        "[backend=]TYPE,id=ID,...",
        "a stream for a monitor: socket, stdio",
        |options, text| add(options, DaemonOption::Chardev(text.to_owned())),
    ),
    Flag::take("--job-state", "DIR", "let a mirror or backup go on after a crash", |options, dir| {
        add(options, DaemonOption::JobState(rt::fs::path(dir)))
    }),
    Flag::take("--monitor", "[chardev=]ID[,pretty=on|off]", "serve QMP on a stream", |options, text| {
        add(options, DaemonOption::Monitor(text.to_owned()))
    }),
    Flag::take(
        "--nbd-server",
        "addr.type=unix,addr.path=PATH | addr.type=inet,addr.host=HOST,addr.port=PORT[,max-connections=N]",
        "start the NBD server",
        |options, text| add(options, DaemonOption::NbdServer(text.to_owned())),
    ),
    Flag::take(
        "--export",
        "[type=]nbd,id=ID,node-name=NAME[,name=EXPORT][,writable=on|off]",
        "export a node",
        |options, text| add(options, DaemonOption::Export(text.to_owned())),
    ),
    Flag::take(
        "--object",
        "[qom-type=]TYPE,id=ID,...",
        "make an object: iothread, secret, throttle-group",
        |options, text| add(options, DaemonOption::Object(text.to_owned())),
    ),
    Flag::take(
        "--metrics",
        "unix:PATH|tcp:HOST:PORT",
        "serve figures in the text of OpenMetrics over HTTP",
        |options, text| add(options, DaemonOption::Metrics(text.to_owned())),
    ),
    Flag::take("--pidfile", "PATH", "store the process id there when all is set up", |options, path| {
        add(options, DaemonOption::Pidfile(rt::fs::path(path)))
    }),
    Flag::take(
        "--compat",
        "2.1|10.0",
        "answer as that version of QEMU where later ones contradict it (10.0 if absent)",
        |options, version| add(options, DaemonOption::Compat(version.to_owned())),
    ),
    Flag::set("--daemonize", "go to the background when all is set up", |options| {
        options.push(DaemonOption::Daemonize);
    }),
    flags::trace("log what matches, for example block=debug"),
    Flag::help(),
    Flag::version(),
]];

fn add(options: &mut Vec<DaemonOption>, option: DaemonOption) -> Result<(), Failure> {
    options.push(option);
    Ok(())
}

const MANUAL: Manual = Manual {
    synopsis: "[OPTIONS]",
    about: "Serves a graph of block nodes over NBD, steered over QMP. Options are carried out in the order given.",
    operands: &[],
    examples: &[(
        "--blockdev file,node-name=f,filename=disk.qcow2 --blockdev qcow2,node-name=d,file=f \\\n      \
         --nbd-server addr.type=unix,addr.path=/tmp/nbd.sock --export nbd,id=e,node-name=d,writable=on \\\n      \
         --chardev socket,id=q,path=/tmp/qmp.sock,server=on,wait=off --monitor q",
        "one image for NBD clients, and a socket to change the graph while they write",
    )],
    notes: "The values of all options may also be JSON objects.",
};

/// Runs the face.
pub fn run(console: &mut Console, args: &[String]) -> ExitCode {
    match options(console, args) {
        Ok(Some(options)) => {
            console.flush();
            daemon::run(console.program(), image::registry(), &options)
        }
        Ok(None) => ExitCode::from(console.finish(0)),
        Err(failure) => {
            let code = failure.tell(console);
            ExitCode::from(console.finish(code))
        }
    }
}

/// What the command line asks for; nothing if it was help.
fn options(console: &mut Console, args: &[String]) -> Result<Option<Vec<DaemonOption>>, Failure> {
    let command_line = CommandLine {
        version: "qemu-storage-daemon",
        manual: &MANUAL,
        flags: FLAGS,
        operands: Operands::Anywhere,
    };
    let Some((options, operands)) = command_line.read(console, args, Vec::new())? else { return Ok(None) };
    match operands.first() {
        Some(operand) => Err(Failure::usage(format_args!("Unexpected argument '{operand}'"))),
        None => Ok(Some(options)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt::tests::{each_flag_changes_the_settings, names_are_unique};

    #[test]
    fn each_flag_becomes_an_option_of_the_daemon_in_the_order_given() {
        names_are_unique(FLAGS);
        let text = "value";
        let values = [
            "--blockdev",
            "--chardev",
            "--monitor",
            "--nbd-server",
            "--export",
            "--object",
            "--metrics",
            "--pidfile",
            "--job-state",
            "--compat",
        ];
        let values: Vec<_> = values.into_iter().map(|flag| (flag, text)).chain([("-T", "off")]).collect();
        each_flag_changes_the_settings(FLAGS, Vec::new, &values, &["-T"]);

        let read = |line: &str| {
            let args: Vec<_> = line.split(' ').map(str::to_owned).collect();
            options(&mut Console::new("daemon"), &args)
        };
        let given = read(
            "--chardev a --daemonize --blockdev b --object c --export d --nbd-server e --monitor f --pidfile g --metrics h",
        );
        let text = |text: &str| text.to_owned();
        assert_eq!(
            given.ok().flatten(),
            Some(vec![
                DaemonOption::Chardev(text("a")),
                DaemonOption::Daemonize,
                DaemonOption::Blockdev(text("b")),
                DaemonOption::Object(text("c")),
                DaemonOption::Export(text("d")),
                DaemonOption::NbdServer(text("e")),
                DaemonOption::Monitor(text("f")),
                DaemonOption::Pidfile("g".into()),
                DaemonOption::Metrics(text("h")),
            ])
        );
        assert_eq!(read("more").err().unwrap().message(), "Unexpected argument 'more'");
        assert!(read("--help").ok().unwrap().is_none());
    }
}
