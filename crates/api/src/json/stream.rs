//! Documents out of a stream of bytes, with recovery after mistakes.

use super::build::Builder;
use super::lexer::{Fault, Lexer, Token};
use super::{MAX_BYTES, MAX_DEPTH, MAX_TOKENS};
use crate::Value;

/// Why a document is no JSON that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum JsonError {
    #[error("JSON parse error, stray character at the end of {0:?}")]
    Stray(String),
    #[error("JSON parse error, '{0}' is none of true, false, null")]
    UnknownWord(String),
    #[error("JSON parse error, expecting a value")]
    ExpectedValue,
    #[error("JSON parse error, expecting a string as the key of an object")]
    ExpectedKey,
    #[error("JSON parse error, expecting ':' after a key")]
    ExpectedColon,
    #[error("JSON parse error, expecting ',' or the end of the list or object")]
    ExpectedComma,
    #[error("JSON parse error, a list ends with ']', an object with '}}'")]
    WrongClose,
    #[error("JSON parse error, duplicate key in an object")]
    DuplicateKey,
    #[error("JSON parse error, invalid escape sequence in a string")]
    BadEscape,
    #[error("JSON parse error, a string names something that is no Unicode character")]
    BadCharacter,
    #[error("JSON parse error, a string is not valid UTF-8")]
    NotUtf8,
    #[error("JSON parse error, number out of range")]
    NumberTooLarge,
    #[error("JSON parse error, nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("JSON parse error, more than {MAX_TOKENS} tokens in a document")]
    TooManyTokens,
    #[error("JSON parse error, more than {MAX_BYTES} bytes in a document")]
    TooLarge,
    #[error("JSON parse error, premature end of input")]
    Incomplete,
    #[error("JSON parse error, expecting a single value")]
    SecondValue,
}

/// An incremental parser of any number of documents.
pub struct Stream {
    lexer: Lexer,
    document: Document,
}

impl Default for Stream {
    fn default() -> Self {
        Self::new()
    }
}

impl Stream {
    /// A parser at the start of its input.
    pub fn new() -> Self {
        Self { lexer: Lexer::new(), document: Document::new() }
    }

    /// Reads from `input`, which it shortens by what it has read, up to the end of a document or to a mistake. `None`:
    /// all was read, and more is needed.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Result<Value, JsonError>> {
        while let Some((byte, rest)) = input.split_first() {
            let step = self.lexer.step(*byte);
            if step.consumed {
                *input = rest;
            }
            if let Some(answer) = step.outcome.and_then(|outcome| self.token(outcome)) {
                return Some(answer);
            }
        }
        None
    }

    /// Ends the input: what is left incomplete is an error.
    pub fn finish(&mut self) -> Option<Result<Value, JsonError>> {
        // A number or word needs something behind it to be complete.
        if let Some(answer) = self.next(&mut b"\n".as_slice()) {
            return Some(answer);
        }
        let inside = self.lexer.inside_token() || self.document.has_begun();
        *self = Self::new();
        inside.then_some(Err(JsonError::Incomplete))
    }

    fn token(&mut self, outcome: Result<Token, Fault>) -> Option<Result<Value, JsonError>> {
        let answer = match outcome {
            Ok(token) => self.document.push(token)?,
            Err(Fault::Stray(text)) => {
                let text = String::from_utf8_lossy(&text);
                Err(JsonError::Stray(tail(&text).to_string()))
            }
            Err(Fault::TooLarge) => Err(JsonError::TooLarge),
        };
        self.document = Document::new();
        Some(answer)
    }
}

/// The end of a text, where its last character is what matters.
fn tail(text: &str) -> &str {
    let start = text.char_indices().rev().nth(31).map_or(0, |(i, _)| i);
    text.get(start..).unwrap_or_default()
}

/// A document on its way, right or wrong.
struct Document {
    state: Result<Builder, JsonError>,
    braces: isize,
    brackets: isize,
    tokens: usize,
    bytes: usize,
}

impl Document {
    fn new() -> Self {
        Self { state: Ok(Builder::new()), braces: 0, brackets: 0, tokens: 0, bytes: 0 }
    }

    fn has_begun(&self) -> bool {
        self.tokens > 0
    }

    /// Takes a token; an answer ends the document.
    fn push(&mut self, token: Token) -> Option<Result<Value, JsonError>> {
        self.tokens += 1;
        self.bytes += match &token {
            Token::Punctuation(c) => {
                self.count(*c);
                1
            }
            Token::String(bytes) => bytes.len() + 2,
            Token::Integer(text) | Token::Float(text) | Token::Word(text) => text.len(),
        };
        if self.braces + self.brackets > MAX_DEPTH as isize {
            return Some(Err(JsonError::TooDeep));
        }
        if self.tokens > MAX_TOKENS {
            return Some(Err(JsonError::TooManyTokens));
        }
        if self.bytes > MAX_BYTES {
            return Some(Err(JsonError::TooLarge));
        }
        if let Ok(builder) = &mut self.state
            && let Err(mistake) = builder.push(token)
        {
            self.state = Err(mistake);
        }
        let goes_on = (self.braces > 0 || self.brackets > 0) && self.braces >= 0 && self.brackets >= 0;
        if goes_on {
            return None;
        }
        let state = std::mem::replace(&mut self.state, Err(JsonError::Incomplete));
        Some(state.and_then(|builder| builder.finish().ok_or(JsonError::WrongClose)))
    }

    fn count(&mut self, punctuation: u8) {
        match punctuation {
            b'{' => self.braces += 1,
            b'}' => self.braces -= 1,
            b'[' => self.brackets += 1,
            b']' => self.brackets -= 1,
            _ => {}
        }
    }
}

/// Parses a text that is one document.
pub fn parse(text: &str) -> Result<Value, JsonError> {
    let mut input = text.as_bytes();
    let mut stream = Stream::new();
    let value = match stream.next(&mut input).or_else(|| stream.finish()) {
        Some(answer) => answer?,
        None => return Err(JsonError::ExpectedValue),
    };
    match stream.next(&mut input).or_else(|| stream.finish()) {
        None => Ok(value),
        Some(_) => Err(JsonError::SecondValue),
    }
}
