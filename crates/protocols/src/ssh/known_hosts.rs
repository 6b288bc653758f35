//! The keys of known hosts, as OpenSSH keeps them.
//!
//! ```text
//! [@revoked | @cert-authority] names key-type base64-key [comment]
//! names: host | [host]:port | patterns with * and ?, !negated | |1|salt|hash of a name
//! ```
//!
//! What is not understood is passed over, as OpenSSH does; keys of authorities too, for certificates of hosts are not asked for.
//!
//! Specification: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, PublicKey};
use sha1::Sha1;
use std::io;
use std::path::Path;

/// Most bytes of a list of known hosts.
const MOST: u64 = 16 << 20;

/// What lists say of one server.
#[derive(Default)]
pub(super) struct Known {
    keys: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
    /// There was a list.
    read: bool,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It is the server's.
    Known,
    /// It is nobody's any more.
    Revoked,
    /// The server has another one of the same kind.
    Changed,
    /// The server has keys, of other kinds.
    OtherKind,
    /// Nothing is known of the server.
    Stranger,
}

impl Known {
    /// Adds what the list in a file says of a server. A file that is not there says nothing.
    pub fn read(&mut self, path: &Path, host: &str, port: u16) -> io::Result<()> {
        match rt::fs::read_bounded(path, MOST) {
            Ok(list) => {
                self.read = true;
                self.add(&String::from_utf8_lossy(&list), host, port);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn add(&mut self, list: &str, host: &str, port: u16) {
        let name = name_of(host, port);
        for line in list.lines().filter(|line| !line.trim_start().starts_with('#')) {
            let fields = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let Ok(entry) = fields.parse::<Entry>() else { continue };
            if !names(entry.host_patterns(), &name) {
                continue;
            }
            match entry.marker() {
                None => self.keys.push(entry.public_key().clone()),
                Some(Marker::Revoked) => self.revoked.push(entry.public_key().clone()),
                Some(Marker::CertAuthority) => {}
            }
        }
    }

    /// Whether there was a list.
    pub fn is_read(&self) -> bool {
        self.read
    }

    /// Whether the server has a key of this kind.
    pub fn has_kind(&self, algorithm: &Algorithm) -> bool {
        self.keys.iter().any(|key| same_kind(&key.algorithm(), algorithm))
    }

    /// What is known of a key.
    pub fn look_up(&self, key: &PublicKey) -> Found {
        let is = |known: &PublicKey| known.key_data() == key.key_data();
        if self.revoked.iter().any(is) {
            Found::Revoked
        } else if self.keys.iter().any(is) {
            Found::Known
        } else if self.has_kind(&key.algorithm()) {
            Found::Changed
        } else if !self.keys.is_empty() {
            Found::OtherKind
        } else {
            Found::Stranger
        }
    }
}

/// RSA is one kind of key, whatever it is used with.
fn same_kind(one: &Algorithm, other: &Algorithm) -> bool {
    let is_rsa = |algorithm: &Algorithm| matches!(algorithm, Algorithm::Rsa { .. });
    one == other || (is_rsa(one) && is_rsa(other))
}

/// The name of a server in a list.
fn name_of(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

fn names(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => Hmac::<Sha1>::new_from_slice(salt)
            .is_ok_and(|mac| mac.chain_update(name.as_bytes()).verify_slice(hash).is_ok()),
        HostPatterns::Patterns(patterns) => {
            let matching = |pattern: &str| matches(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes());
            let mut found = false;
            for pattern in patterns {
                match pattern.strip_prefix('!') {
                    Some(pattern) if matching(pattern) => return false,
                    Some(_) => {}
                    None => found |= matching(pattern),
                }
            }
            found
        }
    }
}

/// Whether a name is of a pattern, in which `*` stands for any text and `?` for one character.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut pos) = (0, 0);
    // Where the last star is, and how much of the name it stands for so far.
    let mut star: Option<(usize, usize)> = None;
    while pos < name.len() {
        match (pattern.get(at), star) {
            (Some(b'*'), _) => {
                star = Some((at, pos));
                at += 1;
            }
            (Some(wanted), _) if *wanted == b'?' || name.get(pos) == Some(wanted) => {
                at += 1;
                pos += 1;
            }
            (_, Some((place, taken))) => {
                star = Some((place, taken + 1));
                (at, pos) = (place + 1, taken + 1);
            }
            (_, None) => return false,
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    fn found(list: &str, host: &str, port: u16) -> Found {
        let mut known = Known::default();
        known.add(list, host, port);
        known.look_up(&key(ONE))
    }

    #[test]
    fn a_server_is_found_by_each_form_of_its_name() {
        let salted = {
            let mac = Hmac::<Sha1>::new_from_slice(b"salt").unwrap().chain_update(b"[disk.example]:99");
            use base64::Engine;
            let text = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
            format!("|1|{}|{}", text(b"salt"), text(&mac.finalize().into_bytes()))
        };
        for (names, port, expected) in [
            ("disk.example", 22, true),
            ("DISK.example", 22, true),
            ("a,disk.example,b", 22, true),
            ("disk.example", 99, false),
            ("[disk.example]:99", 99, true),
            ("[disk.example]:99", 22, false),
            ("*.example", 22, true),
            ("disk.exampl?", 22, true),
            ("*.example,!disk.*", 22, false),
            ("!other,*", 22, true),
            ("disk.exampl", 22, false),
            (salted.as_str(), 99, true),
            (salted.as_str(), 22, false),
            ("|1|not base64|x", 22, false),
        ] {
            let expected = if expected { Found::Known } else { Found::Stranger };
            assert_eq!(found(&format!("{names}\t {ONE} comment"), "disk.example", port), expected, "{names}");
        }
    }

    #[test]
    fn a_revoked_or_changed_key_is_told_from_an_unknown_one() {
        let ecdsa = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBNdoBelx5YdKO0vYRkXJK9sLQ3xmXWU/WutcLwasE9yKVF+c/QfOMRvBUuoRypjDpqM0p20VZXFyMJPLjRbmahA=";
        for (list, expected) in [
            (format!("h {ONE}\n@revoked * {ONE}"), Found::Revoked),
            (format!("h {OTHER}"), Found::Changed),
            (format!("h {OTHER}\nh {ONE}"), Found::Known),
            (format!("h {ecdsa}"), Found::OtherKind),
            (format!("# h {ONE}\n\nnonsense\nh ssh-ed25519 AAAA"), Found::Stranger),
            // Certificates are not asked for: the key of their authority is not the server's.
            (format!("@cert-authority h {ONE}"), Found::Stranger),
            (format!("@unknown h {ONE}"), Found::Stranger),
        ] {
            assert_eq!(found(&list, "h", 22), expected, "{list}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        let pattern = "*a".repeat(500);
        assert!(!matches(pattern.as_bytes(), "a".repeat(499).as_bytes()));
        assert!(matches(pattern.as_bytes(), "a".repeat(501).as_bytes()));
    }
}
