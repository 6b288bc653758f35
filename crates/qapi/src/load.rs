//! From a file and what it includes to a checked [`Schema`].

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::build::definition;
use crate::doc::{self, Block};
use crate::expression::{Expression, ExpressionKind, Item, items};
use crate::{Doc, Error, Location, Module, Schema};

/// Deepest chain of includes.
const MAX_INCLUDES: usize = 32;

/// Where schema files come from.
pub trait Source {
    /// The text of the file of that name, or why it can't be had.
    fn read(&self, file: &str) -> Result<String, String>;
}

/// A folder of schema files.
pub struct Directory(pub PathBuf);

impl Source for Directory {
    fn read(&self, file: &str) -> Result<String, String> {
        std::fs::read_to_string(self.0.join(file)).map_err(|e| e.to_string())
    }
}

impl<F: Fn(&str) -> Option<String>> Source for F {
    fn read(&self, file: &str) -> Result<String, String> {
        self(file).ok_or_else(|| "no such file".into())
    }
}

/// Reads `main` and all that it includes, and checks the whole.
pub fn load(source: &impl Source, main: &str) -> Result<Schema, Error> {
    let at = Location { file: Arc::from(main), line: 0 };
    let mut loader = Loader { source, seen: HashSet::new(), schema: Schema::default() };
    loader.file(main, &at, MAX_INCLUDES)?;
    let mut schema = loader.schema;
    schema.reindex()?;
    crate::check::check(&schema)?;
    Ok(schema)
}

struct Loader<'a, S> {
    source: &'a S,
    seen: HashSet<String>,
    schema: Schema,
}

impl<S: Source> Loader<'_, S> {
    fn file(&mut self, file: &str, from: &Location, depth: usize) -> Result<(), Error> {
        if !self.seen.insert(file.to_string()) {
            return Ok(());
        }
        let Some(depth) = depth.checked_sub(1) else {
            return Err(Error::new(from, format!("files are included more than {MAX_INCLUDES} deep")));
        };
        let text =
            self.source.read(file).map_err(|e| Error::new(from, format!("can't read '{file}': {e}")))?;
        let name = Path::new(file).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let module = self.schema.modules.len();
        self.schema.modules.push(Module { name, doc: String::new() });

        let mut pending: Option<(Location, String, Doc)> = None;
        for item in items(&Arc::from(file), &text)? {
            match item {
                Item::Doc(at, lines) => {
                    unclaimed(pending.take())?;
                    match doc::parse(&at, &lines)? {
                        Block::Definition(name, doc) => pending = Some((at, name, doc)),
                        Block::Free(text) => {
                            if let Some(m) = self.schema.modules.get_mut(module).filter(|m| m.doc.is_empty())
                            {
                                m.doc = text;
                            }
                        }
                    }
                }
                Item::Expression(expression) => match directive(&expression)? {
                    Some(Directive::Include(target)) => {
                        unclaimed(pending.take())?;
                        self.file(&beside(file, target), &expression.at, depth)?;
                    }
                    Some(Directive::Pragma) => unclaimed(pending.take())?,
                    None => {
                        let doc = pending.take().map(|(_, name, doc)| (name, doc));
                        self.schema.definitions.push(definition(module, &expression, doc)?);
                    }
                },
            }
        }
        unclaimed(pending)
    }
}

enum Directive<'a> {
    Include(&'a str),
    Pragma,
}

fn directive(expression: &Expression) -> Result<Option<Directive<'_>>, Error> {
    let ExpressionKind::Object(members) = &expression.kind else { return Ok(None) };
    let keys: Vec<_> = members.iter().map(|(key, value)| (key.as_str(), value)).collect();
    match keys.as_slice() {
        [("include", Expression { kind: ExpressionKind::String(file), .. })] => {
            Ok(Some(Directive::Include(file)))
        }
        [("pragma", Expression { kind: ExpressionKind::Object(_), .. })] => Ok(Some(Directive::Pragma)),
        _ if keys.iter().any(|(key, _)| matches!(*key, "include" | "pragma")) => {
            let message =
                "an include is { 'include': 'FILE' }, a pragma { 'pragma': { … } }, with nothing else";
            Err(Error::new(&expression.at, message))
        }
        _ => Ok(None),
    }
}

/// `target` as named by `file`, relative to the same root.
fn beside(file: &str, target: &str) -> String {
    match file.rsplit_once('/') {
        Some((folder, _)) if !target.starts_with('/') => format!("{folder}/{target}"),
        _ => target.to_string(),
    }
}

fn unclaimed(doc: Option<(Location, String, Doc)>) -> Result<(), Error> {
    match doc {
        Some((at, name, _)) => {
            Err(Error::new(&at, format!("the documentation of '{name}' precedes no definition")))
        }
        None => Ok(()),
    }
}
