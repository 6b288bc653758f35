//! A file that an image names, and what speaks against the name.

use super::{Code, Kind};
use api::Enumeration;
use block::{Node, resolve_filename};

/// A name in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What it is to the image.
    pub kind: Kind,
    /// As it is stored.
    pub stored: String,
    /// The format that is stored with it.
    pub format: Option<String>,
    /// Where it leads, seen from the image: an absolute name, or one of a protocol.
    pub resolved: String,
    /// Who opens the image opens this. Else it is a mere name, as that of the file itself in a sparse VMDK.
    pub followed: bool,
    /// Where in the file the name stands.
    pub offset: Option<u64>,
}

/// Folders in which names are interfaces of the system.
const SYSTEM: [&str; 3] = ["/dev/", "/proc/", "/sys/"];

impl Reference {
    /// A name that is followed.
    pub(crate) fn new(kind: Kind, stored: String) -> Reference {
        Reference { kind, stored, format: None, resolved: String::new(), followed: true, offset: None }
    }

    pub(super) fn resolved_from(self, file: &Node) -> Reference {
        let resolved = resolve_filename(&file.place(), &self.stored);
        let resolved = if self.protocol().is_some() { resolved } else { rt::fs::absolute(&resolved) };
        Reference { resolved, ..self }
    }

    /// The name is one of a protocol, such as `nbd:` or `json:`.
    pub fn protocol(&self) -> Option<&str> {
        let (protocol, _) = self.stored.split_once(':')?;
        Some(protocol).filter(|protocol| !protocol.is_empty() && !protocol.contains('/'))
    }

    /// The name is absolute.
    pub fn is_absolute(&self) -> bool {
        self.stored.starts_with('/')
    }

    /// The name leads out of the folder of the image, step by step.
    pub fn is_escaping(&self) -> bool {
        let mut depth: i64 = 0;
        self.protocol().is_none()
            && !self.is_absolute()
            && self.stored.split('/').any(|part| {
                depth += match part {
                    ".." => -1,
                    "" | "." => 0,
                    _ => 1,
                };
                depth < 0
            })
    }

    /// The finding that there is such a file.
    fn code(&self) -> Code {
        match self.kind {
            Kind::Backing => Code::BackingFile,
            Kind::DataFile => Code::DataFile,
            Kind::Extent => Code::Extent,
        }
    }

    /// What a policy may judge by: that there is the name, if it is followed, and what kind of name it is.
    pub(super) fn faults(&self) -> Vec<(Code, String)> {
        let (kind, stored) = (self.kind.name(), &self.stored);
        let mut faults = Vec::new();
        if self.followed {
            faults.push((self.code(), format!("it names the {kind} '{stored}'")));
        }
        let is_system = SYSTEM.iter().any(|folder| stored.starts_with(folder));
        let kinds = [
            (
                Code::JsonName,
                self.protocol() == Some("json"),
                "is a list of options, which may name any file or host",
            ),
            (Code::ProtocolName, self.protocol().is_some_and(|p| p != "json"), "is a name of a protocol"),
            (Code::AbsoluteName, self.is_absolute(), "is absolute"),
            (Code::SystemName, is_system, "leads to an interface of the system"),
            (Code::EscapingName, self.is_escaping(), "leads out of the image's folder"),
        ];
        let kinds = kinds.into_iter().filter(|(_, is_so, _)| *is_so);
        faults.extend(kinds.map(|(code, _, what)| (code, format!("the {kind} '{stored}' {what}"))));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_by_where_they_lead() {
        let fault = |stored: &str| {
            let reference = Reference { followed: false, ..Reference::new(Kind::Backing, stored.to_owned()) };
            reference.faults().last().map(|(code, _)| *code)
        };
        for (stored, code) in [
            ("base.raw", None),
            ("a/../base.raw", None),
            ("./base.raw", None),
            ("a:b/c", Some(Code::ProtocolName)),
            ("./a:b", None),
            ("a/../../base.raw", Some(Code::EscapingName)),
            ("..", Some(Code::EscapingName)),
            ("/etc/passwd", Some(Code::AbsoluteName)),
            ("/dev/sda", Some(Code::SystemName)),
            ("/proc/self/environ", Some(Code::SystemName)),
            ("nbd://host/x", Some(Code::ProtocolName)),
            ("json:{\"driver\":\"null-co\"}", Some(Code::JsonName)),
            ("file:/etc/passwd", Some(Code::ProtocolName)),
        ] {
            assert_eq!(fault(stored), code, "{stored}");
        }
    }
}
