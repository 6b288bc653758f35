//! Servers that anybody may run, as those of the web: whom a client believes, without credentials of its own.
//!
//! TLS 1.2 and 1.3. What the system trusts is what OpenSSL finds in its own places, or where the variables `SSL_CERT_FILE` and
//! `SSL_CERT_DIR` say.

use crate::handshake::library;
use crate::records::Suite;
use crate::{handshake, x509};
use block::Result;
use openssl::ssl::{SslContext, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode, SslVersion};
use std::path::Path;

/// Whom a client believes.
pub struct Trust {
    context: SslContext,
    /// Sessions go on in other channels.
    resumes: bool,
}

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
    pub fn load(authorities: Authorities<'_>, resumes: bool) -> Result<Self> {
        let mut terms = SslContext::builder(SslMethod::tls_client()).map_err(library)?;
        let mode = match authorities {
            Authorities::Unasked => SslVerifyMode::NONE,
            Authorities::System | Authorities::File(_) => SslVerifyMode::PEER,
        };
        terms.set_verify(mode);
        match authorities {
            Authorities::System => terms.set_default_verify_paths().map_err(library)?,
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
