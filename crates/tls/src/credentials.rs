//! Credentials as users make them (`tls-creds-x509`, `tls-creds-psk`), and how they are found by id.

use crate::{PskCredentials, X509Credentials};
use block::{BlockError, ErrorKind, Object, Objects, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// The end of a connection that credentials are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Endpoint {
    /// The end that connects.
    #[default]
    Client,
    /// The end that is connected to.
    Server,
}

impl Endpoint {
    /// Its name in options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// What all kinds of credentials are told.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The end that they are for.
    pub endpoint: Endpoint,
    /// The folder with their files.
    pub dir: Option<PathBuf>,
    /// A server asks for the client's certificate, a client judges the server's.
    pub verify_peer: bool,
    /// What may be agreed on, in the words of GnuTLS.
    pub priority: Option<String>,
}

#[cfg(feature = "openssl")]
impl Settings {
    /// The path of a file of the folder.
    pub(crate) fn path(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.as_ref().ok_or_else(|| BlockError::invalid("Missing 'dir' property value"))?;
        Ok(dir.join(name))
    }
}

/// Credentials of either kind, held: their object can't be deleted meanwhile.
#[derive(Clone)]
pub enum Credentials {
    /// Certificates.
    X509(Arc<X509Credentials>),
    /// Shared keys.
    Psk(Arc<PskCredentials>),
}

impl Credentials {
    /// Those of this id, for this end.
    ///
    /// # Errors
    /// There is no such object, it is no credentials, or they are for the other end.
    pub fn find(objects: &Objects, id: &str, endpoint: Endpoint) -> Result<Self> {
        let kind = objects.list().into_iter().find(|(other, _)| other == id).map(|(_, kind)| kind);
        let found = match kind {
            Some(X509Credentials::KIND) => Self::X509(objects.hold(id)?),
            Some(PskCredentials::KIND) => Self::Psk(objects.hold(id)?),
            Some(_) => {
                return Err(BlockError::invalid(format!("Object with id '{id}' is not TLS credentials")));
            }
            None => {
                return Err(BlockError::new(
                    ErrorKind::NotFound,
                    format!("No TLS credentials with id '{id}'"),
                ));
            }
        };
        if found.endpoint() != endpoint {
            let text = format!("Expected TLS credentials for a {} endpoint", endpoint.name());
            return Err(BlockError::invalid(text));
        }
        Ok(found)
    }

    /// The end that they are for.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Self::X509(x509) => x509.endpoint(),
            Self::Psk(psk) => psk.endpoint(),
        }
    }
}

impl PartialEq for Credentials {
    /// The same object.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::X509(a), Self::X509(b)) => Arc::ptr_eq(a, b),
            (Self::Psk(a), Self::Psk(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl std::fmt::Debug for Credentials {
    /// Nothing of what they hold.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.endpoint().name())
    }
}
