//! Servers that anybody may run, as those of the web: whom a client believes, without credentials of its own.
//!
//! TLS 1.2 and 1.3. What the system trusts is what OpenSSL finds in its own places, or where the variables `SSL_CERT_FILE` and
//! `SSL_CERT_DIR` say. A program that was built elsewhere has other places in it: then it is where such systems have it.

use crate::handshake::library;
use crate::records::Suite;
use crate::{handshake, x509};
use openssl::error::ErrorStack;
use openssl::ssl::{
    SslContext, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use std::path::Path;

/// Whom a client believes.
pub struct Trust {
    context: SslContext,
    /// Sessions go on in other channels.
    resumes: bool,
}

/// Believes whom the system believes. A folder whose certificates are found by the hashes of their names costs nothing before one
/// is looked for; a file of all of them is read.
fn believe_the_system(terms: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    terms.set_default_verify_paths()?;
    if openssl_probe::has_ssl_cert_env_vars() {
        return Ok(());
    }
    let found = openssl_probe::probe();
    match (found.cert_dir.iter().find(|dir| is_hashed(dir)), &found.cert_file) {
        (Some(dir), _) => terms.load_verify_locations(None, Some(dir)),
        (None, Some(file)) => terms.load_verify_locations(Some(file), None),
        (None, None) => Ok(()),
    }
}

/// A folder of certificates has names as `c_rehash` makes them.
fn is_hashed(dir: &Path) -> bool {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
    names.take(MOST_NAMES).any(|entry| {
        let name = entry.file_name();
        let (hash, number) = name.as_encoded_bytes().split_at_checked(8).unwrap_or_default();
        number == b".0" && hash.iter().all(u8::is_ascii_hexdigit)
    })
}

/// Names of a folder that are looked at.
const MOST_NAMES: usize = 4096;

/// Whose signatures count.
#[derive(Debug, Clone, Copy)]
pub enum Authorities<'a> {
    /// Those that the system trusts.
    System,
    /// Those of a file, in PEM, and no others.
    File(&'a Path),
    /// Nobody's: any server is believed, also one that is somebody else.
    Unasked,
}

impl Trust {
    /// Reads what it takes. With `resumes` a channel may go on with what another one has agreed on; OpenSSL serves them to the
    /// end then, which costs a copy.
    ///
    /// # Errors
    /// The file can't be read, or holds no certificates.
    pub fn load(authorities: Authorities<'_>, resumes: bool) -> block::Result<Self> {
        let mut terms = SslContext::builder(SslMethod::tls_client()).map_err(library)?;
        let mode = match authorities {
            Authorities::Unasked => SslVerifyMode::NONE,
            Authorities::System | Authorities::File(_) => SslVerifyMode::PEER,
        };
        terms.set_verify(mode);
        match authorities {
            Authorities::System => believe_the_system(&mut terms).map_err(library)?,
            Authorities::File(path) => terms.set_cert_store(x509::store_of(path)?),
            Authorities::Unasked => {}
        }
        terms.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(library)?;
        terms.set_max_proto_version(Some(SslVersion::TLS1_3)).map_err(library)?;
        let names: Vec<_> = Suite::ALL.iter().map(|suite| suite.name()).collect();
        terms.set_ciphersuites(&names.join(":")).map_err(library)?;
        if resumes {
            terms.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        } else {
            terms.set_session_cache_mode(SslSessionCacheMode::OFF);
            terms.set_options(SslOptions::NO_TICKET);
        }
        terms.set_options(SslOptions::NO_RENEGOTIATION);
        terms.set_keylog_callback(handshake::take_secret);
        Ok(Self { context: terms.build(), resumes })
    }

    pub(crate) fn context(&self) -> &SslContext {
        &self.context
    }

    /// OpenSSL serves its channels to the end.
    pub(crate) fn resumes(&self) -> bool {
        self.resumes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_certificates_is_known_by_the_hashes_among_its_names() {
        let dir = std::env::temp_dir().join(format!("cairn-trust-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (name, expected) in [("ca.pem", false), ("0123abcz.0", false), ("0123abcd.0", true)] {
            std::fs::write(dir.join(name), "").unwrap();
            assert_eq!(is_hashed(&dir), expected, "{name}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(!is_hashed(&dir));
    }
}
