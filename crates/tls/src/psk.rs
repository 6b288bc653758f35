//! Shared keys: a file with lines `user:key in hexadecimal digits`, as GnuTLS's `psktool` makes it.

use crate::credentials::{Endpoint, Settings};
use crate::handshake::{self, library};
use crate::priority;
use crate::records::Suite;
use block::{BlockError, Object, Result};
use openssl::error::ErrorStack;
use openssl::ssl::{SslContext, SslRef, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use std::path::Path;
use zeroize::Zeroizing;

/// Bytes of the largest file of keys.
const MOST: u64 = 1 << 20;
/// Bytes of a user's name that the protocol's library takes, and of a key.
const NAME: usize = 127;
const KEY: usize = 256;

/// A shared key, or a server's shared keys.
pub struct PskCredentials {
    endpoint: Endpoint,
    context: SslContext,
}

impl Object for PskCredentials {
    const KIND: &'static str = "tls-creds-psk";
}

/// A user and the key.
type Line = (String, Zeroizing<Vec<u8>>);

impl PskCredentials {
    /// Reads the keys. A client has that of `username`, `qemu` if absent.
    ///
    /// # Errors
    /// The file is missing or malformed, or has no such user; a setting has no meaning here.
    pub fn load(settings: &Settings, username: Option<String>) -> Result<Self> {
        let path = settings.path("keys.psk")?;
        let lines = read(&path)?;
        let mut suites = priority::parse(settings.priority.as_deref().unwrap_or("NORMAL"))?;
        // A shared key goes with one hash, which is SHA-256 where nothing else is said.
        suites.retain(|suite| *suite != Suite::Aes256);
        if suites.is_empty() {
            let text = "shared keys go with AES-128-GCM and CHACHA20-POLY1305; the priority allows neither";
            return Err(BlockError::invalid(text));
        }
        let mut terms = handshake::terms(&suites)?;
        match settings.endpoint {
            Endpoint::Server => {
                if username.is_some() {
                    let text = "'username' is for a client: a server knows the users of its file";
                    return Err(BlockError::invalid(text));
                }
                terms.set_psk_server_callback(move |ssl, user, key| Ok(serve(&lines, ssl, user, key)));
            }
            Endpoint::Client => {
                let user = username.unwrap_or_else(|| "qemu".to_owned());
                let found = lines.into_iter().find(|(name, _)| *name == user);
                let missing = || BlockError::invalid(format!("'{}' has no user '{user}'", path.display()));
                let line = found.ok_or_else(missing)?;
                terms.set_psk_client_callback(move |ssl, _, user, key| offer(&line, ssl, user, key));
                // A server that answers with a certificate instead has not proved that it has the key: none is trusted.
                terms.set_cert_store(X509StoreBuilder::new().map_err(library)?.build());
                terms.set_verify(SslVerifyMode::PEER);
            }
        }
        Ok(Self { endpoint: settings.endpoint, context: terms.build() })
    }

    /// The end that they are for.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    pub(crate) fn context(&self) -> &SslContext {
        &self.context
    }
}

/// The key of a user who asks to be let in.
fn serve(lines: &[Line], ssl: &SslRef, user: Option<&[u8]>, key: &mut [u8]) -> usize {
    let found = user.and_then(|user| lines.iter().find(|(name, _)| name.as_bytes() == user));
    let name = || String::from_utf8_lossy(user.unwrap_or_default()).into_owned();
    handshake::note_user(ssl, name(), found.is_some());
    let Some((_, known)) = found else { return 0 };
    let Some(place) = key.get_mut(..known.len()) else { return 0 };
    place.copy_from_slice(known);
    known.len()
}

/// Puts down the user, ended by a zero, and the key.
fn offer(
    (name, known): &Line,
    ssl: &SslRef,
    user: &mut [u8],
    key: &mut [u8],
) -> std::result::Result<usize, ErrorStack> {
    let (Some(user), Some(key)) = (user.get_mut(..=name.len()), key.get_mut(..known.len())) else {
        return Ok(0);
    };
    if let Some((end, text)) = user.split_last_mut() {
        text.copy_from_slice(name.as_bytes());
        *end = 0;
    }
    key.copy_from_slice(known);
    handshake::note_user(ssl, name.clone(), true);
    Ok(known.len())
}

fn read(path: &Path) -> Result<Vec<Line>> {
    let failed =
        |e: &std::io::Error| BlockError::os(format!("Unable to access credentials '{}'", path.display()), e);
    let text = Zeroizing::new(rt::fs::read_bounded(path, MOST).map_err(|e| failed(&e))?);
    let mut lines = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        // The line itself is in no text: it has a key.
        let wrong = || {
            let what = "expected a user, a colon, and a key in hexadecimal digits";
            BlockError::invalid(format!("'{}', line {}: {what}", path.display(), number + 1))
        };
        lines.push(parse(line).ok_or_else(wrong)?);
    }
    if lines.is_empty() {
        return Err(BlockError::invalid(format!("'{}' has no keys", path.display())));
    }
    Ok(lines)
}

fn parse(line: &[u8]) -> Option<Line> {
    let colon = line.iter().rposition(|byte| *byte == b':')?;
    let (user, digits) = (line.get(..colon)?, line.get(colon + 1..)?);
    let user = std::str::from_utf8(user).ok().filter(|user| !user.is_empty() && user.len() <= NAME)?;
    if user.contains('\0') || digits.is_empty() || digits.len() % 2 == 1 || digits.len() > 2 * KEY {
        return None;
    }
    let mut key = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.chunks_exact(2) {
        let digit = |at: usize| pair.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        key.push((digit(0)? << 4 | digit(1)?) as u8); // below 256
    }
    Some((user.to_owned(), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_user_and_a_key_and_nothing_else_is_taken() {
        let (user, key) = parse(b"alice:00fF10").unwrap();
        assert_eq!((user.as_str(), key.as_slice()), ("alice", &[0, 255, 16][..]));
        assert_eq!(parse(b"host:alice:ab").unwrap().0, "host:alice");
        for line in [&b"alice"[..], b"alice:", b":ab", b"alice:abc", b"alice:xy", b"al\0ice:ab", b"\xff:ab"] {
            assert!(parse(line).is_none(), "{line:?}");
        }
        assert!(parse(format!("a:{}", "ab".repeat(KEY + 1)).as_bytes()).is_none());
    }
}
