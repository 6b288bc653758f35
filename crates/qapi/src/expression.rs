//! Tokens to expressions: the first layer of the grammar, JSON without numbers and null.

use std::collections::HashSet;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use crate::lexer::{self, Token, TokenKind};
use crate::{Error, Location};

/// Deepest nesting of one top-level expression.
const MAX_DEPTH: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expression {
    pub at: Location,
    pub kind: ExpressionKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExpressionKind {
    /// Members in their order; keys are distinct.
    Object(Vec<(String, Expression)>),
    List(Vec<Expression>),
    String(String),
    Bool(bool),
}

impl Expression {
    pub(crate) fn describe(&self) -> &'static str {
        match self.kind {
            ExpressionKind::Object(_) => "an object",
            ExpressionKind::List(_) => "a list",
            ExpressionKind::String(_) => "a string",
            ExpressionKind::Bool(_) => "a boolean",
        }
    }
}

/// What stands at the top level of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Doc(Location, Vec<String>),
    Expression(Expression),
}

/// Parses a whole file.
pub(crate) fn items(file: &Arc<str>, text: &str) -> Result<Vec<Item>, Error> {
    let mut parser = Parser { tokens: lexer::tokens(file, text)?.into_iter().peekable() };
    let mut items = Vec::new();
    while let Some(token) = parser.tokens.next() {
        items.push(match token.kind {
            TokenKind::Doc(lines) => Item::Doc(token.at, lines),
            TokenKind::Punctuation('{') => Item::Expression(parser.object(&token.at, MAX_DEPTH)?),
            other => {
                let message = format!("expected an object at the top level, not {}", other.describe());
                return Err(Error::new(&token.at, message));
            }
        });
    }
    Ok(items)
}

struct Parser {
    tokens: Peekable<IntoIter<Token>>,
}

impl Parser {
    fn next(&mut self, open: &Location) -> Result<Token, Error> {
        self.tokens.next().ok_or_else(|| Error::new(open, "the bracket opened here is never closed"))
    }

    fn take_if(&mut self, c: char) -> bool {
        self.tokens.next_if(|t| t.kind == TokenKind::Punctuation(c)).is_some()
    }

    fn expect(&mut self, open: &Location, c: char) -> Result<(), Error> {
        let token = self.next(open)?;
        if token.kind == TokenKind::Punctuation(c) {
            return Ok(());
        }
        Err(Error::new(&token.at, format!("expected '{c}', not {}", token.kind.describe())))
    }

    /// Whether the list goes on after an element: true after a comma, false after `close`.
    fn goes_on(&mut self, open: &Location, close: char) -> Result<bool, Error> {
        let token = self.next(open)?;
        match token.kind {
            TokenKind::Punctuation(',') => Ok(true),
            TokenKind::Punctuation(c) if c == close => Ok(false),
            other => {
                Err(Error::new(&token.at, format!("expected ',' or '{close}', not {}", other.describe())))
            }
        }
    }

    fn value(&mut self, open: &Location, depth: usize) -> Result<Expression, Error> {
        let token = self.next(open)?;
        let at = token.at;
        match token.kind {
            TokenKind::Punctuation('{') => self.object(&at, depth),
            TokenKind::Punctuation('[') => self.list(&at, depth),
            TokenKind::String(text) => Ok(Expression { at, kind: ExpressionKind::String(text) }),
            TokenKind::Bool(value) => Ok(Expression { at, kind: ExpressionKind::Bool(value) }),
            other => Err(Error::new(&at, format!("expected a value, not {}", other.describe()))),
        }
    }

    fn deeper(at: &Location, depth: usize) -> Result<usize, Error> {
        depth.checked_sub(1).ok_or_else(|| Error::new(at, format!("nested deeper than {MAX_DEPTH} levels")))
    }

    fn list(&mut self, at: &Location, depth: usize) -> Result<Expression, Error> {
        let depth = Self::deeper(at, depth)?;
        let mut elements = Vec::new();
        if !self.take_if(']') {
            loop {
                elements.push(self.value(at, depth)?);
                if !self.goes_on(at, ']')? {
                    break;
                }
            }
        }
        Ok(Expression { at: at.clone(), kind: ExpressionKind::List(elements) })
    }

    fn object(&mut self, at: &Location, depth: usize) -> Result<Expression, Error> {
        let depth = Self::deeper(at, depth)?;
        let mut members = Vec::new();
        let mut seen = HashSet::new();
        if !self.take_if('}') {
            loop {
                let (key_at, key) = self.key(at)?;
                if !seen.insert(key.clone()) {
                    return Err(Error::new(&key_at, format!("duplicate key '{key}'")));
                }
                self.expect(at, ':')?;
                members.push((key, self.value(at, depth)?));
                if !self.goes_on(at, '}')? {
                    break;
                }
            }
        }
        Ok(Expression { at: at.clone(), kind: ExpressionKind::Object(members) })
    }

    fn key(&mut self, open: &Location) -> Result<(Location, String), Error> {
        let token = self.next(open)?;
        match token.kind {
            TokenKind::String(text) => Ok((token.at, text)),
            other => Err(Error::new(&token.at, format!("expected a quoted key, not {}", other.describe()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_kind() -> impl Strategy<Value = ExpressionKind> {
        let scalar = prop_oneof![
            "[ -&(-~]{0,12}".prop_map(ExpressionKind::String),
            any::<bool>().prop_map(ExpressionKind::Bool),
        ];
        let here = |kind| Expression { at: Location { file: "f".into(), line: 1 }, kind };
        scalar.prop_recursive(4, 32, 5, move |inner| {
            let inner = inner.prop_map(here);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(ExpressionKind::List),
                prop::collection::btree_map("[a-z*-]{1,8}", inner, 0..5)
                    .prop_map(|members| ExpressionKind::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The text of an expression without quotes inside strings, which the language can't write.
    fn text(kind: &ExpressionKind) -> String {
        let quoted = |s: &str| format!("'{}'", s.replace('\\', "\\\\"));
        match kind {
            ExpressionKind::String(s) => quoted(s),
            ExpressionKind::Bool(flag) => flag.to_string(),
            ExpressionKind::List(l) => {
                format!("[{}]", l.iter().map(|e| text(&e.kind)).collect::<Vec<_>>().join(","))
            }
            ExpressionKind::Object(members) => {
                let members =
                    members.iter().map(|(key, value)| format!("{} : {}", quoted(key), text(&value.kind)));
                format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn parsed(text: &str) -> Result<Vec<Item>, Error> {
        items(&Arc::from("f"), text)
    }

    proptest! {
        #[test]
        fn what_is_parsed_and_written_again_parses_the_same(members in any_kind()) {
            let written = format!("{{ 'x': {} }} # end", text(&members));
            let items = parsed(&written)?;
            let again = items.iter().map(|item| match item {
                Item::Expression(e) => text(&e.kind),
                Item::Doc(..) => String::new(),
            });
            prop_assert_eq!(parsed(&again.collect::<String>())?, items);
        }

        #[test]
        fn no_text_does_harm(text in "([ \n{}\\[\\]:,'#@a-z]|##\n|'data'|true|\\PC){0,80}") {
            let source = move |file: &str| (file == "f").then(|| text.clone());
            let _ = crate::load(&source, "f");
        }
    }
}
