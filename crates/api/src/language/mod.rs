// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Types, handlers, dispatch and events of the schema.

#![allow(clippy::large_enum_variant, reason = "options are short-lived; boxing them helps nobody")]

mod constructs;
pub use constructs::*;

use crate::codec::{Encode, NoArguments, run, run_raw};
use crate::{Dict, QmpError, Value};

/// Every command, in the order of the schema.
pub const COMMANDS: &[&str] = &[
    "take-flat",
    "take-members",
    "take-struct",
    "take-nothing",
    "raw",
    "urgent",
    "vanish",
    "take-simple",
    "take-nested",
];

/// Those that can run while others are under way.
pub const OUT_OF_BAND: &[&str] = &["urgent"];

/// The handlers of all sections.
pub trait Handlers: ConstructsCommands {}

impl<T: ConstructsCommands> Handlers for T {}

/// Runs a command: decodes its arguments, calls its handler, encodes the answer. `None`: success is not
/// answered.
pub async fn dispatch<H: Handlers>(
    handlers: &H,
    command: &str,
    arguments: Dict,
) -> Result<Option<Value>, QmpError> {
    match command {
        "take-flat" => run(arguments, |a| handlers.take_flat(a)).await,
        "take-members" => run(arguments, |a| handlers.take_members(a)).await,
        "take-struct" => run(arguments, |a| handlers.take_struct(a)).await,
        "take-nothing" => run(arguments, |NoArguments {}| handlers.take_nothing()).await,
        "raw" => run_raw(arguments, |a| handlers.raw(a)).await,
        "urgent" => run(arguments, |NoArguments {}| handlers.urgent()).await,
        "vanish" => run(arguments, |NoArguments {}| handlers.vanish()).await.map(|_| None),
        "take-simple" => run(arguments, |a| handlers.take_simple(a)).await,
        "take-nested" => run(arguments, |a| handlers.take_nested(a)).await,
        _ => Err(QmpError::command_not_found(command)),
    }
}

/// Any event.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// `SOMETHING_HAPPENED`.
    SomethingHappened(SomethingHappened),
    /// `NOTHING_TO_ADD`.
    NothingToAdd,
    /// `SHAPE_CHANGED`.
    ShapeChanged(Flat),
}

impl Event {
    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SomethingHappened(_) => "SOMETHING_HAPPENED",
            Self::NothingToAdd => "NOTHING_TO_ADD",
            Self::ShapeChanged(_) => "SHAPE_CHANGED",
        }
    }

    /// Its data, if it carries any.
    pub fn data(&self) -> Option<Value> {
        match self {
            Self::SomethingHappened(data) => Some(data.encode()),
            Self::NothingToAdd => None,
            Self::ShapeChanged(data) => Some(data.encode()),
        }
    }
}

/// The answer of `query-qmp-schema`, as JSON text.
pub const INTROSPECTION: &str = include_str!("introspection.json");
