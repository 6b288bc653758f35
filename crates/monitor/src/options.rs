//! Between JSON values and the options that the core takes.
use api::{Encode, Value};
use block::{BlockError, Opt, Options, Result};

/// A value as an option.
pub fn from_value(value: Value) -> Result<Opt> {
    Ok(match value {
        Value::Null => Opt::Null,
        Value::Bool(on) => Opt::Bool(on),
        Value::Int(n) => Opt::Int(n),
        Value::Uint(n) => Opt::Uint(n),
        Value::Float(n) => return Err(BlockError::invalid(format!("{n} is not a whole number"))),
        Value::String(text) => Opt::Str(text),
        Value::List(values) => Opt::List(values.into_iter().map(from_value).collect::<Result<_>>()?),
        Value::Dict(members) => {
            let mut options = Options::new();
            for (name, value) in members {
                options.set(name, from_value(value)?);
            }
            Opt::Dict(options)
        }
    })
}

/// An option as a value.
pub fn to_value(option: &Opt) -> Value {
    match option {
        Opt::Null => Value::Null,
        Opt::Bool(on) => (*on).into(),
        Opt::Int(n) => (*n).into(),
        Opt::Uint(n) => (*n).into(),
        Opt::Str(text) => text.as_str().into(),
        Opt::List(list) => Value::List(list.iter().map(to_value).collect()),
        Opt::Dict(options) => dict(options),
    }
}

/// Options as an object.
pub fn dict(options: &Options) -> Value {
    Value::Dict(options.iter().map(|(name, option)| (name, to_value(option))).collect())
}

/// Options of a typed object of the schema.
pub fn from_typed(object: &impl Encode) -> Result<Options> {
    match from_value(object.encode())? {
        Opt::Dict(options) => Ok(options),
        _ => Err(BlockError::invalid("options must be an object")),
    }
}

/// Reads the JSON text of options, as in file names that begin with `json:`.
pub fn from_json(text: &str) -> Result<Options> {
    let value = api::json::parse(text).map_err(|e| BlockError::invalid(e.to_string()))?;
    match from_value(value)? {
        Opt::Dict(options) => Ok(options),
        _ => Err(BlockError::invalid("the JSON text is not an object")),
    }
}
