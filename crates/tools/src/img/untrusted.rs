//! `--untrusted`: a command on an image that nobody vouches for, in a process that can reach nothing but the files named on the
//! command line ([`rt::confine`]), with hard limits.
//!
//! Exit codes beside the command's own: [`OUT_OF_TIME`], [`OUT_OF_MEMORY`], [`KILLED`], [`NOT_CONFINED`].

use crate::console::Console;
use crate::failure::Failure;
use crate::getopt::Flag;
use crate::image::{self, Source};
use crate::size;
use api::ToolErrorCode;
use block::{BlockError, Policy};
use rt::confine::{self, Access, ConfineError, End, Enforced, Limits};
use std::time::Duration;

/// The time limit has passed.
pub const OUT_OF_TIME: u8 = 110;
/// The memory limit does not suffice.
pub const OUT_OF_MEMORY: u8 = 111;
/// A signal has ended the process: the image has met a fault of this program.
pub const KILLED: u8 = 112;
/// The kernel can't confine the process, and that was demanded.
pub const NOT_CONFINED: u8 = 113;

/// The exit code of a program of this language that panics.
const PANICKED: u8 = 101;

/// The least memory limit: the program itself needs about half of it.
const LEAST_MEMORY: u64 = 16 << 20;

/// Exit codes, for the help of commands.
pub(super) const NOTES: &str = "\
With --untrusted nothing is opened but the files named here, by a process that the kernel confines (docs/untrusted.md). Exit \n\
codes then also are: 110 out of time, 111 out of memory, 112 ended by a signal, 113 the kernel can't confine.";

/// Whether and how a command is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untrusted {
    on: bool,
    /// It fails where the kernel does not enforce all of it.
    required: bool,
    /// A limit was given.
    limited: bool,
    limits: Limits,
}

impl Untrusted {
    /// Limits of commands that look at an image.
    pub const LOOK: Untrusted = Untrusted {
        on: false,
        required: false,
        limited: false,
        limits: Limits { time: Duration::from_secs(30), memory: 512 << 20, file_size: 1 << 30 },
    };
    /// Limits of commands that copy one.
    pub const COPY: Untrusted = Untrusted {
        limits: Limits { time: Duration::from_secs(3600), file_size: 1 << 40, ..Self::LOOK.limits },
        ..Self::LOOK
    };

    /// The same, always on.
    pub(super) const fn always(self) -> Untrusted {
        Untrusted { on: true, ..self }
    }

    fn limit(&mut self, set: impl FnOnce(&mut Limits)) {
        self.limited = true;
        set(&mut self.limits);
    }

    /// Whether nothing but the files on the command line may be opened.
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Makes a source one that nobody vouches for: its name is that of a file, and it opens what `policy` grants.
    pub(super) fn judge(&self, source: &mut Source, policy: Policy) -> Result<(), Failure> {
        if !self.on {
            return Ok(());
        }
        if source.image_opts {
            let text = "--untrusted takes the name of a file, and options (--image-opts) may name anything";
            return Err(Failure::usage(text));
        }
        (source.literal, source.policy) = (true, policy);
        Ok(())
    }

    /// Does a command's work: in a confined process, which has only these files, if that is asked for.
    pub(super) fn run(
        &self,
        console: &mut Console,
        command: &str,
        files: &[(&str, Access)],
        work: impl FnOnce(&mut Console) -> Result<u8, Failure>,
    ) -> Result<u8, Failure> {
        if self.limited && !self.on {
            return Err(Failure::usage("limits (--limit-time and the like) are those of --untrusted"));
        }
        // A test's process has threads, which a child would not have; the program's tests run it confined.
        if !self.on || cfg!(test) {
            return work(console);
        }
        // What is buffered would be printed by both processes.
        console.flush();
        let in_child = |enforced| {
            let code = match self.accept(console, enforced).and_then(|()| work(console)) {
                Ok(code) => code,
                Err(failure) => failure.tell_of(console, Some(command)),
            };
            console.finish(code)
        };
        let end = confine::run(files, self.limits, in_child).map_err(|error| match error {
            ConfineError::Open(name, why) => image::cannot_open(&name, &BlockError::from_io(&why)),
            ConfineError::Start(why) => BlockError::os("a confined process can't be started", &why).into(),
        })?;
        self.outcome(end, files.first().map_or("", |(name, _)| name))
    }

    /// Tells what the kernel does not enforce, or refuses to go on.
    fn accept(&self, console: &mut Console, enforced: Enforced) -> Result<(), Failure> {
        let missing = match enforced {
            Enforced { landlock: true, seccomp: true } => return Ok(()),
            Enforced { landlock: true, seccomp: false } => "no filter of system calls (seccomp)",
            Enforced { landlock: false, seccomp: true } => "no Landlock",
            Enforced { landlock: false, seccomp: false } => {
                "neither Landlock nor a filter of system calls (seccomp)"
            }
        };
        let text = format!("this kernel has {missing} for this process");
        if self.required {
            return Err(Failure::of(ToolErrorCode::Unsupported, text).with_code(NOT_CONFINED));
        }
        console.warning(format_args!("{text}; the program still opens nothing but the files named"));
        Ok(())
    }

    /// What the end of the process means; `name` is that of the image.
    fn outcome(&self, end: End, name: &str) -> Result<u8, Failure> {
        let Limits { time, memory, .. } = self.limits;
        let (text, kind, code) = match end {
            // What a panic of the program ends with.
            End::Exited(PANICKED) => {
                let text = "the program has met a fault of its own; please report the image".to_owned();
                (text, ToolErrorCode::Failed, KILLED)
            }
            End::Exited(code) => return Ok(code),
            End::OutOfTime => {
                let seconds = time.as_secs();
                let text = format!("it takes longer than {seconds} seconds; see --limit-time");
                (text, ToolErrorCode::Timeout, OUT_OF_TIME)
            }
            End::Aborted => {
                let most = size::human(memory);
                let text = format!("it needs more memory than {most}; see --limit-memory");
                (text, ToolErrorCode::Limit, OUT_OF_MEMORY)
            }
            End::Killed(signal) => {
                let text = format!("signal {signal} has ended the process; please report the image");
                (text, ToolErrorCode::Failed, KILLED)
            }
        };
        Err(Failure::of(kind, format_args!("'{name}': {text}")).with_code(code))
    }
}

/// `--untrusted` and the limits.
pub(super) const fn flags<S: AsMut<Untrusted>>() -> [Flag<S>; 5] {
    [
        Flag::set("--untrusted", "open nothing but the files named here, in a confined process", |s| {
            s.as_mut().on = true;
        }),
        Flag::set("--require-confinement", "the same, and fail where the kernel can't confine", |s| {
            (s.as_mut().on, s.as_mut().required) = (true, true);
        }),
        Flag::take("--limit-time", "SECONDS", "most time with --untrusted", |s, text| {
            let seconds = super::bounded("time limit", text, 1, 1 << 30)?;
            s.as_mut().limit(|limits| limits.time = Duration::from_secs(seconds));
            Ok(())
        }),
        Flag::take("--limit-memory", "SIZE", "most memory with --untrusted (512M)", |s, text| {
            let bytes = super::bounded("memory limit", text, LEAST_MEMORY, i64::MAX as u64)?;
            s.as_mut().limit(|limits| limits.memory = bytes);
            Ok(())
        }),
        Flag::take("--limit-output", "SIZE", "longest file that is written with --untrusted", |s, text| {
            let bytes = super::bounded("output limit", text, 0, i64::MAX as u64)?;
            s.as_mut().limit(|limits| limits.file_size = bytes);
            Ok(())
        }),
    ]
}

/// Refuses a name for a new image that means something else than a file of this host.
pub(super) fn plain_target(name: &str) -> Result<(), Failure> {
    let is_plain = !name.starts_with("json:") && matches!(image::registry().protocol_of(name), Ok(None));
    match is_plain {
        true => Ok(()),
        false => Err(Failure::usage(format_args!(
            "with --untrusted the target is named by its path; '{name}' means a protocol ('./{name}' is a file)"
        ))),
    }
}
