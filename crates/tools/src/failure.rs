//! How a command ends when it does not succeed.

use crate::console::Console;
use block::BlockError;
use std::fmt;

/// An exit code and a message.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    hint: Hint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    Nothing,
    SeeHelp,
}

impl Failure {
    /// Exit code 1 with a message.
    pub fn new(message: impl fmt::Display) -> Failure {
        Failure { code: 1, message: message.to_string(), hint: Hint::Nothing }
    }

    /// A command line that makes no sense: the message, then where help is.
    pub fn usage(message: impl fmt::Display) -> Failure {
        Failure { code: 1, message: message.to_string(), hint: Hint::SeeHelp }
    }

    /// An exit code when everything has been reported already.
    pub fn silent(code: u8) -> Failure {
        Failure { code, message: String::new(), hint: Hint::Nothing }
    }

    /// The same with another exit code.
    #[must_use]
    pub fn with_code(self, code: u8) -> Failure {
        Failure { code, ..self }
    }

    /// The same with what it is about in front.
    #[must_use]
    pub fn within(self, what: &str) -> Failure {
        Failure { message: format!("{what}: {}", self.message), ..self }
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
        console.error(&self.message);
        if self.see_help() {
            console.note(format_args!("Try '{} --help' for more info", console.program()));
        }
        self.code
    }

    /// Whether to say where help is.
    pub fn see_help(&self) -> bool {
        self.hint == Hint::SeeHelp
    }
}

impl From<BlockError> for Failure {
    fn from(error: BlockError) -> Failure {
        Failure::new(error)
    }
}
