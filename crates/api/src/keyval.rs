//! Options of the command line, in the two languages that programs of the field have for them.
//!
//! In both a comma in a value is doubled, and the first value may leave out its key if the option has an implied one.
//!
//! - [`parse`], [`decode`]: `driver=qcow2,file.driver=file,file.filename=a.qcow2`, or the same as JSON. Dots lead into
//!   objects; an object whose keys are all numbers from 0 on is a list; of several values for one key the last counts.
//! - [`pairs`]: the older one, of `-o` and `--image-opts`. Keys are any text, and a part without `=` is a switch: `KEY` is
//!   on, `noKEY` is off.
//!
//! Bounds: [`MAX_LENGTH`] bytes and keys of [`MAX_STEPS`] parts in the first; the second is as long as the command line.

use crate::codec::{self, DecodeError};
use crate::json::{self, JsonError};
use crate::{Decode, Dict, QmpError, Value};

/// Longest text of an option, in bytes.
pub const MAX_LENGTH: usize = 1 << 17;
/// Most parts of a dotted key.
pub const MAX_STEPS: usize = 128;

/// Why an option can't be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum KeyvalError {
    #[error("Expected '=' after parameter '{0}'")]
    NoValue(String),
    #[error("a parameter name is missing before '={0}'")]
    NoKey(String),
    #[error("Invalid parameter '{0}'")]
    BadKey(String),
    #[error("Parameters '{0}.*' used inconsistently")]
    Inconsistent(String),
    #[error("Parameter '{0}' missing")]
    Gap(String),
    #[error("the option is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("the option is not a JSON object")]
    NotAnObject,
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl From<KeyvalError> for QmpError {
    fn from(error: KeyvalError) -> Self {
        Self::generic(error.to_string())
    }
}

/// Reads an option of type `T`, in either form. `implied` is the key of a first value that comes without one.
pub fn decode<T: Decode>(text: &str, implied: Option<&str>) -> Result<T, KeyvalError> {
    if text.starts_with('{') {
        return match json::parse(text)? {
            value @ Value::Dict(_) => Ok(codec::decode(value)?),
            _ => Err(KeyvalError::NotAnObject),
        };
    }
    Ok(codec::decode_text(Value::Dict(parse(text, implied)?))?)
}

/// Reads the key=value form; all scalars stay text.
pub fn parse(text: &str, implied: Option<&str>) -> Result<Dict, KeyvalError> {
    if text.len() > MAX_LENGTH {
        return Err(KeyvalError::TooLong);
    }
    let mut root = Dict::new();
    let mut rest = text;
    let mut implied = implied;
    while !rest.is_empty() {
        let (key, after) = key(rest, implied.take())?;
        let (value, after) = value(after);
        insert(&mut root, key, value)?;
        rest = after.unwrap_or_default();
    }
    lists(root, "").map(|value| match value {
        Value::Dict(dict) => dict,
        // A list at the top would need a key that is a number, which `key` refuses.
        _ => Dict::new(),
    })
}

/// The key at the start of `text` and what follows its `=`.
fn key<'a>(text: &'a str, implied: Option<&'a str>) -> Result<(&'a str, &'a str), KeyvalError> {
    let end = text.find(['=', ',']).unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    match (rest.strip_prefix('='), implied) {
        (Some(rest), _) => {
            check_key(key)?;
            Ok((key, rest))
        }
        (None, Some(implied)) => Ok((implied, text)),
        (None, None) => Err(KeyvalError::NoValue(shown(key))),
    }
}

fn check_key(key: &str) -> Result<(), KeyvalError> {
    let mut steps = key.split('.');
    let name = |step: &str| {
        step.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && step.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let index = |step: &str| !step.is_empty() && step.len() < 10 && step.bytes().all(|b| b.is_ascii_digit());
    let first = steps.next().is_some_and(name);
    if first && steps.clone().count() < MAX_STEPS && steps.all(|step| name(step) || index(step)) {
        return Ok(());
    }
    Err(KeyvalError::BadKey(shown(key)))
}

/// Reads a list of `-o` or `--image-opts` into pairs, in the order given.
pub fn pairs(text: &str, implied: Option<&str>) -> Result<Vec<(String, String)>, KeyvalError> {
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

/// Splits a list at its commas; doubled commas become one.
pub fn split(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = Some(text).filter(|text| !text.is_empty());
    while let Some(text) = rest {
        let (part, after) = value(text);
        parts.push(part);
        rest = after;
    }
    parts
}

/// A value with its commas doubled, as it stands in a list.
pub fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

/// The value at the start of `text`, its commas no longer doubled, and what follows the comma behind it, if one does.
fn value(text: &str) -> (String, Option<&str>) {
    let mut value = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(',') {
        value.push_str(before);
        match after.strip_prefix(',') {
            Some(after) => {
                value.push(',');
                rest = after;
            }
            None => return (value, Some(after)),
        }
    }
    value.push_str(rest);
    (value, None)
}

fn insert(root: &mut Dict, key: &str, text: String) -> Result<(), KeyvalError> {
    let mut dict = root;
    let mut done = 0;
    while let Some((step, _)) = key.get(done..).and_then(|rest| rest.split_once('.')) {
        done += step.len() + 1;
        if !dict.contains(step) {
            dict.insert(step, Dict::new());
        }
        match dict.get_mut(step) {
            Some(Value::Dict(inner)) => dict = inner,
            _ => return Err(inconsistent(key.get(..done - 1))),
        }
    }
    let last = key.get(done..).unwrap_or_default();
    match dict.get(last) {
        Some(Value::Dict(_)) => Err(inconsistent(Some(key))),
        _ => {
            dict.insert(last, text);
            Ok(())
        }
    }
}

fn inconsistent(key: Option<&str>) -> KeyvalError {
    KeyvalError::Inconsistent(shown(key.unwrap_or_default()))
}

/// Turns objects with numbered members into lists, at every level; `prefix` is the dotted key of this one. The depth is
/// that of a key.
fn lists(dict: Dict, prefix: &str) -> Result<Value, KeyvalError> {
    let below = |name: &str| if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
    let numbered = |name: &str| name.starts_with(|c: char| c.is_ascii_digit());
    let count = dict.iter().filter(|(name, _)| numbered(name)).count();
    if count != 0 && count != dict.len() {
        return Err(inconsistent(Some(prefix)));
    }
    let mut members = Vec::with_capacity(dict.len());
    for (name, value) in dict {
        let value = match value {
            Value::Dict(inner) => lists(inner, &below(&name))?,
            scalar => scalar,
        };
        members.push((name, value));
    }
    if count == 0 {
        return Ok(Value::Dict(members.into_iter().collect()));
    }
    let mut elements: Vec<(usize, Value)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        elements.push((name.parse().map_err(|_| KeyvalError::BadKey(shown(&below(&name))))?, value));
    }
    elements.sort_by_key(|(i, _)| *i);
    elements.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
    if let Some(gap) = elements.iter().enumerate().find(|(place, (i, _))| place != i) {
        return Err(KeyvalError::Gap(shown(&below(&gap.0.to_string()))));
    }
    Ok(Value::List(elements.into_iter().map(|(_, value)| value).collect()))
}

fn shown(text: &str) -> String {
    codec::shortened(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, implied: Option<&str>) -> Vec<(String, String)> {
        pairs(text, implied).unwrap()
    }

    #[test]
    fn doubled_commas_are_one_and_switches_are_on_or_off() {
        assert_eq!(
            read("a=x,,y,lazy,nocow,b=1=2", None),
            [("a", "x,y"), ("lazy", "on"), ("cow", "off"), ("b", "1=2")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
    }

    #[test]
    fn a_first_bare_word_takes_the_implied_key() {
        assert_eq!(read("qcow2,node-name=a", Some("driver"))[0], ("driver".into(), "qcow2".into()));
        assert_eq!(read("", Some("driver")), []);
    }

    #[test]
    fn an_empty_key_is_refused() {
        assert_eq!(pairs("=3", None), Err(KeyvalError::NoKey("3".into())));
    }

    #[test]
    fn escape_and_split_are_inverse() {
        for text in ["a", "a,b", ",", ",,", "x,,,y"] {
            assert_eq!(split(&escape(text)), [text]);
        }
    }

    #[test]
    fn a_list_may_end_in_an_empty_part() {
        assert_eq!(split("a,"), ["a", ""]);
        assert_eq!(split(",a"), ["", "a"]);
        assert_eq!(split(""), [""; 0]);
    }
}
