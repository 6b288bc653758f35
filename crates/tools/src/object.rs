//! `--object`: what the command-line tools accept. Secrets are kept for the images that the command opens and makes; an
//! object that is only of use to a daemon is accepted and left.
//!
//! The flags of a command are read, and its graphs made, on one thread: the secrets between are that thread's, from
//! [`forget`] on, with which each command begins.
use crate::failure::Failure;
use api::{ObjectOptions, ObjectOptionsBranch, keyval};
use block::{Graph, Objects, Secret};
use std::cell::RefCell;

thread_local! {
    static GIVEN: RefCell<Vec<(String, Secret)>> = const { RefCell::new(Vec::new()) };
}

/// The secrets of a command, for graphs that other threads make.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<(String, Secret)>);

impl Secrets {
    /// Their ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(id, _)| id.as_str())
    }

    /// Gives them to a graph.
    pub fn give(&self, graph: &Graph) {
        for (id, secret) in &self.0 {
            // No id is there twice.
            let _ = graph.objects().add(id, secret.clone());
        }
    }
}

/// Forgets the secrets of the command before.
pub fn forget() {
    GIVEN.with_borrow_mut(Vec::clear);
}

/// The secrets of the command so far.
pub fn given() -> Secrets {
    Secrets(GIVEN.with_borrow(Vec::clone))
}

/// Takes an object's description: `TYPE,id=ID,…` or a JSON object.
pub fn accept(text: &str) -> Result<(), Failure> {
    let ObjectOptions { id, branch } = keyval::decode(text, Some("qom-type")).map_err(Failure::new)?;
    Objects::check_id(&id).map_err(|error| {
        let id_is = "a letter, then letters, digits, '-', '.' or '_'";
        Failure::new(format_args!("{error}, not '{id}': {id_is}"))
    })?;
    let ObjectOptionsBranch::Secret(properties) = branch else { return Ok(()) };
    GIVEN.with_borrow_mut(|given| {
        if given.iter().any(|(other, _)| *other == id) {
            return Err(Failure::new(format_args!(
                "attempt to add duplicate property '{id}' to object (type 'container')"
            )));
        }
        let key = match properties.keyid.as_deref() {
            None => None,
            Some(keyid) => {
                let found = given.iter().find(|(other, _)| other == keyid);
                let none = || Failure::new(format_args!("No secret with id '{keyid}'"));
                Some(found.ok_or_else(none)?.1.clone())
            }
        };
        let secret = monitor::secret::read(properties, key.as_ref());
        let secret = secret.map_err(|e| e.context(format!("secret '{id}'")))?;
        given.push((id, secret));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_are_not_here_are_refused_by_name() {
        forget();
        assert!(accept("secret,id=s,data=x").is_ok());
        assert!(accept("iothread,id=i").is_ok());
        assert!(accept("throttle-group,id=g,x-iops-total=5").is_ok());
        let refusal = accept("memory-backend-ram,id=m").unwrap_err();
        let text = "Parameter 'qom-type' does not accept value 'memory-backend-ram'";
        assert!(refusal.message().contains(text), "{}", refusal.message());
        for text in [
            "secret,id=s",
            "secret,id=s,data=x",
            "iothread",
            "iothread,id=1",
            "id=i",
            "",
            "secret,id=t,data=x,frob=y",
        ] {
            assert!(accept(text).is_err(), "{text}");
        }
    }

    #[test]
    fn json_says_the_same() {
        forget();
        assert!(accept(r#"{"qom-type": "secret", "id": "s", "data": "x"}"#).is_ok());
        for text in [r#"{"qom-type": "secret", "id": "t"}"#, r#"{"id": "s"}"#, "{", "{}"] {
            assert!(accept(text).is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_given_to_the_graphs_of_their_command_alone() {
        forget();
        let key = "data=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=,format=base64";
        accept(&format!("secret,id=k,{key}")).unwrap();
        assert_eq!(
            accept("secret,id=s,data=x,keyid=j,iv=AAAA").unwrap_err().message(),
            "No secret with id 'j'"
        );
        assert!(
            accept("secret,id=s,data=x,keyid=k,iv=AAAA").unwrap_err().message().contains("instead of 16")
        );
        let held = |id: &str| crate::image::graph().objects().hold::<Secret>(id).map(|s| s.bytes().to_vec());
        assert_eq!(held("k").unwrap(), b"01234567890123456789012345678901");
        forget();
        assert!(held("k").is_err());
    }
}
