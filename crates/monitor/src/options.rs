//! Between the schema's types and the options that the core takes.
use api::{Encode, Value};
use block::{BlockError, Opt, Options, Result};

/// Options of a typed object of the schema.
pub fn from_typed(object: &impl Encode) -> Result<Options> {
    from_object(object.encode(), "options must be an object")
}

/// Reads the JSON text of options, as in file names that begin with `json:`.
pub fn from_json(text: &str) -> Result<Options> {
    let value = api::json::parse(text).map_err(|e| BlockError::invalid(e.to_string()))?;
    from_object(value, "the JSON text is not an object")
}

fn from_object(value: Value, otherwise: &str) -> Result<Options> {
    match value.try_into()? {
        Opt::Dict(options) => Ok(options),
        _ => Err(BlockError::invalid(otherwise)),
    }
}
