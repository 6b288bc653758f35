//! JSON in QEMU's dialect: strings in single quotes as well, any number of documents one after the other.
//!
//! ```text
//! bytes ── lexer ──▶ tokens ── builder ──▶ Value or JsonError, one for each document ── Stream ──▶ caller
//! ```
//!
//! Own lexer and builder, because QMP is no plain JSON: single quotes, documents back to back without separators, answers to
//! a broken document at exactly the byte where QEMU gives up on it, and bounds while the input is still incomplete.
//!
//! Laws of a [`Stream`], as clients rely on them:
//! - a byte that can't be part of any token ends the document with an error; what follows is skipped up to the next
//!   bracket, brace, comma, colon or control character;
//! - a document with a mistake in its structure is read to where its brackets and its braces are both closed, then
//!   answered with one error;
//! - one closing bracket or brace too many ends a document at once.
//!
//! Bounds, for each document: [`MAX_DEPTH`], [`MAX_TOKENS`], [`MAX_BYTES`].

mod build;
mod lexer;
mod order;
mod stream;
mod write;

pub use stream::{JsonError, Stream, parse};
pub use write::{to_line, to_name, to_pretty, write_pretty};

/// Most brackets and braces open at once.
pub const MAX_DEPTH: usize = 1024;
/// Most tokens of a document.
pub const MAX_TOKENS: usize = 2 << 20;
/// Most bytes of a document's tokens.
pub const MAX_BYTES: usize = 64 << 20;
