//! JSON text from and to the options of the core.

use api::{Dict, Value};
use block::{BlockError, Opt, Options};

/// Reads the text after `json:` in a file name.
pub fn options(text: &str) -> block::Result<Options> {
    let value = api::json::parse(text)
        .map_err(|error| BlockError::invalid(format!("Could not parse the JSON options: {error}")))?;
    match value {
        Value::Dict(dict) => from_dict(&dict),
        _ => Err(BlockError::invalid("the text after 'json:' must be a JSON object")),
    }
}

/// Options of the core from a JSON object.
pub fn from_dict(dict: &Dict) -> block::Result<Options> {
    let mut options = Options::new();
    for (name, value) in dict.iter() {
        options.set(name, from_value(name, value)?);
    }
    Ok(options)
}

fn from_value(name: &str, value: &Value) -> block::Result<Opt> {
    Ok(match value {
        Value::Null => Opt::Null,
        Value::Bool(on) => Opt::Bool(*on),
        Value::Int(number) => Opt::Int(*number),
        Value::Uint(number) => Opt::Uint(*number),
        Value::Float(_) => return Err(BlockError::invalid(format!("'{name}': a number with a fraction is no option"))),
        Value::String(text) => Opt::Str(text.clone()),
        Value::List(items) => {
            Opt::List(items.iter().map(|item| from_value(name, item)).collect::<block::Result<_>>()?)
        }
        Value::Dict(dict) => Opt::Dict(from_dict(dict)?),
    })
}

/// Prints options over several lines, without a line end after the last.
pub fn pretty(options: &Opt) -> String {
    api::json::to_pretty(&to_value(options))
}

fn to_value(option: &Opt) -> Value {
    match option {
        Opt::Null => Value::Null,
        Opt::Bool(on) => Value::Bool(*on),
        Opt::Int(number) => Value::Int(*number),
        Opt::Uint(number) => i64::try_from(*number).map_or(Value::Uint(*number), Value::Int),
        Opt::Str(text) => Value::String(text.clone()),
        Opt::List(items) => Value::List(items.iter().map(to_value).collect()),
        Opt::Dict(options) => {
            let mut dict = Dict::new();
            for (name, value) in options.iter() {
                dict.insert(name, to_value(value));
            }
            Value::Dict(dict)
        }
    }
}
