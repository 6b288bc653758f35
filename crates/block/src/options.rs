//! Options as the core hands them to drivers: nested, by name, each taken once.
//!
//! A driver takes what it knows; [`Options::finish`] then refuses what is left by its dotted name, so that no
//! option is ever ignored silently.
use crate::error::{BlockError, Result};

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
    fn to_json(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(on) => on.to_string(),
            Self::Int(n) => n.to_string(),
            Self::Uint(n) => n.to_string(),
            Self::Str(text) => json_string(text),
            Self::List(list) => {
                format!("[{}]", list.iter().map(Self::to_json).collect::<Vec<_>>().join(", "))
            }
            Self::Dict(options) => options.to_json(),
        }
    }
}

/// A string as JSON has it (RFC 8259, section 7).
fn json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c.is_control() => json.extend(format!("\\u{:04x}", u32::from(c)).chars()),
            c => json.push(c),
        }
    }
    json.push('"');
    json
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

    /// The options as JSON text.
    pub fn to_json(&self) -> String {
        let entry = |(name, value): &(String, Opt)| format!("{}: {}", json_string(name), value.to_json());
        format!("{{{}}}", self.entries.iter().map(entry).collect::<Vec<_>>().join(", "))
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

    /// Takes an option of any kind.
    pub fn take(&mut self, name: &str) -> Option<Opt> {
        let at = self.entries.iter().position(|(n, _)| n == name)?;
        Some(self.entries.remove(at).1)
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
            Some(Opt::Str(s)) => {
                crate::size::parse_size(&s).map(Some).map_err(|_| wrong_type(name, "a number"))
            }
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

    /// All entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Opt)> {
        self.entries.iter().map(|(n, v)| (n.as_str(), v))
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Ends the reading of options that are nested in `outer`: as [`Options::finish`], with the dotted name.
    pub fn finish_in(self, outer: &str) -> Result<()> {
        let dotted = self.entries.into_iter().map(|(name, value)| (format!("{outer}.{name}"), value));
        Self { entries: dotted.collect() }.finish()
    }

    /// Ends the reading: an option that nobody took is an error that names it.
    pub fn finish(self) -> Result<()> {
        match self.entries.first() {
            None => Ok(()),
            Some((name, _)) => Err(BlockError::invalid(format!("Parameter '{name}' is unexpected"))),
        }
    }
}

fn wrong_type(name: &str, expected: &str) -> BlockError {
    BlockError::invalid(format!("Invalid parameter type for '{name}', expected: {expected}"))
}
