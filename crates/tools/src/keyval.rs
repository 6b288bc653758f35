//! `key=value,key=value` lists, as `-o`, `--image-opts`, `--object` and `--blockdev` take them.
//!
//! A comma inside a value is written twice. A first part without `=` gets the implied key, if there is one; any other
//! part without `=` is a switch: `KEY` is on, `noKEY` is off.

use thiserror::Error;

/// Why a list cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KeyvalError {
    /// `=value`.
    #[error("a parameter name is missing before '={0}'")]
    NoKey(String),
    /// An element without a value where every one needs one.
    #[error("Expected '=' after parameter '{0}'")]
    NoValue(String),
}

/// Splits a list at its commas; doubled commas become one.
pub fn split(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ',' if chars.peek() == Some(&',') => {
                chars.next();
                part.push(',');
            }
            ',' => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    if !part.is_empty() || !parts.is_empty() {
        parts.push(part);
    }
    parts
}

/// Reads a list into pairs, in the order given.
pub fn parse(text: &str, implied: Option<&str>) -> Result<Vec<(String, String)>, KeyvalError> {
    let mut pairs = Vec::new();
    for (index, part) in split(text).into_iter().enumerate() {
        let pair = match (part.split_once('='), implied) {
            (Some(("", value)), _) => return Err(KeyvalError::NoKey(value.to_owned())),
            (Some((key, value)), _) => (key.to_owned(), value.to_owned()),
            (None, Some(key)) if index == 0 => (key.to_owned(), part),
            (None, _) if part.is_empty() => continue,
            (None, _) => match part.strip_prefix("no") {
                Some(key) if !key.is_empty() => (key.to_owned(), "off".to_owned()),
                _ => (part, "on".to_owned()),
            },
        };
        pairs.push(pair);
    }
    Ok(pairs)
}

/// A value with its commas doubled, as it stands in a list.
pub fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str, implied: Option<&str>) -> Vec<(String, String)> {
        parse(text, implied).unwrap()
    }

    #[test]
    fn doubled_commas_are_one_and_switches_are_on_or_off() {
        assert_eq!(
            pairs("a=x,,y,lazy,nocow,b=1=2", None),
            [("a", "x,y"), ("lazy", "on"), ("cow", "off"), ("b", "1=2")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
    }

    #[test]
    fn a_first_bare_word_takes_the_implied_key() {
        assert_eq!(pairs("qcow2,node-name=a", Some("driver"))[0], ("driver".into(), "qcow2".into()));
        assert_eq!(pairs("", Some("driver")), []);
    }

    #[test]
    fn an_empty_key_is_refused() {
        assert_eq!(parse("=3", None), Err(KeyvalError::NoKey("3".into())));
    }

    #[test]
    fn escape_and_split_are_inverse() {
        for text in ["a", "a,b", ",", ",,", "x,,,y"] {
            assert_eq!(split(&escape(text)), [text]);
        }
    }
}
