//! The QAPI schema language: from `schema/*.json` to a checked model, and from the model to Rust.
//!
//! ```text
//! text ── lexer ──▶ tokens ── parser ──▶ expressions ── build ──▶ definitions ── check ──▶ Schema
//!                                                                                            │
//!                        types, handlers, dispatch, events, introspection  ◀── generate ─────┘
//! ```
//!
//! Laws:
//! - every error names the file and the line of what is wrong;
//! - a [`Schema`] that [`load`] returned is closed: each name it refers to is defined, of the right sort;
//! - generation is a pure function of the schema: same schema, same bytes.
//!
//! Own lexer and parser, because the language is no JSON: single quotes, comments, documentation blocks that belong to
//! definitions, and every error is to name its line.
//!
//! The language is that of QEMU's `docs/devel/qapi-code-gen.rst`; two older spellings of the 2.1 schema (`type` for
//! `struct`, a `union` with an empty discriminator for `alternate`) and simple unions are understood as well.
#![forbid(unsafe_code)]

mod build;
mod check;
mod condition;
mod doc;
mod error;
mod expression;
pub mod generate;
mod lexer;
mod load;
mod model;
mod names;

pub use condition::{Condition, Defines};
pub use doc::Doc;
pub use error::{Error, Location};
pub use load::{Directory, Source, load};
pub use model::{
    Alternate, Base, Branch, Builtin, Command, Data, Definition, DefinitionKind, Enum, EnumValue, Event,
    Feature, Member, Module, Referent, Schema, Struct, Tag, TypeRef, Union,
};
