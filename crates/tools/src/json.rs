//! JSON as the faces print it.

use block::Opt;

/// Prints a value over several lines, without a line end after the last.
pub fn pretty(value: &Opt) -> String {
    api::json::to_pretty(&value.clone().into())
}
