//! Options before their types are known: nested, by name, each taken once.
//!
//! They come from the schema's types, from `json:` names and from lists of `key=value`, whose scalars are text.
//! [`Options::read`] reads them as a type of the schema, [`Options::take_typed`] the part of them that is such a type;
//! what nobody takes is refused by its dotted name ([`Options::finish`]), so that no option is ever ignored silently.
use crate::error::{BlockError, ErrorKind, Result};
use api::codec::{Object, take_loose};
use api::{Dict, Value};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Opt {
    /// JSON null ("no backing file").
    Null,
    /// on or off.
    Bool(bool),
    /// A number.
    Int(i64),
    /// A number above `i64::MAX`.
    Uint(u64),
    /// Text.
    Str(String),
    /// A list.
    List(Vec<Opt>),
    /// Nested options.
    Dict(Options),
}

impl Opt {
    /// The value as it stands: dots in names lead nowhere.
    fn literal(&self) -> Value {
        match self {
            Self::List(list) => Value::List(list.iter().map(Self::literal).collect()),
            Self::Dict(options) => options.literal(),
            scalar => scalar.clone().into(),
        }
    }

    /// Whether a text means this value.
    pub(crate) fn is_written(&self, text: &str) -> bool {
        match self {
            Self::Bool(on) => matches!(text, "on" | "yes" | "true" | "y") == *on,
            Self::Int(number) => {
                text.parse() == Ok(*number) || api::parse_size(text).ok() == u64::try_from(*number).ok()
            }
            Self::Uint(number) => api::parse_size(text) == Ok(*number),
            Self::Str(own) => own == text,
            Self::Null | Self::List(_) | Self::Dict(_) => false,
        }
    }
}

impl TryFrom<Value> for Opt {
    type Error = BlockError;

    fn try_from(value: Value) -> Result<Self> {
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(on) => Self::Bool(on),
            Value::Int(n) => Self::Int(n),
            Value::Uint(n) => Self::Uint(n),
            Value::Float(n) => return Err(BlockError::invalid(format!("{n} is not a whole number"))),
            Value::String(text) => Self::Str(text),
            Value::List(values) => Self::List(values.into_iter().map(Self::try_from).collect::<Result<_>>()?),
            Value::Dict(members) => Self::Dict(members.try_into()?),
        })
    }
}

impl From<Opt> for Value {
    fn from(option: Opt) -> Self {
        match option {
            Opt::Null => Self::Null,
            Opt::Bool(on) => on.into(),
            Opt::Int(n) => n.into(),
            Opt::Uint(n) => n.into(),
            Opt::Str(text) => text.into(),
            Opt::List(list) => Self::List(list.into_iter().map(Self::from).collect()),
            Opt::Dict(options) => options.numbered(),
        }
    }
}

impl TryFrom<Dict> for Options {
    type Error = BlockError;

    fn try_from(members: Dict) -> Result<Self> {
        let mut options = Self::new();
        for (name, value) in members {
            options.set(name, value.try_into()?);
        }
        Ok(options)
    }
}

/// Options in the order given, names unique.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    entries: Vec<(String, Opt)>,
}

impl Options {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an option, in place of an earlier one of that name.
    pub fn set(&mut self, name: impl Into<String>, value: Opt) {
        let name = name.into();
        match self.entries.iter_mut().find(|(n, _)| *n == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name, value)),
        }
    }

    /// The same with an option set; for building.
    #[must_use]
    pub fn with(mut self, name: &str, value: Opt) -> Self {
        self.set(name, value);
        self
    }

    /// The same with a text option set.
    #[must_use]
    pub fn with_str(self, name: &str, value: &str) -> Self {
        self.with(name, Opt::Str(value.to_owned()))
    }

    /// The options as the JSON text of a `json:` name.
    pub fn to_json(&self) -> String {
        api::json::to_name(&self.literal())
    }

    fn literal(&self) -> Value {
        Value::Dict(self.entries.iter().map(|(name, value)| (name, value.literal())).collect())
    }

    /// Looks at an option without taking it.
    pub fn get(&self, name: &str) -> Option<&Opt> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// Looks at a text option without taking it.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Opt::Str(s)) => Some(s),
            _ => None,
        }
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Opt> {
        self.entries.iter_mut().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// Takes an option of any kind.
    pub fn take(&mut self, name: &str) -> Option<Opt> {
        let at = self.entries.iter().position(|(n, _)| n == name)?;
        Some(self.entries.remove(at).1)
    }

    /// Takes an element of a list; the others keep their places. Nothing is left of a list whose elements are all taken.
    pub(crate) fn take_element(&mut self, name: &str, index: u32) -> Option<Opt> {
        let list = self.get_mut(name)?;
        *list = match std::mem::replace(list, Opt::Null) {
            Opt::List(items) => {
                let items = items.into_iter().enumerate();
                Opt::Dict(Self { entries: items.map(|(n, item)| (n.to_string(), item)).collect() })
            }
            Opt::Dict(elements) => Opt::Dict(elements.nested()),
            other => other,
        };
        let Opt::Dict(elements) = list else { return None };
        let element = elements.take(&index.to_string());
        if elements.is_empty() {
            self.take(name);
        }
        element
    }

    /// Takes a text option.
    pub fn take_str(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Opt::Str(s)) => Ok(Some(s)),
            Some(_) => Err(wrong_type(name, "string")),
        }
    }

    /// Takes an on/off option; command lines give it as text.
    pub fn take_bool(&mut self, name: &str) -> Result<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(Opt::Bool(b)) => Ok(Some(b)),
            Some(Opt::Str(s)) if s == "on" || s == "true" || s == "yes" => Ok(Some(true)),
            Some(Opt::Str(s)) if s == "off" || s == "false" || s == "no" => Ok(Some(false)),
            Some(_) => Err(wrong_type(name, "boolean")),
        }
    }

    /// Takes a number, not negative; as text it may have a size's suffix.
    pub fn take_u64(&mut self, name: &str) -> Result<Option<u64>> {
        match self.take(name) {
            None => Ok(None),
            Some(Opt::Uint(n)) => Ok(Some(n)),
            Some(Opt::Int(n)) => u64::try_from(n).map(Some).map_err(|_| wrong_type(name, "a size")),
            Some(Opt::Str(s)) => api::parse_size(&s).map(Some).map_err(|_| wrong_type(name, "a number")),
            Some(_) => Err(wrong_type(name, "integer")),
        }
    }

    /// Takes nested options. Flat dotted names (`file.filename`) count as nested ones.
    pub fn take_dict(&mut self, name: &str) -> Result<Option<Options>> {
        let mut nested = match self.take(name) {
            None => None,
            Some(Opt::Dict(options)) => Some(options),
            Some(_) => return Err(wrong_type(name, "object")),
        };
        let prefix = format!("{name}.");
        let (below, rest) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition::<Vec<_>, _>(|(n, _)| n.starts_with(&prefix));
        self.entries = rest;
        for (n, v) in below {
            nested.get_or_insert_default().set(&n[prefix.len()..], v);
        }
        Ok(nested)
    }

    /// Dotted names become nested options, at this level. A name that has a value of its own beside what leads through
    /// it stays as it is.
    #[must_use]
    pub fn nested(self) -> Self {
        let mut all = Self::new();
        self.entries.into_iter().for_each(|(name, value)| all.set_nested(&name, value));
        all
    }

    fn set_nested(&mut self, name: &str, value: Opt) {
        let Some((first, rest)) = name.split_once('.') else {
            match (self.get_mut(name), value) {
                (Some(Opt::Dict(all)), Opt::Dict(more)) => {
                    more.entries.into_iter().for_each(|(name, value)| all.set(name, value));
                }
                (Some(Opt::Dict(all)), value) => {
                    let below = std::mem::take(all);
                    self.set(name, value);
                    below.entries.into_iter().for_each(|(n, v)| self.set(format!("{name}.{n}"), v));
                }
                (_, value) => self.set(name, value),
            }
            return;
        };
        match self.get_mut(first) {
            None => self.set(first, Opt::Dict(Self::new().with(rest, value))),
            Some(Opt::Dict(options)) => options.set(rest, value),
            Some(_) => self.set(name, value),
        }
    }

    /// As a list, if the names are the numbers from 0 on.
    fn numbered(self) -> Value {
        let entries = self.nested().entries;
        let mut places: Vec<_> = entries.iter().map(|(name, _)| name.parse::<usize>().ok()).collect();
        let by_place: Vec<_> = places.iter().copied().zip(entries).collect();
        places.sort_unstable();
        let is_list = !places.is_empty() && places.iter().enumerate().all(|(n, place)| *place == Some(n));
        if !is_list {
            return Value::Dict(
                by_place.into_iter().map(|(_, (name, value))| (name, Value::from(value))).collect(),
            );
        }
        let mut items = by_place;
        items.sort_by_key(|(place, _)| *place);
        Value::List(items.into_iter().map(|(_, (_, value))| value.into()).collect())
    }

    /// Reads all of them as a type of the schema, scalars also from their text.
    pub fn read<T: Object>(mut self) -> Result<T> {
        let typed = self.take_typed()?;
        self.finish().map(|()| typed)
    }

    /// Takes the members of a type of the schema, scalars also from their text.
    pub fn take_typed<T: Object>(&mut self) -> Result<T> {
        *self = std::mem::take(self).nested();
        take_loose(|name| self.take(name).map(Value::from)).map_err(wrong)
    }

    /// The texts that those of `others` which are none were given by here. Their names may be dotted.
    pub(crate) fn words_of(&self, others: &Options) -> Options {
        let others = others.iter().filter(|(_, value)| !matches!(value, Opt::Str(_)));
        let word = |(name, _): (&str, &Opt)| match self.at(name)? {
            Opt::Str(word) => Some((name.to_owned(), Opt::Str(word.clone()))),
            _ => None,
        };
        Options { entries: others.filter_map(word).collect() }
    }

    /// The value of a dotted name.
    fn at(&self, name: &str) -> Option<&Opt> {
        let below = |(dot, _): (usize, &str)| {
            let (first, rest) = (name.get(..dot)?, name.get(dot + 1..)?);
            match self.get(first)? {
                Opt::Dict(options) => options.at(rest),
                Opt::List(items) => {
                    let (place, rest) = rest.split_once('.').unwrap_or((rest, ""));
                    match items.get(place.parse::<usize>().ok()?)? {
                        Opt::Dict(options) if !rest.is_empty() => options.at(rest),
                        item => Some(item).filter(|_| rest.is_empty()),
                    }
                }
                _ => None,
            }
        };
        self.get(name).or_else(|| name.match_indices('.').find_map(below))
    }

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Opt)> {
        self.entries.iter().map(|(n, v)| (n.as_str(), v))
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Ends the reading: an option that nobody took is an error that names it.
    pub fn finish(self) -> Result<()> {
        match self.first_name() {
            None => Ok(()),
            Some(name) => Err(BlockError::invalid(format!("Parameter '{name}' is unexpected"))),
        }
    }

    /// The dotted name of the first option.
    fn first_name(&self) -> Option<String> {
        let (name, value) = self.entries.first()?;
        let below = if let Opt::Dict(options) = value { options.first_name() } else { None };
        Some(below.map_or_else(|| name.clone(), |below| format!("{name}.{below}")))
    }
}

/// A number of the schema's that can't be negative.
pub fn not_negative(name: &str, number: Option<i64>) -> Result<Option<u64>> {
    number.map(u64::try_from).transpose().map_err(|_| wrong_type(name, "a size"))
}

fn wrong(error: api::DecodeError) -> BlockError {
    BlockError::of(ErrorKind::Invalid, error)
}

fn wrong_type(name: &str, expected: &str) -> BlockError {
    BlockError::invalid(format!("Invalid parameter type for '{name}', expected: {expected}"))
}
