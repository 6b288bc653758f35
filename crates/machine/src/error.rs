//! Why something can't be done with a machine.
use block::BlockError;

/// Why something can't be done with a machine.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MachineError {
    /// There is no such model.
    #[error("'{0}' is not a valid device model name")]
    UnknownModel(String),
    /// There is a device of that name already.
    #[error("Duplicate device ID '{0}'")]
    Duplicate(String),
    /// No device of this name; has an error class of its own.
    #[error("Device '{0}' not found")]
    NoDevice(String),
    /// What a model is told is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The block layer refuses it.
    #[error(transparent)]
    Block(#[from] BlockError),
}
