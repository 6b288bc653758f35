//! The `machine` face: a machine without a processor, for scripts, management programs and test suites that speak to the block
//! layer of a machine.
//!
//! ```text
//!   command line ─▶ options in their order ─▶ daemon ─▶ QMP and the monitor for people (human)
//! ```

mod command_line;
mod drive;
mod human;
mod limits;
mod option;
mod qtest;

use crate::console::Console;
use crate::{face, image, outln, trace};
use api::QmpError;
use command_line::Only;
use monitor::daemon;
use std::process::ExitCode;

/// Runs the face.
pub fn run(console: &mut Console, args: &[String]) -> ExitCode {
    let asked = match command_line::read(args) {
        Ok(asked) => asked,
        Err(failure) => {
            console.fail(&failure);
            return ExitCode::from(console.finish(1));
        }
    };
    match asked.only {
        Some(Only::Help) => {
            help(console);
            return ExitCode::from(console.finish(0));
        }
        Some(Only::Version) => {
            face::version(console, "QEMU emulator");
            return ExitCode::from(console.finish(0));
        }
        Some(Only::Devices) => {
            machine::model_names().for_each(|name| outln!(console, "name \"{name}\""));
            return ExitCode::from(console.finish(0));
        }
        Some(Only::Formats) => {
            let names = image::format_names().join(" ");
            outln!(console, "Supported formats: {names}");
            outln!(console, "Supported formats (read-only): {names}");
            return ExitCode::from(console.finish(0));
        }
        Some(Only::Nothing) => return ExitCode::from(console.finish(0)),
        None => {}
    }
    if let Some(filter) = &asked.trace
        && let Err(failure) = trace::start(filter)
    {
        console.fail(&failure);
        return ExitCode::from(console.finish(1));
    }
    for ignored in &asked.ignored {
        tracing::info!(target: "unimp", "without effect: {ignored}");
    }
    console.flush();
    let begin = option::Begin {
        stopped: asked.stopped,
        incoming: asked.options.iter().any(|option| matches!(option, option::MachineOption::Incoming(_))),
        program: console.program().to_owned(),
    };
    let options: Vec<_> = [option::MachineOption::Begin(begin)].into_iter().chain(asked.options).collect();
    daemon::run_with(console.program(), image::registry(), &options, asked.daemonize)
}

fn help(console: &mut Console) {
    let program = console.program().to_owned();
    outln!(console, "Usage: {program} [OPTIONS] [IMAGE]\n");
    outln!(
        console,
        "The block layer of a machine without a processor: devices that use it, QMP, and the monitor for people.\n"
    );
    for (words, about) in [
        (
            "-drive file=IMAGE[,format=F][,if=none|ide|scsi|floppy|virtio][,id=ID]…",
            "a device with an image in it",
        ),
        ("-blockdev [driver=]DRIVER,node-name=NAME,…", "a block node"),
        ("-device MODEL[,drive=ID|NODE][,id=ID]…", "a disk, CD drive, floppy drive or controller"),
        ("-hda, -hdb, -hdc, -hdd, -cdrom, -fda, -fdb IMAGE", "a drive at its place"),
        ("-object TYPE,id=ID,…", "a secret, an iothread, a throttle group"),
        ("-snapshot", "all drives write to temporary overlays"),
        ("-chardev, -mon, -qmp, -monitor", "monitors and the streams they are served on"),
        ("-metrics unix:PATH|tcp:HOST:PORT", "serve figures in the text of OpenMetrics over HTTP"),
        ("-S", "begin stopped"),
        ("-pidfile, -daemonize, -job-state, -compat 2.1", "as the daemon has them"),
    ] {
        outln!(console, "  {words}\n      {about}");
    }
    outln!(console, "\nOther options of a machine's command line are accepted and have no effect.");
}

fn refused(error: impl std::fmt::Display) -> QmpError {
    QmpError::generic(error.to_string())
}
