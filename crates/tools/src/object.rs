//! `--object`: what the command-line tools accept. An object that is only of use to a daemon is accepted and left.

use crate::failure::Failure;
use api::{ObjectOptions, ObjectOptionsBranch, keyval};
use block::Objects;

/// Checks an object's description: `TYPE,id=ID,…` or a JSON object.
pub fn accept(text: &str) -> Result<(), Failure> {
    let ObjectOptions { id, branch } = keyval::decode(text, Some("qom-type")).map_err(Failure::new)?;
    Objects::check_id(&id).map_err(|error| {
        let id_is = "a letter, then letters, digits, '-', '.' or '_'";
        Failure::new(format_args!("{error}, not '{id}': {id_is}"))
    })?;
    if let ObjectOptionsBranch::Secret(secret) = branch {
        return match (secret.data, secret.file) {
            (Some(_), Some(_)) => Err(Failure::new("'file' and 'data' are mutually exclusive")),
            (None, None) => Err(Failure::new("Must provide 'file' or 'data'")),
            (Some(_), None) | (None, Some(_)) => Ok(()),
        };
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
        assert!(accept("secret,id=s,data=x,keyid=k,iv=AAAA").is_ok(), "for whoever can use it");
        assert!(accept("throttle-group,id=g,x-iops-total=5").is_ok());
        let refusal = accept("memory-backend-ram,id=m").unwrap_err();
        let text = "Parameter 'qom-type' does not accept value 'memory-backend-ram'";
        assert!(refusal.message().contains(text), "{}", refusal.message());
        for text in ["secret,id=s", "iothread", "iothread,id=1", "id=i", "", "secret,id=s,data=x,frob=y"] {
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
