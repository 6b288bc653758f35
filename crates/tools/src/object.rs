//! `--object`: what the command-line tools accept. Secrets, credentials and who is let in are kept for the images that the command
//! opens and serves; an object that is only of use to a daemon is accepted and left.
//!
//! The flags of a command are read, and its graphs made, on one thread: the objects between are that thread's, from
//! [`forget`] on, with which each command begins.
use crate::failure::Failure;
use ::tls::Simple;
use api::{ObjectOptions, ObjectOptionsBranch as Branch, keyval};
use block::{Graph, Object, Objects, Secret};
use monitor::{secret, tls};
use std::cell::RefCell;

thread_local! {
    static GIVEN: RefCell<Given> = RefCell::default();
}

/// The objects of a command, for graphs that other threads make.
#[derive(Clone, Default)]
pub struct Given(Objects);

impl Given {
    /// The ids of its secrets.
    pub fn secrets(&self) -> impl Iterator<Item = String> {
        self.0.list().into_iter().filter(|(_, kind)| *kind == Secret::KIND).map(|(id, _)| id)
    }

    /// All of them.
    pub fn objects(&self) -> &Objects {
        &self.0
    }

    /// Gives them to a graph.
    pub fn give(&self, graph: &Graph) {
        self.0.give(graph.objects());
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.list()).finish()
    }
}

/// Forgets the objects of the command before.
pub fn forget() {
    GIVEN.take();
}

/// The objects of the command so far.
pub fn given() -> Given {
    GIVEN.with_borrow(Given::clone)
}

/// Takes an object's description: `TYPE,id=ID,…` or a JSON object.
pub fn accept(text: &str) -> Result<(), Failure> {
    let ObjectOptions { id, branch } = keyval::decode(text, Some("qom-type")).map_err(Failure::new)?;
    Objects::check_id(&id).map_err(|error| {
        let id_is = "a letter, then letters, digits, '-', '.' or '_'";
        Failure::new(format_args!("{error}, not '{id}': {id_is}"))
    })?;
    let objects = given().0;
    make(&objects, &id, branch)
}

fn make(objects: &Objects, id: &str, branch: Branch) -> Result<(), Failure> {
    Ok(match branch {
        Branch::Iothread(_) | Branch::ThrottleGroup(_) => Ok(()),
        Branch::Secret(properties) => {
            let key = secret::key_of(objects, &properties)?;
            let secret = secret::read(properties, key.as_deref());
            objects.add(id, secret.map_err(|e| e.context(format!("secret '{id}'")))?)
        }
        Branch::TlsCredsX509(properties) => {
            let password = tls::password_of(objects, &properties)?;
            objects.add(id, tls::x509(properties, password.as_deref())?)
        }
        Branch::TlsCredsPsk(properties) => objects.add(id, tls::psk(properties)?),
        Branch::AuthzSimple(properties) => objects.add(id, Simple::new(properties.identity)),
        Branch::AuthzList(properties) => objects.add(id, tls::list(properties)),
        Branch::AuthzListfile(properties) => objects.add(id, tls::list_file(&properties)?),
    }?)
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
