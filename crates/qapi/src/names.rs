//! Names: what the language allows, and how they become Rust's.

use crate::{Error, Location};

/// Refuses a name that the language does not allow. `digit`: it may start with a digit and
/// have dots (values of enumerations).
pub(crate) fn check_name(at: &Location, what: &str, name: &str, digit: bool) -> Result<(), Error> {
    let plain = name.strip_prefix("__").and_then(|n| n.split_once('_')).map_or(name, |(_, n)| n);
    let first_fits = plain.starts_with(|c: char| c.is_ascii_alphabetic() || (digit && c.is_ascii_digit()));
    // The 2.1 schema has dots in the values of one enumeration.
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || (digit && c == '.');
    if !first_fits || !plain.chars().all(fits) {
        let rule = "a letter, then letters, digits, '-' and '_'";
        return Err(Error::new(at, format!("{what} has the name '{name}'; allowed is {rule}")));
    }
    if name.starts_with("q_") {
        return Err(Error::new(at, format!("{what} has the name '{name}'; names in 'q_' are reserved")));
    }
    Ok(())
}

/// `block-core`, `BLOCK_JOB_ERROR`, `io_uring` → `BlockCore`, `BlockJobError`, `IoUring`; capitals inside a word of
/// mixed case stay.
pub(crate) fn camel(name: &str) -> String {
    let mut out = String::new();
    for word in name.split(['-', '_', '.']).filter(|w| !w.is_empty()) {
        let shouting = !word.chars().any(|c| c.is_ascii_lowercase());
        let mut chars = word.chars();
        out.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        out.extend(chars.map(|c| if shouting { c.to_ascii_lowercase() } else { c }));
    }
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

/// `node-name` → `node_name`, `type` → `r#type`.
pub(crate) fn snake(name: &str) -> String {
    let out = name.replace(['-', '.'], "_").to_ascii_lowercase();
    match out.as_str() {
        "self" | "super" | "crate" => out + "_",
        "as" | "async" | "await" | "box" | "break" | "const" | "continue" | "do" | "dyn" | "else"
        | "enum" | "extern" | "false" | "final" | "fn" | "for" | "gen" | "if" | "impl" | "in" | "let"
        | "loop" | "match" | "mod" | "move" | "mut" | "pub" | "ref" | "return" | "static" | "struct"
        | "abstract" | "trait" | "true" | "try" | "type" | "unsafe" | "use" | "virtual" | "where"
        | "while" | "yield" => {
            format!("r#{out}")
        }
        _ => out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_style_become_rust_names() {
        for (name, expected) in [
            ("null-co", "NullCo"),
            ("io_uring", "IoUring"),
            ("BLOCK_JOB_ERROR", "BlockJobError"),
            ("ImageInfoSpecificQCow2", "ImageInfoSpecificQCow2"),
            ("aes-256", "Aes256"),
            ("3des", "_3des"),
        ] {
            assert_eq!(camel(name), expected);
        }
        assert_eq!(snake("node-name"), "node_name");
        assert_eq!(snake("type"), "r#type");
        assert_eq!(snake("self"), "self_");
    }
}
