//! Between untyped values and the types of the schema.
//!
//! Decoding consumes the value and knows where it is: [`At`] is the path from the root, kept on the stack. In values from
//! the command line scalars are text ([`At::scalars_are_text`]) and are read as the type that the schema wants.
//!
//! Bounds: at most [`MAX_DEPTH`] values inside each other, so that the stack is bounded as well.

use std::borrow::Cow;

use crate::number::{parse_integer, parse_size};
use crate::{Dict, QmpError, Value};

/// Deepest nesting of a value that is decoded.
pub const MAX_DEPTH: usize = 64;

/// Longest name or value that is repeated in an error, in bytes.
const MAX_SHOWN: usize = 512;

/// A type that can be made from an untyped value.
pub trait Decode: Sized {
    /// Checks and converts the value found at `at`.
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError>;
}

/// A type that can be turned into an untyped value.
pub trait Encode {
    /// The value.
    fn encode(&self) -> Value;
}

/// A JSON object type: its members can stand beside those of another.
pub trait Object: Sized {
    /// Takes its members.
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError>;
    /// Adds its members.
    fn put(&self, to: &mut Dict);
}

/// Nothing is asked: there are no members.
impl Object for () {
    fn take(_: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }

    fn put(&self, _: &mut Dict) {}
}

/// An enumeration of the schema.
pub trait Enumeration: Copy + PartialEq + 'static {
    /// Every value with its name on the wire, in the order of the schema.
    const VALUES: &'static [(&'static str, Self)];

    /// Its name on the wire.
    fn name(self) -> &'static str {
        Self::VALUES.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    /// The value of that name.
    fn from_name(name: &str) -> Option<Self> {
        Self::VALUES.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }
}

/// Why a value does not fit its type. Each carries the dotted path of the member at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A member that must be there is not.
    #[error("Parameter '{path}' is missing")]
    Missing {
        /// The member.
        path: String,
    },
    /// The type has no such member.
    #[error("Parameter '{path}' is unexpected")]
    Unexpected {
        /// The member.
        path: String,
    },
    /// The value has another JSON type.
    #[error("Invalid parameter type for '{path}', expected: {expected}")]
    WrongType {
        /// The member.
        path: String,
        /// The JSON type or the alternate's name.
        expected: &'static str,
    },
    /// The value has the right JSON type but is not one of the type's values.
    #[error("Parameter '{path}' expects {expected}")]
    Expects {
        /// The member.
        path: String,
        /// What would fit.
        expected: &'static str,
    },
    /// The enumeration has no such value.
    #[error("Parameter '{path}' does not accept value '{value}'")]
    NoSuchValue {
        /// The member.
        path: String,
        /// The text given.
        value: String,
    },
    /// Values are nested too deeply.
    #[error("Parameter '{path}' is nested deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// The member.
        path: String,
    },
}

/// Decodes a value from JSON.
pub fn decode<T: Decode>(value: Value) -> Result<T, DecodeError> {
    T::decode(value, &At::root(Scalars::Typed))
}

/// Decodes a value of the command line, whose scalars are text.
pub(crate) fn decode_text<T: Decode>(value: Value) -> Result<T, DecodeError> {
    T::decode(value, &At::root(Scalars::Text))
}

/// Takes the members of `T` from wherever they are, each by its name; scalars are typed or text, as they come.
pub fn take_loose<T: Object>(mut member: impl FnMut(&str) -> Option<Value>) -> Result<T, DecodeError> {
    let at = At::root(Scalars::Loose);
    T::take(&mut Members { source: Source::Elsewhere(&mut member), at: &at })
}

/// How scalars come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scalars {
    /// Each as the type that the schema has.
    Typed,
    /// All as text.
    Text,
    /// As either, in lists of image options and in file names that begin with `json:`: numbers may have the suffix of a
    /// size, and a number stands for its digits where text is wanted.
    Loose,
}

/// Where in the whole a value stands.
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
    scalars: Scalars,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Member(&'a str),
    Element(usize),
}

impl<'a> At<'a> {
    fn root(scalars: Scalars) -> Self {
        Self { parent: None, step: Step::Root, scalars, depth: 0 }
    }

    fn below(&'a self, step: Step<'a>) -> At<'a> {
        At { parent: Some(self), step, scalars: self.scalars, depth: self.depth + 1 }
    }

    /// Whether scalars may be text.
    pub fn scalars_are_text(&self) -> bool {
        self.scalars != Scalars::Typed
    }

    /// The dotted path: `file.cache.direct`, `options[1].filename`.
    pub fn path(&self) -> String {
        let mut steps = Vec::new();
        let mut next = Some(self);
        while let Some(at) = next {
            steps.push(at.step);
            next = at.parent;
        }
        let mut path = String::new();
        for step in steps.into_iter().rev() {
            match step {
                Step::Root => {}
                Step::Element(i) if !self.scalars_are_text() => path.push_str(&format!("[{i}]")),
                _ if path.is_empty() => path.push_str(&step.text()),
                _ => path.push_str(&format!(".{}", step.text())),
            }
        }
        shortened(&path).into_owned()
    }

    /// The error for a value of another JSON type.
    pub fn wrong_type(&self, expected: &'static str) -> DecodeError {
        DecodeError::WrongType { path: self.path(), expected }
    }

    fn expects(&self, expected: &'static str) -> DecodeError {
        DecodeError::Expects { path: self.path(), expected }
    }

    fn check_depth(&self) -> Result<(), DecodeError> {
        if self.depth < MAX_DEPTH { Ok(()) } else { Err(DecodeError::TooDeep { path: self.path() }) }
    }
}

impl Step<'_> {
    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Root => Cow::Borrowed(""),
            Self::Member(name) => Cow::Borrowed(name),
            Self::Element(i) => Cow::Owned(i.to_string()),
        }
    }
}

/// The text, cut if it is too long for an error.
pub fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_SHOWN {
        return Cow::Borrowed(text);
    }
    let mut end = MAX_SHOWN;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default()))
}

/// The members of an object that are not yet taken.
pub struct Members<'a> {
    source: Source<'a>,
    at: &'a At<'a>,
}

enum Source<'a> {
    Object(Dict),
    Elsewhere(&'a mut dyn FnMut(&str) -> Option<Value>),
}

impl<'a> Members<'a> {
    /// Opens an object.
    pub fn open(value: Value, at: &'a At<'a>) -> Result<Self, DecodeError> {
        at.check_depth()?;
        match value {
            Value::Dict(dict) => Ok(Self { source: Source::Object(dict), at }),
            _ => Err(at.wrong_type("object")),
        }
    }

    fn member(&mut self, name: &str) -> Option<Value> {
        match &mut self.source {
            Source::Object(dict) => dict.remove(name),
            Source::Elsewhere(member) => member(name),
        }
    }

    /// Takes a member that must be there.
    pub fn required<T: Decode>(&mut self, name: &str) -> Result<T, DecodeError> {
        let at = self.at.below(Step::Member(name));
        match self.member(name) {
            Some(value) => T::decode(value, &at),
            None => Err(DecodeError::Missing { path: at.path() }),
        }
    }

    /// Takes a member that may be there.
    pub fn optional<T: Decode>(&mut self, name: &str) -> Result<Option<T>, DecodeError> {
        let at = self.at.below(Step::Member(name));
        self.member(name).map(|value| T::decode(value, &at)).transpose()
    }

    /// Ends the object: nothing may be left.
    pub fn close(self) -> Result<(), DecodeError> {
        match &self.source {
            Source::Object(dict) if let Some((name, _)) = dict.iter().next() => {
                Err(DecodeError::Unexpected { path: self.at.below(Step::Member(name)).path() })
            }
            _ => Ok(()),
        }
    }
}

impl Dict {
    /// Adds a member that the type always has.
    pub fn put(&mut self, name: &'static str, value: &impl Encode) {
        self.push(name, value.encode());
    }

    /// Adds a member that may be absent.
    pub fn put_optional(&mut self, name: &'static str, value: &Option<impl Encode>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }
}

/// Implements the codec of an object type.
macro_rules! object_codec {
    ($name:ident) => {
        impl Decode for $name {
            fn decode(value: $crate::Value, at: &At<'_>) -> Result<Self, DecodeError> {
                let mut members = Members::open(value, at)?;
                let object = Self::take(&mut members)?;
                members.close()?;
                Ok(object)
            }
        }

        impl Encode for $name {
            fn encode(&self) -> $crate::Value {
                let mut dict = $crate::Dict::new();
                self.put(&mut dict);
                $crate::Value::Dict(dict)
            }
        }
    };
}

/// Implements the codec of an enumeration.
macro_rules! enumeration_codec {
    ($name:ident) => {
        impl Decode for $name {
            fn decode(value: $crate::Value, at: &At<'_>) -> Result<Self, DecodeError> {
                let text = String::decode(value, at)?;
                Self::from_name(&text).ok_or_else(|| DecodeError::no_such_value(at, &text))
            }
        }

        impl Encode for $name {
            fn encode(&self) -> $crate::Value {
                $crate::Value::from(self.name())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

impl DecodeError {
    /// The error for a text that is no value of its enumeration.
    pub fn no_such_value(at: &At<'_>, value: &str) -> Self {
        Self::NoSuchValue { path: at.path(), value: shortened(value).into_owned() }
    }
}

/// JSON's null, as a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Null;

/// Bytes; on the command line with a suffix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// The arguments of a command that takes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NoArguments {}

impl Object for NoArguments {
    fn take(_: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {})
    }

    fn put(&self, _: &mut Dict) {}
}
object_codec!(NoArguments);

impl Decode for Value {
    fn decode(value: Value, _: &At<'_>) -> Result<Self, DecodeError> {
        Ok(value)
    }
}

impl Encode for Value {
    fn encode(&self) -> Value {
        self.clone()
    }
}

impl Encode for () {
    fn encode(&self) -> Value {
        Value::Dict(Dict::new())
    }
}

impl Decode for Null {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        if value == Value::Null { Ok(Self) } else { Err(at.wrong_type("null")) }
    }
}

impl Encode for Null {
    fn encode(&self) -> Value {
        Value::Null
    }
}

impl Decode for String {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::String(text) => Ok(text),
            Value::Int(n) if at.scalars == Scalars::Loose => Ok(n.to_string()),
            _ => Err(at.wrong_type("string")),
        }
    }
}

impl Encode for String {
    fn encode(&self) -> Value {
        Value::String(self.clone())
    }
}

impl Decode for bool {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::Bool(flag) => Ok(flag),
            Value::String(text) if at.scalars_are_text() => match text.as_str() {
                "on" | "yes" | "true" | "y" => Ok(true),
                "off" | "no" | "false" | "n" => Ok(false),
                _ => Err(at.expects("'on' or 'off'")),
            },
            _ => Err(at.wrong_type("boolean")),
        }
    }
}

impl Encode for bool {
    fn encode(&self) -> Value {
        Value::Bool(*self)
    }
}

impl Decode for f64 {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::Int(n) => Ok(n as f64),
            Value::Uint(n) => Ok(n as f64),
            Value::Float(n) => Ok(n),
            Value::String(text) if at.scalars_are_text() => match text.parse::<f64>() {
                Ok(n) if n.is_finite() => Ok(n),
                _ => Err(at.expects("number")),
            },
            _ => Err(at.wrong_type("number")),
        }
    }
}

impl Encode for f64 {
    fn encode(&self) -> Value {
        Value::from(*self)
    }
}

fn integer(value: Value, at: &At<'_>) -> Result<i128, DecodeError> {
    match value {
        Value::Int(n) => Ok(n.into()),
        Value::Uint(n) => Ok(n.into()),
        Value::String(text) if at.scalars_are_text() => {
            let size =
                || (at.scalars == Scalars::Loose).then(|| parse_size(&text).ok().map(i128::from)).flatten();
            parse_integer(&text).or_else(size).ok_or_else(|| at.expects("integer"))
        }
        _ => Err(at.wrong_type("integer")),
    }
}

macro_rules! integers {
    ($($name:ident $expected:literal),* $(,)?) => {
        $(impl Decode for $name {
            fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
                integer(value, at)?.try_into().map_err(|_| at.expects($expected))
            }
        }

        impl Encode for $name {
            fn encode(&self) -> Value {
                Value::from(*self)
            }
        })*
    };
}

integers! {
    i8 "int8_t", i16 "int16_t", i32 "int32_t", i64 "int64_t",
    u8 "uint8_t", u16 "uint16_t", u32 "uint32_t", u64 "uint64_t",
}

impl Decode for Size {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        match value {
            Value::String(text) if at.scalars_are_text() => parse_size(&text)
                .map(Self)
                .map_err(|_| at.expects("a size below 2^64 bytes, such as 512 or 1.5G")),
            _ => u64::decode(value, at).map(Self),
        }
    }
}

impl Encode for Size {
    fn encode(&self) -> Value {
        Value::from(self.0)
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        T::decode(value, at).map(Self::new)
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self) -> Value {
        T::encode(self)
    }
}

impl<T: Object> Object for Box<T> {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        T::take(from).map(Self::new)
    }

    fn put(&self, to: &mut Dict) {
        T::put(self, to);
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(value: Value, at: &At<'_>) -> Result<Self, DecodeError> {
        at.check_depth()?;
        let Value::List(elements) = value else { return Err(at.wrong_type("array")) };
        let decode = |(i, element)| T::decode(element, &at.below(Step::Element(i)));
        elements.into_iter().enumerate().map(decode).collect()
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self) -> Value {
        Value::List(self.iter().map(T::encode).collect())
    }
}

/// Runs a handler between decoding and encoding.
pub(crate) async fn run<A, R, F>(
    arguments: Dict,
    handler: impl FnOnce(A) -> F,
) -> Result<Option<Value>, QmpError>
where
    A: Decode,
    R: Encode,
    F: Future<Output = Result<R, QmpError>>,
{
    Ok(Some(handler(decode(Value::Dict(arguments))?).await?.encode()))
}

/// Runs a handler that takes and gives untyped values.
pub(crate) async fn run_raw<F>(
    arguments: Dict,
    handler: impl FnOnce(Dict) -> F,
) -> Result<Option<Value>, QmpError>
where
    F: Future<Output = Result<Value, QmpError>>,
{
    Ok(Some(handler(arguments).await?))
}
