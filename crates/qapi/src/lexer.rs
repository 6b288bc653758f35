//! Schema text to tokens: JSON's structure, single-quoted strings, `true` and `false`, comments, and documentation
//! blocks (from a `##` line to the next).

use std::sync::Arc;

use crate::{Error, Location};

/// One token with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub at: Location,
    pub kind: TokenKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// One of `{ } [ ] : ,`.
    Punctuation(char),
    String(String),
    Bool(bool),
    /// The lines of a documentation block, without their `# `.
    Doc(Vec<String>),
}

impl TokenKind {
    /// The token as a message calls it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Punctuation(c) => format!("'{c}'"),
            Self::String(text) => format!("string '{text}'"),
            Self::Bool(value) => format!("'{value}'"),
            Self::Doc(_) => "a documentation block".into(),
        }
    }
}

/// Splits `text` into tokens.
pub(crate) fn tokens(file: &Arc<str>, text: &str) -> Result<Vec<Token>, Error> {
    let mut out = Vec::new();
    let mut lines = text.lines().zip(1u32..);
    while let Some((line, number)) = lines.next() {
        let at = Location { file: file.clone(), line: number };
        if line.trim_end() == "##" {
            let kind = TokenKind::Doc(doc_block(&at, &mut lines)?);
            out.push(Token { at, kind });
        } else {
            line_tokens(&at, line, &mut out)?;
        }
    }
    Ok(out)
}

fn doc_block<'a>(
    start: &Location,
    lines: &mut impl Iterator<Item = (&'a str, u32)>,
) -> Result<Vec<String>, Error> {
    let mut block = Vec::new();
    for (line, number) in lines {
        if line.trim_end() == "##" {
            return Ok(block);
        }
        let Some(rest) = line.strip_prefix('#') else {
            let at = Location { file: start.file.clone(), line: number };
            return Err(Error::new(&at, "a line of a documentation block must start with '#'"));
        };
        block.push(rest.strip_prefix(' ').unwrap_or(rest).trim_end().to_string());
    }
    Err(Error::new(start, "this documentation block has no closing '##' line"))
}

fn line_tokens(at: &Location, line: &str, out: &mut Vec<Token>) -> Result<(), Error> {
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let kind = match c {
            '#' => return Ok(()),
            ' ' | '\t' => {
                rest = after;
                continue;
            }
            '{' | '}' | '[' | ']' | ':' | ',' => {
                rest = after;
                TokenKind::Punctuation(c)
            }
            '\'' => {
                let (text, tail) = string(at, after)?;
                rest = tail;
                TokenKind::String(text)
            }
            _ if c.is_ascii_alphanumeric() || c == '-' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len()).max(1);
                let (word, tail) = rest.split_at(end);
                rest = tail;
                match word {
                    "true" => TokenKind::Bool(true),
                    "false" => TokenKind::Bool(false),
                    _ => {
                        return Err(Error::new(at, format!("'{word}' is neither true nor false nor quoted")));
                    }
                }
            }
            _ => return Err(Error::new(at, format!("stray character {c:?}"))),
        };
        out.push(Token { at: at.clone(), kind });
    }
    Ok(())
}

/// Reads a string whose opening quote is gone; the only escape is a doubled backslash.
fn string<'a>(at: &Location, text: &'a str) -> Result<(String, &'a str), Error> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\'' => return Ok((value, &text[i + 1..])),
            '\\' => match chars.next() {
                Some((_, '\\')) => value.push('\\'),
                _ => return Err(Error::new(at, "the only escape in a schema string is '\\\\'")),
            },
            ' '..='~' => value.push(c),
            _ => return Err(Error::new(at, format!("{c:?} in a string: only printable ASCII is allowed"))),
        }
    }
    Err(Error::new(at, "this string has no closing quote on its line"))
}
