// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Credentials of TLS: certificates, and shared keys.

use crate::Dict;
use crate::codec::*;

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QCryptoTLSCredsEndpoint {
    /// The end that connects.
    Client,
    /// The end that is connected to.
    Server,
}

impl Enumeration for QCryptoTLSCredsEndpoint {
    const VALUES: &'static [(&'static str, Self)] = &[("client", Self::Client), ("server", Self::Server)];
}
enumeration_codec!(QCryptoTLSCredsEndpoint);

/// What all credentials for TLS have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsCredsProperties {
    /// Whether a server asks for the client's certificate, and a client judges the server's; so if absent.
    pub verify_peer: Option<bool>,
    /// The folder with their files.
    pub dir: Option<String>,
    /// The end that they are for; client if absent.
    pub endpoint: Option<QCryptoTLSCredsEndpoint>,
    /// What may be agreed on, in the words of GnuTLS; "NORMAL" if absent.
    pub priority: Option<String>,
}

impl Object for TlsCredsProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            verify_peer: from.optional("verify-peer")?,
            dir: from.optional("dir")?,
            endpoint: from.optional("endpoint")?,
            priority: from.optional("priority")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("verify-peer", &self.verify_peer);
        to.put_optional("dir", &self.dir);
        to.put_optional("endpoint", &self.endpoint);
        to.put_optional("priority", &self.priority);
    }
}
object_codec!(TlsCredsProperties);

/// Shared keys for TLS, in the file keys.psk.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsCredsPskProperties {
    /// Whether a server asks for the client's certificate, and a client judges the server's; so if absent.
    pub verify_peer: Option<bool>,
    /// The folder with their files.
    pub dir: Option<String>,
    /// The end that they are for; client if absent.
    pub endpoint: Option<QCryptoTLSCredsEndpoint>,
    /// What may be agreed on, in the words of GnuTLS; "NORMAL" if absent.
    pub priority: Option<String>,
    /// The user whose key a client has; "qemu" if absent.
    pub username: Option<String>,
}

impl Object for TlsCredsPskProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            verify_peer: from.optional("verify-peer")?,
            dir: from.optional("dir")?,
            endpoint: from.optional("endpoint")?,
            priority: from.optional("priority")?,
            username: from.optional("username")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("verify-peer", &self.verify_peer);
        to.put_optional("dir", &self.dir);
        to.put_optional("endpoint", &self.endpoint);
        to.put_optional("priority", &self.priority);
        to.put_optional("username", &self.username);
    }
}
object_codec!(TlsCredsPskProperties);

/// Certificates for TLS, in files as ca-cert.pem, server-cert.pem, server-key.pem.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsCredsX509Properties {
    /// Whether a server asks for the client's certificate, and a client judges the server's; so if absent.
    pub verify_peer: Option<bool>,
    /// The folder with their files.
    pub dir: Option<String>,
    /// The end that they are for; client if absent.
    pub endpoint: Option<QCryptoTLSCredsEndpoint>,
    /// What may be agreed on, in the words of GnuTLS; "NORMAL" if absent.
    pub priority: Option<String>,
    /// Whether they are judged when they are read; they are if absent.
    pub sanity_check: Option<bool>,
    /// The secret with the password of the key.
    pub passwordid: Option<String>,
}

impl Object for TlsCredsX509Properties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            verify_peer: from.optional("verify-peer")?,
            dir: from.optional("dir")?,
            endpoint: from.optional("endpoint")?,
            priority: from.optional("priority")?,
            sanity_check: from.optional("sanity-check")?,
            passwordid: from.optional("passwordid")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("verify-peer", &self.verify_peer);
        to.put_optional("dir", &self.dir);
        to.put_optional("endpoint", &self.endpoint);
        to.put_optional("priority", &self.priority);
        to.put_optional("sanity-check", &self.sanity_check);
        to.put_optional("passwordid", &self.passwordid);
    }
}
object_codec!(TlsCredsX509Properties);
