//! Secrets as users give them: in text or in a file, as they are, in base64, or encrypted by another secret.
//!
//! A secret that another one encrypts is decrypted when it is made; what was read on the way is wiped. No error shows any of
//! its bytes.
use api::{QCryptoSecretFormat, SecretProperties};
use block::{BlockError, Objects, Result, Secret};
use crypto::Key;
use crypto::secret::{self, Format};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;
use std::time::Duration;

/// Largest secret, in bytes.
const MAX_SECRET: u64 = 1 << 20;

/// How long a secret is waited for that another program writes.
const PATIENCE_NS: u64 = 30_000_000_000;

/// Between two looks at whether it is there.
const PAUSE: Duration = Duration::from_millis(5);

/// The secret that another one is encrypted by, if it is.
pub fn key_of(objects: &Objects, properties: &SecretProperties) -> Result<Option<Arc<Secret>>> {
    properties.keyid.as_deref().map(|id| objects.hold(id)).transpose()
}

/// Reads a secret; `key` is the one that it is encrypted by. It may wait for a file.
pub fn read(properties: SecretProperties, key: Option<&Secret>) -> Result<Secret> {
    let SecretProperties { format, data, file, keyid, iv } = properties;
    let given = match (data, file) {
        (Some(_), Some(_)) => return Err(BlockError::invalid("'file' and 'data' are mutually exclusive")),
        (None, None) => return Err(BlockError::invalid("Either 'file' or 'data' must be provided")),
        (Some(data), None) => Key::new(data.into_bytes()),
        (None, Some(file)) => {
            read_bounded(&file).map_err(|e| BlockError::os(format!("Unable to read {file}"), &e))?
        }
    };
    let format = match format {
        Some(QCryptoSecretFormat::Base64) => Format::Base64,
        Some(QCryptoSecretFormat::Raw) | None => Format::Raw,
    };
    let refused = |e: secret::SecretError| BlockError::invalid(e.to_string());
    let plain = match (keyid, key) {
        (Some(keyid), Some(key)) => {
            let iv = iv.ok_or_else(|| {
                BlockError::invalid(format!("'iv' is needed to decrypt a secret by the secret '{keyid}'"))
            })?;
            let iv = secret::iv(&iv).map_err(refused)?;
            let key = Key::new(key.bytes().to_vec());
            secret::decrypt(&key, &iv, format, given.as_bytes()).map_err(refused)?
        }
        _ => secret::decode(format, given.as_bytes()).map_err(refused)?,
    };
    Ok(Secret::new(plain.as_bytes().to_vec()))
}

/// Reads a secret's file: a regular one, or what another program writes to, as `/dev/stdin` or a shell's `<(…)`.
fn read_bounded(name: &str) -> io::Result<Key> {
    let file = rt::fs::open_source(name)?;
    let facts = file.metadata()?;
    let len = if facts.is_file() { facts.len().min(MAX_SECRET) } else { MAX_SECRET };
    // Room for all of it from the start, so that no shorter copy stays behind in memory.
    let mut bytes = Vec::with_capacity(len as usize + 1);
    let source =
        Source { file, is_awaited: facts.file_type().is_fifo(), until_ns: rt::now_ns() + PATIENCE_NS };
    let read = source.take(MAX_SECRET + 1).read_to_end(&mut bytes);
    let all = Key::new(bytes);
    read?;
    if all.len() as u64 > MAX_SECRET {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 1 MiB"));
    }
    Ok(all)
}

/// A file that is waited for, but not for ever.
struct Source {
    file: File,
    /// A pipe that nobody may have opened for writing yet.
    is_awaited: bool,
    until_ns: u64,
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(buf) {
                Ok(0) if self.is_awaited => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => {
                    self.is_awaited = false;
                    return other;
                }
            }
            if rt::now_ns() >= self.until_ns {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody has written the secret to it"));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    fn properties(text: &str) -> SecretProperties {
        api::codec::decode(api::json::parse(text).unwrap()).unwrap()
    }

    fn text(properties_text: &str, key: Option<&Secret>) -> std::result::Result<Vec<u8>, String> {
        read(properties(properties_text), key).map(|s| s.bytes().to_vec()).map_err(|e| e.message())
    }

    #[test]
    fn a_secret_is_read_in_each_of_its_forms() {
        assert_eq!(text("{'data': 'word'}", None).unwrap(), b"word");
        assert_eq!(text("{'data': 'Y2Fp\\ncm4=', 'format': 'base64'}", None).unwrap(), b"cairn");
        let key = Secret::new((0..32).collect());
        let plain = Key::new(b"the passphrase".to_vec());
        let sealed = secret::encrypt(&Key::new(key.bytes().to_vec()), b"0123456789abcdef", &plain).unwrap();
        let sealed = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, sealed);
        let given = format!(
            "{{'data': '{sealed}', 'format': 'base64', 'keyid': 'k', 'iv': 'MDEyMzQ1Njc4OWFiY2RlZg=='}}"
        );
        assert_eq!(text(&given, Some(&key)).unwrap(), b"the passphrase");
        assert!(text(&given, Some(&Secret::new(vec![7; 32]))).is_err());
    }

    #[test]
    fn a_secret_comes_from_a_pipe_too_when_it_is_written() {
        let (reader, mut writer) = io::pipe().unwrap();
        let writing = std::thread::spawn(move || {
            std::thread::sleep(PAUSE * 2);
            writer.write_all(b"the pass").unwrap();
            std::thread::sleep(PAUSE * 2);
            writer.write_all(b"phrase").unwrap();
        });
        let given = format!("{{'file': '/dev/fd/{}'}}", reader.as_raw_fd());
        assert_eq!(text(&given, None).unwrap(), b"the passphrase");
        writing.join().unwrap();
    }

    #[test]
    fn what_makes_no_secret_is_refused_by_what_is_wrong_and_never_shown() {
        let key = Secret::new(vec![7; 32]);
        for (given, key, why) in [
            ("{}", None, "must be provided"),
            ("{'data': 'x', 'file': 'y'}", None, "mutually exclusive"),
            ("{'data': 'geheim!', 'format': 'base64'}", None, "not valid base64"),
            ("{'file': '/'}", None, "directory"),
            ("{'file': '/dev/zero'}", None, "larger than 1 MiB"),
            ("{'data': 'geheim!', 'keyid': 'k'}", Some(&key), "'iv' is needed"),
            ("{'data': 'geheim!', 'keyid': 'k', 'iv': 'AAAA'}", Some(&key), "3 bytes instead of 16"),
            (
                "{'data': 'geheim!', 'keyid': 'k', 'iv': 'AAAAAAAAAAAAAAAAAAAAAA=='}",
                Some(&key),
                "not whole blocks",
            ),
        ] {
            let error = text(given, key).unwrap_err();
            assert!(error.contains(why) && !error.contains("geheim"), "{given}: {error}");
        }
    }
}
