//! Whether a server is the one that is meant: its key is compared with a digest, or looked up among the known ones.

use super::account;
use super::known_hosts::{Found, Known};
use super::location::{Location, kind_name};
use api::SshHostKeyCheckHashType;
use block::{BlockError, ErrorKind, Result};
use md5::Md5;
use russh::keys::{Algorithm, HashAlg, PublicKey};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::path::{Path, PathBuf};

/// The list of known hosts of the whole machine.
const OF_THE_MACHINE: &str = "/etc/ssh/ssh_known_hosts";

/// How the key of a server is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Check {
    /// Not at all: whoever is on the way can pass for the server.
    None,
    /// It has this digest, in hexadecimal digits; colons between them do not count.
    Hash { kind: SshHostKeyCheckHashType, hash: String },
    /// It is among the known ones: those of the file, or of the user and of the machine.
    KnownHosts { file: Option<PathBuf> },
}

/// Judges the keys of one server.
pub(super) struct Judge {
    check: Check,
    /// What is known of the server.
    known: Known,
}

impl Judge {
    /// Reads what is known of the server. Waits for files.
    pub fn new(location: &Location) -> Result<Self> {
        let known = match &location.check {
            Check::KnownHosts { file } => read_known(location, file.as_deref())?,
            Check::None | Check::Hash { .. } => Known::default(),
        };
        Ok(Self { check: location.check.clone(), known })
    }

    /// The kinds of keys in the order in which the server is asked for them: those that are known first, for one of another
    /// kind would be a stranger's.
    pub fn order(&self, mut all: Vec<Algorithm>) -> Vec<Algorithm> {
        all.sort_by_key(|algorithm| !self.known.has_kind(algorithm));
        all
    }

    /// Refuses a key that is not that of the server that is meant.
    pub fn judge(&self, key: &PublicKey) -> Result<()> {
        let refused = |text: String| Err(BlockError::new(ErrorKind::Refused, text));
        match &self.check {
            Check::None => Ok(()),
            Check::Hash { kind, hash } => {
                let (name, actual) = (kind_name(*kind), digest(*kind, key)?);
                let digits = |text: &str| text.replace(':', "").to_ascii_lowercase();
                if digits(hash) == actual {
                    return Ok(());
                }
                refused(format!(
                    "remote host {} key fingerprint '{name}:{actual}' does not match host_key_check '{name}:{hash}'",
                    key.algorithm()
                ))
            }
            Check::KnownHosts { .. } => match self.known.look_up(key) {
                Found::Known => Ok(()),
                Found::Revoked => refused(format!("the host key ({}) is revoked in known_hosts", shown(key))),
                Found::Changed => refused(format!(
                    "host key does not match the one in known_hosts (fingerprint: {}): it may be another server's, \
                     or somebody is on the way",
                    shown(key)
                )),
                Found::OtherKind => refused(format!(
                    "the host key ({}) is not in known_hosts, another type of this server's is",
                    shown(key)
                )),
                Found::Stranger if self.known.is_read() => {
                    refused(format!("no host key was found in known_hosts ({} is the server's)", shown(key)))
                }
                Found::Stranger => refused("known_hosts file not found".to_owned()),
            },
        }
    }
}

/// A key as OpenSSH shows it.
fn shown(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

fn digest(kind: SshHostKeyCheckHashType, key: &PublicKey) -> Result<String> {
    let bytes = key.to_bytes().map_err(|error| BlockError::of(ErrorKind::Io, error))?;
    let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(match kind {
        SshHostKeyCheckHashType::Md5 => hex(&Md5::digest(&bytes)),
        SshHostKeyCheckHashType::Sha1 => hex(&Sha1::digest(&bytes)),
        SshHostKeyCheckHashType::Sha256 => hex(&Sha256::digest(&bytes)),
    })
}

fn read_known(location: &Location, file: Option<&Path>) -> Result<Known> {
    let files = match file {
        Some(file) => vec![file.to_owned()],
        None => {
            let own = account::folder().map(|folder| folder.join("known_hosts"));
            own.into_iter().chain([PathBuf::from(OF_THE_MACHINE)]).collect()
        }
    };
    let mut known = Known::default();
    for path in files {
        known.read(&path, &location.host, location.port).map_err(|error| {
            BlockError::os(format!("the known hosts in '{}' could not be read", path.display()), &error)
        })?;
    }
    Ok(known)
}
