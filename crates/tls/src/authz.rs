//! Who is let in: objects that know names, as a certificate's distinguished name or the user of a shared key.
//!
//! A list's rules are read from the first on; the first that matches decides, and else the list's policy. A list in a file is
//! read anew when the file has changed; one that can't be read lets nobody in.

use block::{BlockError, Object, Objects, Result};
use parking_lot::Mutex;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Bytes of the largest file of rules.
const MOST: u64 = 1 << 20;

/// What becomes of somebody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// Turned away.
    #[default]
    Deny,
    /// Let in.
    Allow,
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The name, or with `glob` a pattern: `*` is any text, `?` any character.
    pub matches: String,
    /// What becomes of those whom it matches.
    pub policy: Policy,
    /// It is a pattern.
    pub glob: bool,
}

impl Rule {
    fn applies(&self, name: &str) -> bool {
        if self.glob { glob(&self.matches, name) } else { self.matches == name }
    }
}

/// Lets in one name (`authz-simple`).
#[derive(Debug)]
pub struct Simple(String);

impl Simple {
    /// This one.
    pub fn new(identity: String) -> Self {
        Self(identity)
    }
}

/// A list of rules (`authz-list`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// Of those whom no rule matches.
    pub policy: Policy,
    /// In order.
    pub rules: Vec<Rule>,
}

impl List {
    fn decide(&self, name: &str) -> Policy {
        self.rules.iter().find(|rule| rule.applies(name)).map_or(self.policy, |rule| rule.policy)
    }
}

/// Reads a list from the text of a file.
pub type Parse = fn(&str) -> Result<List>;

/// A list in a file (`authz-listfile`).
pub struct ListFile {
    path: PathBuf,
    parse: Parse,
    /// The file is looked at again.
    refresh: bool,
    known: Mutex<(Option<Version>, List)>,
}

/// What tells one content of a file from the next.
type Version = (SystemTime, u64, u64);

impl ListFile {
    /// Of this file; with `refresh` it is read again when it has changed.
    ///
    /// # Errors
    /// The file can't be read, or is no list.
    pub fn open(path: &Path, refresh: bool, parse: Parse) -> Result<Self> {
        // A process that goes to the background changes its working directory.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (version, list) = read(&path, parse)?;
        Ok(Self { path, parse, refresh, known: Mutex::new((Some(version), list)) })
    }

    fn decide(&self, name: &str) -> Policy {
        let mut known = self.known.lock();
        if self.refresh && known.0.is_none_or(|seen| version(&self.path).ok() != Some(seen)) {
            *known = match read(&self.path, self.parse) {
                Ok((version, list)) => (Some(version), list),
                // Closed rather than open: nobody is let in by rules that are not there any more.
                Err(_) => (None, List::default()),
            };
        }
        known.1.decide(name)
    }
}

fn version(path: &Path) -> std::io::Result<Version> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(path)?;
    Ok((meta.modified()?, meta.ino(), meta.len()))
}

fn read(path: &Path, parse: Parse) -> Result<(Version, List)> {
    let failed = |e: &std::io::Error| BlockError::os(format!("Unable to read '{}'", path.display()), e);
    let version = version(path).map_err(|e| failed(&e))?;
    let text = rt::fs::read_bounded(path, MOST).map_err(|e| failed(&e))?;
    let text = std::str::from_utf8(&text).map_err(|_| failed(&std::io::ErrorKind::InvalidData.into()))?;
    let list = parse(text).map_err(|e| e.context(format!("'{}'", path.display())))?;
    Ok((version, list))
}

impl Object for Simple {
    const KIND: &'static str = "authz-simple";
}

impl Object for List {
    const KIND: &'static str = "authz-list";
}

impl Object for ListFile {
    const KIND: &'static str = "authz-listfile";
}

/// Who a peer is, as it has proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(pub String);

/// An object that decides, by its id. It is looked for when it is asked, so that it can be made later, and exchanged.
#[derive(Clone)]
pub struct Authorizer {
    objects: Objects,
    id: String,
}

impl Authorizer {
    /// The one of this id.
    pub fn new(objects: &Objects, id: &str) -> Self {
        Self { objects: objects.clone(), id: id.to_owned() }
    }

    /// There is such an object now.
    ///
    /// # Errors
    /// There is none, or it decides on nobody.
    pub fn check(&self) -> Result<()> {
        let (objects, id) = (&self.objects, self.id.as_str());
        match objects.list().into_iter().find(|(other, _)| *other == id) {
            Some((_, Simple::KIND | List::KIND | ListFile::KIND)) => Ok(()),
            Some((_, kind)) => {
                Err(BlockError::invalid(format!("Object '{id}' is of the kind '{kind}': it lets nobody in")))
            }
            None => {
                Err(BlockError::new(block::ErrorKind::NotFound, format!("No authz object with id '{id}'")))
            }
        }
    }

    /// Whether this one is let in; nobody is while there is no such object.
    pub fn allows(&self, identity: &Identity) -> bool {
        let (objects, id, name) = (&self.objects, self.id.as_str(), identity.0.as_str());
        let simple = |simple: Arc<Simple>| if simple.0 == name { Policy::Allow } else { Policy::Deny };
        let policy = objects
            .hold::<Simple>(id)
            .map(simple)
            .or_else(|_| objects.hold::<List>(id).map(|list| list.decide(name)))
            .or_else(|_| objects.hold::<ListFile>(id).map(|file| file.decide(name)));
        policy.is_ok_and(|policy| policy == Policy::Allow)
    }
}

/// Whether a text is of a pattern with `*` and `?`; in a time that is at most the product of their lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<_>, Vec<_>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and how far it reaches.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || Some(&c) == text.get(t) => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((at, reach)) = star else { return false };
                star = Some((at, reach + 1));
                (p, t) = (at + 1, reach + 1);
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str, policy: Policy, glob: bool) -> Rule {
        Rule { matches: text.into(), policy, glob }
    }

    fn identity(name: &str) -> Identity {
        Identity(name.into())
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_else_the_policy() {
        let rules = vec![
            rule("CN=mallory,O=Cairn", Policy::Deny, false),
            rule("CN=*,O=Cairn", Policy::Allow, true),
            rule("*", Policy::Deny, false),
        ];
        let list = List { policy: Policy::Deny, rules };
        for (name, policy) in [
            ("CN=mallory,O=Cairn", Policy::Deny),
            ("CN=alice,O=Cairn", Policy::Allow),
            ("CN=alice,O=Cairns", Policy::Deny),
            ("", Policy::Deny),
        ] {
            assert_eq!(list.decide(name), policy, "{name}");
        }
    }

    #[test]
    fn patterns_match_whole_texts() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("**", "äö", true),
            ("?", "ä", true),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
        // A pattern that backtracking without bounds would never finish.
        assert!(!glob(&"a*".repeat(50), &"a".repeat(10_000).replace("aaaa", "aaab").replace('a', "b")));
    }

    #[test]
    fn an_object_decides_as_it_is_at_that_moment_and_nobody_is_let_in_without_one() {
        let objects = Objects::default();
        let authorizer = Authorizer::new(&objects, "z");
        assert!(authorizer.check().is_err() && !authorizer.allows(&identity("alice")));
        objects.add("z", Simple::new("alice".into())).unwrap();
        assert!(authorizer.check().is_ok() && authorizer.allows(&identity("alice")));
        assert!(!authorizer.allows(&identity("bob")) && !authorizer.allows(&identity("alice ")));
        objects.remove("z").unwrap();
        objects.add("z", block::Secret::new(Vec::new())).unwrap();
        assert!(authorizer.check().is_err() && !authorizer.allows(&identity("alice")));
    }

    #[test]
    fn a_list_in_a_file_is_read_again_when_it_changes_and_lets_nobody_in_once_it_is_gone() {
        let path = std::env::temp_dir().join(format!("cairn-authz-{}", std::process::id()));
        let parse: Parse = |text| {
            let allow = |line: &str| rule(line, Policy::Allow, false);
            Ok(List { policy: Policy::Deny, rules: text.lines().map(allow).collect() })
        };
        fs::write(&path, "alice").unwrap();
        let lists = [true, false].map(|refresh| ListFile::open(&path, refresh, parse).unwrap());
        let of = |name| lists.each_ref().map(|list| list.decide(name) == Policy::Allow);
        assert_eq!((of("alice"), of("bob")), ([true; 2], [false; 2]));
        fs::write(&path, "bob\ncarol").unwrap();
        assert_eq!((of("alice"), of("bob")), ([false, true], [true, false]));
        fs::remove_file(&path).unwrap();
        assert_eq!((of("alice"), of("bob")), ([false, true], [false, false]));
        assert!(ListFile::open(&path, true, parse).is_err());
    }
}
