//! Which program this is: the name it was called by, or its first word, picks the face.

use crate::console::Console;
use crate::failure::Failure;
use crate::message::Forms;
use crate::usage::{Manual, Page};
use crate::{daemon, demo, graph, img, io, machine, message, nbd, outln, pages, qmp, size, top, trace};
use api::{ToolMessageBranch, ToolStats};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// One face.
struct Face {
    /// The first word that picks it.
    word: &'static str,
    /// The name of the program whose place it takes, if there is one.
    alias: Option<&'static str>,
    /// What it is for.
    about: &'static str,
    /// Runs it.
    run: Run,
}

/// How a face runs.
#[derive(Clone, Copy)]
enum Run {
    /// It gives an exit code.
    Tool(fn(&mut Console, &[String]) -> u8),
    /// It does everything to its end by itself.
    Daemon(fn(&mut Console, &[String]) -> ExitCode),
}

const FACES: &[Face] = &[
    Face {
        word: "img",
        alias: Some("qemu-img"),
        about: "Make, look at, copy and change images (also as qemu-img)",
        run: Run::Tool(img::run),
    },
    Face {
        word: "io",
        alias: Some("qemu-io"),
        about: "Read, write and verify an image by hand or by script (also as qemu-io)",
        run: Run::Tool(io::run),
    },
    Face {
        word: "nbd",
        alias: Some("qemu-nbd"),
        about: "Serve an image over NBD, or list what a server has (also as qemu-nbd)",
        run: Run::Tool(nbd::run),
    },
    Face {
        word: "daemon",
        alias: Some("qemu-storage-daemon"),
        about: "Serve a graph of block nodes, steered over QMP (also as qemu-storage-daemon)",
        run: Run::Daemon(daemon::run),
    },
    Face {
        word: "machine",
        alias: Some("qemu-system-x86_64"),
        about: "Be a machine without a processor, for programs that speak to its block layer",
        run: Run::Daemon(machine::run),
    },
    Face {
        word: "qmp",
        alias: None,
        about: "Send commands to a daemon or a machine, by hand or by script",
        run: Run::Tool(qmp::run),
    },
    Face {
        word: "graph",
        alias: None,
        about: "Draw the graph of a daemon or a machine",
        run: Run::Tool(graph::run),
    },
    Face {
        word: "top",
        alias: None,
        about: "Show what a daemon or a machine does now",
        run: Run::Tool(top::run),
    },
    Face {
        word: "completions",
        alias: None,
        about: "Print what completes command lines in a shell",
        run: Run::Tool(pages::completions),
    },
    Face { word: "man", alias: None, about: "Write man pages", run: Run::Tool(pages::man) },
    Face {
        word: "demo",
        alias: None,
        about: "Show the main job on an image of its own",
        run: Run::Tool(demo::run),
    },
];

/// Runs the program and gives its exit code. `args` begins with the name it was called by.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let called = args.next().unwrap_or_default();
    let called = Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned();
    // File names are bytes: what is no text in them travels as code points of its own.
    let mut args: Vec<_> = args.map(|arg| codec::filename::text(arg.as_bytes())).collect();
    let forms = match Forms::take(&mut args) {
        Ok(forms) => forms,
        Err(failure) => {
            let mut console = Console::new(&called);
            let code = failure.tell(&mut console);
            return ExitCode::from(console.finish(code));
        }
    };
    if let Some(face) = FACES.iter().find(|face| face.alias == Some(&*called)) {
        return speak(face, &called, &args, forms);
    }
    match args.split_first() {
        Some((word, rest)) => match FACES.iter().find(|face| face.word == word) {
            Some(face) => speak(face, &format!("{called} {word}"), rest, forms),
            None => general(&called, word, rest, forms),
        },
        None => {
            let mut console = Console::new(&called);
            overview(&mut console);
            ExitCode::from(console.finish(1))
        }
    }
}

fn speak(face: &Face, program: &str, args: &[String], forms: Forms) -> ExitCode {
    rt::signal::ignore_sigxfsz();
    let mut console = Console::in_forms(program, forms);
    if std::env::var_os("RUST_LOG").is_some() {
        trace::start_from_environment();
    }
    match face.run {
        Run::Tool(run) => {
            let began = Instant::now();
            let code = run(&mut console, args);
            let code = console.finish(code);
            if forms.stats {
                tell_stats(&console, began);
            }
            ExitCode::from(code)
        }
        Run::Daemon(run) => run(&mut console, args),
    }
}

/// Tells what a command took.
fn tell_stats(console: &Console, began: Instant) {
    let Ok(used) = rt::process::used() else { return };
    let elapsed = began.elapsed();
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let stats = ToolStats { elapsed_ms: ms(elapsed), cpu_ms: ms(used.cpu), peak_memory: used.peak_memory };
    let words = format_args!(
        "{}: {:.3} s, {:.3} s of processor time, at most {} of memory",
        console.program(),
        elapsed.as_secs_f64(),
        used.cpu.as_secs_f64(),
        size::human(used.peak_memory)
    );
    console.say(words, || ToolMessageBranch::Stats(stats));
}

/// The words that belong to no face.
fn general(called: &str, word: &str, rest: &[String], forms: Forms) -> ExitCode {
    let mut console = Console::in_forms(called, forms);
    let code = match (word, rest) {
        ("help" | "--help" | "-h", []) => {
            overview(&mut console);
            0
        }
        ("help", [topic, words @ ..]) => match FACES.iter().find(|face| face.word == topic) {
            Some(face) => {
                let args: Vec<String> = words.iter().cloned().chain(["--help".to_owned()]).collect();
                return speak(face, &format!("{called} {topic}"), &args, forms);
            }
            None => unknown(&mut console, topic),
        },
        ("--version" | "-V", _) => {
            version(&mut console, "cairn");
            0
        }
        (other, _) => unknown(&mut console, other),
    };
    ExitCode::from(console.finish(code))
}

fn unknown(console: &mut Console, word: &str) -> u8 {
    Failure::usage(format_args!("there is no '{word}' here")).tell(console)
}

/// The version of QEMU whose programs the faces stand for: scripts look for a number they know.
const STANDS_FOR: &str = "10.0.2";

/// Prints the version line of the program called `name`.
pub fn version(console: &mut Console, name: &str) {
    match name {
        "cairn" => outln!(console, "cairn {}", env!("CARGO_PKG_VERSION")),
        // The one program of the four that leaves the word out.
        name @ "qemu-nbd" => outln!(console, "{name} {STANDS_FOR} (cairn-{})", env!("CARGO_PKG_VERSION")),
        name => outln!(console, "{name} version {STANDS_FOR} (cairn-{})", env!("CARGO_PKG_VERSION")),
    }
}

const MANUAL: Manual = Manual {
    synopsis: "FACE [ARGUMENTS]",
    about: "Disk images, as a graph of block nodes that a control socket changes live.",
    operands: &[],
    examples: &[
        ("img create -f qcow2 disk.qcow2 10G", "an empty image that grows as it is written"),
        ("img info disk.qcow2", "what it is"),
        ("nbd -k /tmp/disk.sock -f qcow2 disk.qcow2", "served over NBD"),
        ("help img convert", "what is said of a command"),
    ],
    notes: "",
};

/// The page of the program as a whole.
pub fn page(program: &str) -> Page {
    Page {
        name: program.to_owned(),
        manual: MANUAL,
        flags: message::FLAGS.to_vec(),
        commands: FACES.iter().map(|face| (face.word, face.about)).collect(),
    }
}

/// The pages that a face, or a command of it, shows as its help.
pub fn pages(program: &str, word: &str, command: &[&str]) -> Vec<Page> {
    let Some(face) = FACES.iter().find(|face| face.word == word) else { return Vec::new() };
    let args: Vec<String> = command.iter().copied().chain(["--help"]).map(str::to_owned).collect();
    Console::pages(&format!("{program} {word}"), |console| match face.run {
        Run::Tool(run) => {
            run(console, &args);
        }
        Run::Daemon(run) => {
            run(console, &args);
        }
    })
}

/// Prints the page of the program as a whole.
fn overview(console: &mut Console) {
    let program = console.program().to_owned();
    console.page(page(&program));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_face_has_a_word_and_an_alias_of_its_own() {
        for (index, face) in FACES.iter().enumerate() {
            for other in FACES.iter().skip(index + 1) {
                assert_ne!(face.word, other.word);
                assert!(face.alias.is_none() || face.alias != other.alias);
            }
        }
    }
}
