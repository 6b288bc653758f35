//! TLS over the runtime's sockets: credentials as objects, handshakes, records, and who is let in.
//!
//! ```text
//! Credentials ─▶ handshake (OpenSSL, without I/O) ─▶ traffic secrets ─▶ records (AES-GCM of AWS-LC) ─▶ Channel
//!  dir/*.pem, keys.psk                          └─▶ who the peer is ─▶ Authorizer
//! ```
//!
//! OpenSSL agrees on keys and judges certificates. It is let go then, and what follows is the record protocol alone, so that
//! data go from where they lie to what is sent by being encrypted, without a copy, and a connection that rests keeps two keys
//! and no buffers. Why not OpenSSL to the end is told with figures in docs/tls.md.
//!
//! Whoever has credentials speaks TLS 1.3 alone. Servers that anybody may run ([`Trust`]) may have TLS 1.2 only: OpenSSL serves
//! such a channel to the end ([`library`]).
//!
//! Laws:
//! - Keys, passwords and what is in key files are in no text, also not of errors; they are wiped when dropped.
//! - A channel is plain only if it was made so: nothing falls back from TLS.
//! - `unsafe` stands in [`resumed`] alone.
//! - What a peer sends decides on no more memory than a record, and a handshake message, may have.
//!
//! Bounds: the time of a handshake is the caller's. Specifications: RFC 8446 (TLS 1.3), RFC 5280 (certificates), RFC 4514 (names).
#![deny(unsafe_code)]

#[cfg(not(feature = "openssl"))]
mod absent;
mod authz;
mod channel;
mod credentials;
#[cfg(feature = "openssl")]
mod handshake;
mod layer;
#[cfg(feature = "openssl")]
mod library;
#[cfg(feature = "openssl")]
mod names;
#[cfg(feature = "openssl")]
mod priority;
#[cfg(feature = "openssl")]
mod psk;
#[cfg(feature = "openssl")]
mod records;
#[cfg(feature = "openssl")]
mod resumed;
#[cfg(feature = "openssl")]
mod secured;
#[cfg(feature = "openssl")]
mod trust;
#[cfg(feature = "openssl")]
mod x509;

#[cfg(not(feature = "openssl"))]
pub use absent::{Authorities, PskCredentials, Trust, X509Credentials, accept, connect, reach};
pub use authz::{Authorizer, Identity, List, ListFile, Policy, Rule, Simple};
pub use channel::Channel;
pub use credentials::{Credentials, Endpoint, Settings};
#[cfg(feature = "openssl")]
pub use handshake::{accept, connect, reach};
#[cfg(feature = "openssl")]
pub use psk::PskCredentials;
#[cfg(feature = "openssl")]
pub use trust::{Authorities, Trust};
#[cfg(feature = "openssl")]
pub use x509::X509Credentials;

/// Why there is no TLS with a peer.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The socket failed.
    #[error("TLS handshake failed: {}", block::BlockError::from_io(.0))]
    Io(#[from] std::io::Error),
    /// The peer left.
    #[error("TLS handshake failed: the peer closed the connection")]
    Closed,
    /// The library, or the peer by an alert, refused.
    #[error("TLS handshake failed: {0}")]
    Handshake(String),
    /// The peer's certificate is not one to trust.
    #[error("the peer's certificate is refused: {0}")]
    Certificate(String),
    /// The peer is known, and not let in.
    #[error("'{0}' is not let in by the authorization object")]
    Denied(String),
    /// A server's certificate can't be compared with anything.
    #[error(
        "No hostname for certificate validation: give 'tls-hostname', the name that the server's certificate is for"
    )]
    NoHostname,
}
