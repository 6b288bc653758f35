//! What a command answers when it fails.

use std::fmt;

use crate::DecodeError;

/// The classes of errors that clients tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Anything else.
    GenericError,
    /// There is no such command, or not in this state of the session.
    CommandNotFound,
    /// There is no such job.
    DeviceNotActive,
    /// There is no such device.
    DeviceNotFound,
}

impl ErrorClass {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::GenericError => "GenericError",
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::DeviceNotFound => "DeviceNotFound",
        }
    }
}

/// An error as QMP answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QmpError {
    /// Its class.
    pub class: ErrorClass,
    /// What went wrong, for people.
    pub desc: String,
}

impl QmpError {
    /// An error of no special class.
    pub fn generic(desc: impl Into<String>) -> Self {
        Self { class: ErrorClass::GenericError, desc: desc.into() }
    }

    /// An error for a command that does not exist.
    pub fn command_not_found(command: &str) -> Self {
        let desc = format!("The command {} has not been found", crate::codec::shortened(command));
        Self { class: ErrorClass::CommandNotFound, desc }
    }

    /// An error for a device that does not exist, of the class that clients look for.
    pub fn device_not_found(device: &str) -> Self {
        Self { class: ErrorClass::DeviceNotFound, desc: format!("Device '{device}' not found") }
    }

    /// An error for a job that does not exist.
    pub fn job_not_found(id: &str) -> Self {
        Self { class: ErrorClass::DeviceNotActive, desc: format!("Block job '{id}' not found") }
    }
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desc)
    }
}

impl std::error::Error for QmpError {}

impl From<DecodeError> for QmpError {
    fn from(error: DecodeError) -> Self {
        Self::generic(error.to_string())
    }
}
