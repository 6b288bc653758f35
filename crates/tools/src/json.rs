//! `json:` file names: their text as options of the core.

use block::{BlockError, Opt, Options};

/// Reads the text after `json:`.
pub fn options(text: &str) -> block::Result<Options> {
    let value = api::Value::parse(text)
        .map_err(|error| BlockError::invalid(format!("Could not parse the JSON options: {error}")))?;
    match convert(&value) {
        Opt::Dict(options) => Ok(options),
        _ => Err(BlockError::invalid("the text after 'json:' must be a JSON object")),
    }
}

fn convert(value: &api::Value) -> Opt {
    todo_convert(value)
}
