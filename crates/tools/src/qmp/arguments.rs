//! Arguments as people write them, as the values that the schema says.
//!
//! ```text
//! driver=raw file.driver=file file.locking=off size=10M children.0=a children.1=b file={"driver": "file"}
//! ```
//!
//! A dot goes into a member. The schema decides what a text is: a string, a number (also with K, M, G … behind it), a flag
//! (`on`, `off`, `true`, `false`), a list (with commas, or JSON). What it does not know is JSON if it can be read so, else a string.

use super::schema::{Schema, Type};
use crate::client;
use crate::failure::Failure;
use crate::size;
use api::{Dict, Value, json};
use std::collections::BTreeMap;

/// Deepest nesting of dots.
const MAX_DEPTH: usize = 32;

/// What was written for a member, or for members of it.
enum Written {
    Text(String),
    Members(Members),
}

/// In the order in which they were written.
#[derive(Default)]
struct Members(Vec<(String, Written)>);

/// The request that the words of a line are: a command with its arguments, or JSON.
///
/// # Errors
/// Words that are neither.
pub(super) fn request(schema: &Schema, words: &[String]) -> Result<Value, Failure> {
    let Some((command, rest)) = words.split_first() else { return Err(Failure::new("there is no command")) };
    if !command.starts_with('{') {
        return Ok(client::request(command, read(schema, command, rest)?));
    }
    if let Some(word) = rest.first() {
        return Err(Failure::new(format_args!("'{word}' follows a whole request")));
    }
    let request = json::parse(command).map_err(Failure::new)?;
    match request.get("execute").or_else(|| request.get("exec-oob")) {
        Some(Value::String(_)) => Ok(request),
        _ => Err(Failure::new("a request in JSON has a member 'execute'")),
    }
}

/// The arguments that `words` are for a command.
fn read(schema: &Schema, command: &str, words: &[String]) -> Result<Dict, Failure> {
    if let [only] = words
        && only.starts_with('{')
    {
        return match json::parse(only) {
            Ok(Value::Dict(arguments)) => Ok(arguments),
            Ok(_) => Err(Failure::new("arguments are a JSON object, or KEY=VALUE")),
            Err(error) => Err(Failure::new(error)),
        };
    }
    let mut members = Members::default();
    for word in words {
        let Some((key, text)) = word.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Failure::new(format_args!("'{word}' is not KEY=VALUE")));
        };
        members.set(key, text)?;
    }
    let of = schema.arguments(command).map_or(Type::Unknown, |name| schema.type_of(name));
    members.typed(schema, of)
}

impl Members {
    fn set(&mut self, key: &str, text: &str) -> Result<(), Failure> {
        let twice = || Failure::new(format_args!("'{key}' is given twice"));
        let names: Vec<_> = key.split('.').collect();
        if names.len() > MAX_DEPTH || names.iter().any(|name| name.is_empty()) {
            return Err(Failure::new(format_args!("'{key}' names no member")));
        }
        let Some((last, way)) = names.split_last() else { return Err(twice()) };
        let mut at = self;
        for name in way {
            let index = at.0.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
                at.0.push(((*name).to_owned(), Written::Members(Members::default())));
                at.0.len() - 1
            });
            at = match at.0.get_mut(index) {
                Some((_, Written::Members(members))) => members,
                _ => return Err(twice()),
            };
        }
        if at.0.iter().any(|(known, _)| known == last) {
            return Err(twice());
        }
        at.0.push(((*last).to_owned(), Written::Text(text.to_owned())));
        Ok(())
    }

    /// The text of a member, if it is one.
    fn text(&self, name: &str) -> Option<String> {
        self.0.iter().find_map(|(known, written)| match written {
            Written::Text(text) if known == name => Some(text.clone()),
            _ => None,
        })
    }

    fn typed(&self, schema: &Schema, of: Type<'_>) -> Result<Dict, Failure> {
        let known = match of {
            Type::Object(entity) => schema.members(entity, |tag| self.text(tag)),
            _ => Vec::new(),
        };
        let mut dict = Dict::new();
        for (name, written) in &self.0 {
            let member = known.iter().find(|member| member.name == name);
            let of = member.map_or(Type::Unknown, |member| schema.type_of(member.type_name));
            let value = written.typed(schema, of).map_err(|failure| failure.within(name))?;
            dict.insert(name.as_str(), value);
        }
        Ok(dict)
    }

    /// The values in the order of their numbers; nothing if they have others than 0, 1, 2, ….
    fn elements(&self) -> Option<Vec<&Written>> {
        let numbered = self.0.iter().map(|(name, written)| Some((name.parse::<usize>().ok()?, written)));
        let numbered: BTreeMap<usize, &Written> = numbered.collect::<Option<_>>()?;
        let whole = numbered.len() == self.0.len() && numbered.keys().copied().eq(0..numbered.len());
        whole.then(|| numbered.into_values().collect())
    }
}

impl Written {
    fn typed(&self, schema: &Schema, of: Type<'_>) -> Result<Value, Failure> {
        match (self, of) {
            (Written::Text(text), of) => typed(schema, of, text),
            (Written::Members(members), Type::Alternate(entity)) => {
                let choices = schema.choices(entity).into_iter().map(|choice| schema.type_of(choice));
                let fits = |of: &Type<'_>| match of {
                    Type::Array(_) => members.elements().is_some(),
                    of => matches!(of, Type::Object(_)),
                };
                self.typed(schema, choices.into_iter().find(fits).unwrap_or(Type::Unknown))
            }
            (Written::Members(members), Type::Array(_) | Type::Unknown)
                if members.elements().is_some_and(|elements| !elements.is_empty()) =>
            {
                let element = match of {
                    Type::Array(name) => schema.type_of(name),
                    _ => Type::Unknown,
                };
                let elements = members.elements().into_iter().flatten();
                let values: Result<Vec<_>, _> = elements.map(|it| it.typed(schema, element)).collect();
                Ok(Value::List(values?))
            }
            (Written::Members(members), of) => Ok(Value::Dict(members.typed(schema, of)?)),
        }
    }
}

/// The value that a text is for a type.
fn typed(schema: &Schema, of: Type<'_>, text: &str) -> Result<Value, Failure> {
    match of {
        Type::Builtin("string") | Type::Enum(_) => Ok(text.into()),
        Type::Builtin("int") => whole(text).ok_or_else(|| no(text, "a whole number")),
        Type::Builtin("number") => text.parse::<f64>().map(Value::from).map_err(|_| no(text, "a number")),
        Type::Builtin("boolean") => {
            flag(text).map(Value::from).ok_or_else(|| no(text, "on, off, true or false"))
        }
        Type::Builtin("null") => Ok(Value::Null),
        Type::Array(element) if !text.starts_with('[') => {
            let parts = text.split(',').filter(|part| !part.is_empty());
            let values: Result<Vec<_>, _> =
                parts.map(|part| typed(schema, schema.type_of(element), part)).collect();
            Ok(Value::List(values?))
        }
        Type::Alternate(entity) => Ok(chosen(schema, entity, text)),
        Type::Object(_) | Type::Array(_) => json::parse(text).map_err(|error| {
            Failure::new(format_args!("'{text}' is no JSON ({error}); members are written KEY.MEMBER=VALUE"))
        }),
        Type::Builtin(_) | Type::Unknown => Ok(json::parse(text).unwrap_or_else(|_| text.into())),
    }
}

/// The first of an alternate's types that the text can be, a string in the end.
fn chosen(schema: &Schema, entity: &Value, text: &str) -> Value {
    let has = |json: &str| {
        schema.choices(entity).into_iter().any(|choice| match schema.type_of(choice) {
            Type::Builtin(name) => name == json,
            Type::Object(_) => json == "object",
            Type::Array(_) => json == "array",
            _ => false,
        })
    };
    let opens = (text.starts_with('{') && has("object")) || (text.starts_with('[') && has("array"));
    let value = match text {
        _ if opens => json::parse(text).ok(),
        "null" if has("null") => Some(Value::Null),
        _ if has("boolean") && flag(text).is_some() => flag(text).map(Value::from),
        _ if has("int") => whole(text),
        _ => None,
    };
    value.unwrap_or_else(|| text.into())
}

fn whole(text: &str) -> Option<Value> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.into());
    }
    size::whole(text).or_else(|| api::parse_size(text).ok()).map(Value::from)
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "on" | "true" | "yes" => Some(true),
        "off" | "false" | "no" => Some(false),
        _ => None,
    }
}

fn no(text: &str, what: &str) -> Failure {
    Failure::new(format_args!("'{text}' is not {what}"))
}
