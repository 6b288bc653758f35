//! From a [`Schema`] to the Rust of the server's side.
//!
//! ```text
//! one module a schema file:  types with their codecs · a trait of the section's handlers · events
//! mod.rs:                    re-exports · `Handlers` (all sections) · `dispatch` · `Event` · `COMMANDS`
//! introspection.json:        the answer of query-qmp-schema, one entity a line
//! ```
//!
//! The text refers to a small runtime (`crate::codec`, `crate::QmpError`, …) that the receiving crate provides. It is
//! not formatted: run rustfmt over it.

mod commands;
mod events;
mod introspection;
mod object;
mod types;

use crate::names::{camel, snake};
use crate::{Definition, DefinitionKind, Error, Schema};
use std::collections::HashSet;

/// What the schema does not say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Commands without a handler: `crate::introspect` has a function of their name that answers.
    pub answered_by_api: Vec<String>,
}

/// A generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name, in the folder of generated files.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The line that opens every generated Rust file.
const BANNER: &str =
    "// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.\n";

/// Generates all files.
pub fn generate(schema: &Schema, options: &Options) -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    let mut sections = Vec::new();
    for (index, module) in schema.modules.iter().enumerate() {
        let own: Vec<_> = schema.definitions.iter().filter(|d| d.module == index).collect();
        if own.is_empty() {
            continue;
        }
        let mut text = String::from(BANNER);
        text.push_str(&inner_doc(&module.doc, &format!("Section `{}` of the schema.", module.name)));
        let mut body = String::new();
        for definition in &own {
            match &definition.kind {
                DefinitionKind::Enum(e) => body.push_str(&types::enumeration(definition, e)),
                DefinitionKind::Struct(s) => body.push_str(&object::structure(
                    schema,
                    &camel(&definition.name),
                    definition,
                    &schema.members(s)?,
                )?),
                DefinitionKind::Union(u) => body.push_str(&object::union(schema, definition, u)?),
                DefinitionKind::Alternate(a) => body.push_str(&types::alternate(schema, definition, a)?),
                DefinitionKind::Command(c) => body.push_str(&commands::arguments(schema, definition, c)?),
                DefinitionKind::Event(e) => body.push_str(&events::data(schema, definition, e)?),
            }
        }
        if let Some(handlers) = commands::section(schema, &module.name, &own, options)? {
            body.push_str(&handlers);
            sections.push(commands::trait_name(&module.name));
        }
        text.push_str(&imports(schema, index, &body));
        text.push_str(&body);
        files.push(File { name: format!("{}.rs", snake(&module.name)), text });
    }
    let mut root = String::from(BANNER);
    root.push_str("//! Types, handlers, dispatch and events of the schema.\n\n");
    root.push_str("#![allow(clippy::large_enum_variant, reason = \"options are short-lived; boxing them helps nobody\")]\n\n");
    for file in &files {
        let module = file.name.trim_end_matches(".rs");
        root.push_str(&format!("mod {module};\npub use {module}::*;\n"));
    }
    root.push_str(&commands::dispatch(schema, &sections, options)?);
    root.push_str(&events::enumeration(schema));
    root.push_str("\n/// The answer of `query-qmp-schema`, as JSON text.\n");
    root.push_str("pub const INTROSPECTION: &str = include_str!(\"introspection.json\");\n");
    files.push(File { name: "mod.rs".into(), text: root });
    files.push(File { name: "introspection.json".into(), text: introspection::introspection(schema)? });
    Ok(files)
}

/// The imports of a section, of what its text names.
fn imports(schema: &Schema, module: usize, body: &str) -> String {
    let words: HashSet<&str> = body.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let named = |name: &str| words.contains(name);
    let is_type = |d: &Definition| !matches!(d.kind, DefinitionKind::Command(_) | DefinitionKind::Event(_));
    let elsewhere = |d: &Definition| d.module != module && is_type(d) && named(&camel(&d.name));
    let elsewhere = schema.definitions.iter().any(elsewhere);
    let ours: Vec<_> = ["Dict", "QmpError", "Value"].into_iter().filter(|name| named(name)).collect();
    let mut text = String::from("\n");
    if elsewhere {
        text.push_str("use super::*;\n");
    }
    text.push_str("use crate::codec::*;\n");
    match ours.as_slice() {
        [] => {}
        [one] => text.push_str(&format!("use crate::{one};\n")),
        several => text.push_str(&format!("use crate::{{{}}};\n", several.join(", "))),
    }
    text.push('\n');
    text
}

/// `text` (or the fallback, if there is none) as doc comment lines in front of an item.
pub(crate) fn outer_doc(text: &str, fallback: &str) -> String {
    doc_lines("///", text, fallback)
}

fn inner_doc(text: &str, fallback: &str) -> String {
    doc_lines("//!", text, fallback)
}

fn doc_lines(marker: &str, text: &str, fallback: &str) -> String {
    let text = if text.is_empty() { fallback } else { text };
    let mut out = String::new();
    for line in text.lines() {
        out.push_str(format!("{marker} {}", markdown(line)).trim_end());
        out.push('\n');
    }
    out
}

/// References `@name` become code, and brackets are kept from reading as links.
fn markdown(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(i) = rest.find('@') {
        let (before, after) = rest.split_at(i);
        let name = after[1..].split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').next();
        out.push_str(before);
        rest = match name {
            Some(name) if !name.is_empty() => {
                out.push_str(&format!("`{name}`"));
                &after[1 + name.len()..]
            }
            _ => {
                out.push('@');
                &after[1..]
            }
        };
    }
    out.push_str(rest);
    out.replace('[', "\\[").replace(']', "\\]").replace('<', "\\<").replace('>', "\\>")
}
