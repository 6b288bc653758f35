//! The `daemon` face: nodes, exports and QMP monitors from the command line, in the order given.

use crate::console::Console;
use crate::failure::Failure;
use crate::getopt::{self, Flag, Operands};
use crate::usage::{self, Manual};
use crate::{face, image, trace};
use monitor::daemon::{self, DaemonOption};
use std::process::ExitCode;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Id {
    Blockdev,
    Chardev,
    Daemonize,
    Export,
    Monitor,
    NbdServer,
    Object,
    PidFile,
    Trace,
    Help,
    Version,
}

const FLAGS: &[Flag<Id>] = &[
    Flag::valued(
        Id::Blockdev,
        None,
        Some("blockdev"),
        "[driver=]DRIVER,node-name=NAME,...",
        "add a block node",
    ),
    Flag::valued(
        Id::Chardev,
        None,
        Some("chardev"),
        "[backend=]TYPE,id=ID,...",
        "a stream for a monitor: socket, stdio",
    ),
    Flag::valued(Id::Monitor, None, Some("monitor"), "[chardev=]ID[,pretty=on|off]", "serve QMP on a stream"),
    Flag::valued(
        Id::NbdServer,
        None,
        Some("nbd-server"),
        "addr.type=unix,addr.path=PATH | addr.type=inet,addr.host=HOST,addr.port=PORT[,max-connections=N]",
        "start the NBD server",
    ),
    Flag::valued(
        Id::Export,
        None,
        Some("export"),
        "[type=]nbd,id=ID,node-name=NAME[,name=EXPORT][,writable=on|off]",
        "export a node",
    ),
    Flag::valued(
        Id::Object,
        None,
        Some("object"),
        "[qom-type=]TYPE,id=ID,...",
        "make an object: iothread, secret, throttle-group",
    ),
    Flag::valued(Id::PidFile, None, Some("pidfile"), "PATH", "store the process id there when all is set up"),
    Flag::bare(Id::Daemonize, None, Some("daemonize"), "go to the background when all is set up"),
    Flag::valued(Id::Trace, Some('T'), Some("trace"), "FILTER", "log what matches, for example block=debug"),
    Flag::bare(Id::Help, Some('h'), Some("help"), "print this help"),
    Flag::bare(Id::Version, Some('V'), Some("version"), "print the version"),
];

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
            console.error(failure.message());
            if failure.see_help() {
                console.note(format_args!("Try '{} --help' for more info", console.program()));
            }
            ExitCode::from(console.finish(failure.code()))
        }
    }
}

/// What the command line asks for; nothing if it was help.
fn options(console: &mut Console, args: &[String]) -> Result<Option<Vec<DaemonOption>>, Failure> {
    let parsed = getopt::parse(FLAGS, args, Operands::Anywhere).map_err(Failure::usage)?;
    if parsed.has(Id::Help) {
        let program = console.program().to_owned();
        usage::help(console, &program, &MANUAL, FLAGS);
        return Ok(None);
    }
    if parsed.has(Id::Version) {
        face::version(console, "qemu-storage-daemon");
        return Ok(None);
    }
    if let Some(operand) = parsed.operands.first() {
        return Err(Failure::usage(format_args!("Unexpected argument '{operand}'")));
    }
    let mut options = Vec::new();
    for (id, value) in parsed.flags {
        options.push(match id {
            Id::Blockdev => DaemonOption::Blockdev(value),
            Id::Chardev => DaemonOption::Chardev(value),
            Id::Daemonize => DaemonOption::Daemonize,
            Id::Export => DaemonOption::Export(value),
            Id::Monitor => DaemonOption::Monitor(value),
            Id::NbdServer => DaemonOption::NbdServer(value),
            Id::Object => DaemonOption::Object(value),
            Id::PidFile => DaemonOption::Pidfile(rt::fs::path(&value)),
            Id::Trace => {
                trace::start(&value)?;
                continue;
            }
            Id::Help | Id::Version => continue,
        });
    }
    Ok(Some(options))
}
