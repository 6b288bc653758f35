//! Tokens to values: JSON's grammar without recursion, so that depth costs no stack.

use super::lexer::Token;
use super::stream::JsonError;
use crate::{Dict, Value};

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Value,
    ValueOrClose,
    Key,
    KeyOrClose,
    Colon,
    CommaOrClose,
    Nothing,
}

enum Open {
    List(Vec<Value>),
    Dict(Dict, Option<String>),
}

/// A document in the making.
pub(crate) struct Builder {
    expected: Expected,
    open: Vec<Open>,
    done: Option<Value>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self { expected: Expected::Value, open: Vec::new(), done: None }
    }

    /// The value, once the document is complete.
    pub(crate) fn finish(self) -> Option<Value> {
        self.done
    }

    pub(crate) fn push(&mut self, token: Token) -> Result<(), JsonError> {
        match (self.expected, token) {
            (Expected::Value | Expected::ValueOrClose, Token::Punctuation(b'[')) => {
                self.open.push(Open::List(Vec::new()));
                self.expected = Expected::ValueOrClose;
                Ok(())
            }
            (Expected::Value | Expected::ValueOrClose, Token::Punctuation(b'{')) => {
                self.open.push(Open::Dict(Dict::new(), None));
                self.expected = Expected::KeyOrClose;
                Ok(())
            }
            (Expected::ValueOrClose | Expected::CommaOrClose, Token::Punctuation(b']')) => self.close_list(),
            (Expected::KeyOrClose | Expected::CommaOrClose, Token::Punctuation(b'}')) => self.close_dict(),
            (Expected::Value | Expected::ValueOrClose, token) => self.scalar(token),
            (Expected::Key | Expected::KeyOrClose, Token::String(text)) => self.key(text),
            (Expected::Key | Expected::KeyOrClose, _) => Err(JsonError::ExpectedKey),
            (Expected::Colon, Token::Punctuation(b':')) => {
                self.expected = Expected::Value;
                Ok(())
            }
            (Expected::Colon, _) => Err(JsonError::ExpectedColon),
            (Expected::CommaOrClose, Token::Punctuation(b',')) => {
                let in_list = matches!(self.open.last(), Some(Open::List(_)));
                self.expected = if in_list { Expected::Value } else { Expected::Key };
                Ok(())
            }
            (Expected::CommaOrClose | Expected::Nothing, _) => Err(JsonError::ExpectedComma),
        }
    }

    fn key(&mut self, text: Vec<u8>) -> Result<(), JsonError> {
        let text = string(&text)?;
        if let Some(Open::Dict(_, key)) = self.open.last_mut() {
            *key = Some(text);
        }
        self.expected = Expected::Colon;
        Ok(())
    }

    fn scalar(&mut self, token: Token) -> Result<(), JsonError> {
        let value = match token {
            Token::String(text) => Value::String(string(&text)?),
            Token::Integer(text) => integer(&text)?,
            Token::Float(text) => float(&text)?,
            Token::Word(word) => match word.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                _ => return Err(JsonError::UnknownWord(crate::codec::shortened(&word).into_owned())),
            },
            Token::Punctuation(_) => return Err(JsonError::ExpectedValue),
        };
        self.add(value);
        Ok(())
    }

    fn close_list(&mut self) -> Result<(), JsonError> {
        match self.open.pop() {
            Some(Open::List(elements)) => {
                self.add(Value::List(elements));
                Ok(())
            }
            _ => Err(JsonError::WrongClose),
        }
    }

    fn close_dict(&mut self) -> Result<(), JsonError> {
        match self.open.pop() {
            Some(Open::Dict(dict, _)) if dict.has_duplicates() => Err(JsonError::DuplicateKey),
            Some(Open::Dict(dict, _)) => {
                self.add(Value::Dict(dict));
                Ok(())
            }
            _ => Err(JsonError::WrongClose),
        }
    }

    /// Puts a complete value where it belongs.
    fn add(&mut self, value: Value) {
        self.expected = Expected::CommaOrClose;
        match self.open.last_mut() {
            Some(Open::List(elements)) => elements.push(value),
            Some(Open::Dict(dict, key)) => dict.push(key.take().unwrap_or_default(), value),
            None => {
                self.done = Some(value);
                self.expected = Expected::Nothing;
            }
        }
    }
}

fn integer(text: &str) -> Result<Value, JsonError> {
    if let Ok(n) = text.parse::<i64>() {
        return Ok(Value::Int(n));
    }
    text.parse::<u64>().map_or_else(|_| float(text), |n| Ok(Value::Uint(n)))
}

fn float(text: &str) -> Result<Value, JsonError> {
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() => Ok(Value::Float(n)),
        _ => Err(JsonError::NumberTooLarge),
    }
}

/// The content of a string: UTF-8 with its escapes resolved.
fn string(bytes: &[u8]) -> Result<String, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(i) = rest.find('\\') {
        let (before, after) = rest.split_at(i);
        out.push_str(before);
        let mut chars = after.chars();
        chars.next();
        match chars.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some(c @ ('"' | '\'' | '\\' | '/')) => out.push(c),
            Some('u') => {
                let (c, tail) = unicode(chars.as_str())?;
                out.push(c);
                rest = tail;
                continue;
            }
            _ => return Err(JsonError::BadEscape),
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    if out.chars().any(is_noncharacter) { Err(JsonError::BadCharacter) } else { Ok(out) }
}

/// The character of a `\u` escape whose `\u` is gone, two of them for one beyond the first plane.
fn unicode(text: &str) -> Result<(char, &str), JsonError> {
    let (first, rest) = hex4(text)?;
    if let Some(c) = char::from_u32(first) {
        return Ok((c, rest));
    }
    let (second, rest) = hex4(rest.strip_prefix("\\u").ok_or(JsonError::BadCharacter)?)?;
    let pair = matches!((first, second), (0xd800..=0xdbff, 0xdc00..=0xdfff));
    let code = 0x10000 + ((first & 0x3ff) << 10) + (second & 0x3ff);
    let c = char::from_u32(code).filter(|_| pair).ok_or(JsonError::BadCharacter)?;
    Ok((c, rest))
}

fn hex4(text: &str) -> Result<(u32, &str), JsonError> {
    let digits = text.get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
    let digits = digits.ok_or(JsonError::BadCharacter)?;
    let code = u32::from_str_radix(digits, 16).map_err(|_| JsonError::BadCharacter)?;
    Ok((code, text.get(4..).unwrap_or_default()))
}

/// Code points that Unicode sets apart for good.
fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}
