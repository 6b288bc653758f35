//! `--object`: what the command-line tools accept. An object that is only of use to a daemon is accepted and left.

use crate::failure::Failure;
use crate::keyval;

/// Kinds of objects that are understood.
const KINDS: &[&str] = &["iothread", "secret", "throttle-group"];

/// Checks an object's description: `TYPE,id=ID,…` or a JSON object.
pub fn accept(text: &str) -> Result<(), Failure> {
    let pairs = match text.starts_with('{') {
        true => from_json(text)?,
        false => keyval::parse(text, Some("qom-type")).map_err(Failure::new)?,
    };
    let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let kind = value("qom-type").ok_or_else(|| Failure::new("Parameter 'qom-type' is missing"))?;
    if !KINDS.contains(&kind) {
        return Err(Failure::new(format_args!("Parameter 'qom-type' does not accept value '{kind}'")));
    }
    let id = value("id").ok_or_else(|| Failure::new("Parameter 'id' is missing"))?;
    if !is_id(id) {
        return Err(Failure::new(format_args!(
            "Parameter 'id' expects an identifier, not '{id}': a letter, then letters, digits, '-', '.' or '_'"
        )));
    }
    if kind == "secret" {
        match (value("data"), value("file")) {
            (Some(_), Some(_)) => return Err(Failure::new("'file' and 'data' are mutually exclusive")),
            (None, None) => return Err(Failure::new("Must provide 'file' or 'data'")),
            _ => {}
        }
    }
    Ok(())
}

/// The members of a JSON object; what is no text has no bearing here.
fn from_json(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let options =
        monitor::options::from_json(text).map_err(|error| Failure::new(format_args!("--object: {error}")))?;
    Ok(options
        .iter()
        .map(|(name, _)| (name.to_owned(), options.get_str(name).unwrap_or_default().to_owned()))
        .collect())
}

fn is_id(id: &str) -> bool {
    id.starts_with(|c: char| c.is_ascii_alphabetic())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_are_not_here_are_refused_by_name() {
        assert!(accept("secret,id=s,data=x").is_ok());
        assert!(accept("iothread,id=i").is_ok());
        let refusal = accept("memory-backend-ram,id=m").unwrap_err();
        assert_eq!(refusal.message(), "Parameter 'qom-type' does not accept value 'memory-backend-ram'");
        for text in ["secret,id=s", "iothread", "iothread,id=1", "id=i", ""] {
            assert!(accept(text).is_err(), "{text}");
        }
    }

    #[test]
    fn json_says_the_same() {
        assert!(accept(r#"{"qom-type": "secret", "id": "s", "data": "x"}"#).is_ok());
        for text in [r#"{"qom-type": "secret", "id": "s"}"#, r#"{"id": "s"}"#, "{", "{}"] {
            assert!(accept(text).is_err(), "{text}");
        }
    }
}
