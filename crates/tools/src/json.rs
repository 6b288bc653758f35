//! JSON as the faces write it, and the `json:` file names they read.
//!
//! Members stand in the order given. Printing is pretty, four blanks a level, and empty lists and objects keep a line
//! of their own, as scripts that compare text know it from QEMU's tools.

use block::{BlockError, Opt, Options};
use std::fmt::Write;

/// Reads the text after `json:`.
pub fn options(text: &str) -> block::Result<Options> {
    let value = api::Value::parse(text)
        .map_err(|error| BlockError::invalid(format!("Could not parse the JSON options: {error}")))?;
    match convert(&value) {
        Opt::Dict(options) => Ok(options),
        _ => Err(BlockError::invalid("the text after 'json:' must be a JSON object")),
    }
}

/// Prints a value over several lines, without a line end after the last.
pub fn pretty(value: &Opt) -> String {
    let mut text = String::new();
    write_value(&mut text, value, Some(0));
    text
}

/// Prints a value in one line.
pub fn compact(value: &Opt) -> String {
    let mut text = String::new();
    write_value(&mut text, value, None);
    text
}

/// Writes a value; `depth` is its level when printing is pretty.
fn write_value(text: &mut String, value: &Opt, depth: Option<usize>) {
    match value {
        Opt::Null => text.push_str("null"),
        Opt::Bool(on) => text.push_str(if *on { "true" } else { "false" }),
        Opt::Int(number) => text.push_str(&number.to_string()),
        Opt::Uint(number) => text.push_str(&number.to_string()),
        Opt::Str(string) => write_string(text, string),
        Opt::List(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                separate(text, index, depth);
                write_value(text, item, depth.map(|depth| depth + 1));
            }
            close(text, ']', depth);
        }
        Opt::Dict(options) => {
            text.push('{');
            for (index, (name, value)) in options.iter().enumerate() {
                separate(text, index, depth);
                write_string(text, name);
                text.push_str(": ");
                write_value(text, value, depth.map(|depth| depth + 1));
            }
            close(text, '}', depth);
        }
    }
}

fn separate(text: &mut String, index: usize, depth: Option<usize>) {
    match depth {
        Some(depth) => {
            text.push_str(if index > 0 { ",\n" } else { "\n" });
            indent(text, depth + 1);
        }
        None if index > 0 => text.push_str(", "),
        None => {}
    }
}

fn close(text: &mut String, bracket: char, depth: Option<usize>) {
    if let Some(depth) = depth {
        text.push('\n');
        indent(text, depth);
    }
    text.push(bracket);
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("    ", depth));
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            ' '..='~' => text.push(c),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // Writing to a string does not fail.
                    write!(text, "\\u{unit:04X}").ok();
                }
            }
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lists_and_objects_keep_a_line() {
        let value = Opt::Dict(
            Options::new().with("children", Opt::List(vec![])).with("data", Opt::Dict(Options::new())).with_str("a", "x"),
        );
        assert_eq!(pretty(&value), "{\n    \"children\": [\n    ],\n    \"data\": {\n    },\n    \"a\": \"x\"\n}");
        assert_eq!(compact(&value), r#"{"children": [], "data": {}, "a": "x"}"#);
    }

    #[test]
    fn what_is_not_plain_text_is_escaped() {
        let value = Opt::Str("a\"\\\n\u{1}é😀".to_owned());
        assert_eq!(compact(&value), r#""a\"\\\n\u0001\u00E9\uD83D\uDE00""#);
    }
}
