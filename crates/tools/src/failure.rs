//! How a command ends when it does not succeed.

use crate::console::Console;
use api::{ToolError, ToolErrorCode};
use block::{BlockError, ErrorKind, hide_passwords};
use std::fmt;

/// An exit code and a message.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    hint: Hint,
    kind: ToolErrorCode,
    /// What it came from, if that was an error of the block layer.
    cause: Option<BlockError>,
    /// The command ends with it.
    ends: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    Nothing,
    SeeHelp,
}

impl Failure {
    /// Exit code 1 with a message: an argument or option is wrong.
    pub fn new(message: impl fmt::Display) -> Failure {
        Failure::of(ToolErrorCode::Invalid, message)
    }

    /// A command line that makes no sense: the message, then where help is.
    pub fn usage(message: impl fmt::Display) -> Failure {
        Failure { hint: Hint::SeeHelp, ..Failure::of(ToolErrorCode::Usage, message) }
    }

    /// Exit code 1 with a message, of this kind.
    pub fn of(kind: ToolErrorCode, message: impl fmt::Display) -> Failure {
        let (message, hint) = (hide_passwords(&message.to_string()).into_owned(), Hint::Nothing);
        Failure { code: 1, message, hint, kind, cause: None, ends: true }
    }

    /// Something that failed and does not end the command by itself.
    pub fn reported(message: impl fmt::Display) -> Failure {
        Failure { ends: false, ..Failure::of(ToolErrorCode::Failed, message) }
    }

    /// An exit code when everything has been reported already.
    pub fn silent(code: u8) -> Failure {
        Failure { code, ..Failure::of(ToolErrorCode::Failed, "") }
    }

    /// The same, told to be of the kind of this error, and of its place.
    #[must_use]
    pub fn because(self, cause: &BlockError) -> Failure {
        Failure { kind: kind_of(cause), cause: Some(cause.clone()), ..self }
    }

    /// The same where the command goes on with what comes next.
    #[must_use]
    pub fn passing(self) -> Failure {
        Failure { ends: false, ..self }
    }

    /// The same with another exit code.
    #[must_use]
    pub fn with_code(self, code: u8) -> Failure {
        Failure { code, ..self }
    }

    /// The same with what can be done about it behind.
    #[must_use]
    pub fn with_advice(self, advice: impl fmt::Display) -> Failure {
        Failure { message: hide_passwords(&format!("{}; {advice}", self.message)).into_owned(), ..self }
    }

    /// The same with what it is about in front.
    #[must_use]
    pub fn within(self, what: &str) -> Failure {
        Failure { message: hide_passwords(&format!("{what}: {}", self.message)).into_owned(), ..self }
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// What to tell.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Tells it behind what has been printed, and where help is if that may be needed; gives the exit code.
    pub fn tell(&self, console: &mut Console) -> u8 {
        console.flush();
        self.tell_of(console, None)
    }

    /// Tells it of a command, or of the program as a whole, and where help is if that may be needed; gives the exit code.
    pub fn tell_of(&self, console: &mut Console, command: Option<&str>) -> u8 {
        if !self.message.is_empty() {
            console.fail(self);
        }
        if self.see_help() && !console.forms().errors_as_json {
            console.note(format_args!("Try '{} --help' for more info", command.unwrap_or(console.program())));
        }
        self.code
    }

    /// Whether to say where help is.
    pub fn see_help(&self) -> bool {
        self.hint == Hint::SeeHelp
    }

    /// The same for programs.
    pub fn for_programs(&self) -> ToolError {
        let cause = self.cause.as_ref();
        let named = |name: &str| (!name.starts_with('#')).then(|| name.to_owned());
        ToolError {
            code: self.kind,
            message: self.message.clone(),
            exit: self.ends.then_some(self.code),
            errno: cause.map(|error| error.errno().into()),
            node: cause.and_then(BlockError::node).and_then(named),
            file: cause.and_then(BlockError::file).map(str::to_owned),
            offset: cause.and_then(BlockError::offset),
        }
    }
}

fn kind_of(error: &BlockError) -> ToolErrorCode {
    match error.kind() {
        ErrorKind::Io => ToolErrorCode::Io,
        ErrorKind::NoSpace => ToolErrorCode::NoSpace,
        ErrorKind::ReadOnly => ToolErrorCode::ReadOnly,
        ErrorKind::Unsupported => ToolErrorCode::Unsupported,
        ErrorKind::Invalid => ToolErrorCode::Invalid,
        ErrorKind::NotFound => ToolErrorCode::NotFound,
        ErrorKind::Busy => ToolErrorCode::Busy,
        ErrorKind::Locked => ToolErrorCode::Locked,
        ErrorKind::Corrupt => ToolErrorCode::Corrupt,
        ErrorKind::Permission => ToolErrorCode::Permission,
        ErrorKind::Poisoned => ToolErrorCode::Poisoned,
        ErrorKind::Closed => ToolErrorCode::Closed,
        ErrorKind::Timeout => ToolErrorCode::Timeout,
        ErrorKind::Limit => ToolErrorCode::Limit,
        ErrorKind::Refused => ToolErrorCode::Refused,
        ErrorKind::Cancelled => ToolErrorCode::Cancelled,
        _ => ToolErrorCode::Failed,
    }
}

impl From<BlockError> for Failure {
    fn from(error: BlockError) -> Failure {
        Failure::new(&error).because(&error)
    }
}
