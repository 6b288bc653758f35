//! `--object`: what the command-line tools accept. An object that is only of use to a daemon is accepted and left.

use crate::failure::Failure;
use crate::keyval;

/// Kinds of objects that are understood.
const KINDS: &[&str] = &["iothread", "secret", "throttle-group"];

/// Checks an object's description.
pub fn accept(text: &str) -> Result<(), Failure> {
    let pairs = keyval::parse(text, Some("qom-type")).map_err(Failure::new)?;
    let value = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let kind = value("qom-type").unwrap_or_default();
    if !KINDS.contains(&kind) {
        return Err(Failure::new(format_args!("Parameter 'qom-type' does not accept value '{kind}'")));
    }
    if value("id").is_none() {
        return Err(Failure::new("Parameter 'id' is missing"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_are_not_here_are_refused_by_name() {
        assert!(accept("secret,id=s,data=x").is_ok());
        assert!(accept("iothread,id=i").is_ok());
        let refusal = accept("memory-backend-ram,id=m").unwrap_err();
        assert_eq!(refusal.message(), "Parameter 'qom-type' does not accept value 'memory-backend-ram'");
        assert!(accept("secret,id=s").is_err());
        assert!(accept("iothread").is_err());
    }
}
