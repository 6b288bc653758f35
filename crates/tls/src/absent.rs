//! In place of what needs OpenSSL, where the program was built without it: credentials can't be made, so nothing is agreed on.

use crate::credentials::{Endpoint, Settings};
use crate::{Authorizer, Channel, Credentials, Identity, TlsError};
use block::{BlockError, Object, Result, Secret};
use std::convert::Infallible;
use std::path::Path;

/// Certificates: none can be had.
pub struct X509Credentials(Infallible);
/// Shared keys: none can be had.
pub struct PskCredentials(Infallible);

impl Object for X509Credentials {
    const KIND: &'static str = "tls-creds-x509";
}

impl Object for PskCredentials {
    const KIND: &'static str = "tls-creds-psk";
}

fn absent<T>() -> Result<T> {
    Err(BlockError::unsupported("this program was built without TLS"))
}

impl X509Credentials {
    /// Always refused.
    pub fn load(_: &Settings, _: bool, _: Option<&Secret>) -> Result<Self> {
        absent()
    }

    /// Of none.
    pub fn endpoint(&self) -> Endpoint {
        match self.0 {}
    }
}

impl PskCredentials {
    /// Always refused.
    pub fn load(_: &Settings, _: Option<String>) -> Result<Self> {
        absent()
    }

    /// Of none.
    pub fn endpoint(&self) -> Endpoint {
        match self.0 {}
    }
}

/// Whom a client believes: nobody.
pub struct Trust(Infallible);

/// Whose signatures count.
#[derive(Debug, Clone, Copy)]
pub enum Authorities<'a> {
    /// Those that the system trusts.
    System,
    /// Those of a file, in PEM, and no others.
    File(&'a Path),
    /// Nobody's.
    Unasked,
}

impl Trust {
    /// Always refused.
    pub fn load(_: Authorities<'_>, _: bool) -> Result<Self> {
        absent()
    }
}

/// With trust that nobody has.
pub async fn reach(_: &Channel, trust: &Trust, _: &str, _: Option<&Channel>) -> Result<(), TlsError> {
    match trust.0 {}
}

/// With credentials that nobody has.
pub async fn accept(
    _: &Channel,
    credentials: &Credentials,
    _: Option<&Authorizer>,
) -> Result<Option<Identity>, TlsError> {
    nobody(credentials)
}

/// With credentials that nobody has.
pub async fn connect(_: &Channel, credentials: &Credentials, _: Option<&str>) -> Result<(), TlsError> {
    nobody(credentials)
}

fn nobody(credentials: &Credentials) -> ! {
    match credentials {
        Credentials::X509(x509) => match x509.0 {},
        Credentials::Psk(psk) => match psk.0 {},
    }
}
