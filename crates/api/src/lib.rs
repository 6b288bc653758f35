//! The control interface as Rust: JSON values, types with their checks, dispatch and introspection.
//!
//! ```text
//! bytes ── json::Stream ──▶ Value ── Decode ──▶ typed options ──▶ handler ──▶ typed answer ── Encode ──▶ Value ──▶ text
//! a=b,c.d=e ── keyval ──────▶ ┘
//! ```
//!
//! Everything in `generated` comes from `schema/*.json` (`cargo xtask generate`): a command, type, member or event exists
//! exactly when the schema has it.
//!
//! Laws:
//! - what is decoded was checked completely: unknown and missing members, wrong JSON types, integers out of range and
//!   unknown enum values are refused, each with the member's dotted path;
//! - text of any kind gives a value or an error, never a panic, in memory bounded by [`json::MAX_BYTES`] and
//!   [`json::MAX_TOKENS`].
#![forbid(unsafe_code)]

#[macro_use]
pub mod codec;
mod error;
mod generated;
pub mod introspect;
pub mod json;
pub mod keyval;
#[cfg(test)]
pub mod language;
#[cfg(test)]
mod language_tests;
mod number;
mod value;

pub use codec::{Decode, DecodeError, Encode, Enumeration, Null, Size, decode};
pub use error::{ErrorClass, QmpError};
pub use generated::*;
pub use number::{SizeError, parse_size};
pub use value::{Dict, Value};
